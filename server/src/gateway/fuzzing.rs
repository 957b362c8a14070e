//! For fuzzing: what the gateway makes of bodies.

use bytes::{Bytes, BytesMut};
use prost_reflect::MessageDescriptor;

use super::boundary::Boundary;
use super::messages::{first, framed, take_frame, to_json};
use super::routes;

/// All paths.
pub fn paths() -> impl Iterator<Item = String> {
    routes::paths()
}

/// Reads the messages of a body that comes in pieces of this size, and writes what was understood
/// as JSON again; that must be understood in the same way.
pub fn request(path: &str, body: &[u8], piece: usize) {
    let Some((_, call)) = routes::find(path) else { return };
    let mut boundary = Boundary::default();
    let mut bytes = Vec::new();
    for piece in body.chunks(piece.max(1)) {
        bytes.extend_from_slice(piece);
        while boundary.is_whole(&bytes) {
            let Ok(Some(length)) = message(&bytes, &call.request) else { return };
            bytes.drain(..length);
        }
    }
    let _ = message(&bytes, &call.request);
}

fn message(bytes: &[u8], kind: &MessageDescriptor) -> Result<Option<usize>, tonic::Status> {
    let Some((message, length)) = first(bytes, kind)? else { return Ok(None) };
    let mut frames = BytesMut::from(&framed(&message)[..]);
    assert_eq!(take_frame(&mut frames), Some(message.clone()), "a frame holds its message");
    let json = to_json(kind, message.clone())?;
    let (again, whole) = first(&json, kind)?.unwrap_or_default();
    assert_eq!((again, whole), (message, json.len()), "what was written is read");
    Ok(Some(length))
}

/// Writes the messages of a response, which hold what other clients have put, as JSON.
pub fn response(path: &str, message: &[u8]) {
    if let Some((_, call)) = routes::find(path) {
        let _ = to_json(&call.response, Bytes::copy_from_slice(message));
    }
}
