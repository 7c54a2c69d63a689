#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::metrics::definition::Recorded;
use crate::name::Name;

const fn definition(otel: &'static str, kind: Kind, labels: &'static [&'static str]) -> Definition {
    Definition {
        otel,
        prom: "",
        kind,
        unit: "ms",
        labels,
        values: &[],
        recorded: Recorded::Both,
        when: "something happens",
        example: "",
    }
}

static COUNTER: Definition = definition("a.total", Kind::Counter, &["correlation_id", "namespace"]);
static GAUGE: Definition = definition("b", Kind::Gauge, &["namespace"]);
static HISTOGRAM: Definition = definition("c.duration", Kind::Histogram(&[1.0, 5.0]), &[]);

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(100)
}

fn series(value: Value) -> Series {
    Series {
        correlation_id: None,
        names: Vec::new(),
        born: 1,
        started_at: start(),
        value,
        exemplar: None,
    }
}

fn made(families: &[Family]) -> Vec<(ExportMetricsServiceRequest, u64)> {
    let now = start() + Duration::from_secs(60);
    requests(families, &Resource::default(), now)
}

fn texts(attributes: &[KeyValue]) -> Vec<(&str, &str)> {
    let text = |a: &KeyValue| match a.value.clone()?.value? {
        any_value::Value::StringValue(text) => Some(text.leak() as &str),
        _ => None,
    };
    attributes
        .iter()
        .map(|a| (a.key.as_str(), text(a).unwrap()))
        .collect()
}

#[test]
fn counters_gauges_and_histograms_say_what_was_collected() {
    let id = Uuid::from_u128(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    let counter = Series {
        correlation_id: Some(Some(id)),
        names: vec![("namespace", Name::fixed("shop"))],
        exemplar: Some(collect::Exemplar {
            id,
            value: 1.0,
            at: start() + Duration::from_secs(5),
        }),
        ..series(Value::Count(7))
    };
    let everybody = Series {
        correlation_id: Some(None),
        names: vec![("namespace", Name::fixed("shop"))],
        ..series(Value::Count(u64::MAX))
    };
    let families = [
        Family {
            definition: &COUNTER,
            series: vec![counter, everybody],
        },
        Family {
            definition: &GAUGE,
            series: vec![series(Value::Gauge(1.5))],
        },
        Family {
            definition: &HISTOGRAM,
            series: vec![series(Value::Distribution {
                buckets: vec![1, 2, 3],
                sum: 30.5,
                count: 6,
            })],
        },
        Family {
            definition: &GAUGE,
            series: Vec::new(),
        },
    ];
    let made = made(&families);
    let [(request, 4)] = made.as_slice() else {
        panic!("{made:?}");
    };
    let scope = &request.resource_metrics[0].scope_metrics[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "tasker");
    let [counter, gauge, histogram] = scope.metrics.as_slice() else {
        panic!("{scope:?}");
    };
    for (metric, name) in [
        (counter, "a.total"),
        (gauge, "b"),
        (histogram, "c.duration"),
    ] {
        assert_eq!(metric.name, name);
        assert_eq!(metric.unit, "ms");
        assert_eq!(metric.description, "something happens");
    }
    let Some(metric::Data::Sum(sum)) = &counter.data else {
        panic!("{counter:?}");
    };
    assert!(sum.is_monotonic);
    assert_eq!(
        sum.aggregation_temporality(),
        AggregationTemporality::Cumulative
    );
    let [point, everybody] = sum.data_points.as_slice() else {
        panic!("{sum:?}");
    };
    assert_eq!(point.value, Some(number_data_point::Value::AsInt(7)));
    assert_eq!(point.start_time_unix_nano, 100_000_000_000);
    assert_eq!(point.time_unix_nano, 160_000_000_000);
    assert_eq!(
        texts(&point.attributes),
        [
            ("correlation_id", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"),
            ("namespace", "shop")
        ]
    );
    let [exemplar] = point.exemplars.as_slice() else {
        panic!("{point:?}");
    };
    assert_eq!(exemplar.trace_id, id.into_bytes());
    assert_eq!(exemplar.time_unix_nano, 105_000_000_000);
    assert_eq!(exemplar.value, Some(exemplar::Value::AsDouble(1.0)));
    assert_eq!(
        texts(&everybody.attributes),
        [("correlation_id", ""), ("namespace", "shop")]
    );
    assert_eq!(
        everybody.value,
        Some(number_data_point::Value::AsInt(i64::MAX))
    );
    let Some(metric::Data::Gauge(gauge)) = &gauge.data else {
        panic!("{gauge:?}");
    };
    let value = &gauge.data_points[0];
    assert_eq!(value.value, Some(number_data_point::Value::AsDouble(1.5)));
    assert_eq!(value.start_time_unix_nano, 0);
    let Some(metric::Data::Histogram(histogram)) = &histogram.data else {
        panic!("{histogram:?}");
    };
    assert_eq!(
        histogram.aggregation_temporality(),
        AggregationTemporality::Cumulative
    );
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.sum), (6, Some(30.5)));
    assert_eq!(point.bucket_counts, [1, 2, 3]);
    assert_eq!(point.explicit_bounds, [1.0, 5.0]);
    assert_eq!(point.start_time_unix_nano, 100_000_000_000);
}

#[test]
fn much_is_said_in_several_requests() {
    let family = |count: usize| Family {
        definition: &COUNTER,
        series: vec![series(Value::Count(1)); count],
    };
    for (sizes, expected) in [
        (vec![], vec![]),
        (vec![0], vec![]),
        (vec![POINTS], vec![POINTS]),
        (vec![POINTS - 1, 3], vec![POINTS, 2]),
        (vec![2 * POINTS + 5, 1], vec![POINTS, POINTS, 6]),
    ] {
        let families: Vec<Family> = sizes.iter().map(|size| family(*size)).collect();
        let made = made(&families);
        let counted: Vec<usize> = made
            .iter()
            .map(|(request, points)| {
                let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
                let counted: usize = metrics
                    .iter()
                    .map(|metric| match &metric.data {
                        Some(metric::Data::Sum(sum)) => sum.data_points.len(),
                        other => panic!("{other:?}"),
                    })
                    .sum();
                assert_eq!(counted as u64, *points);
                counted
            })
            .collect();
        assert_eq!(counted, expected, "{sizes:?}");
    }
}
