//! Pins: revisions whose rows must stay because somebody is reading them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// While it lives, compactions above its revision wait with their removal. Taken under the state's
/// lock, so that no row goes between the look at the index and the pin.
#[derive(Debug)]
pub(super) struct Pin {
    revision: i64,
    pins: Arc<Pins>,
}

#[derive(Debug, Default)]
pub(super) struct Pins(Mutex<BTreeMap<i64, usize>>);

impl Pins {
    pub(super) fn pin(self: &Arc<Self>, revision: i64) -> Pin {
        *self.pins().entry(revision).or_default() += 1;
        Pin { revision, pins: self.clone() }
    }

    /// Whether a compaction at `main` has to wait.
    pub(super) fn any_below(&self, main: i64) -> bool {
        self.pins().first_key_value().is_some_and(|(pinned, _)| *pinned < main)
    }

    fn pins(&self) -> std::sync::MutexGuard<'_, BTreeMap<i64, usize>> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.pins();
        if let Some(count) = pins.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.revision);
            }
        }
    }
}
