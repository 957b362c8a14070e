//! Several threads at once: order of the log, order of the reports, reads beside writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::disk::DiskFile;

use super::*;

/// A disk whose syncs wait for a permit, so that a test decides what becomes one group.
#[derive(Clone)]
struct GatedDisk {
    inner: SimulatedDisk,
    gate: Arc<Mutex<()>>,
}

struct GatedFile {
    inner: Arc<dyn DiskFile>,
    gate: Arc<Mutex<()>>,
}

impl Disk for GatedDisk {
    fn create_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn create(&self, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner.create(path)?;
        Ok(Arc::new(GatedFile { inner, gate: Arc::clone(&self.gate) }))
    }

    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner.open(path)?;
        Ok(Arc::new(GatedFile { inner, gate: Arc::clone(&self.gate) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.inner.sync_dir(dir)
    }
}

impl DiskFile for GatedFile {
    fn size(&self) -> std::io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
        self.inner.write_at(bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> std::io::Result<()> {
        self.inner.allocate(bytes)
    }

    fn sync(&self) -> std::io::Result<()> {
        let _permit = self.gate.lock().unwrap();
        self.inner.sync()
    }
}

#[test]
fn a_group_is_one_write_and_one_sync_reported_newest_first() {
    let disk = GatedDisk { inner: SimulatedDisk::new(), gate: Arc::default() };
    let log = open_with(Arc::new(disk.clone()), dir(), options(1 << 20, 0)).unwrap();
    assert!(log.append(entries(1, 1..2)));
    log.wal.wait_reserve();
    let before = log.wal.stats();
    let (send, receive) = mpsc::channel();
    let report = |tag: u64| -> Completion {
        let send = send.clone();
        Box::new(move |result| send.send((tag, result.is_ok())).unwrap())
    };
    {
        let _closed = disk.gate.lock().unwrap();
        // The first is taken by itself; the rest waits behind its sync.
        log.wal.append(entries(1, 2..3), report(2));
        while log.wal.queued_bytes() > 0 {
            thread::yield_now();
        }
        for index in 3..10 {
            log.wal.append(entries(1, index..index + 1), report(index));
            let read = log.wal.read(index, index + 1, 0).unwrap();
            assert_eq!(read, entries(1, index..index + 1), "readable on return");
        }
        log.wal.save_vote(Bytes::from_static(b"vote"), report(10));
        assert!(log.wal.queued_bytes() > 0);
        assert_eq!(log.wal.flushed_index(), 1);
        assert!(receive.try_recv().is_err(), "nothing is reported before its sync");
    }
    let reports: Vec<_> = (0..9).map(|_| receive.recv().unwrap()).collect();
    let expected: Vec<_> = [2, 10, 9, 8, 7, 6, 5, 4, 3].map(|tag| (tag, true)).into();
    assert_eq!(reports, expected);
    let after = log.wal.stats();
    assert_eq!(after.groups - before.groups, 2);
    assert_eq!(after.writes - before.writes, 2);
    assert_eq!(after.flushes - before.flushes, 2);
    assert_eq!(after.flush_latency.counts.iter().sum::<u64>(), after.flushes);
}

#[test]
fn a_truncation_during_a_flush_is_not_undone_by_it() {
    let disk = GatedDisk { inner: SimulatedDisk::new(), gate: Arc::default() };
    let log = open_with(Arc::new(disk.clone()), dir(), options(1 << 20, 0)).unwrap();
    assert!(log.append(entries(1, 1..11)));
    log.wal.wait_reserve();
    let (send, receive) = mpsc::channel();
    {
        let _closed = disk.gate.lock().unwrap();
        log.wal.append(entries(1, 11..21), Box::new(move |_| send.send(()).unwrap()));
        while log.wal.queued_bytes() > 0 {
            thread::yield_now();
        }
        log.wal.truncate_after(5);
    }
    receive.recv().unwrap();
    assert_eq!(log.wal.flushed_index(), 5);
    assert!(log.append(entries(2, 6..9)));
    let expected: Vec<_> = entries(1, 1..6).into_iter().chain(entries(2, 6..9)).collect();
    assert_eq!(log.entries(), expected);
    drop(log);
    let log = open_with(Arc::new(disk), dir(), options(1 << 20, 0)).unwrap();
    assert_eq!(log.entries(), expected);
}

#[test]
fn a_lazy_mark_causes_no_flush() {
    let disk = SimulatedDisk::new();
    let log = open(&disk).unwrap();
    assert!(log.append(entries(1, 1..5)));
    log.wal.wait_reserve();
    let syncs = disk.count(crate::disk::Call::Sync);
    for index in 1..5 {
        log.wal.save_committed(id(1, index));
    }
    assert_eq!(disk.count(crate::disk::Call::Sync), syncs);
    assert!(log.append(entries(1, 5..6)));
    assert_eq!(disk.count(crate::disk::Call::Sync), syncs + 1);
    let log = open(&disk.process_killed()).unwrap();
    assert_eq!(log.recovered.committed, Some(id(1, 4)));
}

#[test]
fn threads_append_and_read_at_once() {
    let temporary = tempfile::tempdir().unwrap();
    let log = open_with(Arc::new(RealDisk), temporary.path(), options(64 << 10, 2000)).unwrap();
    let (next, stop) = (Mutex::new(1), AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Some(last) = log.wal.last() else { continue };
                    let first = (last.index * 7919 / 10_007).max(1);
                    let read = log.wal.read(first, first + 50, 4000).unwrap();
                    assert!(!read.is_empty());
                    let end = first + read.len() as u64;
                    assert_eq!(read, entries(1, first..end));
                    let tail = log.wal.read(last.index, last.index + 1, 0).unwrap();
                    assert_eq!(tail, entries(1, last.index..last.index + 1));
                }
            });
        }
        let writers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..250 {
                        let mut next = next.lock().unwrap();
                        let index = *next;
                        *next += 3;
                        let acknowledged = Arc::clone(&acknowledged);
                        let done = move |result: std::io::Result<()>| {
                            result.unwrap();
                            acknowledged.fetch_add(3, Ordering::Relaxed);
                        };
                        log.wal.append(entries(1, index..index + 3), Box::new(done));
                        drop(next);
                        if index % 5 == 0 {
                            assert!(log.wal.wait_flushed(index + 2));
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    log.wal.close();
    assert_eq!(acknowledged.load(Ordering::Relaxed), 3000);
    assert_eq!(log.entries(), entries(1, 1..3001));
    assert!(!log.append(entries(1, 3001..3002)), "closed");
}

#[test]
fn the_last_handle_may_be_dropped_by_a_completion() {
    let disk = SimulatedDisk::new();
    let log = open(&disk).unwrap();
    let (send, receive) = mpsc::channel();
    let wal = log.wal.clone();
    log.wal.append(
        entries(1, 1..2),
        Box::new(move |_| {
            drop(wal);
            send.send(()).unwrap();
        }),
    );
    drop(log);
    receive.recv().unwrap();
}
