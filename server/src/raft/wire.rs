//! openraft's messages as bytes between members: conversion and nothing else.

use bytes::Bytes;
use openraft::alias::{LogIdOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use proto::internal;
use proto::peer::{self, append_response, replicate_response};
use store::LogId;

use super::types::{self, Entry, Types};

/// What a message lacks, or has and should not.
pub type Malformed = String;

pub fn vote(vote: &VoteOf<Types>) -> internal::Vote {
    let leader = vote.leader_id();
    let committed = vote.is_committed();
    internal::Vote { term: leader.term, member_id: leader.voted_for, committed }
}

pub fn to_vote(message: &internal::Vote) -> VoteOf<Types> {
    match message.committed {
        true => openraft::vote::Vote::new_committed(message.term, message.member_id),
        false => openraft::vote::Vote::new(message.term, message.member_id),
    }
}

fn some_vote(message: Option<internal::Vote>) -> Result<VoteOf<Types>, Malformed> {
    message.as_ref().map(to_vote).ok_or_else(|| "it names no vote".into())
}

pub fn log_id(id: Option<&LogIdOf<Types>>) -> Option<internal::LogId> {
    let LogId { term, index } = types::log_id(id?);
    Some(internal::LogId { term, index })
}

pub fn to_log_id(message: Option<internal::LogId>) -> Option<LogIdOf<Types>> {
    let internal::LogId { term, index } = message?;
    types::raft_id(LogId { term, index })
}

fn entry(entry: &Entry) -> peer::Entry {
    let LogId { term, index } = types::log_id(&entry.log_id);
    peer::Entry { term, index, payload: types::encode_payload(&entry.payload) }
}

fn to_entry(message: peer::Entry) -> Result<Entry, Malformed> {
    let id = types::raft_id(LogId { term: message.term, index: message.index });
    // The message's buffer is larger than its parts, and would live as long as any of them.
    let payload = types::decode_payload(Bytes::copy_from_slice(&message.payload));
    let payload = payload.map_err(|what| format!("an entry's payload is none of ours: {what}"))?;
    Ok(Entry::new(id.ok_or("an entry has no index")?, payload))
}

pub fn append(
    identity: peer::Identity,
    request: &AppendEntriesRequest<Types>,
) -> peer::AppendRequest {
    peer::AppendRequest {
        identity: Some(identity),
        vote: Some(vote(&request.vote)),
        previous: log_id(request.prev_log_id.as_ref()),
        entries: request.entries.iter().map(entry).collect(),
        committed: log_id(request.leader_commit.as_ref()),
    }
}

pub fn to_append(message: peer::AppendRequest) -> Result<AppendEntriesRequest<Types>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: some_vote(message.vote)?,
        prev_log_id: to_log_id(message.previous),
        entries: message.entries.into_iter().map(to_entry).collect::<Result<_, _>>()?,
        leader_commit: to_log_id(message.committed),
    })
}

pub fn appended(response: &AppendEntriesResponse<Types>) -> peer::AppendResponse {
    use append_response::Result as Message;
    let result = match response {
        AppendEntriesResponse::Success => Message::Stored(true),
        AppendEntriesResponse::PartialSuccess(id) => {
            Message::Partly(log_id(id.as_ref()).unwrap_or_default())
        }
        AppendEntriesResponse::Conflict => Message::Conflict(true),
        AppendEntriesResponse::HigherVote(higher) => Message::HigherVote(vote(higher)),
    };
    peer::AppendResponse { result: Some(result) }
}

pub fn to_appended(
    message: peer::AppendResponse,
) -> Result<AppendEntriesResponse<Types>, Malformed> {
    use append_response::Result as Message;
    Ok(match message.result.ok_or("it has no result")? {
        Message::Stored(_) => AppendEntriesResponse::Success,
        Message::Partly(id) => AppendEntriesResponse::PartialSuccess(to_log_id(Some(id))),
        Message::Conflict(_) => AppendEntriesResponse::Conflict,
        Message::HigherVote(higher) => AppendEntriesResponse::HigherVote(to_vote(&higher)),
    })
}

pub fn replicated(result: &StreamAppendResult<Types>) -> peer::ReplicateResponse {
    use replicate_response::Result as Message;
    let result = match result {
        Ok(matching) => Message::Matching(log_id(matching.as_ref()).unwrap_or_default()),
        Err(StreamAppendError::Conflict(at)) => {
            Message::Conflict(log_id(Some(at)).unwrap_or_default())
        }
        Err(StreamAppendError::HigherVote(higher)) => Message::HigherVote(vote(higher)),
    };
    peer::ReplicateResponse { result: Some(result) }
}

pub fn to_replicated(
    message: peer::ReplicateResponse,
) -> Result<StreamAppendResult<Types>, Malformed> {
    use replicate_response::Result as Message;
    Ok(match message.result.ok_or("it has no result")? {
        Message::Matching(id) => Ok(to_log_id(Some(id))),
        Message::Conflict(id) => {
            let at = to_log_id(Some(id)).ok_or("it names no conflict")?;
            Err(StreamAppendError::Conflict(at))
        }
        Message::HigherVote(higher) => Err(StreamAppendError::HigherVote(to_vote(&higher))),
    })
}

pub fn campaign(identity: peer::Identity, request: &VoteRequest<Types>) -> peer::VoteRequest {
    peer::VoteRequest {
        identity: Some(identity),
        vote: Some(vote(&request.vote)),
        last: log_id(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    }
}

pub fn to_campaign(message: peer::VoteRequest) -> Result<VoteRequest<Types>, Malformed> {
    let mut request = VoteRequest::new(some_vote(message.vote)?, to_log_id(message.last));
    request.leadership_transfer = message.leadership_transfer;
    Ok(request)
}

pub fn voted(response: &VoteResponse<Types>) -> peer::VoteResponse {
    peer::VoteResponse {
        vote: Some(vote(&response.vote)),
        granted: response.vote_granted,
        last: log_id(response.last_log_id.as_ref()),
    }
}

pub fn to_voted(message: peer::VoteResponse) -> Result<VoteResponse<Types>, Malformed> {
    Ok(VoteResponse::new(some_vote(message.vote)?, to_log_id(message.last), message.granted))
}

pub fn transfer(
    identity: peer::Identity,
    request: &TransferLeaderRequest<Types>,
) -> peer::TransferLeaderRequest {
    peer::TransferLeaderRequest {
        identity: Some(identity),
        from_leader: Some(vote(request.from_leader())),
        to_member: *request.to_node_id(),
        last: log_id(request.last_log_id()),
    }
}

pub fn to_transfer(
    message: peer::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<Types>, Malformed> {
    let from = some_vote(message.from_leader)?;
    Ok(TransferLeaderRequest::new(from, message.to_member, to_log_id(message.last)))
}

pub fn transferred(response: &TransferLeaderResponse<Types>) -> peer::TransferLeaderResponse {
    let Err(error) = response else { return peer::TransferLeaderResponse::default() };
    let (other_vote, last) = match error {
        TransferLeaderError::VoteChanged { actual, .. } => (Some(vote(actual)), None),
        TransferLeaderError::LogNotFlushed { actual, .. } => (None, log_id(actual.as_ref())),
    };
    peer::TransferLeaderResponse { refusal: error.to_string(), other_vote, last }
}

pub fn to_transferred(
    message: peer::TransferLeaderResponse,
    request: &TransferLeaderRequest<Types>,
) -> TransferLeaderResponse<Types> {
    match message {
        peer::TransferLeaderResponse { refusal, .. } if refusal.is_empty() => Ok(()),
        peer::TransferLeaderResponse { other_vote: Some(actual), .. } => {
            let expected = *request.from_leader();
            Err(TransferLeaderError::VoteChanged { expected, actual: to_vote(&actual) })
        }
        peer::TransferLeaderResponse { last, .. } => {
            let expected = request.last_log_id().copied();
            Err(TransferLeaderError::LogNotFlushed { expected, actual: to_log_id(last) })
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use prost::Message as _;
    use proto::internal::{Command, MemberAttributes, command::Op};

    use super::super::types::{Membership, Node, Proposal};
    use super::*;

    fn id(term: u64, index: u64) -> LogIdOf<Types> {
        types::raft_id(LogId { term, index }).unwrap()
    }

    fn command(name: &str) -> Command {
        let attributes = MemberAttributes { name: name.into(), ..Default::default() };
        Command::from(Op::MemberAttributes(attributes))
    }

    #[test]
    fn entries_of_every_kind_arrive_as_they_were() {
        let node =
            Node { name: "n1".into(), peer_urls: vec!["http://a:1".into()], ..Node::default() };
        let membership =
            Membership::new(vec![[7].into()], std::collections::BTreeMap::from([(7, node)]))
                .unwrap();
        let forwarded = Proposal::new(&command("b")).forwarded(7, 8);
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal::new(&command("a"))),
            EntryPayload::Normal(Proposal::decode(forwarded).unwrap()),
            EntryPayload::Membership(membership.clone()),
        ];
        let entries = (1..).zip(payloads).map(|(index, payload)| Entry::new(id(2, index), payload));
        let request = AppendEntriesRequest {
            vote: openraft::vote::Vote::new_committed(2, 7),
            prev_log_id: None,
            entries: entries.collect(),
            leader_commit: Some(id(1, 1)),
        };
        let message = append(peer::Identity::default(), &request);
        let arrived = to_append(message).unwrap();
        assert_eq!(arrived.vote, request.vote);
        assert_eq!((arrived.prev_log_id, arrived.leader_commit), (None, Some(id(1, 1))));
        let [blank, own, other, members] = &arrived.entries[..] else { panic!("four entries") };
        assert_eq!(blank.log_id, id(2, 1));
        assert!(matches!(blank.payload, EntryPayload::Blank));
        let proposal = |entry: &Entry| match &entry.payload {
            EntryPayload::Normal(proposal) => proposal.clone(),
            _ => panic!("a command"),
        };
        assert_eq!(proposal(own).command().unwrap(), command("a"));
        assert_eq!((proposal(own).origin(), proposal(other).origin()), (None, Some((7, 8))));
        assert_eq!(proposal(other).command().unwrap(), command("b"));
        assert!(
            matches!(&members.payload, EntryPayload::Membership(found) if *found == membership)
        );
    }

    #[test]
    fn answers_arrive_as_they_were() {
        for sent in [
            Ok(None),
            Ok(Some(id(3, 4))),
            Err(StreamAppendError::Conflict(id(3, 4))),
            Err(StreamAppendError::HigherVote(openraft::vote::Vote::new(5, 6))),
        ] {
            assert_eq!(to_replicated(replicated(&sent)), Ok(sent));
        }
        for sent in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(id(1, 2))),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(openraft::vote::Vote::new(5, 6)),
        ] {
            assert_eq!(to_appended(appended(&sent)), Ok(sent));
        }
        let sent = VoteResponse::new(openraft::vote::Vote::new(5, 6), Some(id(1, 2)), true);
        assert_eq!(to_voted(voted(&sent)), Ok(sent));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert!(to_append(peer::AppendRequest::default()).is_err());
        let vote = Some(internal::Vote { term: 1, member_id: 1, committed: true });
        for payload in [&b""[..], b"\x03cut off", b"\x09unheard of"] {
            let payload = Bytes::copy_from_slice(payload);
            let entries = vec![peer::Entry { term: 1, index: 1, payload }];
            let message = peer::AppendRequest { vote, entries, ..Default::default() };
            assert!(to_append(message).is_err());
        }
        let nobody = internal::MemberNode { id: 8, ..Default::default() };
        let message = internal::Membership {
            configs: vec![internal::VoterSet { ids: vec![7] }],
            nodes: vec![nobody],
        };
        let payload = [&b"\x02"[..], &message.encode_to_vec()].concat().into();
        let entries = vec![peer::Entry { term: 1, index: 1, payload }];
        let message = peer::AppendRequest { vote, entries, ..Default::default() };
        let what = to_append(message).unwrap_err();
        assert!(what.contains("membership entry: "), "{what}");
        let entries = vec![peer::Entry { term: 1, index: 0, payload: Bytes::from_static(b"\0") }];
        let message = peer::AppendRequest { vote, entries, ..Default::default() };
        assert!(to_append(message).is_err());
        assert!(to_replicated(peer::ReplicateResponse::default()).is_err());
        assert!(to_appended(peer::AppendResponse::default()).is_err());
        assert!(to_voted(peer::VoteResponse::default()).is_err());
    }
}
