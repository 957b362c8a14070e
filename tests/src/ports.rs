//! Free TCP ports for server processes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Below the range from which kernels take the local ports of outgoing connections, so that a
/// port cannot be taken away between its choice and its use.
const FIRST: u16 = 15_000;
/// Ports that a process takes for itself at a time, by a lock on a file, and how many such blocks there
/// are. What it was given stays its own while nobody listens: a server may be started again.
const BLOCK: u16 = 100;
const BLOCKS: u16 = 170;

/// What this process took.
struct Ports {
    next: u16,
    end: u16,
    locks: Vec<File>,
}

static OURS: Mutex<Ports> = Mutex::new(Ports { next: 0, end: 0, locks: Vec::new() });

/// A port on 127.0.0.1 that nobody listens on, and that neither this process nor another one of these
/// tests was given before.
///
/// # Panics
/// When no port is free.
pub fn free_port() -> u16 {
    let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if ours.next == ours.end {
            ours.take_block();
        }
        let port = ours.next;
        ours.next += 1;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

impl Ports {
    fn take_block(&mut self) {
        let dir = std::env::temp_dir().join("kvd-ports");
        fs::create_dir_all(&dir).expect("there is a directory for temporary files");
        // Concurrent processes start at different places.
        let start = (std::process::id() % u32::from(BLOCKS)) as u16;
        for block in (0..BLOCKS).map(|nth| (start + nth) % BLOCKS) {
            let lock = File::create(dir.join(block.to_string())).expect("files can be made");
            if lock.try_lock().is_ok() {
                self.next = FIRST + block * BLOCK;
                self.end = self.next + BLOCK;
                self.locks.push(lock);
                return;
            }
        }
        panic!(
            "no free port on 127.0.0.1 from {FIRST}: {BLOCKS} files in {} are locked",
            dir.display()
        );
    }
}
