//! What a snapshot file holds, in the figures that etcd's tools print.

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;
use proto::KeyValue;

use super::bolt::{Bolt, BucketRoot, Item};
use super::buckets::{self, meta};
use crate::Fatal;

/// The content of a snapshot file in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C of the names of all buckets and of all that is in them.
    pub hash: u32,
    /// Of the last change.
    pub revision: i64,
    /// Keys that are there at that revision.
    pub live_keys: u64,
    pub image_bytes: u64,
    /// Of etcd's storage format; empty before 3.6.
    pub storage_version: String,
}

impl Status {
    /// Reads all of the file at `path`: a snapshot, whose checksum is compared, or a database of
    /// etcd's, which has none.
    ///
    /// # Errors
    /// [`Fatal::Damaged`] when the file is not what was saved, or is no snapshot.
    pub fn of(path: &Path) -> Result<Self, Fatal> {
        let bolt = Bolt::open(path)?;
        if bolt.has_sha() {
            bolt.verify_sha()?;
        }
        let mut status = Self {
            hash: 0,
            revision: 0,
            live_keys: 0,
            image_bytes: bolt.used_bytes(),
            storage_version: String::new(),
        };
        let mut root = bolt.root()?;
        while let Some(item) = root.next()? {
            let Item::Bucket { name, root } = item else {
                return Err(bolt.damaged(0, "there is a row outside of all buckets".into()));
            };
            status.add(name);
            if name == buckets::KEY.as_bytes() {
                status.add_changes(&bolt, root)?;
            } else {
                let is_meta = name == buckets::META.as_bytes();
                status.add_table(&bolt, root, is_meta)?;
            }
        }
        Ok(status)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hash = crc32c::crc32c_append(self.hash, bytes);
    }

    fn add_changes(&mut self, bolt: &Bolt, root: BucketRoot) -> Result<(), Fatal> {
        let mut live = BTreeSet::new();
        let mut rows = bolt.rows(root)?;
        while let Some(item) = rows.next()? {
            let Item::Row { key, value } = item else {
                return Err(bolt.damaged(0, "there is a bucket in the bucket key".into()));
            };
            self.add(key);
            self.add(value);
            let (revision, tombstone) = buckets::decode_revision(key)
                .ok_or_else(|| bolt.damaged(0, format!("{key:02x?} is no revision")))?;
            self.revision = revision.main;
            let change = KeyValue::decode(value)
                .map_err(|_| bolt.damaged(0, format!("revision {} holds no key", revision.main)))?;
            if tombstone {
                live.remove(&change.key);
            } else {
                live.insert(change.key);
            }
        }
        self.live_keys = live.len() as u64;
        Ok(())
    }

    fn add_table(&mut self, bolt: &Bolt, root: BucketRoot, is_meta: bool) -> Result<(), Fatal> {
        let mut rows = bolt.rows(root)?;
        while let Some(item) = rows.next()? {
            match item {
                Item::Row { key, value } => {
                    self.add(key);
                    self.add(value);
                    if is_meta && key == meta::STORAGE_VERSION {
                        self.storage_version = String::from_utf8_lossy(value).into_owned();
                    }
                }
                Item::Bucket { name, .. } => self.add(name),
            }
        }
        Ok(())
    }
}
