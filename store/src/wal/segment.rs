//! A segment file: its name, its header, and how a new one comes to be.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{Disk, DiskFile, write_all_at};

use super::sector::{Key, SECTOR, capacity, u32_at, u64_at};

/// The format this code writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"kvdlog\r\n";
const CRC: usize = SECTOR - 4;
/// A new file is zero-filled in pieces, each synced: one large sync would stall the log's own.
const FILL_BYTES: usize = 1 << 20;
/// No segment is smaller, and every size is a multiple of it.
pub(super) const SIZE_UNIT: u64 = 4096;

pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) key: Key,
    pub(super) file: Arc<dyn DiskFile>,
    /// Size of the file.
    pub(super) bytes: u64,
    /// The file was a segment before.
    pub(super) recycled: bool,
    /// The highest index of any entry in it, truncated ones included.
    index_max: AtomicU64,
}

impl Segment {
    pub(super) fn new(path: PathBuf, header: &Header, file: Arc<dyn DiskFile>) -> Self {
        let key = Key::new(header.salt, header.sequence);
        let index_max = AtomicU64::new(0);
        Self { path, key, file, bytes: header.bytes, recycled: false, index_max }
    }

    pub(super) fn sequence(&self) -> u32 {
        self.key.sequence
    }

    pub(super) fn capacity(&self) -> u32 {
        capacity(self.bytes)
    }

    pub(super) fn index_max(&self) -> u64 {
        self.index_max.load(Ordering::Relaxed)
    }

    pub(super) fn saw_index(&self, index: u64) {
        self.index_max.fetch_max(index, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) salt: u64,
    pub(super) sequence: u32,
    pub(super) bytes: u64,
}

/// Why a header cannot be used.
#[derive(Debug)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    Newer(u32),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        sector[..8].copy_from_slice(MAGIC);
        sector[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        sector[12..16].copy_from_slice(&self.sequence.to_le_bytes());
        sector[16..24].copy_from_slice(&self.salt.to_le_bytes());
        sector[24..32].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = crc32fast::hash(&sector[..CRC]);
        sector[CRC..].copy_from_slice(&crc.to_le_bytes());
        sector
    }

    pub(super) fn decode(sector: &[u8]) -> Result<Self, BadHeader> {
        if sector.len() < SECTOR {
            return Err(BadHeader::Damaged("the file is too short for a segment header"));
        }
        if &sector[..8] != MAGIC {
            return Err(BadHeader::Damaged("the segment header does not begin as it must"));
        }
        if crc32fast::hash(&sector[..CRC]) != u32_at(sector, CRC) {
            return Err(BadHeader::Damaged("the checksum of the segment header does not match"));
        }
        let format = u32_at(sector, 8);
        if format > FORMAT {
            return Err(BadHeader::Newer(format));
        }
        let (sequence, salt) = (u32_at(sector, 12), u64_at(sector, 16));
        Ok(Self { salt, sequence, bytes: u64_at(sector, 24) })
    }
}

/// The name of a segment in use or prepared.
pub(super) fn name(sequence: u32) -> String {
    format!("{sequence:08x}.wal")
}

pub(super) fn parse_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".wal")?;
    let sequence = u32::from_str_radix(digits, 16).ok()?;
    (self::name(sequence) == name).then_some(sequence)
}

/// A file being made; useless after a crash.
pub(super) fn new_name(sequence: u32) -> String {
    format!("new-{sequence:08x}.tmp")
}

/// A file that was a segment and will be one again.
pub(super) fn recycled_name(sequence: u32) -> String {
    format!("recycled-{sequence:08x}.tmp")
}

/// Makes a segment ready for records under its final name, durably. `recycled` is a file of the
/// same size and the same log; its old sectors are left, they cannot pass for new ones.
pub(super) fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    header: &Header,
    recycled: Option<&Path>,
) -> io::Result<Segment> {
    let path = dir.join(name(header.sequence));
    let temporary = recycled.map_or_else(|| dir.join(new_name(header.sequence)), Path::to_owned);
    let result = (|| {
        let file = match recycled {
            Some(_) => disk.open(&temporary)?,
            None => zero_filled(disk, &temporary, header.bytes)?,
        };
        write_all_at(&*file, &header.encode(), 0)?;
        file.sync()?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(dir)?;
        let segment = Segment::new(path.clone(), header, file);
        Ok(Segment { recycled: recycled.is_some(), ..segment })
    })();
    if result.is_err() {
        // Gives the space back if it can; what stays is swept at the next start. A file whose
        // sync failed is never used again.
        for leftover in [&temporary, &path] {
            let _ = disk.remove(leftover);
        }
    }
    result
}

fn zero_filled(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = match disk.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(path)?;
            disk.create(path)?
        }
        other => other?,
    };
    // Finds out first whether there is room, instead of filling the disk to the brim.
    file.allocate(bytes)?;
    let zeroes = vec![0; FILL_BYTES.min(bytes as usize)];
    let mut offset = 0;
    while offset < bytes {
        let count = zeroes.len().min((bytes - offset) as usize);
        write_all_at(&*file, &zeroes[..count], offset)?;
        file.sync()?;
        offset += count as u64;
    }
    Ok(file)
}
