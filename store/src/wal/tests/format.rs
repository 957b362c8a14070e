//! The bytes on disk, written out: a change here is a new format.

use crate::wal::record::{Record, State, decode};
use crate::wal::sector::{Frames, Key, LastSector, SECTOR, Sector};
use crate::wal::segment::Header;

use super::*;

#[test]
fn the_bytes_of_format_1() {
    let header = Header { salt: 0x1122_3344_5566_7788, sequence: 3, bytes: 4096 }.encode();
    let mut expected = b"kvdlog\r\n\x01\0\0\0\x03\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11".to_vec();
    expected.extend_from_slice(b"\0\x10\0\0\0\0\0\0");
    assert_eq!(&header[..32], expected);
    assert!(header[32..508].iter().all(|byte| *byte == 0));
    assert_eq!(header[508..], crc32fast::hash(&header[..508]).to_le_bytes());

    let key = Key::new(0x1122_3344_5566_7788, 3);
    let mut frames = Frames::resume(0, &[]);
    frames.begin_group();
    let state = Box::new(State { vote: Some(b"v".to_vec()), ..State::default() });
    Record::Start { chain: 7, state }.put(&key, &mut frames);
    Record::Entry { id: id(2, 9), payload: b"payload" }.put(&key, &mut frames);
    let (bytes, offset) = frames.stamped(&key, LastSector::Included);
    assert_eq!((bytes.len(), offset), (SECTOR, 512));
    assert_eq!(bytes[4..9], [54, 0, 0, 0, 1], "Start: length and kind");
    assert_eq!(bytes[9..13], [7, 0, 0, 0], "chain");
    assert_eq!(bytes[61..63], [1, b'v'], "vote");
    assert_eq!(bytes[67..72], [23, 0, 0, 0, 2], "Entry: length and kind");
    assert_eq!(bytes[72..80], 2u64.to_le_bytes(), "term");
    assert_eq!(bytes[80..88], 9u64.to_le_bytes(), "index");
    assert_eq!(bytes[88..95], *b"payload");
    assert_eq!(bytes[496..502], [0, 0, 0, 0, 95, 0], "durable and fill");
    assert_eq!(bytes[506..510], [3, 0, 0, 0], "sequence");
    let crcs = [&bytes[..4], &bytes[63..67], &bytes[502..506], &bytes[510..512]].concat();
    assert_eq!(crcs, CRCS, "checksums");
}

const CRCS: [u8; 14] = [17, 188, 223, 239, 147, 94, 132, 108, 189, 22, 183, 75, 0, 49];

#[test]
fn a_stamp_holds_only_in_its_place() {
    let key = Key::new(5, 10);
    let mut sector = vec![0x5A; SECTOR];
    key.stamp(&mut sector, 4, 100, 496);
    assert_eq!(key.inspect(&sector, 4), Sector::Current { durable: 100, fill: 496 });
    assert_eq!(key.inspect(&sector, 5), Sector::Bad, "another place");
    assert_eq!(Key::new(5, 11).inspect(&sector, 4), Sector::Absent, "an earlier life");
    assert_eq!(Key::new(5, 9).inspect(&sector, 4), Sector::Bad, "the future");
    assert_eq!(Key::new(6, 10).inspect(&sector, 4), Sector::Bad, "another log");
    assert_eq!(key.inspect(&[0; SECTOR], 4), Sector::Absent, "never written");
}

/// No single flipped bit turns a mark into that of another sequence.
#[test]
fn a_flipped_bit_in_a_stamp_never_makes_the_sector_absent() {
    for sequence in [1, 2, 3, 255, 256, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF] {
        let key = Key::new(0xDEAD_BEEF, sequence);
        let mut sector = vec![1; SECTOR];
        key.stamp(&mut sector, 1, 0, 10);
        for bit in 0..SECTOR * 8 {
            let mut flipped = sector.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = key.inspect(&flipped, 1);
            assert_ne!(found, Sector::Absent, "sequence {sequence}, bit {bit}");
            // In the mark it is harmless, anywhere else it is noticed.
            assert_eq!(found == Sector::Bad, bit / 8 < 506, "sequence {sequence}, bit {bit}");
        }
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let key = Key::new(1, 1);
    let mut seed = 1u64;
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..64)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        let mut record = bytes.clone();
        record[4..9].copy_from_slice(&[55, 0, 0, 0, bytes[8] % 9]);
        let mut hasher = key.hasher(0);
        hasher.update(&record[4..]);
        record[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
        let _ = decode(&key, &record, 0);
        assert!(decode(&key, &bytes, 0).is_err());
        let _ = record::measure(&bytes);
    }
}
