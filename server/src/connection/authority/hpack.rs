//! As much of HPACK (RFC 7541) as it takes to find `:authority` in a header block.

use std::ops::Range;

/// What stands for a URL or path: a valid host, and not longer than any value that is replaced.
pub(super) const NAME: &[u8] = b"k";

/// The place of `:authority` in the static table.
const AUTHORITY: usize = 1;

/// The Huffman codes of `http://`, `https://`, `unix://` and `/`, and how many bits of the last byte
/// belong to each.
const HUFFMAN_URLS: [(&[u8], u32); 4] = [
    (&[0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x00], 1),
    (&[0x9d, 0x29, 0xad, 0x17, 0x18, 0x60], 6),
    (&[0xb6, 0xa3, 0x79, 0xb8, 0xc3, 0x00], 3),
    (&[0x60], 6),
];

/// Longer values stay as they are. No URL of a member is that long.
const URL_BYTES_MAX: usize = 512;

/// A client whose header table is smaller stays as it is: the longest URL (five bits a character
/// at best, and what an entry costs) might not enter its table, where [`NAME`] would.
const TABLE_BYTES_MIN: usize = 1024;
const _: () = assert!(URL_BYTES_MAX * 8 / 5 + ":authority".len() + 32 < TABLE_BYTES_MIN);

/// [`NAME`] as a string literal. That it is no Huffman code is the first bit of its length.
pub(super) fn name() -> impl Iterator<Item = u8> {
    let length = u8::try_from(NAME.len()).expect("a short name");
    std::iter::once(length).chain(NAME.iter().copied())
}

/// Where in a header block the value of an authority is a URL, with its length before it. The
/// block may be cut off or wrong anywhere: what is before that counts. None when nothing may be
/// replaced in this block nor in any after it.
pub(super) fn urls(block: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut found = Vec::new();
    let mut fields = Fields { block, at: 0 };
    while let Some(field) = fields.next_field() {
        match field {
            Field::Authority(value) if is_url(&block[value.clone()]) => found.push(value),
            Field::TableSize(bytes) if bytes < TABLE_BYTES_MIN => return None,
            _ => {}
        }
    }
    Some(found)
}

/// Whether a string literal is a URL or path. No host has a slash in it.
fn is_url(literal: &[u8]) -> bool {
    let mut string = Fields { block: literal, at: 0 };
    let Some(length) = string.integer(7) else { return false };
    if length > URL_BYTES_MAX {
        return false;
    }
    let value = &literal[string.at..];
    if literal[0] & 0x80 == 0 {
        return value.contains(&b'/');
    }
    HUFFMAN_URLS.iter().any(|(code, last_bits)| {
        let (last, rest) = code.split_last().expect("a code is not empty");
        value.starts_with(rest)
            && value.get(rest.len()).is_some_and(|byte| (byte ^ last) >> (8 - last_bits) == 0)
    })
}

/// One representation of a header block.
enum Field {
    /// An authority with this value.
    Authority(Range<usize>),
    /// The size of the client's table from here on.
    TableSize(usize),
    Other,
}

/// A walk over the representations of a header block.
struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    /// None at the end and at what cannot be read.
    fn next_field(&mut self) -> Option<Field> {
        let name_bits = match *self.block.get(self.at)? {
            0x80.. => {
                self.integer(7)?;
                return Some(Field::Other);
            }
            0x40.. => 6,
            0x20.. => return Some(Field::TableSize(self.integer(5)?)),
            _ => 4,
        };
        let name = self.integer(name_bits)?;
        if name == 0 {
            self.string()?;
        }
        let value = self.string()?;
        Some(if name == AUTHORITY { Field::Authority(value) } else { Field::Other })
    }

    /// Passes a string literal: where it is, with its length.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let length = self.integer(7)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.block.len())?;
        self.at = end;
        Some(start..end)
    }

    /// Passes an integer that starts in the last `bits` of a byte.
    fn integer(&mut self, bits: u32) -> Option<usize> {
        let prefix_max = (1 << bits) - 1;
        let mut value = usize::from(*self.block.get(self.at)?) & prefix_max;
        self.at += 1;
        if value < prefix_max {
            return Some(value);
        }
        // Three more bytes say more than a frame can hold.
        for shift in [0, 7, 14] {
            let byte = usize::from(*self.block.get(self.at)?);
            self.at += 1;
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
