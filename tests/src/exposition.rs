//! What a process shows at `/metrics`, read strictly, and questions to it. How it is read is in `exposition/read.rs`.

mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use reqwest::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};

use crate::Process;
use crate::process::client;
pub use read::read;

/// What Debian's Prometheus asks for.
pub const PROMETHEUS_ACCEPTS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
/// The header by which a scraper is known.
const SCRAPER: &str = "X-Prometheus-Scrape-Timeout-Seconds";

/// Labels of a series by name.
pub type Labels = BTreeMap<String, String>;

/// The two formats, with their content types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, 0.0.4.
    Prometheus,
    /// OpenMetrics text, 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Exactly what the content type has to be.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A whole document.
#[derive(Debug, Clone)]
pub struct Exposition {
    /// How it was written.
    pub format: Format,
    /// Its metrics by name; a counter's ends in `_total` in either format.
    pub families: BTreeMap<String, Family>,
    /// How long it is.
    pub bytes: usize,
    /// From the request to the last byte.
    pub took: Duration,
}

/// A metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// `counter`, `gauge`, `histogram` and so on.
    pub kind: String,
    /// What it means.
    pub help: String,
    /// Its unit, where one is given.
    pub unit: Option<String>,
    /// Its lines.
    pub samples: Vec<Sample>,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name with what a histogram adds to it.
    pub name: String,
    /// All labels, `le` too.
    pub labels: Labels,
    /// The number.
    pub value: f64,
    /// An example of what was counted.
    pub exemplar: Option<Exemplar>,
}

/// An example of what was counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Its labels, `trace_id` for example.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// When it was, in seconds since 1970.
    pub at: Option<f64>,
}

impl Sample {
    /// Whether it has all these labels; an empty value stands for none as well, as in Prometheus.
    #[must_use]
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|&(name, value)| self.labels.get(name).map_or("", String::as_str) == value)
    }

    /// The labels of its series, without the bound of a bucket.
    #[must_use]
    pub fn series(&self) -> Labels {
        let mut labels = self.labels.clone();
        labels.remove("le");
        labels
    }
}

impl Exposition {
    /// The lines of that name with these labels.
    pub fn samples<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.families
            .values()
            .flat_map(|family| &family.samples)
            .filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// The sum over these lines.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).map(|sample| sample.value).sum()
    }

    /// The sum over these lines, by the value of a label.
    #[must_use]
    pub fn sum_by(
        &self,
        label: &str,
        name: &str,
        labels: &[(&str, &str)],
    ) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for sample in self.samples(name, labels) {
            let value = sample.labels.get(label).cloned().unwrap_or_default();
            *sums.entry(value).or_default() += whole(sample.value);
        }
        sums
    }

    /// Whether there is any line with one of these labels.
    #[must_use]
    pub fn any(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.samples(name, labels).next().is_some()
    }
}

/// A count as a whole number.
///
/// # Panics
/// When it is none.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is checked"
)]
pub fn whole(value: f64) -> u64 {
    assert!(value >= 0.0 && value.fract() == 0.0, "{value} is no count");
    value as u64
}

/// How `/metrics` is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asking<'a> {
    /// The media types wanted.
    pub accept: Option<&'a str>,
    /// The name of a scraper; without one the reader is a person.
    pub scraper: Option<&'a str>,
}

impl Asking<'_> {
    /// Reads the answer, which must be a document without a fault.
    ///
    /// # Panics
    /// When it is not.
    pub async fn ask(self, request: RequestBuilder) -> Exposition {
        let mut request = request;
        if let Some(accept) = self.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(agent) = self.scraper {
            request = request.header(USER_AGENT, agent).header(SCRAPER, "10");
        }
        let begun = Instant::now();
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 200);
        let content_type = reply.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        let format = [Format::Prometheus, Format::OpenMetrics]
            .into_iter()
            .find(|format| format.content_type() == content_type)
            .unwrap_or_else(|| panic!("content type {content_type}"));
        let text = reply.text().await.unwrap();
        let took = begun.elapsed();
        let families = read(&text, format).unwrap_or_else(|fault| panic!("{fault}"));
        Exposition {
            format,
            families,
            bytes: text.len(),
            took,
        }
    }
}

impl Process {
    /// What it shows anybody.
    pub async fn metrics(&self) -> Exposition {
        self.metrics_for(Asking::default()).await
    }

    /// The same as OpenMetrics.
    pub async fn openmetrics(&self) -> Exposition {
        let accept = Some(PROMETHEUS_ACCEPTS);
        let asking = Asking {
            accept,
            ..Asking::default()
        };
        self.metrics_for(asking).await
    }

    /// What it shows a scraper of that name, which asks as Prometheus does.
    pub async fn scrape(&self, name: &str) -> Exposition {
        let asking = Asking {
            accept: Some(PROMETHEUS_ACCEPTS),
            scraper: Some(name),
        };
        self.metrics_for(asking).await
    }

    async fn metrics_for(&self, asking: Asking<'_>) -> Exposition {
        asking.ask(client().get(self.url("/metrics"))).await
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?} {}", self.name, self.labels, self.value)
    }
}
