//! A lease of the command's own, kept while the command runs: it dies, its keys go.

use std::pin::Pin;
use std::time::Duration;

use proto::etcdserverpb::LeaseGrantRequest;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::{Code, Response, Status};

use crate::cmd::lease::keep;
use crate::failure::{Exit, Failure, connection_error, server_text};
use crate::options::Options;
use crate::print;
use crate::session::{Call, Connection, Session};

const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Presence {
    pub(crate) lease: i64,
    /// Ends with the lease.
    keeping: Pin<Box<dyn Future<Output = Result<(), Failure>>>>,
}

impl Presence {
    /// Grants a lease, and keeps it as long as something is awaited [beside](Self::beside) it.
    pub(crate) async fn begin(options: Options, ttl: i64) -> Result<(Self, Session), Failure> {
        let mut session = Session::open(options.clone()).await?;
        let request = LeaseGrantRequest { ttl, id: 0 };
        let grant = session
            .call(Call::PatientWrite, |to| async move { to.lease().lease_grant(request).await });
        let lease = grant.await?.id;
        let mut keeper = Session::open(options).await?;
        let keeping = Box::pin(async move { keep(&mut keeper, lease, |_| Ok(())).await });
        Ok((Self { lease, keeping }, session))
    }

    /// What the work comes to, unless the lease ends first.
    pub(crate) async fn beside<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, Failure> {
        tokio::select! {
            biased;
            done = work => Ok(Some(done)),
            ended = &mut self.keeping => ended.map(|()| None),
        }
    }
}

/// Makes a call that waits for others, and that may be made again: at the next endpoint when one is
/// lost.
pub(crate) async fn wait_for<T, F, Fut>(session: &mut Session, make: F) -> Result<T, Failure>
where
    F: Fn(Connection) -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    loop {
        let status = match make(session.connection().clone()).await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        let lost = connection_error(&status);
        if lost.is_none() && status.code() != Code::Unavailable {
            return Err(Failure::of_call(session.endpoint(), &status));
        }
        let why = lost.unwrap_or_else(|| server_text(&status));
        print::note(&format!("kvctl: {} is lost: {why}; trying again", session.endpoint()));
        tokio::time::sleep(RECONNECT_PAUSE).await;
        // None may be there yet.
        let _ = session.reopen().await;
    }
}

/// The signals that ask a command to end.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Error, format!("cannot listen for signals: {error}"))
            })
        };
        let (interrupt, terminate) =
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What etcdctl says when it was interrupted while it waited.
pub(crate) fn interrupted() -> Failure {
    Failure::answer(Exit::Error, "context canceled")
}
