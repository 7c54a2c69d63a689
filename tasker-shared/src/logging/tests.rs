#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;

use super::level::Levels;
use super::*;

/// What was written.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Written;

    fn make_writer(&'a self) -> Written {
        self.clone()
    }
}

impl Written {
    pub(crate) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

fn json(
    level: &str,
) -> (
    impl tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<>,
    Written,
    Levels,
) {
    let (filter, levels) = level::initial(None, level).unwrap();
    let written = Written::default();
    let lines = fmt::layer()
        .with_writer(written.clone())
        .fmt_fields(lines::SpanFields)
        .event_format(lines::JsonLines);
    (registry().with(filter).with(lines), written, levels)
}

/// JSON lines, and the export of them where it is on.
pub(crate) fn exporting(level: &str) -> (impl tracing::Subscriber + Send + Sync + use<>, Written) {
    let (subscriber, written, _) = json(level);
    (
        subscriber.with(telemetry::logs::layer(STEP_FIELDS)),
        written,
    )
}

fn span() -> Span {
    step_span(Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3))
}

#[test]
fn the_variable_wins_where_it_says_something() {
    for (variable, level, expected) in [
        (None, "info", "info"),
        (Some(""), "warn", "warn"),
        (Some("debug"), "info", "debug"),
        (
            Some(" tasker=trace, sqlx=warn,"),
            "info",
            "tasker=trace,sqlx=warn",
        ),
        (Some("tasker_worker"), "info", "tasker_worker"),
    ] {
        let (_, levels) = level::initial(variable.map(str::to_owned), level).unwrap();
        assert_eq!(levels.text(), expected);
    }
}

#[test]
fn a_level_that_is_none_is_refused_with_its_origin() {
    let error = level::initial(None, "tasker=loud").unwrap_err().to_string();
    assert!(
        error.contains("\"tasker=loud\" from logging.level"),
        "{error}"
    );
    let error = level::initial(Some("tasker=loud".to_owned()), "info")
        .unwrap_err()
        .to_string();
    assert!(error.contains("from RUST_LOG"), "{error}");
    // Filters by span are more than is promised.
    assert!(level::initial(Some("[step]=debug".to_owned()), "info").is_err());
}

#[test]
fn the_level_changes_while_the_process_runs() {
    let (subscriber, written, levels) = json("info");
    tracing::subscriber::with_default(subscriber, || {
        tracing::debug!("quiet");
        assert_eq!(written.take(), "");
        assert_eq!(levels.change(" debug ").unwrap(), "info");
        tracing::debug!("heard");
        tracing::debug!(target: "sqlx::query", "heard");
        assert_eq!(written.take().lines().count(), 2);
        assert_eq!(levels.change("debug,sqlx=warn").unwrap(), "debug");
        tracing::debug!("heard");
        tracing::debug!(target: "sqlx::query", "quiet");
        assert_eq!(written.take().lines().count(), 1);
        assert_eq!(levels.change("off").unwrap(), "debug,sqlx=warn");
        tracing::error!("quiet");
        assert_eq!(written.take(), "");
        assert_eq!(levels.text(), "off");
    });
}

#[test]
fn what_is_no_level_changes_nothing() {
    let (subscriber, written, levels) = json("info");
    tracing::subscriber::with_default(subscriber, || {
        for text in [
            "",
            "loud",
            "inf",
            "tasker=",
            "=info",
            "tasker=loud",
            "tasker",
            "a b=info",
            "[step]=info",
            "info;debug",
            "4",
        ] {
            let error = levels.change(text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{text:?} is not understood")),
                "{error}"
            );
        }
        assert_eq!(levels.text(), "info");
        tracing::info!("heard");
        assert_eq!(written.take().lines().count(), 1);
    });
    assert_eq!(level(), "");
    assert!(matches!(set_level("info"), Err(LevelError::NotSetUp)));
}

#[test]
fn a_json_line_has_its_fields_and_those_of_its_step_at_the_top() {
    let (subscriber, written, _) = json("tasker_shared=info");
    tracing::subscriber::with_default(subscriber, || {
        let _step = span().entered();
        let own = tracing::info_span!(
            "own",
            order = 7,
            attempt = 1,
            note = "a\"\\\n",
            of = 0.5,
            late = tracing::field::Empty
        );
        own.record("late", true);
        own.record("order", 8);
        let _own = own.entered();
        tracing::info!(attempt = 2, ratio = 0.5, ok = true, error = ?Some("a\"b"), "charged {}", 5);
    });
    let text = written.take();
    assert!(
        text.ends_with("}\n") && text.starts_with("{\"timestamp\":\"2"),
        "{text}"
    );
    let mut line: serde_json::Value = serde_json::from_str(&text).unwrap();
    let timestamp = line["timestamp"].take();
    assert!(chrono::DateTime::parse_from_rfc3339(timestamp.as_str().unwrap()).is_ok());
    let expected = serde_json::json!({
        "timestamp": null,
        "level": "INFO",
        "message": "charged 5",
        "attempt": 2,
        "ratio": 0.5,
        "ok": true,
        "error": "Some(\"a\\\"b\")",
        "target": "tasker_shared::logging::tests",
        "order": 8,
        "note": "a\"\\\n",
        "of": 0.5,
        "late": true,
        "task_uuid": "00000000-0000-0000-0000-000000000001",
        "step_uuid": "00000000-0000-0000-0000-000000000002",
        "correlation_id": "00000000-0000-0000-0000-000000000003",
    });
    assert_eq!(line, expected);
}

#[test]
fn a_text_line_shows_its_step() {
    // Even where the filter lets nothing else through but what a handler logs.
    let (filter, _) = level::initial(None, "handlers=debug").unwrap();
    let written = Written::default();
    let lines = fmt::layer().with_writer(written.clone()).with_ansi(false);
    tracing::subscriber::with_default(registry().with(filter).with(lines), || {
        span().in_scope(|| tracing::debug!(target: "handlers", "charged"));
        tracing::error!("quiet");
    });
    let text = written.take();
    assert_eq!(text.lines().count(), 1);
    assert!(
        text.contains(
            "step{task_uuid=00000000-0000-0000-0000-000000000001 \
             step_uuid=00000000-0000-0000-0000-000000000002 \
             correlation_id=00000000-0000-0000-0000-000000000003}: handlers: charged"
        ),
        "{text}"
    );
}
