//! A small ext4 file system in a file, behind a loop device: a disk that can be looked at from
//! outside, copied, filled and counted.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Copies that were disturbed by the device being written to.
const ATTEMPTS_MAX: u32 = 200;
const SECTOR_BYTES: u64 = 512;

/// Mounted. Dropped: unmounted, its device freed; the file stays.
#[derive(Debug)]
pub(crate) struct Image {
    file: PathBuf,
    mount: PathBuf,
    /// The loop device's name, e.g. `loop0`.
    device: String,
}

/// What a device was asked to do since it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) writes: u64,
    pub(crate) bytes_written: u64,
    in_flight: u64,
}

/// # Errors
/// What is missing, in words for whoever started a command that needs images.
pub(crate) fn require() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this command mounts disk images: it must run as root"
    );
    ensure!(
        Path::new("/dev/loop-control").exists(),
        "this command mounts disk images: there are no loop devices here (/dev/loop-control); \
         load the module `loop`, or run on a machine or in a container that has it"
    );
    for program in ["mkfs.ext4", "losetup", "mount", "umount"] {
        let found = Command::new(program).arg("-V").output();
        ensure!(found.is_ok(), "this command mounts disk images: there is no `{program}` here");
    }
    Ok(())
}

impl Image {
    /// A new, empty file system, mounted at `<dir>/<name>`.
    pub(crate) fn create(dir: &Path, name: &str, mib: u64) -> Result<Self> {
        let file = dir.join(format!("{name}.img"));
        File::create_new(&file)?.set_len(mib << 20)?;
        // Nothing is left for the kernel to initialise later, when writes are counted.
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-E", options]).arg(&file))?;
        Self::attach(dir, name)
    }

    /// Mounts `<dir>/<name>.img` at `<dir>/<name>`.
    pub(crate) fn attach(dir: &Path, name: &str) -> Result<Self> {
        let (file, mount) = (dir.join(format!("{name}.img")), dir.join(name));
        fs::create_dir_all(&mount)?;
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&file))?;
        let device = device.trim();
        let mounted = run(Command::new("mount").args(["-t", "ext4", device]).arg(&mount));
        // Marks the device to be freed by the unmounting, or frees it if there was no mounting.
        run(Command::new("losetup").args(["--detach", device]))?;
        mounted?;
        let device = device.trim_start_matches("/dev/").to_owned();
        Ok(Self { file, mount, device })
    }

    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    /// What has reached the device. Writes that only the file system knows of do not count.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let path = format!("/sys/block/{}/stat", self.device);
        let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let numbers: Vec<u64> = stat.split_whitespace().map_while(|n| n.parse().ok()).collect();
        ensure!(numbers.len() > 8, "{path} has {} numbers", numbers.len());
        let bytes_written = numbers[6] * SECTOR_BYTES;
        Ok(Counters { writes: numbers[4], bytes_written, in_flight: numbers[8] })
    }

    /// Everything the file system still keeps to itself goes to the device.
    pub(crate) fn sync(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.mount)?)?)
    }

    /// Bytes that a program may still write.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.mount)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Copies what the device holds at one moment to `to`, without asking the file system to
    /// write anything. Repeats itself while the device is written to, which ends soon if nobody
    /// but the kernel does so; says how often it took.
    pub(crate) fn copy_device(&self, to: &Path) -> Result<u32> {
        for attempt in 1..=ATTEMPTS_MAX {
            let before = self.counters()?;
            copy_sparse(&self.file, to)?;
            if before.in_flight == 0 && self.counters()? == before {
                return Ok(attempt);
            }
        }
        bail!("{} is written to all the time: it cannot be copied", self.device)
    }

    /// Unmounts, and removes the file.
    pub(crate) fn discard(self) -> Result<()> {
        let file = self.file.clone();
        run(Command::new("umount").arg(&self.mount))?;
        fs::remove_file(file)?;
        Ok(())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Not mounted any more, or in use by somebody who will be gone soon: lazily then.
        let is_mounted = fs::read_to_string("/proc/self/mounts")
            .is_ok_and(|mounts| mounts.contains(&*self.mount.to_string_lossy()));
        if is_mounted {
            let _ = run(Command::new("umount").arg("--lazy").arg(&self.mount));
        }
    }
}

/// A file that takes room away. Dropped: the room is there again.
#[derive(Debug)]
pub(crate) struct Ballast(PathBuf);

impl Ballast {
    /// Leaves about `left` bytes of the file system at `mount` free; 0 is exact.
    pub(crate) fn leave(mount: &Path, left: u64) -> Result<Self> {
        let path = mount.join("ballast");
        let file = File::create_new(&path)?;
        let ballast = Self(path);
        let flags = rustix::fs::FallocateFlags::empty();
        let mut size = 0;
        // Smaller and smaller pieces: the file system needs some blocks for its own books.
        for piece in [16 << 20, 1 << 20, 1 << 16, 1 << 12] {
            loop {
                let stat = rustix::fs::fstatvfs(&file)?;
                if stat.f_bavail * stat.f_frsize < left + piece
                    || rustix::fs::fallocate(&file, flags, size, piece).is_err()
                {
                    break;
                }
                size += piece;
            }
        }
        Ok(ballast)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // It may be gone with its file system.
        let _ = fs::remove_file(&self.0);
    }
}

/// Reads through the page cache, where the loop device keeps what was written to it.
pub(crate) fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from)?;
    let target = OpenOptions::new().create(true).write(true).truncate(true).open(to)?;
    target.set_len(source.metadata()?.len())?;
    let mut chunk = vec![0; 1 << 16];
    let zeroes = vec![0; 1 << 16];
    let mut offset = 0;
    loop {
        let count = source.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        if chunk[..count] != zeroes[..count] {
            target.write_all_at(&chunk[..count], offset)?;
        }
        offset += count as u64;
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
