//! Where log lines go and what they look like: for people by default, with etcd's keys as JSON.
//!
//! ```text
//! 2026-11-21T08:00:00.000000Z  INFO ready to serve client requests address=127.0.0.1:2379
//! {"level":"info","ts":"2026-11-21T08:00:00.000000Z","caller":"src/server.rs:10","msg":"ready"}
//! ```
//!
//! kvd's own crates log at the level asked for, libraries at `warn` at best (`info` when
//! debugging): what they tell on their way is about them, not about the member.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat, LogLevel, LogOutput};
use crate::raft;

/// The crates that are kvd, as tracing knows them.
const OWN_TARGETS: &[&str] = &["kvd", "server", "store", "proto"];

/// Installs the process's logger. The error says which output cannot be opened.
pub fn init(config: &LogConfig) -> Result<(), String> {
    let outputs = Outputs::open(&config.outputs)?;
    let colour =
        outputs.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Format { json: config.format == LogFormat::Json })
        .with_ansi(colour && config.format == LogFormat::Console)
        .with_writer(outputs);
    tracing_subscriber::registry()
        .with(filter(config.level))
        .with(layer)
        .try_init()
        .map_err(|error| format!("--log-outputs: {error}; start one logger only"))
}

fn filter(level: LogLevel) -> Targets {
    let (own, libraries) = match level {
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Error | LogLevel::Panic | LogLevel::Fatal => {
            (LevelFilter::ERROR, LevelFilter::ERROR)
        }
    };
    // Consensus warns of what is routine, such as an answer that came too late to count.
    let consensus = match level {
        LogLevel::Debug => LevelFilter::INFO,
        _ => LevelFilter::ERROR,
    };
    let targets = OWN_TARGETS.iter().map(|target| (*target, own));
    Targets::new()
        .with_default(libraries)
        .with_targets(targets)
        .with_target(raft::LOG_TARGET, consensus)
        // It warns that it cannot run a program; errors are returned as well.
        .with_target(store::engine::LOG_TARGET, LevelFilter::ERROR)
}

/// Consensus was told to stop, and says of everything that it cuts off that this was an error.
static CONSENSUS_STOPS: AtomicBool = AtomicBool::new(false);

pub fn expect_consensus_to_stop() {
    CONSENSUS_STOPS.store(true, Relaxed);
}

fn is_news(metadata: &Metadata<'_>) -> bool {
    let is_consensus = || metadata.target().starts_with(raft::LOG_TARGET);
    !(CONSENSUS_STOPS.load(Relaxed) && is_consensus())
}

/// All places a line goes to. A line is one write to each, so that lines never mix.
struct Outputs {
    outputs: Mutex<Vec<Output>>,
}

enum Output {
    Stderr,
    Stdout,
    File(File),
}

impl Outputs {
    fn open(outputs: &[LogOutput]) -> Result<Outputs, String> {
        let open = |output: &LogOutput| match output {
            LogOutput::Stderr => Ok(Output::Stderr),
            LogOutput::Stdout => Ok(Output::Stdout),
            LogOutput::File(path) => open_file(path).map(Output::File).map_err(|error| {
                format!(
                    "--log-outputs: {} cannot be opened ({error}); choose a file in a directory \
                     that exists and may be written",
                    path.display()
                )
            }),
        };
        Ok(Outputs { outputs: Mutex::new(outputs.iter().map(open).collect::<Result<_, _>>()?) })
    }

    /// Escape codes are for eyes only: one output that is not a terminal switches them off.
    fn is_terminal(&self) -> bool {
        let outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.iter().all(|output| match output {
            Output::Stderr => io::stderr().is_terminal(),
            Output::Stdout => io::stdout().is_terminal(),
            Output::File(_) => false,
        })
    }
}

/// For the owner's eyes only: what is logged may hold keys.
fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = &'a Outputs;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        for output in outputs.iter_mut() {
            // A log that cannot be written has nobody to tell; the member goes on.
            let _ = match output {
                Output::Stderr => io::stderr().write_all(line),
                Output::Stdout => io::stdout().write_all(line).and_then(|()| io::stdout().flush()),
                Output::File(file) => file.write_all(line),
            };
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Format {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self.json {
            _ if !is_news(event.metadata()) => Ok(()),
            true => json(writer, event),
            false => console(writer, event),
        }
    }
}

/// Time, level, message, then `key=value`.
fn console(mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
    let fields = Fields::of(event);
    let (dim, reset) = if writer.has_ansi_escapes() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    let colour = match (writer.has_ansi_escapes(), *event.metadata().level()) {
        (false, _) => "",
        (true, Level::ERROR) => "\x1b[31m",
        (true, Level::WARN) => "\x1b[33m",
        (true, Level::INFO) => "\x1b[32m",
        (true, _) => "\x1b[34m",
    };
    write!(writer, "{dim}")?;
    SystemTime.format_time(&mut writer)?;
    write!(writer, "{reset} {colour}{:>5}{reset} ", event.metadata().level().as_str())?;
    // A line is one line, whatever is in the message.
    write!(writer, "{}", one_line(&fields.message))?;
    for (name, value) in &fields.others {
        let text = match value {
            serde_json::Value::String(text) if !needs_quotes(text) => text.clone(),
            value => value.to_string(),
        };
        write!(writer, " {dim}{name}={reset}{text}")?;
    }
    writeln!(writer)
}

fn one_line(text: &str) -> String {
    match text.contains(['\n', '\r', '\x1b']) {
        true => text.escape_debug().to_string(),
        false => text.to_string(),
    }
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"')
}

/// The keys of etcd's log: level, ts, caller, msg, then the fields.
fn json(mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
    let fields = Fields::of(event);
    let metadata = event.metadata();
    let level = match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    };
    write!(writer, "{{\"level\":\"{level}\",\"ts\":\"")?;
    SystemTime.format_time(&mut writer)?;
    write!(writer, "\"")?;
    if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
        write!(writer, ",\"caller\":{}", quoted(&format!("{file}:{line}")))?;
    }
    write!(writer, ",\"msg\":{}", quoted(&fields.message))?;
    for (name, value) in &fields.others {
        write!(writer, ",{}:{value}", quoted(name))?;
    }
    writeln!(writer, "}}")
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An event's values, the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    fn of(event: &Event<'_>) -> Fields {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields
    }

    fn add(&mut self, field: &Field, value: serde_json::Value) {
        match (field.name(), value) {
            ("message", serde_json::Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged at this level, the time of each line cut off.
    fn logged(json: bool, level: LogLevel, log: impl Fn()) -> Vec<String> {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Format { json })
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(filter(level)).with(layer);
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_string).collect()
    }

    #[test]
    fn lines_for_people() {
        let lines = logged(false, LogLevel::Info, || {
            tracing::info!(path = "/a b", count = 3, ok = true, "opened\nthe log");
            tracing::warn!(name: "x", text = "plain", "slow");
            tracing::debug!("not at this level");
            tracing::info!(target: "h2::codec", "not a library's small talk");
            tracing::warn!(target: "h2::codec", "but its warnings");
        });
        let after_time: Vec<&str> = lines.iter().map(|l| l.split_once('Z').unwrap().1).collect();
        assert_eq!(
            after_time,
            [
                "  INFO opened\\nthe log path=\"/a b\" count=3 ok=true",
                "  WARN slow text=plain",
                "  WARN but its warnings",
            ]
        );
    }

    #[test]
    fn lines_for_machines_have_etcds_keys() {
        let lines = logged(true, LogLevel::Debug, || {
            tracing::error!(path = %"/a \"b\"", count = 3, "said \"no\"\n");
            tracing::debug!("small");
        });
        let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(first["level"], "error");
        assert_eq!(first["msg"], "said \"no\"\n");
        assert_eq!(first["path"], "/a \"b\"");
        assert_eq!(first["count"], 3);
        assert!(first["ts"].as_str().unwrap().ends_with('Z'));
        assert!(first["caller"].as_str().unwrap().contains("logging.rs:"));
        let second: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(second["level"], "debug");
    }

    #[test]
    fn an_output_that_cannot_be_opened_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("kvd.log");
        let error = Outputs::open(&[LogOutput::File(path.clone())]).err().unwrap();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        let path = directory.path().join("kvd.log");
        for _ in 0..2 {
            let outputs = Outputs::open(&[LogOutput::File(path.clone())]).unwrap();
            (&outputs).write_all(b"line\n").unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\nline\n", "appended");
    }
}
