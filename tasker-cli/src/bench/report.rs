//! What a run has found: one JSON object for programs, a table for people.

mod table;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use tasker_shared::machine::Machine;

use super::disk::{Flush, NOISY_US};
use super::quantiles::Quantiles;

pub(super) use table::{milliseconds, whole};

/// Everything found. What does not apply to the scenario, or cannot be known here, is null.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) version: &'static str,
    /// Whether the program was built with optimisation.
    pub(super) optimised: bool,
    pub(super) machine: Machine,
    pub(super) postgres: Postgres,
    pub(super) scenario: Scenario,
    pub(super) steps_per_s: Option<f64>,
    pub(super) tasks_per_s: Option<f64>,
    /// Request to final.
    pub(super) latency_ms: Option<Quantiles>,
    /// Request to the call of the first handler.
    pub(super) start_ms: Option<Quantiles>,
    pub(super) per_step: Option<PerStep>,
    pub(super) cpu_s: Option<Share<f64>>,
    pub(super) rss_bytes: Option<Share<u64>>,
    pub(super) dead_tuples: Option<i64>,
    pub(super) fdatasync_us: Option<Flushes>,
    /// Whether the disk is too slow for latency to mean anything.
    pub(super) noisy: Option<bool>,
    /// Tasks and steps that did not come to their end.
    pub(super) lost: u64,
    /// Attempts and calls of handlers beyond those needed.
    pub(super) duplicated: u64,
    /// What is wrong, in words; empty where all is well.
    pub(crate) faults: Vec<String>,
    /// What only this scenario finds.
    pub(super) findings: Map<String, Value>,
    /// The same for people: label and text.
    #[serde(skip)]
    pub(super) lines: Vec<(&'static str, String)>,
}

#[derive(Debug, Serialize)]
pub(super) struct Postgres {
    pub(super) version: String,
    pub(super) embedded: bool,
    pub(super) settings: BTreeMap<String, String>,
}

/// What was run, with everything that may be chosen.
#[derive(Debug, Serialize)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    #[serde(flatten)]
    pub(super) parameters: Map<String, Value>,
}

/// What a step has cost, acceptance of its task included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct PerStep {
    pub(super) statements: Option<f64>,
    pub(super) commits: f64,
    pub(super) wal_bytes: f64,
    pub(super) row_writes: f64,
}

/// Of each process; workers and PostgreSQL's processes together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Share<T> {
    pub(super) server: Option<T>,
    pub(super) worker: Option<T>,
    pub(super) postgres: Option<T>,
    pub(super) client: Option<T>,
}

/// How long flushes take: the worse of before and after, and both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Flushes {
    #[serde(flatten)]
    pub(super) worst: Flush,
    pub(super) before: Flush,
    pub(super) after: Flush,
}

impl Flushes {
    pub(super) fn is_noisy(self) -> bool {
        self.worst.p95 >= NOISY_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::palette::Palette;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    fn report() -> Report {
        let flush = Flush {
            p50: 90.0,
            p95: 140.0,
        };
        Report {
            version: "0.1.0",
            optimised: true,
            machine: Machine {
                cores: 2,
                memory_bytes: Some(8_000_000_000),
                kernel: None,
                cpu: Some("A CPU".to_owned()),
            },
            postgres: Postgres {
                version: "15.14".to_owned(),
                embedded: true,
                settings: BTreeMap::from([("fsync".to_owned(), "on".to_owned())]),
            },
            scenario: Scenario {
                name: "throughput",
                parameters: object(json!({"shape": "linear", "tasks": 10_000, "sketch": null})),
            },
            steps_per_s: Some(28_512.4),
            tasks_per_s: Some(7_128.1),
            latency_ms: Quantiles::of(vec![1.0, 2.5]),
            start_ms: None,
            per_step: Some(PerStep {
                statements: Some(0.0412),
                commits: 0.012,
                wal_bytes: 1_204.0,
                row_writes: 8.25,
            }),
            cpu_s: Some(Share {
                server: Some(0.61),
                worker: Some(0.5),
                postgres: Some(1.4),
                client: None,
            }),
            rss_bytes: Some(Share {
                server: Some(41_000_000),
                worker: None,
                postgres: None,
                client: None,
            }),
            dead_tuples: Some(12_345),
            fdatasync_us: Some(Flushes {
                worst: flush,
                before: flush,
                after: flush,
            }),
            noisy: Some(false),
            lost: 0,
            duplicated: 0,
            faults: Vec::new(),
            findings: object(json!({"ratio": 0.5})),
            lines: vec![("of the sketch", "50 %".to_owned())],
        }
    }

    #[test]
    fn the_table_tells_what_is_known() {
        insta::assert_snapshot!(report().table(Palette::PLAIN));
    }

    #[test]
    fn faults_and_a_slow_disk_are_told() {
        let mut report = report();
        report.faults = vec![
            "3 tasks are not complete".to_owned(),
            "1 step ran twice".to_owned(),
        ];
        if let Some(flushes) = &mut report.fdatasync_us {
            flushes.worst.p95 = 900.0;
        }
        report.optimised = false;
        insta::assert_snapshot!(report.table(Palette::PLAIN));
    }

    #[test]
    fn the_document_has_every_key_whether_it_applies_or_not() {
        let document = serde_json::to_value(report()).unwrap_or_default();
        for key in [
            "version",
            "machine",
            "postgres",
            "scenario",
            "steps_per_s",
            "tasks_per_s",
            "latency_ms",
            "start_ms",
            "per_step",
            "cpu_s",
            "rss_bytes",
            "dead_tuples",
            "fdatasync_us",
            "noisy",
            "lost",
            "duplicated",
            "faults",
            "findings",
        ] {
            assert!(document.get(key).is_some(), "{key}");
        }
        assert_eq!(document["scenario"]["shape"], "linear");
        assert_eq!(document["fdatasync_us"]["p95"], 140.0);
        assert_eq!(document["fdatasync_us"]["before"]["p50"], 90.0);
        assert!(document["start_ms"].is_null() && document.get("lines").is_none());
    }
}
