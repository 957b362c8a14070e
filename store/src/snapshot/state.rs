//! What a snapshot says, apart from the file format.

use proto::internal::Membership;

use crate::mvcc::{Lease, Tables};
use crate::{LogId, Revision};

/// Everything but the history of the keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The last log entry whose effect is included. Default if the file does not come from a
    /// running member: etcd's `restore` and `migrate` write such files.
    pub applied: LogId,
    /// Who votes, and the entry that said so. `None` in a file that etcd wrote.
    pub membership: Option<(LogId, Membership)>,
    /// Up to where a compaction was ordered, and up to where its rows are gone. `None`: never.
    pub compaction_scheduled: Option<i64>,
    pub compaction_finished: Option<i64>,
    /// In the order of their bucket.
    pub leases: Vec<Lease>,
    /// All other buckets but `key` and `meta`, as etcd stores them. None is empty.
    pub tables: Tables,
}

/// One version of a key: a record of the bucket `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    pub revision: Revision,
    pub tombstone: bool,
    /// The encoded `mvccpb.KeyValue`; a tombstone has only the key.
    pub value: &'a [u8],
}
