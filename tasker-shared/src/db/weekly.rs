//! Statements on the partition of one week, or on those of the last weeks. Tasks, steps and attempts lie in partitions
//! by the week in which their task was accepted, and a statement on the whole table pays for every partition there is,
//! each time it runs. A task's uuid tells its week, so the statements of a step's way name the partition themselves, and
//! lists say from which week on they look: they cost the same however much history there is.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, Utc};
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

    /// Last week. What most people look at lies there or in this one, so readers look there first.
    pub(super) fn lately() -> Week {
        let this = Week::at(Utc::now()).0;
        Week(this.checked_sub_days(Days::new(7)).unwrap_or(this))
    }

    /// The lowest uuid of its tasks.
    pub(super) fn lowest_uuid(self) -> Uuid {
        ids::lowest_uuid_at(self.0.and_time(NaiveTime::MIN).and_utc())
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

/// The weeks that a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Weeks {
    One(Week),
    Since(Week),
}

/// Texts of statements for weeks, made once and kept: a handful of statements, once a week. A text is known by where
/// it lies.
static TEXTS: LazyLock<Mutex<HashMap<(usize, Weeks), &'static str>>> =
    LazyLock::new(Mutex::default);

impl Statement {
    /// The statement on the partitions of `week`.
    pub(super) fn in_week(&self, week: Week) -> Statement {
        self.made_for(Weeks::One(week), |sql| on_partitions(sql, week))
    }

    /// The statement on tasks of `week` and later, where it has a place for that bound ([`bounded`]). It is written out, so
    /// that the planner sees it: partitions of weeks before are not even locked.
    pub(super) fn since(&self, week: Week) -> Statement {
        self.made_for(Weeks::Since(week), |sql| bounded(sql, week))
    }

    fn made_for(&self, weeks: Weeks, make: impl FnOnce(&str) -> String) -> Statement {
        let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        let sql = texts
            .entry((self.sql.as_ptr().addr(), weeks))
            .or_insert_with(|| String::leak(make(self.sql)));
        Statement { sql, ..*self }
    }
}

/// The text in which each `/*since t*/` says that tasks `t` are of `week` or later. Elsewhere it is a comment.
pub(super) fn bounded(sql: &str, week: Week) -> String {
    let lowest = week.lowest_uuid();
    let mut parts = sql.split("/*since ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (table, rest) = part.split_once("*/").unwrap_or_default();
        text.push_str(&format!("AND {table}.task_uuid >= '{lowest}'::uuid{rest}"));
    }
    text
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
    fn a_statement_since_a_week_says_so_where_it_has_a_place_for_it() {
        let week = Week::at(at("2026-11-21T10:00:00Z"));
        assert_eq!(
            ids::accepted_at(week.lowest_uuid()),
            at("2026-11-16T00:00:00Z")
        );
        let statement = Statement {
            sql: "SELECT FROM tasker.tasks t WHERE t.x = $1 /*since t*/ AND (s.x = $1 /*since s*/) AND x",
            name: "list",
            calls: &[],
        };
        let lowest = "task_uuid >= '01a1e1a7-4c00-0000-0000-000000000000'::uuid";
        assert_eq!(
            statement.since(week).sql,
            format!(
                "SELECT FROM tasker.tasks t WHERE t.x = $1 AND t.{lowest} AND (s.x = $1 AND s.{lowest}) AND x"
            )
        );
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
