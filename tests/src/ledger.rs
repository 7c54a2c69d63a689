//! What the database says about many tasks at once: the tables themselves, where asking the API for each would
//! take too long or would not show what happened on the way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Stack;

const POLL: Duration = Duration::from_millis(50);

/// States as they are stored.
const COMPLETE_TASK: i16 = 8;
const COMPLETE_STEP: i16 = 6;
/// Outcomes of attempts as they are stored.
const SUCCESS: i16 = 0;
const LOST: i16 = 6;
const RELEASED: i16 = 7;

/// All that is stored of one template's tasks, counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Tasks by state.
    pub tasks: BTreeMap<i16, i64>,
    /// Steps by state, without the nameless join behind the leaves.
    pub steps: BTreeMap<i16, i64>,
    /// Attempts by outcome.
    pub attempts: BTreeMap<i16, i64>,
    /// Steps that do not have exactly one successful attempt.
    pub not_once: i64,
    /// Messages of whatever task that wait for somebody.
    pub messages: i64,
}

impl Ledger {
    /// Every one of `tasks` is complete, with each of its `steps` run once and not once more.
    pub fn assert_each_once(&self, tasks: i64, steps: i64) {
        assert_eq!(*self, Self::complete(tasks, steps), "each step once");
    }

    /// The same, but attempts may besides have been lost with their worker. Answers how many were.
    pub fn assert_each_once_but_lost(&self, tasks: i64, steps: i64) -> i64 {
        self.assert_but(&[LOST], tasks, steps)
    }

    /// The same, but attempts may besides have been lost with their worker, or handed back by one that never heard of its
    /// claim. Answers how many were lost.
    pub fn assert_each_once_but_lost_or_unheard(&self, tasks: i64, steps: i64) -> i64 {
        self.assert_but(&[LOST, RELEASED], tasks, steps);
        self.attempts.get(&LOST).copied().unwrap_or_default()
    }

    /// The same, but attempts may besides have been handed back by their worker. Answers how many were.
    pub fn assert_each_once_but_released(&self, tasks: i64, steps: i64) -> i64 {
        self.assert_but(&[RELEASED], tasks, steps)
    }

    fn assert_but(&self, outcomes: &[i16], tasks: i64, steps: i64) -> i64 {
        let mut expected = Self::complete(tasks, steps);
        let extra = self.attempts.iter().filter(|(o, _)| outcomes.contains(o));
        let extra: BTreeMap<i16, i64> = extra.map(|(o, n)| (*o, *n)).collect();
        expected.attempts.extend(&extra);
        assert_eq!(*self, expected, "each step once but for {outcomes:?}");
        extra.values().sum()
    }

    fn complete(tasks: i64, steps: i64) -> Self {
        Self {
            tasks: BTreeMap::from([(COMPLETE_TASK, tasks)]),
            steps: BTreeMap::from([(COMPLETE_STEP, tasks * steps)]),
            attempts: BTreeMap::from([(SUCCESS, tasks * steps)]),
            not_once: 0,
            messages: 0,
        }
    }
}

impl Stack {
    /// Counts what is stored of a template's tasks.
    pub async fn ledger(&self, template: &str) -> Ledger {
        let by = |sql: &'static str| async move {
            let rows: Vec<(i16, i64)> = sqlx::query_as(sql)
                .bind(template)
                .fetch_all(self.sql())
                .await
                .unwrap();
            rows.into_iter().collect::<BTreeMap<_, _>>()
        };
        Ledger {
            tasks: by("SELECT k.state, count(*) FROM tasker.tasks AS k JOIN tasker.templates AS t USING (template_id)
                        WHERE t.name = $1 GROUP BY 1")
            .await,
            steps: by("SELECT s.state, count(*) FROM tasker.steps AS s JOIN tasker.tasks USING (task_uuid)
                         JOIN tasker.templates AS t USING (template_id)
                        WHERE t.name = $1 AND s.step_no <= t.step_count GROUP BY 1")
            .await,
            attempts: by("SELECT a.outcome, count(*) FROM tasker.attempts AS a JOIN tasker.tasks USING (task_uuid)
                            JOIN tasker.templates AS t USING (template_id)
                           WHERE t.name = $1 GROUP BY 1")
            .await,
            not_once: self
                .count(
                    "SELECT count(*) FROM tasker.steps AS s JOIN tasker.tasks USING (task_uuid)
                       JOIN tasker.templates AS t USING (template_id)
                      WHERE t.name = $1 AND s.step_no <= t.step_count
                        AND 1 <> (SELECT count(*) FROM tasker.attempts AS a
                                   WHERE a.task_uuid = s.task_uuid AND a.step_no = s.step_no AND a.outcome = 0)",
                    template,
                )
                .await,
            messages: self
                .count(
                    "SELECT (SELECT count(*) FROM tasker.ready) + (SELECT count(*) FROM tasker.results)
                          + (SELECT count(*) FROM tasker.delayed) + (SELECT count(*) FROM tasker.requests)
                      WHERE $1 <> ''",
                    template,
                )
                .await,
        }
    }

    /// What a counting query with one text for a parameter answers.
    pub async fn count(&self, sql: &'static str, parameter: &str) -> i64 {
        sqlx::query_scalar(sql)
            .bind(parameter)
            .fetch_one(self.sql())
            .await
            .unwrap()
    }

    /// Asks until the answer is as wished; a database that is away is waited for too.
    pub async fn wait_count(
        &self,
        what: &str,
        sql: &'static str,
        patience: Duration,
        wished: impl Fn(i64) -> bool,
    ) -> i64 {
        let until = Instant::now() + patience;
        let mut last = String::from("no answer");
        while Instant::now() < until {
            match sqlx::query_scalar(sql).fetch_one(self.sql()).await {
                Ok(count) if wished(count) => return count,
                Ok(count) => last = count.to_string(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(POLL).await;
        }
        let stored = self.stored().await;
        panic!("after {patience:?} still not {what}: {last}\n{stored}");
    }

    /// What lies in the tables, in short, for a failure's message.
    async fn stored(&self) -> String {
        let stored = sqlx::query_scalar(
            "SELECT json_build_object(
                'tasks by state', (SELECT json_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM tasker.tasks GROUP BY 1) AS t),
                'steps by state', (SELECT json_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM tasker.steps GROUP BY 1) AS s),
                'requests', (SELECT count(*) FROM tasker.requests),
                'ready', (SELECT json_agg(r) FROM (SELECT * FROM tasker.ready LIMIT 3) AS r),
                'results', (SELECT json_agg(r) FROM (SELECT * FROM tasker.results LIMIT 3) AS r),
                'delayed', (SELECT json_agg(r) FROM (SELECT * FROM tasker.delayed LIMIT 3) AS r),
                'workers', (SELECT json_agg(w) FROM tasker.workers AS w),
                'shards by owner', (SELECT json_object_agg(coalesce(owner::text, ''), n) FROM (SELECT owner, count(*) AS n FROM tasker.shards GROUP BY 1) AS s)
             )::text",
        );
        let stored: Result<String, _> = stored.fetch_one(self.sql()).await;
        stored.unwrap_or_else(|error| error.to_string())
    }

    /// Waits until no task is left that has not come to rest.
    pub async fn wait_all_at_rest(&self, patience: Duration) {
        self.wait_count(
            "all tasks at rest",
            "SELECT (SELECT count(*) FROM tasker.tasks WHERE state NOT BETWEEN 7 AND 11)
                  + (SELECT count(*) FROM tasker.requests)",
            patience,
            |busy| busy == 0,
        )
        .await;
    }

    /// Waits until so many attempts have ended.
    pub async fn wait_attempts(&self, least: i64, patience: Duration) {
        self.wait_count(
            "far enough",
            "SELECT count(*) FROM tasker.attempts",
            patience,
            |ended| ended >= least,
        )
        .await;
    }

    /// The attempts of a step, newest first.
    pub async fn audit(&self, step: &Value) -> Vec<Value> {
        let text = |key: &str| step[key].as_str().unwrap().to_owned();
        let path = format!(
            "/v1/tasks/{}/workflow_steps/{}/audit",
            text("task_uuid"),
            text("step_uuid")
        );
        self.get(&path).await.as_array().unwrap().clone()
    }

    /// How a step's attempts ended, the first first.
    pub async fn outcomes(&self, step: &Value) -> Vec<String> {
        let audit = self.audit(step).await;
        let outcomes = audit.iter().rev();
        outcomes
            .map(|attempt| attempt["outcome"].as_str().unwrap().to_owned())
            .collect()
    }
}
