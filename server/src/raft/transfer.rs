//! Snapshot files on their way between members: in pieces, as fast as the receiver takes them.
//!
//! A file is received whole, synced and verified before consensus hears of it; one that was cut off
//! is removed and sent again from the beginning, as is one that the receiver has no room for. One that
//! is damaged already where it comes from is replaced there.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::alias::{SnapshotOf, VoteOf};
use proto::peer::{SnapshotHead, SnapshotPiece, snapshot_piece::Piece};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::links::{CallError, Link, failed};
use super::machine::SnapshotFile;
use super::types::Types;
use super::wire;
use crate::limits;
use crate::replica::Current;
use crate::snapshots::{Mended, Snapshots};
use crate::space::Space;

/// This member's files, and the state to write another from.
#[derive(Clone)]
pub struct Own {
    pub snapshots: Arc<Snapshots>,
    pub current: Arc<Current>,
}

/// Why a file did not get there.
enum Unsent {
    /// This member cannot read it.
    Unreadable(String),
    Refused(Status),
}

/// Sends a file and waits until the peer has installed it. The peer's vote.
///
/// After a refusal a while passes before the failure is told, as the file is sent again then: the
/// peer's disk will not be empty in a moment, and what is damaged there may be so again.
pub async fn send(
    link: Link,
    vote: VoteOf<Types>,
    snapshot: SnapshotOf<Types, SnapshotFile>,
    own: &Own,
) -> Result<VoteOf<Types>, CallError> {
    let (to, path) = (format!("{:x}", link.to), snapshot.snapshot.path.clone());
    let (why, is_suspect) = match stream(link, vote, snapshot).await {
        Ok(vote) => {
            return vote.ok_or_else(|| CallError::Failed("the answer names no vote".into()));
        }
        Err(Unsent::Unreadable(error)) => (CallError::Failed(error), true),
        Err(Unsent::Refused(status)) => match status.code() {
            Code::ResourceExhausted => (failed(&status), false),
            Code::DataLoss => (failed(&status), true),
            _ => return Err(failed(&status)),
        },
    };
    if !is_suspect || !mend(own, path).await {
        tracing::warn!(to, %why, "the snapshot file is refused");
        tokio::time::sleep(limits::SNAPSHOT_RETRY_INTERVAL).await;
    }
    Err(why)
}

/// Looks for damage in a file of this member. True when there is another to send.
async fn mend(own: &Own, path: PathBuf) -> bool {
    let Own { snapshots, current } = own.clone();
    let mend = move || match snapshots.mend(&path, &current.load()) {
        Ok(Mended::Replaced) => true,
        Ok(Mended::Sound) => false,
        Ok(Mended::NoRoom) => {
            let path = path.display();
            tracing::warn!(%path, "a snapshot file is damaged, and there is no room for another");
            false
        }
        Err(fatal) => crate::stop::fatal(&fatal),
    };
    // A panic ends the process.
    tokio::task::spawn_blocking(mend).await.unwrap_or(false)
}

async fn stream(
    mut link: Link,
    vote: VoteOf<Types>,
    snapshot: SnapshotOf<Types, SnapshotFile>,
) -> Result<Option<VoteOf<Types>>, Unsent> {
    let unreadable = |error: &dyn std::fmt::Display| Unsent::Unreadable(error.to_string());
    let path = snapshot.snapshot.path;
    let file = File::open(&path).map_err(|error| unreadable(&error))?;
    let bytes = file.metadata().map_err(|error| unreadable(&error))?.len();
    let head = SnapshotHead {
        identity: Some(link.identity()),
        vote: Some(wire::vote(&vote)),
        applied: wire::log_id(snapshot.meta.last_log_id.as_ref()),
        bytes,
    };
    tracing::info!(to = format!("{:x}", link.to), bytes, "sending a snapshot file");
    let (pieces, stream) = mpsc::channel(limits::SNAPSHOT_PIECES_AHEAD);
    let reader = tokio::task::spawn_blocking(move || read(file, head, &pieces));
    let answer = link.client.install_snapshot(ReceiverStream::new(stream)).await;
    match reader.await {
        Ok(Err(error)) => return Err(unreadable(&error)),
        Ok(Ok(())) => {}
        Err(error) => return Err(unreadable(&error)),
    }
    let answer = answer.map_err(Unsent::Refused)?.into_inner();
    Ok(answer.vote.as_ref().map(wire::to_vote))
}

/// Stops early when nobody wants the rest.
fn read(
    mut file: File,
    head: SnapshotHead,
    pieces: &mpsc::Sender<SnapshotPiece>,
) -> io::Result<()> {
    let mut piece = Piece::Head(head);
    loop {
        if pieces.blocking_send(SnapshotPiece { piece: Some(piece) }).is_err() {
            return Ok(());
        }
        let mut data = vec![0; limits::SNAPSHOT_PIECE_BYTES];
        let count = file.read(&mut data)?;
        if count == 0 {
            return Ok(());
        }
        data.truncate(count);
        piece = Piece::Data(Bytes::from(data));
    }
}

/// A file that is being received. Removed unless it is complete.
struct Unfinished {
    file: File,
    path: PathBuf,
    received: u64,
    is_complete: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_complete {
            // What stays is removed by the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The disk must have room for the rest of a file, and for the engine that is built from it beside
/// the one that is in use: up to a tenth more than the file. What the log needs comes first, and an
/// installation cannot be given up half-way.
fn check_room(space: &Space, bytes: u64, received: u64) -> Result<(), Status> {
    let (rest, engine) = (bytes.saturating_sub(received), bytes.saturating_add(bytes / 4));
    space.check(rest.saturating_add(engine)).map_err(|no_room| {
        tracing::warn!(bytes, "a snapshot file from the leader is refused: {no_room}");
        Status::resource_exhausted(no_room.to_string())
    })
}

/// The next piece, unless the sender is gone without a word.
pub async fn next(pieces: &mut Streaming<SnapshotPiece>) -> Result<Option<SnapshotPiece>, Status> {
    let stalled = |_| Status::deadline_exceeded("nothing more came of the snapshot file");
    tokio::time::timeout(limits::SNAPSHOT_STALL_TIMEOUT, pieces.message()).await.map_err(stalled)?
}

/// Receives the pieces after the head into a file at `path`, synced.
pub async fn receive(
    mut pieces: Streaming<SnapshotPiece>,
    path: &Path,
    bytes: u64,
    space: &Space,
) -> Result<(), Status> {
    check_room(space, bytes, 0)?;
    let failed = |error: io::Error| {
        Status::resource_exhausted(format!("storing the snapshot file: {error}"))
    };
    let file = File::create(path).map_err(failed)?;
    let mut unfinished =
        Unfinished { file, path: path.to_owned(), received: 0, is_complete: false };
    while let Some(SnapshotPiece { piece }) = next(&mut pieces).await? {
        let Some(Piece::Data(data)) = piece else {
            return Err(Status::invalid_argument("a second head"));
        };
        unfinished = tokio::task::spawn_blocking(move || {
            unfinished.received += data.len() as u64;
            unfinished.file.write_all(&data).map(|()| unfinished)
        })
        .await
        .map_err(|error| failed(io::Error::other(error)))?
        .map_err(failed)?;
        if unfinished.received > bytes {
            break;
        }
        check_room(space, bytes, unfinished.received)?;
    }
    if unfinished.received != bytes {
        return Err(Status::data_loss("the snapshot file has another length than announced"));
    }
    let synced =
        tokio::task::spawn_blocking(move || unfinished.file.sync_all().map(|()| unfinished));
    // A sender that gives up meanwhile leaves nobody who would ask for the file.
    let mut whole =
        synced.await.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?;
    whole.is_complete = true;
    Ok(())
}
