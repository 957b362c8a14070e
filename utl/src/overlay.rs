//! A disk whose changes stay in memory: files can be opened as a member opens them, and stay as they are.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::disk::{Disk, DiskFile};

const PAGE_BYTES: usize = 4096;

/// The real files under what was changed.
#[derive(Default)]
pub(crate) struct Overlay {
    /// Files that were opened or made; `None` for those removed.
    files: Mutex<BTreeMap<PathBuf, Option<Arc<OverlayFile>>>>,
}

struct OverlayFile {
    below: Option<File>,
    changed: Mutex<Changed>,
}

struct Changed {
    bytes: u64,
    /// Whole pages by their number.
    pages: BTreeMap<u64, Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Overlay {
    fn find(&self, path: &Path) -> io::Result<Arc<OverlayFile>> {
        let mut files = lock(&self.files);
        if let Some(known) = files.get(path) {
            return known.clone().ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        let below = File::open(path)?;
        let bytes = below.metadata()?.len();
        let file = Arc::new(OverlayFile::new(Some(below), bytes));
        files.insert(path.to_owned(), Some(file.clone()));
        Ok(file)
    }
}

impl Disk for Overlay {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        for (path, file) in lock(&self.files).iter().filter(|(path, _)| path.parent() == Some(dir))
        {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            match file {
                Some(_) => names.insert(name.to_owned()),
                None => names.remove(name),
            };
        }
        Ok(names.into_iter().collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(OverlayFile::new(None, 0));
        lock(&self.files).insert(path.to_owned(), Some(file.clone()));
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.find(path)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.find(from)?;
        let mut files = lock(&self.files);
        files.insert(from.to_owned(), None);
        files.insert(to.to_owned(), Some(file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        lock(&self.files).insert(path.to_owned(), None);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl OverlayFile {
    fn new(below: Option<File>, bytes: u64) -> Self {
        Self { below, changed: Mutex::new(Changed { bytes, pages: BTreeMap::new() }) }
    }

    /// The page as it is below, zeroes where there is nothing.
    fn page(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE_BYTES];
        let mut done = 0;
        while let Some(below) = self.below.as_ref().filter(|_| done < PAGE_BYTES) {
            let offset = number * PAGE_BYTES as u64 + done as u64;
            match below.read_at(&mut page[done..], offset)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(page)
    }
}

/// The page of an offset, and where in it.
fn place(offset: u64) -> (u64, usize) {
    let bytes = PAGE_BYTES as u64;
    (offset / bytes, usize::try_from(offset % bytes).expect("less than a page"))
}

impl DiskFile for OverlayFile {
    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.changed).bytes)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let changed = lock(&self.changed);
        let left = usize::try_from(changed.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let mut done = 0;
        while done < wanted {
            let (number, at) = place(offset + done as u64);
            let count = (PAGE_BYTES - at).min(wanted - done);
            let part = &mut buffer[done..done + count];
            match changed.pages.get(&number) {
                Some(page) => part.copy_from_slice(&page[at..at + count]),
                None => part.copy_from_slice(&self.page(number)?[at..at + count]),
            }
            done += count;
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut changed = lock(&self.changed);
        let mut done = 0;
        while done < bytes.len() {
            let (number, at) = place(offset + done as u64);
            let count = (PAGE_BYTES - at).min(bytes.len() - done);
            let page = match changed.pages.entry(number) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(missing) => missing.insert(self.page(number)?),
            };
            page[at..at + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
        changed.bytes = changed.bytes.max(offset + done as u64);
        Ok(done)
    }

    /// Memory has no blocks.
    fn allocate(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), vec![1; 5000]).unwrap();
        let disk = Overlay::default();
        let file = disk.open(&path("a")).unwrap();
        assert_eq!(file.write_at(&[2; 10], 4090).unwrap(), 10);
        assert_eq!(file.write_at(&[3; 2], 5001).unwrap(), 2);
        let mut seen = vec![9; 6000];
        assert_eq!(disk.open(&path("a")).unwrap().read_at(&mut seen, 0).unwrap(), 5003);
        let expected = [vec![1; 4090], vec![2; 10], vec![1; 900], vec![0], vec![3; 2]].concat();
        assert!(seen[..5003] == expected, "pages are merged");

        disk.create(&path("b")).unwrap();
        assert!(disk.create(&path("a")).is_err());
        disk.rename(&path("a"), &path("c")).unwrap();
        assert!(disk.open(&path("a")).is_err());
        assert_eq!(disk.list(dir.path()).unwrap(), ["b", "c"]);
        disk.remove(&path("c")).unwrap();
        assert_eq!(disk.list(dir.path()).unwrap(), ["b"]);
        assert_eq!(std::fs::read(path("a")).unwrap(), vec![1; 5000]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
