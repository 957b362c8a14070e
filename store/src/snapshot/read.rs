//! Reads a snapshot file: ours or etcd's.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::bolt::{Bolt, BucketRoot, Item, Rows};
use super::buckets::{self, meta};
use super::{Change, State};
use crate::mvcc::{Lease, Tables};
use crate::{Fatal, LogId, Revision};

/// What to do about the SHA-256 at the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Verify,
    /// For a database file copied from etcd's data directory, which has none.
    Skip,
}

/// An open snapshot file, its small tables in memory.
pub struct Snapshot {
    bolt: Bolt,
    state: State,
    key: Option<BucketRoot>,
}

impl Snapshot {
    /// Opens `path`, and reads all of it once to compare the checksum.
    ///
    /// # Errors
    /// [`Fatal::Damaged`] when the file is not what was saved, or is no snapshot.
    pub fn open(path: &Path, checksum: Checksum) -> Result<Self, Fatal> {
        let bolt = Bolt::open(path)?;
        if checksum == Checksum::Verify {
            bolt.verify_sha()?;
        }
        let mut roots = BTreeMap::new();
        let mut root = bolt.root()?;
        while let Some(item) = root.next()? {
            if let Item::Bucket { name, root } = item {
                let name = std::str::from_utf8(name)
                    .map_err(|_| bolt.damaged(0, "a bucket's name is not text".into()))?;
                roots.insert(name.to_owned(), root);
            }
        }
        let key = roots.remove(buckets::KEY);
        let meta = match roots.remove(buckets::META) {
            Some(root) => read_table(&bolt, root)?,
            None => BTreeMap::new(),
        };
        let mut state = state_of(&bolt, &meta)?;
        if let Some(root) = roots.remove(buckets::LEASE) {
            for (key, value) in read_table(&bolt, root)? {
                let lease = Lease::from_bucket(&key, &value);
                let damaged = || bolt.damaged(0, "a row of the bucket lease is malformed".into());
                state.leases.push(lease.ok_or_else(damaged)?);
            }
        }
        for (name, root) in roots {
            let table = read_table(&bolt, root)?;
            if !table.is_empty() {
                state.tables.insert(name, table);
            }
        }
        Ok(Self { bolt, state, key })
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn damaged(&self, what: &str) -> Fatal {
        self.bolt.damaged(0, what.into())
    }

    /// Whether the file ends in a checksum.
    pub fn has_checksum(&self) -> bool {
        self.bolt.has_sha()
    }

    /// Size of the image, without the checksum.
    pub fn image_bytes(&self) -> u64 {
        self.bolt.image_bytes()
    }

    /// The history of all keys, oldest change first.
    pub fn changes(&self) -> Result<Changes<'_>, Fatal> {
        let rows = self.key.clone().map(|root| self.bolt.rows(root)).transpose()?;
        Ok(Changes { bolt: &self.bolt, rows, last: None })
    }
}

/// A cursor over the bucket `key`.
pub struct Changes<'a> {
    bolt: &'a Bolt,
    rows: Option<Rows<'a>>,
    last: Option<Revision>,
}

impl Changes<'_> {
    // Lends what it returns, so it cannot be an `Iterator`.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Change<'_>>, Fatal> {
        let Some(rows) = &mut self.rows else { return Ok(None) };
        match rows.next()? {
            None => Ok(None),
            Some(Item::Row { key, value }) => {
                let (revision, tombstone) = buckets::decode_revision(key)
                    .filter(|(revision, _)| self.last.is_none_or(|last| last < *revision))
                    .ok_or_else(|| {
                        self.bolt.damaged(0, format!("{key:02x?} is no revision, or one twice"))
                    })?;
                self.last = Some(revision);
                Ok(Some(Change { revision, tombstone, value }))
            }
            Some(Item::Bucket { .. }) => {
                Err(self.bolt.damaged(0, "there is a bucket in the bucket key".into()))
            }
        }
    }
}

fn read_table(bolt: &Bolt, root: BucketRoot) -> Result<BTreeMap<Bytes, Bytes>, Fatal> {
    let mut table = BTreeMap::new();
    let mut rows = bolt.rows(root)?;
    while let Some(item) = rows.next()? {
        // etcd's buckets are flat; what lies deeper is not etcd's.
        if let Item::Row { key, value } = item {
            table.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        }
    }
    Ok(table)
}

fn state_of(bolt: &Bolt, rows: &BTreeMap<Bytes, Bytes>) -> Result<State, Fatal> {
    let damaged = |key: &[u8]| {
        let key = String::from_utf8_lossy(key);
        bolt.damaged(0, format!("the value of {key} is malformed"))
    };
    let number = |key: &'static [u8]| -> Result<u64, Fatal> {
        match rows.get(key) {
            None => Ok(0),
            Some(value) => {
                let bytes = value[..].try_into().map_err(|_| damaged(key))?;
                Ok(u64::from_be_bytes(bytes))
            }
        }
    };
    let mark = |key: &'static [u8]| -> Result<Option<i64>, Fatal> {
        match rows.get(key) {
            None => Ok(None),
            Some(value) => match buckets::decode_revision(value) {
                Some((revision, false)) => Ok(Some(revision.main)),
                _ => Err(damaged(key)),
            },
        }
    };
    let membership = match rows.get(meta::MEMBERSHIP) {
        None => None,
        Some(value) => {
            let membership = buckets::decode_membership(value);
            Some(membership.ok_or_else(|| damaged(meta::MEMBERSHIP))?)
        }
    };
    Ok(State {
        applied: LogId { term: number(meta::APPLIED_TERM)?, index: number(meta::APPLIED_INDEX)? },
        membership,
        compaction_scheduled: mark(meta::COMPACTION_SCHEDULED)?,
        compaction_finished: mark(meta::COMPACTION_FINISHED)?,
        leases: Vec::new(),
        tables: Tables::new(),
    })
}
