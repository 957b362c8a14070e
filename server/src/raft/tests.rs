//! openraft's contract for storage, on the real log and the real state machine in real folders.

use std::io;
use std::sync::Arc;

use openraft::StorageError;
use openraft::errors::ErrorSource;
use openraft::testing::log::{StoreBuilder, Suite};
use store::boot::{self, Places};
use store::datadir::DataDir;
use store::disk::RealDisk;
use store::mvcc::{RevisionEvents, StoreOptions};
use store::wal::{Wal, WalOptions};
use tempfile::TempDir;

use super::machine::Publish;
use super::types::Types;
use super::{Log, Machine};
use crate::limits;
use crate::replica::{Current, Outboxes};
use crate::snapshots::Snapshots;

struct Nobody;

impl Publish for Nobody {
    fn publish(&self, _run: Vec<Arc<RevisionEvents>>) {}

    fn jump(&self, _revision: i64) {}
}

/// The folder outlives what is open in it: fields are dropped in order.
struct Guard {
    wal: Wal,
    _data_dir: DataDir,
    _folder: TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.wal.close();
    }
}

struct Builder;

impl StoreBuilder<Types, Log, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, Log, Machine), StorageError<Types>> {
        open().map_err(|error| {
            StorageError::write(openraft::impls::BoxedErrorSource::from_error(&error))
        })
    }
}

fn open() -> Result<(Guard, Log, Machine), io::Error> {
    let folder = tempfile::tempdir()?;
    let data_dir = DataDir::open(&folder.path().join("data")).map_err(io::Error::other)?;
    let fatal = |fatal: store::Fatal| panic!("{fatal}");
    let (wal, recovered) = Wal::open(Arc::new(RealDisk), &data_dir.wal(), WalOptions::new(fatal))
        .map_err(io::Error::other)?;
    let places = Places::of(&data_dir);
    let options = boot::Options {
        store: StoreOptions::default(),
        engine: Default::default(),
        stall: limits::ENGINE_STALL_TIMEOUT,
    };
    let (store, _) = boot::open(&places, recovered.purged, &options).map_err(io::Error::other)?;
    let snapshots = Snapshots::open(places, options).map_err(io::Error::other)?;
    let (outboxes, _) = Outboxes::new(0);
    let log = Log::new(wal.clone(), None, recovered.committed);
    let current = Arc::new(Current::new(store));
    let machine = Machine::new(current, Arc::new(Nobody), outboxes, Arc::new(snapshots));
    Ok((Guard { wal, _data_dir: data_dir, _folder: folder }, log, machine))
}

#[test]
fn log_and_state_machine_keep_the_contract_of_openraft() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.expect("a runtime").block_on(Suite::test_all(Builder));
    done.expect("the suite passes");
}
