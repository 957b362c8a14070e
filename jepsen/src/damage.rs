//! What happens to files between two starts of a member: gone, cut short, other bytes.
//!
//! Only what a member promises to survive: all of `db/`, and the newest snapshot file, which an
//! older one or the log always stands in for. Never the log.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    DbDeleted,
    DbFileDeleted,
    DbTruncated,
    DbFlipped,
    SnapshotDeleted,
    SnapshotTruncated,
    SnapshotFlipped,
}

/// The damage done, for people, and whether the member cannot have failed to see it.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) what: Vec<String>,
    pub(crate) must_warn: bool,
}

/// Damages the files of one member, and knows what it may not take away as well.
#[derive(Debug, Default)]
pub(crate) struct Vandal {
    /// Snapshot files that are there, and of no use.
    spoilt: BTreeSet<PathBuf>,
    /// Once there are two snapshot files, the log may be purged: then one of them must be left.
    may_be_purged: bool,
    /// Its files were changed since it was built.
    engine_is_suspect: bool,
}

const OF_DB: [Damage; 4] =
    [Damage::DbDeleted, Damage::DbFileDeleted, Damage::DbTruncated, Damage::DbFlipped];
const OF_SNAPSHOT: [Damage; 3] =
    [Damage::SnapshotDeleted, Damage::SnapshotTruncated, Damage::SnapshotFlipped];

/// One thing that a member of several can do without.
pub(crate) fn draw_one(rng: &mut StdRng) -> Damage {
    let either: &[Damage] = if rng.random_bool(0.7) { &OF_DB } else { &OF_SNAPSHOT };
    *either.choose(rng).expect("there are some")
}

/// What a round damages: mostly nothing, else the engine, the newest snapshot, or both.
pub(crate) fn draw(rng: &mut StdRng) -> Vec<Damage> {
    let db = *OF_DB.choose(rng).expect("there are some");
    let snapshot = *OF_SNAPSHOT.choose(rng).expect("there are some");
    match rng.random_range(0..100) {
        0..45 => vec![],
        45..75 => vec![db],
        75..85 => vec![snapshot],
        _ => vec![snapshot, db],
    }
}

impl Vandal {
    /// Of a member that may have got its state as a snapshot: then neither an older file nor the
    /// log stands in for that, and there is one thing at a time that it can do without.
    pub(crate) fn of_member() -> Self {
        Self { may_be_purged: true, ..Self::default() }
    }

    /// Whether the member may still run into damage of its engine: leaves are checked when read.
    pub(crate) fn engine_is_suspect(&self) -> bool {
        self.engine_is_suspect
    }

    pub(crate) fn engine_was_rebuilt(&mut self) {
        self.engine_is_suspect = false;
    }

    /// Does it, as far as there is anything to damage and the member can still survive it.
    pub(crate) fn inflict(
        &mut self,
        data_dir: &Path,
        damages: &[Damage],
        rng: &mut StdRng,
    ) -> Result<Done> {
        let mut done = Done::default();
        let snapshots = self.snapshots(data_dir)?;
        for damage in damages {
            match OF_DB.contains(damage) {
                true => {
                    let spoilt = spoil(*damage, &files(&data_dir.join("db"))?, rng)?;
                    self.engine_is_suspect |= spoilt.is_some();
                    done.what.extend(spoilt);
                }
                false => {
                    // Names begin with the index, so the last is the newest.
                    let Some((newest, older)) = snapshots.split_last() else { continue };
                    let is_left = older.iter().any(|file| !self.spoilt.contains(file));
                    if is_left || !self.may_be_purged {
                        done.what.extend(spoil(*damage, std::slice::from_ref(newest), rng)?);
                        self.spoilt.insert(newest.clone());
                    }
                }
            }
            if *damage == Damage::DbDeleted && data_dir.join("db").exists() {
                fs::remove_dir_all(data_dir.join("db"))?;
                self.engine_is_suspect = false;
                done.what.push("db/ deleted".to_owned());
                // With the whole log and no snapshot, that is what a new member looks like.
                done.must_warn = snapshots.iter().any(|file| !self.spoilt.contains(file));
            }
        }
        Ok(done)
    }

    /// The snapshot files, oldest first.
    fn snapshots(&mut self, data_dir: &Path) -> Result<Vec<PathBuf>> {
        let mut snapshots = files(&data_dir.join("snap"))?;
        snapshots.retain(|path| path.extension().is_some_and(|extension| extension == "db"));
        self.spoilt.retain(|path| snapshots.contains(path));
        self.may_be_purged |= snapshots.len() > 1;
        Ok(snapshots)
    }
}

/// Damages one of `files`, if there is one to damage.
fn spoil(damage: Damage, files: &[PathBuf], rng: &mut StdRng) -> Result<Option<String>> {
    let mut files = files.to_vec();
    files.retain(|file| fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0));
    let Some(file) = files.choose(rng) else { return Ok(None) };
    Ok(Some(match damage {
        Damage::DbDeleted => return Ok(None),
        Damage::DbFileDeleted | Damage::SnapshotDeleted => {
            fs::remove_file(file)?;
            format!("{} deleted", name(file))
        }
        Damage::DbTruncated | Damage::SnapshotTruncated => truncate(file, rng)?,
        Damage::DbFlipped | Damage::SnapshotFlipped => flip(file, rng)?,
    }))
}

fn truncate(path: &Path, rng: &mut StdRng) -> Result<String> {
    let bytes = fs::metadata(path)?.len();
    let left = rng.random_range(0..bytes);
    OpenOptions::new().write(true).open(path)?.set_len(left)?;
    Ok(format!("{} cut from {bytes} to {left} bytes", name(path)))
}

fn flip(path: &Path, rng: &mut StdRng) -> Result<String> {
    let file = File::options().read(true).write(true).open(path)?;
    let bytes = file.metadata()?.len();
    let count = rng.random_range(1..=20);
    for _ in 0..count {
        let at = rng.random_range(0..bytes);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        byte[0] ^= 1 << rng.random_range(0..8);
        file.write_all_at(&byte, at)?;
    }
    Ok(format!("{count} bits of {} flipped", name(path)))
}

/// All files below a folder, sorted; none if there is no such folder.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return Ok(found) };
    for entry in entries {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> String {
    let parent = path.parent().and_then(Path::file_name).unwrap_or_default();
    format!(
        "{}/{}",
        parent.to_string_lossy(),
        path.file_name().unwrap_or_default().to_string_lossy()
    )
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn member(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, [7; 5000]).unwrap();
        }
        dir
    }

    fn is_sound(dir: &Path, name: &str) -> bool {
        fs::read(dir.join(name)).is_ok_and(|bytes| bytes == [7; 5000])
    }

    #[test]
    fn the_same_seed_does_the_same_damage() {
        let once = || {
            let dir = member(&["db/a", "db/b", "snap/1.db", "snap/2.db", "wal/1.wal"]);
            let mut rng = StdRng::seed_from_u64(5);
            let both = [Damage::SnapshotFlipped, Damage::DbTruncated];
            let done = Vandal::default().inflict(dir.path(), &both, &mut rng).unwrap();
            assert!(is_sound(dir.path(), "wal/1.wal"));
            assert!(is_sound(dir.path(), "snap/1.db"));
            assert!(!is_sound(dir.path(), "snap/2.db"));
            assert_eq!(done.what.len(), 2);
            done.what
        };
        assert_eq!(once(), once());
    }

    #[test]
    fn the_last_sound_snapshot_is_left_alone_once_the_log_may_be_purged() {
        let mut rng = StdRng::seed_from_u64(5);
        for damage in OF_SNAPSHOT {
            let dir = member(&["snap/1.db", "snap/2.db"]);
            let mut vandal = Vandal::default();
            for _ in 0..3 {
                vandal.inflict(dir.path(), &[damage], &mut rng).unwrap();
                assert!(is_sound(dir.path(), "snap/1.db"));
                assert!(!is_sound(dir.path(), "snap/2.db"));
            }
        }
    }

    #[test]
    fn a_missing_engine_must_be_noticed_if_a_snapshot_is_left() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut deleted = |files: &[&str], damages: &[Damage]| {
            let dir = member(files);
            Vandal::default().inflict(dir.path(), damages, &mut rng).unwrap().must_warn
        };
        assert!(deleted(&["db/a", "snap/1.db"], &[Damage::DbDeleted]));
        assert!(!deleted(&["db/a"], &[Damage::DbDeleted]));
        let both = [Damage::SnapshotTruncated, Damage::DbDeleted];
        assert!(!deleted(&["db/a", "snap/1.db"], &both));
        assert!(deleted(&["db/a", "snap/1.db", "snap/2.db"], &both));
    }
}
