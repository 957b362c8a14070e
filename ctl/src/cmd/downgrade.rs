//! `downgrade validate|enable|cancel`: whether the cluster may go to an older version, and that it will.

use clap::{Args, Subcommand};
use proto::etcdserverpb::DowngradeRequest;
use proto::etcdserverpb::downgrade_request::DowngradeAction;

use crate::failure::Failure;
use crate::format::{Answer, Downgraded, Subject};
use crate::options::GlobalArgs;
use crate::print;
use crate::session::{Call, Session};

#[derive(Args, Debug)]
#[command(infer_subcommands = true)]
pub(crate) struct Downgrade {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Validate downgrade capability before starting downgrade
    #[command(override_usage = "kvctl downgrade validate [OPTIONS] <TARGET_VERSION>")]
    Validate {
        #[arg(value_name = "TARGET_VERSION", hide = true)]
        args: Vec<String>,
    },
    /// Start a downgrade action to cluster
    #[command(override_usage = "kvctl downgrade enable [OPTIONS] <TARGET_VERSION>")]
    Enable {
        #[arg(value_name = "TARGET_VERSION", hide = true)]
        args: Vec<String>,
    },
    /// Cancel the ongoing downgrade action to cluster
    Cancel {
        #[arg(hide = true)]
        args: Vec<String>,
    },
}

impl Downgrade {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let (action, what, version) = match self.what {
            None => return super::help("downgrade"),
            Some(What::Validate { args }) => {
                (DowngradeAction::Validate, "validate", target(&args)?)
            }
            Some(What::Enable { args }) => (DowngradeAction::Enable, "enable", target(&args)?),
            Some(What::Cancel { args }) => {
                super::note_ignored(&args, "there is one downgrade at most");
                (DowngradeAction::Cancel, "cancel", String::new())
            }
        };
        let options = globals.resolve()?;
        let style = options.style;
        style.check(Subject::Change)?;
        let mut session = Session::open(options).await?;
        let call = session.call(Call::Write, |to| {
            let request = DowngradeRequest { action: action.into(), version: version.clone() };
            async move { to.maintenance().downgrade(request).await }
        });
        print::answer(style, &Answer::Downgraded(&Downgraded { what, response: call.await? }))
    }
}

fn target(args: &[String]) -> Result<String, Failure> {
    match args {
        [version] if !version.is_empty() => Ok(version.clone()),
        [] | [_] => Err(Failure::bad_arguments("TARGET_VERSION not provided; write it as 3.5")),
        _ => Err(Failure::bad_arguments("too many arguments; one TARGET_VERSION is enough")),
    }
}
