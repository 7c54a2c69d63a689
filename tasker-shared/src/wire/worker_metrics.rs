//! A worker's metrics as JSON, for programs that read no Prometheus text.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;

/// What a worker has recorded.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerMetrics {
    /// By name, with the labels in braces where it has any. Series that differ in their correlation id alone are one
    /// entry; a histogram is two, its `_sum` and its `_count`.
    pub metrics: BTreeMap<String, WorkerMetric>,
    #[serde(with = "time::ts")]
    pub timestamp: DateTime<Utc>,
    pub worker_id: String,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerMetric {
    pub value: f64,
    /// `counter`, `gauge` or `histogram`.
    pub metric_type: String,
    pub labels: BTreeMap<String, String>,
    pub help: String,
}
