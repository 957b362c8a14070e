//! Several members on one machine: started, stopped, killed, paused, cut off and looked at.
//!
//! Members are named by their place, from 0. All processes go through here, because the network
//! between them ([`links`]) must know whose process is whose. Nothing is awaited by time: each
//! `wait` looks at the members until they are as they should be, and says how they are if that
//! takes longer than [`PATIENCE`].

mod links;
mod logs;
mod membership;
mod state;

use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context, Result};

use crate::{Client, Node, NodeOptions, Target, free_port};
use links::Links;

pub use state::PATIENCE;

/// What to start. `ClusterOptions::new(target, 3)` has etcd's defaults and links that can be cut.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    pub target: Target,
    pub members: usize,
    /// Peers reach each other through proxies, so that [`Cluster::cut`] works.
    pub links: bool,
    /// The program to start, instead of the one that the target names.
    pub program: Option<PathBuf>,
    /// Flags of every member.
    pub args: Vec<String>,
    /// Words in front of the program, as in [`NodeOptions::wrapper`].
    pub wrapper: Vec<String>,
    /// Parent of all data directories and logs; a temporary one each when not given.
    pub dir: Option<PathBuf>,
    /// The first member's client port; its peer port is the next one, and each further member's
    /// are [`PORTS_APART`] higher. Free ones when not given.
    pub first_port: Option<u16>,
}

/// See [`ClusterOptions::first_port`].
const PORTS_APART: u16 = 100;

impl ClusterOptions {
    pub fn new(target: Target, members: usize) -> Self {
        let (args, wrapper) = (Vec::new(), Vec::new());
        let (program, dir, first_port) = (None, None, None);
        Self { target, members, links: true, program, args, wrapper, dir, first_port }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    fn ports(&self, place: usize) -> Result<(u16, u16)> {
        let Some(first) = self.first_port else { return Ok((free_port(), free_port())) };
        let above = u16::try_from(place).ok().and_then(|place| place.checked_mul(PORTS_APART));
        let client = above.and_then(|above| first.checked_add(above));
        let peer = client.and_then(|client| client.checked_add(1));
        client.zip(peer).context("the ports end at 65535")
    }
}

/// The members. Dropped: all killed, temporary directories removed.
pub struct Cluster {
    options: ClusterOptions,
    nodes: Vec<Node>,
    paused: Vec<bool>,
    links: Option<Links>,
}

impl Cluster {
    /// Starts a new cluster and waits until every member answers and knows the leader.
    ///
    /// # Errors
    /// When a member does not start; with the end of its log.
    pub fn start(target: Target, members: usize) -> Result<Self> {
        Self::start_with(ClusterOptions::new(target, members))
    }

    pub fn start_with(options: ClusterOptions) -> Result<Self> {
        let mut cluster = Self::prepare(options)?;
        cluster.start_all()?;
        Ok(cluster)
    }

    /// Directories, ports and links, and no process yet.
    pub fn prepare(options: ClusterOptions) -> Result<Self> {
        let links = if options.links { Some(Links::new()?) } else { None };
        let (members, nodes, paused) = (options.members, Vec::new(), Vec::new());
        let mut cluster = Self { options, nodes, paused, links };
        for place in 0..members {
            cluster.prepare_node(place)?;
        }
        let initial = cluster.initial_cluster(|_| true);
        for node in &mut cluster.nodes {
            node.options_mut().initial_cluster = Some(initial.clone());
        }
        Ok(cluster)
    }

    fn prepare_node(&mut self, place: usize) -> Result<()> {
        let mut options = NodeOptions::new(self.options.target);
        (options.client_port, options.peer_port) = self.options.ports(place)?;
        options.name = format!("n{}", place + 1);
        options.program.clone_from(&self.options.program);
        options.args.clone_from(&self.options.args);
        options.wrapper.clone_from(&self.options.wrapper);
        options.dir.clone_from(&self.options.dir);
        if let Some(links) = &self.links {
            let port = links.open(place, options.peer_port)?;
            options.advertised_peer_url = Some(format!("http://127.0.0.1:{port}"));
        }
        self.nodes.push(Node::prepare(options)?);
        self.paused.push(false);
        Ok(())
    }

    /// `--initial-cluster` with those members that `wanted` wants.
    fn initial_cluster(&self, wanted: impl Fn(usize) -> bool) -> String {
        let nodes = self.nodes.iter().enumerate().filter(|(place, _)| wanted(*place));
        let entry = |node: &Node| format!("{}={}", node.options().name, node.advertised_peer_url());
        nodes.map(|(_, node)| entry(node)).collect::<Vec<_>>().join(",")
    }

    /// Starts all that do not run, and waits for them.
    pub fn start_all(&mut self) -> Result<()> {
        let stopped: Vec<usize> =
            self.places().filter(|place| self.nodes[*place].pid().is_none()).collect();
        // A member alone does not become ready, so that all must be there before any is awaited.
        for place in &stopped {
            self.spawn(*place)?;
        }
        stopped.into_iter().try_for_each(|place| self.nodes[place].wait_ready())
    }

    /// Starts one and waits until it answers and knows a leader.
    pub fn start_again(&mut self, place: usize) -> Result<()> {
        self.spawn(place)?;
        self.nodes[place].wait_ready()
    }

    /// Starts one and returns at once.
    pub fn spawn(&mut self, place: usize) -> Result<()> {
        self.nodes[place].spawn()?;
        self.paused[place] = false;
        self.tell_links(place);
        Ok(())
    }

    fn tell_links(&self, place: usize) {
        if let Some(links) = &self.links {
            links.set_process(place, self.nodes[place].pid());
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self, place: usize) -> Result<ExitStatus> {
        let status = self.nodes[place].stop()?;
        self.tell_links(place);
        Ok(status)
    }

    /// SIGKILL, also to one that is paused.
    pub fn kill(&mut self, place: usize) -> Result<()> {
        self.nodes[place].kill()?;
        self.paused[place] = false;
        self.tell_links(place);
        Ok(())
    }

    /// How the process ended, if it has done so by itself.
    pub fn ended(&mut self, place: usize) -> Result<Option<ExitStatus>> {
        if self.nodes[place].pid().is_none() {
            return Ok(None);
        }
        let ended = self.nodes[place].try_wait()?;
        self.tell_links(place);
        Ok(ended)
    }

    /// Waits for a process that was started to end by itself.
    pub fn wait_exit(&mut self, place: usize) -> Result<ExitStatus> {
        let status = self.nodes[place].wait_exit(PATIENCE)?;
        self.tell_links(place);
        Ok(status)
    }

    /// SIGSTOP.
    pub fn pause(&mut self, place: usize) -> Result<()> {
        self.paused[place] = true;
        self.nodes[place].pause()
    }

    /// SIGCONT.
    pub fn resume(&mut self, place: usize) -> Result<()> {
        self.paused[place] = false;
        self.nodes[place].resume()
    }

    /// From now on nothing of what `from` sends to `to` arrives. What `to` sends still does.
    ///
    /// # Panics
    /// In a cluster that was started without links.
    pub fn cut(&self, from: usize, to: usize) {
        self.links().cut(from, to);
    }

    /// The same once `from` has sent so many more bytes.
    pub fn cut_after(&self, from: usize, to: usize, bytes: usize) {
        self.links().cut_after(from, to, bytes);
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.links().is_cut(from, to)
    }

    /// Cuts a member off from all others, both ways.
    pub fn cut_off(&self, place: usize) {
        for other in self.places().filter(|other| *other != place) {
            self.cut(place, other);
            self.cut(other, place);
        }
    }

    /// Everybody reaches everybody again.
    pub fn heal(&self) {
        self.links().heal();
    }

    fn links(&self) -> &Links {
        self.links.as_ref().expect("the options ask for links")
    }

    /// The places of all members.
    pub fn places(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    /// The places of those that run and are not paused.
    pub fn awake(&self) -> Vec<usize> {
        self.places().filter(|place| self.is_awake(*place)).collect()
    }

    pub fn is_awake(&self, place: usize) -> bool {
        self.nodes[place].pid().is_some() && !self.paused[place]
    }

    pub fn node(&self, place: usize) -> &Node {
        &self.nodes[place]
    }

    /// For the next start of a member. To start, stop or signal it, call the cluster.
    pub fn node_mut(&mut self, place: usize) -> &mut Node {
        &mut self.nodes[place]
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(Node::endpoint).collect()
    }

    /// A new connection to one member.
    pub async fn client(&self, place: usize) -> Result<Client> {
        Client::connect(&self.nodes[place].endpoint()).await
    }

    /// The last lines of all logs, for messages.
    pub fn log_tails(&self) -> String {
        let tail = |node: &Node| format!("-- {}\n{}", node.options().name, node.log_tail());
        self.nodes.iter().map(tail).collect::<Vec<_>>().join("\n")
    }

    /// Leaves all temporary directories behind, and says where they are.
    pub fn keep_dirs(&mut self) -> Vec<PathBuf> {
        self.nodes.iter_mut().map(Node::keep_dir).collect()
    }
}
