//! From protobuf messages to records.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, HistogramDataPoint, NumberDataPoint, ResourceMetrics,
    exemplar, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, span, status::StatusCode};
use serde_json::{Value, json};

use super::{Kind, Link, Log, Point, Reading, Resource, Span};
use crate::exposition::Labels;
use crate::otlp::{Brought, Message};

impl Message for ExportMetricsServiceRequest {
    fn records(&self) -> usize {
        let scopes = self
            .resource_metrics
            .iter()
            .flat_map(|of| &of.scope_metrics);
        let points = |metric: &metric::Data| match metric {
            metric::Data::Gauge(gauge) => gauge.data_points.len(),
            metric::Data::Sum(sum) => sum.data_points.len(),
            metric::Data::Histogram(histogram) => histogram.data_points.len(),
            metric::Data::ExponentialHistogram(_) | metric::Data::Summary(_) => 0,
        };
        let metrics = scopes.flat_map(|scope| &scope.metrics);
        metrics
            .filter_map(|metric| metric.data.as_ref())
            .map(points)
            .sum()
    }

    fn read(self) -> Brought {
        Brought::Points(points(self.resource_metrics))
    }
}

impl Message for ExportTraceServiceRequest {
    fn records(&self) -> usize {
        let scopes = self.resource_spans.iter().flat_map(|of| &of.scope_spans);
        scopes.map(|scope| scope.spans.len()).sum()
    }

    fn read(self) -> Brought {
        Brought::Spans(spans(self.resource_spans))
    }
}

impl Message for ExportLogsServiceRequest {
    fn records(&self) -> usize {
        let scopes = self.resource_logs.iter().flat_map(|of| &of.scope_logs);
        scopes.map(|scope| scope.log_records.len()).sum()
    }

    fn read(self) -> Brought {
        Brought::Logs(logs(self.resource_logs))
    }
}

fn points(all: Vec<ResourceMetrics>) -> Vec<Point> {
    let mut points = Vec::new();
    for of_resource in all {
        let resource = read_resource(of_resource.resource);
        let scopes = of_resource.scope_metrics.into_iter();
        for metric in scopes.flat_map(|scope| scope.metrics) {
            let (kind, readings) = match metric.data {
                Some(metric::Data::Gauge(gauge)) => (Kind::Gauge, numbers(gauge.data_points)),
                Some(metric::Data::Sum(sum))
                    if sum.is_monotonic && is_cumulative(sum.aggregation_temporality) =>
                {
                    (Kind::Counter, numbers(sum.data_points))
                }
                Some(metric::Data::Histogram(histogram))
                    if is_cumulative(histogram.aggregation_temporality) =>
                {
                    (Kind::Histogram, distributions(histogram.data_points))
                }
                other => (Kind::Other(format!("{other:?}")), Vec::new()),
            };
            points.extend(readings.into_iter().map(|read| Point {
                resource: Arc::clone(&resource),
                metric: metric.name.clone(),
                unit: metric.unit.clone(),
                description: metric.description.clone(),
                kind: kind.clone(),
                labels: read.labels,
                since: read.since,
                at: read.at,
                reading: read.reading,
                exemplars: read.exemplars,
            }));
        }
    }
    points
}

fn is_cumulative(temporality: i32) -> bool {
    temporality == AggregationTemporality::Cumulative as i32
}

struct Read {
    labels: Labels,
    since: u64,
    at: u64,
    reading: Reading,
    exemplars: Vec<String>,
}

#[allow(clippy::cast_precision_loss, reason = "tests count less than that")]
fn numbers(points: Vec<NumberDataPoint>) -> Vec<Read> {
    let read = |point: NumberDataPoint| Read {
        labels: labels(point.attributes),
        since: point.start_time_unix_nano,
        at: point.time_unix_nano,
        reading: Reading::Number(match point.value {
            Some(number_data_point::Value::AsDouble(value)) => value,
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            None => f64::NAN,
        }),
        exemplars: exemplars(point.exemplars),
    };
    points.into_iter().map(read).collect()
}

fn distributions(points: Vec<HistogramDataPoint>) -> Vec<Read> {
    let read = |point: HistogramDataPoint| Read {
        labels: labels(point.attributes),
        since: point.start_time_unix_nano,
        at: point.time_unix_nano,
        reading: Reading::Distribution {
            count: point.count,
            sum: point.sum.unwrap_or(f64::NAN),
            buckets: point.bucket_counts,
            bounds: point.explicit_bounds,
        },
        exemplars: exemplars(point.exemplars),
    };
    points.into_iter().map(read).collect()
}

fn exemplars(exemplars: Vec<Exemplar>) -> Vec<String> {
    let has_value = |exemplar: &Exemplar| {
        matches!(
            exemplar.value,
            Some(exemplar::Value::AsDouble(_) | exemplar::Value::AsInt(_))
        )
    };
    exemplars
        .iter()
        .filter(|exemplar| has_value(exemplar))
        .map(|exemplar| hexadecimal(&exemplar.trace_id))
        .collect()
}

fn spans(all: Vec<ResourceSpans>) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in all {
        let resource = read_resource(of_resource.resource);
        let scopes = of_resource.scope_spans.into_iter();
        spans.extend(scopes.flat_map(|scope| scope.spans).map(|span| {
            Span {
                resource: Arc::clone(&resource),
                trace_id: hexadecimal(&span.trace_id),
                span_id: hexadecimal(&span.span_id),
                parent: hexadecimal(&span.parent_span_id),
                kind: span_kind(span.kind),
                name: span.name,
                trace_state: span.trace_state,
                attributes: attributes(span.attributes),
                links: span.links.iter().map(link).collect(),
                events: span
                    .events
                    .into_iter()
                    .map(|event| (event.name, attributes(event.attributes)))
                    .collect(),
                failed: span
                    .status
                    .is_some_and(|status| status.code == StatusCode::Error as i32),
                began: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
            }
        }));
    }
    spans
}

fn span_kind(kind: i32) -> String {
    let name = span::SpanKind::try_from(kind).map_or("", |kind| kind.as_str_name());
    name.trim_start_matches("SPAN_KIND_").to_owned()
}

fn link(link: &span::Link) -> Link {
    Link {
        trace_id: hexadecimal(&link.trace_id),
        span_id: hexadecimal(&link.span_id),
    }
}

fn logs(all: Vec<ResourceLogs>) -> Vec<Log> {
    let mut logs = Vec::new();
    for of_resource in all {
        let resource = read_resource(of_resource.resource);
        let scopes = of_resource.scope_logs.into_iter();
        logs.extend(scopes.flat_map(|scope| scope.log_records).map(|log| {
            Log {
                resource: Arc::clone(&resource),
                severity: log.severity_number,
                body: log
                    .body
                    .map(value)
                    .as_ref()
                    .map(text_of)
                    .unwrap_or_default(),
                trace_id: hexadecimal(&log.trace_id),
                span_id: hexadecimal(&log.span_id),
                attributes: attributes(log.attributes),
            }
        }));
    }
    logs
}

fn read_resource(resource: Option<resource::v1::Resource>) -> Resource {
    Arc::new(labels(resource.unwrap_or_default().attributes))
}

fn labels(attributes: Vec<KeyValue>) -> Labels {
    let label = |attribute: KeyValue| {
        let value = attribute.value.map(value).unwrap_or_default();
        (attribute.key, text_of(&value))
    };
    attributes.into_iter().map(label).collect()
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, Value> {
    let read = |attribute: KeyValue| {
        let value = attribute.value.map(value).unwrap_or_default();
        (attribute.key, value)
    };
    attributes.into_iter().map(read).collect()
}

fn value(any: AnyValue) -> Value {
    match any.value {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(value)) => json!(value),
        Some(any_value::Value::IntValue(value)) => json!(value),
        Some(any_value::Value::DoubleValue(value)) => json!(value),
        Some(any_value::Value::BytesValue(bytes)) => json!(hexadecimal(&bytes)),
        Some(any_value::Value::ArrayValue(array)) => array.values.into_iter().map(value).collect(),
        Some(any_value::Value::KvlistValue(list)) => json!(attributes(list.values)),
        Some(any_value::Value::StringValueStrindex(_)) | None => Value::Null,
    }
}

pub(super) fn text_of(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
