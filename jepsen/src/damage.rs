//! What happens to files between two starts of a member: gone, cut short, other bytes.
//!
//! Only what a member promises to survive: all of `db/`, and the newest snapshot file, which an
//! older one or the log always stands in for. Never the log.

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

const OF_DB: [Damage; 4] =
    [Damage::DbDeleted, Damage::DbFileDeleted, Damage::DbTruncated, Damage::DbFlipped];
const OF_SNAPSHOT: [Damage; 3] =
    [Damage::SnapshotDeleted, Damage::SnapshotTruncated, Damage::SnapshotFlipped];

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

/// Does it, as far as there is anything to damage.
pub(crate) fn inflict(data_dir: &Path, damages: &[Damage], rng: &mut StdRng) -> Result<Done> {
    let mut done = Done::default();
    for damage in damages {
        let engine = files(&data_dir.join("db"))?;
        let mut snapshots = files(&data_dir.join("snap"))?;
        snapshots.retain(|path| path.extension().is_some_and(|extension| extension == "db"));
        let targets = match damage {
            Damage::DbDeleted | Damage::DbFileDeleted | Damage::DbTruncated | Damage::DbFlipped => {
                engine
            }
            // Names begin with the index, so the last is the newest.
            _ => snapshots.last().cloned().into_iter().collect(),
        };
        let Some(target) = targets.choose(rng) else { continue };
        let what = match damage {
            Damage::DbDeleted => {
                fs::remove_dir_all(data_dir.join("db"))?;
                // With the whole log there, no engine at all is what a new member looks like.
                done.must_warn |= !snapshots.is_empty();
                "db/ deleted".to_owned()
            }
            Damage::DbFileDeleted | Damage::SnapshotDeleted => {
                fs::remove_file(target)?;
                format!("{} deleted", name(target))
            }
            Damage::DbTruncated | Damage::SnapshotTruncated => truncate(target, rng)?,
            Damage::DbFlipped | Damage::SnapshotFlipped => flip(target, rng)?,
        };
        done.what.push(what);
    }
    Ok(done)
}

fn truncate(path: &Path, rng: &mut StdRng) -> Result<String> {
    let bytes = fs::metadata(path)?.len();
    let left = if bytes == 0 { 0 } else { rng.random_range(0..bytes) };
    OpenOptions::new().write(true).open(path)?.set_len(left)?;
    Ok(format!("{} cut from {bytes} to {left} bytes", name(path)))
}

fn flip(path: &Path, rng: &mut StdRng) -> Result<String> {
    let file = File::options().read(true).write(true).open(path)?;
    let bytes = file.metadata()?.len();
    if bytes == 0 {
        return Ok(format!("{} is empty, left as it is", name(path)));
    }
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

    #[test]
    fn the_same_seed_does_the_same_damage() {
        let once = || {
            let dir = tempfile::tempdir().unwrap();
            for name in ["db/a", "db/b", "snap/1.db", "snap/2.db", "wal/1.wal"] {
                let path = dir.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, [7; 5000]).unwrap();
            }
            let mut rng = StdRng::seed_from_u64(5);
            let both = [Damage::SnapshotFlipped, Damage::DbTruncated];
            let done = inflict(dir.path(), &both, &mut rng).unwrap();
            assert_eq!(fs::read(dir.path().join("wal/1.wal")).unwrap(), [7; 5000]);
            assert_eq!(fs::read(dir.path().join("snap/1.db")).unwrap(), [7; 5000]);
            assert_ne!(fs::read(dir.path().join("snap/2.db")).unwrap(), [7; 5000]);
            done.what
        };
        assert_eq!(once(), once());
    }
}
