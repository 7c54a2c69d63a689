//! The keys of what protects a process: circuit breakers and back-pressure.

use std::fmt;
use std::ops::RangeInclusive;

use super::MIB;
use crate::config::setting::{Reader, Rule};

/// A range for keys that need no value.
struct Within<T>(RangeInclusive<T>);

impl<T: PartialOrd + fmt::Display> Rule<Option<T>> for Within<T> {
    fn check(&self, value: &Option<T>) -> Result<(), String> {
        value.as_ref().map_or(Ok(()), |value| self.0.check(value))
    }

    fn describe(&self) -> String {
        Rule::<T>::describe(&self.0)
    }
}

/// The keys of one breaker, with what they are over the defaults.
macro_rules! breaker {
    ($(#[doc = $doc:literal])+ $name:ident at $path:literal { $($more:tt)* }) => {
        section! {
            $(#[doc = $doc])+
            $name at $path {
                /// As `circuit_breakers.enabled`, for this one.
                enabled: Option<bool> = None, ();
                /// As `circuit_breakers.failure_threshold`, for this one.
                failure_threshold: Option<u32> = None, Within(1..=10_000);
                /// As `circuit_breakers.timeout_seconds`, for this one.
                timeout_seconds: Option<u32> = None, Within(1..=3_600);
                /// As `circuit_breakers.success_threshold`, for this one.
                success_threshold: Option<u32> = None, Within(1..=1_000);
                $($more)*
            }
        }
        impl $name {
            /// What is in force for it where `defaults` are those of all.
            fn over(&self, defaults: &CircuitBreakers) -> BreakerKeys {
                BreakerKeys {
                    enabled: self.enabled.unwrap_or(defaults.enabled),
                    failure_threshold: self.failure_threshold.unwrap_or(defaults.failure_threshold),
                    timeout_seconds: self.timeout_seconds.unwrap_or(defaults.timeout_seconds),
                    success_threshold: self.success_threshold.unwrap_or(defaults.success_threshold),
                }
            }
        }
    };
}

section! {
    /// Circuit breakers: after failures in a row a process stops asking for a while of what does not answer. Results
    /// handed in, heartbeats and health are never held back by one.
    CircuitBreakers at "circuit_breakers" {
        /// Whether breakers ever open.
        enabled: bool = true, ();
        /// Failures in a row that open a breaker.
        failure_threshold: u32 = 5, 1..=10_000;
        /// How long an open breaker holds everything back before it lets one call through to see.
        timeout_seconds: u32 = 2, 1..=3_600;
        /// Successes in a row that close it.
        success_threshold: u32 = 2, 1..=1_000;
    }
    with {
        /// The API's way to the database.
        web: CircuitBreakersWeb;
        /// The way of results to the graphs that they move on.
        task_readiness: CircuitBreakersTaskReadiness;
        /// Queues.
        pgmq: CircuitBreakersPgmq;
        /// Completions from outside the process.
        ffi_completion: CircuitBreakersFfiCompletion;
    }
}

breaker! {
    /// The API's way to the database: while it is open, requests that need the database are answered 503 at once.
    CircuitBreakersWeb at "circuit_breakers.web" {}
}

breaker! {
    /// A server's processing of results: while it is open, passes are skipped.
    CircuitBreakersTaskReadiness at "circuit_breakers.task_readiness" {}
}

breaker! {
    /// The queues: while it is open, a server takes no submissions from SQL, wakes nothing that is due and rescues
    /// nothing, and a worker claims nothing.
    CircuitBreakersPgmq at "circuit_breakers.pgmq" {}
}

breaker! {
    /// The door by which handlers outside a worker's process hand in how they ended (`command`). A completion that
    /// takes too long to get in counts as a failure; while the breaker is open, completions wait on their lease.
    CircuitBreakersFfiCompletion at "circuit_breakers.ffi_completion" {
        /// How long a completion may take to get in.
        slow_send_threshold_ms: u64 = 100, 1..=60_000;
    }
}

/// What is in force for one breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerKeys {
    pub enabled: bool,
    pub failure_threshold: u32,
    pub timeout_seconds: u32,
    pub success_threshold: u32,
}

impl CircuitBreakers {
    /// What is in force for `web`.
    #[must_use]
    pub fn web(&self) -> BreakerKeys {
        self.web.over(self)
    }

    /// What is in force for `task_readiness`.
    #[must_use]
    pub fn task_readiness(&self) -> BreakerKeys {
        self.task_readiness.over(self)
    }

    /// What is in force for `pgmq`.
    #[must_use]
    pub fn pgmq(&self) -> BreakerKeys {
        self.pgmq.over(self)
    }

    /// What is in force for `ffi_completion`.
    #[must_use]
    pub fn ffi_completion(&self) -> BreakerKeys {
        self.ffi_completion.over(self)
    }
}

section! {
    /// When a server refuses submissions, with 503 and the time after which to try again: it stores nothing then that
    /// it could not get done. Everything else is answered all the same.
    Backpressure at "backpressure" {
        /// Whether submissions are refused at all before a channel is full.
        enabled: bool = true, ();
        /// How full the channel of submissions may be, in percent.
        channel_percent: u32 = 90, 1..=100;
        /// How large the bodies may be together of submissions that are read or wait to be stored; one is taken however large it is.
        submission_bytes: usize = 128 * MIB, 1_024..=64 * 1_024 * MIB;
        /// How much of the general pool may be in use, in percent, over about a second.
        pool_percent: u32 = 95, 1..=100;
        /// How long the oldest submission by SQL may have waited for a server.
        oldest_request_seconds: u32 = 30, 1..=86_400;
        /// Steps that may wait for workers, or run, in the whole cluster; no bound where absent. They are counted up to so many, once a second.
        max_queue_depth: Option<u32> = None, Within(1..=1_000_000);
    }
}
