//! For fuzzing: segments whose checksums fit whatever was changed in them. Hardly any change would
//! come further than the first checksum otherwise.

use super::record::{HEADER, measure};
use super::sector::{Key, PAYLOAD, SECTOR, Sector, u32_at, u64_at};
use super::segment;

const KIND: usize = 8;
const KIND_START: u8 = 1;
const KIND_SEAL: u8 = 7;

/// The name of the segment that these bytes say they are.
pub fn name(bytes: &[u8]) -> Option<String> {
    (bytes.len() >= SECTOR).then(|| segment::name(u32_at(bytes, 12)))
}

/// Makes header, sectors and records pass their checks. `chain` is what [`reseal`] returned for
/// the segment before.
pub fn reseal(bytes: &mut [u8], chain: u32) -> u32 {
    if bytes.len() < SECTOR {
        return 0;
    }
    let size = bytes.len() as u64;
    bytes[24..32].copy_from_slice(&size.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..SECTOR - 4]);
    bytes[SECTOR - 4..SECTOR].copy_from_slice(&crc.to_le_bytes());
    let key = Key::new(u64_at(bytes, 16), u32_at(bytes, 12));
    let mut stream = stamp_sectors(bytes, &key);
    let last = stamp_records(&mut stream, &key, chain);
    for (sector, payload) in bytes[SECTOR..].chunks_exact_mut(SECTOR).zip(stream.chunks(PAYLOAD)) {
        sector[..payload.len()].copy_from_slice(payload);
    }
    stamp_sectors(bytes, &key);
    last
}

/// Stamps every sector that has a mark, whatever it is, and returns the stream as far as it goes.
fn stamp_sectors(bytes: &mut [u8], key: &Key) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut ended = false;
    for (sector, number) in bytes[SECTOR..].chunks_exact_mut(SECTOR).zip(1..) {
        let marked = sector[PAYLOAD + 10..].iter().any(|byte| *byte != 0);
        let fill = u16::from_le_bytes([sector[PAYLOAD + 4], sector[PAYLOAD + 5]]);
        if marked {
            key.stamp(sector, number, u32_at(sector, PAYLOAD), fill);
        }
        match key.inspect(sector, number) {
            Sector::Current { fill, .. } if !ended => {
                stream.extend_from_slice(&sector[..usize::from(fill)]);
                ended = usize::from(fill) < PAYLOAD;
            }
            _ => ended = true,
        }
    }
    stream
}

fn stamp_records(stream: &mut [u8], key: &Key, chain: u32) -> u32 {
    let mut offset = 0;
    while let Ok(Some(size)) = measure(&stream[offset..]) {
        let record = &mut stream[offset..offset + size];
        if record[KIND] == KIND_START && size >= HEADER + 4 {
            record[HEADER..HEADER + 4].copy_from_slice(&chain.to_le_bytes());
        }
        let mut hasher = key.hasher(offset as u32);
        hasher.update(&record[4..]);
        let crc = hasher.finalize();
        record[..4].copy_from_slice(&crc.to_le_bytes());
        if record[KIND] == KIND_SEAL {
            return crc;
        }
        offset += size;
    }
    0
}
