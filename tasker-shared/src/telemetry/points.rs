//! Metrics as OTLP has them: what was collected becomes messages, cumulative since each series began.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;

use crate::metrics::collect::{self, Family, Series, Value};
use crate::metrics::definition::{CORRELATION_ID, Definition, Kind};

/// Points of one request: some 500 bytes each, and receivers take 4 MiB where nobody has told them otherwise.
const POINTS: usize = 4_000;

/// What the process says of itself.
pub(super) fn resource(resource: &opentelemetry_sdk::Resource) -> Resource {
    Resource {
        attributes: ResourceAttributesWithSchema::from(resource).attributes.0,
        ..Resource::default()
    }
}

/// Requests that together say what was collected at `now`, with how many points each of them has.
pub(super) fn requests(
    families: &[Family],
    resource: &Resource,
    now: SystemTime,
) -> Vec<(ExportMetricsServiceRequest, u64)> {
    let mut requests = Vec::new();
    let (mut metrics, mut points) = (Vec::new(), 0);
    for family in families {
        let mut series = family.series.as_slice();
        while !series.is_empty() {
            let (these, rest) = series.split_at(series.len().min(POINTS - points));
            metrics.push(metric(family.definition, these, now));
            (series, points) = (rest, points + these.len());
            if points == POINTS {
                requests.push((
                    request(std::mem::take(&mut metrics), resource),
                    count(points),
                ));
                points = 0;
            }
        }
    }
    if points > 0 {
        requests.push((request(metrics, resource), count(points)));
    }
    requests
}

fn request(metrics: Vec<Metric>, resource: &Resource) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope {
        name: "tasker".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope),
                metrics,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

fn metric(definition: &Definition, series: &[Series], now: SystemTime) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let numbers = || series.iter().filter_map(|s| number(s, now)).collect();
    let data = match definition.kind {
        Kind::Counter => metric::Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Kind::Gauge => metric::Data::Gauge(Gauge {
            data_points: numbers(),
        }),
        Kind::Histogram(bounds) => metric::Data::Histogram(Histogram {
            data_points: series
                .iter()
                .filter_map(|s| distribution(s, bounds, now))
                .collect(),
            aggregation_temporality: cumulative,
        }),
    };
    Metric {
        name: definition.otel.to_owned(),
        description: definition.when.to_owned(),
        unit: definition.unit.to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn number(series: &Series, now: SystemTime) -> Option<NumberDataPoint> {
    let (value, start) = match series.value {
        Value::Count(count) => (
            number_data_point::Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX)),
            nanos(series.started_at),
        ),
        // A gauge has no beginning.
        Value::Gauge(value) => (number_data_point::Value::AsDouble(value), 0),
        Value::Distribution { .. } => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: start,
        time_unix_nano: nanos(now),
        exemplars: series.exemplar.iter().map(example).collect(),
        flags: 0,
        value: Some(value),
    })
}

fn distribution(series: &Series, bounds: &[f64], now: SystemTime) -> Option<HistogramDataPoint> {
    let Value::Distribution {
        buckets,
        sum,
        count,
    } = &series.value
    else {
        return None;
    };
    Some(HistogramDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: nanos(series.started_at),
        time_unix_nano: nanos(now),
        count: *count,
        sum: Some(*sum),
        bucket_counts: buckets.clone(),
        explicit_bounds: bounds.to_vec(),
        exemplars: series.exemplar.iter().map(example).collect(),
        flags: 0,
        min: None,
        max: None,
    })
}

fn attributes(series: &Series) -> Vec<KeyValue> {
    let id = series.correlation_id.map(|id| {
        let text = id.map(|id| id.to_string()).unwrap_or_default();
        attribute(CORRELATION_ID, text)
    });
    let names = series
        .names
        .iter()
        .map(|(label, name)| attribute(label, name.as_str().to_owned()));
    id.into_iter().chain(names).collect()
}

fn attribute(key: &str, text: String) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(text)),
        }),
        ..KeyValue::default()
    }
}

fn example(exemplar: &collect::Exemplar) -> Exemplar {
    Exemplar {
        filtered_attributes: Vec::new(),
        time_unix_nano: nanos(exemplar.at),
        span_id: Vec::new(),
        trace_id: exemplar.id.into_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn count(points: usize) -> u64 {
    points as u64
}

#[cfg(test)]
mod tests;
