//! `lease grant|revoke|timetolive|list|keep-alive`: keys that live as long as somebody wants them to.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use proto::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use crate::failure::{Exit, Failure, connection_error, server_text};
use crate::format::{Answer, Format, LeaseRevoked, LeaseTime, Style, Subject, lease_id};
use crate::options::GlobalArgs;
use crate::session::{Call, Connection, Session};
use crate::{go, print};

/// How long a lease is believed to live before the server says so, as in etcd's client.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
/// Keepalives in the time that a lease has left.
const KEEPALIVES_PER_TTL: u32 = 3;
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
#[command(
    infer_subcommands = true,
    after_help = "Examples:
  kvctl lease grant 60                           prints the ID of a lease of 60 seconds
  kvctl put --lease=694d77aa9e38260f name value  a key that goes when the lease does
  kvctl lease keep-alive 694d77aa9e38260f        until it is revoked, or this is interrupted
  kvctl lease timetolive --keys 694d77aa9e38260f"
)]
pub(crate) struct Lease {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Creates leases
    #[command(override_usage = "kvctl lease grant [OPTIONS] <TTL>", allow_negative_numbers = true)]
    Grant {
        /// Seconds
        #[arg(value_name = "TTL", hide = true)]
        args: Vec<String>,
    },
    /// Revokes leases
    #[command(override_usage = "kvctl lease revoke [OPTIONS] <ID>")]
    Revoke {
        #[arg(value_name = "ID", hide = true)]
        args: Vec<String>,
    },
    /// Get lease information
    #[command(override_usage = "kvctl lease timetolive [OPTIONS] <ID>")]
    Timetolive {
        #[arg(value_name = "ID", hide = true)]
        args: Vec<String>,
        /// Get keys attached to this lease
        #[arg(long)]
        keys: bool,
    },
    /// List all active leases
    List {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Keeps leases alive (renew)
    #[command(override_usage = "kvctl lease keep-alive [OPTIONS] <ID>")]
    KeepAlive {
        #[arg(value_name = "ID", hide = true)]
        args: Vec<String>,
        /// Resets the keep-alive time to its original value and exits immediately
        #[arg(long)]
        once: bool,
    },
}

impl Lease {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        match self.what {
            None => super::help("lease"),
            Some(What::Grant { args }) => grant(globals, &args).await,
            Some(What::Revoke { args }) => revoke(globals, &args).await,
            Some(What::Timetolive { args, keys }) => time_to_live(globals, &args, keys).await,
            Some(What::List { args }) => {
                super::note_ignored(&args, "all leases are listed");
                list(globals).await
            }
            Some(What::KeepAlive { args, once }) => keep_alive(globals, &args, once).await,
        }
    }
}

async fn grant(globals: &GlobalArgs, args: &[String]) -> Result<(), Failure> {
    let [ttl] = args else {
        return Err(Failure::bad_arguments("lease grant command needs TTL argument, in seconds"));
    };
    let ttl = go::parse_int(ttl, 10).map_err(|why| {
        Failure::bad_arguments(format!("bad TTL ({why}); pass a number of seconds"))
    })?;
    let (style, mut session) = open(globals, Subject::Lease).await?;
    let request = pb::LeaseGrantRequest { ttl, id: 0 };
    let call = session.call(Call::Write, |to| async move { to.lease().lease_grant(request).await });
    print::answer(style, &Answer::LeaseGranted(&call.await?))
}

async fn revoke(globals: &GlobalArgs, args: &[String]) -> Result<(), Failure> {
    let id = id_of(args, "lease revoke command needs 1 argument: the lease ID")?;
    let (style, mut session) = open(globals, Subject::LeaseRevoked).await?;
    let request = pb::LeaseRevokeRequest { id };
    let call =
        session.call(Call::Write, |to| async move { to.lease().lease_revoke(request).await });
    print::answer(style, &Answer::LeaseRevoked(&LeaseRevoked { id, response: call.await? }))
}

async fn time_to_live(globals: &GlobalArgs, args: &[String], keys: bool) -> Result<(), Failure> {
    let id = id_of(args, "lease timetolive command needs lease ID as argument")?;
    let (style, mut session) = open(globals, Subject::Lease).await?;
    let request = pb::LeaseTimeToLiveRequest { id, keys };
    let call =
        session.call(Call::Read, |to| async move { to.lease().lease_time_to_live(request).await });
    let response = call.await.map_err(lease_call_failed)?;
    print::answer(style, &Answer::LeaseTime(&LeaseTime { response, keys }))
}

async fn list(globals: &GlobalArgs) -> Result<(), Failure> {
    let (style, mut session) = open(globals, Subject::Lease).await?;
    let request = pb::LeaseLeasesRequest {};
    let call = session.call(Call::Read, |to| async move { to.lease().lease_leases(request).await });
    print::answer(style, &Answer::Leases(&call.await.map_err(lease_call_failed)?))
}

async fn keep_alive(globals: &GlobalArgs, args: &[String], once: bool) -> Result<(), Failure> {
    let id = id_of(args, "lease keep-alive command needs lease ID as argument")?;
    let (style, mut session) = open(globals, Subject::Lease).await?;
    if !once {
        let told = |response: &_| print::answer(style, &Answer::LeaseKept(response));
        keep(&mut session, id, told).await?;
        return match style.format {
            Format::Simple => print::line(&format!("lease {} expired or revoked.", lease_id(id))),
            _ => Ok(()),
        };
    }
    let call = session.call(Call::Read, |to| async move { Keeping::open(&to, id).once().await });
    let response = call.await.map_err(lease_call_failed)?;
    if response.ttl <= 0 {
        let message = "etcdserver: requested lease not found";
        return Err(Failure::answer(Exit::BadConnection, message));
    }
    print::answer(style, &Answer::LeaseKept(&response))
}

/// Renews a lease until it has ended, at other endpoints when one does not answer.
pub(crate) async fn keep(
    session: &mut Session,
    id: i64,
    mut kept: impl FnMut(&pb::LeaseKeepAliveResponse) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut until = Instant::now() + FIRST_PATIENCE;
    let mut keeping = Keeping::open(session.connection(), id);
    loop {
        let status = match tokio::time::timeout_at(until.into(), keeping.next()).await {
            // The lease has surely ended.
            Err(_) => return Ok(()),
            Ok(Ok(response)) if response.ttl <= 0 => return Ok(()),
            Ok(Ok(response)) => {
                kept(&response)?;
                let ttl = Duration::from_secs(response.ttl.unsigned_abs());
                until = Instant::now() + ttl;
                tokio::time::sleep(ttl / KEEPALIVES_PER_TTL).await;
                keeping.ask(id).await;
                continue;
            }
            Ok(Err(status)) => status,
        };
        let why = connection_error(&status).unwrap_or_else(|| server_text(&status));
        let endpoint = session.endpoint();
        print::note(&format!("kvctl: {endpoint} does not keep the lease: {why}; trying again"));
        tokio::time::sleep(RECONNECT_PAUSE).await;
        // None may be there yet; the lease's time goes on meanwhile.
        let _ = tokio::time::timeout_at(until.into(), session.reopen()).await;
        keeping = Keeping::open(session.connection(), id);
    }
}

/// A stream of keepalives for one lease.
struct Keeping {
    requests: mpsc::Sender<pb::LeaseKeepAliveRequest>,
    opening: Option<Opening>,
    responses: Option<Streaming<pb::LeaseKeepAliveResponse>>,
}

type Opened = Result<Response<Streaming<pb::LeaseKeepAliveResponse>>, Status>;
type Opening = std::pin::Pin<Box<dyn Future<Output = Opened> + Send>>;

impl Keeping {
    /// With the first request already on its way.
    fn open(connection: &Connection, id: i64) -> Self {
        let (requests, outgoing) = mpsc::channel(1);
        // There is room for one.
        let _ = requests.try_send(pb::LeaseKeepAliveRequest { id });
        let mut client = connection.lease();
        let opening: Opening = Box::pin(async move {
            let mut request = Request::new(ReceiverStream::new(outgoing));
            // A member without a leader shall say so instead of staying silent.
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
            client.lease_keep_alive(request).await
        });
        Self { requests, opening: Some(opening), responses: None }
    }

    async fn ask(&self, id: i64) {
        // A stream that has broken says so to the receiver, so sending need not.
        let _ = self.requests.send(pb::LeaseKeepAliveRequest { id }).await;
    }

    /// Waits for the next answer.
    async fn next(&mut self) -> Result<pb::LeaseKeepAliveResponse, Status> {
        if let Some(opening) = &mut self.opening {
            let opened = opening.await;
            self.opening = None;
            self.responses = Some(opened?.into_inner());
        }
        let ended = || Status::unavailable("the server closed the stream");
        let responses = self.responses.as_mut().ok_or_else(ended)?;
        responses.message().await?.ok_or_else(ended)
    }

    async fn once(mut self) -> Result<Response<pb::LeaseKeepAliveResponse>, Status> {
        self.next().await.map(Response::new)
    }
}

async fn open(globals: &GlobalArgs, subject: Subject) -> Result<(Style, Session), Failure> {
    let options = globals.resolve()?;
    let style = options.style;
    style.check(subject)?;
    Ok((style, Session::open(options).await?))
}

/// etcdctl takes any failure of these calls for one of the connection.
fn lease_call_failed(failure: Failure) -> Failure {
    Failure { exit: Exit::BadConnection, ..failure }
}

fn id_of(args: &[String], needs: &'static str) -> Result<i64, Failure> {
    let [id] = args else {
        return Err(Failure::bad_arguments(needs));
    };
    go::parse_int(id, 16).map_err(|why| {
        Failure::bad_arguments(format!("bad lease ID arg ({why}), expecting ID in Hex"))
    })
}
