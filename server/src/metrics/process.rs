//! The process, with the names that Prometheus' clients share.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

use super::text::Text;
use crate::pages::resident_bytes;

/// Looked at first when the process starts.
pub static STARTED: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

pub fn write(text: &mut Text) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold anything.
    let fields: Vec<u64> = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.split(' ').map(|field| field.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let field = |at: usize| fields.get(at - 3).copied().unwrap_or(0);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let name = "process_cpu_seconds_total";
    text.family(name, "counter", "Processor time, of the system too.");
    text.series(name, &[], (field(14) + field(15)) as f64 / ticks);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
    let open_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let virtual_max = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
    let started = STARTED.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    for (name, help, value) in [
        ("process_open_fds", "Open files and connections.", open),
        ("process_max_fds", "How many there may be.", open_max),
        ("os_fd_used", "Open files and connections.", open),
        ("os_fd_limit", "How many there may be.", open_max),
        ("process_resident_memory_bytes", "Bytes in memory.", resident_bytes()),
        ("process_virtual_memory_bytes", "Bytes of address space.", field(23)),
        ("process_virtual_memory_max_bytes", "How many there may be.", virtual_max),
    ] {
        text.gauge(name, help, value);
    }
    text.gauge("process_start_time_seconds", "When the process started.", started);
}
