//! The series of one instrument: found by their labels, numbered in the order they were born, dropped when
//! their correlation id is forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustc_hash::{FxBuildHasher, FxHashSet};
use uuid::Uuid;

use crate::name::Name;

/// Labels of a series beside its correlation id.
pub(super) const LABELS: usize = 3;

/// What tells the series of an instrument apart: the correlation id (nil where it has none of its own), and
/// the other labels' values in the order of the definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) id: u128,
    pub(super) names: [Name; LABELS],
}

impl Key {
    pub(super) fn new(id: u128, given: &[Name]) -> Key {
        let mut names = [Name::EMPTY; LABELS];
        for (slot, name) in names.iter_mut().zip(given) {
            *slot = *name;
        }
        Key { id, names }
    }
}

/// A recent record, for whoever wants to see an example of what a series counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar {
    /// The correlation id, which is the trace's id.
    pub id: Uuid,
    pub value: f64,
    pub at: SystemTime,
}

/// A series.
#[derive(Debug, Clone)]
pub(super) struct Held<V> {
    pub(super) value: V,
    /// Its place in the order in which this process's series came to be.
    pub(super) born: u64,
    pub(super) started_at: SystemTime,
    pub(super) exemplar: Option<Exemplar>,
}

static BORN: AtomicU64 = AtomicU64::new(0);

/// The number of the series that came last.
pub(super) fn last_born() -> u64 {
    BORN.load(Ordering::Acquire)
}

/// All series of an instrument.
#[derive(Debug)]
pub(super) struct Store<V> {
    series: Mutex<HashMap<Key, Held<V>, FxBuildHasher>>,
}

impl<V: Clone> Store<V> {
    pub(super) const fn new() -> Store<V> {
        Store {
            series: Mutex::new(HashMap::with_hasher(FxBuildHasher)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Held<V>, FxBuildHasher>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the series with this key, made of `zero` where it is new.
    pub(super) fn change(
        &self,
        key: Key,
        zero: impl FnOnce() -> V,
        change: impl FnOnce(&mut Held<V>),
    ) {
        let mut series = self.lock();
        let held = series.entry(key).or_insert_with(|| Held {
            value: zero(),
            born: BORN.fetch_add(1, Ordering::AcqRel) + 1,
            started_at: SystemTime::now(),
            exemplar: None,
        });
        change(held);
    }

    /// Puts these in the place of all series.
    pub(super) fn replace(&self, values: impl IntoIterator<Item = (Key, V)>) {
        let mut series = self.lock();
        let mut before = std::mem::take(&mut *series);
        for (key, value) in values {
            let held = match before.remove(&key) {
                Some(held) => Held { value, ..held },
                None => Held {
                    value,
                    born: BORN.fetch_add(1, Ordering::AcqRel) + 1,
                    started_at: SystemTime::now(),
                    exemplar: None,
                },
            };
            series.insert(key, held);
        }
    }

    /// A copy of every series.
    pub(super) fn copy(&self) -> Vec<(Key, Held<V>)> {
        self.lock()
            .iter()
            .map(|(key, held)| (*key, held.clone()))
            .collect()
    }

    /// Drops the series of these ids; returns how many there were.
    pub(super) fn forget(&self, ids: &FxHashSet<u128>) -> usize {
        let mut series = self.lock();
        let before = series.len();
        series.retain(|key, _| key.id == 0 || !ids.contains(&key.id));
        before - series.len()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}
