//! Calls that the language of the golden scripts has words for: locks, elections, alarms, members.

use anyhow::{Context, Result};

use crate::Client;
use crate::script::{Args, members, request, tokens, turns};
use crate::text::{self, Ids, MemberNames};

/// The answer as text.
pub(crate) async fn call(
    client: &mut Client,
    ids: Ids,
    names: &mut MemberNames,
    line: &str,
) -> Result<String> {
    let tokens = tokens(line)?;
    let (command, rest) = tokens.split_first().context("an empty command")?;
    let command = command.as_text().context("a command")?;
    if let Some(call) = turns::call(client, ids, command, Args::new(rest))? {
        return Ok(call.await);
    }
    if command == "alarm" {
        let request = request::alarm(Args::new(rest), ids.member)?;
        let answer = client.maintenance.alarm(request).await;
        return Ok(answer.map_or_else(|e| text::error(&e), |a| text::alarm(a.get_ref(), &ids)));
    }
    members::run(client, ids, names, command, Args::new(rest)).await
}

/// The revision in an answer's header.
pub(crate) fn revision(answer: &str) -> i64 {
    let header = answer.split_once('}').map_or("", |(header, _)| header);
    header.rsplit_once("rev=").and_then(|(_, revision)| revision.parse().ok()).unwrap_or(0)
}
