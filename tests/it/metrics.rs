//! `/metrics`: the names, types, labels and buckets of etcd's, and every series that the dashboard asks
//! for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use harness::http::Ask;
use harness::{Cluster, Node, NodeOptions, Target, etcd_is_required, go_binary};

/// One name on a page.
#[derive(Clone, Debug, Default, PartialEq)]
struct Family {
    kind: String,
    /// The names of the labels that its series have, without those of buckets.
    labels: BTreeSet<String>,
    /// Bounds of buckets, as they are written.
    bounds: BTreeSet<u64>,
    /// The labels of each series.
    series: Vec<BTreeMap<String, String>>,
}

type Page = BTreeMap<String, Family>;

fn page(endpoint: &str) -> Page {
    let text = Ask::get(endpoint, "/metrics").send().unwrap().text().unwrap();
    let mut page = Page::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            page.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            add_series(&mut page, line);
        }
    }
    page
}

fn add_series(page: &mut Page, line: &str) {
    let (series, _) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let histogram =
        ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| name.strip_suffix(suffix)).find(
            |name| page.get(*name).is_some_and(|it| it.kind == "histogram" || it.kind == "summary"),
        );
    let name = histogram.unwrap_or(name).to_owned();
    let family = page.get_mut(&name).unwrap_or_else(|| panic!("no type for {name}"));
    let mut all = BTreeMap::new();
    for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
        let (label, value) = label.split_once("=\"").unwrap();
        let value = value.trim_end_matches('"');
        if label == "le" {
            let bound: f64 = value.parse().unwrap();
            family.bounds.insert((bound * 1e6).round() as u64);
        } else {
            family.labels.insert(label.to_owned());
            all.insert(label.to_owned(), value.to_owned());
        }
    }
    family.series.push(all);
}

/// A little of everything, so that what appears with its first use has appeared.
fn use_all(endpoint: &str) {
    for (path, body) in [
        ("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#),
        ("/v3/kv/range", r#"{"key":"YQ=="}"#),
        ("/v3/kv/txn", r#"{"success":[{"request_put":{"key":"Yg=="}}]}"#),
        ("/v3/kv/deleterange", r#"{"key":"YQ=="}"#),
        ("/v3/kv/compaction", r#"{"revision":"2","physical":true}"#),
        ("/v3/lease/grant", r#"{"TTL":"60","ID":"7"}"#),
        ("/v3/lease/keepalive", r#"{"ID":"7"}"#),
        ("/v3/lease/revoke", r#"{"ID":"7"}"#),
        ("/v3/maintenance/hash", "{}"),
        ("/v3/maintenance/hashkv", "{}"),
    ] {
        let answer = Ask::post(endpoint, path, body).send().unwrap();
        assert_eq!(answer.status, 200, "{path}");
    }
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(Ask::get(endpoint, path).send().unwrap().status, 200, "{path}");
    }
}

/// What etcd has and kvd does not, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("go_", "there is no Go runtime"),
    ("promhttp_", "the page is not made by that library"),
    ("etcd_server_go_version", "there is no Go"),
    ("etcd_grpc_proxy_", "there is no proxy in the server"),
    ("etcd_debugging_store_", "left over from a store of etcd 2"),
    ("etcd_debugging_disk_backend_commit_", "parts of a commit of bbolt"),
    ("etcd_debugging_mvcc_index_compaction_", "compaction has no such phase"),
    ("etcd_debugging_mvcc_db_compaction_", "rows leave in slices, in the background"),
    (
        "etcd_debugging_mvcc_pending_events_total",
        "watchers read a ring, nothing is queued for them",
    ),
    ("etcd_debugging_snap_", "left over from snapshot files of etcd 2"),
    ("etcd_snap_", "a snapshot is one file; how long it took is in etcd_disk_backend_snapshot_"),
    ("etcd_disk_wal_write_duration_seconds", "only flushes are measured: a write does not wait"),
    ("etcd_disk_backend_defrag_duration_seconds", "the engine is never rewritten as a whole"),
    ("etcd_disk_defrag_inflight", "the engine is never rewritten as a whole"),
    ("etcd_mvcc_db_open_read_transactions", "readers open no transactions"),
    ("etcd_debugging_auth_revision", "comes with authentication"),
    ("process_network_", "is the network's of the machine, not the process's"),
];

#[test]
fn names_types_and_labels_are_etcds() {
    if go_binary("etcd").is_err() {
        assert!(!etcd_is_required(), "there is no etcd");
        return;
    }
    let start = |target| {
        let node = Node::start(NodeOptions::new(target).arg("--metrics=extensive"));
        let node = node.unwrap_or_else(|error| panic!("{error:#}"));
        use_all(&node.endpoint());
        (page(&node.endpoint()), node)
    };
    let ((kvd, _kvd), (etcd, _etcd)) = (start(Target::Kvd), start(Target::Etcd));
    let mut wrong = Vec::new();
    for (name, theirs) in &etcd {
        if NOT_HERE.iter().any(|(prefix, _)| name.starts_with(prefix)) {
            if kvd.contains_key(name) {
                wrong.push(format!("{name} is here"));
            }
            continue;
        }
        match kvd.get(name) {
            None => wrong.push(format!("{name} ({}) is missing", theirs.kind)),
            Some(ours) => {
                for (what, ours, theirs) in [
                    ("type", format!("{:?}", ours.kind), format!("{:?}", theirs.kind)),
                    ("labels", format!("{:?}", ours.labels), format!("{:?}", theirs.labels)),
                    ("buckets", format!("{:?}", ours.bounds), format!("{:?}", theirs.bounds)),
                ] {
                    if ours != theirs {
                        wrong.push(format!("{name}: {what} {ours}, not {theirs}"));
                    }
                }
            }
        }
    }
    let unknown = kvd.keys().filter(|name| !name.starts_with("kvd_") && !etcd.contains_key(*name));
    wrong.extend(unknown.map(|name| format!("{name} is not etcd's")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What a query asks for: names, and what their labels must be.
fn selectors(query: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = query;
    while let Some(at) = rest.find(is_name) {
        let end = rest[at..].find(|c| !is_name(c)).map_or(rest.len(), |end| at + end);
        let name = &rest[at..end];
        rest = &rest[end..];
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            let (inside, after) = inner.split_once('}').unwrap();
            for label in inside.split("\",") {
                let (label, value) = label.split_once('=').unwrap();
                let value = value.trim_start_matches('~').trim_matches('"');
                labels.push((label.to_owned(), value.to_owned()));
            }
            rest = after;
        }
        if ["etcd_", "grpc_", "process_", "kvd_"].iter().any(|prefix| name.starts_with(prefix))
            && !name.starts_with("grpc_type")
        {
            found.push((name.to_owned(), labels));
        }
    }
    found
}

/// On a cluster, as there is nothing to see of other members otherwise.
#[test]
fn the_dashboard_finds_every_series() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboard/kvd.json");
    let dashboard: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<&str> = queries.map(|query| query["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 20);
    let cluster = Cluster::start(Target::Kvd, 3).unwrap();
    let mut pages = Vec::new();
    for place in cluster.places() {
        use_some(&cluster.node(place).endpoint());
        pages.push(page(&cluster.node(place).endpoint()));
    }
    let mut asked = 0;
    for query in queries {
        for (name, labels) in selectors(query) {
            asked += 1;
            let plain = name.strip_suffix("_bucket").unwrap_or(&name);
            let found = pages.iter().filter_map(|page| page.get(plain)).any(|family| {
                family.series.iter().any(|series| {
                    // What Prometheus itself adds.
                    labels.iter().filter(|(label, _)| label != "job").all(|(label, wanted)| {
                        let value = series.get(label).map_or("", String::as_str);
                        wanted.split('|').any(|wanted| wanted == value)
                    })
                })
            });
            assert!(found, "{name}{labels:?} of {query}");
        }
    }
    assert!(asked > 25, "{asked}");
}

fn use_some(endpoint: &str) {
    let put = Ask::post(endpoint, "/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#).send();
    assert_eq!(put.unwrap().status, 200);
}
