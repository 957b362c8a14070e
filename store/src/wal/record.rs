//! The logical layer: records in the stream of a segment.

use crate::LogId;

use super::sector::{Frames, Key, u32_at, u64_at};

/// Checksum, length of the body, kind.
pub(super) const HEADER: usize = 9;
/// Term and index in front of an entry's payload.
pub(super) const ENTRY_HEADER: usize = 16;
/// The closing record has no body.
pub(super) const SEAL: usize = HEADER;
/// No body is longer: a longer length is damage.
pub(super) const BODY_BYTES_MAX: usize = 512 << 20;

const KIND_START: u8 = 1;
const KIND_ENTRY: u8 = 2;
const KIND_VOTE: u8 = 3;
const KIND_TRUNCATE: u8 = 4;
const KIND_PURGE: u8 = 5;
const KIND_COMMITTED: u8 = 6;
const KIND_SEAL: u8 = 7;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// First in each segment: the state the segments before it lead to.
    Start {
        /// Checksum of the record that closed the segment before; 0 in the first segment.
        chain: u32,
        state: Box<State>,
    },
    Entry {
        id: LogId,
        payload: &'a [u8],
    },
    Vote(&'a [u8]),
    /// Entries after this one are gone.
    Truncate(LogId),
    /// Entries up to this one are not needed any more.
    Purge(LogId),
    Committed(LogId),
    /// Last in a segment; the next segment exists.
    Seal,
}

/// What a prefix of the records leads to, entries aside. Index 0 stands for "none".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) vote: Option<Vec<u8>>,
    pub(super) committed: LogId,
    pub(super) purged: LogId,
    pub(super) last: LogId,
}

impl Record<'_> {
    /// Bytes in the stream.
    pub(super) fn size(&self) -> usize {
        HEADER
            + match self {
                Record::Start { state, .. } => start_bytes(0, state).len(),
                Record::Entry { payload, .. } => ENTRY_HEADER + payload.len(),
                Record::Vote(vote) => vote.len(),
                Record::Truncate(_) | Record::Purge(_) | Record::Committed(_) => 16,
                Record::Seal => 0,
            }
    }

    /// Appends the record and returns its checksum.
    pub(super) fn put(&self, key: &Key, frames: &mut Frames) -> u32 {
        match self {
            Record::Start { chain, state } => {
                put(key, frames, KIND_START, &start_bytes(*chain, state), &[])
            }
            Record::Entry { id, payload } => {
                put(key, frames, KIND_ENTRY, &log_id_bytes(*id), payload)
            }
            Record::Vote(vote) => put(key, frames, KIND_VOTE, vote, &[]),
            Record::Truncate(id) => put(key, frames, KIND_TRUNCATE, &log_id_bytes(*id), &[]),
            Record::Purge(id) => put(key, frames, KIND_PURGE, &log_id_bytes(*id), &[]),
            Record::Committed(id) => put(key, frames, KIND_COMMITTED, &log_id_bytes(*id), &[]),
            Record::Seal => put(key, frames, KIND_SEAL, &[], &[]),
        }
    }
}

fn put(key: &Key, frames: &mut Frames, kind: u8, front: &[u8], back: &[u8]) -> u32 {
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&((front.len() + back.len()) as u32).to_le_bytes());
    header[8] = kind;
    let mut hasher = key.hasher(frames.position());
    hasher.update(&header[4..]);
    hasher.update(front);
    hasher.update(back);
    let crc = hasher.finalize();
    header[..4].copy_from_slice(&crc.to_le_bytes());
    frames.put(&header);
    frames.put(front);
    frames.put(back);
    crc
}

/// A record read back.
pub(super) struct Decoded<'a> {
    pub(super) record: Record<'a>,
    pub(super) crc: u32,
}

/// Size of the record at the start of `bytes`; `None` if it is not complete.
pub(super) fn measure(bytes: &[u8]) -> Result<Option<usize>, String> {
    if bytes.len() < HEADER {
        return Ok(None);
    }
    let length = u32_at(bytes, 4) as usize;
    if length > BODY_BYTES_MAX {
        return Err(format!("a record claims to have {length} bytes"));
    }
    Ok((bytes.len() >= HEADER + length).then_some(HEADER + length))
}

/// The record that `bytes` are, found at `offset` of the stream. `Err` says what is wrong.
pub(super) fn decode<'a>(key: &Key, bytes: &'a [u8], offset: u32) -> Result<Decoded<'a>, String> {
    let crc = u32_at(bytes, 0);
    let mut hasher = key.hasher(offset);
    hasher.update(&bytes[4..]);
    if hasher.finalize() != crc {
        return Err("the checksum of a record does not match".into());
    }
    let record = parse(bytes[8], &bytes[HEADER..])
        .ok_or_else(|| format!("a record of kind {} does not parse", bytes[8]))?;
    Ok(Decoded { record, crc })
}

fn parse(kind: u8, body: &[u8]) -> Option<Record<'_>> {
    let id = |body: &[u8]| (body.len() == 16).then(|| log_id_at(body, 0));
    Some(match kind {
        KIND_START => parse_start(body)?,
        KIND_ENTRY if body.len() >= ENTRY_HEADER => {
            Record::Entry { id: log_id_at(body, 0), payload: &body[ENTRY_HEADER..] }
        }
        KIND_VOTE => Record::Vote(body),
        KIND_TRUNCATE => Record::Truncate(id(body)?),
        KIND_PURGE => Record::Purge(id(body)?),
        KIND_COMMITTED => Record::Committed(id(body)?),
        KIND_SEAL if body.is_empty() => Record::Seal,
        _ => return None,
    })
}

const START_FIXED: usize = 4 + 3 * 16 + 1;

fn start_bytes(chain: u32, state: &State) -> Vec<u8> {
    let vote = state.vote.as_deref();
    let mut bytes = Vec::with_capacity(START_FIXED + vote.map_or(0, <[u8]>::len));
    bytes.extend_from_slice(&chain.to_le_bytes());
    for id in [state.committed, state.purged, state.last] {
        bytes.extend_from_slice(&log_id_bytes(id));
    }
    bytes.push(u8::from(vote.is_some()));
    bytes.extend_from_slice(vote.unwrap_or_default());
    bytes
}

fn parse_start(body: &[u8]) -> Option<Record<'static>> {
    let vote = body.get(START_FIXED..)?;
    let vote = match body[START_FIXED - 1] {
        0 if vote.is_empty() => None,
        1 => Some(vote.to_vec()),
        _ => return None,
    };
    let (committed, purged, last) = (log_id_at(body, 4), log_id_at(body, 20), log_id_at(body, 36));
    let state = Box::new(State { vote, committed, purged, last });
    Some(Record::Start { chain: u32_at(body, 0), state })
}

fn log_id_bytes(id: LogId) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.term.to_le_bytes());
    bytes[8..].copy_from_slice(&id.index.to_le_bytes());
    bytes
}

fn log_id_at(bytes: &[u8], at: usize) -> LogId {
    LogId { term: u64_at(bytes, at), index: u64_at(bytes, at + 8) }
}
