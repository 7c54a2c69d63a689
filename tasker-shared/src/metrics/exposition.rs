//! What is collected, as Prometheus reads it: its text format 0.0.4, or OpenMetrics 1.0.0, which has exemplars.
//! Which of the two a reader wants, `accept` knows.

pub mod accept;

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use super::collect::{Exemplar, Family, Series, Value};
use super::definition::{CORRELATION_ID, Definition, Kind};
pub use accept::Format;

/// Room for one line, so that a page grows in few steps.
const LINE_BYTES: usize = 160;

/// The page with all `families`.
pub fn render(families: &[Family], format: Format) -> String {
    let mut page = Page {
        text: String::with_capacity(lines(families) * LINE_BYTES),
        is_open: format != Format::Text,
    };
    for family in families {
        page.family(family);
    }
    if page.is_open {
        page.text.push_str("# EOF\n");
    }
    page.text
}

/// How many lines there will be, about.
fn lines(families: &[Family]) -> usize {
    let of_series = |definition: &Definition| match definition.kind {
        Kind::Histogram(bounds) => bounds.len() + 3,
        Kind::Counter | Kind::Gauge => 1,
    };
    let of_family = |family: &Family| 3 + family.series.len() * of_series(family.definition);
    families.iter().map(of_family).sum()
}

#[derive(Debug)]
struct Page {
    text: String,
    /// OpenMetrics.
    is_open: bool,
}

impl Page {
    fn family(&mut self, family: &Family) {
        let definition = family.definition;
        self.head(definition);
        let bounds = bounds(definition);
        // A series' labels stand in many lines, so they are written once and copied.
        let mut labels = String::new();
        for series in &family.series {
            labels.clear();
            write_labels(&mut labels, series);
            match &series.value {
                Value::Count(count) => {
                    self.name(definition.prom, "", &labels);
                    self.whole(*count);
                    self.exemplar(series.exemplar.as_ref());
                    self.text.push('\n');
                }
                Value::Gauge(value) => {
                    self.name(definition.prom, "", &labels);
                    self.float(*value);
                    self.text.push('\n');
                }
                Value::Distribution {
                    buckets,
                    sum,
                    count,
                } => {
                    self.buckets(series, &labels, definition, &bounds, buckets);
                    self.name(definition.prom, "_sum", &labels);
                    self.float(*sum);
                    self.text.push('\n');
                    self.name(definition.prom, "_count", &labels);
                    self.whole(*count);
                    self.text.push('\n');
                }
            }
        }
    }

    fn head(&mut self, definition: &Definition) {
        // OpenMetrics names a family of counters without what its samples end in.
        let name = match definition.kind {
            Kind::Counter if self.is_open => definition.prom.trim_end_matches("_total"),
            _ => definition.prom,
        };
        self.text.extend(["# HELP ", name, " "]);
        escape(&mut self.text, definition.when, self.is_open);
        self.text
            .extend(["\n# TYPE ", name, " ", definition.kind.as_str(), "\n"]);
        if self.is_open && definition.unit == "ms" {
            self.text.extend(["# UNIT ", name, " milliseconds\n"]);
        }
    }

    /// The lines of all buckets, each with what lies in it and below; the exemplar stands with the one it fell into.
    fn buckets(
        &mut self,
        series: &Series,
        labels: &str,
        definition: &Definition,
        bounds: &[(f64, String)],
        buckets: &[u64],
    ) {
        let fell_into = series
            .exemplar
            .as_ref()
            .map(|exemplar| bounds.partition_point(|(bound, _)| *bound < exemplar.value));
        let separator = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        for (place, ((_, bound), bucket)) in bounds.iter().zip(buckets).enumerate() {
            below += bucket;
            self.text.extend([
                definition.prom,
                "_bucket{",
                labels,
                separator,
                "le=\"",
                bound,
                "\"} ",
            ]);
            self.whole(below);
            let here = fell_into == Some(place);
            self.exemplar(series.exemplar.as_ref().filter(|_| here));
            self.text.push('\n');
        }
    }

    /// The beginning of a line, up to its value.
    fn name(&mut self, name: &str, suffix: &str, labels: &str) {
        if labels.is_empty() {
            self.text.extend([name, suffix, " "]);
        } else {
            self.text.extend([name, suffix, "{", labels, "} "]);
        }
    }

    fn whole(&mut self, value: u64) {
        let _ = write!(self.text, "{value}");
    }

    fn float(&mut self, value: f64) {
        if value.is_nan() {
            self.text.push_str("NaN");
        } else if value.is_infinite() {
            self.text
                .push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        } else {
            let _ = write!(self.text, "{value}");
        }
    }

    fn exemplar(&mut self, exemplar: Option<&Exemplar>) {
        let Some(exemplar) = exemplar.filter(|_| self.is_open) else {
            return;
        };
        let mut id = [0; uuid::fmt::Simple::LENGTH];
        let id = exemplar.id.simple().encode_lower(&mut id);
        self.text.extend([" # {trace_id=\"", id, "\"} "]);
        self.float(exemplar.value);
        let at = exemplar.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let _ = write!(self.text, " {}.{:03}", at.as_secs(), at.subsec_millis());
    }
}

/// The upper bounds of a histogram's buckets with the texts of their labels, the last one infinite. The texts are
/// those of OpenMetrics in either format, so that a bucket is the same series whichever is asked for.
fn bounds(definition: &Definition) -> Vec<(f64, String)> {
    let Kind::Histogram(bounds) = definition.kind else {
        return Vec::new();
    };
    let mut named: Vec<(f64, String)> = bounds.iter().map(|b| (*b, format!("{b:?}"))).collect();
    named.push((f64::INFINITY, "+Inf".to_owned()));
    named
}

/// What stands between the braces.
fn write_labels(text: &mut String, series: &Series) {
    if let Some(id) = series.correlation_id {
        text.extend([CORRELATION_ID, "=\""]);
        if let Some(id) = id {
            let mut digits = [0; uuid::fmt::Hyphenated::LENGTH];
            text.push_str(id.hyphenated().encode_lower(&mut digits));
        }
        text.push('"');
    }
    for (label, name) in &series.names {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend([*label, "=\""]);
        escape(text, name.as_str(), true);
        text.push('"');
    }
}

/// Writes a label's value or a help text; `quotes` where a `"` in it would have a meaning.
fn escape(text: &mut String, value: &str, quotes: bool) {
    if !value.contains(['\\', '\n', '"']) {
        text.push_str(value);
        return;
    }
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
