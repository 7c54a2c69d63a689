//! What a receiver was sent, and questions about it.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;

/// Clones receive the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Received {
    pub(super) metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    pub(super) traces: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    pub(super) logs: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
}

impl Received {
    /// The values of a counter's series with that label, one after the other.
    pub(super) fn counts(&self, name: &str, label: &str, value: &str) -> Vec<i64> {
        let requests = self.metrics.lock().unwrap();
        let metrics = requests
            .iter()
            .flat_map(|request| &request.resource_metrics)
            .flat_map(|resource| &resource.scope_metrics)
            .flat_map(|scope| &scope.metrics)
            .filter(|metric| metric.name == name);
        let points = metrics.flat_map(|metric| match &metric.data {
            Some(metric::Data::Sum(sum)) => sum.data_points.as_slice(),
            _ => &[],
        });
        points
            .filter(|point| text(&point.attributes, label).as_deref() == Some(value))
            .filter_map(|point| match point.value {
                Some(number_data_point::Value::AsInt(value)) => Some(value),
                _ => None,
            })
            .collect()
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        let requests = self.traces.lock().unwrap();
        let spans = requests
            .iter()
            .flat_map(|request| &request.resource_spans)
            .flat_map(|resource| &resource.scope_spans)
            .flat_map(|scope| scope.spans.clone());
        spans.collect()
    }

    /// With the target each.
    pub(super) fn records(&self) -> Vec<(String, LogRecord)> {
        let requests = self.logs.lock().unwrap();
        let scopes = requests
            .iter()
            .flat_map(|request| &request.resource_logs)
            .flat_map(|resource| &resource.scope_logs);
        scopes
            .flat_map(|scope| {
                let target = scope.scope.clone().unwrap_or_default().name;
                let records = scope.log_records.iter().cloned();
                records.map(move |record| (target.clone(), record))
            })
            .collect()
    }

    /// The attributes of every resource, as texts.
    pub(super) fn resources(&self) -> Vec<Vec<(String, String)>> {
        let (metrics, traces, logs) = (
            self.metrics.lock().unwrap(),
            self.traces.lock().unwrap(),
            self.logs.lock().unwrap(),
        );
        let metrics = metrics.iter().flat_map(|r| &r.resource_metrics);
        let traces = traces.iter().flat_map(|r| &r.resource_spans);
        let logs = logs.iter().flat_map(|r| &r.resource_logs);
        let resources = metrics
            .map(|r| r.resource.clone())
            .chain(traces.map(|r| r.resource.clone()))
            .chain(logs.map(|r| r.resource.clone()));
        let attributes = resources.map(|resource| {
            let attributes = resource.unwrap_or_default().attributes;
            let mut texts: Vec<(String, String)> = attributes
                .iter()
                .map(|a| (a.key.clone(), text(&attributes, &a.key).unwrap_or_default()))
                .collect();
            texts.sort();
            texts
        });
        attributes.collect()
    }
}

pub(super) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|a| a.key == key)?;
    match attribute.value.clone()?.value? {
        any_value::Value::StringValue(text) => Some(text),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}
