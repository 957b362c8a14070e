//! Answers on their way to clients that may not read them.
//!
//! The HTTP library takes a body frame by frame, as soon as a client makes room for a single byte, and
//! keeps what does not fit. So a large answer is given to it in pieces, and what is left of it stays
//! here, where it is counted ([`budget::ANSWERS`]). When somebody else needs the room, whoever has not
//! read for a while loses what is left: its call fails once it reads on.
//!
//! What the library has been given counts as well, until it was written ([`budget::SENDING`]). It takes
//! hundreds of kilobytes of each answer for a client with a large window, and nothing brings them back.
//! So, once it has much, it gets no more of an answer of which it has something.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use http::Response;
use hyper::body::Frame;
use proto::MethodKind;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::budget::{self, Claim, Exhausted};
use crate::limits;

/// What a service has claimed for its answer: an extension of the response.
#[derive(Clone)]
pub struct Claimed(Arc<Mutex<Option<Claim>>>);

impl Claimed {
    pub fn new(claim: Claim) -> Claimed {
        Claimed(Arc::new(Mutex::new(Some(claim))))
    }
}

/// Makes a claim larger, at the cost of those who do not read if it has to be.
pub fn grow(claim: &mut Claim, size: usize) -> Result<(), Exhausted> {
    match claim.resize(size) {
        Err(Exhausted) if forget_stalled(limits::UNREAD_TIMEOUT) > 0 => claim.resize(size),
        done => done,
    }
}

/// The response with its body handed on in pieces, and counted.
pub fn in_pieces(mut response: Response<Body>, kind: MethodKind) -> Response<Body> {
    let claim = claim_of(&mut response).unwrap_or_else(|| budget::ANSWERS.claim());
    response.map(|body| Body::new(Unsent::new(body, claim, kind)))
}

/// The same for a response whose service has claimed room, unless it is small.
pub fn in_pieces_if_claimed(mut response: Response<Body>) -> Response<Body> {
    match claim_of(&mut response) {
        None => response,
        Some(claim) => response.map(|body| Body::new(Unsent::new(body, claim, MethodKind::Unary))),
    }
}

fn claim_of(response: &mut Response<Body>) -> Option<Claim> {
    let claimed = response.extensions_mut().remove::<Claimed>()?;
    lock(&claimed.0).take()
}

/// A body, or what is left of it.
struct Unsent {
    kept: Arc<Kept>,
    /// How it ends when it is lost. With this code watchers begin again where they were.
    code: Code,
}

struct Kept {
    left: Mutex<Left>,
    /// When the client last made room, in milliseconds of [`CLOCK`].
    last_read: AtomicU64,
    given: Arc<Mutex<Given>>,
}

/// What the HTTP library has of a body.
#[derive(Default)]
struct Given {
    pieces: usize,
    /// Of the body, when it waits until there are none.
    waker: Option<Waker>,
}

/// One of these pieces. The library lets go of it while it holds its lock, so it must not keep the body
/// alive: that may have the library's end of the request, whose end takes the same lock.
struct Piece {
    data: Bytes,
    given: Arc<Mutex<Given>>,
    _claim: Claim,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let waker = {
            let mut given = lock(&self.given);
            given.pieces -= 1;
            if given.pieces == 0 { given.waker.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Kept {
    fn give(&self, data: Bytes) -> Frame<Bytes> {
        let mut claim = budget::SENDING.claim();
        claim.take(data.len());
        lock(&self.given).pieces += 1;
        let given = self.given.clone();
        Frame::data(Bytes::from_owner(Piece { data, given, _claim: claim }))
    }

    /// Ready when the HTTP library may have more.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !budget::SENDING.is_exceeded() {
            return Poll::Ready(());
        }
        let mut given = lock(&self.given);
        if given.pieces == 0 {
            return Poll::Ready(());
        }
        given.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

struct Left {
    /// None: it is lost.
    body: Option<Body>,
    /// Of the last frame.
    data: Bytes,
    claim: Claim,
}

static CLOCK: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now_ms() -> u64 {
    CLOCK.elapsed().as_millis() as u64
}

/// All that is kept, and some that is not any more.
static ALL: Mutex<Vec<Weak<Kept>>> = Mutex::new(Vec::new());
/// As many are looked through before one is added to find those that are gone.
const SWEPT_MIN: usize = 64;

/// Takes from clients that have not read for so long what is kept for them. The bytes.
fn forget_stalled(timeout: Duration) -> usize {
    let now = now_ms();
    let all: Vec<Arc<Kept>> = lock(&ALL).iter().filter_map(Weak::upgrade).collect();
    let stalled = |kept: &Arc<Kept>| {
        now.saturating_sub(kept.last_read.load(Relaxed)) >= timeout.as_millis() as u64
    };
    let forget = |kept: Arc<Kept>| {
        // Whoever is at it reads it after all.
        let Ok(mut left) = kept.left.try_lock() else { return 0 };
        let bytes = left.claim.size();
        if bytes == 0 {
            return 0;
        }
        let lost = (left.body.take(), std::mem::take(&mut left.data));
        // A smaller claim always has room.
        let _ = left.claim.resize(0);
        drop(left);
        drop(lost);
        bytes
    };
    all.into_iter().filter(stalled).map(forget).sum()
}

impl Unsent {
    fn new(body: Body, claim: Claim, kind: MethodKind) -> Unsent {
        let left = Mutex::new(Left { body: Some(body), data: Bytes::new(), claim });
        let given = Arc::default();
        let kept = Arc::new(Kept { left, last_read: AtomicU64::new(now_ms()), given });
        let mut all = lock(&ALL);
        if all.len() == all.capacity() && all.len() >= SWEPT_MIN {
            all.retain(|kept| kept.strong_count() > 0);
            let count = all.len();
            all.reserve(count);
        }
        all.push(Arc::downgrade(&kept));
        let code = match kind {
            MethodKind::BidiStream => Code::Unavailable,
            MethodKind::Unary | MethodKind::ServerStream => Code::ResourceExhausted,
        };
        Unsent { kept, code }
    }
}

impl hyper::body::Body for Unsent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Unsent { kept, code } = &*self;
        ready!(kept.poll_room(cx));
        kept.last_read.store(now_ms(), Relaxed);
        let left = &mut *lock(&kept.left);
        if left.data.is_empty() {
            let Some(body) = &mut left.body else {
                let slow = Status::new(*code, "etcdserver: the response was not read");
                return Poll::Ready(Some(Err(slow)));
            };
            let frame = match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            left.data = match frame.into_data() {
                Ok(data) if data.len() <= limits::ANSWER_PIECE_BYTES => {
                    // All that an answer was claimed for is in its only frame.
                    let _ = left.claim.resize(0);
                    return Poll::Ready(Some(Ok(kept.give(data))));
                }
                Ok(data) => data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            };
            let size = left.data.len().max(left.claim.size());
            if let Err(exhausted) = grow(&mut left.claim, size) {
                left.data = Bytes::new();
                left.body = None;
                let why = Status::from(exhausted);
                return Poll::Ready(Some(Err(Status::new(*code, why.message()))));
            }
        }
        let count = left.data.len().min(limits::ANSWER_PIECE_BYTES);
        // Shared, the smallest piece that waits for a client would keep all of the answer.
        let piece = Bytes::copy_from_slice(&left.data[..count]);
        left.data.advance(count);
        if left.data.is_empty() {
            left.data = Bytes::new();
            let _ = left.claim.resize(0);
        }
        Poll::Ready(Some(Ok(kept.give(piece))))
    }

    /// A call that failed at once has no more than headers, and clients want to know it from them.
    fn is_end_stream(&self) -> bool {
        let left = lock(&self.kept.left);
        left.data.is_empty() && left.body.as_ref().is_some_and(hyper::body::Body::is_end_stream)
    }
}

/// A poisoned lock means a panic, and a panic aborts the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use hyper::body::Body as _;

    use super::*;
    use crate::body::RequestBody;

    fn poll(unsent: &mut Unsent) -> Option<Result<Bytes, Status>> {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(unsent).poll_frame(&mut cx) {
            Poll::Ready(frame) => frame.map(|frame| frame.map(|f| f.into_data().unwrap())),
            Poll::Pending => panic!("all of it is there"),
        }
    }

    fn unsent(bytes: usize) -> Unsent {
        let body = Body::new(RequestBody::Whole(Some(vec![7; bytes].into())));
        Unsent::new(body, budget::ANSWERS.claim(), MethodKind::Unary)
    }

    #[test]
    fn a_large_answer_goes_in_pieces_and_is_lost_to_whoever_does_not_read() {
        let size = 2 * limits::ANSWER_PIECE_BYTES + 5;
        let mut read = unsent(size);
        let mut got = 0;
        while let Some(piece) = poll(&mut read) {
            got += piece.unwrap().len();
        }
        assert_eq!((got, lock(&read.kept.left).claim.size()), (size, 0));

        let mut stalled = unsent(size);
        assert!(poll(&mut stalled).is_some_and(|piece| piece.is_ok()));
        assert_eq!(lock(&stalled.kept.left).claim.size(), size);
        assert_eq!(forget_stalled(Duration::from_secs(3600)), 0);
        assert_eq!(forget_stalled(Duration::ZERO), size);
        assert!(poll(&mut stalled).is_some_and(|piece| piece.is_err()));
        drop(read);
    }

    #[test]
    fn pieces_do_not_keep_a_body() {
        let mut answer = unsent(2 * limits::ANSWER_PIECE_BYTES);
        let kept = Arc::downgrade(&answer.kept);
        let piece = poll(&mut answer);
        drop(answer);
        assert_eq!(kept.strong_count(), 0);
        drop(piece);
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.store(true, Relaxed);
        }
    }

    #[test]
    fn when_much_is_being_sent_each_answer_has_one_piece_on_its_way() {
        let mut crowd = budget::SENDING.claim();
        crowd.take(limits::SENDING_BYTES_MAX + 1);
        let mut answer = unsent(2 * limits::ANSWER_PIECE_BYTES);
        let first = poll(&mut answer);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut answer).poll_frame(&mut cx).is_pending());
        assert!(!woken.0.load(Relaxed));
        drop(first);
        assert!(woken.0.load(Relaxed));
        let second = poll(&mut answer);
        drop(crowd);
        assert!(poll(&mut answer).is_none(), "there is room for its end");
        drop(second);
    }
}
