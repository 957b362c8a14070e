//! Watch: every change of a key, in order, to whoever asked for it.
//!
//! ```text
//!  apply thread            one lane per gRPC runtime              one subscription per stream
//!  Hub::publish(run) ──►  Lane::run: match the run against  ──►  Subscription::poll_response:
//!   ring of recent runs    the index of synced watchers,          its queue, or a step of catching
//!   ring the lanes' bells  fill the queues of their streams       up from the ring or from history
//! ```
//!
//! Applying pays for one pointer a run. A lane does the matching, once a run for all its streams,
//! on the runtime its streams live on. A **synced** watcher is in the lane's index: everything up
//! to the lane's cursor is in its stream's queue. A **lagging** one (it starts in the past, or its
//! reader is slow and the queue is full) is not: it knows the next revision it needs, and the
//! stream reads that from the ring or the store when its reader takes responses. So nothing is
//! read, and no memory held, for a reader that does not read; what a stream holds is bounded by
//! its queue and one batch.
//!
//! # Invariants
//! - A watcher's events reach its stream in revision order, each once: a lagging watcher resumes at
//!   exactly the first revision that found no room, and only when everything queued for it before
//!   has been taken.
//! - The events of a revision are in one response. Only a watcher that asked for fragments sees
//!   more, and the service does that at the last moment.
//! - A progress response with revision R is behind all events up to R in the stream's queue.
//! - A lock held by the apply thread (the ring's) is never held while matching, reading or waiting.
//!
//! # Caveats
//! - Steps through history read the engine on the runtime of the stream. They are bounded
//!   ([`Limits`]), but on a cold disk one takes as long as its pages.

mod index;
mod interval;
mod ring;
mod source;

mod hub;
mod lane;
mod stream;
mod watcher;

mod catch_up;
mod requests;
mod subscription;

#[cfg(test)]
pub(crate) mod tests;

#[cfg(test)]
pub use hub::Stats;
pub use hub::{Hub, Limits};
pub use lane::Lane;
pub use requests::NO_ROOM;
#[cfg(test)]
pub use source::HistorySource;
pub use stream::Outgoing;
pub use subscription::Subscription;
pub use watcher::bytes_of;
