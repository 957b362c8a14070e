//! `user add|delete|get|list|passwd|grant-role|revoke-role`: who may say who it is.

use clap::{Args, Subcommand};
use proto::authpb::UserAddOptions;
use proto::etcdserverpb as pb;

use super::auth_call::{done, open, words};
use crate::failure::Failure;
use crate::format::{Answer, AuthAnswer, Subject};
use crate::options::GlobalArgs;
use crate::session::Call;
use crate::{go, password, print};

#[derive(Args, Debug)]
#[command(
    infer_subcommands = true,
    after_help = "Examples:
  kvctl user add alice                asks for the password
  kvctl user add alice:secret
  kvctl user grant-role alice reader
  kvctl user get alice --detail       what the user may read and write"
)]
pub(crate) struct User {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Adds a new user
    #[command(override_usage = "kvctl user add [OPTIONS] <NAME[:PASSWORD]>")]
    Add {
        #[arg(hide = true)]
        args: Vec<String>,
        #[command(flatten)]
        interactive: Interactive,
        /// Supply password from the command line flag
        #[arg(long, default_value = "")]
        new_user_password: String,
        /// Create a user without password (CN based auth only)
        #[arg(long)]
        no_password: bool,
    },
    /// Deletes a user
    #[command(override_usage = "kvctl user delete <NAME>")]
    Delete {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Gets detailed information of a user
    #[command(override_usage = "kvctl user get [OPTIONS] <NAME>")]
    Get {
        #[arg(hide = true)]
        args: Vec<String>,
        /// Show permissions of roles granted to the user
        #[arg(long)]
        detail: bool,
    },
    /// Lists all users
    List {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Changes password of user
    #[command(override_usage = "kvctl user passwd [OPTIONS] <NAME>")]
    Passwd {
        #[arg(hide = true)]
        args: Vec<String>,
        #[command(flatten)]
        interactive: Interactive,
    },
    /// Grants a role to a user
    #[command(override_usage = "kvctl user grant-role <NAME> <ROLE>")]
    GrantRole {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Revokes a role from a user
    #[command(override_usage = "kvctl user revoke-role <NAME> <ROLE>")]
    RevokeRole {
        #[arg(hide = true)]
        args: Vec<String>,
    },
}

#[derive(Args, Debug)]
struct Interactive {
    /// Ask for the password twice; false: take it from standard input
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true",
        default_missing_value = "true", value_parser = go::parse_bool, value_name = "BOOL")]
    interactive: bool,
}

impl Interactive {
    fn password_of(&self, name: &str) -> Result<String, Failure> {
        if !self.interactive {
            return password::from_stdin();
        }
        let password = password::ask(&format!("Password of {name}: "))?;
        if password.is_empty() {
            return Err(Failure::bad_arguments("empty password"));
        }
        let prompt = format!("Type password of {name} again for confirmation: ");
        match password::ask(&prompt)? == password {
            true => Ok(password),
            false => Err(Failure::bad_arguments("given passwords are different")),
        }
    }
}

impl User {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        match self.what {
            None => super::help("user"),
            Some(What::Add { args, interactive, new_user_password, no_password }) => {
                let [argument] =
                    words(args, "user add command requires user name as its argument")?;
                let (name, password) = match no_password {
                    true => (argument, String::new()),
                    false => name_and_password(argument, &interactive, new_user_password)?,
                };
                add(globals, name, password, no_password).await
            }
            Some(What::Delete { args }) => delete(globals, args).await,
            Some(What::Get { args, detail }) => get(globals, args, detail).await,
            Some(What::List { args }) => list(globals, args).await,
            Some(What::Passwd { args, interactive }) => {
                let [name] = words(args, "user passwd command requires user name as its argument")?;
                let password = interactive.password_of(&name)?;
                change_password(globals, name, password).await
            }
            Some(What::GrantRole { args }) => grant(globals, args).await,
            Some(What::RevokeRole { args }) => revoke(globals, args).await,
        }
    }
}

fn name_and_password(
    argument: String,
    interactive: &Interactive,
    from_flag: String,
) -> Result<(String, String), Failure> {
    if !from_flag.is_empty() {
        return Ok((argument, from_flag));
    }
    match argument.split_once(':') {
        Some(("", _)) => Err(Failure::bad_arguments("empty user name is not allowed")),
        Some((name, password)) => Ok((name.to_owned(), password.to_owned())),
        None => {
            let password = interactive.password_of(&argument)?;
            Ok((argument, password))
        }
    }
}

async fn add(
    globals: &GlobalArgs,
    name: String,
    password: String,
    no_password: bool,
) -> Result<(), Failure> {
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let options = Some(UserAddOptions { no_password });
    let request =
        pb::AuthUserAddRequest { name: name.clone(), password, options, ..Default::default() };
    let make = || request.clone();
    let call =
        session.call(Call::PatientWrite, |to| async move { to.auth().user_add(make()).await });
    done(style, format!("User {name} created"), call.await?.header)
}

async fn delete(globals: &GlobalArgs, args: Vec<String>) -> Result<(), Failure> {
    let [name] = words(args, "user delete command requires user name as its argument")?;
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let make = || pb::AuthUserDeleteRequest { name: name.clone() };
    let call =
        session.call(Call::PatientWrite, |to| async move { to.auth().user_delete(make()).await });
    let header = call.await?.header;
    done(style, format!("User {name} deleted"), header)
}

async fn get(globals: &GlobalArgs, args: Vec<String>, detail: bool) -> Result<(), Failure> {
    let [name] = words(args, "user get command requires user name as its argument")?;
    let subject = if detail { Subject::Keys } else { Subject::Users };
    let (style, mut session) = open(globals, subject).await?;
    let make = || pb::AuthUserGetRequest { name: name.clone() };
    let call = session.call(Call::Read, |to| async move { to.auth().user_get(make()).await });
    let response = call.await?;
    if !detail {
        return print::answer(style, &Answer::Auth(&AuthAnswer::User { name, response }));
    }
    print::line(&format!("User: {name}"))?;
    for role in response.roles {
        print::line("")?;
        let make = || pb::AuthRoleGetRequest { role: role.clone() };
        let call = session.call(Call::Read, |to| async move { to.auth().role_get(make()).await });
        let response = call.await?;
        print::answer(style, &Answer::Auth(&AuthAnswer::Role { name: role, response }))?;
    }
    Ok(())
}

async fn list(globals: &GlobalArgs, args: Vec<String>) -> Result<(), Failure> {
    let [] = words(args, "user list command requires no arguments")?;
    let (style, mut session) = open(globals, Subject::Users).await?;
    let request = pb::AuthUserListRequest {};
    let call = session.call(Call::Read, |to| async move { to.auth().user_list(request).await });
    print::answer(style, &Answer::Auth(&AuthAnswer::Users(call.await?)))
}

async fn change_password(
    globals: &GlobalArgs,
    name: String,
    password: String,
) -> Result<(), Failure> {
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let request = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
    let make = || request.clone();
    let call = session
        .call(Call::PatientWrite, |to| async move { to.auth().user_change_password(make()).await });
    done(style, "Password updated".to_owned(), call.await?.header)
}

async fn grant(globals: &GlobalArgs, args: Vec<String>) -> Result<(), Failure> {
    let needs = "user grant command requires user name and role name as its argument";
    let [user, role] = words(args, needs)?;
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let make = || pb::AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
    let call = session
        .call(Call::PatientWrite, |to| async move { to.auth().user_grant_role(make()).await });
    let header = call.await?.header;
    done(style, format!("Role {role} is granted to user {user}"), header)
}

async fn revoke(globals: &GlobalArgs, args: Vec<String>) -> Result<(), Failure> {
    let needs = "user revoke-role requires user name and role name as its argument";
    let [name, role] = words(args, needs)?;
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let make = || pb::AuthUserRevokeRoleRequest { name: name.clone(), role: role.clone() };
    let call = session
        .call(Call::PatientWrite, |to| async move { to.auth().user_revoke_role(make()).await });
    let header = call.await?.header;
    done(style, format!("Role {role} is revoked from user {name}"), header)
}
