//! `alarm list|disarm`: what is wrong in the cluster, and that it is not any more.

use clap::{Args, Subcommand};
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmResponse};

use crate::failure::Failure;
use crate::format::{Answer, Subject};
use crate::options::GlobalArgs;
use crate::print;
use crate::session::{Call, Session};

#[derive(Args, Debug)]
#[command(
    infer_subcommands = true,
    after_help = "NOSPACE: the quota is reached, and nothing may grow. CORRUPT: members' data differ.
An alarm that is disarmed comes again as long as its reason is there."
)]
pub(crate) struct Alarm {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Lists all alarms
    List {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Disarms all alarms
    Disarm {
        #[arg(hide = true)]
        args: Vec<String>,
    },
}

impl Alarm {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let Some(what) = self.what else { return super::help("alarm") };
        let (name, args) = match &what {
            What::List { args } => ("list", args),
            What::Disarm { args } => ("disarm", args),
        };
        if !args.is_empty() {
            let message = format!("alarm {name} command accepts no arguments");
            return Err(Failure::bad_arguments(message));
        }
        let options = globals.resolve()?;
        let style = options.style;
        style.check(Subject::Keys)?;
        let mut session = Session::open(options).await?;
        let list = ask(&mut session, AlarmRequest::default()).await?;
        let answer = match what {
            What::List { .. } => list,
            What::Disarm { .. } => disarm(&mut session, list).await?,
        };
        print::answer(style, &Answer::Alarms(&answer))
    }
}

/// Disarms them one by one. The answers' headers are lost, as in etcdctl.
async fn disarm(session: &mut Session, list: AlarmResponse) -> Result<AlarmResponse, Failure> {
    let mut disarmed = AlarmResponse::default();
    for alarm in list.alarms {
        let action = AlarmAction::Deactivate.into();
        let request = AlarmRequest { action, member_id: alarm.member_id, alarm: alarm.alarm };
        disarmed.alarms.extend(ask(session, request).await?.alarms);
    }
    Ok(disarmed)
}

/// May be asked again elsewhere: what is disarmed stays so.
async fn ask(session: &mut Session, request: AlarmRequest) -> Result<AlarmResponse, Failure> {
    session.call(Call::Read, |to| async move { to.maintenance().alarm(request).await }).await
}
