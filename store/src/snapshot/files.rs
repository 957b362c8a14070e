//! The folder of snapshot files: names, order, and which to keep.

use std::path::{Path, PathBuf};

use crate::{Fatal, LogId};

/// Two, so that one is left if the newest turns out to be unreadable.
const KEPT_FILES: usize = 2;
const SUFFIX: &str = ".db";
pub(super) const UNFINISHED_SUFFIX: &str = ".tmp";

/// The name of the file that holds the state at `applied`.
pub fn file_name(applied: LogId) -> String {
    format!("{:016x}-{:016x}{SUFFIX}", applied.index, applied.term)
}

/// The name of a file in the making, which the next start removes.
pub fn unfinished_name(stem: &str) -> String {
    format!("{stem}{UNFINISHED_SUFFIX}")
}

fn parse_name(name: &str) -> Option<LogId> {
    let (index, term) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let parse =
        |digits: &str| (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    Some(LogId { index: parse(index)?, term: parse(term)? })
}

/// The finished files of a folder, newest first. Other files are passed over.
pub fn list(dir: &Path) -> Result<Vec<(LogId, PathBuf)>, Fatal> {
    let io = |source| Fatal::io("list", dir, source);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        if let Some(applied) = entry.file_name().to_str().and_then(parse_name) {
            files.push((applied, entry.path()));
        }
    }
    files.sort_by_key(|(applied, _)| std::cmp::Reverse(applied.index));
    Ok(files)
}

/// Removes all but the newest two files and returns where the log may be purged up to.
///
/// That is the older of the two, so that the loss of one file is survived; and nothing is purged
/// before there are two. Call it only after the newest file was verified, as [`super::save()`] does.
pub fn prune(dir: &Path) -> Result<Option<LogId>, Fatal> {
    let files = list(dir)?;
    for (_, path) in files.iter().skip(KEPT_FILES) {
        std::fs::remove_file(path).map_err(|source| Fatal::io("remove", path, source))?;
    }
    Ok(files.get(KEPT_FILES - 1).map(|(applied, _)| *applied))
}

/// Removes what a crash left of files in the making.
pub fn remove_unfinished(dir: &Path) -> Result<(), Fatal> {
    for entry in std::fs::read_dir(dir).map_err(|source| Fatal::io("list", dir, source))? {
        let path = entry.map_err(|source| Fatal::io("list", dir, source))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.ends_with(UNFINISHED_SUFFIX)) {
            std::fs::remove_file(&path).map_err(|source| Fatal::io("remove", &path, source))?;
        }
    }
    Ok(())
}
