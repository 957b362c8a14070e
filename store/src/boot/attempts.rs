//! Counts the attempts to open the engine that the process did not survive.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Fatal;

/// A single one may have been a power failure, or a supervisor that lost its patience.
const SURVIVED_MAX: u32 = 2;
const SUFFIX: &str = "opening";

/// The file `<db>.opening`: it exists while the engine is opened, and afterwards if that failed.
pub(super) struct Attempts {
    file: PathBuf,
}

impl Attempts {
    pub(super) fn of(db: &Path) -> Self {
        Self { file: db.with_extension(SUFFIX) }
    }

    /// Whether it is time to rebuild the engine instead of opening it once more.
    pub(super) fn exhausted(&self) -> Result<bool, Fatal> {
        Ok(self.count()? >= SURVIVED_MAX)
    }

    /// Opening begins.
    pub(super) fn begin(&self) -> Result<(), Fatal> {
        self.write(self.count()?.saturating_add(1))
    }

    /// Opening came to an end, whichever.
    pub(super) fn end(&self) -> Result<(), Fatal> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Fatal::io("remove", &self.file, error))
            }
            _ => Ok(()),
        }
    }

    /// There shall be no further attempt.
    pub(super) fn exhaust(&self) -> Result<(), Fatal> {
        self.write(SURVIVED_MAX)
    }

    fn count(&self) -> Result<u32, Fatal> {
        match std::fs::read_to_string(&self.file) {
            // An empty file is one that a power failure interrupted.
            Ok(count) => Ok(count.trim().parse().unwrap_or(1)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(Fatal::io("read", &self.file, error)),
        }
    }

    fn write(&self, count: u32) -> Result<(), Fatal> {
        let written = File::create(&self.file).and_then(|mut file| {
            writeln!(file, "{count}")?;
            file.sync_all()
        });
        written.map_err(|source| Fatal::io("write", &self.file, source))
    }
}
