//! What the disk holds, what of that is durable, and the one way to change it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::{Call, Event, Failure};

pub(super) const SECTOR: usize = 512;

#[derive(Default)]
pub(super) struct World {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) next_node: u64,
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last `sync_dir`, oldest first.
    pub(super) renamings: Vec<Event>,
    pub(super) events: Option<Vec<Event>>,
    pub(super) counts: BTreeMap<Call, u64>,
    pub(super) failures: Vec<(Call, u64, Failure)>,
    /// Bytes that all files together may occupy.
    pub(super) room: Option<u64>,
}

/// `content` is what a reader sees, `durable` what survives. A failed sync forgets `pending`
/// though `content` keeps it, as Linux does.
#[derive(Clone, Default)]
pub(super) struct Node {
    pub(super) content: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<(u64, Vec<u8>)>,
}

impl World {
    /// Counts a call and returns the failure planned for it.
    pub(super) fn enter(&mut self, call: Call) -> Option<Failure> {
        let count = self.counts.entry(call).or_insert(0);
        let now = *count;
        *count += 1;
        let at = self.failures.iter().position(|(c, nth, _)| *c == call && *nth == now)?;
        Some(self.failures.remove(at).2)
    }

    pub(super) fn enter_simple(&mut self, call: Call) -> io::Result<()> {
        match self.enter(call) {
            Some(Failure::Error(errno) | Failure::ShortThenError(errno)) => {
                Err(io::Error::from_raw_os_error(errno))
            }
            Some(Failure::Short) | None => Ok(()),
        }
    }

    /// Whether the files may grow by so much: else ENOSPC.
    pub(super) fn grow(&self, bytes: u64) -> io::Result<()> {
        let used: u64 = self.names.values().map(|id| self.nodes[id].content.len() as u64).sum();
        if bytes > 0 && self.room.is_some_and(|room| used + bytes > room) {
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }

    /// The one place where anything changes.
    pub(super) fn apply(&mut self, event: Event) {
        match &event {
            Event::Write { node, offset, bytes } => {
                let node = self.nodes.get_mut(node).expect("an open file has a node");
                put(&mut node.content, *offset, bytes);
                node.pending.push((*offset, bytes.clone()));
            }
            Event::Sync { node } => {
                let node = self.nodes.get_mut(node).expect("an open file has a node");
                for (offset, bytes) in std::mem::take(&mut node.pending) {
                    put(&mut node.durable, offset, &bytes);
                }
            }
            Event::Create { node, .. } => {
                self.nodes.insert(*node, Node::default());
                self.next_node = self.next_node.max(node + 1);
                change(&mut self.names, &event);
                self.renamings.push(event.clone());
            }
            Event::Rename { .. } | Event::Remove { .. } => {
                change(&mut self.names, &event);
                self.renamings.push(event.clone());
            }
            Event::SyncDir => {
                self.durable_names = self.names.clone();
                self.renamings.clear();
            }
            Event::Mark(_) => {}
        }
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }
}

pub(super) fn change(names: &mut BTreeMap<PathBuf, u64>, event: &Event) {
    match event {
        Event::Create { path, node } => {
            names.insert(path.clone(), *node);
        }
        Event::Rename { from, to } => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        Event::Remove { path } => {
            names.remove(path);
        }
        _ => {}
    }
}

/// Half of a write, in whole sectors: the kernel copies and the disk writes nothing smaller.
pub(super) fn short(length: usize) -> usize {
    (length / 2 / SECTOR).max(usize::from(length > SECTOR)) * SECTOR
}

/// Each pending write keeps each of its sectors with chance `keep`/64.
pub(super) fn survivor(node: &Node, keep: u64, random: &mut Random) -> Vec<u8> {
    let mut content = node.durable.clone();
    for (offset, bytes) in &node.pending {
        let mut at = 0;
        while at < bytes.len() {
            let position = *offset as usize + at;
            let end = bytes.len().min(at + SECTOR - position % SECTOR);
            if random.next() % 64 < keep {
                put(&mut content, position as u64, &bytes[at..end]);
            }
            at = end;
        }
    }
    content
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = offset as usize;
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// xorshift: seeded, so that a failing case can be repeated.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 20
    }
}
