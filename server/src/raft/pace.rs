//! A leader whose disk cannot keep up with the others hands its leadership over.
//!
//! A quorum commits without the leader's own disk, so a slow one does not slow the cluster down at
//! once; but a leader is the one member whose stalls everybody feels.

/// Looks, one a heartbeat, that are remembered.
const LOOKS: u32 = 30;
/// So many of them must show the leader behind: a stall of the card is shorter.
const BEHIND_MIN: u32 = 20;

/// What the last looks at this leader's log showed.
#[derive(Debug, Default)]
pub struct Pace {
    behind: u32,
}

impl Pace {
    /// Takes how far this leader's log is synced and how far the cluster has committed. True when
    /// somebody else should lead; to be asked anew after as many looks.
    pub fn look(&mut self, flushed: u64, committed: u64) -> bool {
        let mask = (1 << LOOKS) - 1;
        self.behind = (self.behind << 1 | u32::from(flushed < committed)) & mask;
        let lags = self.behind.count_ones() >= BEHIND_MIN;
        if lags {
            self.behind = 0;
        }
        lags
    }

    /// This member does not lead.
    pub fn reset(&mut self) {
        self.behind = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_is_behind_most_of_the_time_lags() {
        let mut pace = Pace::default();
        let looks = (0..28).map(|look| pace.look(if look % 4 == 0 { 9 } else { 5 }, 9));
        assert_eq!(looks.filter(|lags| *lags).count(), 1);
    }

    #[test]
    fn a_stall_and_an_idle_cluster_do_not_count() {
        let mut pace = Pace::default();
        assert!((0..19).all(|_| !pace.look(5, 9)));
        pace.reset();
        assert!((0..100).all(|look| !pace.look(9, if look % 2 == 0 { 9 } else { 10 })));
    }
}
