//! A disk in memory that knows what is durable: it fails the call it is told to fail, and cuts
//! the power, keeping a seeded choice of the sectors and names that were not synced yet.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile};
use world::{Node, Random, SECTOR, World, change, short, survivor};

mod world;

/// The calls that can be made to fail; each kind is counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Create,
    Write,
    Sync,
    Rename,
    Remove,
    SyncDir,
}

/// What a failing call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Errno, for example 5 (EIO) or 28 (ENOSPC). Nothing is written.
    Error(i32),
    /// Half of the sectors are written and the call says so.
    Short,
    /// Half of the sectors are written, then the error comes.
    ShortThenError(i32),
}

/// What happened to the disk, in order. Played onto another disk it gives the state at any moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Write {
        node: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    Sync {
        node: u64,
    },
    Create {
        path: PathBuf,
        node: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    SyncDir,
    /// Set by the test: what was known to the outside at this moment.
    Mark(u64),
}

#[derive(Clone, Default)]
pub struct SimulatedDisk {
    world: Arc<Mutex<World>>,
}

impl SimulatedDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// The `nth` call of this kind from now on (0 = the next) fails, once.
    pub fn fail(&self, call: Call, nth: u64, failure: Failure) {
        let mut world = self.world();
        let at = world.counts.get(&call).copied().unwrap_or(0) + nth;
        world.failures.push((call, at, failure));
    }

    pub fn clear_failures(&self) {
        self.world().failures.clear();
    }

    /// How many calls of this kind were made.
    pub fn count(&self, call: Call) -> u64 {
        self.world().counts.get(&call).copied().unwrap_or(0)
    }

    /// Limits the bytes all files may occupy; growing beyond is ENOSPC.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.world().room = bytes;
    }

    /// Records everything that happens from now on, beginning with what there is.
    pub fn record_events(&self) {
        let mut world = self.world();
        assert!(world.nodes.is_empty(), "events are recorded from an empty disk on");
        world.events = Some(Vec::new());
    }

    pub fn mark(&self, mark: u64) {
        self.world().apply(Event::Mark(mark));
    }

    pub fn events(&self) -> Vec<Event> {
        self.world().events.clone().unwrap_or_default()
    }

    /// Lets something that happened to another disk happen to this one.
    pub fn play(&self, event: &Event) {
        self.world().apply(event.clone());
    }

    /// What the disk holds if the power goes now: each unsynced sector old, new or in between,
    /// and a prefix of the unsynced name changes, as the seed decides. The original goes on.
    pub fn power_cut(&self, seed: u64) -> Self {
        let mut random = Random(seed ^ 0x9E37_79B9_7F4A_7C15);
        let world = self.world();
        // Some cuts keep nearly everything or nearly nothing: both ends are interesting.
        let keep = [1, 8, 32, 56, 63][(random.next() % 5) as usize];
        let mut names = world.durable_names.clone();
        let kept = random.next() as usize % (world.renamings.len() + 1);
        for renaming in &world.renamings[..kept] {
            change(&mut names, renaming);
        }
        let mut nodes = BTreeMap::new();
        for id in names.values() {
            let content = survivor(&world.nodes[id], keep, &mut random);
            let node = Node { durable: content.clone(), content, pending: Vec::new() };
            nodes.insert(*id, node);
        }
        Self::from_parts(nodes, names, world.next_node)
    }

    /// What the disk holds if only this process dies: everything written, but what was not
    /// synced is still not durable, and a later sync of the file covers only later writes.
    pub fn process_killed(&self) -> Self {
        let world = self.world();
        let other = Self::from_parts(world.nodes.clone(), world.names.clone(), world.next_node);
        other.world().durable_names = world.durable_names.clone();
        other.world().renamings = world.renamings.clone();
        other
    }

    pub fn file(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world();
        Some(world.nodes[world.names.get(path)?].content.clone())
    }

    /// Replaces a file's contents behind everybody's back, durably.
    pub fn set_file(&self, path: &Path, content: Vec<u8>) {
        let mut world = self.world();
        let id = world.names.get(path).copied().unwrap_or(world.next_node);
        world.next_node = world.next_node.max(id + 1);
        world.names.insert(path.to_owned(), id);
        world.durable_names.insert(path.to_owned(), id);
        world.nodes.insert(id, Node { durable: content.clone(), content, pending: Vec::new() });
    }

    pub fn delete_file(&self, path: &Path) {
        let mut world = self.world();
        world.names.remove(path);
        world.durable_names.remove(path);
    }

    /// An independent disk with the same durable and visible contents.
    pub fn copy(&self) -> Self {
        self.process_killed()
    }

    fn from_parts(
        nodes: BTreeMap<u64, Node>,
        names: BTreeMap<PathBuf, u64>,
        next_node: u64,
    ) -> Self {
        let durable_names = names.clone();
        let world = World { nodes, next_node, names, durable_names, ..World::default() };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("the simulated disk never panics while it is locked")
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world();
        world.enter_simple(Call::Create)?;
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = world.next_node;
        world.apply(Event::Create { path: path.to_owned(), node });
        Ok(Arc::new(SimulatedFile { world: Arc::clone(&self.world), node }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let node = *self.world().names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { world: Arc::clone(&self.world), node }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.enter_simple(Call::Rename)?;
        if !world.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.apply(Event::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.enter_simple(Call::Remove)?;
        if !world.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.apply(Event::Remove { path: path.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.enter_simple(Call::SyncDir)?;
        world.apply(Event::SyncDir);
        Ok(())
    }
}

struct SimulatedFile {
    world: Arc<Mutex<World>>,
    node: u64,
}

impl SimulatedFile {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("the simulated disk never panics while it is locked")
    }
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.world().nodes[&self.node].content.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.world();
        let content = &world.nodes[&self.node].content;
        let rest = content.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world();
        let failure = world.enter(Call::Write);
        if let Some(Failure::Error(errno)) = failure {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let bytes = match failure {
            // A call that writes nothing and says so is an error by itself.
            Some(Failure::Short) if bytes.len() <= SECTOR => bytes,
            Some(_) => &bytes[..short(bytes.len())],
            None => bytes,
        };
        let size = world.nodes[&self.node].content.len() as u64;
        let growth = (offset + bytes.len() as u64).saturating_sub(size);
        world.grow(growth)?;
        world.apply(Event::Write { node: self.node, offset, bytes: bytes.to_vec() });
        match failure {
            Some(Failure::ShortThenError(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(bytes.len()),
        }
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.world();
        let size = world.nodes[&self.node].content.len() as u64;
        let growth = bytes.saturating_sub(size);
        world.grow(growth)?;
        let bytes = vec![0; growth as usize];
        world.apply(Event::Write { node: self.node, offset: size, bytes });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world();
        let result = world.enter_simple(Call::Sync);
        if result.is_ok() {
            world.apply(Event::Sync { node: self.node });
        } else {
            let node = world.nodes.get_mut(&self.node).expect("an open file has a node");
            node.pending.clear();
        }
        result
    }
}
