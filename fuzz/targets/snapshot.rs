//! A snapshot file, ours or etcd's: read, loaded into an engine, opened as a store, saved again.
//!
//! The input is `how | page | page | ..`, each page a part as long as its kind says, zero where the input
//! is shorter. With the first bit of `how` the metas' checksums are made to fit, with the second there
//! is a SHA-256 at the end.
#![no_main]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use kvd_fuzz::image;
use libfuzzer_sys::fuzz_target;
use store::engine::{Engine, MemoryEngine};
use store::mvcc::{Store, StoreOptions};
use store::snapshot::{Checksum, Snapshot, Status, load, save};
use tempfile::TempDir;

/// In memory, where there is such a place.
static DIR: LazyLock<TempDir> = LazyLock::new(|| {
    let shared = Path::new("/dev/shm");
    let made = if shared.is_dir() { TempDir::new_in(shared) } else { TempDir::new() };
    made.expect("a folder for the file")
});

/// The store that a file says it is, or None if it says nothing a store could be.
fn store_of(path: &Path) -> Option<Arc<Store>> {
    let snapshot = Snapshot::open(path, Checksum::Skip).ok()?;
    let mut changes = snapshot.changes().ok()?;
    while changes.next().ok()?.is_some() {}
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    load(&snapshot, &engine).ok()?;
    Store::open(engine, StoreOptions::default()).ok()
}

fuzz_target!(|input: &[u8]| {
    let Some((how, pages)) = input.split_first() else { return };
    let mut file = image::of_pages(pages);
    if how & 1 != 0 {
        image::reseal_metas(&mut file);
    }
    if how & 2 != 0 {
        image::append_sha(&mut file);
    }
    let path = DIR.path().join("file.db");
    std::fs::write(&path, &file).expect("the file can be written");
    let _ = Status::of(&path);
    let _ = Snapshot::open(&path, Checksum::Verify);
    let Some(store) = store_of(&path) else { return };
    let saved = DIR.path().join("saved.db");
    let source = store.snapshot_source();
    save(&source, &saved, &mut |_| ControlFlow::Continue(())).expect("a store can be saved");
    let again = store_of(&saved).expect("what was saved can be loaded");
    assert_eq!((again.revision(), again.members()), (store.revision(), store.members()));
    assert_eq!((again.applied(), again.leases()), (store.applied(), store.leases()));
});
