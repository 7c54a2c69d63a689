//! The statements that list tasks and that count them, and which of them serves a filter best.

use uuid::Uuid;

use super::Filter;
use crate::db::pool::Pool;
use crate::db::weekly::{self, Week};
use crate::db::{Result, Statement, statements};
use crate::state::task::TaskState;

/// What `Filter` says of a task `t` but for its bounds, by the parameters that `super::bind` binds; [`asking`] leaves out
/// what it does not say. The state of a task in process is derived as `wire::status::task_state` does.
macro_rules! said {
    () => {
        "/*$3*/AND t.created_at > $3/*.*/
         /*$4*/AND t.created_at < $4/*.*/
         /*$5*/AND $5 = ANY (t.tags)/*.*/
         /*$6*/AND coalesce(t.initiator, 'unknown') = $6/*.*/
         /*$7*/AND coalesce(t.source_system, 'unknown') = $7/*.*/
         /*$8*/AND t.state = $8/*.*/
         /*$9*/AND $9::int2 = (
             SELECT CASE WHEN bool_or(s.state = 1) THEN 3 WHEN bool_or(s.state = 5) THEN 6 WHEN bool_or(s.state = 0) THEN 5 ELSE 4 END
               FROM tasker.steps s JOIN tasker.templates d ON s.step_no <= d.step_count
              WHERE s.task_uuid = t.task_uuid AND d.template_id = t.template_id)/*.*/
         /*$10*/AND t.template_id = ANY ($10)/*.*/
         /*$11*/AND t.correlation_id = $11/*.*/"
    };
}

/// The same through the index that serves a filter best, as one list, newest first: $10 the templates. No list needs
/// more of one template than its page and what is before it ($12). What has not ended is counted, and when as many are
/// found nothing older is looked at. Weeks that are over have an index of what did not complete, which a statement only
/// meets that says `state <> 8`; all weeks have one of what is `unwell`.
///
/// Where another index than that of the uuids is to be read, the bounds are written so that they are none of the latter:
/// the planner takes two bounds it does not know for narrow ones, and would go through all tasks between them. The index
/// of tags has no order, so it is read before anything is ordered (`OFFSET 0`).
macro_rules! listed {
    (all) => {
        concat!("SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_uuid >= $1::uuid /*since t*/ AND t.task_uuid < $2::uuid ", said!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8")
    };
    (of_templates) => {
        concat!("SELECT l.task_uuid FROM unnest($10::int4[]) AS w(template_id),
                 LATERAL (SELECT t.task_uuid FROM tasker.tasks t
                           WHERE t.template_id = w.template_id AND (t.template_id, t.task_uuid) >= (w.template_id, $1::uuid) /*since t*/
                             AND (t.template_id, t.task_uuid) < (w.template_id, $2::uuid) ", said!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8) l ORDER BY l.task_uuid DESC LIMIT $12::int8")
    };
    (of_initiator) => {
        concat!("SELECT t.task_uuid FROM tasker.tasks t
                  WHERE t.initiator = $6 AND (t.initiator, t.task_uuid) >= ($6, $1::uuid) /*since t*/
                    AND (t.initiator, t.task_uuid) < ($6, $2::uuid) ", said!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8")
    };
    (of_tag) => {
        concat!("SELECT l.task_uuid FROM (
                     SELECT t.task_uuid FROM tasker.tasks t
                      WHERE t.tags @> ARRAY[$5::text] AND t.tags <> '{}' AND (t.task_uuid >= $1::uuid) IS TRUE /*since t*/
                        AND (t.task_uuid < $2::uuid) IS TRUE ", said!(),
                "     OFFSET 0) l
                  ORDER BY l.task_uuid DESC LIMIT $12::int8")
    };
    (in_process) => {
        concat!("SELECT t.task_uuid FROM (
                     SELECT t.* FROM tasker.tasks t
                      WHERE t.state = $8 AND t.state <> 8 AND t.task_uuid >= $1::uuid /*since t*/ AND t.task_uuid < $2::uuid
                      ORDER BY t.task_uuid DESC
                      LIMIT (SELECT greatest(coalesce(sum(c.change), 0), 0) FROM tasker.task_counts c WHERE c.state = $8)) t
                  WHERE true ", said!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8")
    };
    (unwell) => {
        concat!("SELECT t.task_uuid FROM tasker.tasks t
                  WHERE t.unwell AND t.task_uuid >= $1::uuid /*since t*/ AND t.task_uuid < $2::uuid ", said!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8")
    };
}

/// A page of it: what is before it ($13) left out.
macro_rules! paged {
    ($list:ident) => {
        concat!(
            "SELECT p.task_uuid FROM (",
            listed!($list),
            ") p ORDER BY p.task_uuid DESC OFFSET $13::int8"
        )
    };
}

statements! {
    LIST_ALL, "list_tasks" = paged!(all);
    LIST_OF_TEMPLATES, "list_tasks_of_templates" = paged!(of_templates);
    COUNT_ALL, "count_tasks" = concat!("SELECT count(*) FROM (", listed!(all), ") c");
    COUNT_OF_TEMPLATES, "count_tasks_of_templates" = concat!("SELECT count(*) FROM (", listed!(of_templates), ") c");
    ESTIMATE, "estimate_tasks" =
        concat!("EXPLAIN (FORMAT JSON) SELECT 1 FROM tasker.tasks t WHERE t.task_uuid >= $1::uuid AND t.task_uuid < $2::uuid ", said!());
    LIST_INITIATOR, "list_tasks_of_initiator" = paged!(of_initiator);
    COUNT_INITIATOR, "count_tasks_of_initiator" = concat!("SELECT count(*) FROM (", listed!(of_initiator), ") c");
    LIST_TAG, "list_tasks_of_tag" = paged!(of_tag);
    COUNT_TAG, "count_tasks_of_tag" = concat!("SELECT count(*) FROM (", listed!(of_tag), ") c");
    LIST_IN_PROCESS, "list_tasks_in_process" = paged!(in_process);
    COUNT_IN_PROCESS, "count_tasks_in_process" = concat!("SELECT count(*) FROM (", listed!(in_process), ") c");
    LIST_UNWELL, "list_tasks_unwell" = paged!(unwell);
    COUNT_UNWELL, "count_tasks_unwell" = concat!("SELECT count(*) FROM (", listed!(unwell), ") c");
    TAGGED, "count_lately_tagged" =
        "SELECT count(*) FILTER (WHERE $2 = ANY (l.tags))
           FROM (SELECT t.tags FROM tasker.tasks t WHERE t.task_uuid >= $1::uuid /*since t*/ ORDER BY t.task_uuid DESC LIMIT 2000) l";
}

/// By what a list is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Correlation,
    Initiator,
    Tag,
    Unwell,
    InProcess,
    Templates,
    All,
}

/// Of the tasks that came last, how many have a tag that is found faster by looking at one after the other.
const COMMON: i64 = 100;

impl Way {
    /// The best for `filter`, as far as that can be said without knowing the data.
    pub(super) fn of(filter: &Filter) -> Way {
        let is_named = |name: &Option<String>| name.as_ref().is_some_and(|name| name != "unknown");
        match filter {
            f if f.correlation_id.is_some() => Way::Correlation,
            f if is_named(&f.initiator) => Way::Initiator,
            f if f.tag.is_some() => Way::Tag,
            f if f.state.is_some_and(TaskState::is_unwell) => Way::Unwell,
            f if f.state.is_some_and(|state| !state.is_final()) => Way::InProcess,
            f if f.templates.is_some() => Way::Templates,
            _ => Way::All,
        }
    }

    /// The best for `filter`: what many tasks have is found by no index.
    pub(super) async fn choose(pool: &Pool, filter: &Filter) -> Result<Way> {
        let way = Way::of(filter);
        if way != Way::Tag {
            return Ok(way);
        }
        let statement = TAGGED.since(Week::lately());
        let query = sqlx::query_scalar::<_, i64>(statement.sql)
            .bind(Uuid::nil())
            .bind(&filter.tag);
        let tagged = statement.run(query.fetch_one(pool)).await?;
        let is_common = tagged >= COMMON;
        Ok(if is_common {
            Way::of(&Filter {
                tag: None,
                ..filter.clone()
            })
        } else {
            way
        })
    }

    /// The statements that list and that count, by the parameters that `super::bind` binds.
    pub(super) fn statements(self) -> (Statement, Statement) {
        match self {
            Way::Initiator => (LIST_INITIATOR, COUNT_INITIATOR),
            Way::Tag => (LIST_TAG, COUNT_TAG),
            Way::Unwell => (LIST_UNWELL, COUNT_UNWELL),
            Way::InProcess => (LIST_IN_PROCESS, COUNT_IN_PROCESS),
            Way::Templates => (LIST_OF_TEMPLATES, COUNT_OF_TEMPLATES),
            Way::Correlation | Way::All => (LIST_ALL, COUNT_ALL),
        }
    }
}

/// The statement that estimates how many tasks a list has.
pub(super) fn estimating() -> Statement {
    ESTIMATE
}

/// The text for a list that says something by the parameters `said` alone, of tasks of the week `since` and later where
/// that is given. PostgreSQL plans what is left out, too, and for each partition: the whole text of a list that is found
/// by its state took 35 ms to plan on 54 partitions and 3.7 ms to begin, without what it does not say 10 ms and 0.8 ms.
pub(super) fn asking(sql: &str, said: impl Fn(u32) -> bool, since: Option<Week>) -> String {
    let mut parts = sql.split("/*$");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (number, rest) = part.split_once("*/").unwrap_or_default();
        let (condition, rest) = rest.split_once("/*.*/").unwrap_or_default();
        if number.parse().is_ok_and(&said) {
            text.push_str(condition);
        }
        text.push_str(rest);
    }
    match since {
        Some(week) => weekly::bounded(&text, week),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_asks_for_what_is_said_alone() {
        let sql = "SELECT FROM tasker.tasks t WHERE t.task_uuid >= $1::uuid /*since t*//*$3*/ AND a = $3/*.*//*$10*/ AND b = $10/*.*/ LIMIT $12";
        assert_eq!(
            asking(sql, |_| false, None),
            "SELECT FROM tasker.tasks t WHERE t.task_uuid >= $1::uuid /*since t*/ LIMIT $12"
        );
        assert_eq!(
            asking(sql, |parameter| parameter == 10, None),
            "SELECT FROM tasker.tasks t WHERE t.task_uuid >= $1::uuid /*since t*/ AND b = $10 LIMIT $12"
        );
        let week = Week::lately();
        let bounded = asking(sql, |parameter| parameter == 3, Some(week));
        let bound = format!("t.task_uuid >= '{}'::uuid", week.lowest_uuid());
        assert!(
            bounded.contains(&bound) && bounded.contains("a = $3 LIMIT"),
            "{bounded}"
        );
        let list = asking(LIST_ALL.sql, |_| false, None);
        assert!(!list.contains("/*$"), "{list}");
    }
}
