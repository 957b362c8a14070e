//! The log: one ordered stream of records, the only thing a member has to write before it
//! acknowledges. Everything else on disk can be rebuilt from it and a snapshot file.
//!
//! # Path of a record
//! [`Wal::append`] puts entries into the cache, where they can be read at once, and into the
//! queue. The thread `kvd-log` takes the whole queue, lays it out over sectors, writes with one
//! call, syncs once, and reports, newest first. There is no timer: under load the queue fills
//! while the disk works. The first error ends the log; nothing is ever written or synced again
//! after a failure. The thread `kvd-log-prep` makes the next segment ahead of time, so that a
//! full disk is met while writes can still be refused ([`Wal::room`]).
//!
//! # Bytes
//! All numbers are little-endian. A segment file `wal/<sequence, 8 hex digits>.wal` (named by
//! sequence and not by first index, because after a truncation two segments may begin at the same
//! index, and so that it can be made before its first index is known):
//! ```text
//! file     | header | sector 1 | sector 2 | ...                  512 bytes each, 16 MiB in all
//! header   magic 8 | format 4 | sequence 4 | salt 8 | file size 8 | zeroes | crc 4
//! sector   stream 496 | durable 4 | fill 2 | crc 4 | sequence 4 | check of salt and sequence 2
//! stream   | Start | record | record | ... | Seal                 records cross sector borders
//! record   crc 4 | body length 4 | kind 1 | body
//!   Start      chain 4 | committed 16 | purged 16 | last 16 | has vote 1 | vote
//!   Entry      term 8 | index 8 | payload          Vote       bytes
//!   Truncate   term 8 | index 8 (the new last)     Purge      term 8 | index 8 (inclusive)
//!   Committed  term 8 | index 8                    Seal       nothing: the segment is complete
//! ```
//! - `salt` names the log, `sequence` counts its segments. The crc of a sector is bound to salt,
//!   sequence and sector number, that of a record to salt, sequence and offset in the stream:
//!   bytes left in a recycled file, or of another log, never pass.
//! - `fill` counts the stream's bytes in a sector. Only the last is not full; the next group
//!   writes it again, with its old bytes unchanged.
//! - `durable` is the offset in the stream where the group began that wrote the sector. The
//!   writer syncs each group before it writes the next, so everything before it was durable.
//! - A group that does not fit goes on in the next segment; a record never crosses segments. One
//!   too large for any gets a segment of its own size.
//! - `chain` is the crc of the Seal before: a segment of other history does not follow. Start
//!   repeats vote, marks and last entry, so segments before it can go at any time.
//! - Rolling over: (1) the next file exists under its name, with its header, synced, directory
//!   too; (2) Seal is written and synced; (3) the first group goes to the next file. So a closed
//!   segment without a next one, or a used segment behind one that is not closed, is damage.
//! - Purged files are renamed, the directory synced, and only then do they get a new header.
//!
//! # What is assumed of the disk
//! 1. After a power cut each 512-byte sector written since the last successful sync holds what it
//!    held before or what was written, in any combination across sectors.
//! 2. What a successful `fdatasync` covered stays, also while sectors beside it are written, until
//!    the medium decays; then a sector holds anything.
//! 3. Name changes become durable in order, at the latest with the directory's sync.
//!
//! # Torn or damaged
//! Reading a segment stops at the first sector that is not [Current](sector::Sector), or not full.
//! Let `end` be the end of the last whole record before it.
//! - *A torn group leaves only whole sectors, old or new* (1). Old ones are zero or carry the mark
//!   of an earlier sequence: Absent. A sector that is neither Current nor Absent is Bad: it was
//!   written and has decayed. If the stream runs into one, the member refuses to start. This is
//!   what tells a flipped bit in the last acknowledged group from a torn write.
//! - *A Current sector whose `durable` is beyond `end`* proves that something durable is missing:
//!   refuse. So damage is noticed wherever a later group was written, a whole lost sector included.
//! - Otherwise all Current sectors that stand behind `end` come from one group that began at or
//!   before `end` and lacks a sector, so its sync never succeeded and nobody was told: it is torn.
//!   The whole records before the gap are kept (they were never acknowledged, but may stay), the
//!   sectors behind are zeroed, so that no later group can be taken to continue into them.
//! - Before anything is built on the result, the last group is written again and synced: it may
//!   have been read from memory after a crash between write and sync, or after a failed sync. The
//!   repair itself can be cut off anywhere: marks never move forward, so it is judged the same.
//!
//! In every segment but the last nothing may be missing at all.
//!
//! # CAVEATS
//! - Groups at the end of the last segment that the disk lost entirely, all of them, after
//!   acknowledging their sync cannot be noticed here; the members' agreement can. The same holds
//!   for a last segment deleted together with the Seal before it.
//! - Records are not encrypted.

mod cache;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod index;
mod log;
mod read;
mod record;
mod recover;
mod repair;
mod replay;
mod reserve;
mod scan;
mod sector;
mod segment;
mod shared;
mod stats;
mod writer;

pub use log::{Completion, Recovered, Room, Wal, WalOptions};
pub use stats::{FLUSH_BUCKETS_US, Histogram, WalStats};

use std::path::Path;

use crate::Fatal;

/// Files of purged segments kept for the next ones.
const RECYCLED_MAX: usize = 2;

const REMEDY: &str = "Nothing was changed. In a cluster: remove this member, add it again and \
                      start it with an empty data directory. A single member: restore it from \
                      its last snapshot file or backup";

fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Fatal {
    Fatal::Damaged { path: path.to_owned(), offset, what: what.into(), remedy: REMEDY.into() }
}

#[cfg(test)]
mod tests;
