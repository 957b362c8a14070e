//! Writes an image front to back, rows in key order, with memory for one page per tree level.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{
    BRANCH, BUCKET_HEADER_BYTES, ELEMENT_BYTES, LEAF, META, Meta, PAGE_HEADER_BYTES, SUB_BUCKET,
};

const PAGE_BYTES: usize = 4096;
/// A branch page runs over rather than to have fewer, as bbolt's do.
const BRANCH_ELEMENTS_MIN: usize = 2;
const BUFFER_BYTES: usize = 256 * 1024;
/// So often the written bytes are pushed to the disk, or else they would pile up in memory and a
/// flush of the log would wait behind all of them.
const SYNC_BYTES: u64 = 16 << 20;

/// Writes an image into an empty file. Buckets come in the order of their names.
pub(in crate::snapshot) struct Writer {
    out: Output,
    /// The root bucket: names of the finished buckets.
    root: Tree,
    last_name: Option<Vec<u8>>,
}

/// A bucket being written, rows in ascending order.
pub(in crate::snapshot) struct Bucket<'a> {
    writer: &'a mut Writer,
    name: Vec<u8>,
    tree: Tree,
}

/// What a finished image is.
#[derive(Clone, Copy, Debug)]
pub(in crate::snapshot) struct Image {
    pub(in crate::snapshot) bytes: u64,
    /// CRC-32C of all bytes handed to the file, for the reader that checks what arrived.
    pub(in crate::snapshot) crc: u32,
}

impl Writer {
    pub(in crate::snapshot) fn new(file: File) -> io::Result<Self> {
        // The metas come last, when it is known what they say.
        let out = Output {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES + PAGE_BYTES),
            next_page: 2,
            written: (2 * PAGE_BYTES) as u64,
            unsynced: 0,
            crc: 0,
        };
        Ok(Self { out, root: Tree::new(), last_name: None })
    }

    pub(in crate::snapshot) fn bucket(&mut self, name: &[u8]) -> Bucket<'_> {
        assert!(self.last_name.as_deref().is_none_or(|last| last < name), "buckets out of order");
        self.last_name = Some(name.to_vec());
        Bucket { name: name.to_vec(), tree: Tree::new(), writer: self }
    }

    pub(in crate::snapshot) fn bytes_written(&self) -> u64 {
        self.out.written + self.out.buffer.len() as u64
    }

    /// Completes the image and gives the file back, written but not synced to its end.
    pub(in crate::snapshot) fn finish(mut self) -> io::Result<(File, Image)> {
        let root = match self.root.finish(&mut self.out)? {
            0 => self.out.page(LEAF, 0, &[])?,
            root => root,
        };
        let out = &mut self.out;
        out.drain()?;
        let mut metas = vec![0; 2 * PAGE_BYTES];
        for (id, page) in metas.chunks_exact_mut(PAGE_BYTES).enumerate() {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root,
                pages: out.next_page,
                // Page 0 counts; the next writer replaces page 1.
                transaction: 2 - id as u64,
            };
            page[..PAGE_HEADER_BYTES].copy_from_slice(&page_header(id as u64, META, 0, 0));
            let end = PAGE_HEADER_BYTES + super::META_BYTES;
            page[PAGE_HEADER_BYTES..end].copy_from_slice(&meta.encode());
        }
        out.file.write_all_at(&metas, 0)?;
        let rest = out.written - metas.len() as u64;
        let crc = crc32c::crc32c_combine(crc32c::crc32c(&metas), out.crc, rest as usize);
        Ok((self.out.file, Image { bytes: self.out.written, crc }))
    }
}

impl Bucket<'_> {
    pub(in crate::snapshot) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.tree.put(&mut self.writer.out, 0, key, value)
    }

    pub(in crate::snapshot) fn bytes_written(&self) -> u64 {
        self.writer.bytes_written()
    }

    pub(in crate::snapshot) fn finish(mut self) -> io::Result<()> {
        let root = self.tree.finish(&mut self.writer.out)?;
        let mut value = Vec::with_capacity(BUCKET_HEADER_BYTES + PAGE_HEADER_BYTES);
        value.extend_from_slice(&root.to_le_bytes());
        value.extend_from_slice(&0_u64.to_le_bytes());
        if root == 0 {
            // An empty bucket needs no page of its own.
            value.extend_from_slice(&page_header(0, LEAF, 0, 0));
        }
        self.writer.root.put(&mut self.writer.out, SUB_BUCKET, &self.name, &value)
    }
}

/// A B+ tree under construction: the page in work of every level, leaves first.
struct Tree {
    levels: Vec<Page>,
    last_key: Option<Vec<u8>>,
}

impl Tree {
    fn new() -> Self {
        Self { levels: vec![Page::default()], last_key: None }
    }

    fn put(&mut self, out: &mut Output, flags: u32, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert!(self.last_key.as_deref().is_none_or(|last| last < key), "rows out of order");
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);

        if !self.levels[0].has_room(key.len() + value.len()) {
            self.close_page(out, 0)?;
        }
        self.levels[0].push(key, value, Slot::Leaf { flags, value_bytes: value.len() as u32 });
        Ok(())
    }

    /// Writes the page in work of a level and tells the level above.
    fn close_page(&mut self, out: &mut Output, level: usize) -> io::Result<u64> {
        let page = std::mem::take(&mut self.levels[level]);
        let id = page.write(out, level > 0)?;
        if level + 1 == self.levels.len() {
            self.levels.push(Page::default());
        }
        let first = page.first_key();
        let above = &self.levels[level + 1];
        // Or there would be as many pages on every level, and no root, however long the keys.
        if above.elements.len() >= BRANCH_ELEMENTS_MIN && !above.has_room(first.len()) {
            self.close_page(out, level + 1)?;
        }
        self.levels[level + 1].push(first, &[], Slot::Branch { child: id });
        Ok(id)
    }

    /// Writes what is left and returns the page of the root, 0 if there are no rows.
    fn finish(&mut self, out: &mut Output) -> io::Result<u64> {
        let mut root = 0;
        let mut level = 0;
        while level < self.levels.len() {
            let page = &self.levels[level];
            // The top level with a single child: that child is the root.
            if let (true, [Element { slot: Slot::Branch { child }, .. }]) =
                (level + 1 == self.levels.len(), &page.elements[..])
            {
                return Ok(*child);
            }
            if !page.elements.is_empty() {
                root = self.close_page(out, level)?;
            }
            level += 1;
        }
        Ok(root)
    }
}

/// A page in work.
#[derive(Default)]
struct Page {
    elements: Vec<Element>,
    /// Keys and values, in order.
    data: Vec<u8>,
}

struct Element {
    /// Where the key starts in the page's data.
    start: usize,
    key_bytes: u32,
    slot: Slot,
}

enum Slot {
    Leaf { flags: u32, value_bytes: u32 },
    Branch { child: u64 },
}

impl Page {
    /// Whether a row of so many bytes still belongs here. An empty page takes a row of any size.
    fn has_room(&self, row_bytes: usize) -> bool {
        let elements = (self.elements.len() + 1) * ELEMENT_BYTES;
        let bytes = PAGE_HEADER_BYTES + elements + self.data.len() + row_bytes;
        self.elements.is_empty() || bytes <= PAGE_BYTES
    }

    fn push(&mut self, key: &[u8], value: &[u8], slot: Slot) {
        let (start, key_bytes) = (self.data.len(), key.len() as u32);
        self.elements.push(Element { start, key_bytes, slot });
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn first_key(&self) -> &[u8] {
        &self.data[..self.elements[0].key_bytes as usize]
    }

    fn write(&self, out: &mut Output, branch: bool) -> io::Result<u64> {
        let count = u16::try_from(self.elements.len()).expect("4 KiB hold fewer elements");
        let mut body = Vec::with_capacity(self.elements.len() * ELEMENT_BYTES + self.data.len());
        for (n, element) in self.elements.iter().enumerate() {
            let before_data = (self.elements.len() - n) * ELEMENT_BYTES;
            let offset = (before_data + element.start) as u32;
            match element.slot {
                Slot::Leaf { flags, value_bytes } => {
                    for field in [flags, offset, element.key_bytes, value_bytes] {
                        body.extend_from_slice(&field.to_le_bytes());
                    }
                }
                Slot::Branch { child } => {
                    body.extend_from_slice(&offset.to_le_bytes());
                    body.extend_from_slice(&element.key_bytes.to_le_bytes());
                    body.extend_from_slice(&child.to_le_bytes());
                }
            }
        }
        body.extend_from_slice(&self.data);
        out.page(if branch { BRANCH } else { LEAF }, count, &body)
    }
}

fn page_header(id: u64, flags: u16, count: u16, overflow: u32) -> [u8; PAGE_HEADER_BYTES] {
    let mut bytes = [0; PAGE_HEADER_BYTES];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes[8..10].copy_from_slice(&flags.to_le_bytes());
    bytes[10..12].copy_from_slice(&count.to_le_bytes());
    bytes[12..].copy_from_slice(&overflow.to_le_bytes());
    bytes
}

/// The file, behind a buffer of whole pages.
struct Output {
    file: File,
    buffer: Vec<u8>,
    next_page: u64,
    /// Where the buffer belongs in the file.
    written: u64,
    unsynced: u64,
    /// CRC-32C of everything from page 2 on.
    crc: u32,
}

impl Output {
    /// Appends a page, with as many overflow pages as the body needs, and returns its number.
    fn page(&mut self, flags: u16, count: u16, body: &[u8]) -> io::Result<u64> {
        let id = self.next_page;
        let pages = (PAGE_HEADER_BYTES + body.len()).div_ceil(PAGE_BYTES);
        let overflow = u32::try_from(pages - 1).map_err(io::Error::other)?;
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&page_header(id, flags, count, overflow));
        self.buffer.extend_from_slice(body);
        self.buffer.resize(start + pages * PAGE_BYTES, 0);
        self.next_page += pages as u64;
        if self.buffer.len() >= BUFFER_BYTES {
            self.drain()?;
        }
        Ok(id)
    }

    fn drain(&mut self) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}
