//! Draws writes: puts, guarded puts, deletions, transactions, each with values of its own.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

use crate::history::facts::{Guard, Key, Operation, Value, Write};

/// Who does what.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub writers: u64,
    pub readers: u64,
    /// Further readers, who ask the member at this place and no other, whether it answers or not.
    pub faithful: (usize, u64),
    pub keys: Key,
    pub compact: bool,
    /// Percentage of writes that only delete.
    pub deletions: u32,
}

impl Default for Mix {
    fn default() -> Self {
        let faithful = (0, 0);
        Self { writers: 6, readers: 2, faithful, keys: 300, compact: true, deletions: 10 }
    }
}

/// One writer's choices.
pub struct Author {
    rng: StdRng,
    mix: Mix,
    /// What this writer knows about keys, for guards.
    modified: BTreeMap<Key, i64>,
}

impl Author {
    pub fn new(mix: Mix, rng: StdRng) -> Self {
        Self { rng, mix, modified: BTreeMap::new() }
    }

    /// The next write, not sent yet.
    pub fn write(&mut self, id: u64, floor: i64) -> Write {
        let (guard, operations) = self.draw(id);
        Write { guard, ..Write::new(id, operations, floor) }
    }

    fn draw(&mut self, id: u64) -> (Option<Guard>, Vec<Operation>) {
        let first = self.rng.random_range(0..self.mix.keys);
        if self.rng.random_range(0..100) < self.mix.deletions {
            let more = if self.rng.random_bool(0.3) { self.rng.random_range(1..8) } else { 0 };
            return (None, vec![Operation::Delete { first, last: first + more }]);
        }
        match self.rng.random_range(0..100) {
            0..60 => (None, vec![self.put(id, 0, first)]),
            60..75 => {
                let modified = self.modified.get(&first).copied().unwrap_or(0);
                (Some(Guard { key: first, modified }), vec![self.put(id, 0, first)])
            }
            _ => {
                let keys = self.mix.keys;
                let count = self.rng.random_range(2..7);
                let mut operations = vec![self.put(id, 0, first)];
                for place in 1..count {
                    let key = (first + u32::from(place) * 7) % keys;
                    operations.push(match self.rng.random_bool(0.25) {
                        true => Operation::Delete { first: key, last: key },
                        false => self.put(id, place, key),
                    });
                }
                (None, operations)
            }
        }
    }

    fn put(&mut self, write: u64, operation: u16, key: Key) -> Operation {
        let bytes = match self.rng.random_range(0..100) {
            0..70 => self.rng.random_range(20..300),
            70..92 => self.rng.random_range(300..3000),
            _ => self.rng.random_range(3000..20_000),
        };
        Operation::Put { key, value: Value { write, operation, bytes } }
    }

    /// What became of a write of this author.
    pub fn learn(&mut self, write: &Write, at: i64) {
        for operation in &write.operations {
            match operation {
                Operation::Put { key, .. } => self.modified.insert(*key, at),
                Operation::Delete { first, .. } => self.modified.remove(first),
            };
        }
    }
}
