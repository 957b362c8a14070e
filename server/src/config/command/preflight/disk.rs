//! The data directory, and files that are written or read beside it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};
use store::datadir::DataDir;

use super::Site;
use crate::config::{LogOutput, value};

/// Whether the member has data already.
pub(super) fn look(site: &mut Site<'_>) -> bool {
    let begun = data_dir(site);
    logs(site);
    token_keys(site);
    begun
}

fn data_dir(site: &mut Site<'_>) -> bool {
    let config = site.config;
    let path = config.data_dir.as_path();
    let begun = match DataDir::look(path) {
        Ok(identity) => identity.is_some(),
        Err(error) => {
            let text = error.to_string();
            let (why, remedy) = text.split_once(": ").unwrap_or((&text, "choose another one"));
            site.problem("data-dir", why, remedy);
            return false;
        }
    };
    let Some(place) = existing(path) else { return begun };
    if !place.is_dir() {
        let why = format!("{} is not a directory", place.display());
        site.problem("data-dir", why, "give another path");
    } else if let Err(error) = access(&place, Access::WRITE_OK | Access::EXEC_OK | Access::READ_OK)
    {
        let why = format!("{} cannot be written ({error})", place.display());
        let remedy = "it must belong to the user kvd runs as (chown -R, chmod 700)";
        site.problem("data-dir", why, remedy);
    }
    if let Ok(disk) = statvfs(&place) {
        let (all, free) = (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize);
        let reserve = config.disk_reserve_bytes(all);
        if free < reserve {
            let why = format!(
                "{} MiB are free there, and below {} MiB writes are refused",
                free >> 20,
                reserve >> 20
            );
            site.warning("data-dir", why);
        }
    }
    begun
}

/// The path, or what it would be made in.
fn existing(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find(|place| place.exists()).map(Path::to_owned)
}

fn logs(site: &mut Site<'_>) {
    for output in &site.config.log.outputs {
        let LogOutput::File(path) = output else { continue };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let place = if path.exists() { path } else { dir.unwrap_or(Path::new(".")) };
        if let Err(error) = access(place, Access::WRITE_OK) {
            let why = format!("{} cannot be written ({error})", place.display());
            let remedy = "choose a file in a directory that exists and may be written";
            site.problem("log-outputs", why, remedy);
        }
    }
}

/// The keys of `--auth-token=jwt,...`.
fn token_keys(site: &mut Site<'_>) {
    let text = site.settings.text("auth-token").to_owned();
    for word in value::list(&text) {
        let Some(("pub-key" | "priv-key", path)) = word.split_once('=') else { continue };
        if let Err(error) = File::open(path) {
            let why = format!("{path} cannot be read ({error})");
            site.problem("auth-token", why, "check the path and its rights");
        }
    }
}
