// Tests take turns from beginning to end.
#![allow(
    clippy::await_holding_lock,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::cell::{Cell, RefCell};

use super::super::stop;
use super::*;
use crate::telemetry::tests::{Counted, alone, recording};

/// What may wait.
const QUEUE: usize = 4_096;

const TIMEOUT: Duration = Duration::from_secs(10);

impl<T> Waiting<T> {
    /// What waits now.
    pub(in super::super) fn take(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.receiver.try_recv()).collect()
    }
}

fn faults() -> Faults {
    Faults::new("http://nowhere")
}

#[test]
fn what_does_not_fit_is_not_made_and_counts_as_dropped() {
    let _alone = alone();
    recording();
    let counted = Counted::now();
    let door = Door::new();
    let made = Cell::new(0);
    let push = |n| door.push(|| made.replace(made.get() + 1) + n);
    push(0);
    assert_eq!(made.get(), 0, "a closed door makes nothing");
    let mut waiting = door.open(Signal::Traces, QUEUE);
    for _ in 0..QUEUE + 10 {
        push(0);
    }
    assert_eq!(made.get(), QUEUE);
    assert_eq!(counted.dropped(Signal::Traces), 10);
    assert_eq!(waiting.take(), (0..QUEUE).collect::<Vec<_>>());
    drop(waiting);
    push(0);
    assert_eq!(counted.dropped(Signal::Traces), 11);
    door.close();
    push(0);
    assert_eq!(counted.dropped(Signal::Traces), 11);
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_when_it_is_full_or_a_second_old() {
    let door = Door::new();
    let waiting = door.open(Signal::Traces, QUEUE);
    let (stopper, stop) = stop::pair();
    let start = Instant::now();
    let sent = RefCell::new(Vec::new());
    let take = async |batch: Vec<usize>| {
        sent.borrow_mut().push((start.elapsed(), batch.len()));
        Ok::<(), String>(())
    };
    let push = async {
        (0..BATCH * 2 + 3).for_each(|n| door.push(|| n));
        tokio::time::sleep(LINGER * 3).await;
        door.push(|| 0);
        tokio::time::sleep(LINGER / 2).await;
        door.push(|| 1);
        stopper.end(Instant::now() + TIMEOUT);
    };
    let faults = faults();
    tokio::join!(waiting.export(take, TIMEOUT, &faults, &stop), push);
    let expected = [
        (Duration::ZERO, BATCH),
        (Duration::ZERO, BATCH),
        (LINGER, 3),
        (LINGER * 3 + LINGER / 2, 2),
    ];
    let sent = sent.into_inner();
    assert_eq!(sent.len(), expected.len(), "{sent:?}");
    for ((at, size), (expected_at, expected_size)) in sent.iter().zip(expected) {
        assert_eq!(*size, expected_size, "{sent:?}");
        assert!(
            at.abs_diff(expected_at) < Duration::from_millis(10),
            "{sent:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_is_given_up_and_the_next_one_waits() {
    let _alone = alone();
    recording();
    let counted = Counted::now();
    let door = Door::new();
    let waiting = door.open(Signal::Logs, QUEUE);
    let (stopper, stop) = stop::pair();
    let calls = RefCell::new(Vec::new());
    let refuse = async |batch: Vec<usize>| {
        calls.borrow_mut().push(Instant::now());
        // Refused, unanswered, taken.
        let call = calls.borrow().len();
        match call {
            1 => return Err("no".to_owned()),
            2 => std::future::pending().await,
            _ => drop(batch),
        }
        Ok(())
    };
    let push = async {
        (0..BATCH * 3).for_each(|n| door.push(|| n));
        tokio::time::sleep(Duration::from_secs(60)).await;
        stopper.end(Instant::now());
    };
    let faults = faults();
    tokio::join!(waiting.export(refuse, TIMEOUT, &faults, &stop), push);
    let calls = calls.into_inner();
    let pauses: Vec<Duration> = calls.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(pauses.len(), 2);
    assert!(pauses[0] >= Duration::from_millis(500) && pauses[0] <= Duration::from_millis(1_002));
    assert!(
        pauses[1] >= TIMEOUT + Duration::from_secs(1)
            && pauses[1] <= TIMEOUT + Duration::from_millis(2_005)
    );
    assert_eq!(counted.failed(Signal::Logs), 2);
    assert_eq!(counted.dropped(Signal::Logs), 2 * BATCH as u64);
    assert_eq!(counted.exported(Signal::Logs), BATCH as u64);
}

#[tokio::test(start_paused = true)]
async fn the_end_takes_what_is_left_along_but_no_longer_than_told() {
    let _alone = alone();
    recording();
    for (answers, exported) in [(true, 2 * BATCH as u64 + 3), (false, 0)] {
        let counted = Counted::now();
        let door = Door::new();
        let waiting = door.open(Signal::Traces, QUEUE);
        let (stopper, stop) = stop::pair();
        (0..BATCH * 2 + 3).for_each(|n| door.push(|| n));
        let start = Instant::now();
        stopper.end(start + Duration::from_secs(2));
        let export = async |_: Vec<usize>| {
            if !answers {
                std::future::pending::<()>().await;
            }
            Ok::<(), String>(())
        };
        waiting.export(export, TIMEOUT, &faults(), &stop).await;
        assert!(start.elapsed() <= Duration::from_millis(2_010));
        assert_eq!(counted.exported(Signal::Traces), exported);
        let dropped = 2 * BATCH as u64 + 3 - exported;
        assert_eq!(counted.dropped(Signal::Traces), dropped);
        // The door is still there; nobody stands behind it.
        door.push(|| 0);
        assert_eq!(counted.dropped(Signal::Traces), dropped + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_export_ends_with_whoever_would_stop_it() {
    let door: Door<usize> = Door::new();
    let waiting = door.open(Signal::Traces, QUEUE);
    let (stopper, stop) = stop::pair();
    drop(stopper);
    let take = async |_: Vec<usize>| Ok::<(), String>(());
    waiting.export(take, TIMEOUT, &faults(), &stop).await;
}
