//! Reads an image of any page size, page by page. Believes nothing: damage is an error, not a panic.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{
    BRANCH, BUCKET_HEADER_BYTES, ELEMENT_BYTES, LEAF, META, META_BYTES, Meta, PAGE_HEADER_BYTES,
    PAGE_SIZES, SHA_BYTES, SUB_BUCKET, u16_at, u32_at, u64_at,
};
use crate::Fatal;

/// A tree of 2^64 rows with two children a page is not deeper.
const DEPTH_MAX: usize = 64;
const HASH_STEP_BYTES: usize = 1 << 20;
const REMEDY: &str = "Use another snapshot";

/// An open image.
pub(in crate::snapshot) struct Bolt {
    file: File,
    path: PathBuf,
    /// Without the SHA-256 behind it.
    image_bytes: u64,
    has_sha: bool,
    meta: Meta,
}

/// Where a bucket is.
#[derive(Clone, Debug)]
pub(in crate::snapshot) enum BucketRoot {
    Page(u64),
    /// The bucket's only page.
    Inline(Vec<u8>),
}

/// What a bucket holds.
pub(in crate::snapshot) enum Item<'a> {
    Row { key: &'a [u8], value: &'a [u8] },
    Bucket { name: &'a [u8], root: BucketRoot },
}

impl Bolt {
    /// Opens a file and reads its metas, nothing else.
    pub(in crate::snapshot) fn open(path: &Path) -> Result<Self, Fatal> {
        let io = |source| Fatal::io("open", path, source);
        let file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let has_sha = bytes % 512 == SHA_BYTES;
        let image_bytes = if has_sha { bytes - SHA_BYTES } else { bytes };
        let first = read_meta(&file, 0).map_err(io)?;
        // Only the first meta says where the second is. Without it, try.
        let second = match first {
            Some(first) => read_meta(&file, u64::from(first.page_bytes)).map_err(io)?,
            None => {
                let sizes = (9..).map(|shift| 1 << shift).take_while(|n| PAGE_SIZES.contains(n));
                let mut found = None;
                for bytes in sizes {
                    found = read_meta(&file, u64::from(bytes)).map_err(io)?;
                    if found.is_some_and(|found| found.page_bytes == bytes) {
                        break;
                    }
                    found = None;
                }
                found
            }
        };
        let meta = [first, second].into_iter().flatten().max_by_key(|meta| meta.transaction);
        let Some(meta) = meta else {
            return Err(damaged(
                path,
                0,
                "it is no snapshot, or both of its meta pages are lost".into(),
            ));
        };
        let pages_in_file = image_bytes / u64::from(meta.page_bytes);
        if meta.pages > pages_in_file {
            let what =
                format!("{} of {} pages are missing", meta.pages - pages_in_file, meta.pages);
            return Err(damaged(path, image_bytes, what));
        }
        Ok(Self { file, path: path.to_owned(), image_bytes, has_sha, meta })
    }

    pub(in crate::snapshot) fn has_sha(&self) -> bool {
        self.has_sha
    }

    pub(in crate::snapshot) fn image_bytes(&self) -> u64 {
        self.image_bytes
    }

    /// Size of the pages in use: a database file may have more than its image.
    pub(in crate::snapshot) fn used_bytes(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_bytes)
    }

    /// Reads the whole image and computes its SHA-256 and CRC-32C.
    pub(in crate::snapshot) fn digest(&self) -> Result<([u8; 32], u32), Fatal> {
        let mut sha = Sha256::new();
        let mut crc = 0;
        let mut buffer = vec![0; HASH_STEP_BYTES];
        let mut at = 0;
        while at < self.image_bytes {
            let rest = usize::try_from(self.image_bytes - at).unwrap_or(usize::MAX);
            let step = &mut buffer[..rest.min(HASH_STEP_BYTES)];
            self.read_exact(step, at)?;
            sha.update(&*step);
            crc = crc32c::crc32c_append(crc, step);
            at += step.len() as u64;
        }
        Ok((sha.finalize().into(), crc))
    }

    /// Compares the image with the SHA-256 behind it.
    pub(in crate::snapshot) fn verify_sha(&self) -> Result<(), Fatal> {
        if !self.has_sha {
            return Err(self.damaged(self.image_bytes, "there is no checksum at its end".into()));
        }
        let mut expected = [0; 32];
        self.read_exact(&mut expected, self.image_bytes)?;
        if self.digest()?.0 != expected {
            return Err(self.damaged(self.image_bytes, "the checksum does not match".into()));
        }
        Ok(())
    }

    /// The root bucket, which holds the others.
    pub(in crate::snapshot) fn root(&self) -> Result<Rows<'_>, Fatal> {
        self.rows(BucketRoot::Page(self.meta.root))
    }

    /// The rows of a bucket.
    pub(in crate::snapshot) fn rows(&self, root: BucketRoot) -> Result<Rows<'_>, Fatal> {
        let mut rows = Rows {
            bolt: self,
            path: Vec::new(),
            pages_left: self.meta.pages,
            last_key: Vec::new(),
            started: false,
        };
        match root {
            BucketRoot::Page(id) => rows.descend(id)?,
            BucketRoot::Inline(bytes) => {
                let page = Page::parse(bytes, 0).map_err(|what| self.damaged(0, what))?;
                if page.branch {
                    return Err(self.damaged(0, "an inline bucket is a branch".into()));
                }
                rows.path.push((page, 0));
            }
        }
        Ok(rows)
    }

    fn page(&self, id: u64) -> Result<Page, Fatal> {
        let page_bytes = u64::from(self.meta.page_bytes);
        let offset = id.saturating_mul(page_bytes);
        if !(2..self.meta.pages).contains(&id) {
            return Err(self.damaged(offset, format!("page {id} of {}", self.meta.pages)));
        }
        let mut bytes = vec![0; self.meta.page_bytes as usize];
        self.read_exact(&mut bytes, offset)?;
        let overflow = u64::from(u32_at(&bytes, 12).unwrap_or(0));
        if overflow >= self.meta.pages - id {
            return Err(self.damaged(offset, format!("page {id} ends behind the last page")));
        }
        // Within the file by now, so no larger than it.
        bytes.resize(((overflow + 1) * page_bytes) as usize, 0);
        self.read_exact(&mut bytes[page_bytes as usize..], offset + page_bytes)?;
        let page = Page::parse(bytes, offset).map_err(|what| self.damaged(offset, what))?;
        if page.id != id {
            return Err(self.damaged(offset, format!("page {} in the place of {id}", page.id)));
        }
        Ok(page)
    }

    fn read_exact(&self, buffer: &mut [u8], offset: u64) -> Result<(), Fatal> {
        match self.file.read_exact_at(buffer, offset) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(offset, "the file ends early".into()))
            }
            Err(source) => Err(Fatal::io("read", &self.path, source)),
        }
    }

    pub(in crate::snapshot) fn damaged(&self, offset: u64, what: String) -> Fatal {
        damaged(&self.path, offset, what)
    }
}

/// A cursor over a bucket, in key order.
pub(in crate::snapshot) struct Rows<'a> {
    bolt: &'a Bolt,
    /// The pages from the root down to the current leaf, each with its next element.
    path: Vec<(Page, usize)>,
    /// Runs out when pages form a cycle.
    pages_left: u64,
    last_key: Vec<u8>,
    started: bool,
}

impl Rows<'_> {
    // Lends its items, so it cannot be an `Iterator`.
    pub(in crate::snapshot) fn next(&mut self) -> Result<Option<Item<'_>>, Fatal> {
        loop {
            let Some((page, at)) = self.path.last_mut() else { return Ok(None) };
            let index = *at;
            *at += 1;
            if index == page.count {
                self.path.pop();
                continue;
            }
            if !page.branch {
                break;
            }
            let (offset, child) = (page.offset, page.child(index));
            let child = child.ok_or_else(|| self.bolt.damaged(offset, ELEMENT.into()))?;
            self.descend(child)?;
        }
        let (page, at) = self.path.last().expect("the loop above ended on a leaf");
        let damaged = |what: &str| self.bolt.damaged(page.offset, what.into());
        let (flags, key, value) = page.row(at - 1).ok_or_else(|| damaged(ELEMENT))?;
        if self.started && *key <= self.last_key[..] {
            return Err(damaged("its keys are out of order"));
        }
        self.started = true;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        if flags & SUB_BUCKET == 0 {
            return Ok(Some(Item::Row { key, value }));
        }
        let root = match u64_at(value, 0) {
            Some(0) => value.get(BUCKET_HEADER_BYTES..).map(|page| BucketRoot::Inline(page.into())),
            root => root.map(BucketRoot::Page),
        };
        let root = root.ok_or_else(|| damaged("a bucket's header is cut"))?;
        Ok(Some(Item::Bucket { name: key, root }))
    }

    fn descend(&mut self, id: u64) -> Result<(), Fatal> {
        let page = self.bolt.page(id)?;
        // With those it runs over into, as no page belongs to two: all that is read of a bucket, and
        // held at a time, is no larger than the file.
        let pages = page.bytes.len() as u64 / u64::from(self.bolt.meta.page_bytes);
        let left = self.pages_left.checked_sub(pages).filter(|_| self.path.len() < DEPTH_MAX);
        let Some(left) = left else {
            return Err(self.bolt.damaged(page.offset, "its pages form a cycle".into()));
        };
        self.pages_left = left;
        self.path.push((page, 0));
        Ok(())
    }
}

const ELEMENT: &str = "an element lies outside its page";

struct Page {
    bytes: Vec<u8>,
    /// Where it is in the file.
    offset: u64,
    id: u64,
    branch: bool,
    count: usize,
}

impl Page {
    fn parse(bytes: Vec<u8>, offset: u64) -> Result<Self, String> {
        let header = (u64_at(&bytes, 0), u16_at(&bytes, 8), u16_at(&bytes, 10));
        let (Some(id), Some(flags), Some(count)) = header else {
            return Err("a page's header is cut".into());
        };
        let branch = match flags {
            BRANCH => true,
            LEAF => false,
            _ => return Err(format!("page {id} has type {flags:#x}")),
        };
        let count = usize::from(count);
        if PAGE_HEADER_BYTES + count * ELEMENT_BYTES > bytes.len() || (branch && count == 0) {
            return Err(format!("page {id} cannot have {count} elements"));
        }
        Ok(Self { bytes, offset, id, branch, count })
    }

    fn child(&self, index: usize) -> Option<u64> {
        u64_at(&self.bytes, PAGE_HEADER_BYTES + index * ELEMENT_BYTES + 8)
    }

    /// Flags, key and value of a leaf's element.
    fn row(&self, index: usize) -> Option<(u32, &[u8], &[u8])> {
        let at = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
        let field = |n: usize| u32_at(&self.bytes, at + 4 * n).map(|field| field as usize);
        let flags = u32_at(&self.bytes, at)?;
        let rest = self.bytes.get(at.checked_add(field(1)?)?..)?;
        let (key, rest) = rest.split_at_checked(field(2)?)?;
        Some((flags, key, rest.get(..field(3)?)?))
    }
}

/// The meta in the page at `offset`, if that is a valid one.
fn read_meta(mut file: &File, offset: u64) -> io::Result<Option<Meta>> {
    let mut bytes = Vec::with_capacity(PAGE_HEADER_BYTES + META_BYTES);
    file.seek(SeekFrom::Start(offset))?;
    file.take((PAGE_HEADER_BYTES + META_BYTES) as u64).read_to_end(&mut bytes)?;
    let is_meta = u16_at(&bytes, 8) == Some(META);
    let meta = bytes.get(PAGE_HEADER_BYTES..).and_then(|meta| meta.first_chunk());
    Ok(meta.filter(|_| is_meta).and_then(Meta::decode))
}

fn damaged(path: &Path, offset: u64, what: String) -> Fatal {
    Fatal::Damaged { path: path.to_owned(), offset, what, remedy: REMEDY.into() }
}
