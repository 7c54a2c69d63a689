//! What a metric is called, what it means and which labels it may carry: the reference and the exports are made
//! from this.

/// A process that records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    Server,
    Worker,
}

/// Which processes record a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    Server,
    Worker,
    Both,
}

impl Recorded {
    /// Whether `process` is among them.
    pub fn by(self, process: Process) -> bool {
        match self {
            Recorded::Both => true,
            Recorded::Server => process == Process::Server,
            Recorded::Worker => process == Process::Worker,
        }
    }

    /// As the contract says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Recorded::Server => "server",
            Recorded::Worker => "worker",
            Recorded::Both => "both",
        }
    }
}

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Goes up only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution; the upper bounds of its buckets, the last one apart, which has none.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As the contract and Prometheus say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// From a tenth of a millisecond to five minutes: dense where a step's own hops lie, sparse where only handlers
/// that wait for others do. Every bound costs a line in each series of each scrape.
pub const MILLISECONDS: &[f64] = &[
    0.1, 1.0, 2.5, 5.0, 10.0, 25.0, 100.0, 500.0, 2_500.0, 30_000.0, 300_000.0,
];

/// Numbers of things taken together.
pub const SIZES: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0,
];

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// The instrument's name, under which it leaves over OTLP.
    pub otel: &'static str,
    /// The name in Prometheus; a histogram's series add `_bucket`, `_sum` and `_count` to it.
    pub prom: &'static str,
    pub kind: Kind,
    /// As given to the instrument; empty where it has none.
    pub unit: &'static str,
    /// Every label that its series carry, in their order.
    pub labels: &'static [&'static str],
    /// The values of labels that have a closed set of them.
    pub values: &'static [(&'static str, &'static [&'static str])],
    pub recorded: Recorded,
    /// The moment at which it is recorded.
    pub when: &'static str,
    /// A query that answers something with it.
    pub example: &'static str,
}

/// The label that follows `telemetry.metrics.correlation`.
pub const CORRELATION_ID: &str = "correlation_id";

impl Definition {
    /// Whether its series carry a correlation id; it is the first label then.
    pub fn is_correlated(&self) -> bool {
        self.labels.first() == Some(&CORRELATION_ID)
    }
}
