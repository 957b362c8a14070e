//! `/debug/vars`: the process in JSON, with the names of etcd's that mean something here.

use rustix::process::{Resource, getrlimit};

/// What was started, how many files it may open, and its memory.
pub fn json() -> String {
    let command: Vec<String> = std::env::args().collect();
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let resident = resident_bytes();
    let vars = serde_json::json!({
        "cmdline": command,
        "file_descriptor_limit": descriptors,
        "memstats": { "Sys": resident },
    });
    format!("{vars:#}\n")
}

/// Bytes of this process in memory; 0 if the system does not say.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
