//! `move-leader`: asks the leader to hand over to another member.

use clap::Args;
use proto::etcdserverpb::{MoveLeaderRequest, StatusRequest};

use crate::failure::{Exit, Failure};
use crate::format::{Answer, LeaderMoved, Subject};
use crate::options::{GlobalArgs, Options};
use crate::session::{Call, Session};
use crate::{go, print};

#[derive(Args, Debug)]
#[command(
    override_usage = "kvctl move-leader [OPTIONS] <ID>",
    after_help = "The leader must be among --endpoints: only it can hand over.

Example:
  kvctl --endpoints pi1:2379,pi2:2379,pi3:2379 move-leader 8211f1d0f64f3269"
)]
pub(crate) struct MoveLeader {
    /// The voting member that is to lead
    #[arg(value_name = "ID", hide = true)]
    args: Vec<String>,
}

impl MoveLeader {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let [id] = self.args.as_slice() else {
            return Err(Failure::bad_arguments(
                "move-leader command needs 1 argument: the ID of the member that is to lead",
            ));
        };
        let to = go::parse_uint(id).map_err(|why| {
            Failure::bad_arguments(format!(
                "bad member ID ({why}); pass it as 'kvctl member list' prints it, without 0x"
            ))
        })?;
        let options = globals.resolve()?;
        let style = options.style;
        style.check(Subject::Change)?;
        let (from, mut session) = leader(&options).await?;
        let request = MoveLeaderRequest { target_id: to };
        let call = session
            .call(Call::Write, |to| async move { to.maintenance().move_leader(request).await });
        let response = call.await?;
        print::answer(style, &Answer::LeaderMoved(&LeaderMoved { from, to, response }))
    }
}

/// The leader's id and a session with it. An endpoint that cannot say whether it leads does not, most
/// likely: it is told of, and the next one is asked.
async fn leader(options: &Options) -> Result<(u64, Session), Failure> {
    let mut failed = Vec::new();
    for endpoint in &options.endpoints {
        match leads(options, endpoint).await {
            Ok((Some(id), session)) => return Ok((id, session)),
            Ok((None, _)) => {}
            Err(failure) => failed.push(failure),
        }
    }
    let all = options.endpoints.join(", ");
    if options.endpoints.is_empty() {
        return Err(Failure::no_endpoints());
    }
    match failed.pop() {
        None => Err(Failure::bad_arguments(format!(
            "no leader endpoint given at {all}; \
             'kvctl endpoint status --cluster' shows who leads: pass that one with --endpoints"
        ))),
        Some(failure) if options.endpoints.len() == 1 => Err(failure),
        Some(last) => {
            let each: Vec<&str> = failed.iter().chain([&last]).map(Failure::text).collect();
            let message = format!("no leader among the endpoints that answer: {}", each.join("; "));
            Err(Failure::new(Exit::Error, message))
        }
    }
}

/// The endpoint's member id if it leads.
async fn leads(options: &Options, endpoint: &str) -> Result<(Option<u64>, Session), Failure> {
    let mut session = Session::open(options.at(endpoint)).await?;
    let request = StatusRequest {};
    let call = session.call(Call::Read, |to| async move { to.maintenance().status(request).await });
    let status = call.await?;
    let id = status.header.ok_or_else(|| Failure::not_etcd(endpoint))?.member_id;
    Ok(((id == status.leader).then_some(id), session))
}
