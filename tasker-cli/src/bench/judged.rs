//! What is wrong with what was run: lost, made twice, with a wrong result, or too early.

use tasker_shared::db::measure::verdict::Verdict;

/// What is wrong with the tasks of a stretch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) faults: Vec<String>,
}

/// What is wrong with tasks of which so many were to run.
pub(super) fn judge(
    found: &Verdict,
    tasks: u64,
    steps: u64,
    handler_runs: Option<u64>,
    messages_left: i64,
) -> Judged {
    let n = |count: i64| count.unsigned_abs();
    let mut faults = Vec::new();
    let mut say = |count: u64, what: &str| {
        if count > 0 {
            faults.push(format!("{count} {what}"));
        }
    };
    let missing = tasks.saturating_sub(n(found.tasks));
    let surplus = n(found.tasks).saturating_sub(tasks);
    say(missing, "tasks were accepted and are not there");
    say(surplus, "tasks are there that nobody asked for");
    say(n(found.unfinished), "tasks are not complete");
    say(n(found.without_result), "steps have no result");
    say(n(found.wrong_results), "steps have a wrong result");
    say(
        n(found.out_of_order),
        "steps began before a step they depend on had ended",
    );
    say(
        n(found.extra_attempts),
        "attempts were made beyond the one a step needs",
    );
    say(n(messages_left), "messages are left over");
    // Runs whose results did not count leave no trace but this.
    let runs = handler_runs.unwrap_or(steps);
    say(steps.saturating_sub(runs), "handlers were not called");
    say(
        runs.saturating_sub(steps),
        "calls of handlers were one too many",
    );
    Judged {
        lost: missing + n(found.unfinished) + n(found.without_result) + steps.saturating_sub(runs),
        duplicated: surplus + n(found.extra_attempts).max(runs.saturating_sub(steps)),
        faults,
    }
}

impl Judged {
    /// Both together.
    pub(super) fn and(mut self, other: Judged) -> Judged {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.faults.extend(other.faults);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Verdict = Verdict {
        tasks: 10,
        unfinished: 0,
        steps: 40,
        without_result: 0,
        extra_attempts: 0,
        wrong_results: 0,
        out_of_order: 0,
        last_end: None,
    };

    #[test]
    fn whatever_is_missing_wrong_or_too_much_is_a_fault() {
        let well = judge(&GOOD, 10, 40, Some(40), 0);
        assert_eq!(well, Judged::default());
        assert_eq!(judge(&GOOD, 10, 40, None, 0), Judged::default());
        let cases = [
            (
                Verdict { tasks: 9, ..GOOD },
                Some(40),
                0,
                (1, 0),
                "not there",
            ),
            (
                Verdict { tasks: 11, ..GOOD },
                Some(40),
                0,
                (0, 1),
                "nobody asked for",
            ),
            (
                Verdict {
                    unfinished: 2,
                    ..GOOD
                },
                Some(40),
                0,
                (2, 0),
                "not complete",
            ),
            (
                Verdict {
                    without_result: 3,
                    ..GOOD
                },
                Some(40),
                0,
                (3, 0),
                "no result",
            ),
            (
                Verdict {
                    wrong_results: 1,
                    ..GOOD
                },
                Some(40),
                0,
                (0, 0),
                "wrong result",
            ),
            (
                Verdict {
                    out_of_order: 1,
                    ..GOOD
                },
                Some(40),
                0,
                (0, 0),
                "depend on",
            ),
            (
                Verdict {
                    extra_attempts: 1,
                    ..GOOD
                },
                Some(41),
                0,
                (0, 1),
                "beyond the one",
            ),
            (GOOD, Some(39), 0, (1, 0), "not called"),
            (GOOD, Some(42), 0, (0, 2), "too many"),
            (GOOD, Some(40), 5, (0, 0), "left over"),
        ];
        for (verdict, runs, left, (lost, duplicated), words) in cases {
            let judged = judge(&verdict, 10, 40, runs, left);
            assert_eq!(
                (judged.lost, judged.duplicated),
                (lost, duplicated),
                "{words}"
            );
            assert!(
                judged.faults.iter().any(|fault| fault.contains(words)),
                "{:?}",
                judged.faults
            );
        }
    }
}
