//! Finds a short list of steps that shows a difference.

use anyhow::Result;

use super::run::{Difference, Plan, replay};

/// Leaves out larger, then smaller parts of the steps, as long as what is left still differs.
pub(crate) async fn shrink(plan: &Plan, found: Difference) -> Result<Difference> {
    let mut best = found;
    let mut runs = 0;
    let mut part = best.steps.len().div_ceil(2);
    while part > 0 && runs < plan.shrink_runs_max {
        let mut from = 0;
        let mut shorter = false;
        while from < best.steps.len() && runs < plan.shrink_runs_max {
            let mut fewer = best.steps.clone();
            fewer.drain(from..best.steps.len().min(from + part));
            runs += 1;
            match replay(plan, &fewer).await? {
                Err(what) => {
                    best = Difference { steps: fewer, what: format!("{what:#}"), ..best };
                    shorter = true;
                }
                Ok(()) => from += part,
            }
        }
        if !shorter || part > best.steps.len() {
            part /= 2;
        }
    }
    Ok(best)
}
