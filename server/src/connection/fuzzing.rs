//! For fuzzing: a connection's bytes on their way through what looks at them.

use std::io::Cursor;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::authority::PlainAuthority;
use super::pings::PoliteClient;

/// What the HTTP library is given of what a client sent. Reads are of this size. A client whose pings
/// count may be sent away before the end.
pub fn read(sent: &[u8], piece: usize, pings_count: bool) -> Vec<u8> {
    let interval_min = pings_count.then_some(Duration::from_secs(5));
    let stream = PoliteClient::new(Cursor::new(sent.to_vec()), interval_min);
    let mut stream = PlainAuthority::new(stream);
    let mut given = Vec::new();
    let mut buffer = vec![0; piece.max(1)];
    let all = async {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            given.extend_from_slice(&buffer[..count]);
        }
    };
    // What is in memory is always ready, and so is whoever is sent away.
    let mut all = std::pin::pin!(all);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = all.as_mut().poll(&mut context);
    given
}
