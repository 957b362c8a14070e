//! The store that is in use, and how far it is.

use std::sync::{Arc, PoisonError, RwLock};

use store::mvcc::Store;
use tokio::sync::watch;

/// The store in use. A snapshot installed from a peer replaces it as a whole.
pub struct Current {
    store: RwLock<Arc<Store>>,
    applied: watch::Sender<u64>,
    /// Rounds of the housekeeper.
    rounds: watch::Sender<u64>,
}

impl Current {
    pub fn new(store: Arc<Store>) -> Self {
        let applied = watch::Sender::new(store.applied().index);
        Self { store: RwLock::new(store), applied, rounds: watch::Sender::new(0) }
    }

    pub fn load(&self) -> Arc<Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace(&self, store: Arc<Store>) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = store;
    }

    /// The housekeeper has seen to everything that was due.
    pub fn end_round(&self) {
        self.rounds.send_modify(|rounds| *rounds += 1);
    }

    pub fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    pub fn notify_applied(&self) {
        let index = self.load().applied().index;
        self.applied.send_if_modified(|applied| std::mem::replace(applied, index) != index);
    }

    /// Returns once this member has applied `index`; false if it never will.
    pub async fn wait_applied(&self, index: u64) -> bool {
        if self.load().applied().index >= index {
            return true;
        }
        self.applied.subscribe().wait_for(|applied| *applied >= index).await.is_ok()
    }
}
