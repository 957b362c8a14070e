//! `endpoint health|status|hashkv`: how each server is, one call to each.

use std::time::{Duration, Instant};

use clap::{Args, CommandFactory, Subcommand};
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, HashKvRequest, MemberListRequest,
    RangeRequest, StatusRequest,
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::cmd::int;
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
    Health,
    /// Prints out the status of endpoints specified in `--endpoints` flag
    ///
    /// With --write-out simple, a line has these items: endpoint, ID, version, storage version, db size,
    /// in use, percentage not in use, quota, is leader, is learner, raft term, raft index, raft applied
    /// index, errors, downgrade target version, downgrade enabled.
    Status,
    /// Prints the KV history hash for each endpoint in --endpoints
    Hashkv {
        /// Maximum revision to hash (default: latest revision)
        #[arg(long, default_value = "0", value_parser = int, hide_default_value = true)]
        rev: i64,
    },
}

impl Endpoint {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let Some(what) = &self.what else {
            let mut help = crate::Cli::command();
            help.build();
            let help = help.find_subcommand_mut("endpoint").map(clap::Command::render_help);
            return print::data(help.unwrap_or_default().to_string().as_bytes());
        };
        let options = globals.resolve()?;
        options.style.check(Subject::Endpoints)?;
        let endpoints = if self.cluster {
            cluster_endpoints(options.clone()).await?
        } else {
            options.endpoints.clone()
        };
        match what {
            What::Health => health(&options, endpoints).await,
            What::Status => status(&options, &endpoints).await,
            What::Hashkv { rev } => hash(&options, &endpoints, *rev).await,
        }
    }
}

/// The client URLs of all members.
async fn cluster_endpoints(options: Options) -> Result<Vec<String>, Failure> {
    let mut session = Session::open(options).await?;
    let request = MemberListRequest { linearizable: true };
    let list =
        session.call(Call::Read, |to| async move { to.cluster().member_list(request).await });
    let members = list.await?.members;
    let endpoints: Vec<String> =
        members.into_iter().flat_map(|member| member.client_ur_ls).collect();
    if endpoints.is_empty() {
        let message = "no member tells its client URLs yet; wait, or drop --cluster";
        return Err(Failure::new(Exit::Error, message));
    }
    Ok(endpoints)
}

/// Asks all endpoints at once, so that one that hangs does not hide the others for long.
async fn health(options: &Options, endpoints: Vec<String>) -> Result<(), Failure> {
    let mut checks = JoinSet::new();
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        let options = options.at(&endpoint);
        checks.spawn(async move { (index, health_of(options, endpoint).await) });
    }
    let mut list = checks.join_all().await;
    list.sort_by_key(|(index, _)| *index);
    let list: Vec<Health> = list.into_iter().map(|(_, health)| health).collect();
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

async fn status(options: &Options, endpoints: &[String]) -> Result<(), Failure> {
    let mut list = Vec::new();
    let mut failed = false;
    for endpoint in endpoints {
        match status_of(options, endpoint).await {
            Ok(status) => list.push(status),
            Err(failure) => {
                failed = true;
                print::note(&format!(
                    "Failed to get the status of endpoint {endpoint} ({})",
                    failure.text()
                ));
            }
        }
    }
    print::answer(options.style, &Answer::Status(&list))?;
    if failed { Err(Failure::told(Exit::Error)) } else { Ok(()) }
}

async fn status_of(options: &Options, endpoint: &str) -> Result<EndpointStatus, Failure> {
    let mut session = Session::open(options.at(endpoint)).await?;
    let request = StatusRequest {};
    let status =
        session.call(Call::Read, |to| async move { to.maintenance().status(request).await });
    let status = status.await?;
    let header = status.header.ok_or_else(|| Failure::not_etcd(endpoint))?;
    Ok(EndpointStatus { endpoint: endpoint.to_owned(), header, status })
}

async fn hash(options: &Options, endpoints: &[String], revision: i64) -> Result<(), Failure> {
    let mut list = Vec::new();
    let mut failed = false;
    for endpoint in endpoints {
        match hash_of(options, endpoint, revision).await {
            Ok(hash) => list.push(hash),
            Err(failure) => {
                failed = true;
                let why = failure.text();
                print::note(&format!("Failed to get the hash of endpoint {endpoint} ({why})"));
            }
        }
    }
    print::answer(options.style, &Answer::HashKv(&list))?;
    if failed { Err(Failure::told(Exit::Error)) } else { Ok(()) }
}

async fn hash_of(
    options: &Options,
    endpoint: &str,
    revision: i64,
) -> Result<EndpointHash, Failure> {
    let mut session = Session::open(options.at(endpoint)).await?;
    let request = HashKvRequest { revision };
    let hash =
        session.call(Call::Read, |to| async move { to.maintenance().hash_kv(request).await });
    let hash = hash.await?;
    let header = hash.header.ok_or_else(|| Failure::not_etcd(endpoint))?;
    Ok(EndpointHash { endpoint: endpoint.to_owned(), header, hash })
}
