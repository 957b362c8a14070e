//! Checks of sled's files before sled opens them, for what it would not survive.
//!
//! Opening panics when the map of leaves does not add up, loses all when its newest log has gone
//! missing, and silently goes back in time when a log is damaged in the middle or lost its end;
//! reading a leaf that is not where the map says spins for ever. Leaves themselves are checked
//! when read.
//!
//! ```text
//! durability_cookie                 version u16 | rows of a leaf u64 | 0.. | crc32 ^ 0xAF   64 bytes
//! metadata/snapshot_<id>, log_<id>  frames: bytes u48 | crc16 | zstd of changes | crc32 ^ 0xAF
//!   a change to the map             leaf u64 | tree u64 | place u64, 0: gone | bytes u64 | low key
//!   a place                         slab + 1 as the highest byte, slot below it
//! slabs/<slot bytes>                slots: zstd of a leaf | 0.. | bytes | crc32 ^ 0xAF
//! ```
//! A snapshot is one frame and includes all logs up to its id. Only the end of the last log can
//! be torn, since every earlier frame was synced before the next was written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::OpenError;
use super::flushed::{self, Flushed};

const COOKIE: &str = "durability_cookie";
const COOKIE_BYTES: usize = 64;
const FRAME_HEADER_BYTES: usize = 8;
const CRC_BYTES: usize = 4;
const CRC_MASK: u32 = 0xAF;
const SLABS: usize = 78;
/// The tree that holds the names of the others. Opening reads it and panics if it cannot.
const NAMES_TREE: u64 = 0;

/// Checks the engine in `dir`, and mends what a crash may leave that sled would fall over.
/// A folder that never held an opened engine is removed.
pub(super) fn prepare(dir: &Path, leaf_rows: u64) -> Result<(), OpenError> {
    let metadata = Metadata::list(&dir.join("metadata"))?;
    let slabs = slabs(&dir.join("slabs"))?;
    let used = slabs.iter().any(|slab| slab.file_bytes > 0);
    if metadata.snapshot.is_none() && metadata.logs.is_empty() && !used {
        // Whatever there is stems from an opening that a crash cut off.
        return match std::fs::remove_dir_all(dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(OpenError::Io { operation: "remove", path: dir.to_owned(), source })
            }
            _ => Ok(()),
        };
    }
    check_cookie(&dir.join(COOKIE), leaf_rows)?;
    let map = metadata.read(Flushed::load(dir)?)?;
    map.check(&slabs)?;
    metadata.ensure_log()?;
    sync_found(&metadata, &slabs)
}

/// What a process that was killed wrote last may be in memory only. sled takes it for durable and
/// builds on it.
fn sync_found(metadata: &Metadata, slabs: &[Slab]) -> Result<(), OpenError> {
    let snapshot = metadata.snapshot.map(|id| metadata.snapshot_path(id));
    let logs = metadata.logs.iter().map(|id| metadata.log_path(*id));
    let slabs = slabs.iter().map(|slab| slab.path.clone());
    snapshot.into_iter().chain(logs).chain(slabs).try_for_each(|path| sync(&path))
}

/// Makes durable what opening created; it syncs only a part of that.
pub(super) fn sync_files(dir: &Path) -> Result<(), OpenError> {
    for name in [COOKIE, flushed::NAME, "metadata", "slabs", "."] {
        sync(&dir.join(name))?;
    }
    Ok(())
}

fn sync(path: &Path) -> Result<(), OpenError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(io_error("sync", path))
}

fn check_cookie(path: &Path, leaf_rows: u64) -> Result<(), OpenError> {
    let bytes = read(path)?;
    let Ok(bytes) = <[u8; COOKIE_BYTES]>::try_from(bytes) else {
        return Err(damaged(path, "has the wrong length"));
    };
    let (body, crc) = bytes.split_at(COOKIE_BYTES - CRC_BYTES);
    if crc != (crc32fast::hash(body) ^ CRC_MASK).to_le_bytes() {
        return Err(damaged(path, "fails its checksum"));
    }
    if body[..2] != 1_u16.to_le_bytes() || body[2..10] != leaf_rows.to_le_bytes() {
        return Err(damaged(path, "is of another format"));
    }
    Ok(())
}

/// The files of the folder `metadata`.
pub(super) struct Metadata {
    dir: PathBuf,
    snapshot: Option<u64>,
    /// Those not included in the snapshot.
    logs: BTreeSet<u64>,
}

impl Metadata {
    pub(super) fn list(dir: &Path) -> Result<Self, OpenError> {
        let mut snapshots = BTreeSet::new();
        let mut logs = BTreeSet::new();
        for name in names(dir)? {
            let (kind, ids) = match name.split_once('_') {
                Some(("snapshot", id)) => (id, &mut snapshots),
                Some(("log", id)) => (id, &mut logs),
                // Unfinished snapshots, which sled removes, and a warning to users.
                _ if name.ends_with(".tmp") || name.starts_with("DO_NOT") => continue,
                _ => return Err(damaged(&dir.join(name), "does not belong here")),
            };
            if kind.ends_with(".tmp") {
                continue;
            }
            match u64::from_str_radix(kind, 16) {
                Ok(id) if kind.len() == 16 => ids.insert(id),
                _ => return Err(damaged(&dir.join(name), "does not belong here")),
            };
        }
        let snapshot = snapshots.pop_last();
        logs.retain(|log| Some(*log) > snapshot);
        Ok(Self { dir: dir.to_owned(), snapshot, logs })
    }

    /// Reads the map of leaves that sled will find, which must be no older than `flushed`.
    fn read(&self, flushed: Flushed) -> Result<Map, OpenError> {
        let Some(snapshot) = self.snapshot else {
            return Err(damaged(&self.dir, "has no snapshot"));
        };
        if !self.logs.iter().copied().eq(snapshot + 1..=snapshot + self.logs.len() as u64) {
            return Err(damaged(&self.dir, "lacks a log"));
        }
        if flushed > (Flushed { log: snapshot + 1 + self.logs.len() as u64, bytes: 0 }) {
            return Err(damaged(&self.dir, "lacks its newest log"));
        }
        let mut map = Map { dir: self.dir.clone(), leaves: BTreeMap::new() };
        let path = self.snapshot_path(snapshot);
        let bytes = read(&path)?;
        match frame(&bytes) {
            Some((changes, [])) => map.apply(changes)?,
            _ => return Err(damaged(&path, "fails its checksum")),
        }
        for log in &self.logs {
            let path = self.log_path(*log);
            let bytes = read(&path)?;
            let mut rest = &bytes[..];
            while let Some((changes, after)) = frame(rest) {
                map.apply(changes)?;
                rest = after;
            }
            let torn = Some(log) == self.logs.last();
            if !rest.is_empty() && (!torn || (1..rest.len()).any(|at| frame(&rest[at..]).is_some()))
            {
                return Err(damaged(&path, "is damaged in the middle"));
            }
            if *log == flushed.log && ((bytes.len() - rest.len()) as u64) < flushed.bytes {
                return Err(damaged(&path, "lost its end"));
            }
        }
        Ok(map)
    }

    /// Opening without a log deletes the snapshot. That log is empty, and new enough for a power
    /// failure to have taken it back.
    fn ensure_log(&self) -> Result<(), OpenError> {
        if let (Some(snapshot), true) = (self.snapshot, self.logs.is_empty()) {
            let path = self.log_path(snapshot + 1);
            let created = File::create(&path).and_then(|file| file.sync_all());
            created.map_err(io_error("create", &path))?;
            sync(&self.dir)?;
        }
        Ok(())
    }

    fn snapshot_path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("snapshot_{id:016x}"))
    }

    pub(super) fn newest_log(&self) -> Option<u64> {
        self.logs.last().copied()
    }

    pub(super) fn log_path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("log_{id:016x}"))
    }
}

/// The first frame's compressed changes, and what follows it. `None` if there is no valid frame.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let (length, crc) = header.split_at(6);
    if (crc32fast::hash(length) as u16).to_le_bytes() != crc {
        return None;
    }
    let mut length_bytes = [0; 8];
    length_bytes[..6].copy_from_slice(length);
    let length = usize::try_from(u64::from_le_bytes(length_bytes)).ok()?;
    let (changes, rest) = rest.split_at_checked(length)?;
    let (crc, rest) = rest.split_first_chunk::<CRC_BYTES>()?;
    let checked = &bytes[..FRAME_HEADER_BYTES + length];
    let valid = u32::from_le_bytes(*crc) == crc32fast::hash(checked) ^ CRC_MASK;
    valid.then_some((changes, rest))
}

/// Where each leaf is.
struct Map {
    dir: PathBuf,
    leaves: BTreeMap<u64, Leaf>,
}

struct Leaf {
    tree: u64,
    place: u64,
    low_key: Vec<u8>,
}

impl Map {
    fn apply(&mut self, compressed: &[u8]) -> Result<(), OpenError> {
        let changes = zstd::decode_all(compressed)
            .map_err(|error| damaged(&self.dir, &format!("does not decompress: {error}")))?;
        let mut rest = &changes[..];
        while !rest.is_empty() {
            let Some((leaf, change)) = take_change(&mut rest) else {
                return Err(damaged(&self.dir, "has a change that is cut"));
            };
            match change.place {
                0 => self.leaves.remove(&leaf),
                _ => self.leaves.insert(leaf, change),
            };
        }
        Ok(())
    }

    fn check(&self, slabs: &[Slab]) -> Result<(), OpenError> {
        if !self.leaves.is_empty() && slabs.len() != SLABS {
            return Err(damaged(&self.dir, "refers to slabs, some of which are gone"));
        }
        let mut low_keys = BTreeSet::new();
        let mut trees = BTreeSet::new();
        for leaf in self.leaves.values() {
            if !low_keys.insert((leaf.tree, &leaf.low_key)) {
                return Err(damaged(&self.dir, "has two leaves with one low key"));
            }
            trees.insert(leaf.tree);
            let slab = (leaf.place >> 56).checked_sub(1).and_then(|slab| slabs.get(slab as usize));
            let Some(slab) = slab else {
                return Err(damaged(&self.dir, "refers to a slab that cannot be"));
            };
            let slot = leaf.place & ((1 << 56) - 1);
            let end = (slot + 1).checked_mul(slab.slot_bytes);
            if end.is_none_or(|end| end > slab.file_bytes) {
                return Err(damaged(&slab.path, "is too short"));
            }
            if leaf.tree == NAMES_TREE {
                slab.check_leaf(slot, &leaf.low_key)?;
            }
        }
        if let Some(tree) = trees.iter().find(|tree| !low_keys.contains(&(**tree, &Vec::new()))) {
            return Err(damaged(&self.dir, &format!("lacks the first leaf of tree {tree}")));
        }
        Ok(())
    }
}

fn take_change(bytes: &mut &[u8]) -> Option<(u64, Leaf)> {
    let mut number = || {
        let (number, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(u64::from_le_bytes(*number))
    };
    let [leaf, tree, place, key_bytes] = [number()?, number()?, number()?, number()?];
    let (low_key, rest) = bytes.split_at_checked(usize::try_from(key_bytes).ok()?)?;
    *bytes = rest;
    Some((leaf, Leaf { tree, place, low_key: low_key.to_vec() }))
}

/// A file of slots of one size.
struct Slab {
    path: PathBuf,
    slot_bytes: u64,
    file_bytes: u64,
}

impl Slab {
    /// Checks a slot and that it holds the leaf that begins at `low_key`.
    fn check_leaf(&self, slot: u64, low_key: &[u8]) -> Result<(), OpenError> {
        let mut bytes = vec![0; self.slot_bytes as usize];
        let file = File::open(&self.path).map_err(io_error("open", &self.path))?;
        let read = file.read_exact_at(&mut bytes, slot * self.slot_bytes);
        read.map_err(io_error("read", &self.path))?;
        let (body, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
        if crc != (crc32fast::hash(body) ^ CRC_MASK).to_le_bytes() {
            return Err(damaged(&self.path, "has a slot that fails its checksum"));
        }
        // A leaf begins with its low key. The decoder stops at the end of the frame, so the
        // padding behind does not matter.
        let mut start = vec![0; 8 + low_key.len()];
        let decoder = zstd::Decoder::new(body).map(zstd::Decoder::single_frame);
        let decoded = decoder.and_then(|mut decoder| decoder.read_exact(&mut start));
        let (length, key) = start.split_at(8);
        if decoded.is_err() || length != (low_key.len() as u64).to_le_bytes() || key != low_key {
            return Err(damaged(&self.path, "holds another leaf than it should"));
        }
        Ok(())
    }
}

/// The slabs in the order of their slots' sizes, which is how places number them.
fn slabs(dir: &Path) -> Result<Vec<Slab>, OpenError> {
    let mut slabs = Vec::new();
    for name in names(dir)? {
        let path = dir.join(&name);
        let Ok(slot_bytes) = name.parse() else { continue };
        let file_bytes = std::fs::metadata(&path).map_err(io_error("inspect", &path))?.len();
        slabs.push(Slab { path, slot_bytes, file_bytes });
    }
    slabs.sort_by_key(|slab| slab.slot_bytes);
    Ok(slabs)
}

/// The names in a folder; none if it does not exist.
fn names(dir: &Path) -> Result<Vec<String>, OpenError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("list", dir))?,
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()
        .map_err(io_error("list", dir))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged(path, "is missing")),
        bytes => bytes.map_err(io_error("read", path)),
    }
}

pub(super) fn io_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { operation, path: path.to_owned(), source }
}

pub(super) fn damaged(path: &Path, what: &str) -> OpenError {
    OpenError::Damaged(format!("{} {what}", path.display()))
}
