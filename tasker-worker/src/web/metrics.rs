//! What this worker has recorded: for Prometheus, and as JSON for programs that read no Prometheus text.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use tasker_shared::metrics::collect::{self, Family, Series, Value};
use tasker_shared::metrics::page;
use tasker_shared::resilience::serving::Peer;
use tasker_shared::wire::{WorkerMetric, WorkerMetrics};

/// `GET /metrics`.
pub(super) async fn get(request: Parts) -> Response {
    let peer = request.extensions.get::<Peer>();
    let peer = peer.map(|Peer(address)| address.ip());
    let page = page::answer(&request.headers, request.uri.query(), peer).await;
    page.map(Body::from)
}

/// `GET /metrics/worker`.
pub(super) async fn get_json(State(state): State<Arc<super::State>>) -> Json<WorkerMetrics> {
    Json(WorkerMetrics {
        metrics: told(&collect::snapshot()),
        timestamp: state.clock.now(),
        worker_id: state.progress.worker_id().to_string(),
    })
}

/// One entry for all series that differ in their correlation id alone.
fn told(families: &[Family]) -> BTreeMap<String, WorkerMetric> {
    let mut told = BTreeMap::new();
    for family in families {
        for series in &family.series {
            for (suffix, value) in numbers(&series.value) {
                let name = format!("{}{suffix}", family.definition.prom);
                let entry = told
                    .entry(format!("{name}{}", braces(series)))
                    .or_insert_with(|| WorkerMetric {
                        value: 0.0,
                        metric_type: family.definition.kind.as_str().to_owned(),
                        labels: labels(series),
                        help: family.definition.when.to_owned(),
                    });
                entry.value += value;
            }
        }
    }
    told
}

/// The numbers of a value, each with what it adds to the name. JSON has neither infinity nor NaN; they read as zero.
#[allow(clippy::cast_precision_loss)] // Counts beyond what an f64 holds exactly are rounded, as Prometheus does.
fn numbers(value: &Value) -> Vec<(&'static str, f64)> {
    match value {
        Value::Count(count) => vec![("", *count as f64)],
        Value::Gauge(value) => vec![("", if value.is_finite() { *value } else { 0.0 })],
        Value::Distribution { sum, count, .. } => {
            vec![("_sum", *sum), ("_count", *count as f64)]
        }
    }
}

fn labels(series: &Series) -> BTreeMap<String, String> {
    let names = series.names.iter();
    names
        .map(|(label, name)| ((*label).to_owned(), name.as_str().to_owned()))
        .collect()
}

fn braces(series: &Series) -> String {
    if series.names.is_empty() {
        return String::new();
    }
    let names = series.names.iter();
    let pairs: Vec<String> = names
        .map(|(label, name)| format!("{label}={:?}", name.as_str()))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::SystemTime;

    use tasker_shared::metrics::{Definition, catalog};
    use tasker_shared::name::Name;
    use uuid::Uuid;

    use super::*;

    fn definition(prom: &str) -> &'static Definition {
        let mut all = catalog::rooms().into_iter().flat_map(|(_, room)| room);
        all.find(|definition| definition.prom == prom).unwrap()
    }

    fn series(id: Option<u128>, namespace: &'static str, value: Value) -> Series {
        Series {
            correlation_id: Some(id.map(Uuid::from_u128)),
            names: vec![("namespace", Name::fixed(namespace))],
            born: 1,
            started_at: SystemTime::UNIX_EPOCH,
            value,
            exemplar: None,
        }
    }

    #[test]
    fn series_of_different_tasks_are_one_entry() {
        let waits = |sum, count| Value::Distribution {
            buckets: Vec::new(),
            sum,
            count,
        };
        let told = told(&[
            Family {
                definition: definition("tasker_steps_successes_total"),
                series: vec![
                    series(None, "shop", Value::Count(5)),
                    series(Some(7), "shop", Value::Count(2)),
                    series(Some(7), "a\"b", Value::Count(1)),
                ],
            },
            Family {
                definition: definition("tasker_step_execution_duration_milliseconds"),
                series: vec![
                    series(None, "shop", waits(1.5, 2)),
                    series(Some(7), "shop", waits(0.5, 1)),
                ],
            },
        ]);
        let values: Vec<(&str, f64)> = told.iter().map(|(k, m)| (k.as_str(), m.value)).collect();
        assert_eq!(
            values,
            [
                (
                    "tasker_step_execution_duration_milliseconds_count{namespace=\"shop\"}",
                    3.0
                ),
                (
                    "tasker_step_execution_duration_milliseconds_sum{namespace=\"shop\"}",
                    2.0
                ),
                ("tasker_steps_successes_total{namespace=\"a\\\"b\"}", 1.0),
                ("tasker_steps_successes_total{namespace=\"shop\"}", 7.0),
            ]
        );
        let one = &told["tasker_steps_successes_total{namespace=\"shop\"}"];
        assert_eq!(one.metric_type, "counter");
        assert_eq!(one.labels["namespace"], "shop");
        assert_eq!(one.help, "a handler returned success");
    }

    #[test]
    fn no_number_is_one_that_json_lacks() {
        for value in [f64::NAN, f64::INFINITY] {
            assert_eq!(numbers(&Value::Gauge(value)), [("", 0.0)]);
        }
    }
}
