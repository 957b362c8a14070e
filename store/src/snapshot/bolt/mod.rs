//! The container of a snapshot file: an image of bbolt, the database that etcd keeps its data in.
//!
//! An image is an array of pages. A page has a header and elements; keys and values follow the
//! elements and may run over into the next pages, which then have no header:
//!
//! ```text
//! page    id u64 | flags u16 | count u16 | overflow pages u32            16 bytes, then elements
//! leaf    flags u32 | offset u32 | key bytes u32 | value bytes u32       offset from the element
//! branch  offset u32 | key bytes u32 | page u64                          key: first of the child
//! meta    magic u32 | version u32 | page size u32 | flags u32 | root page u64 | sequence u64
//!         | freelist page u64 | pages u64 | transaction u64 | FNV-1a of the bytes before u64
//! ```
//!
//! Pages 0 and 1 are metas, the valid one with the higher transaction counts. Every bucket is a
//! B+ tree of leaf and branch pages. The root bucket holds the others: a leaf element with flag 1
//! whose value is `root page u64 | sequence u64`, or, if that root page is 0, the bucket's only
//! leaf page inline behind these. All integers are little endian.
//!
//! A snapshot file is such an image with its 32-byte SHA-256 behind it, which is why its length
//! leaves a remainder of 32 when divided by 512.

mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub(super) use reader::{Bolt, BucketRoot, Item, Rows};
pub(super) use writer::{Bucket, Writer};

const PAGE_HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
const META_BYTES: usize = 64;
const BUCKET_HEADER_BYTES: usize = 16;
pub(super) const SHA_BYTES: u64 = 32;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
/// Flag of a leaf element that is a bucket.
const SUB_BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// The freelist is not stored: whoever opens the image to write finds the free pages itself.
const NO_FREELIST: u64 = u64::MAX;

/// The fields of a meta page that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meta {
    page_bytes: u32,
    root: u64,
    /// Number of pages of the image.
    pages: u64,
    transaction: u64,
}

impl Meta {
    fn encode(&self) -> [u8; META_BYTES] {
        let mut bytes = [0; META_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC.to_le_bytes());
        put(&VERSION.to_le_bytes());
        put(&self.page_bytes.to_le_bytes());
        put(&0_u32.to_le_bytes());
        put(&self.root.to_le_bytes());
        put(&0_u64.to_le_bytes());
        put(&NO_FREELIST.to_le_bytes());
        put(&self.pages.to_le_bytes());
        put(&self.transaction.to_le_bytes());
        let checksum = fnv1a(&bytes[..META_BYTES - 8]);
        bytes[META_BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are no valid meta.
    fn decode(bytes: &[u8; META_BYTES]) -> Option<Self> {
        let checksum = u64_at(bytes, META_BYTES - 8)?;
        let valid = u32_at(bytes, 0)? == MAGIC
            && u32_at(bytes, 4)? == VERSION
            && fnv1a(&bytes[..META_BYTES - 8]) == checksum;
        let meta = Self {
            page_bytes: u32_at(bytes, 8)?,
            root: u64_at(bytes, 16)?,
            pages: u64_at(bytes, 40)?,
            transaction: u64_at(bytes, 48)?,
        };
        (valid && meta.page_bytes.is_power_of_two() && PAGE_SIZES.contains(&meta.page_bytes))
            .then_some(meta)
    }
}

/// What bbolt supports: the page size of the machine that created the file.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=1 << 20;

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
