//! The engines, and the ways in which the life of one can go on.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::{Engine, MemoryEngine, SledEngine, SledOptions};

/// An engine under test, with the ways in which its life can go on.
pub(super) trait Subject: Sized {
    fn create() -> Self;
    fn engine(&self) -> Arc<dyn Engine>;
    /// Closes it in good order and opens it again.
    fn reopen(self) -> Self;
    /// What a crash right now can leave behind.
    fn crashes(&self) -> Vec<Self>;
}

pub(super) struct Memory(MemoryEngine);

impl Subject for Memory {
    fn create() -> Self {
        Self(MemoryEngine::new())
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.0.clone())
    }

    fn reopen(self) -> Self {
        self
    }

    fn crashes(&self) -> Vec<Self> {
        (0..=self.0.unflushed()).map(|kept| Self(self.0.after_crash(kept))).collect()
    }
}

pub(super) struct Sled {
    engine: Arc<SledEngine>,
    dir: TempDir,
}

impl Sled {
    fn open(dir: TempDir) -> Self {
        Self { engine: Arc::new(open_sled(dir.path())), dir }
    }
}

pub(super) fn open_sled(dir: &Path) -> SledEngine {
    let options = SledOptions { cache_bytes: 1 << 20, ..SledOptions::default() };
    SledEngine::open(&dir.join("db"), options).unwrap()
}

impl Subject for Sled {
    fn create() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    fn engine(&self) -> Arc<dyn Engine> {
        self.engine.clone()
    }

    fn reopen(self) -> Self {
        drop(self.engine);
        Self::open(self.dir)
    }

    fn crashes(&self) -> Vec<Self> {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(self.dir.path(), copy.path());
        vec![Self::open(copy)]
    }
}

pub(in super::super) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
