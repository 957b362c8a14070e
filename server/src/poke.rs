//! How the housekeeper's thread is woken, and told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Wakes the housekeeper.
#[derive(Clone)]
pub struct Poke {
    sender: Sender<Errand>,
    /// A poke has not been noticed yet, so that another would say nothing new.
    poked: Arc<AtomicBool>,
}

enum Errand {
    Look,
    Stop,
}

impl Poke {
    pub fn new() -> (Self, Errands) {
        let (sender, receiver) = channel();
        let poked = Arc::new(AtomicBool::new(false));
        (Self { sender, poked: poked.clone() }, Errands { receiver, poked })
    }

    pub fn look(&self) {
        if !self.poked.swap(true, Ordering::AcqRel) {
            // The keeper is gone only when the process stops.
            let _ = self.sender.send(Errand::Look);
        }
    }

    pub fn stop(&self) {
        let _ = self.sender.send(Errand::Stop);
    }
}

/// The housekeeper's end of its pokes.
pub struct Errands {
    receiver: Receiver<Errand>,
    poked: Arc<AtomicBool>,
}

impl Errands {
    /// Waits for a poke or until `timeout`. False when the thread is to end.
    pub fn wait(&self, timeout: Duration) -> bool {
        let woken = self.receiver.recv_timeout(timeout);
        self.poked.store(false, Ordering::Release);
        !matches!(woken, Ok(Errand::Stop) | Err(RecvTimeoutError::Disconnected))
    }
}
