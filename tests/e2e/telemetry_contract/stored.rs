//! What is counted is what the database holds.

use std::collections::BTreeMap;

use serde_json::json;
use tasker_tests::exposition::{Exposition, whole};
use tasker_tests::{Setup, Stack, until};

use super::{PATIENCE, drive};

/// What a query that groups by a number and counts answers.
async fn count_by(stack: &Stack, sql: &'static str) -> BTreeMap<i16, u64> {
    let rows: Vec<(i16, i64)> = sqlx::query_as(sql).fetch_all(stack.sql()).await.unwrap();
    rows.into_iter()
        .map(|(key, count)| (key, u64::try_from(count).unwrap()))
        .collect()
}

async fn count(stack: &Stack, sql: &'static str) -> u64 {
    let count: i64 = sqlx::query_scalar(sql)
        .fetch_one(stack.sql())
        .await
        .unwrap();
    u64::try_from(count).unwrap()
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
    let tasks = count_by(
        &stack,
        "SELECT state, count(*) FROM tasker.tasks GROUP BY 1",
    )
    .await;
    let attempts = count_by(
        &stack,
        "SELECT outcome, count(*) FROM tasker.attempts GROUP BY 1",
    )
    .await;
    // What a person supplied was no delivery.
    let enqueued = count(
        &stack,
        "SELECT (SELECT count(*) FROM tasker.attempts WHERE outcome <> 8) + (SELECT count(*) FROM tasker.ready)",
    )
    .await;
    let again = count(
        &stack,
        "SELECT count(*) FROM tasker.attempts AS a JOIN tasker.steps AS s USING (task_uuid, step_no)
          WHERE a.outcome IN (1, 3, 4) AND (a.attempt < s.attempt OR s.due_at IS NOT NULL)",
    )
    .await;
    let of = |counts: &BTreeMap<i16, u64>, keys: &[i16]| -> u64 {
        keys.iter()
            .map(|key| counts.get(key).copied().unwrap_or_default())
            .sum()
    };
    eprintln!("tasks by state {tasks:?}; attempts by outcome {attempts:?}");
    // Success, and what counts as an error: retryable, permanent, panic.
    let (good, bad) = (of(&attempts, &[0]), of(&attempts, &[1, 2, 4]));
    let (late, stopped) = (of(&attempts, &[3]), of(&attempts, &[5]));
    let ended = good + bad + late + stopped;
    let by_result = [
        ("success", good),
        ("error", bad),
        ("timeout", late),
        ("cancelled", stopped),
    ];
    let by_state = [
        ("complete", 8),
        ("error", 9),
        ("cancelled", 10),
        ("resolved_manually", 11),
    ];
    let sum = |shown: &[Exposition], name: &str, labels: &[(&str, &str)]| -> u64 {
        shown
            .iter()
            .map(|shown| whole(shown.sum(name, labels)))
            .sum()
    };
    until(PATIENCE, async || {
        let mut servers = Vec::new();
        let mut workers = Vec::new();
        for (kind, process) in stack.processes() {
            let shown = if kind == "server" {
                &mut servers
            } else {
                &mut workers
            };
            shown.push(process.metrics().await);
        }
        let mut compared = vec![
            (
                "requests",
                sum(&servers, "tasker_tasks_requests_total", &[]),
                tasks.values().sum(),
            ),
            (
                "initialised",
                sum(
                    &servers,
                    "tasker_task_initialization_duration_milliseconds_count",
                    &[],
                ),
                tasks.values().sum(),
            ),
            (
                "completions",
                sum(&servers, "tasker_tasks_completions_total", &[]),
                of(&tasks, &[8]),
            ),
            (
                "failures",
                sum(&servers, "tasker_tasks_failures_total", &[]),
                of(&tasks, &[9]),
            ),
            (
                "steps enqueued",
                sum(&servers, "tasker_steps_enqueued_total", &[]),
                enqueued,
            ),
            (
                "steps sent",
                sum(
                    &servers,
                    "tasker_queue_messages_sent_total",
                    &[("queue", "steps")],
                ),
                enqueued,
            ),
            (
                "retries",
                sum(&servers, "tasker_steps_retries_total", &[]),
                again,
            ),
            (
                "successes",
                sum(&workers, "tasker_steps_successes_total", &[]),
                good,
            ),
            (
                "handlers that ran well",
                sum(
                    &workers,
                    "tasker_step_execution_duration_milliseconds_count",
                    &[("result", "success")],
                ),
                good + drive::BAD_RESULTS,
            ),
            (
                "timeouts",
                sum(
                    &workers,
                    "tasker_steps_failures_total",
                    &[("error_type", "timeout")],
                ),
                late,
            ),
            (
                "panics",
                sum(
                    &workers,
                    "tasker_steps_failures_total",
                    &[("error_type", "handler_panic")],
                ),
                of(&attempts, &[4]),
            ),
            (
                "results",
                sum(&workers, "tasker_steps_results_submitted_total", &[]),
                ended,
            ),
            (
                "results sent",
                sum(
                    &workers,
                    "tasker_queue_messages_sent_total",
                    &[("queue", "results")],
                ),
                ended,
            ),
        ];
        let executed = sum(&workers, "tasker_steps_executions_total", &[]);
        compared.extend([
            ("executed", executed, ended),
            (
                "claimed",
                sum(&workers, "tasker_steps_claimed_total", &[]),
                executed,
            ),
            (
                "claimed in batches",
                sum(&workers, "tasker_worker_claim_batch_size_sum", &[]),
                executed,
            ),
            (
                "waited",
                sum(
                    &workers,
                    "tasker_step_queue_wait_duration_milliseconds_count",
                    &[],
                ),
                executed,
            ),
            (
                "received",
                sum(
                    &workers,
                    "tasker_queue_messages_received_total",
                    &[("queue", "steps")],
                ),
                executed,
            ),
        ]);
        for (result, count) in by_result {
            let labels = [("result_type", result)];
            compared.push((
                result,
                sum(&servers, "tasker_step_results_processed_total", &labels),
                count,
            ));
            let took = "tasker_step_result_processing_duration_milliseconds_count";
            compared.push((result, sum(&servers, took, &labels), count));
        }
        for (state, number) in by_state {
            let labels = [("final_state", state)];
            let ended = of(&tasks, &[number]);
            compared.push((
                state,
                sum(&servers, "tasker_task_duration_milliseconds_count", &labels),
                ended,
            ));
            if state != "resolved_manually" {
                let took = "tasker_task_finalization_duration_milliseconds_count";
                compared.push((state, sum(&servers, took, &labels), ended));
            }
        }
        for (state, count) in [
            ("pending", of(&tasks, &[0])),
            ("blocked_by_failures", of(&tasks, &[7])),
            ("waiting_for_retry", 1),
        ] {
            compared.push((
                state,
                sum(&servers, "tasker_tasks_active", &[("state", state)]),
                count,
            ));
        }
        let active = of(&tasks, &[0, 3, 7]);
        compared.push(("active", sum(&servers, "tasker_tasks_active", &[]), active));
        compared.push(("ready", sum(&servers, "tasker_steps_ready", &[]), 0));
        compared.push((
            "running",
            sum(&workers, "tasker_steps_active_executions", &[]),
            0,
        ));
        let wrong: Vec<_> = compared
            .iter()
            .filter(|(_, shown, stored)| shown != stored)
            .collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("shown and stored differ: {wrong:?}"))
        }
    })
    .await;
    let request = json!({"name": "nothing", "namespace": "contract", "context": {}});
    let (status, _) = stack
        .call(reqwest::Method::POST, "/v1/tasks", Some(&request))
        .await;
    assert_eq!(status, 404);
    let shown = stack.server().metrics().await;
    let requests = whole(shown.sum("tasker_tasks_requests_total", &[]));
    assert_eq!(
        requests,
        tasks.values().sum::<u64>(),
        "a template that is not known does not count"
    );
}
