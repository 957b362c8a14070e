//! `watch`: prints events as they happen, or runs a command for each.
//!
//! Three ways in: a key on the command line, a key in `KVCTL_WATCH_KEY` (or etcdctl's), or
//! `--interactive`, where standard input has lines `watch ...` and `progress`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::BufRead;

use clap::{Args, Parser};
use proto::etcdserverpb::WatchCreateRequest;
use proto::mvccpb::Event;
use tokio::sync::mpsc;

use crate::cmd::int;
use crate::environment::Environment;
use crate::failure::{Exit, Failure};
use crate::format::{Answer, Style, Subject, Watched};
use crate::keys::Keys;
use crate::options::GlobalArgs;
use crate::session::Session;
use crate::stream::{Heard, WatcherId, Watches};
use crate::{arguments, go, line, print};

#[derive(Args, Debug)]
#[command(
    override_usage = "kvctl watch [OPTIONS] [KEY] [RANGE_END] [-- COMMAND [ARGS]...]",
    after_help = "Without KEY, KVCTL_WATCH_KEY and KVCTL_WATCH_RANGE_END name the keys.
COMMAND runs once per event, with ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and
ETCD_WATCH_VALUE (Go-quoted) in its environment. Ends with exit code 5 when the server ends it.

Examples:
  kvctl watch name
  kvctl watch --prefix /app/ --rev 1 --prev-kv
  kvctl watch name -- sh -c 'echo $ETCD_WATCH_VALUE'"
)]
pub(crate) struct Watch {
    /// Read requests (watch, progress) from standard input
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    one: WatchOne,
}

/// What to watch: on the command line, or on one interactive line.
#[derive(Args, Debug, Clone)]
struct WatchOne {
    /// Key, and the end of the range if it is one
    #[arg(value_name = "KEY [RANGE_END]", hide = true)]
    args: Vec<OsString>,
    /// Watch on a prefix if prefix is set
    #[arg(long)]
    prefix: bool,
    /// Revision to start watching
    #[arg(long, default_value = "0", value_parser = int, hide_default_value = true)]
    rev: i64,
    /// Get the previous key-value pair before the event happens
    #[arg(long)]
    prev_kv: bool,
    /// Get periodic watch progress notification from server
    #[arg(long)]
    progress_notify: bool,
    /// Command to run for each event
    #[arg(last = true, value_name = "COMMAND", hide = true)]
    command: Vec<OsString>,
}

const PREFIX_AND_RANGE: &str = "`range_end` and `--prefix` are mutually exclusive";

/// An interactive line after its first word.
#[derive(Parser, Debug)]
#[command(name = "watch", no_binary_name = true, args_override_self = true)]
struct WatchLine {
    /// Does nothing: the line is interactive already
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    one: WatchOne,
}

/// `WATCH_KEY` and `WATCH_RANGE_END` of the environment.
#[derive(Debug, Default)]
struct KeyVariables {
    key: Option<String>,
    range_end: Option<String>,
}

impl Watch {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let variables = KeyVariables::of(&Environment::of_process())?;
        let first = if self.interactive {
            None
        } else {
            let separator_is_last = std::env::args_os().next_back().is_some_and(|arg| arg == "--");
            Some(self.one.request(&variables, separator_is_last)?)
        };
        let options = globals.resolve()?;
        let style = options.style;
        style.check(Subject::Keys)?;
        let watches = Watches::new(Session::open(options).await?);
        let mut output = Output { style, commands: BTreeMap::new(), watches };
        match first {
            Some((request, command)) => output.follow(request, command).await,
            None => output.interact(&variables).await,
        }
    }
}

impl KeyVariables {
    fn of(environment: &Environment) -> Result<Self, Failure> {
        let value = |name| environment.get(name).map(|(_, value)| value.to_owned());
        let (key, range_end) = (value("WATCH_KEY"), value("WATCH_RANGE_END"));
        match (&key, &range_end) {
            (None, Some(range_end)) => Err(Failure::bad_arguments(format!(
                "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={range_end:?}; set both"
            ))),
            _ => Ok(Self { key, range_end }),
        }
    }
}

impl WatchOne {
    /// The request and the command for its events.
    fn request(
        &self,
        variables: &KeyVariables,
        separator_is_last: bool,
    ) -> Result<(WatchCreateRequest, Vec<OsString>), Failure> {
        let bad = |why: &str| Failure::bad_arguments(format!("{why}; see 'kvctl watch --help'"));
        if separator_is_last && self.command.is_empty() {
            return Err(bad("bad number of arguments (found separator --, but no commands)"));
        }
        let args: Vec<OsString> = match &variables.key {
            Some(_) if !self.args.is_empty() => {
                return Err(bad("bad number of arguments (found conflicting environment key)"));
            }
            Some(key) => [Some(key), variables.range_end.as_ref()]
                .into_iter()
                .flatten()
                .map(Into::into)
                .collect(),
            None => self.args.clone(),
        };
        if args.is_empty() {
            return Err(bad("bad number of arguments"));
        }
        if args.len() == 2 && self.prefix {
            return Err(bad(PREFIX_AND_RANGE));
        }
        // etcdctl takes a range end only if nothing follows it.
        let args = if args.len() == 2 { &args[..] } else { &args[..1] };
        let keys = Keys::of(args, self.prefix, false)?;
        let request = WatchCreateRequest {
            key: keys.key,
            range_end: keys.range_end,
            start_revision: self.rev,
            progress_notify: self.progress_notify,
            prev_kv: self.prev_kv,
            ..WatchCreateRequest::default()
        };
        Ok((request, self.command.clone()))
    }
}

/// Prints what watchers hear and runs their commands.
struct Output {
    style: Style,
    commands: BTreeMap<WatcherId, Vec<OsString>>,
    watches: Watches,
}

impl Output {
    fn add(&mut self, request: WatchCreateRequest, command: Vec<OsString>) {
        let id = self.watches.add(request);
        self.commands.insert(id, command);
    }

    /// Follows one watcher until the server ends it.
    async fn follow(
        &mut self,
        request: WatchCreateRequest,
        command: Vec<OsString>,
    ) -> Result<(), Failure> {
        self.add(request, command);
        while !self.watches.is_empty() {
            let heard = self.watches.next().await?;
            self.tell(heard).await?;
        }
        Err(Failure::answer(Exit::Interrupted, "watch is canceled by the server"))
    }

    /// Follows the watchers that lines on standard input ask for, until there are no more lines.
    async fn interact(&mut self, variables: &KeyVariables) -> Result<(), Failure> {
        let mut lines = stdin_lines();
        loop {
            tokio::select! {
                line = lines.recv() => match line {
                    Some(line) => self.command_line(&line, variables)?,
                    None => {
                        let message = "error reading watch request line: EOF; \
                                       keep standard input open for as long as you watch";
                        return Err(Failure::new(Exit::InvalidInput, message));
                    }
                },
                heard = self.watches.next() => {
                    let heard = heard?;
                    self.tell(heard).await?;
                }
            }
        }
    }

    fn command_line(&mut self, line: &[u8], variables: &KeyVariables) -> Result<(), Failure> {
        let mut words = line::split(line)?;
        let shown = String::from_utf8_lossy(line);
        match words.first().map(|word| word.to_string_lossy().into_owned()).as_deref() {
            Some("watch") if words.len() < 2 && variables.key.is_none() => print::note(&format!(
                "Invalid command {shown} (command type or key is not provided)"
            )),
            Some("watch") => {
                let separator_is_last = words.last().is_some_and(|word| word == "--");
                words.remove(0);
                let line: WatchLine = arguments::parse(&words)
                    .map_err(|error| Failure::bad_arguments(arguments::one_line(&error)))?;
                match line.one.request(variables, separator_is_last) {
                    Ok((request, command)) => self.add(request, command),
                    // etcdctl finds this one only when it makes the watch, and goes on.
                    Err(failure) if failure.text().starts_with(PREFIX_AND_RANGE) => {
                        print::note(&format!("Invalid command {shown} ({PREFIX_AND_RANGE})"));
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Some("progress") => self.watches.request_progress(),
            Some(_) => print::note(&format!("Invalid command {shown} (only support watch)")),
            None => {
                print::note(&format!("Invalid command: {shown} (watch and progress supported)"));
            }
        }
        Ok(())
    }

    async fn tell(&mut self, heard: Vec<Heard>) -> Result<(), Failure> {
        for heard in heard {
            match heard {
                Heard::Events(id, watched) => {
                    print::answer(self.style, &Answer::Watch(&watched))?;
                    self.run_command(id, &watched).await?;
                }
                Heard::Progress(watched) => {
                    print::line(&format!("progress notify: {}", watched.header.revision))?;
                    print::answer(self.style, &Answer::Watch(&watched))?;
                }
                Heard::Canceled(id, watched, reason) => {
                    print::note(&format!("watch was canceled ({reason})"));
                    print::answer(self.style, &Answer::Watch(&watched))?;
                    self.commands.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// Runs the watcher's command for each event, one after the other.
    async fn run_command(&self, id: WatcherId, watched: &Watched) -> Result<(), Failure> {
        let Some([program, args @ ..]) = self.commands.get(&id).map(Vec::as_slice) else {
            return Ok(());
        };
        for event in watched.events.iter().flatten() {
            let mut command = tokio::process::Command::new(program);
            command.args(args).envs(event_variables(watched.header.revision, event));
            let outcome = match command.status().await {
                Ok(status) if status.success() => continue,
                Ok(status) => status.to_string().replace(": ", " "),
                Err(error) => error.to_string(),
            };
            let shown = program.to_string_lossy();
            return Err(Failure::new(
                Exit::Error,
                format!("command {shown:?} error ({outcome}); a watch ends when its command fails"),
            ));
        }
        Ok(())
    }
}

/// What a watch command learns about its event. The revision is that of the answer, as in etcdctl.
fn event_variables(revision: i64, event: &Event) -> [(&'static str, String); 4] {
    let kv = event.kv.as_ref().and_then(|kv| kv.parse().ok()).unwrap_or_default();
    [
        ("ETCD_WATCH_REVISION", revision.to_string()),
        ("ETCD_WATCH_EVENT_TYPE", go::quote(event.r#type().as_str_name().as_bytes())),
        ("ETCD_WATCH_KEY", go::quote(&kv.key)),
        ("ETCD_WATCH_VALUE", go::quote(&kv.value)),
    ]
}

/// Lines of standard input without their ends, from a thread: reading a terminal cannot be given up.
fn stdin_lines() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut line = Vec::new();
        while stdin.read_until(b'\n', &mut line).is_ok() && line.ends_with(b"\n") {
            line.pop();
            if sender.blocking_send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> WatchOne {
        arguments::parse::<WatchLine>(&line::split(line.as_bytes()).unwrap()).unwrap().one
    }

    fn check(line: &str, key: &[u8], range_end: &[u8], command: &[&str]) {
        let (request, run) = one(line).request(&KeyVariables::default(), false).unwrap();
        assert_eq!(
            (request.key.as_slice(), request.range_end.as_slice()),
            (key, range_end),
            "{line}"
        );
        assert_eq!(run, command, "{line}");
    }

    #[test]
    fn watch_arguments_have_etcdctls_forms() {
        check("a", b"a", b"", &[]);
        check("a b", b"a", b"b", &[]);
        check("a --prefix", b"a", b"b", &[]);
        check("a --rev 1 b -- echo -n x", b"a", b"b", &["echo", "-n", "x"]);
        check("a b c -- run", b"a", b"", &["run"]);
        check("'' --prefix", b"\0", b"\0", &[]);
    }

    #[test]
    fn the_environment_can_name_the_keys() {
        let variables = KeyVariables { key: Some("a".into()), range_end: Some("c".into()) };
        let (request, command) = one("--rev 3 -- run").request(&variables, false).unwrap();
        assert_eq!(
            (request.key, request.range_end, request.start_revision),
            (b"a".into(), b"c".into(), 3)
        );
        assert_eq!(command, ["run"]);
        let conflict = one("b -- run").request(&variables, false).unwrap_err();
        assert!(conflict.line.contains("conflicting environment key"), "{}", conflict.line);
    }

    #[test]
    fn wrong_arguments_have_etcdctls_exit_code() {
        let none = KeyVariables::default();
        for (line, last) in [("--rev 1", false), ("a b --prefix", false), ("a --", true)] {
            let failure = one(line).request(&none, last).unwrap_err();
            assert_eq!(failure.exit, Exit::BadArguments, "{line}");
        }
    }
}
