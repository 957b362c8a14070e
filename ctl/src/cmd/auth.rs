//! `auth enable|disable|status`: whether the server asks who somebody is.

use clap::{Args, Subcommand};
use proto::etcdserverpb as pb;

use crate::failure::Failure;
use crate::format::{Answer, AuthAnswer, Subject};
use crate::options::GlobalArgs;
use crate::print;
use crate::session::{Call, Session};

/// What a server says whose root is not yet what it is called.
const NO_ROOT_ROLE: &str = "etcdserver: root user does not have root role";

#[derive(Args, Debug)]
#[command(
    infer_subcommands = true,
    after_help = "Examples:
  kvctl user add root:secret        there has to be a user root first
  kvctl auth enable                 gives it the role root, too
  kvctl --user root:secret auth status"
)]
pub(crate) struct Auth {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Enables authentication
    Enable {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Disables authentication
    Disable {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Returns authentication status
    Status {
        #[arg(hide = true)]
        args: Vec<String>,
    },
}

impl Auth {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        match self.what {
            None => super::help("auth"),
            Some(What::Enable { args }) => {
                check_none("enable", &args)?;
                enable(globals).await
            }
            Some(What::Disable { args }) => {
                check_none("disable", &args)?;
                disable(globals).await
            }
            Some(What::Status { args }) => {
                check_none("status", &args)?;
                status(globals).await
            }
        }
    }
}

fn check_none(command: &str, args: &[String]) -> Result<(), Failure> {
    if args.is_empty() {
        return Ok(());
    }
    Err(Failure::bad_arguments(format!("auth {command} command does not accept any arguments")))
}

/// The user root gets the role root if it lacks that.
async fn enable(globals: &GlobalArgs) -> Result<(), Failure> {
    let mut session = Session::open(globals.resolve()?).await?;
    if let Err(failure) = switch_on(&mut session).await {
        if failure.text() != NO_ROOT_ROLE {
            return Err(failure);
        }
        let add = || pb::AuthRoleAddRequest { name: "root".into() };
        session.call(Call::Write, |to| async move { to.auth().role_add(add()).await }).await?;
        let grant = || pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
        let call =
            session.call(Call::Write, |to| async move { to.auth().user_grant_role(grant()).await });
        call.await?;
        switch_on(&mut session).await?;
    }
    print::line("Authentication Enabled")
}

async fn switch_on(session: &mut Session) -> Result<(), Failure> {
    let request = pb::AuthEnableRequest {};
    let call = session.call(Call::Write, |to| async move { to.auth().auth_enable(request).await });
    call.await.map(|_| ())
}

async fn disable(globals: &GlobalArgs) -> Result<(), Failure> {
    let mut session = Session::open(globals.resolve()?).await?;
    let request = pb::AuthDisableRequest {};
    session.call(Call::Write, |to| async move { to.auth().auth_disable(request).await }).await?;
    print::line("Authentication Disabled")
}

async fn status(globals: &GlobalArgs) -> Result<(), Failure> {
    let options = globals.resolve()?;
    let style = options.style;
    style.check(Subject::Users)?;
    let mut session = Session::open(options).await?;
    let request = pb::AuthStatusRequest {};
    let call = session.call(Call::Read, |to| async move { to.auth().auth_status(request).await });
    print::answer(style, &Answer::Auth(&AuthAnswer::Status(call.await?)))
}
