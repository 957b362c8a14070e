//! The end of a process that cannot be trusted to go on.

/// Says why, on the log and on stderr, and exits with 1. The supervisor starts a new process,
/// which recovers from the log.
pub fn fatal(why: &str) -> ! {
    tracing::error!("{why}; stopping");
    std::process::exit(1)
}
