//! A queue in chunks: append, drop the front and look up by position, all in O(1) and without
//! ever moving more than one chunk. Queues of millions of entries grow under a lock here, where
//! the reallocation of a `VecDeque` would be felt by every client.

use std::collections::VecDeque;

const CHUNK: usize = 256;

#[derive(Debug)]
pub(super) struct Chunks<T> {
    /// Each holds exactly `CHUNK` entries.
    full: VecDeque<Vec<T>>,
    /// Fewer than `CHUNK` entries. Grows by doubling from one, because most queues stay tiny.
    tail: Vec<T>,
    /// Entries dropped from the front that still occupy their place. Below `CHUNK`.
    head: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { full: VecDeque::new(), tail: Vec::new(), head: 0 }
    }
}

impl<T> Chunks<T> {
    pub(super) fn len(&self) -> usize {
        self.full.len() * CHUNK + self.tail.len() - self.head
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, position: usize) -> Option<&T> {
        let place = position + self.head;
        match self.full.get(place / CHUNK) {
            Some(chunk) => chunk.get(place % CHUNK),
            None => self.tail.get(place - self.full.len() * CHUNK),
        }
    }

    pub(super) fn get_mut(&mut self, position: usize) -> Option<&mut T> {
        let place = position + self.head;
        let in_tail = place.wrapping_sub(self.full.len() * CHUNK);
        match self.full.get_mut(place / CHUNK) {
            Some(chunk) => chunk.get_mut(place % CHUNK),
            None => self.tail.get_mut(in_tail),
        }
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.get(0)
    }

    pub(super) fn push(&mut self, entry: T) {
        if self.tail.len() == self.tail.capacity() {
            let more = if self.full.is_empty() { self.tail.len().max(1) } else { CHUNK };
            self.tail.reserve_exact(more);
        }
        self.tail.push(entry);
        if self.tail.len() == CHUNK {
            self.full.push_back(std::mem::take(&mut self.tail));
        }
    }

    /// How many entries from the front satisfy `pred`, which holds for a prefix of them.
    pub(super) fn partition_point(&self, mut pred: impl FnMut(&T) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if pred(self.get(middle).expect("middle is below the length")) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub(super) fn iter_from(&self, position: usize) -> impl Iterator<Item = &T> {
        (position..self.len()).map_while(|at| self.get(at))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.iter_from(0)
    }
}

impl<T: Default> Chunks<T> {
    pub(super) fn pop_front(&mut self) -> Option<T> {
        let entry = std::mem::take(self.get_mut(0)?);
        self.head += 1;
        if self.full.is_empty() {
            if self.head == self.tail.len() {
                *self = Self::default();
            } else if self.head * 2 > self.tail.len() {
                self.tail.drain(..self.head);
                self.head = 0;
            }
        } else if self.head == CHUNK {
            self.full.pop_front();
            self.head = 0;
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn behaves_like_a_deque() {
        let (mut chunks, mut model) = (Chunks::default(), VecDeque::new());
        let mut state = 7_u64;
        for round in 0..20_000_u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Grow for a while, then shrink, several times over.
            let grow = (round / 2_500) % 2 == 0;
            if (state >> 60 < 11) == grow {
                chunks.push(round);
                model.push_back(round);
            } else {
                assert_eq!(chunks.pop_front(), model.pop_front());
            }
            assert_eq!(chunks.len(), model.len());
            let at = (state >> 20) as usize % (model.len() + 2);
            assert_eq!(chunks.get(at), model.get(at));
            assert_eq!(chunks.get_mut(at), model.get_mut(at));
        }
        assert!(chunks.iter().eq(model.iter()));
        let some = model.get(model.len() / 3).copied().unwrap_or(0);
        assert_eq!(chunks.partition_point(|e| *e < some), model.partition_point(|e| *e < some));
    }
}
