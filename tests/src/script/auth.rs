//! Commands of a script about users and roles.

use anyhow::{Result, bail};
use proto::authpb::permission::Type;
use proto::authpb::{Permission, UserAddOptions};
use proto::etcdserverpb as pb;

use super::request::Args;
use crate::Client;
use crate::text::{self, Ids};

/// Makes a call, and prints its header behind what it was, or the error.
macro_rules! call {
    ($client:ident.$method:ident($request:expr), $ids:ident, $what:expr) => {
        match $client.auth.$method($request).await {
            Ok(answer) => {
                Ok(format!("{} {}", $what, text::header(answer.get_ref().header.as_ref(), $ids)))
            }
            Err(status) => Ok(text::error(&status)),
        }
    };
    ($client:ident.$method:ident($request:expr), $ids:ident, $what:expr, $print:expr) => {
        match $client.auth.$method($request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let header = text::header(answer.header.as_ref(), $ids);
                Ok(format!("{} {header}{}", $what, $print(answer)))
            }
            Err(status) => Ok(text::error(&status)),
        }
    };
}

pub(super) async fn run(
    client: Client,
    call: &str,
    mut args: Args<'_>,
    ids: &Ids,
) -> Result<String> {
    let action = args.text()?;
    match call {
        "auth" => auth(client, &action, args, ids).await,
        "user" => user(client, &action, args, ids).await,
        _ => role(client, &action, args, ids).await,
    }
}

async fn auth(mut client: Client, action: &str, args: Args<'_>, ids: &Ids) -> Result<String> {
    args.end()?;
    match action {
        "enable" => call!(client.auth_enable(pb::AuthEnableRequest {}), ids, "auth enable"),
        "disable" => call!(client.auth_disable(pb::AuthDisableRequest {}), ids, "auth disable"),
        "status" => {
            let print = |a: pb::AuthStatusResponse| {
                format!(
                    " {} authRevision={}",
                    if a.enabled { "on" } else { "off" },
                    a.auth_revision
                )
            };
            call!(client.auth_status(pb::AuthStatusRequest {}), ids, "auth", print)
        }
        other => bail!("unknown command 'auth {other}'"),
    }
}

fn list(words: Vec<String>) -> String {
    words.iter().map(|word| format!(" {word}")).collect()
}

async fn user(mut client: Client, action: &str, mut args: Args<'_>, ids: &Ids) -> Result<String> {
    let what = format!("user {action}");
    let name = if action == "list" { String::new() } else { args.text()? };
    let word = args.text();
    args.end()?;
    match action {
        "add" => {
            let options = word.is_err().then_some(UserAddOptions { no_password: true });
            let password = word.unwrap_or_default();
            let request = pb::AuthUserAddRequest { name, password, options, ..Default::default() };
            call!(client.user_add(request), ids, what)
        }
        "delete" => call!(client.user_delete(pb::AuthUserDeleteRequest { name }), ids, what),
        "get" => {
            let print = |a: pb::AuthUserGetResponse| list(a.roles);
            call!(client.user_get(pb::AuthUserGetRequest { name }), ids, what, print)
        }
        "list" => {
            let print = |a: pb::AuthUserListResponse| list(a.users);
            call!(client.user_list(pb::AuthUserListRequest {}), ids, what, print)
        }
        "passwd" => {
            let request =
                pb::AuthUserChangePasswordRequest { name, password: word?, ..Default::default() };
            call!(client.user_change_password(request), ids, what)
        }
        "grant" => {
            let request = pb::AuthUserGrantRoleRequest { user: name, role: word? };
            call!(client.user_grant_role(request), ids, what)
        }
        "revoke" => {
            let request = pb::AuthUserRevokeRoleRequest { name, role: word? };
            call!(client.user_revoke_role(request), ids, what)
        }
        other => bail!("unknown command 'user {other}'"),
    }
}

fn permission(of: &Permission) -> String {
    let (key, end) = (text::bytes(&of.key), text::bytes(&of.range_end));
    format!("\n  {:?} {key} {end}", of.perm_type()).trim_end().to_lowercase()
}

async fn role(mut client: Client, action: &str, mut args: Args<'_>, ids: &Ids) -> Result<String> {
    let what = format!("role {action}");
    let name = if action == "list" { String::new() } else { args.text()? };
    match action {
        "add" => call!(client.role_add(pb::AuthRoleAddRequest { name }), ids, what),
        "delete" => call!(client.role_delete(pb::AuthRoleDeleteRequest { role: name }), ids, what),
        "get" => {
            let print =
                |a: pb::AuthRoleGetResponse| a.perm.iter().map(permission).collect::<String>();
            call!(client.role_get(pb::AuthRoleGetRequest { role: name }), ids, what, print)
        }
        "list" => {
            let print = |a: pb::AuthRoleListResponse| list(a.roles);
            call!(client.role_list(pb::AuthRoleListRequest {}), ids, what, print)
        }
        "grant" => {
            let kind = match args.text()?.as_str() {
                "read" => Some(Type::Read),
                "write" => Some(Type::Write),
                "readwrite" => Some(Type::Readwrite),
                _ => None,
            };
            let (key, range_end) =
                (args.word().unwrap_or_default(), args.word().unwrap_or_default());
            let perm = kind.map(|kind| Permission { perm_type: kind.into(), key, range_end });
            let request = pb::AuthRoleGrantPermissionRequest { name, perm };
            call!(client.role_grant_permission(request), ids, what)
        }
        "revoke" => {
            let (key, range_end) = (args.word()?, args.word().unwrap_or_default());
            let request = pb::AuthRoleRevokePermissionRequest { role: name, key, range_end };
            call!(client.role_revoke_permission(request), ids, what)
        }
        other => bail!("unknown command 'role {other}'"),
    }
}
