//! Applies records in order to what is known about the log, and notices when they do not follow
//! from each other.

use crate::{Fatal, LogId};

use super::damaged;
use super::index::{PointMaker, Points, Terms};
use super::record::{Decoded, Record, State};
use super::segment::Segment;

#[derive(Default)]
pub(super) struct Replay {
    pub(super) state: State,
    pub(super) points: Points,
    pub(super) terms: Terms,
    /// Goes over to the writer: the log may end with a truncation.
    pub(super) maker: PointMaker,
    /// Checksum of the record that closed the last segment.
    pub(super) chain: u32,
    /// The last entry before the first segment.
    base: Option<LogId>,
}

impl Replay {
    /// Returns whether the record closes the segment.
    pub(super) fn apply(
        &mut self,
        decoded: Decoded<'_>,
        segment: &Segment,
        offset: u32,
    ) -> Result<bool, String> {
        let record = decoded.record;
        if (offset == 0) != matches!(record, Record::Start { .. }) {
            return Err("a segment must begin with its opening record, and have only one".into());
        }
        match record {
            Record::Start { chain, state } => self.start(chain, *state)?,
            Record::Entry { id, .. } => self.entry(id, segment, offset)?,
            Record::Vote(vote) => self.state.vote = Some(vote.to_vec()),
            Record::Truncate(id) => self.truncate(id)?,
            Record::Purge(id) => self.purge(id)?,
            Record::Committed(id) => self.state.committed = id,
            Record::Seal => {
                self.chain = decoded.crc;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All entries after `purged` must be there.
    pub(super) fn finish(&self, first: &Segment) -> Result<(), Fatal> {
        let Some(base) = self.base else {
            return if first.sequence() == 1 {
                Ok(())
            } else {
                Err(damaged(&first.path, 0, "the segments before it are missing"))
            };
        };
        if base.index > self.state.purged.index {
            let what = format!(
                "the segments before it are missing: they held entries {} to {}",
                self.state.purged.index + 1,
                base.index
            );
            return Err(damaged(&first.path, 0, what));
        }
        Ok(())
    }

    fn start(&mut self, chain: u32, state: State) -> Result<(), String> {
        if state.purged.index > state.last.index {
            return Err(format!("a log up to {} is purged up to {}", state.last, state.purged));
        }
        if self.base.is_none() {
            self.base = Some(state.last);
            if state.last.index > 0 {
                self.terms.push(state.last);
            }
            self.state = state;
        } else if chain != self.chain || state != self.state {
            return Err("it does not continue the segment before it".into());
        }
        self.maker.begin_segment();
        Ok(())
    }

    fn entry(&mut self, id: LogId, segment: &Segment, offset: u32) -> Result<(), String> {
        let last = self.state.last;
        if Some(id.index) != last.index.checked_add(1) || id.term < last.term {
            return Err(format!("entry {id} follows entry {last}"));
        }
        self.state.last = id;
        self.terms.push(id);
        segment.saw_index(id.index);
        if let Some(point) = self.maker.point(id.index, segment.sequence(), offset) {
            self.points.push(point);
        }
        Ok(())
    }

    fn truncate(&mut self, id: LogId) -> Result<(), String> {
        if id.index > self.state.last.index || id.index < self.state.purged.index {
            return Err(format!("the log up to {} is truncated after {id}", self.state.last));
        }
        self.state.last = id;
        self.terms.truncate_after(id.index);
        if id.index > 0 {
            self.terms.push(id);
        }
        self.points.truncate_after(id.index);
        self.maker.interrupt();
        Ok(())
    }

    fn purge(&mut self, id: LogId) -> Result<(), String> {
        if id.index < self.state.purged.index {
            return Err(format!("a log purged up to {} is purged up to {id}", self.state.purged));
        }
        self.state.purged = id;
        if id.index >= self.state.last.index {
            self.state.last = id;
            self.terms.clear();
            self.maker.interrupt();
        } else {
            self.terms.purge(id.index);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> LogId {
        LogId { term: 1, index }
    }

    /// Entries that were appended behind it would never be read.
    #[test]
    fn a_log_is_not_purged_beyond_its_end() {
        let start = |purged, last| {
            let state = State { purged: id(purged), last: id(last), ..State::default() };
            Replay::default().start(0, state)
        };
        assert!(start(37, 0).is_err());
        assert_eq!((start(37, 37), start(0, 37)), (Ok(()), Ok(())));
    }
}
