//! `lock`: holds a lock until a signal comes, or for as long as a program runs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use clap::Args;
use proto::etcdserverpb::RangeRequest;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest};

use super::int;
use crate::failure::{Exit, Failure};
use crate::format::{Answer, Subject};
use crate::options::GlobalArgs;
use crate::presence::{Presence, Signals, interrupted, wait_for};
use crate::print;
use crate::session::{Call, Session};

/// How long a command that was interrupted tries to leave the queue.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
#[command(
    override_usage = "kvctl lock [OPTIONS] <NAME> [PROGRAM [ARGS]...]",
    after_help = "Without a program the lock's key is printed and the lock is held until SIGINT or SIGTERM.
With one it is held while the program runs, which finds ETCD_LOCK_KEY and ETCD_LOCK_REV in its
environment; its exit code becomes kvctl's. Options of the program come after '--'.

Examples:
  kvctl lock backup
  kvctl lock backup -- tar -cf backup.tar data"
)]
pub(crate) struct Lock {
    /// Name of the lock, and a program to run while it is held
    #[arg(value_name = "NAME [PROGRAM [ARGS]...]", hide = true)]
    args: Vec<OsString>,
    /// Seconds after which the lock is lost when kvctl does not renew it
    #[arg(long, default_value = "10", value_parser = int)]
    ttl: i64,
}

impl Lock {
    pub(super) async fn run(self, globals: &GlobalArgs) -> Result<(), Failure> {
        let [name, program @ ..] = self.args.as_slice() else {
            return Err(Failure::bad_arguments(
                "lock takes a lock name argument and an optional command to execute",
            ));
        };
        let options = globals.resolve()?;
        let style = options.style;
        style.check(Subject::Keys)?;
        let mut signals = Signals::new()?;
        // As in etcdctl, what makes no sense stands for the usual time.
        let ttl = if self.ttl > 0 { self.ttl } else { DEFAULT_TTL };
        let (mut presence, mut session) = Presence::begin(options, ttl).await?;
        let name = name.clone().into_vec();
        let held = acquire(&mut presence, &mut session, &mut signals, name).await?;

        if let [program, args @ ..] = program {
            let ran = run(&mut presence, (program, args), &held).await;
            let unlocked = unlock(&mut session, held.key).await;
            return ran.and(unlocked);
        }
        let request = RangeRequest { key: held.key.clone(), ..RangeRequest::default() };
        let get = session.call(Call::Read, |to| {
            let request = request.clone();
            async move { to.kv().range(request).await }
        });
        let range = get.await?;
        if range.kvs.is_empty() {
            return Err(Failure::answer(Exit::Error, "lock lost on init"));
        }
        print::answer(style, &Answer::Get(&range))?;
        match presence.beside(signals.next()).await? {
            Some(()) => unlock(&mut session, held.key).await,
            None => Err(Failure::answer(Exit::Error, "session expired")),
        }
    }
}

/// Of a session, in seconds, if none is given that makes sense.
const DEFAULT_TTL: i64 = 60;

async fn acquire(
    presence: &mut Presence,
    session: &mut Session,
    signals: &mut Signals,
    name: Vec<u8>,
) -> Result<LockResponse, Failure> {
    let lease = presence.lease;
    let key = [&name[..], format!("/{lease:x}").as_bytes()].concat();
    let lock = wait_for(session, |to| {
        let request = LockRequest { name: name.clone(), lease };
        async move { to.lock().lock(request).await }
    });
    let waited = async {
        tokio::select! {
            held = lock => Some(held),
            () = signals.next() => None,
        }
    };
    match presence.beside(waited).await? {
        Some(Some(held)) => held,
        Some(None) => {
            // What the server does not hear of goes with the lease.
            let _ = tokio::time::timeout(LEAVE_WITHIN, unlock(session, key)).await;
            Err(interrupted())
        }
        None => Err(Failure::answer(Exit::Error, "mutex: session is expired")),
    }
}

async fn unlock(session: &mut Session, key: Vec<u8>) -> Result<(), Failure> {
    let request = UnlockRequest { key };
    let call = session.call(Call::PatientWrite, |to| {
        let request = request.clone();
        async move { to.lock().unlock(request).await }
    });
    call.await.map(drop)
}

/// Runs the program. It goes on when the lease is lost, as under etcdctl.
async fn run(
    presence: &mut Presence,
    (program, args): (&OsString, &[OsString]),
    held: &LockResponse,
) -> Result<(), Failure> {
    let mut command = tokio::process::Command::new(program);
    command.args(args).stdin(Stdio::null());
    let revision = held.header.as_ref().map_or(0, |header| header.revision).to_string();
    let key = OsString::from_vec(held.key.clone());
    for (name, value) in [("ETCD_LOCK_KEY", key), ("ETCD_LOCK_REV", revision.into())] {
        // kvctl's own environment wins, as in etcdctl.
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    let mut child = command.spawn().map_err(|error| {
        let program = program.to_string_lossy();
        Failure::new(Exit::Error, format!("cannot run {program:?}: {error}"))
    })?;
    let ended = match presence.beside(child.wait()).await? {
        Some(ended) => ended,
        None => child.wait().await,
    };
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ended_with(status)),
        Err(error) => Err(Failure::new(Exit::Error, format!("waiting for the program: {error}"))),
    }
}

fn ended_with(status: ExitStatus) -> Failure {
    // A program that a signal ended has no code: -1, of which a process keeps a byte.
    let code = status.code().unwrap_or(-1) as u8;
    let what = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    Failure::answer(Exit::Program(code), what)
}
