//! A log line as JSON: one object, whose keys are the event's fields and those of the spans around it.

use std::fmt::{self, Debug, Write as _};

use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats events so; the fields of spans must have been written by [`SpanFields`].
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonLines;

impl<S> FormatEvent<S, SpanFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, SpanFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut line = Line(Map::new());
        line.add("timestamp", now);
        line.add("level", metadata.level().as_str());
        event.record(&mut line);
        // Events of the crate `log` come under a target of their own and bring the real one along.
        let target = line.0.remove("log.target");
        line.add("target", target.unwrap_or_else(|| metadata.target().into()));
        // Where two say the same, the nearest is right.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<SpanFields>>();
            let fields = fields.and_then(|fields| SpanFields::read(&fields.fields));
            for (name, value) in fields.unwrap_or_else(Map::new) {
                line.0.entry(name).or_insert(value);
            }
        }
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

struct Line(Map<String, Value>);

impl Line {
    fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(plain(name).to_owned(), value.into());
    }
}

/// A field's name without what Rust needs of a keyword that is one.
fn plain(name: &str) -> &str {
    name.strip_prefix("r#").unwrap_or(name)
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value);
    }
}

/// Writes the fields of spans as the members of a JSON object, a comma before each. A span is made for every step
/// that runs and few of them ever see a line, so writing is kept cheap and the rest left to the lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpanFields;

impl SpanFields {
    /// What was written.
    fn read(members: &str) -> Option<Map<String, Value>> {
        let members = members.trim_start_matches(',');
        serde_json::from_str(&format!("{{{members}}}")).ok()
    }
}

impl<'writer> FormatFields<'writer> for SpanFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut members = Members {
            text: String::with_capacity(STEP_BYTES),
            result: Ok(()),
        };
        fields.record(&mut members);
        members.result?;
        // All at once, so that what keeps it need not grow piece by piece.
        writer.write_str(&members.text)
    }
}

/// What the three ids of a step take, whose span is the most frequent.
const STEP_BYTES: usize = 192;

struct Members {
    text: String,
    result: fmt::Result,
}

impl Members {
    fn add(&mut self, field: &Field, value: impl FnOnce(&mut String) -> fmt::Result) {
        self.text.push_str(",\"");
        self.text.push_str(plain(field.name()));
        self.text.push_str("\":");
        let written = value(&mut self.text);
        self.result = self.result.and(written);
    }
}

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, |text| {
            text.push('"');
            write!(Escaping(text), "{value:?}")?;
            text.push('"');
            Ok(())
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, |text| write!(text, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, |text| write!(text, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, |text| write!(text, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // What JSON has no number for is null.
        self.add(field, |text| write!(text, "{}", Value::from(value)));
    }
}

/// Writes text as it stands within a JSON string.
struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let must = |byte: u8| byte == b'"' || byte == b'\\' || byte < b' ';
        let mut rest = text;
        while let Some(at) = rest.bytes().position(must) {
            let (plain, from) = rest.split_at(at);
            self.0.push_str(plain);
            let mut after = from.chars();
            if let Some(special) = after.next() {
                write!(self.0, "\\u{:04x}", u32::from(special))?;
            }
            rest = after.as_str();
        }
        self.0.push_str(rest);
        Ok(())
    }
}
