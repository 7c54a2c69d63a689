use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::super::definition::Recorded;
use super::*;
use crate::name::Name;

const ID: Uuid = Uuid::from_u128(0x0199c3e0_ccdb_7581_87ab_3f67daeaa4a5);

static FAILURES: Definition = Definition {
    otel: "tasker.steps.failures.total",
    prom: "tasker_steps_failures_total",
    kind: Kind::Counter,
    unit: "",
    labels: &["correlation_id", "namespace"],
    values: &[],
    recorded: Recorded::Worker,
    when: "a \"handler\" failed;\nsee C:\\logs",
    example: "",
};

static DURATION: Definition = Definition {
    otel: "tasker.task.duration",
    prom: "tasker_task_duration_milliseconds",
    kind: Kind::Histogram(&[0.5, 1.0, 250.0, 300_000.0]),
    unit: "ms",
    labels: &["namespace"],
    when: "end to end",
    ..FAILURES
};

static RATIO: Definition = Definition {
    otel: "tasker.worker.busy_ratio",
    prom: "tasker_worker_busy_ratio",
    kind: Kind::Gauge,
    unit: "1",
    labels: &[],
    when: "share of slots",
    ..FAILURES
};

fn family(definition: &'static Definition, series: Vec<Series>) -> Family {
    Family { definition, series }
}

fn series(
    correlation_id: Option<Option<Uuid>>,
    names: &[(&'static str, &'static str)],
    value: Value,
) -> Series {
    let names = names
        .iter()
        .map(|(label, name)| (*label, Name::fixed(name)));
    Series {
        correlation_id,
        names: names.collect(),
        born: 1,
        started_at: SystemTime::UNIX_EPOCH,
        value,
        exemplar: None,
    }
}

fn distribution(buckets: &[u64], sum: f64) -> Value {
    Value::Distribution {
        buckets: buckets.to_vec(),
        sum,
        count: buckets.iter().sum(),
    }
}

fn with_exemplar(series: Series, value: f64) -> Series {
    let exemplar = Exemplar {
        id: ID,
        value,
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_760_000_000_070),
    };
    Series {
        exemplar: Some(exemplar),
        ..series
    }
}

/// A counter, a histogram and a gauge, with what is hard to write about each.
fn families() -> Vec<Family> {
    let shop = [("namespace", "shop")];
    let strange = [("namespace", "a\\b\"c\"\nd")];
    vec![
        family(
            &FAILURES,
            vec![
                with_exemplar(series(Some(None), &shop, Value::Count(7)), 1.0),
                series(Some(Some(ID)), &strange, Value::Count(u64::MAX)),
            ],
        ),
        family(
            &DURATION,
            vec![with_exemplar(
                series(None, &shop, distribution(&[1, 0, 2, 0, 4], 1_200_000.75)),
                2.5,
            )],
        ),
        family(&RATIO, vec![series(None, &[], Value::Gauge(0.25))]),
    ]
}

#[test]
fn the_text_format_has_no_exemplars_and_full_names() {
    let expected = r#"# HELP tasker_steps_failures_total a "handler" failed;\nsee C:\\logs
# TYPE tasker_steps_failures_total counter
tasker_steps_failures_total{correlation_id="",namespace="shop"} 7
tasker_steps_failures_total{correlation_id="0199c3e0-ccdb-7581-87ab-3f67daeaa4a5",namespace="a\\b\"c\"\nd"} 18446744073709551615
# HELP tasker_task_duration_milliseconds end to end
# TYPE tasker_task_duration_milliseconds histogram
tasker_task_duration_milliseconds_bucket{namespace="shop",le="0.5"} 1
tasker_task_duration_milliseconds_bucket{namespace="shop",le="1.0"} 1
tasker_task_duration_milliseconds_bucket{namespace="shop",le="250.0"} 3
tasker_task_duration_milliseconds_bucket{namespace="shop",le="300000.0"} 3
tasker_task_duration_milliseconds_bucket{namespace="shop",le="+Inf"} 7
tasker_task_duration_milliseconds_sum{namespace="shop"} 1200000.75
tasker_task_duration_milliseconds_count{namespace="shop"} 7
# HELP tasker_worker_busy_ratio share of slots
# TYPE tasker_worker_busy_ratio gauge
tasker_worker_busy_ratio 0.25
"#;
    assert_eq!(render(&families(), Format::Text), expected);
}

#[test]
fn openmetrics_has_exemplars_units_and_an_end() {
    let expected = r##"# HELP tasker_steps_failures a \"handler\" failed;\nsee C:\\logs
# TYPE tasker_steps_failures counter
tasker_steps_failures_total{correlation_id="",namespace="shop"} 7 # {trace_id="0199c3e0ccdb758187ab3f67daeaa4a5"} 1 1760000000.070
tasker_steps_failures_total{correlation_id="0199c3e0-ccdb-7581-87ab-3f67daeaa4a5",namespace="a\\b\"c\"\nd"} 18446744073709551615
# HELP tasker_task_duration_milliseconds end to end
# TYPE tasker_task_duration_milliseconds histogram
# UNIT tasker_task_duration_milliseconds milliseconds
tasker_task_duration_milliseconds_bucket{namespace="shop",le="0.5"} 1
tasker_task_duration_milliseconds_bucket{namespace="shop",le="1.0"} 1
tasker_task_duration_milliseconds_bucket{namespace="shop",le="250.0"} 3 # {trace_id="0199c3e0ccdb758187ab3f67daeaa4a5"} 2.5 1760000000.070
tasker_task_duration_milliseconds_bucket{namespace="shop",le="300000.0"} 3
tasker_task_duration_milliseconds_bucket{namespace="shop",le="+Inf"} 7
tasker_task_duration_milliseconds_sum{namespace="shop"} 1200000.75
tasker_task_duration_milliseconds_count{namespace="shop"} 7
# HELP tasker_worker_busy_ratio share of slots
# TYPE tasker_worker_busy_ratio gauge
tasker_worker_busy_ratio 0.25
# EOF
"##;
    for format in [Format::OpenMetrics, Format::OpenMetricsDraft] {
        assert_eq!(render(&families(), format), expected);
    }
}

#[test]
fn a_family_without_series_is_declared() {
    let families = [family(&DURATION, Vec::new())];
    assert_eq!(
        render(&families, Format::Text),
        "# HELP tasker_task_duration_milliseconds end to end\n\
         # TYPE tasker_task_duration_milliseconds histogram\n"
    );
}

#[test]
fn nothing_recorded_is_an_empty_page() {
    assert_eq!(render(&[], Format::Text), "");
    assert_eq!(render(&[], Format::OpenMetrics), "# EOF\n");
}

#[test]
fn an_exemplar_stands_with_the_bucket_it_fell_into() {
    for (value, bucket) in [
        (0.0, "0.5"),
        (0.5, "0.5"),
        (0.500_001, "1.0"),
        (300_000.0, "300000.0"),
        (300_000.1, "+Inf"),
    ] {
        let one = with_exemplar(
            series(None, &[], distribution(&[1, 1, 1, 1, 1], 1.0)),
            value,
        );
        let page = render(&[family(&DURATION, vec![one])], Format::OpenMetrics);
        let marked: Vec<&str> = page.lines().filter(|l| l.contains("trace_id")).collect();
        assert_eq!(marked.len(), 1, "{value}");
        assert!(
            marked[0].contains(&format!("{{le=\"{bucket}\"}}")),
            "{value}: {}",
            marked[0]
        );
    }
}

#[test]
fn numbers_are_written_as_prometheus_reads_them() {
    for (value, written) in [
        (0.0, "0"),
        (3.0, "3"),
        (0.1, "0.1"),
        (1e15, "1000000000000000"),
        (1e-7, "0.0000001"),
        (-2.5, "-2.5"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
    ] {
        let page = render(
            &[family(&RATIO, vec![series(None, &[], Value::Gauge(value))])],
            Format::Text,
        );
        let last = page.lines().last().unwrap();
        assert_eq!(last, format!("tasker_worker_busy_ratio {written}"));
    }
}
