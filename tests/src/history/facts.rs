//! What clients asked for, what they were told, and what a watcher saw: plain data.

use std::fmt;

/// Keys are numbers here and text on the wire, in the same order.
pub type Key = u32;

/// The key that a check writes to know where the history ends.
pub const FENCE: Key = u32::MAX;
/// The last key that loads may use: with more digits, the order of numbers is not that of texts.
pub const LAST: Key = 99_999;
/// The end of a range that holds every key.
pub const ALL: (Key, Key) = (0, FENCE);

/// Of one revision, in a message.
const EVENTS_SHOWN_MAX: usize = 8;
const PREFIX: &str = "k/";
const FENCE_TEXT: &str = "k/fence";

/// The text of a key. As the end of a range, [`FENCE`] and everything before it is included by
/// [`range_end`].
pub fn key_text(key: Key) -> String {
    match key {
        FENCE => FENCE_TEXT.to_owned(),
        key => format!("{PREFIX}{key:05}"),
    }
}

/// The exclusive end of `(first, last)`, both of which the range holds.
pub fn range_end(last: Key) -> String {
    key_text(last) + "\0"
}

pub fn parse_key(text: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(text).ok()?;
    if text == FENCE_TEXT {
        return Some(FENCE);
    }
    let key = text.strip_prefix(PREFIX)?.parse().ok()?;
    (key_text(key) == text).then_some(key)
}

/// A value that no other operation ever writes: which write, which operation in it, how long.
/// The bytes behind the name follow from it, so that every byte of an answer is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    pub write: u64,
    pub operation: u16,
    pub bytes: u32,
}

impl Value {
    pub fn render(self) -> Vec<u8> {
        let mut bytes = format!("{}.{}.{}.", self.write, self.operation, self.bytes).into_bytes();
        let mut noise = self.write.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(self.operation);
        while bytes.len() < self.bytes as usize {
            // xorshift: incompressible, so that sizes on disk are what they seem.
            noise ^= (noise << 13) | 1;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            bytes.extend_from_slice(&noise.to_le_bytes());
        }
        if bytes.len() > self.bytes as usize && self.bytes >= 48 {
            bytes.truncate(self.bytes as usize);
        }
        bytes
    }

    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.splitn(4, |byte| *byte == b'.');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<u64>().ok();
        let (write, operation, length) = (number()?, number()?, number()?);
        let value =
            Self { write, operation: operation.try_into().ok()?, bytes: length.try_into().ok()? };
        (value.render() == bytes).then_some(value)
    }
}

/// A key as a range shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Value,
    pub create: i64,
    pub modified: i64,
    pub version: i64,
}

/// One key's change, as a watch shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub key: Key,
    /// `None`: deleted.
    pub put: Option<Entry>,
}

/// One revision with all of its events, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub number: i64,
    pub events: Vec<Event>,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {} {{", self.number)?;
        for (place, event) in self.events.iter().take(EVENTS_SHOWN_MAX).enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{event}")?;
        }
        match self.events.len().saturating_sub(EVENTS_SHOWN_MAX) {
            0 => write!(f, "}}"),
            more => write!(f, " and {more} more}}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.put {
            Some(entry) => write!(f, "put {} {entry}", key_text(self.key)),
            None => write!(f, "delete {}", key_text(self.key)),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, create, modified, version } = self;
        let Value { write, operation, bytes } = value;
        write!(f, "(write {write}.{operation}, {bytes} bytes, created at {create}, ")?;
        write!(f, "modified at {modified}, version {version})")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Put {
        key: Key,
        value: Value,
    },
    /// Both ends included.
    Delete {
        first: Key,
        last: Key,
    },
}

impl Operation {
    /// Of a write that is yet to [sign](Self::sign) it.
    pub fn put(key: Key, bytes: u32) -> Self {
        Self::Put { key, value: Value { write: 0, operation: 0, bytes } }
    }

    /// Makes the value that of one write and a place in it.
    pub fn sign(&mut self, write: u64, place: u16) {
        if let Self::Put { value, .. } = self {
            *value = Value { write, operation: place, ..*value };
        }
    }
}

/// The write happens only if the key's `modified` is this (0: there is no such key).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    pub key: Key,
    pub modified: i64,
}

/// One call that may change something.
#[derive(Clone, Debug)]
pub struct Write {
    pub id: u64,
    pub guard: Option<Guard>,
    pub operations: Vec<Operation>,
    /// The newest revision anybody was told of before the call.
    pub floor: i64,
    pub outcome: Outcome,
}

impl Write {
    /// Without a guard, and not sent yet.
    pub fn new(id: u64, operations: Vec<Operation>, floor: i64) -> Self {
        Self { id, guard: None, operations, floor, outcome: Outcome::Unknown }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, at this revision.
    Applied(i64),
    /// Acknowledged, and there was nothing to do at this revision: the guard did not hold, or
    /// there was nothing to delete.
    Nothing(i64),
    /// An error that says it did not happen.
    Refused,
    /// No answer, or one that leaves it open.
    Unknown,
}

/// One answered range.
#[derive(Clone, Debug)]
pub struct Read {
    /// Both ends included.
    pub range: (Key, Key),
    /// The revision asked for; `None`: the newest.
    pub at: Option<i64>,
    /// The newest revision anybody was told of before the call.
    pub floor: i64,
    /// The store's revision, by the answer's header.
    pub revision: i64,
    pub found: Vec<(Key, Entry)>,
}

#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    pub revision: i64,
    pub acknowledged: bool,
}

/// What a watch of one member saw from a revision on, over all of its connections.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub who: String,
    pub from: i64,
    pub revisions: Vec<Revision>,
    /// It went on until it was told that what comes next is compacted; another one took over.
    pub is_cut_short: bool,
}

/// Everything between two checks.
#[derive(Clone, Debug, Default)]
pub struct Round {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
    pub compactions: Vec<Compaction>,
    /// From a watch during the round, from the revision after the last check.
    pub live: Vec<Revision>,
    /// From further watches, each of one member.
    pub watched: Vec<Watched>,
    /// From a watch at the end of the round, from `compacted` to `fence`.
    pub replayed: Vec<Revision>,
    /// The compacted revision after the round; 0 when there never was a compaction.
    pub compacted: i64,
    /// Revision of the round's last write, which the check itself made.
    pub fence: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_text_and_back() {
        for key in [0, 7, 99_999, FENCE] {
            assert_eq!(parse_key(key_text(key).as_bytes()), Some(key));
        }
        assert_eq!(parse_key(b"k/7"), None);
        assert_eq!(parse_key(b"other"), None);
        assert!(key_text(99_999) < key_text(FENCE));
    }

    #[test]
    fn values_are_bytes_and_back_and_every_byte_counts() {
        for bytes in [0, 20, 48, 300, 20_000] {
            let value = Value { write: 12_345, operation: 3, bytes };
            let mut rendered = value.render();
            if bytes >= 48 {
                assert_eq!(rendered.len(), bytes as usize);
            }
            assert_eq!(Value::parse(&rendered), Some(value));
            *rendered.last_mut().unwrap() ^= 1;
            assert_eq!(Value::parse(&rendered), None);
        }
    }
}
