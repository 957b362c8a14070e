//! Checks of the engine's files before they are opened, for what opening them would not survive.

use std::path::Path;

use super::OpenError;

pub(super) fn prepare(_dir: &Path) -> Result<(), OpenError> {
    Ok(())
}

/// Makes the names and the cookie durable that opening created; it syncs only a part of them.
pub(super) fn sync_files(dir: &Path) -> Result<(), OpenError> {
    for name in ["durability_cookie", "metadata", "slabs", "."] {
        let path = dir.join(name);
        std::fs::File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|source| OpenError::Io { operation: "sync", path, source })?;
    }
    Ok(())
}
