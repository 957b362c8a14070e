//! What an API server does all day: optimistic updates of leases and objects, single reads, and
//! now and then a page of a list.

use prost::Message;
use proto::etcdserverpb::RangeRequest;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::keys::prefix_end;
use super::write::{modified, update};
use super::{KeySpace, Order, Request, Values, Workload};
use crate::h2::Method;
use crate::load::Tally;

const PREFIX: &str = "/registry/mixed/";

/// Out of 100 calls: heartbeats of leases, updates of objects, reads of one object; the rest lists.
const LEASES: u32 = 30;
const OBJECTS: u32 = 20;
const READS: u32 = 46;

const LEASE_BYTES: usize = 400;
const OBJECT_BYTES: usize = 3000;
/// Objects in a page of a list.
const PAGE: i64 = 500;

pub(crate) struct Mixed {
    keys: KeySpace,
    leases: Values,
    objects: Values,
    rng: SmallRng,
    /// Keys of one client; every tenth of them is a lease.
    keys_per_client: u32,
    clients: u32,
    revisions: Vec<i64>,
    writing: Vec<Option<u32>>,
}

impl Mixed {
    pub(crate) fn new(size: u32, clients: u32, compressible: bool) -> Self {
        let keys_per_client = (size / clients).max(10);
        Self {
            keys: KeySpace::new(PREFIX, keys_per_client * clients, Order::Random),
            leases: Values::new(LEASE_BYTES, compressible),
            objects: Values::new(OBJECT_BYTES, compressible),
            rng: SmallRng::seed_from_u64(u64::from(size)),
            keys_per_client,
            clients,
            revisions: vec![0; (keys_per_client * clients) as usize],
            writing: vec![None; clients as usize],
        }
    }

    fn write(&mut self, client: u32, lease: bool, message: &mut Vec<u8>) -> Request {
        let leases = self.keys_per_client.div_ceil(10);
        let turn = match lease {
            true => self.rng.random_range(0..leases),
            false => self.rng.random_range(leases..self.keys_per_client),
        };
        let number = turn * self.clients + client;
        self.writing[client as usize] = Some(number);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        self.keys.write(number, &mut key);
        let values = if lease { &mut self.leases } else { &mut self.objects };
        values.write(&mut value);
        update(key, value, self.revisions[number as usize]).encode_raw(message);
        Request { method: Method::Txn, collects: true, reply_bytes_min: 1 }
    }

    fn read(&mut self, limit: i64, message: &mut Vec<u8>) -> Request {
        let mut request = RangeRequest { limit, ..RangeRequest::default() };
        let number = self.keys.draw();
        self.keys.write(number, &mut request.key);
        if limit > 0 {
            request.range_end = prefix_end(PREFIX.as_bytes());
        }
        request.encode_raw(message);
        Request::counted(Method::Range)
    }
}

impl Workload for Mixed {
    fn request(&mut self, client: u32, message: &mut Vec<u8>) -> Request {
        match self.rng.random_range(0..100) {
            dice if dice < LEASES => self.write(client, true, message),
            dice if dice < LEASES + OBJECTS => self.write(client, false, message),
            dice if dice < LEASES + OBJECTS + READS => self.read(0, message),
            _ => self.read(PAGE, message),
        }
    }

    fn reply(&mut self, client: u32, message: &[u8], tally: &mut Tally) {
        let Some(number) = self.writing[client as usize].take() else { return };
        match modified(message) {
            Some(revision) => self.revisions[number as usize] = revision,
            None => tally.failed += 1,
        }
    }
}
