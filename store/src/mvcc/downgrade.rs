//! Whether a downgrade of the cluster is announced, as etcd keeps it in the bucket `cluster`. Nothing here
//! depends on it: a snapshot file takes the announcement along to an etcd.

use bytes::Bytes;
use proto::internal;
use serde::{Deserialize, Serialize};

use super::meta::Tables;
use super::state::State;
use super::store::Store;

const BUCKET: &str = "cluster";
const KEY: &[u8] = b"downgrade";

#[derive(Deserialize, Serialize)]
struct Row {
    #[serde(rename = "target-version", default)]
    target_version: String,
    #[serde(default)]
    enabled: bool,
}

/// Announces a downgrade, or takes that back.
pub(super) fn apply(state: &mut State, info: &internal::DowngradeInfo) {
    let table = state.tables.entry(BUCKET.into()).or_default();
    if info.enabled {
        let row = Row { target_version: info.target_version.clone(), enabled: true };
        let json = serde_json::to_vec(&row).expect("text and a flag always encode");
        table.insert(Bytes::from_static(KEY), json.into());
        return;
    }
    table.remove(KEY);
    if table.is_empty() {
        state.tables.remove(BUCKET);
    }
}

fn target(tables: &Tables) -> Option<String> {
    let row: Row = serde_json::from_slice(tables.get(BUCKET)?.get(KEY)?).ok()?;
    row.enabled.then_some(row.target_version)
}

impl Store {
    /// The version that a downgrade is announced to.
    pub fn downgrade_target(&self) -> Option<String> {
        target(&self.state().tables)
    }
}
