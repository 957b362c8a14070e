//! Keys, transactions, watches, compaction.

use etcd_client::{
    CompactionOptions, Compare, CompareOp, DeleteOptions, EventType, GetOptions, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchFilterType, WatchOptions,
};

use crate::{Target, events, refusal, soon};

pub async fn put_get_delete(target: Target) {
    let mut client = target.client().await;
    let first = client.put("kv/a", "1", None).await.unwrap();
    let options = PutOptions::new().with_prev_key();
    let second = client.put("kv/a", "2", Some(options)).await.unwrap();
    assert_eq!(second.prev_key().unwrap().value(), b"1");
    let (first, second) = (first.header().unwrap(), second.header().unwrap());
    assert_eq!(second.revision(), first.revision() + 1);

    let found = client.get("kv/a", None).await.unwrap();
    let kv = &found.kvs()[0];
    assert_eq!((kv.key(), kv.value(), kv.version()), (&b"kv/a"[..], &b"2"[..], 2));
    assert_eq!((kv.create_revision(), kv.mod_revision()), (first.revision(), second.revision()));

    let options = PutOptions::new().with_ignore_value();
    client.put("kv/a", "", Some(options)).await.unwrap();
    assert_eq!(client.get("kv/a", None).await.unwrap().kvs()[0].version(), 3);

    let options = DeleteOptions::new().with_prev_key();
    let deleted = client.delete("kv/a", Some(options)).await.unwrap();
    assert_eq!((deleted.deleted(), deleted.prev_kvs()[0].value()), (1, &b"2"[..]));
    assert_eq!(client.delete("kv/a", None).await.unwrap().deleted(), 0);
    assert_eq!(client.get("kv/a", None).await.unwrap().count(), 0);
}

pub async fn ranges(target: Target) {
    let mut client = target.client().await;
    for (key, value) in [("range/c", "1"), ("range/a", "3"), ("range/b", "2"), ("rangf", "4")] {
        client.put(key, value, None).await.unwrap();
    }
    let mut keys = async |options: GetOptions| {
        let found = client.get("range/", Some(options)).await.unwrap();
        let keys: Vec<String> =
            found.kvs().iter().map(|kv| kv.key_str().unwrap().replace("range/", "")).collect();
        (keys.join(" "), found.count(), found.more())
    };
    let prefix = || GetOptions::new().with_prefix();
    let expect = |keys: &str, count, more| (keys.to_owned(), count, more);
    assert_eq!(keys(prefix()).await, expect("a b c", 3, false));
    assert_eq!(keys(prefix().with_limit(2)).await, expect("a b", 3, true));
    let down = prefix().with_sort(SortTarget::Key, SortOrder::Descend);
    assert_eq!(keys(down).await, expect("c b a", 3, false));
    let by_value = prefix().with_sort(SortTarget::Value, SortOrder::Ascend).with_limit(1);
    assert_eq!(keys(by_value).await, expect("c", 3, true));
    let newest = prefix().with_sort(SortTarget::Mod, SortOrder::Descend).with_limit(2);
    assert_eq!(keys(newest).await, expect("b a", 3, true));
    assert_eq!(keys(GetOptions::new().with_range("range/b")).await, expect("a", 1, false));
    assert_eq!(keys(prefix().with_count_only()).await, expect("", 3, false));
    let found = client.get("range/a", Some(GetOptions::new().with_from_key())).await.unwrap();
    assert!(found.count() >= 4);
    let found = client.get("range/", Some(prefix().with_keys_only())).await.unwrap();
    assert!(found.kvs().len() == 3 && found.kvs().iter().all(|kv| kv.value().is_empty()));

    let options = DeleteOptions::new().with_prefix();
    assert_eq!(client.delete("range/", Some(options)).await.unwrap().deleted(), 3);
}

pub async fn old_revisions(target: Target) {
    let mut client = target.client().await;
    let mut revisions = Vec::new();
    for value in ["1", "2"] {
        let put = client.put("old/a", value, None).await.unwrap();
        revisions.push(put.header().unwrap().revision());
    }
    client.delete("old/a", None).await.unwrap();
    for (revision, value) in revisions.iter().zip(["1", "2"]) {
        let options = GetOptions::new().with_revision(*revision);
        let found = client.get("old/a", Some(options)).await.unwrap();
        assert_eq!(found.kvs()[0].value_str().unwrap(), value);
    }
    let options = GetOptions::new().with_revision(revisions[1] + 1_000_000);
    let refused = refusal(client.get("old/a", Some(options)).await);
    let message = "etcdserver: mvcc: required revision is a future revision";
    assert_eq!(refused, (11, message.to_owned()));
}

pub async fn transactions(target: Target) {
    let mut client = target.client().await;
    client.put("txn/a", "1", None).await.unwrap();
    let create = client.get("txn/a", None).await.unwrap().kvs()[0].create_revision();
    let txn = || {
        // What is inside is decided with the rest, before anything is done.
        let nested = Txn::new()
            .when([Compare::version("txn/a", CompareOp::Equal, 1)])
            .and_then([TxnOp::get("txn/a", None)]);
        Txn::new()
            .when([
                Compare::value("txn/a", CompareOp::Equal, "1"),
                Compare::version("txn/a", CompareOp::Less, 2),
                Compare::create_revision("txn/a", CompareOp::Equal, create),
                Compare::mod_revision("txn/a", CompareOp::NotEqual, create + 1),
                Compare::lease("txn/a", CompareOp::Equal, 0),
            ])
            .and_then([TxnOp::put("txn/a", "2", None), TxnOp::txn(nested)])
            .or_else([TxnOp::delete("txn/a", None)])
    };
    let done = client.txn(txn()).await.unwrap();
    assert!(done.succeeded());
    match &done.op_responses()[..] {
        [TxnOpResponse::Put(_), TxnOpResponse::Txn(nested)] => {
            assert!(nested.succeeded());
            let [TxnOpResponse::Get(found)] = &nested.op_responses()[..] else { panic!("a get") };
            assert_eq!(found.kvs()[0].value(), b"2");
        }
        other => panic!("{other:?}"),
    }
    let done = client.txn(txn()).await.unwrap();
    assert!(!done.succeeded());
    let [TxnOpResponse::Delete(deleted)] = &done.op_responses()[..] else { panic!("a delete") };
    assert_eq!(deleted.deleted(), 1);
    let twice = [TxnOp::put("txn/b", "1", None), TxnOp::put("txn/b", "2", None)];
    let refused = refusal(client.txn(Txn::new().and_then(twice)).await);
    assert_eq!(refused, (3, "etcdserver: duplicate key given in txn request".to_owned()));
}

/// Writers who read, add one, and write if nobody was faster: nothing is lost.
pub async fn counters(target: Target) {
    const WRITERS: usize = 5;
    const ROUNDS: usize = 6;
    target.client().await.put("counter", "0", None).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let target = target.clone();
            tokio::spawn(async move {
                let mut client = target.client().await;
                let mut left = ROUNDS;
                while left > 0 {
                    let found = client.get("counter", None).await.unwrap();
                    let kv = &found.kvs()[0];
                    let next = kv.value_str().unwrap().parse::<usize>().unwrap() + 1;
                    let unchanged =
                        Compare::mod_revision("counter", CompareOp::Equal, kv.mod_revision());
                    let txn = Txn::new().when([unchanged]).and_then([TxnOp::put(
                        "counter",
                        next.to_string(),
                        None,
                    )]);
                    left -= usize::from(client.txn(txn).await.unwrap().succeeded());
                }
            })
        })
        .collect();
    for writer in writers {
        soon(writer).await.unwrap();
    }
    let found = target.client().await.get("counter", None).await.unwrap();
    assert_eq!(found.kvs()[0].value_str().unwrap(), (WRITERS * ROUNDS).to_string());
}

pub async fn requests_that_are_refused(target: Target) {
    let mut client = target.client().await;
    let refused = refusal(client.put("", "1", None).await);
    assert_eq!(refused, (3, "etcdserver: key is not provided".to_owned()));
    let options = PutOptions::new().with_ignore_value();
    let refused = refusal(client.put("no/such", "", Some(options)).await);
    assert_eq!(refused, (3, "etcdserver: key not found".to_owned()));
    let refused = refusal(client.put("large", vec![0; 1_600_000], None).await);
    assert_eq!(refused, (3, "etcdserver: request is too large".to_owned()));
    let options = PutOptions::new().with_lease(12_345);
    let refused = refusal(client.put("leased", "", Some(options)).await);
    assert_eq!(refused, (5, "etcdserver: requested lease not found".to_owned()));
}

pub async fn watch_keys(target: Target) {
    let mut client = target.client().await;
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream = client.watch("watch/", Some(options)).await.unwrap();
    let created = soon(stream.message()).await.unwrap().unwrap();
    assert!(created.created());
    // A second watch on the same stream, of deletes only.
    let filters = vec![WatchFilterType::NoPut];
    let options = WatchOptions::new().with_filters(filters);
    stream.watch("watch/a", Some(options)).await.unwrap();
    let other = soon(stream.message()).await.unwrap().unwrap();
    assert!(other.created() && other.watch_id() != created.watch_id());

    client.put("watch/a", "1", None).await.unwrap();
    client.put("watch/a", "2", None).await.unwrap();
    client.put("watcj", "no", None).await.unwrap();
    client.delete("watch/a", None).await.unwrap();
    let (mut seen, mut deletes) = (Vec::new(), 0);
    while seen.len() < 3 || deletes < 1 {
        let answer = soon(stream.message()).await.unwrap().unwrap();
        for event in answer.events() {
            if answer.watch_id() == other.watch_id() {
                assert_eq!(event.event_type(), EventType::Delete);
                deletes += 1;
                continue;
            }
            let before = event.prev_kv().map_or("none", |kv| kv.value_str().unwrap());
            let value = event.kv().unwrap().value_str().unwrap();
            seen.push(format!("{:?} {value} after {before}", event.event_type()));
        }
    }
    assert_eq!(seen, ["Put 1 after none", "Put 2 after 1", "Delete  after 2"]);
}

pub async fn watch_history(target: Target) {
    let mut client = target.client().await;
    let mut revisions = Vec::new();
    for number in 0..20 {
        let put = client.put("history", number.to_string(), None).await.unwrap();
        revisions.push(put.header().unwrap().revision());
    }
    let options = WatchOptions::new().with_start_revision(revisions[5]);
    let mut stream = client.watch("history", Some(options)).await.unwrap();
    let found = events(&mut stream, 15).await;
    let found: Vec<i64> = found.iter().map(|event| event.kv().unwrap().mod_revision()).collect();
    assert_eq!(found, revisions[5..]);
}

pub async fn watch_progress_and_cancel(target: Target) {
    let mut client = target.client().await;
    let mut stream = client.watch("progress", None).await.unwrap();
    let id = soon(stream.message()).await.unwrap().unwrap().watch_id();
    let put = client.put("not/watched", "1", None).await.unwrap();
    let revision = put.header().unwrap().revision();
    // A member that has not heard of the put yet answers with what it knows.
    let mut known = 0;
    while known < revision {
        stream.request_progress().await.unwrap();
        let progress = soon(stream.message()).await.unwrap().unwrap();
        assert!(progress.events().is_empty() && progress.watch_id() == -1);
        assert!(progress.header().unwrap().revision() >= known);
        known = progress.header().unwrap().revision();
    }
    stream.cancel(id).await.unwrap();
    let canceled = soon(stream.message()).await.unwrap().unwrap();
    assert!(canceled.canceled() && canceled.watch_id() == id);
    // The stream lives on, and what comes next on it is another watch's.
    stream.watch("progress", None).await.unwrap();
    assert!(soon(stream.message()).await.unwrap().unwrap().created());
    client.put("progress", "1", None).await.unwrap();
    assert_eq!(events(&mut stream, 1).await[0].kv().unwrap().value(), b"1");
}

pub async fn compaction(target: Target) {
    let mut client = target.client().await;
    let mut revisions = Vec::new();
    for value in ["1", "2", "3"] {
        let put = client.put("compact", value, None).await.unwrap();
        revisions.push(put.header().unwrap().revision());
    }
    let options = CompactionOptions::new().with_physical();
    client.compact(revisions[2], Some(options)).await.unwrap();
    let compacted = "etcdserver: mvcc: required revision has been compacted".to_owned();
    let options = GetOptions::new().with_revision(revisions[1]);
    assert_eq!(refusal(client.get("compact", Some(options)).await), (11, compacted.clone()));
    assert_eq!(refusal(client.compact(revisions[2], None).await), (11, compacted));
    let options = GetOptions::new().with_revision(revisions[2]);
    assert_eq!(client.get("compact", Some(options)).await.unwrap().kvs()[0].value(), b"3");

    let options = WatchOptions::new().with_start_revision(revisions[0]);
    let mut stream = client.watch("compact", Some(options)).await.unwrap();
    loop {
        let answer = soon(stream.message()).await.unwrap().unwrap();
        if answer.canceled() {
            assert_eq!(answer.compact_revision(), revisions[2]);
            break;
        }
        assert!(answer.created() && answer.events().is_empty());
    }
}
