//! What the export of telemetry says of itself.

use super::definition::{Definition, Kind, Recorded};
use super::instrument::{Counter, Gauge, instruments};
use crate::name::Name;

instruments! {
    EXPORTED: Counter = Definition {
        otel: "telemetry.exported.total",
        prom: "telemetry_exported_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["signal"],
        values: &[("signal", &["metrics", "traces", "logs"])],
        recorded: Recorded::Both,
        when: "metric points, spans or log records were taken by the OTLP endpoint",
        example: "sum by (signal) (rate(telemetry_exported_total[5m]))",
    };
    FAILED: Counter = Definition {
        otel: "telemetry.export.failures.total",
        prom: "telemetry_export_failures_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["signal"],
        values: &[("signal", &["metrics", "traces", "logs"])],
        recorded: Recorded::Both,
        when: "an export to the OTLP endpoint failed",
        example: "sum by (signal) (increase(telemetry_export_failures_total[10m])) > 0",
    };
    DROPPED: Counter = Definition {
        otel: "telemetry.dropped.total",
        prom: "telemetry_dropped_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["signal"],
        values: &[("signal", &["metrics", "traces", "logs"])],
        recorded: Recorded::Both,
        when: "spans or log records were given up because too many waited, or metric points because the endpoint refused them",
        example: "sum by (signal) (rate(telemetry_dropped_total[5m]))",
    };
    SERIES: Gauge = Definition {
        otel: "telemetry.series",
        prom: "telemetry_series",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        values: &[],
        recorded: Recorded::Both,
        when: "series held in memory",
        example: "telemetry_series",
    };
    EVICTED: Counter = Definition {
        otel: "telemetry.series.evicted.total",
        prom: "telemetry_series_evicted_total",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        values: &[],
        recorded: Recorded::Both,
        when: "series were forgotten, because their correlation id had been quiet for the window",
        example: "rate(telemetry_series_evicted_total[5m])",
    };
}

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Metrics,
    Traces,
    Logs,
}

impl Signal {
    /// As the label says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Metrics => "metrics",
            Signal::Traces => "traces",
            Signal::Logs => "logs",
        }
    }

    fn name(self) -> Name {
        Name::fixed(self.as_str())
    }
}

/// The endpoint took so many points, spans or records.
pub fn exported(signal: Signal, n: u64) {
    EXPORTED.add(n, None, &[signal.name()]);
}

/// An export failed.
pub fn failed(signal: Signal) {
    FAILED.add(1, None, &[signal.name()]);
}

/// So many points, spans or records were given up.
pub fn dropped(signal: Signal, n: u64) {
    DROPPED.add(n, None, &[signal.name()]);
}

/// So many series were forgotten.
pub(super) fn evicted(n: u64) {
    EVICTED.add(n, None, &[]);
}

/// Shows how many series are held.
pub(super) fn watch_series() {
    SERIES.watch(|| vec![(Vec::new(), super::catalog::held() as f64)]);
}
