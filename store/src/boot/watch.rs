//! Runs work that may panic or hang on a thread of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Why work did not come to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    Panicked,
    /// Its thread goes on for ever; only the end of the process stops it.
    Hung,
}

/// Waits for `work` as long as `progress` moves at least once in every `stall`.
pub(super) fn watch<T: Send + 'static>(
    stall: Duration,
    progress: &AtomicU64,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let (send, result) = mpsc::channel();
    let thread = std::thread::Builder::new().name("kvd-boot".into());
    let spawned = thread.spawn(move || {
        // Nobody listens any more when it was given up.
        let _ = send.send(work());
    });
    spawned.expect("a starting process can have another thread");
    let mut seen = progress.load(Ordering::Relaxed);
    loop {
        match result.recv_timeout(stall) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(Stopped::Panicked),
            Err(RecvTimeoutError::Timeout) => {
                let now = progress.load(Ordering::Relaxed);
                if now == seen {
                    return Err(Stopped::Hung);
                }
                seen = now;
            }
        }
    }
}
