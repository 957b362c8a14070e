//! Snapshot files as inputs: without the zeroes at the end of every page, and with checksums that fit.

use sha2::{Digest, Sha256};

use crate::pieces::{self, Pieces};

/// A page has so many of these as its part's kind says, and one more.
const PAGE_UNIT: usize = 512;
const PAGE_UNITS_MAX: u8 = 16;
/// Of the files that are written here.
const PAGE_BYTES: usize = 4096;

/// After the page's header.
const META_AT: usize = 16;
const META_BYTES: usize = 64;
const SUM_AT: usize = META_BYTES - 8;

/// Both metas, where the first one's page size puts the second.
pub fn reseal_metas(file: &mut [u8]) {
    let page_bytes = file.get(META_AT + 8..).and_then(<[u8]>::first_chunk);
    let second = page_bytes.map(|bytes| u32::from_le_bytes(*bytes) as usize).unwrap_or_default();
    for page in [0, second] {
        let Some(meta) = page.checked_add(META_AT).and_then(|at| file.get_mut(at..)) else {
            return;
        };
        let Some(meta) = meta.get_mut(..META_BYTES) else { return };
        let sum = meta[..SUM_AT].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        meta[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// The SHA-256 of all that is there, behind it.
pub fn append_sha(file: &mut Vec<u8>) {
    let sum = Sha256::digest(&file[..]);
    file.extend_from_slice(&sum);
}

/// The file that an input stands for.
pub fn of_pages(input: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for (kind, bytes) in Pieces::new(input) {
        let size = (usize::from(kind % PAGE_UNITS_MAX) + 1) * PAGE_UNIT;
        let end = file.len() + size;
        file.extend_from_slice(&bytes[..bytes.len().min(size)]);
        file.resize(end, 0);
    }
    file
}

/// The input that stands for a file, for seeds.
pub fn to_pages(file: &[u8]) -> Vec<u8> {
    let mut input = Vec::new();
    for page in file.chunks(PAGE_BYTES) {
        let used = page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let units = page.len().div_ceil(PAGE_UNIT).max(1) - 1;
        pieces::add(&mut input, units as u8, &page[..used]);
    }
    input
}
