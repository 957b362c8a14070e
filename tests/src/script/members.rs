//! Members in a script, which calls them by names of its own.

use anyhow::{Context, Result, bail};
use proto::etcdserverpb::{
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest,
};

use super::request::Args;
use crate::Client;
use crate::text::{self, Ids, MemberNames};

/// A call of the cluster service; a member that is added gets its name.
pub(crate) async fn run(
    client: &mut Client,
    ids: Ids,
    known: &mut MemberNames,
    call: &str,
    mut args: Args<'_>,
) -> Result<String> {
    let mut names = known.clone();
    names.names.insert(ids.member, "M".to_owned());
    let action = if call == "members" { call.to_owned() } else { args.text()? };
    let label = if action == "members" { String::new() } else { args.text()? };
    let id = names.names.iter().find(|(_, name)| **name == label).map(|(id, _)| *id);
    let id = id.or_else(|| label.parse().ok());
    let is_learner = args.flag("learner");
    let linearizable = !args.flag("serializable");
    let mut peer_ur_ls = Vec::new();
    while let Ok(url) = args.text() {
        // The server's own URL, which is another one on every run.
        peer_ur_ls.push(if url == "own" { names.own_peer_url.clone() } else { url });
    }
    args.end()?;
    let cluster = &mut client.cluster;
    let of = || id.with_context(|| format!("no member is called '{label}'"));
    let answer = match action.as_str() {
        "members" => {
            let answer = cluster.member_list(MemberListRequest { linearizable }).await;
            answer.map(|a| a.into_inner()).map(|a| (a.header, a.members, None))
        }
        "add" => {
            let answer = cluster.member_add(MemberAddRequest { peer_ur_ls, is_learner }).await;
            answer.map(|a| a.into_inner()).map(|a| (a.header, a.members, a.member))
        }
        "remove" => {
            let answer = cluster.member_remove(MemberRemoveRequest { id: of()? }).await;
            answer.map(|a| a.into_inner()).map(|a| (a.header, a.members, None))
        }
        "promote" => {
            let answer = cluster.member_promote(MemberPromoteRequest { id: of()? }).await;
            answer.map(|a| a.into_inner()).map(|a| (a.header, a.members, None))
        }
        "update" => {
            let request = MemberUpdateRequest { id: of()?, peer_ur_ls };
            let answer = cluster.member_update(request).await;
            answer.map(|a| a.into_inner()).map(|a| (a.header, a.members, None))
        }
        other => bail!("unknown command 'member {other}'"),
    };
    let (header, members, added) = match answer {
        Ok(answer) => answer,
        Err(status) => return Ok(text::error(&status)),
    };
    if let Some(added) = &added {
        for names in [&mut known.names, &mut names.names] {
            names.retain(|_, name| *name != label);
            names.insert(added.id, label.clone());
        }
    }
    let title = if call == "members" { action } else { format!("member {action}") };
    let mut text = text::members(&title, header.as_ref(), &members, (&ids, &names));
    if let Some(added) = added {
        text.push_str(&format!("\n  added {}", text::member(&added, &names)));
    }
    Ok(text)
}
