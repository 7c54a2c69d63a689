//! What the age of history means, and what keeps it.

use super::Finding;
use crate::doctor::look::History;

const CHECK: &str = "history";
const MEND: &str = "docs/operations/retention.md says what to do for each";

pub(in crate::doctor) fn history(history: &History) -> Finding {
    let Some(oldest) = history.oldest else {
        return Finding::warn(
            CHECK,
            "there is no partition for any week",
            "start a server: it makes them",
        );
    };
    let mut held: Vec<String> = history
        .held
        .iter()
        .map(|(week, hold)| {
            let example = hold.task_uuid.map(|task| format!(", {task} among them"));
            format!(
                "the week of {week} is kept by {} {}{}",
                hold.count,
                hold.what,
                example.unwrap_or_default()
            )
        })
        .collect();
    if !held.is_empty() && history.unseen > 0 {
        held.push(format!(
            "{} more weeks are old enough to go and were not looked into",
            history.unseen
        ));
    }
    if history.leaving > 0 || !held.is_empty() {
        held.extend(history.holders.iter().map(|holder| {
            let age = holder.age_s.map(|age| format!(" for {age:.0} s"));
            format!(
                "{} may be in the way{}: {}",
                holder.what,
                age.unwrap_or_default(),
                holder.who
            )
        }));
    }
    if history.leaving > 0 {
        held.push(format!(
            "{} being taken away, which is not done yet",
            match history.leaving {
                1 => "1 week is".to_owned(),
                n => format!("{n} weeks are"),
            }
        ));
    }
    held.extend(history.archive.iter().map(|fault| {
        format!(
            "{fault} (a server that cannot use it does not start; this was looked at from here)"
        )
    }));
    match (held.is_empty(), history.keep_days) {
        (true, Some(days)) => Finding::ok(
            CHECK,
            format!("since the week of {oldest}; kept for {days} days"),
        ),
        (true, None) => Finding::ok(
            CHECK,
            format!("since the week of {oldest}; all is kept (retention.keep_days)"),
        ),
        (false, _) => Finding::warn(CHECK, held.join("; "), MEND),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::NaiveDate;
    use tasker_shared::db::partitions::{Hold, Holder};

    use super::*;
    use crate::doctor::Status;

    #[test]
    fn what_keeps_old_weeks_is_named_and_what_is_in_the_way_of_those_that_go() {
        let week = NaiveDate::from_ymd_opt(2026, 3, 2);
        let quiet = History {
            oldest: week,
            keep_days: Some(90),
            ..History::default()
        };
        assert_eq!(
            history(&quiet).message,
            "since the week of 2026-03-02; kept for 90 days"
        );
        assert_eq!(history(&History::default()).status, Status::Warn);
        let held = History {
            held: vec![(
                week.unwrap(),
                Hold {
                    what: "tasks that have not ended".into(),
                    count: 3,
                    task_uuid: None,
                },
            )],
            leaving: 1,
            holders: vec![Holder {
                what: "a transaction".into(),
                who: "process 7 psql idle".into(),
                age_s: Some(4_000.2),
            }],
            unseen: 2,
            archive: Some("the archive is away".into()),
            ..quiet
        };
        let found = history(&held);
        assert_eq!(found.status, Status::Warn);
        assert_eq!(
            found.message,
            "the week of 2026-03-02 is kept by 3 tasks that have not ended; 2 more weeks are old enough to go and were not looked into; \
             a transaction may be in the way for 4000 s: process 7 psql idle; 1 week is being taken away, which is not done yet; \
             the archive is away (a server that cannot use it does not start; this was looked at from here)"
        );
    }
}
