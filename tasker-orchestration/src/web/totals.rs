//! How many tasks the lists have that are too long to be counted. To find that out costs many times what a page
//! does, and an estimate is as good a while later: it is kept, for whoever leafs through a list or looks at it again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tasker_shared::db::task_views::Filter;

/// For so long an estimate is given again.
const KEPT: TimeDelta = TimeDelta::seconds(30);
/// So many are kept.
const MOST: usize = 1_000;

/// Estimates by what was listed, and when they were made.
#[derive(Debug, Default)]
pub(super) struct Totals(Mutex<HashMap<Filter, (DateTime<Utc>, u64)>>);

impl Totals {
    pub(super) fn find(&self, filter: &Filter, now: DateTime<Utc>) -> Option<u64> {
        let totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (made_at, total) = totals.get(filter).copied()?;
        is_fresh(made_at, now).then_some(total)
    }

    pub(super) fn keep(&self, filter: Filter, total: u64, now: DateTime<Utc>) {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if totals.len() >= MOST {
            totals.retain(|_, (made_at, _)| is_fresh(*made_at, now));
        }
        if totals.len() < MOST {
            totals.insert(filter, (now, total));
        }
    }
}

fn is_fresh(made_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (TimeDelta::zero()..KEPT).contains(&(now - made_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tag: usize) -> Filter {
        Filter {
            tag: Some(tag.to_string()),
            ..Filter::default()
        }
    }

    #[test]
    fn an_estimate_is_given_again_for_a_while_to_who_asks_for_the_same() {
        let (totals, now) = (Totals::default(), Utc::now());
        totals.keep(of(1), 20_000, now);
        assert_eq!(totals.find(&of(1), now), Some(20_000));
        assert_eq!(totals.find(&of(2), now), None);
        let later = now + KEPT;
        let just_before = later - TimeDelta::milliseconds(1);
        assert_eq!(totals.find(&of(1), just_before), Some(20_000));
        assert_eq!(totals.find(&of(1), later), None);
        let set_back = now - TimeDelta::milliseconds(1);
        assert_eq!(totals.find(&of(1), set_back), None);
    }

    #[test]
    fn only_so_many_are_kept_and_the_old_ones_make_room() {
        let (totals, now) = (Totals::default(), Utc::now());
        for tag in 0..=MOST {
            totals.keep(of(tag), 20_000, now);
        }
        assert_eq!(totals.find(&of(MOST - 1), now), Some(20_000));
        assert_eq!(totals.find(&of(MOST), now), None);
        let later = now + KEPT;
        totals.keep(of(MOST), 20_000, later);
        assert_eq!(totals.find(&of(MOST), later), Some(20_000));
    }
}
