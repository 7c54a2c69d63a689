//! Statements on the partition of one week. Tasks, steps and attempts lie in partitions by the week in which their
//! task was accepted, and a statement on the whole table pays for every partition there is, each time it runs.
//! A task's uuid tells its week, so the statements of a step's way name the partition themselves: they cost the
//! same however much history there is.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use uuid::Uuid;

use super::{Result, Statement};
use crate::ids;

/// A week by its Monday, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Week(NaiveDate);

impl Week {
    /// The week that `at` lies in.
    pub(super) fn at(at: DateTime<Utc>) -> Week {
        let day = at.date_naive();
        let since_monday = u64::from(day.weekday().num_days_from_monday());
        Week(day.checked_sub_days(Days::new(since_monday)).unwrap_or(day))
    }

    /// The week in which a task was accepted.
    pub(super) fn of(task_uuid: Uuid) -> Week {
        Week::at(ids::accepted_at(task_uuid))
    }

    /// Whether a statement failed because the week has no partitions (any more).
    pub(super) fn is_missing<T>(self, result: &Result<T>) -> bool {
        matches!(result, Err(error) if error.is_missing(&self.part("")))
    }

    /// The name of its part of a table.
    pub(super) fn part(self, table: &str) -> String {
        format!("{table}{}", self.0.format("_%Y%m%d"))
    }
}

/// The tables that have partitions.
const TABLES: [&str; 3] = ["tasker.tasks", "tasker.steps", "tasker.attempts"];

/// Texts of statements for a week, made once and kept: a handful of statements, once a week. A text is known by where
/// it lies.
static TEXTS: LazyLock<Mutex<HashMap<(usize, Week), &'static str>>> = LazyLock::new(Mutex::default);

impl Statement {
    /// The statement on the partitions of `week`.
    pub(super) fn in_week(&self, week: Week) -> Statement {
        let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        let sql = texts
            .entry((self.sql.as_ptr().addr(), week))
            .or_insert_with(|| String::leak(on_partitions(self.sql, week)));
        Statement { sql, ..*self }
    }
}

/// The text with the names of a week's partitions for those of the tables.
fn on_partitions(sql: &str, week: Week) -> String {
    let suffix = week.part("");
    let mut text = String::with_capacity(sql.len() + 100);
    let mut rest = sql;
    while let Some((at, table)) = TABLES
        .iter()
        .filter_map(|table| Some((rest.find(table)?, *table)))
        .min()
    {
        let end = at + table.len();
        text.push_str(&rest[..end]);
        rest = &rest[end..];
        if !rest.starts_with(|next: char| next == '_' || next.is_ascii_alphanumeric()) {
            text.push_str(&suffix);
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap_or_default()
    }

    #[test]
    fn a_task_lies_in_the_week_it_was_accepted_in() {
        let monday = Week(NaiveDate::from_ymd_opt(2026, 11, 16).unwrap_or_default());
        for time in [
            "2026-11-16T00:00:00Z",
            "2026-11-18T12:00:00Z",
            "2026-11-22T23:59:59.999Z",
        ] {
            assert_eq!(Week::of(ids::new_task_uuid(at(time))), monday, "{time}");
        }
        for time in ["2026-11-15T23:59:59.999Z", "2026-11-23T00:00:00Z"] {
            assert_ne!(Week::of(ids::new_task_uuid(at(time))), monday, "{time}");
        }
    }

    #[test]
    fn only_the_partitioned_tables_get_another_name() {
        let week = Week::at(at("2026-11-21T10:00:00Z"));
        let sql = "UPDATE tasker.steps s FROM tasker.task_counts, tasker.tasks t, tasker.tasks_old, tasker.ready, (tasker.attempts)";
        assert_eq!(
            on_partitions(sql, week),
            "UPDATE tasker.steps_20261116 s FROM tasker.task_counts, tasker.tasks_20261116 t, tasker.tasks_old, tasker.ready, (tasker.attempts_20261116)"
        );
    }
}
