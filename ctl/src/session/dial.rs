//! Which endpoint to use: the first that answers, knows a leader and serves everything.
//!
//! etcd's client connects to all endpoints at once and deals its calls out in turn. Here they are tried
//! in the order in which they are written, each with a head start on the next, so that a host that is
//! switched off costs no timeout. Where there is a choice, an endpoint must show that it lives by
//! telling its status: a frozen process still takes connections, and a member that is cut off from the
//! others or is a learner cannot do what is asked.

use std::ops::ControlFlow;
use std::time::Duration;

use proto::etcdserverpb::auth_client::AuthClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::{AuthenticateRequest, StatusRequest, StatusResponse};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::failure::{Exit, Failure, advice, connection_error, root_cause};
use crate::options::Options;
use crate::session::{Connection, answer, timed_out};
use crate::{go, print, transport};

/// How long an endpoint may take before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(200);

/// What one does about an endpoint where nobody answers.
const IS_KVD_THERE: &str = "is kvd running there? start it or pass --endpoints";

/// Why an endpoint cannot be used.
enum Refused {
    /// The endpoint or the TLS options make no connection; with what to do about it.
    Written(String, &'static str),
    Connection(String),
    Login(Failure),
}

/// What an endpoint that answers is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    Full,
    /// It lives, but this is what it lacks; taken if there is nothing better.
    Little(&'static str),
}

/// A connection, and what is wrong with all endpoints if there was no better one.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) at: usize,
    pub(super) connection: Connection,
    pub(super) trouble: Option<String>,
}

type Attempt = (usize, Result<(Connection, Worth), Refused>);

/// Connects to the best endpoint of `order`; earlier ones win.
pub(super) async fn connect(
    options: &Options,
    order: impl IntoIterator<Item = usize>,
) -> Result<Dialed, Failure> {
    let mut order = order.into_iter().enumerate();
    let mut attempts = JoinSet::<(usize, Attempt)>::new();
    let mut found = Found::default();
    let mut next = order.next();
    loop {
        if let Some((place, at)) = next {
            let options = options.clone();
            attempts.spawn(async move { (place, (at, connect_to(&options, at).await)) });
            next = order.next();
        }
        let attempt = tokio::select! {
            attempt = attempts.join_next() => attempt,
            () = tokio::time::sleep(HEAD_START), if next.is_some() => continue,
        };
        match attempt {
            Some(Ok((place, attempt))) => {
                if let ControlFlow::Break(chosen) = found.add(options, place, attempt) {
                    return chosen;
                }
            }
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None if next.is_none() => return found.choose(options),
            None => {}
        }
    }
}

/// Attempts that did not decide the matter, by their place in the order.
#[derive(Default)]
struct Found {
    little: Vec<(usize, usize, Connection)>,
    wrong: Vec<(usize, Wrong)>,
}

/// An endpoint, what is wrong with it, what to do about that.
struct Wrong {
    endpoint: String,
    reason: String,
    advice: &'static str,
}

impl Found {
    fn add(
        &mut self,
        options: &Options,
        place: usize,
        (at, attempt): Attempt,
    ) -> ControlFlow<Result<Dialed, Failure>> {
        let (reason, advice) = match attempt {
            Ok((connection, Worth::Full)) => {
                return ControlFlow::Break(Ok(Dialed { at, connection, trouble: None }));
            }
            Ok((connection, Worth::Little(lacking))) => {
                self.little.push((place, at, connection));
                (lacking.to_owned(), IS_KVD_THERE)
            }
            Err(Refused::Login(failure)) => return ControlFlow::Break(Err(failure)),
            Err(Refused::Connection(reason)) => {
                let advice = advice(&reason).unwrap_or(IS_KVD_THERE);
                (reason, advice)
            }
            Err(Refused::Written(reason, advice)) => (reason, advice),
        };
        let endpoint = options.endpoints[at].clone();
        if options.debug {
            print::note(&format!("kvctl: not at {endpoint}: {reason}"));
        }
        self.wrong.push((place, Wrong { endpoint, reason, advice }));
        ControlFlow::Continue(())
    }

    /// The first of those that are good for little, if there is any.
    fn choose(mut self, options: &Options) -> Result<Dialed, Failure> {
        self.wrong.sort_by_key(|(place, _)| *place);
        self.little.sort_by_key(|(place, ..)| *place);
        if let Some((_, at, connection)) = self.little.into_iter().next() {
            return Ok(Dialed { at, connection, trouble: Some(list(&self.wrong)) });
        }
        // etcdctl waits for the connection within the call, unless it has to log in first.
        let exit = if options.login.is_some() { Exit::BadConnection } else { Exit::Error };
        let text = match self.wrong.as_slice() {
            [(_, Wrong { endpoint, reason, advice })] => {
                format!("cannot reach {endpoint}: {reason}; {advice}")
            }
            several => format!("cannot reach any endpoint: {}; {IS_KVD_THERE}", list(several)),
        };
        Err(Failure::new(exit, text))
    }
}

fn list(wrong: &[(usize, Wrong)]) -> String {
    let each = wrong.iter().map(|(_, of)| format!("{} ({})", of.endpoint, of.reason));
    each.collect::<Vec<_>>().join(", ")
}

async fn connect_to(options: &Options, at: usize) -> Result<(Connection, Worth), Refused> {
    let endpoint = &options.endpoints[at];
    let written = transport::way(options, endpoint)
        .map_err(|(reason, advice)| Refused::Written(reason, advice))?;
    let deadline = tokio::time::Instant::now() + options.dial_timeout;
    let channel = match tokio::time::timeout_at(deadline, written.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(Refused::Connection(root_cause(&error))),
        Err(_) => return Err(too_late(options, "connection")),
    };
    let mut worth = Worth::Full;
    if options.endpoints.len() > 1 {
        let probe = tokio::time::timeout_at(deadline, worth_of(channel.clone())).await;
        worth = probe.map_err(|_| too_late(options, "answer"))?.map_err(Refused::Connection)?;
    }
    let token = match (&options.token, &options.login) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(_)) => log_in(options, endpoint, channel.clone()).await?,
        (None, None) => None,
    };
    let token = token.map(MetadataValue::try_from).transpose().map_err(|_| {
        let message = "the token has characters that cannot be sent; check --auth-jwt-token";
        Refused::Login(Failure::bad_arguments(message))
    })?;
    Ok((Connection::new(options, channel, token), worth))
}

fn too_late(options: &Options, what: &str) -> Refused {
    let waited = go::format_duration(options.dial_timeout);
    Refused::Connection(format!("no {what} within {waited}"))
}

/// What the server's status says of it. Any answer of an etcd will do: that it does not let strangers
/// ask is one, too. The error says why there is none.
async fn worth_of(channel: Channel) -> Result<Worth, String> {
    match MaintenanceClient::new(channel).status(StatusRequest {}).await {
        Ok(status) => Ok(match status.into_inner() {
            StatusResponse { leader: 0, .. } => Worth::Little("it knows no leader"),
            StatusResponse { is_learner: true, .. } => Worth::Little("it is a learner"),
            _ => Worth::Full,
        }),
        Err(status) if status.code() == Code::Unimplemented => {
            Err("what listens there is no etcd".to_owned())
        }
        Err(status) => connection_error(&status).map_or(Ok(Worth::Full), Err),
    }
}

async fn log_in(
    options: &Options,
    endpoint: &str,
    channel: Channel,
) -> Result<Option<String>, Refused> {
    let Some(login) = &options.login else { return Ok(None) };
    let request =
        AuthenticateRequest { name: login.name.clone(), password: login.password.clone() };
    let mut client = AuthClient::new(channel);
    match answer(Some(options.command_timeout), client.authenticate(request)).await {
        Ok(Ok(response)) => Ok(Some(response.into_inner().token)),
        // A server without users lets everyone in, and so does one that knows none.
        Ok(Err(status))
            if status.message() == "etcdserver: authentication is not enabled"
                || status.code() == Code::Unimplemented =>
        {
            Ok(None)
        }
        Ok(Err(status)) => {
            let failure = Failure::of_call(endpoint, &status);
            Err(Refused::Login(Failure { exit: Exit::BadConnection, ..failure }))
        }
        Err(waited) => Err(Refused::Login(timed_out(endpoint, waited, None))),
    }
}
