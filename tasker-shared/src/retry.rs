//! How long a failed step waits before its next attempt. Pure: the caller brings the random number and the clock.

use crate::template::{Backoff, Retry};
use std::time::Duration;

/// The longest wait a handler may ask for; keeps a broken `Retry-After` from parking a step for ever.
pub const MAX_REQUESTED_DELAY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The spread jitter adds: from this much below the full delay to this much above it.
const JITTER_SPREAD: f64 = 0.25;

/// The wait before the next attempt after `failures` failed ones (at least 1).
///
/// `jitter` is a uniform random number in `0..=1` and spreads the delay over 0.75 to 1.25 of it, never above
/// `max_backoff_ms`. `requested` is what the handler asked for (`Retry-After`): it wins where it is longer, up to
/// [`MAX_REQUESTED_DELAY`], and is not held to `max_backoff_ms`.
#[must_use]
pub fn delay(retry: &Retry, failures: u32, jitter: f64, requested: Option<Duration>) -> Duration {
    let full_ms = full_delay_ms(retry, failures);
    let spread = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.5
    };
    let factor = 1.0 - JITTER_SPREAD + 2.0 * JITTER_SPREAD * spread;
    // Float to integer casts saturate, and the cap brings the value back into range.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let jittered_ms = (full_ms as f64 * factor).round() as u64;
    let own = Duration::from_millis(jittered_ms.min(retry.max_backoff_ms));
    requested.map_or(own, |asked| own.max(asked.min(MAX_REQUESTED_DELAY)))
}

/// The delay without jitter, already capped.
fn full_delay_ms(retry: &Retry, failures: u32) -> u64 {
    let failures = failures.max(1);
    let multiple = match retry.backoff {
        Backoff::None => 0,
        Backoff::Linear => u64::from(failures),
        Backoff::Exponential => 2_u64.saturating_pow(failures - 1),
        Backoff::Fibonacci => fibonacci(failures),
    };
    retry
        .backoff_base_ms
        .saturating_mul(multiple)
        .min(retry.max_backoff_ms)
}

/// 1, 1, 2, 3, 5, … for n from 1.
fn fibonacci(n: u32) -> u64 {
    let (mut current, mut next) = (1_u64, 1_u64);
    for _ in 1..n {
        if next == u64::MAX {
            return u64::MAX;
        }
        (current, next) = (next, current.saturating_add(next));
    }
    current
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: f64 = 0.5;

    fn retry(backoff: Backoff, backoff_base_ms: u64, max_backoff_ms: u64) -> Retry {
        Retry {
            backoff,
            backoff_base_ms,
            max_backoff_ms,
            ..Retry::default()
        }
    }

    #[test]
    fn each_backoff_grows_by_its_own_rule_up_to_the_cap() {
        let cases: [(Backoff, [u64; 7]); 4] = [
            (Backoff::None, [0; 7]),
            (Backoff::Linear, [100, 200, 300, 400, 500, 600, 700]),
            (
                Backoff::Exponential,
                [100, 200, 400, 800, 1_000, 1_000, 1_000],
            ),
            (Backoff::Fibonacci, [100, 100, 200, 300, 500, 800, 1_000]),
        ];
        for (backoff, expected) in cases {
            let retry = retry(backoff, 100, 1_000);
            for (failures, expected_ms) in (1..).zip(expected) {
                assert_eq!(
                    delay(&retry, failures, MIDDLE, None),
                    Duration::from_millis(expected_ms),
                    "{backoff:?} after {failures}"
                );
            }
        }
    }

    #[test]
    fn jitter_spreads_a_quarter_each_way_but_never_above_the_cap() {
        let cases = [
            (1_000, 0.0, 75),
            (1_000, 0.5, 100),
            (1_000, 1.0, 125),
            (110, 1.0, 110),
            (1_000, -7.0, 75),
            (1_000, 7.0, 125),
            (1_000, f64::NAN, 100),
        ];
        for (cap_ms, jitter, expected_ms) in cases {
            let retry = retry(Backoff::Linear, 100, cap_ms);
            assert_eq!(
                delay(&retry, 1, jitter, None),
                Duration::from_millis(expected_ms),
                "jitter {jitter} under {cap_ms}"
            );
        }
    }

    #[test]
    fn what_the_handler_asked_for_wins_where_it_is_longer() {
        let retry = retry(Backoff::Linear, 100, 1_000);
        let cases = [
            (Duration::ZERO, Duration::from_millis(100)),
            (Duration::from_millis(99), Duration::from_millis(100)),
            (Duration::from_secs(60), Duration::from_secs(60)),
            (Duration::MAX, MAX_REQUESTED_DELAY),
        ];
        for (asked, expected) in cases {
            assert_eq!(delay(&retry, 1, MIDDLE, Some(asked)), expected, "{asked:?}");
        }
    }

    #[test]
    fn no_count_of_failures_or_base_overflows() {
        for backoff in [
            Backoff::None,
            Backoff::Linear,
            Backoff::Exponential,
            Backoff::Fibonacci,
        ] {
            for failures in [0, 1, 63, 64, 65, 93, 94, 1_000, u32::MAX] {
                for (base, cap) in [(1, 5), (u64::MAX, 5), (u64::MAX, u64::MAX), (0, 5)] {
                    let wait = delay(&retry(backoff, base, cap), failures, 1.0, None);
                    assert!(
                        wait <= Duration::from_millis(cap),
                        "{backoff:?} {failures} {base}"
                    );
                }
            }
        }
    }
}
