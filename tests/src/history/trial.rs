//! A cluster, its clients and the checker: rounds of work during which anything may happen.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::history::author::Mix;
use crate::history::check::{Checker, Summary};
use crate::history::crowd::Crowd;
use crate::history::inspect::inspect;
use crate::history::knowledge::Knowledge;
use crate::history::wire::Failure;
use crate::{Cluster, PATIENCE};

/// Problems shown; there may be thousands with one cause.
const SHOWN_MAX: usize = 12;

/// A broken promise, as opposed to a run that could not be made.
#[derive(Debug)]
pub struct Violation(pub Vec<String>);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_MAX)];
        write!(f, "{}", shown.join("\n  "))?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for Violation {}

/// Everything that was ever true of a cluster. Used inside of a runtime of several threads.
pub struct Trial {
    pub cluster: Cluster,
    knowledge: Arc<Knowledge>,
    checker: Checker,
    crowd: Option<Crowd>,
    rng: StdRng,
}

impl Trial {
    /// For a cluster that nobody has written to.
    pub fn new(cluster: Cluster, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let (knowledge, checker) = (Arc::default(), Checker::patient());
        Self { cluster, knowledge, checker, crowd: None, rng }
    }

    /// Starts the clients of a round.
    pub fn work(&mut self, mix: Mix) {
        let (endpoints, seed) = (self.cluster.endpoints(), self.rng.random());
        let crowd = Crowd::start(endpoints, mix, seed, self.checker.upto() + 1, &self.knowledge);
        self.crowd = Some(crowd);
    }

    /// The clients at work.
    ///
    /// # Panics
    /// When they do not work.
    pub fn crowd(&self) -> &Crowd {
        self.crowd.as_ref().expect("clients are at work")
    }

    /// Ends the round of a cluster in which all is well again, and holds all members to everything
    /// that was acknowledged or seen.
    ///
    /// # Errors
    /// With a [`Violation`] when a promise was broken.
    pub async fn check(&mut self) -> Result<Summary> {
        let mut crowd = self.crowd.take().context("clients were at work")?;
        let mut round = crowd.rest().await;
        self.cluster.leader().await.map_err(violation)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let places: Vec<usize> = self.cluster.places().collect();
            let place = *places.choose(&mut self.rng).context("there are members")?;
            let endpoint = self.cluster.node(place).endpoint();
            round.replayed.clear();
            round.compacted = 0;
            let asked = inspect(&endpoint, &mut round, &self.knowledge, &mut self.rng).await;
            match asked {
                Ok(()) => break,
                // A new leader a moment ago, or none: that is an answer to try again upon.
                Err(error) if is_failure(&error) && Instant::now() < deadline => {}
                Err(error) => {
                    let what = anyhow!("member {} does not answer as it must", place + 1);
                    bail!(violation(error.context(what)));
                }
            }
        }
        crowd.end(&mut round).await.map_err(Violation)?;
        let summary = self.checker.absorb(&round).map_err(Violation)?;
        self.cluster.wait_in_step().await.map_err(violation)?;
        Ok(summary)
    }
}

/// Whether a call was answered by an error, as opposed to something that cannot be true.
fn is_failure(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<Failure>().is_some())
}

fn violation(error: anyhow::Error) -> Violation {
    Violation(vec![format!("{error:#}")])
}
