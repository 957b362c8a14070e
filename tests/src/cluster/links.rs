//! The network between the members of a cluster: a proxy in front of each, and who may reach whom.
//!
//! Each member advertises its proxy as its peer URL and listens elsewhere. To cut A from B, but not
//! B from A, a proxy must know who dialled: it looks the other end of the connection up in
//! `/proc/net/tcp`, and whose socket that is in `/proc/<pid>/fd`. Network namespaces would do
//! without that, but need root and tools that not every machine has, and they cut packets: with
//! its acknowledgements gone, a connection is soon dead in both directions. Here one direction
//! stands still and the other goes on, whoever dialled.
//!
//! Bytes of a direction that is cut are held, not lost, and nobody is told: to a member that looks
//! like the pulled cable it is. Once healed they arrive, late, like what TCP sends again.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::free_port;

/// A process may dial before the one who started it has said which it is.
const LOOKUPS_MAX: usize = 40;
const LOOKUP_EVERY: Duration = Duration::from_millis(5);
const BUFFER_BYTES: usize = 64 << 10;

/// Directions that are cut: (from, to), members by their place.
type Cuts = BTreeSet<(usize, usize)>;

pub(super) struct Links {
    shared: Arc<Shared>,
    /// `None` once dropped.
    runtime: Option<Runtime>,
}

struct Shared {
    cuts: watch::Sender<Cuts>,
    /// Bytes until a direction is cut by itself.
    fuses: Mutex<HashMap<(usize, usize), usize>>,
    /// The members' process ids, by their places.
    processes: Mutex<Vec<Option<u32>>>,
    /// The newest look at `/proc/net/tcp`. It is long on a busy machine, and those who are turned
    /// away or cut off dial often: one look serves all who wait for it.
    sockets: tokio::sync::Mutex<Option<Sockets>>,
}

struct Sockets {
    looked: Instant,
    /// The inode of each, by local and remote port.
    inodes: HashMap<(u16, u16), u64>,
}

impl Links {
    pub(super) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("links")
            .enable_all()
            .build()?;
        let (cuts, _) = watch::channel(Cuts::new());
        let (fuses, processes, sockets) = Default::default();
        let shared = Arc::new(Shared { cuts, fuses, processes, sockets });
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// Opens the proxy of the member at `place`, which listens on `listens`; returns its port.
    pub(super) fn open(&self, place: usize, listens: u16) -> Result<u16> {
        let port = free_port();
        let runtime = self.runtime.as_ref().context("links are used until they are dropped")?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("a proxy on port {port}"))?;
        listener.set_nonblocking(true)?;
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        runtime.spawn(accept(self.shared.clone(), listener, place, listens));
        Ok(port)
    }

    /// The process of a member, as soon as it was started.
    pub(super) fn set_process(&self, place: usize, pid: Option<u32>) {
        let mut processes = self.shared.processes.lock().unwrap_or_else(PoisonError::into_inner);
        if processes.len() <= place {
            processes.resize(place + 1, None);
        }
        processes[place] = pid;
    }

    pub(super) fn cut(&self, from: usize, to: usize) {
        self.shared.cuts.send_modify(|cuts| {
            cuts.insert((from, to));
        });
    }

    pub(super) fn cut_after(&self, from: usize, to: usize, bytes: usize) {
        self.shared.fuses().insert((from, to), bytes);
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.shared.cuts.borrow().contains(&(from, to))
    }

    pub(super) fn heal(&self) {
        self.shared.fuses().clear();
        self.shared.cuts.send_modify(Cuts::clear);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // Tests drop it inside of a runtime, where one must not wait for another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, to: usize, listens: u16) {
    // An error of one connection is that connection's; the next may be better.
    loop {
        if let Ok((dialler, _)) = listener.accept().await {
            tokio::spawn(serve(shared.clone(), dialler, to, listens));
        }
    }
}

/// One connection, until either end closes it. Who is not a member is turned away.
async fn serve(shared: Arc<Shared>, dialler: TcpStream, to: usize, listens: u16) -> Option<()> {
    let from = shared.who_dialled(&dialler).await?;
    // As if the first packet was lost: nothing comes back until both ways are open.
    let mut cuts = shared.cuts.subscribe();
    cuts.wait_for(|cuts| !cuts.contains(&(from, to)) && !cuts.contains(&(to, from))).await.ok()?;
    let member = TcpStream::connect((Ipv4Addr::LOCALHOST, listens)).await.ok()?;
    dialler.set_nodelay(true).ok()?;
    member.set_nodelay(true).ok()?;
    let (dialler_reads, dialler_writes) = dialler.into_split();
    let (member_reads, member_writes) = member.into_split();
    let there = pump(&shared, (from, to), dialler_reads, member_writes);
    let back = pump(&shared, (to, from), member_reads, dialler_writes);
    tokio::join!(there, back);
    None
}

/// Carries bytes one way as long as that way is open; an end is carried as well.
async fn pump(
    shared: &Shared,
    way: (usize, usize),
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
) -> Option<()> {
    let mut cuts = shared.cuts.subscribe();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = reader.read(&mut buffer).await.unwrap_or(0);
        shared.burn(way, bytes);
        cuts.wait_for(|cuts| !cuts.contains(&way)).await.ok()?;
        if bytes == 0 {
            return writer.shutdown().await.ok();
        }
        writer.write_all(&buffer[..bytes]).await.ok()?;
    }
}

impl Shared {
    fn fuses(&self) -> MutexGuard<'_, HashMap<(usize, usize), usize>> {
        self.fuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts a direction if these bytes are too many for its fuse.
    fn burn(&self, way: (usize, usize), bytes: usize) {
        let mut fuses = self.fuses();
        let Some(left) = fuses.get_mut(&way) else { return };
        match left.checked_sub(bytes) {
            Some(rest) => *left = rest,
            None => {
                fuses.remove(&way);
                self.cuts.send_modify(|cuts| {
                    cuts.insert(way);
                });
            }
        }
    }

    async fn who_dialled(&self, dialler: &TcpStream) -> Option<usize> {
        let ports = (dialler.peer_addr().ok()?.port(), dialler.local_addr().ok()?.port());
        let socket = format!("socket:[{}]", self.inode(ports).await?);
        for _ in 0..LOOKUPS_MAX {
            let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let socket = socket.clone();
            let place = tokio::task::spawn_blocking(move || {
                let has = |pid: &Option<u32>| pid.is_some_and(|pid| has_socket(pid, &socket));
                processes.iter().position(has)
            });
            if let Some(place) = place.await.ok()? {
                return Some(place);
            }
            tokio::time::sleep(LOOKUP_EVERY).await;
        }
        None
    }

    /// The inode of an open connection's other end.
    async fn inode(&self, ports: (u16, u16)) -> Option<u64> {
        let asked = Instant::now();
        let mut sockets = self.sockets.lock().await;
        if sockets.as_ref().is_none_or(|sockets| sockets.looked < asked) {
            let looked = Instant::now();
            let inodes = tokio::task::spawn_blocking(inodes).await.ok()?;
            *sockets = Some(Sockets { looked, inodes });
        }
        sockets.as_ref()?.inodes.get(&ports).copied()
    }
}

/// The inodes of all connections of this machine, by local and remote port.
fn inodes() -> HashMap<(u16, u16), u64> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let parse = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (here, there) = (port(fields.next()?)?, port(fields.next()?)?);
        // A connection that was closed has none.
        let inode = fields.nth(6)?.parse().ok().filter(|inode| *inode != 0)?;
        Some(((here, there), inode))
    };
    table.lines().filter_map(parse).collect()
}

fn has_socket(pid: u32, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket))
}
