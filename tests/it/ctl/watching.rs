//! A `kvctl watch` that goes on beside a test.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

/// Ends when it is dropped.
pub(super) struct Watching {
    child: Child,
    /// For `-i`.
    pub(super) input: ChildStdin,
    pub(super) notes: Lines<BufReader<ChildStderr>>,
    events: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    pub(super) fn start(kvctl: &Path, endpoints: &str, words: &[&str]) -> Self {
        let mut child = Command::new(kvctl)
            .arg("watch")
            .args(words)
            .args(["--endpoints", endpoints])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let notes = BufReader::new(child.stderr.take().unwrap()).lines();
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, notes, events }
    }

    /// The three lines of the next event; waits for them.
    pub(super) fn event(&mut self) -> Vec<String> {
        self.events.by_ref().take(3).map(Result::unwrap).collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Who is gone already need not be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
