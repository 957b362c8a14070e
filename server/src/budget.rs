//! Memory that clients make this member hold, counted over all connections, with a bound for each
//! kind. What would go beyond is refused with etcd's "too many requests"; whoever asks alone gets
//! what it asks for, however much that is.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tonic::Status;

use crate::limits;

/// Bytes of messages that have not come whole.
pub static REQUESTS: Budget = Budget::new(limits::UNFINISHED_BYTES_MAX);
/// Bytes of answers that were read and not sent.
pub static ANSWERS: Budget = Budget::new(limits::ANSWER_BYTES_MAX);
/// Bytes of answers that the HTTP library has and has not written.
pub static SENDING: Budget = Budget::new(limits::SENDING_BYTES_MAX);
/// Streams of clients that are open.
pub static STREAMS: Budget = Budget::new(limits::STREAMS_MAX);
/// What streams keep to read their messages into.
pub static READ_BUFFERS: Budget = Budget::new(limits::READ_BUFFERS_BYTES_MAX);
/// Bytes of watchers, with their keys.
pub static WATCHERS: Budget = Budget::new(limits::WATCHER_BYTES_MAX);

/// Snapshots that are being read.
pub static SNAPSHOTS: Budget = Budget::new(limits::SNAPSHOT_READERS_MAX);

pub struct Budget {
    used: AtomicUsize,
    max: usize,
}

/// A part of a budget, given back when it is dropped.
pub struct Claim {
    budget: &'static Budget,
    size: usize,
}

/// There is no room for more at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl From<Exhausted> for Status {
    fn from(Exhausted: Exhausted) -> Status {
        Status::resource_exhausted("etcdserver: too many requests")
    }
}

impl Budget {
    const fn new(max: usize) -> Budget {
        Budget { used: AtomicUsize::new(0), max }
    }

    /// Whether more was taken than there is.
    pub fn is_exceeded(&self) -> bool {
        self.used.load(Relaxed) > self.max
    }

    /// The same by so much that it does not help to be told.
    pub fn is_far_exceeded(&self) -> bool {
        self.used.load(Relaxed) > 2 * self.max
    }

    /// A claim of nothing yet.
    pub fn claim(&'static self) -> Claim {
        Claim { budget: self, size: 0 }
    }
}

impl Claim {
    pub fn size(&self) -> usize {
        self.size
    }

    /// Makes it as large as this. One that cannot be larger stays as it was, and takes nothing from
    /// others meanwhile.
    pub fn resize(&mut self, size: usize) -> Result<(), Exhausted> {
        let Budget { used, max } = self.budget;
        let resized = used.fetch_update(Relaxed, Relaxed, |all| {
            let others = all - self.size;
            let fits = size <= self.size || others == 0 || others.saturating_add(size) <= *max;
            fits.then(|| others.saturating_add(size))
        });
        resized.map_err(|_| Exhausted)?;
        self.size = size;
        Ok(())
    }

    /// Makes it as large as this, whatever room there is.
    pub fn take(&mut self, size: usize) {
        self.budget.used.fetch_add(size, Relaxed);
        self.budget.used.fetch_sub(self.size, Relaxed);
        self.size = size;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.size, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TEN: Budget = Budget::new(10);

    #[test]
    fn together_they_stay_within_it_and_one_alone_may_pass_it() {
        let (mut one, mut two) = (TEN.claim(), TEN.claim());
        assert_eq!(one.resize(4), Ok(()));
        assert_eq!(two.resize(6), Ok(()));
        assert_eq!(two.resize(7), Err(Exhausted));
        assert_eq!((two.size(), one.resize(3)), (6, Ok(())));
        assert_eq!(two.resize(7), Ok(()));
        drop(one);
        assert_eq!(two.resize(100), Ok(()));
        let mut three = TEN.claim();
        assert_eq!(three.resize(1), Err(Exhausted));
        drop(two);
        assert_eq!(three.resize(10), Ok(()));
        drop(three);
        assert_eq!(TEN.used.load(Relaxed), 0);
    }
}
