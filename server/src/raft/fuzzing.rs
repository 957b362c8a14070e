//! For fuzzing: what other members send, as far as it is decoded before consensus hears of it.

use bytes::Bytes;
use prost::Message;
use proto::{internal, peer};

use super::{types, wire};

/// Kinds of messages that [`message`] knows.
pub const KINDS: u8 = 10;

/// Reads a message and, where it is one, says it again: that must be read in the same way.
pub fn message(kind: u8, bytes: &[u8]) {
    match kind % KINDS {
        0 => append(bytes),
        1 => both(bytes, wire::to_campaign, |it| wire::campaign(peer::Identity::default(), it)),
        2 => both(bytes, wire::to_voted, wire::voted),
        3 => both(bytes, wire::to_transfer, |it| wire::transfer(peer::Identity::default(), it)),
        4 => both(bytes, wire::to_appended, wire::appended),
        5 => both(bytes, wire::to_replicated, wire::replicated),
        6 => piece(bytes),
        7 => propose(bytes),
        8 => drop(types::decode_vote(bytes)),
        _ => membership(bytes),
    }
}

fn both<M, T>(bytes: &[u8], read: impl Fn(M) -> Result<T, wire::Malformed>, say: impl Fn(&T) -> M)
where
    M: Message + Default,
    T: std::fmt::Debug,
{
    let Ok(message) = M::decode(bytes) else { return };
    let Ok(read_once) = read(message) else { return };
    let again = read(say(&read_once)).expect("what is said can be read");
    assert_eq!(format!("{again:?}"), format!("{read_once:?}"));
}

fn append(bytes: &[u8]) {
    let Ok(message) = peer::AppendRequest::decode(bytes) else { return };
    let Ok(request) = wire::to_append(message) else { return };
    for entry in &request.entries {
        let payload = types::encode_payload(&entry.payload);
        let again = types::decode_payload(payload.clone()).expect("what is stored can be read");
        assert_eq!(types::encode_payload(&again), payload);
    }
    let said = wire::append(peer::Identity::default(), &request);
    let again = wire::to_append(said).expect("what is said can be read");
    assert_eq!(again.entries.len(), request.entries.len());
}

fn piece(bytes: &[u8]) {
    let Ok(message) = peer::SnapshotPiece::decode(bytes) else { return };
    if let Some(peer::snapshot_piece::Piece::Head(head)) = message.piece {
        let _ = (head.vote.as_ref().map(wire::to_vote), wire::to_log_id(head.applied));
    }
}

fn propose(bytes: &[u8]) {
    let Ok(message) = peer::ProposeRequest::decode(bytes) else { return };
    for payload in message.proposals {
        let Ok(proposal) = types::Proposal::decode(payload.clone()) else { continue };
        assert!(proposal.command_len() < payload.len());
        if let Ok(command) = proposal.command() {
            let decoded = types::Proposal::new(&command).command();
            assert_eq!(decoded.expect("what is proposed can be read"), command);
        }
        if let Some((origin, number)) = proposal.origin() {
            assert_eq!(proposal.forwarded(origin, number), payload);
        }
    }
}

fn membership(bytes: &[u8]) {
    let Ok(message) = internal::Membership::decode(bytes) else { return };
    if types::check_membership(&message).is_ok() {
        let stored = types::stored_membership(Some((store::LogId { term: 1, index: 1 }, message)));
        let said = types::membership_message(stored.membership());
        assert!(types::check_membership(&said).is_ok());
        let payload = [&[2][..], &said.encode_to_vec()].concat();
        assert!(types::decode_payload(Bytes::from(payload)).is_ok());
    }
}
