//! The seam between the log and the disk: as few calls as the log needs, so that every one of
//! them can be failed, torn and cut off in tests.
//!
//! [`RealDisk`] is the file system. [`SimulatedDisk`] keeps everything in memory, knows what has
//! been synced, fails the call it is told to fail, and can cut the power.

use std::io;
use std::path::Path;
use std::sync::Arc;

mod real;
mod simulated;

pub use real::RealDisk;
pub use simulated::{Call, Event, Failure, SimulatedDisk};

/// Files by path. Names are durable only after `sync_dir`.
pub trait Disk: Send + Sync + 'static {
    /// Makes the directory and its parents; one that exists is fine.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// File names in `dir`, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// A new, empty file; fails if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Replaces `to` if it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file, read and written at offsets by several threads.
pub trait DiskFile: Send + Sync {
    fn size(&self) -> io::Result<u64>;
    /// May read less than asked; 0 only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// May write less than given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Reserves the blocks of the first `bytes` bytes, or fails without using up what space there
    /// is. A file system that cannot do so does nothing.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// `fdatasync`: contents and size are durable on return.
    fn sync(&self) -> io::Result<()>;
}

/// Writes all of `bytes`, or fails.
pub fn write_all_at(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buffer` from `offset` as far as the file goes and returns how far that was.
pub fn read_full_at(file: &dyn DiskFile, buffer: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset) {
            Ok(0) => break,
            Ok(count) => {
                done += count;
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
