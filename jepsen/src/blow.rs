//! The moment at which a member is hit.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use harness::Node;
use rand::Rng;
use rand::rngs::StdRng;
use rustix::process::Signal;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Blow {
    Working,
    /// Some time after SIGTERM: in the middle of its last checkpoint.
    Stopping(Duration),
    /// Once more, this long after its next start.
    Starting(Duration),
}

impl Blow {
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        let soon = Duration::from_millis(rng.random_range(0..60));
        match rng.random_range(0..100) {
            0..70 => Self::Working,
            70..85 => Self::Stopping(soon),
            _ => Self::Starting(soon * 5),
        }
    }

    /// What happens to the working member before it is hit.
    pub(crate) fn prepare(self, node: &Node) -> Result<()> {
        if let Self::Stopping(after) = self {
            node.signal(Signal::TERM)?;
            sleep(after);
        }
        Ok(())
    }
}
