//! Every metric of the contract is recorded as it says, by processes that are driven through their public interfaces
//! alone, and counts what the database holds.

mod drive;
mod faults;
mod judge;
mod stored;

use std::time::Duration;

use tasker_tests::otlp::Receiver;
use tasker_tests::{Stack, until};

use judge::Judge;

const PATIENCE: Duration = Duration::from_secs(60);

/// Metrics that one of the processes they are declared for has no occasion to record, with the reason.
const NO_OCCASION: &[(&str, &str, &str)] = &[(
    "server",
    "tasker_queue_retry_attempts_total",
    DELIVERED_ONCE,
)];
const DELIVERED_ONCE: &str =
    "what servers receive is gone with the transaction that works on it, or was not received";

/// Values that labels have no occasion to have, with the reason.
const NO_VALUE: &[(&str, &str, &[&str], &str)] = &[
    (
        "tasker_queue_message_send_duration_milliseconds",
        "queue",
        &["requests"],
        "they are sent in users' own transactions",
    ),
    (
        "tasker_queue_retry_attempts_total",
        "queue",
        &["requests", "results"],
        DELIVERED_ONCE,
    ),
    (
        "tasker_queue_visibility_timeouts_total",
        "queue",
        &["requests", "results"],
        "only steps are leased",
    ),
    (
        "tasker_step_results_processed_total",
        "result_type",
        &["skipped"],
        SKIPPED,
    ),
    (
        "tasker_step_result_processing_duration_milliseconds",
        "result_type",
        &["skipped"],
        SKIPPED,
    ),
    (
        "tasker_steps_active_executions",
        "handler_type",
        &["python", "ruby", "typescript"],
        "there are no workers in these languages yet",
    ),
    (
        "tasker_steps_failures_total",
        "error_type",
        &[
            "handler_not_found",
            "message_deletion_failed",
            "step_not_found",
        ],
        "a worker claims only what it has handlers for, and hands in and deletes in one statement",
    ),
];
const SKIPPED: &str = "a step that is skipped has no worker, so no result";

#[tokio::test]
async fn every_metric_of_the_contract_is_recorded_as_it_says() {
    let receiver = Receiver::start().await;
    let mut judge = Judge::default();
    let mut stack = drive::setup(&receiver.endpoint()).start().await;
    drive::fine(&stack).await;
    drive::failing(&mut stack).await;
    drive::by_hand(&stack).await;
    drive::giving_up(&stack).await;
    judge.look(&stack).await;
    faults::crowded(&mut stack, &mut judge).await;
    faults::losing_workers(&mut stack, &mut judge).await;
    faults::losing_a_template(&mut stack, &mut judge).await;
    faults::losing_the_database(&mut stack, &mut judge).await;
    judge.look(&stack).await;
    assert_sent_what_is_shown(&stack, &receiver).await;
    judge.hear(&receiver);
    drop(stack);

    // Without notifications, claims are all the timer's.
    let stack = drive::setup(&receiver.endpoint())
        .configure("database.listen", false)
        .start()
        .await;
    drive::fine(&stack).await;
    judge.look(&stack).await;
    judge.hear(&receiver);
    judge.judge();
}

/// The export says the same as `/metrics`, once what is recorded has come to rest.
async fn assert_sent_what_is_shown(stack: &Stack, receiver: &Receiver) {
    let moving = [
        "tasker.sql.",
        "tasker.db.",
        "tasker.queue.",
        "telemetry.",
        "tasker.worker.",
    ];
    let metrics = tasker_tests::contract::metrics();
    let at_rest = metrics.iter().filter(|metric| {
        metric.kind != "gauge" && !moving.iter().any(|start| metric.otel.starts_with(start))
    });
    let at_rest: Vec<_> = at_rest.collect();
    until(PATIENCE, async || {
        let latest = receiver.latest();
        for (kind, process) in stack.processes().filter(|(_, process)| process.is_alive()) {
            let shown = process.metrics().await;
            for metric in at_rest.iter().filter(|metric| metric.is_of(kind)) {
                let pid = process.pid().to_string();
                let points = latest.values().filter(|point| {
                    point.metric == metric.otel && point.resource["process.pid"] == pid
                });
                let sent: f64 = points.map(|point| point.reading.count()).sum();
                let shown = shown.sum(&metric.counted(), &[]);
                if sent != shown {
                    return Err(format!(
                        "{} of {kind}: {sent} sent, {shown} shown",
                        metric.otel
                    ));
                }
            }
        }
        Ok(())
    })
    .await;
}
