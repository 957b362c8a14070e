//! Answers made comparable: in full as text, except for what etcd itself leaves open.

use proto::KeyValue;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse};

use crate::text::{self, Ids};

/// The sort targets of a range.
const KEY: i32 = 0;
const VERSION: i32 = 1;
const CREATE: i32 = 2;
const MOD: i32 = 3;
const VALUE: i32 = 4;

pub(crate) fn range(request: &RangeRequest, mut answer: RangeResponse, ids: &Ids) -> String {
    let cut = settle_order(request, &mut answer);
    format!("{}{cut}", text::range(&answer, ids))
}

pub(crate) fn txn(request: &TxnRequest, mut answer: TxnResponse, ids: &Ids) -> String {
    let cuts = settle_txn(request, &mut answer);
    format!("{}{cuts}", text::txn(&answer, ids))
}

fn settle_txn(request: &TxnRequest, answer: &mut TxnResponse) -> String {
    let branch = if answer.succeeded { &request.success } else { &request.failure };
    branch
        .iter()
        .zip(&mut answer.responses)
        .map(|(op, answer)| {
            let RequestOp { request: Some(request) } = op else { return String::new() };
            match (request, &mut answer.response) {
                (Request::RequestRange(request), Some(Response::ResponseRange(answer))) => {
                    settle_order(request, answer)
                }
                (Request::RequestTxn(request), Some(Response::ResponseTxn(answer))) => {
                    settle_txn(request, answer)
                }
                _ => String::new(),
            }
        })
        .collect()
}

/// Pairs with the same sort key come in any order, so they are put into the order of their keys.
/// If a limit left some out, it is open which ones: the last of them are replaced by their number.
fn settle_order(request: &RangeRequest, answer: &mut RangeResponse) -> String {
    let target = request.sort_target;
    if target == KEY {
        return String::new();
    }
    let mut pairs: Vec<(KeyValue, proto::EncodedKeyValue)> = Vec::new();
    for encoded in std::mem::take(&mut answer.kvs) {
        let Ok(kv) = encoded.parse() else { return "\nundecodable".to_owned() };
        pairs.push((kv, encoded));
    }
    let same = |a: &KeyValue, b: &KeyValue| match target {
        VERSION => a.version == b.version,
        CREATE => a.create_revision == b.create_revision,
        MOD => a.mod_revision == b.mod_revision,
        // Without values, any two may have been equal.
        VALUE => request.keys_only || a.value == b.value,
        _ => false,
    };
    let mut groups: Vec<_> =
        pairs.chunk_by(|(a, _), (b, _)| same(a, b)).map(<[_]>::to_vec).collect();
    for group in &mut groups {
        group.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    }
    let mut cut = String::new();
    // Without an order the limit comes before the sorting, so it leaves nothing open; filters
    // turn that around.
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    if answer.more
        && (request.sort_order != 0 || filtered)
        && let Some(last) = groups.pop()
    {
        cut = format!("\n  and {} of equal ones", last.len());
    }
    answer.kvs = groups.into_iter().flatten().map(|(_, encoded)| encoded).collect();
    cut
}
