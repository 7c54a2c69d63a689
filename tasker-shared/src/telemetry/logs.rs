//! Log lines by OTLP: a layer beneath the others of `logging`, which hands events to the export while that is
//! switched on. What the export itself causes is left out, or it would never come to rest.

use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::{LogRecord, Severity};
use opentelemetry_appender_tracing::layer::{OpenTelemetryTracingBridge, TracingSpanAttributes};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{
    LogBatch, LogExporter, LogProcessor, SdkLogRecord, SdkLoggerProvider,
};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::batch::Door;
use super::thread;

/// A log record on its way.
pub(super) type Entry = (SdkLogRecord, InstrumentationScope);

pub(super) static DOOR: Door<Entry> = Door::new();

/// The layer; it does nothing until logs are exported. Of the spans that an event is in, the fields named leave
/// with it.
pub(crate) fn layer<S>(fields: &[&'static str]) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let provider = SdkLoggerProvider::builder()
        .with_log_processor(Forward)
        .build();
    let fields = TracingSpanAttributes::allowlist(fields.iter().copied());
    let bridge = OpenTelemetryTracingBridge::builder(&provider)
        .with_tracing_span_attributes(fields)
        .build();
    WhileOpen(bridge)
}

/// Exports records; the loop around it sees to when.
pub(super) async fn export(
    exporter: &opentelemetry_otlp::LogExporter,
    batch: Vec<Entry>,
) -> OTelSdkResult {
    let records: Vec<_> = batch
        .iter()
        .map(|(record, scope)| (record, scope))
        .collect();
    exporter.export(LogBatch::new(&records)).await
}

/// A layer that sees nothing while no logs are exported.
struct WhileOpen<L>(L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for WhileOpen<L> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if DOOR.is_open() {
            self.0.on_new_span(attributes, id, context);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if DOOR.is_open() {
            self.0.on_record(id, values, context);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if DOOR.is_open() && !thread::is_exporting() {
            self.0.on_event(event, context);
        }
    }
}

/// Hands records over.
#[derive(Debug)]
struct Forward;

impl LogProcessor for Forward {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        // It would be the place in the source, which is no name of an event.
        record.set_event_name("");
        if let Some(now) = record.observed_timestamp() {
            record.set_timestamp(now);
        }
        DOOR.push(|| (record.clone(), scope.clone()));
    }

    fn event_enabled(&self, _: Severity, _: &str, _: Option<&str>) -> bool {
        DOOR.is_open()
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
