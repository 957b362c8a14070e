//! `role add|delete|get|list|grant-permission|revoke-permission`: what users may read and write.

use std::ffi::OsString;

use clap::{Args, Subcommand};
use proto::authpb::Permission;
use proto::authpb::permission::Type;
use proto::etcdserverpb as pb;

use super::auth_call::{done, open, words};
use crate::failure::Failure;
use crate::format::{Answer, AuthAnswer, Subject};
use crate::keys::{bytes, prefix_end};
use crate::options::GlobalArgs;
use crate::print;
use crate::session::Call;

#[derive(Args, Debug)]
#[command(
    infer_subcommands = true,
    after_help = "Examples:
  kvctl role add reader
  kvctl role grant-permission reader read --prefix /app/
  kvctl role grant-permission reader readwrite name
  kvctl user grant-role alice reader"
)]
pub(crate) struct Role {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Adds a new role
    #[command(override_usage = "kvctl role add <ROLE>")]
    Add {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Deletes a role
    #[command(override_usage = "kvctl role delete <ROLE>")]
    Delete {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Gets detailed information of a role
    #[command(override_usage = "kvctl role get <ROLE>")]
    Get {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Lists all roles
    List {
        #[arg(hide = true)]
        args: Vec<String>,
    },
    /// Grants a key to a role
    #[command(
        override_usage = "kvctl role grant-permission [OPTIONS] <ROLE> <read|write|readwrite> <KEY> [END]"
    )]
    GrantPermission {
        #[arg(hide = true)]
        args: Vec<OsString>,
        #[command(flatten)]
        range: Range,
    },
    /// Revokes a key from a role
    #[command(override_usage = "kvctl role revoke-permission [OPTIONS] <ROLE> <KEY> [END]")]
    RevokePermission {
        #[arg(hide = true)]
        args: Vec<OsString>,
        #[command(flatten)]
        range: Range,
    },
}

#[derive(Args, Debug)]
struct Range {
    /// All keys with that prefix
    #[arg(long)]
    prefix: bool,
    /// All keys from that one on
    #[arg(long)]
    from_key: bool,
}

impl Range {
    /// Key and end of a permission. Without a key it is about all keys, or about the first.
    fn of(&self, args: &[OsString]) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        let open: &[u8] = &[0];
        let both =
            || Failure::bad_arguments("--from-key and --prefix flags are mutually exclusive");
        let (key, end) = match args {
            [] => (&[][..], None),
            [key] => (bytes(key), None),
            [key, end, ..] => (bytes(key), Some(bytes(end))),
        };
        match end {
            _ if self.prefix && self.from_key && (end.is_none() || key.is_empty()) => Err(both()),
            _ if key.is_empty() => {
                let all = self.prefix || self.from_key;
                Ok((open.to_vec(), if all { open.to_vec() } else { Vec::new() }))
            }
            Some(_) if self.prefix => Err(unexpected("prefix")),
            Some(_) if self.from_key => Err(unexpected("from-key")),
            Some(end) => Ok((key.to_vec(), end.to_vec())),
            None if self.prefix => Ok((key.to_vec(), prefix_end(key))),
            None if self.from_key => Ok((key.to_vec(), open.to_vec())),
            None => Ok((key.to_vec(), Vec::new())),
        }
    }
}

fn unexpected(flag: &str) -> Failure {
    Failure::bad_arguments(format!("unexpected endkey argument with --{flag} flag"))
}

impl Role {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        match self.what {
            None => super::help("role"),
            Some(What::Add { args }) => add(globals, args).await,
            Some(What::Delete { args }) => delete(globals, args).await,
            Some(What::Get { args }) => get(globals, args).await,
            Some(What::List { args }) => list(globals, args).await,
            Some(What::GrantPermission { args, range }) => grant(globals, args, &range).await,
            Some(What::RevokePermission { args, range }) => revoke(globals, args, &range).await,
        }
    }
}

async fn add(globals: &GlobalArgs, args: Vec<String>) -> Result<(), Failure> {
    let [name] = words(args, "role add command requires role name as its argument")?;
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let make = || pb::AuthRoleAddRequest { name: name.clone() };
    let call =
        session.call(Call::PatientWrite, |to| async move { to.auth().role_add(make()).await });
    let header = call.await?.header;
    done(style, format!("Role {name} created"), header)
}

async fn delete(globals: &GlobalArgs, args: Vec<String>) -> Result<(), Failure> {
    let [role] = words(args, "role delete command requires role name as its argument")?;
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let make = || pb::AuthRoleDeleteRequest { role: role.clone() };
    let call =
        session.call(Call::PatientWrite, |to| async move { to.auth().role_delete(make()).await });
    let header = call.await?.header;
    done(style, format!("Role {role} deleted"), header)
}

async fn get(globals: &GlobalArgs, args: Vec<String>) -> Result<(), Failure> {
    let [name] = words(args, "role get command requires role name as its argument")?;
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let make = || pb::AuthRoleGetRequest { role: name.clone() };
    let call = session.call(Call::Read, |to| async move { to.auth().role_get(make()).await });
    let response = call.await?;
    print::answer(style, &Answer::Auth(&AuthAnswer::Role { name, response }))
}

async fn list(globals: &GlobalArgs, args: Vec<String>) -> Result<(), Failure> {
    let [] = words(args, "role list command requires no arguments")?;
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let request = pb::AuthRoleListRequest {};
    let call = session.call(Call::Read, |to| async move { to.auth().role_list(request).await });
    print::answer(style, &Answer::Auth(&AuthAnswer::Roles(call.await?)))
}

async fn grant(globals: &GlobalArgs, args: Vec<OsString>, range: &Range) -> Result<(), Failure> {
    let [name, kind, keys @ ..] = args.as_slice() else {
        return Err(Failure::bad_arguments(GRANT_NEEDS));
    };
    if keys.is_empty() {
        return Err(Failure::bad_arguments(GRANT_NEEDS));
    }
    let (name, kind) = (name.to_string_lossy(), kind.to_string_lossy());
    let perm_type = Type::from_str_name(&kind.to_uppercase()).ok_or_else(|| {
        Failure::bad_arguments(format!("invalid permission type: {kind}; read, write, readwrite"))
    })?;
    let (key, range_end) = range.of(keys)?;
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let perm = Some(Permission { perm_type: perm_type.into(), key, range_end });
    let request = pb::AuthRoleGrantPermissionRequest { name: name.clone().into(), perm };
    let make = || request.clone();
    let call = session.call(Call::PatientWrite, |to| async move {
        to.auth().role_grant_permission(make()).await
    });
    done(style, format!("Role {name} updated"), call.await?.header)
}

const GRANT_NEEDS: &str = "role grant command requires role name, permission type, and key [endkey] \
                           as its argument";

async fn revoke(globals: &GlobalArgs, args: Vec<OsString>, range: &Range) -> Result<(), Failure> {
    let needs =
        "role revoke-permission command requires role name and key [endkey] as its argument";
    let [role, keys @ ..] = args.as_slice() else {
        return Err(Failure::bad_arguments(needs));
    };
    let Some(written) = keys.first() else {
        return Err(Failure::bad_arguments(needs));
    };
    let (role, written) = (role.to_string_lossy(), written.to_string_lossy());
    let (key, range_end) = range.of(keys)?;
    let (style, mut session) = open(globals, Subject::Keys).await?;
    let what = match range_end.as_slice() {
        [] => format!("Permission of key {written} is revoked from role {role}"),
        [0] => {
            format!("Permission of range [{written}, <open ended> is revoked from role {role}")
        }
        end => {
            let end = String::from_utf8_lossy(end);
            format!("Permission of range [{written}, {end}) is revoked from role {role}")
        }
    };
    let request = pb::AuthRoleRevokePermissionRequest { role: role.clone().into(), key, range_end };
    let make = || request.clone();
    let call = session.call(Call::PatientWrite, |to| async move {
        to.auth().role_revoke_permission(make()).await
    });
    done(style, what, call.await?.header)
}
