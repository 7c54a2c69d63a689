//! What OTLP brings, without its nesting: each point, span and log record with the resource that it is of.

mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::exposition::Labels;
use read::text_of;

/// What a process says about itself.
pub type Resource = Arc<Labels>;

/// What a metric is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A cumulative monotonic sum.
    Counter,
    /// A gauge.
    Gauge,
    /// A cumulative histogram with bounds.
    Histogram,
    /// Anything else, which no metric of ours should be.
    Other(String),
}

/// A point of a metric's series.
#[derive(Debug, Clone)]
pub struct Point {
    /// Of which process it is.
    pub resource: Resource,
    /// The name of the instrument.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// Its description.
    pub description: String,
    /// What it is.
    pub kind: Kind,
    /// What distinguishes its series.
    pub labels: Labels,
    /// Since when it counts, in nanoseconds since 1970.
    pub since: u64,
    /// When it was read.
    pub at: u64,
    /// What it reads.
    pub reading: Reading,
    /// The trace ids of its exemplars, in hexadecimal digits.
    pub exemplars: Vec<String>,
}

/// What a point reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A number.
    Number(f64),
    /// A distribution: a count for each bound and one above them.
    Distribution {
        /// All of them.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Each bucket by itself.
        buckets: Vec<u64>,
        /// Their upper bounds.
        bounds: Vec<f64>,
    },
}

impl Reading {
    /// The number, or how many there were.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "tests count less than that")]
    pub fn count(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Distribution { count, .. } => *count as f64,
        }
    }
}

impl Point {
    /// Whether it is of a `server` or a `worker`.
    #[must_use]
    pub fn is_of(&self, process: &str) -> bool {
        self.resource
            .get("tasker.process")
            .is_some_and(|p| p == process)
    }

    /// Whether it has all these labels.
    #[must_use]
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|&(name, value)| self.labels.get(name).map_or("", String::as_str) == value)
    }
}

/// A span.
#[derive(Debug, Clone)]
pub struct Span {
    /// Of which process it is.
    pub resource: Resource,
    /// In hexadecimal digits.
    pub trace_id: String,
    /// In hexadecimal digits.
    pub span_id: String,
    /// In hexadecimal digits; empty where there is none.
    pub parent: String,
    /// What it is called.
    pub name: String,
    /// `INTERNAL`, `PRODUCER` and so on.
    pub kind: String,
    /// What the caller's vendor wants passed on.
    pub trace_state: String,
    /// What is known of it.
    pub attributes: BTreeMap<String, Value>,
    /// Other spans that it has to do with.
    pub links: Vec<Link>,
    /// Names of what happened in it, with what is known of that.
    pub events: Vec<(String, BTreeMap<String, Value>)>,
    /// Whether it went wrong.
    pub failed: bool,
    /// In nanoseconds since 1970.
    pub began: u64,
    /// In nanoseconds since 1970.
    pub ended: u64,
}

/// A link to another span.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// In hexadecimal digits.
    pub trace_id: String,
    /// In hexadecimal digits.
    pub span_id: String,
}

impl Span {
    /// An attribute as text; empty where it is missing.
    #[must_use]
    pub fn text(&self, attribute: &str) -> String {
        self.attributes
            .get(attribute)
            .map(text_of)
            .unwrap_or_default()
    }
}

/// A log record.
#[derive(Debug, Clone)]
pub struct Log {
    /// Of which process it is.
    pub resource: Resource,
    /// Its severity by number; 9 is info, 13 a warning, 17 an error.
    pub severity: i32,
    /// What it says.
    pub body: String,
    /// In hexadecimal digits; empty where there is none.
    pub trace_id: String,
    /// In hexadecimal digits; empty where there is none.
    pub span_id: String,
    /// What is known besides.
    pub attributes: BTreeMap<String, Value>,
}
