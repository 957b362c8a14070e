//! Random requests, valid and invalid, over few keys so that they meet each other.

use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::Step;

/// How many streams there are at most, and watchers on each before one is cancelled instead.
const STREAMS: usize = 4;
const WATCHERS_MAX: usize = 5;
/// How deep transactions nest.
const DEPTH_MAX: usize = 3;

/// What the requests are aimed at.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    /// Stream and id of every watcher.
    pub(crate) watchers: Vec<(usize, i64)>,
}

pub(crate) struct Generator {
    pub(super) random: StdRng,
    pub(super) view: View,
    /// The alarm that is on, and whose it is.
    pub(super) alarm: Option<(&'static str, &'static str)>,
    /// Each with a URL of its own: etcd makes an id of the URLs and the second, so the same ones would
    /// be taken or not as it happens.
    pub(super) members_added: u32,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            view: View::default(),
            alarm: None,
            members_added: 0,
        }
    }

    pub(crate) fn next(&mut self, view: View) -> Step {
        self.view = view;
        if let Some(step) = self.end_of_alarm() {
            return step;
        }
        match self.random.random_range(0..1100) {
            0..330 => Step::Put(self.put()),
            330..560 => Step::Range(self.range()),
            560..640 => Step::Delete(self.delete()),
            640..820 => Step::Txn(spare_etcd(self.txn(0))),
            820..880 => self.lease(),
            880..900 => Step::Compact(self.compact()),
            900..930 => Step::HashKv(HashKvRequest { revision: self.revision() }),
            930..970 => self.watch_create(),
            970..985 => self.watch_cancel(),
            985..997 => Step::WatchProgress { stream: self.stream() },
            997..1040 => self.turn(),
            1040..1045 => self.alarm(),
            1045..1055 => self.member(),
            1055..1097 => self.json(),
            _ => Step::WatchClose { stream: self.stream() },
        }
    }

    /// True once in `times` times.
    pub(super) fn once_in(&mut self, times: u32) -> bool {
        self.random.random_ratio(1, times)
    }

    fn stream(&mut self) -> usize {
        self.random.random_range(0..STREAMS)
    }

    fn key(&mut self) -> Vec<u8> {
        match self.random.random_range(0..100) {
            0 => Vec::new(),
            1 => b"\0".to_vec(),
            2 => b"\xff".to_vec(),
            3 => b"\xff\xff".to_vec(),
            4 => b"a\0".to_vec(),
            5 => vec![b'k'; 200],
            6..40 => vec![self.random.random_range(b'a'..=b'f')],
            _ => {
                let first = self.random.random_range(b'a'..=b'f');
                vec![first, self.random.random_range(b'0'..=b'5')]
            }
        }
    }

    /// The end of a range: a single key, everything from the key, a prefix, or any other key.
    fn range_end(&mut self, key: &[u8]) -> Vec<u8> {
        match self.random.random_range(0..10) {
            0..3 => Vec::new(),
            3 => b"\0".to_vec(),
            4..7 => match key.split_last() {
                Some((last, rest)) if *last < 0xff => [rest, &[last + 1]].concat(),
                _ => b"\0".to_vec(),
            },
            _ => self.key(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.random_range(0..2000) {
            0 => vec![b'L'; 1_600_000],
            1 | 2 => vec![b'l'; 700_000],
            3..10 => vec![b'm'; 20_000],
            10..200 => Vec::new(),
            200..300 => (0..20).map(|_| self.random.random()).collect(),
            _ => self.random.random_range(0..50u32).to_string().into_bytes(),
        }
    }

    /// Mostly the latest, else somewhere around what there is.
    fn revision(&mut self) -> i64 {
        let View { revision, compacted, .. } = self.view;
        match self.random.random_range(0..100) {
            0..40 => 0,
            40..60 => revision - self.random.random_range(0..10),
            60..80 => self.random.random_range(compacted.min(revision)..=revision),
            80..88 => compacted + self.random.random_range(-1..=1),
            88..93 => revision + self.random.random_range(0..3),
            93 => -1,
            94 => i64::MAX,
            95 => i64::MIN,
            _ => revision,
        }
    }

    /// A valid enum value, rarely another number.
    fn choice(&mut self, count: i32) -> i32 {
        if self.once_in(60) {
            return *[-1, count, 99].choose(&mut self.random).expect("not empty");
        }
        self.random.random_range(0..count)
    }

    pub(super) fn put(&mut self) -> PutRequest {
        let ignore_value = self.once_in(12);
        let value = if ignore_value && !self.once_in(8) { Vec::new() } else { self.value() };
        PutRequest {
            key: self.key(),
            value,
            lease: if self.once_in(8) { self.random.random_range(-1..5) } else { 0 },
            prev_kv: self.once_in(3),
            ignore_value,
            ignore_lease: self.once_in(12),
        }
    }

    /// Few, so that most are granted.
    pub(super) fn lease_id(&mut self) -> i64 {
        match self.random.random_range(0..20) {
            0 => -1,
            1 => i64::MAX,
            n => 1 + n % 4,
        }
    }

    /// None ends by itself.
    fn lease(&mut self) -> Step {
        let id = self.lease_id();
        match self.random.random_range(0..20) {
            0..9 => {
                let odd = [9_000_000_000, 9_000_000_001, i64::MAX];
                let ttl = match self.once_in(10) {
                    true => *odd.choose(&mut self.random).expect("not empty"),
                    false => self.random.random_range(1000..2000),
                };
                Step::LeaseGrant(LeaseGrantRequest { ttl, id })
            }
            9..12 => Step::LeaseRevoke(LeaseRevokeRequest { id }),
            12..16 => {
                let keys = !self.once_in(4);
                Step::LeaseTimeToLive(LeaseTimeToLiveRequest { id, keys })
            }
            16..18 => Step::LeaseLeases,
            _ => {
                let more = self.random.random_range(0..3);
                let ids = (0..more).map(|_| self.lease_id()).chain([id]).collect();
                Step::LeaseKeepAlive { ids }
            }
        }
    }

    pub(super) fn range(&mut self) -> RangeRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        let sorted = self.once_in(3);
        let mut request = RangeRequest {
            key,
            range_end,
            limit: if self.once_in(2) { self.random.random_range(-1..8) } else { 0 },
            revision: self.revision(),
            sort_order: if sorted { self.choice(3) } else { 0 },
            sort_target: if sorted { self.choice(5) } else { 0 },
            serializable: self.once_in(4),
            keys_only: self.once_in(5),
            count_only: self.once_in(10),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        };
        // Without the values it cannot be seen which pairs a limit may leave out.
        if request.keys_only && request.sort_target == 4 {
            request.limit = 0;
        }
        request
    }

    /// A bound of a filter: rarely there, and then near enough to matter.
    fn bound(&mut self) -> i64 {
        if !self.once_in(12) {
            return 0;
        }
        self.view.revision - self.random.random_range(-3..40)
    }

    pub(super) fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        // Large deletions are rarer, so that something is left.
        let range_end = if self.once_in(3) { self.range_end(&key) } else { Vec::new() };
        DeleteRangeRequest { key, range_end, prev_kv: self.once_in(2) }
    }

    pub(super) fn txn(&mut self, depth: usize) -> TxnRequest {
        let (compares, then, or) = if depth == 0 && self.once_in(200) {
            let mut count = || self.random.random_range(100..=130);
            (count(), count(), count())
        } else {
            let mut count = |max| self.random.random_range(0..=max);
            (count(2), count(4), count(4))
        };
        // Mostly questions that can be answered with yes and with no.
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: (0..then).map(|_| self.operation(depth)).collect(),
            failure: (0..or).map(|_| self.operation(depth)).collect(),
        }
    }

    fn operation(&mut self, depth: usize) -> RequestOp {
        let request = match self.random.random_range(0..100) {
            0 => None,
            1..36 => Some(Request::RequestRange(self.range())),
            36..70 => {
                let mut put = self.put();
                // More keys, so that most transactions have no duplicates.
                if !self.once_in(4) {
                    put.key.extend(self.random.random_range(0..100u32).to_string().bytes());
                }
                Some(Request::RequestPut(put))
            }
            70..85 => Some(Request::RequestDeleteRange(self.delete())),
            _ if depth < DEPTH_MAX => Some(Request::RequestTxn(self.txn(depth + 1))),
            _ => Some(Request::RequestRange(self.range())),
        };
        RequestOp { request }
    }

    fn compare(&mut self) -> Compare {
        let target = self.choice(5);
        let key = self.key();
        let range_end = if self.once_in(4) { self.range_end(&key) } else { Vec::new() };
        let union = if self.once_in(30) { self.random.random_range(0..6) } else { target };
        let target_union = match union {
            0 => Some(TargetUnion::Version(self.random.random_range(-1..5))),
            1 => Some(TargetUnion::CreateRevision(self.small_or_near())),
            2 => Some(TargetUnion::ModRevision(self.small_or_near())),
            3 => Some(TargetUnion::Value(self.value())),
            4 => Some(TargetUnion::Lease(self.random.random_range(-1..2))),
            _ => None,
        };
        Compare { result: self.choice(4), target, key, range_end, target_union }
    }

    fn small_or_near(&mut self) -> i64 {
        if self.once_in(2) { 0 } else { self.view.revision - self.random.random_range(0..30) }
    }

    fn compact(&mut self) -> CompactionRequest {
        let View { revision, compacted, .. } = self.view;
        let target = match self.random.random_range(0..10) {
            0 => compacted,
            1 => revision + 1,
            2 => -1,
            3 => revision,
            4 => compacted + 1,
            _ => self.random.random_range(compacted.min(revision)..=revision),
        };
        // Not 0: see the chapter.
        let target = if target == 0 { 1 } else { target };
        CompactionRequest { revision: target, physical: self.once_in(2) }
    }

    fn watch_create(&mut self) -> Step {
        let stream = self.stream();
        let here = self.view.watchers.iter().filter(|(at, _)| *at == stream);
        let ids: Vec<i64> = here.map(|(_, id)| *id).collect();
        if ids.len() >= WATCHERS_MAX {
            let id = *ids.choose(&mut self.random).expect("there are watchers");
            return Step::WatchCancel { stream, id };
        }
        let key = self.key();
        let range_end = self.range_end(&key);
        let mut filters = Vec::new();
        while self.once_in(5) {
            filters.push(self.choice(2));
        }
        let watch_id = match self.random.random_range(0..10) {
            // -1 is what a server calls a watcher that it refuses.
            0 => *[7, 1, 2, -5, i64::MAX].choose(&mut self.random).expect("not empty"),
            1 => ids.first().copied().unwrap_or(3),
            _ => 0,
        };
        let request = WatchCreateRequest {
            key,
            range_end,
            start_revision: if self.once_in(2) { self.revision() } else { 0 },
            progress_notify: self.once_in(5),
            filters,
            prev_kv: self.once_in(2),
            watch_id,
            fragment: self.once_in(3),
        };
        Step::WatchCreate { stream, request }
    }

    fn watch_cancel(&mut self) -> Step {
        let (stream, id) = match self.view.watchers.choose(&mut self.random) {
            Some(one) if !self.random.random_ratio(1, 4) => *one,
            _ => (self.random.random_range(0..STREAMS), 12345),
        };
        Step::WatchCancel { stream, id }
    }
}

/// A put that keeps the value or lease of a key ends etcd if the transaction deletes that key
/// before, and lets it pass if the delete has no end. Such puts bring their own.
pub(super) fn spare_etcd(mut txn: TxnRequest) -> TxnRequest {
    let mut endless = false;
    for_each_operation(&mut txn, &mut |request| {
        endless |= matches!(request, Request::RequestDeleteRange(del) if del.range_end == [0]);
    });
    if endless {
        for_each_operation(&mut txn, &mut |request| {
            if let Request::RequestPut(put) = request {
                (put.ignore_value, put.ignore_lease) = (false, false);
            }
        });
    }
    txn
}

pub(super) fn for_each_operation(txn: &mut TxnRequest, visit: &mut dyn FnMut(&mut Request)) {
    for request in txn.success.iter_mut().chain(&mut txn.failure).flat_map(|op| &mut op.request) {
        visit(request);
        if let Request::RequestTxn(nested) = request {
            for_each_operation(nested, visit);
        }
    }
}
