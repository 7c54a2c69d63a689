use super::*;

fn waiting(what: i32, namespace: &str, counted: i64) -> Reading {
    Reading {
        what,
        namespace: Some(namespace.into()),
        counted,
        ..Reading::default()
    }
}

fn number(gauges: &Gauges, state: TaskState) -> u64 {
    let found = gauges.tasks.iter().find(|(s, _)| *s == state);
    found.map(|(_, n)| *n).unwrap_or(u64::MAX)
}

#[test]
fn every_state_that_is_not_final_is_told_and_retries_are_part_of_what_is_in_process() {
    let stored = |part, counted| Reading {
        part,
        counted,
        ..Reading::default()
    };
    let retrying = |counted| Reading {
        what: 1,
        counted,
        ..Reading::default()
    };
    let cases = [
        // stored in process, retrying -> shown in process, shown waiting for a retry
        (10, 4, 6, 4),
        (3, 5, 0, 3),
        (-2, 1, 0, 0),
        (0, 0, 0, 0),
    ];
    for (process, retries, in_process, waiting) in cases {
        let gauges = work_out(&[
            stored(0, 2),
            stored(3, process),
            stored(7, 1),
            retrying(retries),
        ]);
        assert_eq!(gauges.tasks.len(), 8);
        assert_eq!(number(&gauges, TaskState::Pending), 2);
        assert_eq!(number(&gauges, TaskState::StepsInProcess), in_process);
        assert_eq!(number(&gauges, TaskState::WaitingForRetry), waiting);
        assert_eq!(number(&gauges, TaskState::BlockedByFailures), 1);
        assert_eq!(number(&gauges, TaskState::EvaluatingResults), 0);
    }
}

#[test]
fn what_was_not_counted_is_estimated_from_the_ids() {
    let counted = |first, last, newest| {
        estimate(&Reading {
            counted: 1_000,
            first,
            last,
            newest,
            ..Reading::default()
        })
    };
    assert_eq!(counted(None, None, None), 1_000);
    assert_eq!(counted(Some(1), Some(2_001), None), 1_000);
    assert_eq!(counted(Some(1), Some(2_001), Some(2_001)), 1_000);
    assert_eq!(counted(Some(1), Some(2_001), Some(20_001)), 10_000);
    assert_eq!(counted(Some(5), Some(5), Some(9)), 1_000);
}

#[test]
fn the_lanes_and_shards_of_a_namespace_are_one_and_its_oldest_message_counts() {
    let old = |what, namespace, age_s| Reading {
        age_s: Some(age_s),
        ..waiting(what, namespace, 3)
    };
    let gauges = work_out(&[
        waiting(2, "idle", 0),
        old(2, "shop", 1.0),
        old(2, "shop", 4.0),
        old(3, "shop", 2.0),
        old(4, "late", 9.0),
    ]);
    let (idle, late, shop) = (Name::of("idle"), Name::of("late"), Name::of("shop"));
    assert_eq!(gauges.ready, [(idle, 0), (late, 0), (shop, 6)]);
    assert_eq!((gauges.depths.len(), gauges.ages.len()), (9, 9));
    assert!(gauges.depths.contains(&(Queue::Results, shop, 3)));
    assert!(gauges.depths.contains(&(Queue::Results, idle, 0)));
    assert!(gauges.ages.contains(&(Queue::Steps, shop, 4.0)));
    assert!(gauges.ages.contains(&(Queue::Steps, idle, 0.0)));
    assert!(gauges.ages.contains(&(Queue::Requests, late, 9.0)));
}
