//! Which format a reader wants, by its `Accept` header, and whether it takes gzip. A reader that wants neither
//! format gets text all the same, as anything that reads metrics can read that.

use std::cmp::Reverse;

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// OpenMetrics as older scrapers call it: nothing that is written here changed after its draft.
    OpenMetricsDraft,
}

impl Format {
    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::OpenMetricsDraft => {
                "application/openmetrics-text; version=0.0.1; charset=utf-8"
            }
        }
    }
}

/// The format that `accept` likes best; where it likes several as well, the one that it names most exactly, then
/// the one that it names first.
pub fn format(accept: &str) -> Format {
    let wanted = accept.split(',').enumerate().filter_map(|(place, range)| {
        let range = Range::parse(range)?;
        let (format, exactness) = range.format()?;
        (range.quality > 0).then_some((range.quality, exactness, Reverse(place), format))
    });
    let best = wanted.max_by_key(|(quality, exactness, place, _)| (*quality, *exactness, *place));
    best.map_or(Format::Text, |(.., format)| format)
}

/// Whether `accept_encoding` allows gzip.
pub fn takes_gzip(accept_encoding: &str) -> bool {
    let codings = accept_encoding.split(',').filter_map(Range::parse);
    let quality_of = |name: &str| {
        let mut named = codings
            .clone()
            .filter(|c| c.name.eq_ignore_ascii_case(name));
        named.next().map(|coding| coding.quality)
    };
    let quality = quality_of("gzip").or_else(|| quality_of("*"));
    quality.is_some_and(|quality| quality > 0)
}

/// One element of such a header: `text/plain;version=0.0.4;q=0.5`.
#[derive(Debug)]
struct Range<'a> {
    name: &'a str,
    version: Option<&'a str>,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    /// `None` where it is empty.
    fn parse(text: &'a str) -> Option<Range<'a>> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Range {
            name: parts.next().filter(|name| !name.is_empty())?,
            version: None,
            quality: 1_000,
        };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match key.trim() {
                key if key.eq_ignore_ascii_case("q") => range.quality = quality(value),
                key if key.eq_ignore_ascii_case("version") => range.version = Some(value),
                _ => {}
            }
        }
        Some(range)
    }

    /// The format that fits it, and how exactly it names that.
    fn format(&self) -> Option<(Format, u8)> {
        let is = |name: &str| self.name.eq_ignore_ascii_case(name);
        if is("application/openmetrics-text") {
            return match self.version {
                Some("1.0.0") => Some((Format::OpenMetrics, 3)),
                Some("0.0.1") => Some((Format::OpenMetricsDraft, 3)),
                None => Some((Format::OpenMetrics, 2)),
                Some(_) => None,
            };
        }
        match self.version {
            Some("0.0.4") if is("text/plain") => Some((Format::Text, 3)),
            Some(_) => None,
            None if is("text/plain") => Some((Format::Text, 2)),
            None if is("text/*") => Some((Format::Text, 1)),
            None if is("application/*") => Some((Format::OpenMetrics, 1)),
            None if is("*/*") => Some((Format::Text, 0)),
            None => None,
        }
    }
}

/// A quality in thousandths; one that is none counts as none given.
fn quality(text: &str) -> u16 {
    match text.parse::<f32>() {
        Ok(quality) if (0.0..=1.0).contains(&quality) => (quality * 1_000.0).round() as u16,
        _ => 1_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_the_format_it_likes_best() {
        use Format::{OpenMetrics, OpenMetricsDraft, Text};
        let table = [
            // Prometheus 2.42 (Debian 12).
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            // Prometheus 2.26 to 2.33.
            (
                "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetricsDraft,
            ),
            // Prometheus 3, which may ask for protobuf first.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
            // Prometheus with `scrape_protocols` kept to text.
            ("text/plain;version=0.0.4;q=0.2,*/*;q=0.1", Text),
            ("", Text),
            ("*/*", Text),
            ("text/*", Text),
            ("text/html, application/json;q=0.9", Text),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Text,
            ),
            ("application/openmetrics-text", OpenMetrics),
            (
                "Application/OpenMetrics-Text; Version=\"1.0.0\"",
                OpenMetrics,
            ),
            ("application/openmetrics-text; charset=utf-8", OpenMetrics),
            ("application/openmetrics-text, */*", OpenMetrics),
            ("application/openmetrics-text;q=0, text/plain", Text),
            ("application/openmetrics-text;q=0", Text),
            ("application/openmetrics-text;q=0.3,text/plain;q=0.7", Text),
            (
                "application/openmetrics-text;q=0.301, text/plain;q=0.3",
                OpenMetrics,
            ),
            ("text/plain, application/openmetrics-text", Text),
            ("application/openmetrics-text, text/plain", OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Text),
            (
                "application/openmetrics-text;version=2.0.0,application/openmetrics-text;version=1.0.0;q=0.1",
                OpenMetrics,
            ),
            (",;q=1,", Text),
        ];
        for (accept, wanted) in table {
            assert_eq!(format(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn gzip_is_used_only_where_it_is_allowed() {
        for (accept_encoding, allowed) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("br, *", true),
            ("*;q=0.2", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("gzip;q=0.000, identity", false),
            ("x-gzip-not", false),
        ] {
            assert_eq!(takes_gzip(accept_encoding), allowed, "{accept_encoding:?}");
        }
    }
}
