//! Members of a cluster on this machine under one load, at the leader or at a follower.

use anyhow::{Context, Result};
use harness::{Cluster, ClusterOptions};

use super::cells::{self, Contender, Figures, SLOW_DISK, Size, base};
use super::rows::Row;
use crate::measure::{Probe, Process};
use crate::scenario::{Kind, Scenario};
use crate::{admin, print};

/// Running members; their directory goes with them.
struct Members {
    cluster: Cluster,
    leader: usize,
    _dir: tempfile::TempDir,
}

pub(super) fn run(
    row: Row,
    contender: &Contender<'_>,
    members: usize,
    size: &Size,
) -> Result<Figures> {
    let put = |clients, connections| Scenario { clients, connections, ..base(Kind::Put) };
    let range = Scenario { keys: 10_000, ..base(Kind::Range) };
    let wrapper = match row {
        Row::ClusterSlowDisk => [&SLOW_DISK[..], &["/dev/null"]].concat(),
        _ => Vec::new(),
    };
    let members = Members::start(contender, members, &wrapper)?;
    let (leader, follower) = (members.leader, members.follower());
    let figures = match row {
        Row::ClusterPut1 | Row::ClusterSlowDisk => members.loaded(&put(1, 1), leader, size),
        Row::ClusterPut100 => members.loaded(&put(100, 10), leader, size),
        Row::FollowerPut100 => members.loaded(&put(100, 10), follower, size),
        Row::ClusterRange => members.loaded(&range, leader, size),
        Row::FollowerRange => members.loaded(&range, follower, size),
        other => unreachable!("{other:?} is a row of a single member"),
    };
    // The logs go with the directory.
    figures.inspect_err(|_| print::progress(&members.cluster.log_tails()))
}

impl Members {
    fn start(contender: &Contender<'_>, members: usize, wrapper: &[&str]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("kvbench-").tempdir_in(contender.parent)?;
        let mut options = ClusterOptions::new(contender.target, members);
        // Peers talk to each other as they will, not through the harness.
        options.links = false;
        options.dir = Some(dir.path().to_owned());
        options.program = Some(contender.program.to_owned());
        options.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        let cluster = Cluster::start_with(options)?;
        let leader = admin::wait(cluster.leader())?;
        Ok(Self { cluster, leader, _dir: dir })
    }

    fn follower(&self) -> usize {
        (self.leader + 1) % self.cluster.places().len()
    }

    /// CPU is that of all members together.
    fn loaded(&self, scenario: &Scenario, place: usize, size: &Size) -> Result<Figures> {
        let process = |place: usize| self.cluster.node(place).pid().map(Process::new);
        let processes: Option<Vec<Process>> = self.cluster.places().map(process).collect();
        let probe = Probe::new(processes.context("a member has ended")?, None)?;
        let endpoint = self.cluster.node(place).endpoint();
        Ok(cells::load(scenario, &endpoint, &probe, size)?.figures)
    }
}
