use super::*;

const TEXT: &str = r#"# HELP api_errors_total Errors.
# TYPE api_errors_total counter
api_errors_total{path="a\"b\\c\nd",code=""} 3
api_errors_total 1
# HELP empty Nothing yet.
# TYPE empty gauge
# HELP took_milliseconds Times.
# TYPE took_milliseconds histogram
took_milliseconds_bucket{le="0.5"} 1
took_milliseconds_bucket{le="+Inf"} 2
took_milliseconds_sum 7.25
took_milliseconds_count 2
"#;

const OPEN: &str = r#"# TYPE api_errors counter
# HELP api_errors Errors.
api_errors_total{code=""} 3 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 1 1520879607.789
# TYPE took_milliseconds histogram
# UNIT took_milliseconds milliseconds
# HELP took_milliseconds Times.
took_milliseconds_bucket{le="0.5"} 0
took_milliseconds_bucket{le="+Inf"} 2 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 0.7
took_milliseconds_sum 7.25
took_milliseconds_count 2
# EOF
"#;

#[test]
fn a_document_in_either_format_is_read() {
    let families = read(TEXT, Format::Prometheus).unwrap();
    let names: Vec<_> = families.keys().map(String::as_str).collect();
    assert_eq!(names, ["api_errors_total", "empty", "took_milliseconds"]);
    let errors = &families["api_errors_total"];
    assert_eq!(
        (errors.kind.as_str(), errors.help.as_str()),
        ("counter", "Errors.")
    );
    assert_eq!(errors.samples[0].labels["path"], "a\"b\\c\nd");
    assert_eq!(errors.samples[0].value, 3.0);

    let families = read(OPEN, Format::OpenMetrics).unwrap();
    let exemplar = families["api_errors_total"].samples[0]
        .exemplar
        .clone()
        .unwrap();
    assert_eq!(
        exemplar.labels["trace_id"],
        "0af7651916cd43dd8448eb211c80319c"
    );
    assert_eq!(
        (exemplar.value, exemplar.at),
        (1.0, Some(1_520_879_607.789))
    );
    let took = &families["took_milliseconds"];
    assert_eq!(took.unit.as_deref(), Some("milliseconds"));
    assert!(took.samples[1].exemplar.is_some());
}

#[test]
fn an_empty_document_is_one_and_in_openmetrics_it_says_that_it_ends() {
    assert!(read("", Format::Prometheus).unwrap().is_empty());
    assert!(read("# EOF\n", Format::OpenMetrics).unwrap().is_empty());
    assert!(read("", Format::OpenMetrics).is_err());
}

#[test]
fn every_fault_of_a_document_is_found() {
    let faults = [
        (
            TEXT,
            "api_errors_total 1\n",
            "api_errors_total{path=\"a\\\"b\\\\c\\nd\",code=\"\"} 4\n",
        ),
        (TEXT, "# TYPE empty gauge\n", ""),
        (TEXT, "# HELP empty Nothing yet.\n", ""),
        (
            TEXT,
            "# TYPE empty gauge\n",
            "# TYPE empty gauge\n# TYPE empty gauge\n",
        ),
        (
            TEXT,
            "# TYPE empty gauge\n",
            "# TYPE empty gauge\napi_errors_total{a=\"b\"} 1\n",
        ),
        (TEXT, "# HELP empty", "# HELP took_milliseconds_total"),
        (TEXT, "api_errors_total counter", "api_errors_total gauge"),
        (TEXT, "empty gauge", "empty counter"),
        (TEXT, "le=\"+Inf\"} 2", "le=\"+Inf\"} 3"),
        (TEXT, "le=\"0.5\"} 1", "le=\"0.5\"} 3"),
        (TEXT, "took_milliseconds_bucket{le=\"+Inf\"} 2\n", ""),
        (TEXT, "took_milliseconds_sum 7.25\n", ""),
        (TEXT, "_sum 7.25", "_sum NaN"),
        (
            TEXT,
            "api_errors_total 1\n",
            "api_errors_total 1 1520879607\n",
        ),
        (TEXT, "api_errors_total 1\n", "api_errors_total one\n"),
        (TEXT, "api_errors_total 1\n", "api_errors_total -1\n"),
        (TEXT, "count 2\n", "count 2"),
        (TEXT, "code=\"\"", "path=\"\""),
        (TEXT, "code=\"\"", "code=\"\\x\""),
        (TEXT, ",code", " code"),
        (OPEN, "# EOF\n", ""),
        (OPEN, "# EOF\n", "# EOF\n# EOF\n"),
        (
            OPEN,
            "UNIT took_milliseconds milliseconds",
            "UNIT took_milliseconds seconds",
        ),
        (OPEN, "_sum 7.25", "_sum 7.25 # {a=\"b\"} 1"),
        (OPEN, "api_errors_total{", "api_errors{"),
        (OPEN, "# {trace_id", "{trace_id"),
    ];
    for (document, part, fault) in faults {
        let format = match document {
            TEXT => Format::Prometheus,
            _ => Format::OpenMetrics,
        };
        let spoilt = document.replacen(part, fault, 1);
        assert_ne!(spoilt, document, "{part}");
        assert!(read(&spoilt, format).is_err(), "{fault}");
    }
}
