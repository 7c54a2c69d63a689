//! What the numbers advise. Pure: numbers in, sentences out, what stands out most first.

use tasker_shared::wire::{ResourceUtilization, SlowStep};

/// From these on something stands out.
const FAILING: f64 = 0.1;
const SLOW_S: f64 = 1.0;
const UNEVEN: f64 = 10.0;
const WAITING: i64 = 1_000;
const BUSY: f64 = 0.9;

/// What could be done.
pub(super) fn on(steps: &[SlowStep], used: &ResourceUtilization) -> Vec<String> {
    let mut said = Vec::new();
    said.extend(waiting(used));
    said.extend(steps.iter().filter_map(failing));
    said.extend(steps.iter().find_map(slow));
    said.extend(steps.iter().find_map(uneven));
    said
}

fn waiting(used: &ResourceUtilization) -> Vec<String> {
    let now = &used.system_health;
    let mut said = Vec::new();
    match (now.enqueued_steps, now.in_progress_steps) {
        (1.., 0) => said.push(format!(
            "{} ready and none is running: see that workers run which have their handlers and serve their namespaces",
            match now.enqueued_steps {
                1 => "1 step is".to_owned(),
                n => format!("{n} steps are"),
            }
        )),
        (ready, running) if ready > WAITING && ready > 10 * running => said.push(format!(
            "{ready} steps are ready while {running} are running: add workers, or raise worker.concurrency where their machines have time left"
        )),
        _ => {}
    }
    let results =
        now.enqueued_for_orchestration_steps + now.enqueued_as_error_for_orchestration_steps;
    if results > WAITING {
        said.push(format!(
            "{results} results wait to be taken up by a server: add servers, up to 16, or see how long the database takes for them (advance_graphs)"
        ));
    }
    if now.waiting_for_retry_steps > WAITING {
        said.push(format!(
            "{} steps wait to be tried again: what they talk to may be in trouble; see its circuits",
            now.waiting_for_retry_steps
        ));
    }
    if now.blocked_by_failures_tasks > 0 {
        said.push(format!(
            "{} blocked by failures and wait for a person: see the dead letters",
            match now.blocked_by_failures_tasks {
                1 => "1 task is".to_owned(),
                n => format!("{n} tasks are"),
            }
        ));
    }
    if used.database_pool_utilization >= BUSY {
        said.push(format!(
            "{:.0} % of this server's database connections are in use: raise database.max_connections, or add servers",
            used.database_pool_utilization * 100.0
        ));
    }
    said
}

fn failing(step: &SlowStep) -> Option<String> {
    (step.error_rate >= FAILING).then(|| {
        format!(
            "{} failed in {} of {} attempts ({:.0} %): read the errors of its attempts",
            name(step),
            step.error_count,
            step.execution_count,
            step.error_rate * 100.0
        )
    })
}

fn slow(step: &SlowStep) -> Option<String> {
    (step.average_duration_seconds >= SLOW_S).then(|| {
        format!(
            "{} takes {} on average, longer than any other step: what it does decides how long its tasks take",
            name(step),
            seconds(step.average_duration_seconds)
        )
    })
}

fn uneven(step: &SlowStep) -> Option<String> {
    let is_uneven = step.max_duration_seconds >= SLOW_S
        && step.max_duration_seconds >= UNEVEN * step.average_duration_seconds;
    is_uneven.then(|| {
        format!(
            "{} took {} at worst and {} on average: give it a timeout_seconds, so that a stuck attempt is tried again sooner",
            name(step),
            seconds(step.max_duration_seconds),
            seconds(step.average_duration_seconds)
        )
    })
}

fn name(step: &SlowStep) -> String {
    format!(
        "step {} of {}/{} {}",
        step.step_name, step.namespace_name, step.task_name, step.version
    )
}

fn seconds(s: f64) -> String {
    match s {
        0.0..1.0 => format!("{:.0} ms", s * 1000.0),
        _ => format!("{s:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use tasker_shared::wire::SystemHealthCounts;

    use super::*;

    fn step(average: f64, max: f64, errors: i64) -> SlowStep {
        SlowStep {
            namespace_name: "shop".into(),
            task_name: "order".into(),
            version: "1.0.0".into(),
            step_name: "charge".into(),
            average_duration_seconds: average,
            max_duration_seconds: max,
            execution_count: 100,
            error_count: errors,
            error_rate: errors as f64 / 100.0,
            last_executed_at: None,
        }
    }

    fn used(change: impl FnOnce(&mut SystemHealthCounts), pool: f64) -> ResourceUtilization {
        let mut system_health = SystemHealthCounts::default();
        change(&mut system_health);
        ResourceUtilization {
            database_pool_utilization: pool,
            system_health,
        }
    }

    #[test]
    fn nothing_is_advised_where_nothing_stands_out() {
        let quiet = used(|n| (n.enqueued_steps, n.in_progress_steps) = (50, 10), 0.5);
        assert_eq!(on(&[step(0.2, 0.9, 3)], &quiet), Vec::<String>::new());
    }

    #[test]
    fn what_stands_out_is_said_with_its_numbers() {
        let nothing = || used(|_| {}, 0.0);
        let cases = [
            (
                vec![step(0.2, 0.9, 23)],
                nothing(),
                "23 of 100 attempts (23 %)",
            ),
            (
                vec![step(12.34, 20.0, 0)],
                nothing(),
                "takes 12.3 s on average",
            ),
            (
                vec![step(0.05, 4.0, 0)],
                nothing(),
                "took 4.0 s at worst and 50 ms on average",
            ),
            (
                vec![],
                used(|n| n.enqueued_steps = 1, 0.0),
                "1 step is ready",
            ),
            (
                vec![],
                used(
                    |n| (n.enqueued_steps, n.in_progress_steps) = (5_000, 100),
                    0.0,
                ),
                "5000 steps are ready while 100 are running",
            ),
            (
                vec![],
                used(|n| n.enqueued_for_orchestration_steps = 2_000, 0.0),
                "2000 results wait",
            ),
            (
                vec![],
                used(|n| n.waiting_for_retry_steps = 2_000, 0.0),
                "tried again",
            ),
            (
                vec![],
                used(|n| n.blocked_by_failures_tasks = 1, 0.0),
                "1 task is blocked",
            ),
            (vec![], used(|_| {}, 0.95), "95 % of this server's"),
        ];
        for (steps, used, expected) in cases {
            let said = on(&steps, &used);
            assert!(
                said.len() == 1 && said[0].contains(expected),
                "{expected}: {said:?}"
            );
        }
    }
}
