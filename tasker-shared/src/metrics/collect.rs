//! Collecting: everything recorded so far, as a reader may see it. A series that appears with a value is invisible
//! to `rate()`, so readers that come again and again are shown a new one at zero once, and its value the next time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use super::definition::Definition;
use super::{catalog, correlation, settings, store};
use crate::name::Name;

pub use super::store::Exemplar;

/// A metric with its series.
#[derive(Debug, Clone)]
pub struct Family {
    pub definition: &'static Definition,
    pub series: Vec<Series>,
}

/// One series of a metric.
#[derive(Debug, Clone)]
pub struct Series {
    /// For metrics that carry one: the id, or `Some(None)` for the series of all ids that have none of their own.
    pub correlation_id: Option<Option<Uuid>>,
    /// The other labels with their values.
    pub names: Vec<(&'static str, Name)>,
    /// Its place in the order in which this process's series came to be.
    pub born: u64,
    pub started_at: SystemTime,
    pub value: Value,
    pub exemplar: Option<Exemplar>,
}

/// The value of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Count(u64),
    Gauge(f64),
    /// `buckets` has a count for each bound of the definition, and one for what is above them.
    Distribution {
        buckets: Vec<u64>,
        sum: f64,
        count: u64,
    },
}

impl Value {
    fn zero(&mut self) {
        match self {
            Value::Count(count) => *count = 0,
            Value::Gauge(_) => {}
            Value::Distribution {
                buckets,
                sum,
                count,
            } => {
                buckets.fill(0);
                (*sum, *count) = (0.0, 0);
            }
        }
    }
}

/// A reader that comes again and again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reader {
    /// The OTLP export.
    Otlp,
    Scraper {
        address: IpAddr,
        agent: String,
    },
}

/// What a reader has been shown.
#[derive(Debug, Clone, Copy)]
struct Shown {
    /// Series up to this number.
    born: u64,
    last: Instant,
    previous: Option<Instant>,
}

/// Readers that are remembered; the one that has not come for longest goes first.
const READERS: usize = 32;
/// A reader that has not come for so long does not come any more, as Prometheus itself sees it.
const GONE: Duration = Duration::from_secs(300);
/// A reader that comes for the first time has missed nothing that is older.
const YOUNG: Duration = Duration::from_secs(300);

static SHOWN: Mutex<Option<HashMap<Reader, Shown>>> = Mutex::new(None);

/// Everything, true at once.
pub fn snapshot() -> Vec<Family> {
    correlation::sweep();
    let Some(settings) = settings() else {
        return Vec::new();
    };
    catalog::INSTRUMENTS
        .iter()
        .filter(|i| i.definition().recorded.by(settings.process))
        .map(|instrument| {
            let mut series = instrument.series();
            series.sort_unstable_by_key(|s| s.born);
            Family {
                definition: instrument.definition(),
                series,
            }
        })
        .collect()
}

/// Everything for `reader`, series that it has not been shown yet at zero; says whether there were any.
pub fn for_reader(reader: Reader) -> (Vec<Family>, bool) {
    // Series born while the others are read wait for the next time.
    let until = store::last_born();
    let mut families = snapshot();
    let (from, first) = match note(reader, until, Instant::now()) {
        Some(before) => (before, false),
        None => (0, true),
    };
    let now = SystemTime::now();
    let is_young = |s: &Series| {
        now.duration_since(s.started_at)
            .is_ok_and(|age| age < YOUNG)
    };
    let mut any = false;
    for family in &mut families {
        family
            .series
            .retain(|s| s.born <= until || matches!(s.value, Value::Gauge(_)));
        for series in &mut family.series {
            if series.born > from
                && (!first || is_young(series))
                && !matches!(series.value, Value::Gauge(_))
            {
                series.value.zero();
                series.exemplar = None;
                any = true;
            }
        }
    }
    (families, any)
}

/// Notes that a reader is shown the series up to a number; returns what it had been shown before.
fn note(reader: Reader, until: u64, now: Instant) -> Option<u64> {
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = shown.get_or_insert_default();
    if let Some(before) = shown.get_mut(&reader) {
        let born = before.born;
        *before = Shown {
            born: until,
            last: now,
            previous: Some(before.last),
        };
        return Some(born);
    }
    if shown.len() >= READERS
        && let Some(oldest) = shown
            .iter()
            .min_by_key(|(_, s)| s.last)
            .map(|(r, _)| r.clone())
    {
        shown.remove(&oldest);
    }
    shown.insert(
        reader,
        Shown {
            born: until,
            last: now,
            previous: None,
        },
    );
    None
}

/// Whether every reader that still comes has seen the value of a series last changed at `changed`: it came twice
/// since, once perhaps for a zero.
pub(super) fn seen_by_all(changed: Instant, now: Instant) -> bool {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    shown
        .iter()
        .flatten()
        .filter(|(_, s)| now.duration_since(s.last) < GONE)
        .all(|(_, s)| s.previous.is_some_and(|at| at > changed))
}
