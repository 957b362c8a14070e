//! A stream as the service holds it: requests go in, responses are polled out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::etcdserverpb::WatchRequest;
use proto::etcdserverpb::watch_request::RequestUnion;
use tokio::time::{Instant, Sleep, sleep};

use super::catch_up::Step;
use super::lane::Lane;
use super::stream::Outgoing;

/// Steps of catching up in a row before other tasks of the runtime get their turn.
const STEPS_MAX: usize = 3;

pub struct Subscription {
    lane: Arc<Lane>,
    stream: usize,
    /// The clock of progress notifications, once a watcher asked for them.
    ticks: Option<Ticks>,
}

struct Ticks {
    period: Duration,
    next: Pin<Box<Sleep>>,
}

impl Subscription {
    pub(super) fn new(lane: Arc<Lane>, stream: usize) -> Self {
        Self { lane, stream, ticks: None }
    }

    /// Whether requests should be taken from the client: not while it leaves answers unread.
    pub fn has_room(&self) -> bool {
        let state = self.lane.state();
        !state.streams[self.stream].is_full(&self.lane.hub.limits, state.held)
    }

    pub fn handle(&mut self, request: WatchRequest) {
        if let Some(RequestUnion::CreateRequest(create)) = &request.request_union
            && create.progress_notify
            && self.ticks.is_none()
        {
            // Spread, so that watchers created together are not told together.
            let interval = self.lane.hub.limits.progress_interval;
            let period = interval + interval.mul_f64(0.1 * rand::random::<f64>());
            self.ticks = Some(Ticks { period, next: Box::pin(sleep(period)) });
        }
        self.lane.state().handle(self.stream, request);
    }

    /// Answers a request for a watcher that there shall not be.
    pub fn refuse(&mut self, reason: &str) {
        self.lane.state().refuse(self.stream, reason);
    }

    /// The next response; `None` when the hub has closed.
    pub fn poll_response(&mut self, context: &mut Context<'_>) -> Poll<Option<Outgoing>> {
        self.lane.state().sent(self.stream);
        self.poll_ticks(context);
        for _ in 0..STEPS_MAX {
            {
                let mut state = self.lane.state();
                if state.closed {
                    return Poll::Ready(None);
                }
                let stream = &mut state.streams[self.stream];
                if let Some(outgoing) = stream.take() {
                    return Poll::Ready(Some(outgoing));
                }
            }
            match self.lane.catch_up(self.stream) {
                Step::Response(outgoing) => return Poll::Ready(Some(outgoing)),
                Step::Advanced => {}
                Step::Idle => {
                    let stream = &mut self.lane.state().streams[self.stream];
                    if stream.is_empty() {
                        stream.wait(context.waker());
                        return Poll::Pending;
                    }
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    #[cfg(test)]
    pub(super) fn stream(&self) -> usize {
        self.stream
    }

    fn poll_ticks(&mut self, context: &mut Context<'_>) {
        let Some(ticks) = &mut self.ticks else { return };
        while ticks.next.as_mut().poll(context).is_ready() {
            ticks.next.as_mut().reset(Instant::now() + ticks.period);
            self.lane.state().tick(self.stream);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.lane.state().remove_stream(self.stream);
    }
}
