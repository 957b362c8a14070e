//! Which server a test runs, and where its binary is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A server that speaks etcd's API and takes etcd's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Kvd,
    Etcd,
}

impl Target {
    /// What `TARGET` says; kvd when it says nothing.
    pub fn from_env() -> Result<Self> {
        match std::env::var("TARGET") {
            Err(_) => Ok(Self::Kvd),
            Ok(name) => name.parse().context("TARGET"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Kvd => "kvd",
            Self::Etcd => "etcd",
        }
    }

    /// The program to start.
    ///
    /// # Errors
    /// When it was not built; the message says how to build it.
    pub fn binary(self) -> Result<PathBuf> {
        let (variable, default, remedy) = match self {
            Self::Kvd => ("KVD_BIN", profile_dir()?.join("kvd"), "cargo build --bin kvd"),
            Self::Etcd => ("KVD_ETCD", go_dir().join("etcd"), "tests/go/build etcd"),
        };
        let path = std::env::var_os(variable).map_or(default, PathBuf::from);
        if !path.is_file() {
            bail!("no {} at {}: run `{remedy}` or set {variable}", self.name(), path.display());
        }
        Ok(path)
    }

    /// Whether the program is there.
    pub fn is_built(self) -> bool {
        self.binary().is_ok()
    }
}

impl std::str::FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "kvd" => Ok(Self::Kvd),
            "etcd" => Ok(Self::Etcd),
            other => bail!("unknown target '{other}': kvd or etcd"),
        }
    }
}

/// The directory of the running profile's binaries.
fn profile_dir() -> Result<PathBuf> {
    let executable = std::env::current_exe().context("the running executable has a path")?;
    let dir = executable.parent().context("an executable is in a directory")?;
    // Test executables are in target/<profile>/deps, binaries in target/<profile>.
    let profile = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(profile.to_path_buf())
}

/// Where `tests/go/build` puts the Go programs.
fn go_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/go")
}

/// A binary of this workspace, e.g. `kvctl`.
///
/// # Errors
/// When it was not built.
pub fn workspace_binary(name: &str) -> Result<PathBuf> {
    let path = profile_dir()?.join(name);
    if !path.is_file() {
        bail!("no {name} at {}: run `cargo build` first", path.display());
    }
    Ok(path)
}

/// One of the Go programs: `etcd`, `etcdctl` or `etcdutl`.
///
/// # Errors
/// When it was not built.
pub fn go_binary(name: &str) -> Result<PathBuf> {
    let path = go_dir().join(name);
    if !path.is_file() {
        bail!("no {name} at {}: run `tests/go/build {name}`", path.display());
    }
    Ok(path)
}

/// Whether tests that need the real etcd must run, even if that means to fail.
pub fn etcd_is_required() -> bool {
    std::env::var_os("KVD_REQUIRE_ETCD").is_some_and(|value| value == "1")
}
