//! Snapshot files on their way between members: in pieces, as fast as the receiver takes them.
//!
//! A file is received whole, synced and verified before consensus hears of it; one that was cut off
//! is removed and sent again from the beginning.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use openraft::alias::{SnapshotOf, VoteOf};
use proto::peer::{SnapshotHead, SnapshotPiece, snapshot_piece::Piece};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::links::{CallError, Link, failed};
use super::machine::SnapshotFile;
use super::types::Types;
use super::wire;
use crate::limits;

/// Sends a file and waits until the peer has installed it. The peer's vote.
pub async fn send(
    mut link: Link,
    vote: VoteOf<Types>,
    snapshot: SnapshotOf<Types, SnapshotFile>,
) -> Result<VoteOf<Types>, CallError> {
    let unreadable = |error: &dyn std::fmt::Display| CallError::Failed(error.to_string());
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
    let answer = answer.map_err(|status| failed(&status))?.into_inner();
    let vote = answer.vote.as_ref().map(wire::to_vote);
    vote.ok_or_else(|| CallError::Failed("the answer names no vote".into()))
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

impl Unfinished {
    fn complete(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_complete {
            // What stays is removed by the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Receives the pieces after the head into a file at `path`, synced. Returns false when it came
/// too short.
pub async fn receive(
    mut pieces: Streaming<SnapshotPiece>,
    path: &Path,
    bytes: u64,
) -> Result<bool, tonic::Status> {
    let failed = |error: io::Error| {
        tonic::Status::resource_exhausted(format!("storing the snapshot file: {error}"))
    };
    let file = File::create(path).map_err(failed)?;
    let mut unfinished =
        Unfinished { file, path: path.to_owned(), received: 0, is_complete: false };
    while let Some(SnapshotPiece { piece }) = pieces.message().await? {
        let Some(Piece::Data(data)) = piece else {
            return Err(tonic::Status::invalid_argument("a second head"));
        };
        unfinished = tokio::task::spawn_blocking(move || {
            unfinished.received += data.len() as u64;
            unfinished.file.write_all(&data).map(|()| unfinished)
        })
        .await
        .map_err(|error| failed(io::Error::other(error)))?
        .map_err(failed)?;
    }
    if unfinished.received != bytes {
        return Ok(false);
    }
    let completed = tokio::task::spawn_blocking(move || unfinished.complete());
    completed.await.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?;
    Ok(true)
}
