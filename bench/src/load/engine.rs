//! The loop: waits for sockets and due times, and lets groups call.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::group::Group;
use super::{GroupSpec, Pace, Tally};
use crate::h2::Connection;

/// The timer's place among epoll's data; connections are numbered from 0.
const TIMER: u64 = u64::MAX;
/// A server that answers nothing for this long has lost our calls.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long one wait may be, so that a silent server is noticed.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many calls may fail before a run with nothing but failures is given up.
const FAILURES_MAX: u64 = 1000;

/// When a run stops starting calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Time(Duration),
    /// Calls of each group.
    Calls(u64),
}

pub(crate) struct Engine {
    address: SocketAddr,
    poll: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
    connections: Vec<Connection>,
    /// Group of each connection, and whether epoll also waits for room to write.
    places: Vec<(usize, bool)>,
    groups: Vec<Group>,
    dirty: Vec<usize>,
    heard: Instant,
}

impl Engine {
    pub(crate) fn new(address: SocketAddr) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(&poll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(Self {
            address,
            poll,
            timer,
            events: Vec::with_capacity(256),
            connections: Vec::new(),
            places: Vec::new(),
            groups: Vec::new(),
            dirty: Vec::new(),
            heard: Instant::now(),
        })
    }

    /// Opens a group's connections. Its number is its place in what `run` returns.
    pub(crate) fn add(&mut self, spec: GroupSpec) -> Result<usize> {
        ensure!(spec.clients > 0 && spec.connections > 0, "a group needs clients and connections");
        let first = self.connections.len();
        for place in first..first + spec.connections as usize {
            let connection = Connection::open(self.address)?;
            let data = EventData::new_u64(place as u64);
            epoll::add(&self.poll, connection.socket(), data, EventFlags::IN)?;
            self.connections.push(connection);
            self.places.push((self.groups.len(), false));
        }
        self.groups.push(Group::new(spec, first));
        Ok(self.groups.len() - 1)
    }

    /// Opens the streams of every group paced `Once`; returns when the server has confirmed them.
    pub(crate) fn open_streams(&mut self) -> Result<()> {
        let now = Instant::now();
        self.heard = now;
        for group in self.groups.iter_mut().filter(|group| group.pace == Pace::Once) {
            group.begin(now, u64::MAX);
            group.issue(now, &mut self.connections, &mut self.dirty);
        }
        self.flush()?;
        let opening =
            |group: &Group| group.pace == Pace::Once && group.tally.opened < group.in_flight as u64;
        while self.groups.iter().any(opening) {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Runs every group until `limit`, then waits for the calls in flight. One tally per group.
    pub(crate) fn run(&mut self, limit: Limit) -> Result<Vec<Tally>> {
        let start = Instant::now();
        let (deadline, budget) = match limit {
            Limit::Time(time) => (Some(start + time), u64::MAX),
            Limit::Calls(calls) => (None, calls),
        };
        self.heard = start;
        for group in &mut self.groups {
            group.begin(start, budget);
            group.issue(start, &mut self.connections, &mut self.dirty);
        }
        self.flush()?;
        while deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let called_out = |group: &Group| group.pace == Pace::Once || group.budget == 0;
            if self.groups.iter().all(called_out) {
                break;
            }
            self.turn(deadline)?;
        }
        let end = Instant::now();
        self.groups.iter_mut().for_each(|group| group.finish(end));
        while self.groups.iter().any(Group::is_busy) {
            self.turn(None)?;
        }
        Ok(self.tallies(start))
    }

    /// Waits until `group` has `operations` more than its last tally was taken with.
    pub(crate) fn settle(
        &mut self,
        group: usize,
        operations: u64,
        tally: &mut Tally,
    ) -> Result<()> {
        let start = Instant::now();
        self.heard = start;
        while tally.operations + self.groups[group].tally.operations < operations {
            self.turn(None)?;
        }
        tally.absorb(&self.groups[group].tally);
        tally.elapsed += start.elapsed();
        self.groups[group].tally = Tally::new();
        Ok(())
    }

    fn tallies(&mut self, start: Instant) -> Vec<Tally> {
        let take = |group: &mut Group| {
            let mut tally = std::mem::replace(&mut group.tally, Tally::new());
            tally.elapsed = match group.pace {
                Pace::Once => start.elapsed(),
                Pace::Closed | Pace::Rate(_) => group.answered - start,
            };
            tally
        };
        self.groups.iter_mut().map(take).collect()
    }

    /// Waits for something to happen and deals with it.
    fn turn(&mut self, deadline: Option<Instant>) -> Result<()> {
        self.wait(deadline)?;
        let events = std::mem::take(&mut self.events);
        for event in &events {
            let data = event.data.u64();
            if data == TIMER {
                // The reading only clears it; which calls are due is a matter of the clock.
                let _ = rustix::io::read(&self.timer, &mut [0; 8]);
                let now = Instant::now();
                for group in &mut self.groups {
                    group.issue(now, &mut self.connections, &mut self.dirty);
                }
            } else {
                let place = usize::try_from(data).expect("we numbered it");
                let group = &mut self.groups[self.places[place].0];
                self.connections[place].receive(group)?;
                self.heard = Instant::now();
                group.issue(self.heard, &mut self.connections, &mut self.dirty);
                self.dirty.push(place);
            }
            self.flush()?;
        }
        self.events = events;
        self.check()
    }

    /// Fills `events`; returns without any when the deadline has come.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<()> {
        let now = Instant::now();
        // A timer, because epoll's timeout counts in milliseconds. With all clients busy the next
        // answer, not the clock, starts the next call.
        let rated = |group: &&Group| matches!(group.pace, Pace::Rate(_)) && group.budget > 0;
        let due = self.groups.iter().filter(rated).map(|group| group.due);
        if let Some(next) = due.filter(|due| *due > now).min() {
            let after = Itimerspec {
                it_interval: Timespec::default(),
                it_value: Timespec::try_from(next - now)?,
            };
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &after)?;
        }
        let patience = deadline.map_or(PATIENCE, |deadline| PATIENCE.min(deadline - now));
        let patience = Timespec::try_from(patience)?;
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.poll, spare, Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        while let Some(place) = self.dirty.pop() {
            let drained = self.connections[place].flush()?;
            let (_, blocked) = &mut self.places[place];
            if *blocked == drained {
                *blocked = !drained;
                let flags = if drained { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT };
                let data = EventData::new_u64(place as u64);
                epoll::modify(&self.poll, self.connections[place].socket(), data, flags)?;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.heard.elapsed() > SILENCE_MAX {
            bail!("the server has not answered for {} s", SILENCE_MAX.as_secs());
        }
        if self.groups.iter().any(|group| group.pace == Pace::Once && group.tally.failed > 0) {
            bail!("the server ended a stream that should stay open");
        }
        let failing = |group: &&Group| {
            group.tally.failed >= FAILURES_MAX && group.tally.failed > group.tally.operations
        };
        if let Some(group) = self.groups.iter().find(failing) {
            let Tally { failed, operations, .. } = group.tally;
            bail!("{failed} calls failed, {operations} succeeded");
        }
        Ok(())
    }
}
