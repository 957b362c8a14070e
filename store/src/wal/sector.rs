//! The physical layer: 512-byte sectors that say for themselves whether they belong to this
//! segment, and the buffer that lays the stream of records out over them.

use crc32fast::Hasher;

pub(super) const SECTOR: usize = 512;
/// Bytes of the stream in a sector; the other 16 are its stamp.
pub(super) const PAYLOAD: usize = 496;

const DURABLE: usize = PAYLOAD;
const FILL: usize = PAYLOAD + 4;
const CRC: usize = PAYLOAD + 6;
const MARK: usize = PAYLOAD + 10;
const CHECK: usize = PAYLOAD + 14;

/// What every checksum of a segment is bound to: the log it belongs to and its sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) salt: u64,
    pub(super) sequence: u32,
    seed: u32,
}

/// What a sector of the file turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sector {
    /// Written for this segment. `fill` bytes of the stream; when its group was written the
    /// stream was durable up to `durable`.
    Current { durable: u32, fill: u16 },
    /// Never written for this segment: zeroes, or left over from the file's earlier life.
    Absent,
    /// Neither: no interrupted write of whole sectors leaves this behind.
    Bad,
}

impl Key {
    pub(super) fn new(salt: u64, sequence: u32) -> Self {
        Self { salt, sequence, seed: seed(salt, sequence) }
    }

    /// A hasher bound to a place in this segment: a sector number or an offset in the stream.
    pub(super) fn hasher(&self, place: u32) -> Hasher {
        Hasher::new_with_initial(self.seed ^ place)
    }

    pub(super) fn stamp(&self, sector: &mut [u8], number: u32, durable: u32, fill: u16) {
        sector[DURABLE..FILL].copy_from_slice(&durable.to_le_bytes());
        sector[FILL..CRC].copy_from_slice(&fill.to_le_bytes());
        let mut hasher = self.hasher(number);
        hasher.update(&sector[..CRC]);
        sector[CRC..MARK].copy_from_slice(&hasher.finalize().to_le_bytes());
        sector[MARK..CHECK].copy_from_slice(&self.sequence.to_le_bytes());
        sector[CHECK..].copy_from_slice(&fold(self.seed).to_le_bytes());
    }

    pub(super) fn inspect(&self, sector: &[u8], number: u32) -> Sector {
        let mark = u32_at(sector, MARK);
        let check = u16::from_le_bytes([sector[CHECK], sector[CHECK + 1]]);
        if mark == 0 && check == 0 {
            return Sector::Absent;
        }
        if mark < self.sequence && mark > 0 && check == fold(seed(self.salt, mark)) {
            return Sector::Absent;
        }
        // With a damaged mark over sound contents there is nothing to complain about.
        let mut hasher = self.hasher(number);
        hasher.update(&sector[..CRC]);
        if hasher.finalize() != u32_at(sector, CRC) {
            return Sector::Bad;
        }
        let fill = u16::from_le_bytes([sector[FILL], sector[FILL + 1]]);
        if fill == 0 || usize::from(fill) > PAYLOAD {
            return Sector::Bad;
        }
        Sector::Current { durable: u32_at(sector, DURABLE), fill }
    }
}

fn seed(salt: u64, sequence: u32) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.finalize()
}

fn fold(seed: u32) -> u16 {
    (seed ^ (seed >> 16)) as u16
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// The sector (0 is the header) that holds this offset of the stream.
pub(super) fn sector_of(offset: u32) -> u32 {
    offset / PAYLOAD as u32 + 1
}

/// The place in the file of this offset of the stream.
pub(super) fn file_offset(offset: u32) -> u64 {
    u64::from(sector_of(offset)) * SECTOR as u64 + u64::from(offset) % PAYLOAD as u64
}

/// Bytes of the stream that a segment file of this size can hold.
pub(super) fn capacity(file_bytes: u64) -> u32 {
    let sectors = (file_bytes / SECTOR as u64).saturating_sub(1);
    u32::try_from(sectors * PAYLOAD as u64).unwrap_or(u32::MAX)
}

/// The sectors of the group being written. Begins with the last sector of the group before if
/// that was not full: it is written again, its old bytes unchanged.
pub(super) struct Frames {
    buffer: Vec<u8>,
    /// The sector at the start of `buffer`.
    first: u32,
    /// End of the stream so far.
    position: u32,
    /// Where the group began; everything before is durable when the group is written.
    durable: u32,
}

impl Frames {
    /// Goes on after `position`; `tail` is what the stream holds in the sector of `position`.
    pub(super) fn resume(position: u32, tail: &[u8]) -> Self {
        assert_eq!(position as usize % PAYLOAD, tail.len(), "the tail reaches to the position");
        let first = sector_of(position);
        Self { buffer: tail.to_vec(), first, position, durable: position }
    }

    /// Begins another segment; everything put so far has been written.
    pub(super) fn restart(&mut self) {
        self.buffer.clear();
        (self.first, self.position, self.durable) = (1, 0, 0);
    }

    pub(super) fn position(&self) -> u32 {
        self.position
    }

    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn begin_group(&mut self) {
        self.durable = self.position;
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = bytes.len().min(PAYLOAD - self.position as usize % PAYLOAD);
            self.buffer.extend_from_slice(&bytes[..count]);
            self.position += count as u32;
            bytes = &bytes[count..];
            if (self.position as usize).is_multiple_of(PAYLOAD) {
                self.buffer.extend_from_slice(&[0; SECTOR - PAYLOAD]);
            }
        }
    }

    /// Stamps what there is: whole sectors only, or also the one begun. Returns the bytes and
    /// their offset in the file.
    pub(super) fn stamped(&mut self, key: &Key, last: LastSector) -> (&[u8], u64) {
        let fill = self.position as usize % PAYLOAD;
        let mut length = self.buffer.len() / SECTOR * SECTOR;
        if fill > 0 && last == LastSector::Included {
            length += SECTOR;
            self.buffer.resize(length, 0);
        }
        for (sector, number) in self.buffer[..length].chunks_exact_mut(SECTOR).zip(self.first..) {
            let begin = (number - 1) * PAYLOAD as u32;
            let fill = (self.position - begin).min(PAYLOAD as u32);
            key.stamp(sector, number, self.durable, fill as u16);
        }
        (&self.buffer[..length], u64::from(self.first) * SECTOR as u64)
    }

    /// Forgets what has been written, except for the sector begun.
    pub(super) fn written(&mut self, buffer_max: usize) {
        let fill = self.position as usize % PAYLOAD;
        let number = sector_of(self.position);
        let begin = (number - self.first) as usize * SECTOR;
        self.buffer.copy_within(begin..begin + fill, 0);
        self.buffer.truncate(fill);
        self.buffer.shrink_to(buffer_max);
        self.first = number;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LastSector {
    Included,
    LeftOut,
}
