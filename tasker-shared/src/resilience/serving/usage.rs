//! What a connection is used for: whether a request runs on it, answer included, and since when none does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::Bounds;

/// Of one connection.
#[derive(Debug)]
pub(super) struct Usage {
    opened_at: Instant,
    running: AtomicUsize,
    has_served: AtomicBool,
    /// When the last request ended, in milliseconds from the opening.
    ended_after_ms: AtomicU64,
}

impl Default for Usage {
    fn default() -> Usage {
        Usage {
            opened_at: Instant::now(),
            running: AtomicUsize::new(0),
            has_served: AtomicBool::new(false),
            ended_after_ms: AtomicU64::new(0),
        }
    }
}

impl Usage {
    /// A request runs until what is returned is dropped.
    pub(super) fn begin(usage: &Arc<Usage>) -> Running {
        usage.running.fetch_add(1, Ordering::Relaxed);
        usage.has_served.store(true, Ordering::Relaxed);
        Running(Arc::clone(usage))
    }

    /// Returns when there has been no request for longer than `bounds` allow. Looks now and then, so that a request costs
    /// no timer.
    pub(super) async fn unused(&self, bounds: Bounds) {
        loop {
            let patience = match self.has_served.load(Ordering::Relaxed) {
                true => bounds.keep_alive,
                false => bounds.first_request,
            };
            let left = match self.running.load(Ordering::Relaxed) {
                0 => (self.unused_since() + patience).saturating_duration_since(Instant::now()),
                _ => patience,
            };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    fn unused_since(&self) -> Instant {
        self.opened_at + Duration::from_millis(self.ended_after_ms.load(Ordering::Relaxed))
    }
}

/// A request that runs.
#[derive(Debug)]
pub(super) struct Running(Arc<Usage>);

impl Drop for Running {
    fn drop(&mut self) {
        let after = self.0.opened_at.elapsed().as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.0.ended_after_ms.fetch_max(after, Ordering::Relaxed);
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, whose request runs as long as it is being sent.
#[derive(Debug)]
pub(super) struct Counted<B> {
    body: B,
    _running: Running,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, running: Running) -> Counted<B> {
        Counted {
            body,
            _running: running,
        }
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
