//! `endpoint health|status|hashkv`: how each server is, one call to each.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, HashKvRequest, RangeRequest, StatusRequest,
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::cmd::{int, member};
use crate::failure::{Exit, Failure};
use crate::format::{Answer, EndpointHash, EndpointStatus, Format, Health, Subject};
use crate::options::{GlobalArgs, Options};
use crate::print;
use crate::session::{Call, Session};

#[derive(Args, Debug)]
#[command(
    infer_subcommands = true,
    after_help = "Examples:
  kvctl endpoint health
  kvctl endpoint status --cluster -w table    all members, not only those in --endpoints
  kvctl endpoint hashkv --rev 100             equal hashes mean equal histories"
)]
pub(crate) struct Endpoint {
    /// Use all endpoints from the cluster member list
    #[arg(long, global = true)]
    cluster: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Checks the healthiness of endpoints specified in `--endpoints` flag
    Health {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Prints out the status of endpoints specified in `--endpoints` flag
    ///
    /// With --write-out simple, a line has these items: endpoint, ID, version, storage version, db size,
    /// in use, percentage not in use, quota, is leader, is learner, raft term, raft index, raft applied
    /// index, errors, downgrade target version, downgrade enabled.
    Status {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Prints the KV history hash for each endpoint in --endpoints
    Hashkv {
        #[arg(hide = true)]
        args: Vec<String>,
        /// Maximum revision to hash (default: latest revision)
        #[arg(long, default_value = "0", value_parser = int, hide_default_value = true)]
        rev: i64,
    },
}

impl Endpoint {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let Some(what) = &self.what else { return super::help("endpoint") };
        let (What::Health { args } | What::Status { args } | What::Hashkv { args, .. }) = what;
        super::note_ignored(args, "name endpoints with --endpoints");
        let options = globals.resolve()?;
        options.style.check(Subject::Endpoints)?;
        let endpoints = if self.cluster {
            cluster_endpoints(options.clone()).await?
        } else {
            options.endpoints.clone()
        };
        match what {
            What::Health { .. } => health(&options, endpoints).await,
            What::Status { .. } => status(&options, endpoints).await,
            What::Hashkv { rev, .. } => hash(&options, endpoints, *rev).await,
        }
    }
}

/// The client URLs of all members.
pub(super) async fn cluster_endpoints(options: Options) -> Result<Vec<String>, Failure> {
    let mut session = Session::open(options).await?;
    let members = member::members(&mut session, true).await?.members;
    let endpoints: Vec<String> =
        members.into_iter().flat_map(|member| member.client_ur_ls).collect();
    if endpoints.is_empty() {
        let message = "no member tells its client URLs yet; wait, or drop --cluster";
        return Err(Failure::new(Exit::Error, message));
    }
    Ok(endpoints)
}

/// Asks all endpoints at once, so that one that hangs does not hold up the others; answers in the order
/// of the endpoints.
async fn ask_all<T, F, Fut>(options: &Options, endpoints: Vec<String>, ask: F) -> Vec<T>
where
    T: Send + 'static,
    F: Fn(Options, String) -> Fut,
    Fut: Future<Output = T> + Send + 'static,
{
    let mut calls = JoinSet::new();
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        let call = ask(options.at(&endpoint), endpoint);
        calls.spawn(async move { (index, call.await) });
    }
    let mut list = calls.join_all().await;
    list.sort_by_key(|(index, _)| *index);
    list.into_iter().map(|(_, answer)| answer).collect()
}

async fn health(options: &Options, endpoints: Vec<String>) -> Result<(), Failure> {
    let list = ask_all(options, endpoints, health_of).await;
    print::answer(options.style, &Answer::Health(&list))?;
    if options.style.format == Format::Simple {
        for health in list.iter().filter(|health| !health.healthy) {
            let what = "is unhealthy: failed to commit proposal:";
            print::note(&format!("{} {what} {}", health.endpoint, health.error));
        }
    }
    if list.iter().all(|health| health.healthy) {
        Ok(())
    } else {
        Err(Failure::answer(Exit::Error, "unhealthy cluster"))
    }
}

/// A linearizable read of any key goes through the cluster; then no alarm may be active.
async fn health_of(options: Options, endpoint: String) -> Health {
    let start = Instant::now();
    let mut session = match Session::open(options).await {
        Ok(session) => session,
        Err(failure) => return unhealthy(endpoint, start.elapsed(), failure.text()),
    };
    let start = Instant::now();
    let request = RangeRequest { key: b"health".to_vec(), ..RangeRequest::default() };
    let read = session.call(Call::Read, |to| {
        let request = request.clone();
        async move { to.kv().range(request).await }
    });
    let read = read.await;
    let took = start.elapsed();
    match read {
        Err(failure) if failure.text() != "etcdserver: permission denied" => {
            unhealthy(endpoint, took, failure.text())
        }
        _ => {
            let alarms = active_alarms(&mut session).await;
            match alarms.as_deref() {
                None => unhealthy(endpoint, took, "Unable to fetch the alarm list"),
                Some([]) => Health { endpoint, healthy: true, took, error: String::new() },
                Some(alarms) => unhealthy(endpoint, took, &alarm_text(alarms)),
            }
        }
    }
}

fn unhealthy(endpoint: String, took: Duration, error: &str) -> Health {
    Health { endpoint, healthy: false, took, error: error.to_owned() }
}

/// The alarms, `None` if they cannot be had. A server without alarms has none.
async fn active_alarms(session: &mut Session) -> Option<Vec<AlarmMember>> {
    let request = AlarmRequest { action: AlarmAction::Get.into(), ..AlarmRequest::default() };
    let ask = session.call(Call::Read, |to| async move {
        match to.maintenance().alarm(request).await {
            Err(status) if status.code() == Code::Unimplemented => {
                Ok(tonic::Response::new(AlarmResponse::default()))
            }
            answer => answer,
        }
    });
    ask.await.ok().map(|response| response.alarms)
}

fn alarm_text(alarms: &[AlarmMember]) -> String {
    let names = alarms.iter().map(|alarm| match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::Nospace) => "NOSPACE ",
        Ok(AlarmType::Corrupt) => "CORRUPT ",
        _ => "UNKNOWN ",
    });
    "Active Alarm(s): ".to_owned() + &names.collect::<String>()
}

async fn status(options: &Options, endpoints: Vec<String>) -> Result<(), Failure> {
    let answers = ask_all(options, endpoints, status_of).await;
    let (list, failed) = told_apart("status", answers);
    print::answer(options.style, &Answer::Status(&list))?;
    if failed { Err(Failure::told(Exit::Error)) } else { Ok(()) }
}

async fn status_of(options: Options, endpoint: String) -> Asked<EndpointStatus> {
    let asked = async {
        let mut session = Session::open(options).await?;
        let request = StatusRequest {};
        let status =
            session.call(Call::Read, |to| async move { to.maintenance().status(request).await });
        let status = status.await?;
        let header = status.header.ok_or_else(|| Failure::not_etcd(&endpoint))?;
        Ok((header, status))
    };
    match asked.await {
        Ok((header, status)) => Ok(EndpointStatus { endpoint, header, status }),
        Err(failure) => Err((endpoint, failure)),
    }
}

async fn hash(options: &Options, endpoints: Vec<String>, revision: i64) -> Result<(), Failure> {
    let ask = |options, endpoint| hash_of(options, endpoint, revision);
    let (list, failed) = told_apart("hash", ask_all(options, endpoints, ask).await);
    print::answer(options.style, &Answer::HashKv(&list))?;
    if failed { Err(Failure::told(Exit::Error)) } else { Ok(()) }
}

async fn hash_of(options: Options, endpoint: String, revision: i64) -> Asked<EndpointHash> {
    let asked = async {
        let mut session = Session::open(options).await?;
        let request = HashKvRequest { revision };
        let hash =
            session.call(Call::Read, |to| async move { to.maintenance().hash_kv(request).await });
        let hash = hash.await?;
        let header = hash.header.ok_or_else(|| Failure::not_etcd(&endpoint))?;
        Ok((header, hash))
    };
    match asked.await {
        Ok((header, hash)) => Ok(EndpointHash { endpoint, header, hash }),
        Err(failure) => Err((endpoint, failure)),
    }
}

/// An endpoint's answer, or the endpoint and why there is none.
type Asked<T> = Result<T, (String, Failure)>;

/// The answers; what is missing is told.
fn told_apart<T>(what: &str, asked: Vec<Asked<T>>) -> (Vec<T>, bool) {
    let (mut list, mut failed) = (Vec::new(), false);
    for answer in asked {
        match answer {
            Ok(answer) => list.push(answer),
            Err((endpoint, failure)) => {
                failed = true;
                let why = failure.text();
                print::note(&format!("Failed to get the {what} of endpoint {endpoint} ({why})"));
            }
        }
    }
    (list, failed)
}
