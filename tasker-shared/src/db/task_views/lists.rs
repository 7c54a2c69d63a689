//! Lists of tasks: a page of one, and how many it has.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::types::Json;
use uuid::Uuid;

use self::ways::{Way, asking, estimating};
use super::super::pool::Pool;
use super::super::weekly::Week;
use super::super::{Result, Statement};
use crate::ids;
use crate::state::task::TaskState;

mod ways;

#[cfg(test)]
pub(in crate::db) use ways::STATEMENTS;

/// Which tasks a list has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Those of these templates; `None` for all.
    pub templates: Option<Vec<i32>>,
    /// The state as it is shown.
    pub state: Option<TaskState>,
    pub correlation_id: Option<Uuid>,
    pub tag: Option<String>,
    /// `unknown` finds the tasks that have none.
    pub initiator: Option<String>,
    /// `unknown` finds the tasks that have none.
    pub source_system: Option<String>,
    pub created_after: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
}

impl Filter {
    /// The state that is stored, and the one that is derived from the steps of a task in process.
    fn states(&self) -> (Option<TaskState>, Option<TaskState>) {
        use TaskState as S;
        match self.state {
            Some(
                derived @ (S::StepsInProcess
                | S::WaitingForRetry
                | S::WaitingForDependencies
                | S::EvaluatingResults),
            ) => (Some(S::StepsInProcess), Some(derived)),
            stored => (stored, None),
        }
    }

    /// Whether it says something by a parameter of the statements, as [`bind`] binds them.
    fn says(&self, parameter: u32) -> bool {
        match parameter {
            3 => self.created_after.is_some(),
            4 => self.created_before.is_some(),
            5 => self.tag.is_some(),
            6 => self.initiator.is_some(),
            7 => self.source_system.is_some(),
            8 => self.state.is_some(),
            9 => self.states().1.is_some(),
            10 => self.templates.is_some(),
            11 => self.correlation_id.is_some(),
            _ => false,
        }
    }

    /// The uuids that its tasks before `behind` lie between; the second is the first that is beyond.
    fn bounds(&self, behind: Option<Uuid>) -> (Uuid, Uuid) {
        let from = self.created_after.map_or(Uuid::nil(), ids::lowest_uuid_at);
        let just_after =
            |at: DateTime<Utc>| at.checked_add_signed(chrono::TimeDelta::milliseconds(1));
        let before = self
            .created_before
            .and_then(just_after)
            .map_or(Uuid::max(), ids::lowest_uuid_at);
        (from, behind.map_or(before, |behind| behind.min(before)))
    }
}

/// Tasks of a list are counted up to this many, and estimated beyond.
pub const COUNTED: i64 = 10_000;

/// The tasks of a filter, and by what they are found.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    filter: &'a Filter,
    way: Way,
}

impl<'a> List<'a> {
    /// The list of what `filter` says; finds out how to find it best.
    pub async fn of(pool: &Pool, filter: &'a Filter) -> Result<List<'a>> {
        let way = Way::choose(pool, filter).await?;
        Ok(List { filter, way })
    }

    /// What its tasks have in common.
    pub fn filter(self) -> &'a Filter {
        self.filter
    }

    /// The uuids of its tasks, the newest first: those older than `behind` where that is given, without the first
    /// `skipped`, at most `most`.
    pub async fn page(
        self,
        pool: &Pool,
        behind: Option<Uuid>,
        skipped: i64,
        most: i64,
    ) -> Result<Vec<Uuid>> {
        let (statement, _) = self.way.statements();
        let page = async |since: Option<Week>| {
            let query = bind(&statement, self.filter, since, behind)
                .bind(most.saturating_add(skipped))
                .bind(skipped);
            statement.run(query.fetch_all(pool)).await
        };
        let lately = Week::lately();
        let (from, before) = self.filter.bounds(behind);
        if before > lately.lowest_uuid() {
            let found: Vec<Uuid> = page(Some(lately)).await?;
            let is_full = i64::try_from(found.len()).is_ok_and(|found| found >= most);
            if is_full || from >= lately.lowest_uuid() {
                return Ok(found);
            }
        }
        page(None).await
    }

    /// How many tasks it has, exactly up to [`COUNTED`]; `None` where it has more.
    pub async fn count(self, pool: &Pool) -> Result<Option<i64>> {
        let (_, statement) = self.way.statements();
        let counted = async |since: Option<Week>, before: Option<Uuid>, most: i64| {
            let query = bind(&statement, self.filter, since, before).bind(most);
            statement.run(query.fetch_one(pool)).await
        };
        let lately = Week::lately();
        let (from, before) = self.filter.bounds(None);
        let mut found: i64 = 0;
        if before > lately.lowest_uuid() {
            found = counted(Some(lately), None, COUNTED + 1).await?;
        }
        if found <= COUNTED && from < lately.lowest_uuid() {
            found += counted(None, Some(lately.lowest_uuid()), COUNTED + 1 - found).await?;
        }
        Ok((found <= COUNTED).then_some(found))
    }

    /// How many tasks it may have, as the planner sees it.
    pub async fn estimate(self, pool: &Pool) -> Result<i64> {
        let statement = estimating();
        let query = bind(&statement, self.filter, None, None);
        let plan: Json<serde_json::Value> = statement.run(query.fetch_one(pool)).await?;
        let rows = plan
            .0
            .pointer("/0/Plan/Plan Rows")
            .and_then(serde_json::Value::as_f64);
        // Counts of rows are far below the integers that a float holds exactly.
        Ok(rows.unwrap_or_default() as i64)
    }
}

type Scalar<'q, T> = sqlx::query::QueryScalar<'q, sqlx::Postgres, T, sqlx::postgres::PgArguments>;

/// The statement as `filter` needs it, of tasks of the week `since` and later and before `behind`, with $1 to $11 bound.
fn bind<'q, T: Send + Unpin>(
    statement: &Statement,
    filter: &'q Filter,
    since: Option<Week>,
    behind: Option<Uuid>,
) -> Scalar<'q, T>
where
    (T,): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
{
    let text = asking(statement.sql, |parameter| filter.says(parameter), since);
    let (stored, derived) = filter.states();
    let (from, before) = filter.bounds(behind);
    sqlx::query_scalar(AssertSqlSafe(text))
        .bind(from)
        .bind(before)
        .bind(filter.created_after)
        .bind(filter.created_before)
        .bind(&filter.tag)
        .bind(&filter.initiator)
        .bind(&filter.source_system)
        .bind(stored.map(|state| state as i16))
        .bind(derived.map(|state| state as i16))
        .bind(&filter.templates)
        .bind(filter.correlation_id)
}

#[cfg(test)]
mod tests;
