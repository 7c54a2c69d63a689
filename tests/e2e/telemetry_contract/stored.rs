//! What is counted is what the database holds.

use std::collections::BTreeMap;

use serde_json::json;
use tasker_tests::exposition::whole;
use tasker_tests::{Setup, Stack, until};

use super::{PATIENCE, drive};

/// A number that processes show together: whose, its name, and a label that it has.
type Shown = (
    &'static str,
    &'static str,
    Option<(&'static str, &'static str)>,
);

/// Rows of the database, counted.
struct Stored {
    tasks: BTreeMap<i16, u64>,
    attempts: BTreeMap<i16, u64>,
    enqueued: u64,
    /// Failed attempts that were scheduled to run again.
    again: u64,
}

impl Stored {
    async fn read(stack: &Stack) -> Self {
        let by = async |sql: &'static str| {
            let rows: Vec<(i16, i64)> = sqlx::query_as(sql).fetch_all(stack.sql()).await.unwrap();
            let rows = rows.into_iter();
            rows.map(|(key, count)| (key, u64::try_from(count).unwrap()))
                .collect()
        };
        let count = async |sql: &'static str| {
            let count: i64 = sqlx::query_scalar(sql)
                .fetch_one(stack.sql())
                .await
                .unwrap();
            u64::try_from(count).unwrap()
        };
        Self {
            tasks: by("SELECT state, count(*) FROM tasker.tasks GROUP BY 1").await,
            attempts: by("SELECT outcome, count(*) FROM tasker.attempts GROUP BY 1").await,
            // What a person supplied was no delivery.
            enqueued: count(
                "SELECT (SELECT count(*) FROM tasker.attempts WHERE outcome <> 8) + (SELECT count(*) FROM tasker.ready)",
            )
            .await,
            again: count(
                "SELECT count(*) FROM tasker.attempts AS a JOIN tasker.steps AS s USING (task_uuid, step_no)
                  WHERE a.outcome IN (1, 3, 4) AND (a.attempt < s.attempt OR s.due_at IS NOT NULL)",
            )
            .await,
        }
    }

    fn tasks(&self, states: &[i16]) -> u64 {
        states
            .iter()
            .filter_map(|state| self.tasks.get(state))
            .sum()
    }

    fn attempts(&self, outcomes: &[i16]) -> u64 {
        outcomes
            .iter()
            .filter_map(|outcome| self.attempts.get(outcome))
            .sum()
    }

    /// What has to be shown of the tasks.
    fn of_tasks(&self) -> Vec<(Shown, u64)> {
        const ENDED: &str = "tasker_task_duration_milliseconds_count";
        const FINALIZED: &str = "tasker_task_finalization_duration_milliseconds_count";
        const INITIALIZED: &str = "tasker_task_initialization_duration_milliseconds_count";
        const ACTIVE: &str = "tasker_tasks_active";
        let all = self.tasks.values().sum();
        let mut shown = vec![
            (("server", "tasker_tasks_requests_total", None), all),
            (("server", INITIALIZED, None), all),
            (
                ("server", "tasker_tasks_completions_total", None),
                self.tasks(&[8]),
            ),
            (
                ("server", "tasker_tasks_failures_total", None),
                self.tasks(&[9]),
            ),
            (
                ("server", ENDED, Some(("final_state", "resolved_manually"))),
                self.tasks(&[11]),
            ),
            (("server", ACTIVE, None), self.tasks(&[0, 3, 7])),
            (
                ("server", ACTIVE, Some(("state", "pending"))),
                self.tasks(&[0]),
            ),
            (
                ("server", ACTIVE, Some(("state", "blocked_by_failures"))),
                self.tasks(&[7]),
            ),
            // All that have begun and are not at rest wait for a retry.
            (
                ("server", ACTIVE, Some(("state", "waiting_for_retry"))),
                self.tasks(&[3]),
            ),
        ];
        for (state, number) in [("complete", 8), ("error", 9), ("cancelled", 10)] {
            for name in [ENDED, FINALIZED] {
                let state = Some(("final_state", state));
                shown.push((("server", name, state), self.tasks(&[number])));
            }
        }
        shown
    }

    /// What has to be shown of the steps.
    fn of_steps(&self) -> Vec<(Shown, u64)> {
        const RAN: &str = "tasker_step_execution_duration_milliseconds_count";
        const FAILED: &str = "tasker_steps_failures_total";
        const PROCESSED: &str = "tasker_step_results_processed_total";
        const PROCESSING: &str = "tasker_step_result_processing_duration_milliseconds_count";
        const SUBMISSION: &str = "tasker_step_result_submission_duration_milliseconds_count";
        const SENT: &str = "tasker_queue_messages_sent_total";
        const WAITED: &str = "tasker_step_queue_wait_duration_milliseconds_count";
        let good = self.attempts(&[0]);
        // Every attempt but what a person supplied.
        let all = self.attempts(&[0, 1, 2, 3, 4, 5]);
        let mut shown = vec![
            (
                ("server", "tasker_steps_enqueued_total", None),
                self.enqueued,
            ),
            (("server", SENT, Some(("queue", "steps"))), self.enqueued),
            (("server", "tasker_steps_retries_total", None), self.again),
            (("server", "tasker_steps_ready", None), 0),
            (("worker", "tasker_steps_claimed_total", None), all),
            (("worker", "tasker_worker_claim_batch_size_sum", None), all),
            (
                (
                    "worker",
                    "tasker_queue_messages_received_total",
                    Some(("queue", "steps")),
                ),
                all,
            ),
            (("worker", WAITED, None), all),
            (("worker", "tasker_steps_executions_total", None), all),
            (("worker", "tasker_steps_active_executions", None), 0),
            (("worker", "tasker_steps_successes_total", None), good),
            (("worker", RAN, None), all),
            (
                ("worker", RAN, Some(("result", "success"))),
                good + drive::BAD_RESULTS,
            ),
            (("worker", FAILED, None), all - good),
            (
                ("worker", "tasker_steps_results_submitted_total", None),
                all,
            ),
            (("worker", SUBMISSION, None), all),
            (("worker", SENT, Some(("queue", "results"))), all),
        ];
        for (error, outcome) in [("timeout", 3), ("handler_panic", 4), ("cancelled", 5)] {
            let error = Some(("error_type", error));
            shown.push((("worker", FAILED, error), self.attempts(&[outcome])));
        }
        let results: [(_, &[i16]); 4] = [
            ("success", &[0]),
            ("error", &[1, 2, 4]),
            ("timeout", &[3]),
            ("cancelled", &[5]),
        ];
        for (result, outcomes) in results {
            for name in [PROCESSED, PROCESSING] {
                let result = Some(("result_type", result));
                shown.push((("server", name, result), self.attempts(outcomes)));
            }
        }
        shown
    }
}

/// What all processes of a kind show together.
async fn sum(stack: &Stack, (kind, name, label): Shown) -> u64 {
    let mut sum = 0;
    for (_, process) in stack.processes().filter(|(of, _)| *of == kind) {
        let labels: Vec<_> = label.into_iter().collect();
        sum += whole(process.metrics().await.sum(name, &labels));
    }
    sum
}

#[tokio::test]
async fn counters_are_what_the_database_holds() {
    let mut stack = Setup {
        templates: drive::templates(),
        ..drive::limits()
    }
    .start()
    .await;
    drive::fine(&stack).await;
    drive::failing(&mut stack).await;
    drive::by_hand(&stack).await;
    let stored = Stored::read(&stack).await;
    for states in [[8], [9], [10], [11], [0], [3], [7]] {
        assert!(stored.tasks(&states) > 0, "a task in state {states:?}");
    }
    for outcome in [[0], [1], [2], [3], [4], [5]] {
        assert!(
            stored.attempts(&outcome) > 0,
            "an attempt of outcome {outcome:?}"
        );
    }
    for (shown, count) in [stored.of_tasks(), stored.of_steps()].concat() {
        until(PATIENCE, async || match sum(&stack, shown).await {
            found if found == count => Ok(()),
            found => Err(format!("{shown:?} is {found} and not {count}")),
        })
        .await;
    }
    let unknown = json!({"name": "nothing", "namespace": "contract", "context": {}});
    let post = reqwest::Method::POST;
    let (status, _) = stack.call(post, "/v1/tasks", Some(&unknown)).await;
    assert_eq!(status, 404);
    let requests = sum(&stack, ("server", "tasker_tasks_requests_total", None)).await;
    let tasks: u64 = stored.tasks.values().sum();
    assert_eq!(requests, tasks, "only what names a known template counts");
}
