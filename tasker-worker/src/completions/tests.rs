use tasker_shared::metrics::resilience::BreakerState;
use tokio::sync::Semaphore;

use super::*;
use crate::testing;

/// A door that lets everything in, for tests of handlers.
pub(crate) fn open_door() -> Completions {
    let (completions, arrivals) = door(&Config::default());
    tokio::spawn(arrivals.run(async || {}));
    completions
}

/// A door for one at a time, which opens its breaker at the second slow completion.
fn narrow() -> (Completions, Arrivals) {
    let mut config = Config::default();
    config.channels.completions = 1;
    config.circuit_breakers.failure_threshold = 2;
    config.circuit_breakers.success_threshold = 1;
    config.circuit_breakers.timeout_seconds = 1;
    config
        .circuit_breakers
        .ffi_completion
        .slow_send_threshold_ms = 1;
    door(&config)
}

fn result(text: &str) -> Ended {
    Ok(Document::parse(text, 100, "test").unwrap())
}

#[tokio::test]
async fn what_is_handed_in_comes_to_whoever_expects_it() {
    let door = open_door();
    let context = testing::context().build();
    let (first, expected) = door.expect(&context);
    let (second, other) = door.expect(&context);
    second.complete(result("2")).await.unwrap();
    first.complete(result("1")).await.unwrap();
    assert_eq!(expected.ended().await.unwrap().as_str(), "1");
    assert_eq!(other.ended().await.unwrap().as_str(), "2");

    let (lost, expected) = door.expect(&context);
    drop(lost);
    let error = expected.ended().await.unwrap_err();
    assert_eq!(
        (error.error_type(), error.is_retryable()),
        ("handler_lost", true)
    );

    let (ticket, gone) = door.expect(&context);
    drop(gone);
    ticket.complete(result("3")).await.unwrap();
}

#[tokio::test]
async fn a_door_that_takes_nothing_opens_its_breaker_and_every_completion_gets_in_when_it_takes_again()
 {
    let (door, arrivals) = narrow();
    let gate = std::sync::Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    tokio::spawn(arrivals.run(async move || opened.acquire().await.unwrap().forget()));
    let context = testing::context().build();
    let hand_in = |number: i32| {
        let (ticket, expected) = door.expect(&context);
        tokio::spawn(async move {
            ticket.complete(result(&number.to_string())).await.unwrap();
            expected.ended().await.unwrap().as_str().to_owned()
        })
    };
    let mut waiting: Vec<_> = (0..3).map(hand_in).collect();
    // One is in the channel; two more were slow.
    while door.breaker.state() != BreakerState::Open {
        tokio::task::yield_now().await;
    }
    waiting.extend((3..8).map(hand_in));
    tokio::task::yield_now().await;
    gate.add_permits(1_000);
    for (number, waiting) in waiting.into_iter().enumerate() {
        assert_eq!(waiting.await.unwrap(), number.to_string());
    }
    assert!(door.breaker.is_closed());
}

#[tokio::test]
async fn a_completion_that_cannot_get_in_is_handed_back_at_the_deadline_or_when_nobody_wants_it() {
    let (door, _arrivals) = narrow();
    let soon = testing::context().deadline(Instant::now() + Duration::from_millis(20));
    let (full, _) = door.expect(&testing::context().build());
    full.complete(result("0")).await.unwrap();
    let (late, expected) = door.expect(&soon.build());
    assert_eq!(late.complete(result("1")).await, Err(HandedBack));
    assert!(expected.ended().await.unwrap_err().is_handed_back());

    let unwanted = CancellationToken::new();
    let context = testing::context().cancellation(unwanted.clone()).build();
    let (ticket, expected) = door.expect(&context);
    unwanted.cancel();
    assert_eq!(ticket.complete(result("2")).await, Err(HandedBack));
    assert!(expected.ended().await.unwrap_err().is_handed_back());
}
