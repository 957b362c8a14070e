//! Free TCP ports for server processes.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which kernels take the local ports of outgoing connections, so that a
/// port cannot be taken away between its choice and its use.
const FIRST: u32 = 15_000;
const COUNT: u32 = 17_000;

/// A port on 127.0.0.1 that nobody listens on and that this process did not return before.
///
/// # Panics
/// When no port is free.
pub fn free_port() -> u16 {
    // Concurrent test processes start at different places.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let port = u16::try_from(port).expect("FIRST + COUNT is below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 between {FIRST} and {}", FIRST + COUNT);
}
