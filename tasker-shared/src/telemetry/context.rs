//! The trace context inside a handler: whatever it does with OpenTelemetry of its own becomes a child of its
//! step's `step.execute`, and log lines bear its ids.

use std::str::FromStr;

use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
use opentelemetry::{Context, SpanId, TraceId};

pub use opentelemetry::context::{FutureExt, WithContext};

use super::trace::TraceContext;

/// Runs `work` at that place of a trace.
pub fn within<F: Future>(place: &TraceContext, work: F) -> WithContext<F> {
    let context = Context::new().with_remote_span_context(place.to_span_context());
    work.with_context(context)
}

impl TraceContext {
    /// The same as OpenTelemetry knows it.
    #[must_use]
    pub fn to_span_context(&self) -> SpanContext {
        let flags = if self.sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::NOT_SAMPLED
        };
        let state = self
            .tracestate()
            .and_then(|text| TraceState::from_str(text).ok());
        SpanContext::new(
            TraceId::from_bytes(self.trace_id.into_bytes()),
            SpanId::from_bytes(self.span_id.to_bytes()),
            flags,
            true,
            state.unwrap_or_default(),
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_finds_the_place_it_runs_at_however_often_it_waits() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let place = TraceContext::parse(text, Some("a=1,b=2")).unwrap();
        let found = within(&place, async {
            tokio::task::yield_now().await;
            Context::map_current(|context| context.span().span_context().clone())
        })
        .await;
        assert_eq!(found, place.to_span_context());
        assert_eq!(found.trace_state().header(), "a=1,b=2");
        assert!(found.is_remote() && found.is_sampled());
        assert!(!Context::map_current(TraceContextExt::has_active_span));
    }
}
