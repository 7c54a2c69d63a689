//! The contract: every metric with its names, type, unit and labels, as `tests/contract/metrics.toml` has it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

const TEXT: &str = include_str!("../contract/metrics.toml");

/// A metric as the contract wants it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// The instrument's name, which is its name over OTLP.
    pub otel: String,
    /// Its name in Prometheus.
    pub prom: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Empty where it has none.
    pub unit: String,
    /// Every label of its series.
    pub labels: BTreeSet<String>,
    /// The values of labels that have a closed set of them.
    #[serde(default)]
    pub values: BTreeMap<String, BTreeSet<String>>,
    /// `server`, `worker` or `both`.
    #[serde(rename = "in")]
    pub recorded_in: String,
    /// The moment it is recorded.
    pub when: String,
}

#[derive(Deserialize)]
struct Contract {
    metric: Vec<Metric>,
}

/// Every metric of the contract.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn metrics() -> Vec<Metric> {
    let contract: Contract = toml::from_str(TEXT).unwrap();
    contract.metric
}

impl Metric {
    /// Whether a `server` or a `worker` records it.
    #[must_use]
    pub fn is_of(&self, process: &str) -> bool {
        self.recorded_in == "both" || self.recorded_in == process
    }

    /// The name of the lines that count: a histogram's `_count`, otherwise its own.
    #[must_use]
    pub fn counted(&self) -> String {
        match self.kind.as_str() {
            "histogram" => format!("{}_count", self.prom),
            _ => self.prom.clone(),
        }
    }
}
