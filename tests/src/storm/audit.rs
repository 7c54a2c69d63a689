//! The audit behind a storm: what the database holds against what was accepted, and against what the handlers wrote
//! down themselves.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::load::Acceptances;
use super::runs::Runs;
use super::shapes::{End, Shape};

/// As stored: states of tasks and steps, and outcomes of attempts.
const COMPLETE_TASK: i16 = 8;
const FAILED_TASK: i16 = 9;
const COMPLETE_STEP: i16 = 6;
const FAILED_STEP: i16 = 7;
const SKIPPED_STEP: i16 = 10;
const SUCCESS: i16 = 0;
const RETRYABLE: i16 = 1;
const PERMANENT: i16 = 2;
const LOST: i16 = 6;
const RELEASED: i16 = 7;
/// Of a dead letter: why, and that nobody has dealt with it.
const FAILED_FOR_GOOD: i16 = 1;
const PENDING: i16 = 0;

/// What the audit found.
#[derive(Debug, Default)]
pub struct Audit {
    pub accepted: usize,
    /// Of those, at their end: complete, or in error where they must.
    pub finished: usize,
    /// Attempts whose end counted, once each.
    pub applied: usize,
    /// Handler runs, as they wrote them down.
    pub runs: usize,
    /// Runs of deliveries that were lost with their worker's lease: another delivery of the step counted.
    pub duplicates: usize,
    /// Runs of deliveries that their worker handed back.
    pub handed_back: usize,
    /// Runs of one delivery behind its first: a crash of PostgreSQL had taken its claim back.
    pub claimed_again: usize,
    /// Attempts that were lost with their worker's lease.
    pub lost_leases: usize,
    /// Attempts that their worker handed back.
    pub released: usize,
    /// Tasks that were accepted and are not there, or not at their end; steps of theirs that are not.
    pub lost: usize,
    /// Ends that counted twice: tasks of one key, attempts that ended well, children told of one parent.
    pub applied_twice: usize,
    /// Whatever else is not as it must be, in words.
    pub wrong: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct Task {
    task_uuid: Uuid,
    state: i16,
    idempotency_key: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Step {
    task_uuid: Uuid,
    step_no: i32,
    state: i16,
    waiting_on: i32,
    lost: i32,
}

#[derive(sqlx::FromRow)]
struct Attempt {
    task_uuid: Uuid,
    step_no: i32,
    attempt: i32,
    outcome: i16,
    /// Since when it may have been enqueued: that is not flushed, so a crash may have taken back the first time.
    since: Option<DateTime<Utc>>,
    claimed_at: Option<DateTime<Utc>>,
    sum: Option<i64>,
}

/// Attempts, with when the last of those was claimed of whose results each came.
const ATTEMPTS: &str = "SELECT a.task_uuid, a.step_no, a.attempt, a.outcome, a.claimed_at, (a.result->>'sum')::bigint AS sum,
        coalesce((SELECT max(p.claimed_at) FROM tasker.attempts p
                   WHERE p.task_uuid = a.task_uuid
                     AND CASE WHEN a.attempt = 1 THEN p.step_no = ANY (s.parents) AND p.outcome = 0
                              ELSE p.step_no = a.step_no AND p.attempt = a.attempt - 1 END),
                 a.enqueued_at) AS since
   FROM tasker.attempts a JOIN tasker.tasks t USING (task_uuid) JOIN tasker.template_steps s USING (template_id, step_no)";

impl Attempt {
    /// How often its delivery may have run: once a claim, of which each crash since it may have been enqueued may have
    /// taken one back.
    fn most_runs(&self, crashes: &[DateTime<Utc>]) -> usize {
        let waited = |at: &&DateTime<Utc>| {
            self.since.is_some_and(|since| since < **at)
                && self.claimed_at.is_some_and(|claimed| claimed > **at)
        };
        1 + crashes.iter().filter(waited).count()
    }
}

/// The attempts of a step.
#[derive(Debug, Default)]
struct History {
    well: Vec<Option<i64>>,
    retryable: u32,
    permanent: u32,
    lost: i32,
    others: u32,
    /// Of all its deliveries.
    runs: usize,
    /// Ends that no run stands behind: good ones, and failures.
    well_unseen: usize,
    failed_unseen: usize,
}

/// Judges what is stored in `pool`, and what the runs' files in `directory` say, by what was `accepted`. A delivery
/// that waited when PostgreSQL had one of its `crashes` may have been claimed before, since neither claims are flushed nor
/// what leads to them.
pub(super) async fn audit(
    pool: &PgPool,
    directory: &Path,
    accepted: &Acceptances,
    shapes: &[Shape],
    crashes: &[DateTime<Utc>],
) -> Audit {
    let mut audit = Audit {
        accepted: accepted.len(),
        ..Audit::default()
    };
    let tasks: Vec<Task> =
        sqlx::query_as("SELECT task_uuid, state, idempotency_key FROM tasker.tasks")
            .fetch_all(pool)
            .await
            .unwrap();
    let steps: Vec<Step> =
        sqlx::query_as("SELECT task_uuid, step_no, state, waiting_on, lost FROM tasker.steps")
            .fetch_all(pool)
            .await
            .unwrap();
    let attempts: Vec<Attempt> = sqlx::query_as(ATTEMPTS).fetch_all(pool).await.unwrap();
    let dead: Vec<(Uuid, i16, i16)> =
        sqlx::query_as("SELECT task_uuid, reason, resolution FROM tasker.dead_letters")
            .fetch_all(pool)
            .await
            .unwrap();
    audit.judge_tasks(&tasks, accepted, shapes);
    audit.judge_dead_letters(&dead, accepted, shapes);
    let histories = audit.histories(&attempts, Runs::read(directory), crashes);
    audit.judge_steps(&steps, &histories, accepted, shapes);
    audit.judge_messages(pool).await;
    audit
}

fn fails(shapes: &[Shape], name: &str) -> bool {
    shapes.iter().any(|s| s.name == name && s.ends_in_error())
}

impl Audit {
    fn lose(&mut self, words: String) {
        self.lost += 1;
        self.wrong.push(words);
    }

    fn twice(&mut self, words: String) {
        self.applied_twice += 1;
        self.wrong.push(words);
    }

    /// Each accepted task is there once, at the end that it must come to, and there is no other.
    fn judge_tasks(&mut self, tasks: &[Task], accepted: &Acceptances, shapes: &[Shape]) {
        let mut by_key: HashMap<&str, Vec<&Task>> = HashMap::new();
        for task in tasks {
            let key = task.idempotency_key.as_deref().unwrap_or("");
            by_key.entry(key).or_default().push(task);
            if !accepted.contains_key(key) {
                self.wrong
                    .push(format!("task {} was never asked for", task.task_uuid));
            }
        }
        for (key, wanted) in accepted {
            let found = by_key.get(key.as_str()).map_or(&[][..], Vec::as_slice);
            if found.len() > 1 {
                self.twice(format!("{key} was accepted {} times", found.len()));
            }
            let Some(task) = found.iter().find(|task| task.task_uuid == wanted.task) else {
                self.lose(format!("{key}: task {} is not there", wanted.task));
                continue;
            };
            let end = match fails(shapes, wanted.shape) {
                true => FAILED_TASK,
                false => COMPLETE_TASK,
            };
            match task.state == end {
                true => self.finished += 1,
                false => self.lose(format!(
                    "{key} ({}): task {} is in state {}, not {end}",
                    wanted.shape, task.task_uuid, task.state
                )),
            }
        }
    }

    /// Each task that ended in error has one dead letter, which says why and is pending; no other task has any.
    fn judge_dead_letters(
        &mut self,
        dead: &[(Uuid, i16, i16)],
        accepted: &Acceptances,
        shapes: &[Shape],
    ) {
        let mut by_task: HashMap<Uuid, Vec<(i16, i16)>> = HashMap::new();
        for (task, reason, resolution) in dead {
            by_task
                .entry(*task)
                .or_default()
                .push((*reason, *resolution));
        }
        for (key, wanted) in accepted {
            let found = by_task.remove(&wanted.task).unwrap_or_default();
            let expected = match fails(shapes, wanted.shape) {
                true => vec![(FAILED_FOR_GOOD, PENDING)],
                false => vec![],
            };
            if found != expected {
                self.wrong.push(format!(
                    "{key} ({}): reasons and resolutions of dead letters are {found:?}, not {expected:?}",
                    wanted.shape
                ));
            }
        }
        let of_others = by_task
            .keys()
            .map(|task| format!("a dead letter of {task}, which nobody asked for"));
        self.wrong.extend(of_others);
    }

    /// What the attempts say of each step, by the runs of each delivery: none ran more often than it may have been
    /// claimed, and none ran of which there is no attempt.
    fn histories(
        &mut self,
        attempts: &[Attempt],
        mut runs: Runs,
        crashes: &[DateTime<Utc>],
    ) -> HashMap<(Uuid, i32), History> {
        self.runs = runs.count();
        let mut histories: HashMap<(Uuid, i32), History> = HashMap::new();
        for attempt in attempts {
            let (task, step_no) = (attempt.task_uuid, attempt.step_no);
            let ran = runs.take(task, step_no, attempt.attempt);
            if ran > attempt.most_runs(crashes) {
                let delivery = attempt.attempt;
                let words =
                    format!("step {step_no} of {task}, delivery {delivery} ran {ran} times");
                self.wrong.push(words);
            }
            self.claimed_again += ran.saturating_sub(1);
            let history = histories.entry((task, step_no)).or_default();
            history.runs += ran;
            let (ran, unseen) = (ran.min(1), usize::from(ran == 0));
            match attempt.outcome {
                SUCCESS => {
                    history.well.push(attempt.sum);
                    history.well_unseen += unseen;
                }
                RETRYABLE | PERMANENT => {
                    let is_retryable = u32::from(attempt.outcome == RETRYABLE);
                    history.retryable += is_retryable;
                    history.permanent += 1 - is_retryable;
                    history.failed_unseen += unseen;
                }
                LOST => {
                    history.lost += 1;
                    self.lost_leases += 1;
                    self.duplicates += ran;
                }
                RELEASED => {
                    self.released += 1;
                    self.handed_back += ran;
                }
                _ => history.others += 1,
            }
            let counted = matches!(attempt.outcome, SUCCESS | RETRYABLE | PERMANENT);
            self.applied += usize::from(counted);
        }
        let left = runs
            .steps()
            .map(|(task, step)| format!("step {step} of {task} ran, and there is no such attempt"));
        self.wrong.extend(left);
        histories
    }

    /// Each step of each accepted task ended as it must, once, and told its children once.
    fn judge_steps(
        &mut self,
        steps: &[Step],
        histories: &HashMap<(Uuid, i32), History>,
        accepted: &Acceptances,
        shapes: &[Shape],
    ) {
        let rows: HashMap<(Uuid, i32), &Step> = steps
            .iter()
            .map(|s| ((s.task_uuid, s.step_no), s))
            .collect();
        let by_name: BTreeMap<&str, &Shape> = shapes.iter().map(|s| (s.name, s)).collect();
        let nothing = History::default();
        for (key, wanted) in accepted {
            let shape = by_name[wanted.shape];
            let ends = shape.ends(wanted.n);
            // Behind the last stands the nameless join, where it has something to count.
            let join = (shape.leaves() > 1).then_some(None);
            for (step_no, end) in (1..).zip(ends.iter().map(Some).chain(join)) {
                let place = format!(
                    "{key} ({}), step {step_no} of {}",
                    wanted.shape, wanted.task
                );
                let Some(row) = rows.get(&(wanted.task, step_no)) else {
                    self.lose(format!("{place} is not there"));
                    continue;
                };
                match row.waiting_on {
                    0 => {}
                    told @ ..0 => self.twice(format!("{place} was told {} ends too many", -told)),
                    open => self.lose(format!("{place} waits for {open} more parents")),
                }
                let history = histories.get(&(wanted.task, step_no)).unwrap_or(&nothing);
                if let Some(end) = end {
                    self.judge_step(&place, row, history, *end);
                }
            }
        }
    }

    fn judge_step(&mut self, place: &str, row: &Step, history: &History, end: End) {
        if history.well.len() > 1 {
            self.twice(format!("{place} ended well {} times", history.well.len()));
        }
        let (state, well, retryable, permanent) = match end {
            End::Well { sum, fails } => (COMPLETE_STEP, vec![Some(sum)], fails, 0),
            // As often as it was tried before its target's circuit opened.
            End::Called { sum } => (COMPLETE_STEP, vec![Some(sum)], history.retryable, 0),
            End::Error => (FAILED_STEP, vec![], 0, 1),
            End::Skipped => (SKIPPED_STEP, vec![], 0, 0),
        };
        if row.state != state {
            self.lose(format!("{place} is in state {}, not {state}", row.state));
        }
        let found = (
            &history.well,
            history.retryable,
            history.permanent,
            history.others,
        );
        let expected = (&well, retryable, permanent, 0);
        if found != expected {
            self.wrong.push(format!(
                "{place}: results, retryable, permanent and other ends are {found:?}, not {expected:?}"
            ));
        }
        // What never reached a target that was away left no trace there.
        let is_call = matches!(end, End::Called { .. });
        if history.well_unseen > 0 || history.failed_unseen > 0 && !is_call {
            self.wrong.push(format!(
                "{place}: no runs stand behind {} results and {} failures",
                history.well_unseen, history.failed_unseen
            ));
        }
        if end == End::Skipped && history.runs > 0 {
            self.wrong
                .push(format!("{place} ran {} times, and must not", history.runs));
        }
        if row.lost != history.lost {
            self.wrong.push(format!(
                "{place}: {} of {} losses counted",
                row.lost, history.lost
            ));
        }
    }

    /// Nothing waits for anybody, and the counts of tasks agree with the tasks.
    async fn judge_messages(&mut self, pool: &PgPool) {
        let left: Vec<(String, i64)> = sqlx::query_as(
            "SELECT 'messages in ready', count(*) FROM tasker.ready UNION ALL
             SELECT 'messages in results', count(*) FROM tasker.results UNION ALL
             SELECT 'messages in delayed', count(*) FROM tasker.delayed UNION ALL
             SELECT 'requests', count(*) FROM tasker.requests UNION ALL
             SELECT 'by which the count of tasks in state ' || state || ' is off', sum(n)::bigint
               FROM (SELECT state, change AS n FROM tasker.task_counts WHERE state IN (0, 3, 7)
                     UNION ALL SELECT state, -1 FROM tasker.tasks WHERE state IN (0, 3, 7)) AS c GROUP BY state",
        )
        .fetch_all(pool)
        .await
        .unwrap();
        for (what, count) in left.into_iter().filter(|(_, count)| *count != 0) {
            self.wrong.push(format!("{count} {what}"));
        }
    }
}
