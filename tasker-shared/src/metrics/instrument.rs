//! Counters, gauges and histograms: a definition and its series.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustc_hash::FxHashSet;

use super::collect::{Series, Value};
use super::definition::{Definition, Kind};
use super::store::{Exemplar, Held, Key, Store};
use super::{Correlation, Mode, correlation, settings};
use crate::name::Name;

/// An instrument as collection sees it.
pub(super) trait Instrument: fmt::Debug + Sync {
    fn definition(&self) -> &'static Definition;
    /// Every series, in no order.
    fn series(&self) -> Vec<Series>;
    /// Drops the series of these correlation ids; returns how many there were.
    fn forget(&self, ids: &FxHashSet<u128>) -> usize;
    /// How many series are held.
    fn held(&self) -> usize;
}

/// The key of a record's series, and its exemplar; `None` while nothing is recorded.
fn place(
    definition: &Definition,
    correlation: Option<Correlation>,
    names: &[Name],
    value: f64,
) -> Option<(Key, Option<Exemplar>)> {
    let settings = settings()?;
    let id = match correlation {
        Some(correlation) if definition.is_correlated() => {
            correlation::label(settings, correlation)
        }
        _ => 0,
    };
    let exemplar = correlation
        .filter(|_| settings.mode == Mode::Exemplar)
        .map(|c| Exemplar {
            id: c.id,
            value,
            at: SystemTime::now(),
        });
    Some((Key::new(id, names), exemplar))
}

fn series<V>(definition: &'static Definition, key: &Key, held: &Held<V>, value: Value) -> Series {
    let correlated = definition.is_correlated();
    let id = correlated.then(|| (key.id != 0).then(|| uuid::Uuid::from_u128(key.id)));
    let names = definition.labels.iter().skip(usize::from(correlated));
    Series {
        correlation_id: id,
        names: names.copied().zip(key.names).collect(),
        born: held.born,
        started_at: held.started_at,
        value,
        exemplar: held.exemplar,
    }
}

/// Counts what happened.
#[derive(Debug)]
pub(super) struct Counter {
    definition: &'static Definition,
    store: Store<u64>,
}

impl Counter {
    pub(super) const fn new(definition: &'static Definition) -> Counter {
        Counter {
            definition,
            store: Store::new(),
        }
    }

    /// Counts `n` more; a count of none makes no series.
    pub(super) fn add(&self, n: u64, correlation: Option<Correlation>, names: &[Name]) {
        if n == 0 {
            return;
        }
        if let Some((key, exemplar)) = place(self.definition, correlation, names, 1.0) {
            self.store.change(
                key,
                || 0,
                |held| {
                    held.value += n;
                    held.exemplar = exemplar.or(held.exemplar);
                },
            );
        }
    }
}

impl Instrument for Counter {
    fn definition(&self) -> &'static Definition {
        self.definition
    }

    fn series(&self) -> Vec<Series> {
        if self.definition.labels.is_empty() {
            // A counter without labels is there from the start.
            self.store.change(Key::new(0, &[]), || 0, |_| {});
        }
        let copy = self.store.copy();
        copy.iter()
            .map(|(key, held)| series(self.definition, key, held, Value::Count(held.value)))
            .collect()
    }

    fn forget(&self, ids: &FxHashSet<u128>) -> usize {
        self.store.forget(ids)
    }

    fn held(&self) -> usize {
        self.store.len()
    }
}

/// Buckets of a distribution; as many as the finest has.
const BUCKETS: usize = 12;

#[derive(Debug, Clone)]
struct Distribution {
    buckets: [u64; BUCKETS],
    sum: f64,
    count: u64,
}

/// Times, or sizes.
#[derive(Debug)]
pub(super) struct Histogram {
    definition: &'static Definition,
    store: Store<Distribution>,
}

impl Histogram {
    pub(super) const fn new(definition: &'static Definition) -> Histogram {
        Histogram {
            definition,
            store: Store::new(),
        }
    }

    fn bounds(&self) -> &'static [f64] {
        match self.definition.kind {
            Kind::Histogram(bounds) => bounds,
            Kind::Counter | Kind::Gauge => &[],
        }
    }

    /// Records a duration in milliseconds.
    pub(super) fn time(&self, took: Duration, correlation: Option<Correlation>, names: &[Name]) {
        self.record(took.as_secs_f64() * 1_000.0, correlation, names);
    }

    pub(super) fn record(&self, value: f64, correlation: Option<Correlation>, names: &[Name]) {
        let Some((key, exemplar)) = place(self.definition, correlation, names, value) else {
            return;
        };
        let bucket = self
            .bounds()
            .partition_point(|bound| *bound < value)
            .min(BUCKETS - 1);
        let zero = || Distribution {
            buckets: [0; BUCKETS],
            sum: 0.0,
            count: 0,
        };
        self.store.change(key, zero, |held| {
            held.value.buckets[bucket] += 1;
            held.value.sum += value;
            held.value.count += 1;
            held.exemplar = exemplar.or(held.exemplar);
        });
    }
}

impl Instrument for Histogram {
    fn definition(&self) -> &'static Definition {
        self.definition
    }

    fn series(&self) -> Vec<Series> {
        let copy = self.store.copy();
        let used = self.bounds().len() + 1;
        copy.iter()
            .map(|(key, held)| {
                let value = Value::Distribution {
                    buckets: held.value.buckets[..used].to_vec(),
                    sum: held.value.sum,
                    count: held.value.count,
                };
                series(self.definition, key, held, value)
            })
            .collect()
    }

    fn forget(&self, ids: &FxHashSet<u128>) -> usize {
        self.store.forget(ids)
    }

    fn held(&self) -> usize {
        self.store.len()
    }
}

/// What a gauge shows: values with the names of their labels.
pub(super) type Readings = Vec<(Vec<Name>, f64)>;

type Reader = Box<dyn Fn() -> Readings + Send + Sync>;

/// Shows how something stands now: as it was last set, and as its readers say when it is collected.
pub(super) struct Gauge {
    definition: &'static Definition,
    set: Mutex<Readings>,
    readers: Mutex<Vec<Reader>>,
    store: Store<f64>,
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauge")
            .field("name", &self.definition.otel)
            .finish_non_exhaustive()
    }
}

impl Gauge {
    pub(super) const fn new(definition: &'static Definition) -> Gauge {
        Gauge {
            definition,
            set: Mutex::new(Vec::new()),
            readers: Mutex::new(Vec::new()),
            store: Store::new(),
        }
    }

    /// Shows these values from now on, and no others.
    pub(super) fn set(&self, readings: Readings) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = readings;
    }

    /// Shows also what `read` says whenever the gauge is collected.
    pub(super) fn watch(&self, read: impl Fn() -> Readings + Send + Sync + 'static) {
        self.readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(read));
    }

    fn read(&self) -> Readings {
        let mut readings = self
            .set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readings.extend(readers.iter().flat_map(|read| read()));
        readings
    }
}

impl Instrument for Gauge {
    fn definition(&self) -> &'static Definition {
        self.definition
    }

    fn series(&self) -> Vec<Series> {
        let readings = self.read();
        self.store.replace(
            readings
                .iter()
                .map(|(names, value)| (Key::new(0, names), *value)),
        );
        let copy = self.store.copy();
        copy.iter()
            .map(|(key, held)| series(self.definition, key, held, Value::Gauge(held.value)))
            .collect()
    }

    fn forget(&self, _: &FxHashSet<u128>) -> usize {
        0
    }

    fn held(&self) -> usize {
        self.store.len()
    }
}

/// Declares the instruments of a room: statics, and `INSTRUMENTS` with all of them.
macro_rules! instruments {
    ($($name:ident: $kind:ident = $definition:expr;)+) => {
        $(static $name: $kind = {
            static DEFINITION: Definition = $definition;
            $kind::new(&DEFINITION)
        };)+
        pub(super) const INSTRUMENTS: &[&'static dyn $crate::metrics::instrument::Instrument] = &[$(&$name),+];
    };
}
pub(super) use instruments;
