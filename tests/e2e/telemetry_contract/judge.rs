//! Comparing what processes show and send with the contract.

use std::collections::{BTreeMap, BTreeSet};

use tasker_tests::Stack;
use tasker_tests::contract::{self, Metric};
use tasker_tests::exposition::{Exposition, Labels};
use tasker_tests::otlp::{Kind, Receiver};
use uuid::Uuid;

use super::drive::TEMPLATES;
use super::{NO_OCCASION, NO_VALUE};

/// What is seen, until it is judged.
pub(super) struct Judge {
    metrics: Vec<Metric>,
    /// Which were recorded, by process and name.
    shown: BTreeSet<(String, String)>,
    sent: BTreeSet<(String, String)>,
    /// Which values labels had, by metric and label.
    values: BTreeMap<(String, String), BTreeSet<String>>,
    faults: BTreeSet<String>,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            metrics: contract::metrics(),
            shown: BTreeSet::new(),
            sent: BTreeSet::new(),
            values: BTreeMap::new(),
            faults: BTreeSet::new(),
        }
    }
}

impl Judge {
    /// Looks at `/metrics` of every process that answers.
    pub(super) async fn look(&mut self, stack: &Stack) {
        for (kind, process) in stack.processes() {
            if process.is_alive() {
                self.read(kind, &process.metrics().await);
                self.read(kind, &process.openmetrics().await);
            }
        }
    }

    fn read(&mut self, process: &str, shown: &Exposition) {
        for metric in self.metrics.clone() {
            let name = &metric.prom;
            let Some(family) = shown.families.get(name) else {
                if metric.is_of(process) {
                    self.fault(format!("{name} is missing at the {process}"));
                }
                continue;
            };
            if !metric.is_of(process) {
                self.fault(format!("{name} is shown at the {process}"));
            }
            if family.kind != metric.kind {
                self.fault(format!("{name} is a {}", family.kind));
            }
            let unit = match metric.unit.as_str() {
                "ms" => Some("milliseconds"),
                _ => None,
            };
            if family
                .unit
                .as_deref()
                .is_some_and(|shown| Some(shown) != unit)
            {
                self.fault(format!("{name} has the unit {:?}", family.unit));
            }
            let counted = metric.counted();
            for sample in &family.samples {
                self.check(&metric, &sample.series());
                if sample.name == counted && (sample.value > 0.0 || metric.kind == "gauge") {
                    self.shown.insert((process.to_owned(), name.clone()));
                }
            }
        }
        for name in shown.families.keys() {
            let known = self.metrics.iter().any(|metric| metric.prom == *name);
            if !known && !name.starts_with("telemetry_") && name != "target_info" {
                self.fault(format!(
                    "{name} at the {process} is no metric of the contract"
                ));
            }
        }
    }

    /// Goes through all that was sent by OTLP.
    pub(super) fn hear(&mut self, receiver: &Receiver) {
        for point in receiver.points() {
            let Some(metric) = self
                .metrics
                .iter()
                .find(|metric| metric.otel == point.metric)
            else {
                if !point.metric.starts_with("telemetry.") {
                    self.fault(format!(
                        "{} is sent and no metric of the contract",
                        point.metric
                    ));
                }
                continue;
            };
            let (metric, process) = (metric.clone(), point.resource["tasker.process"].clone());
            let kind = match metric.kind.as_str() {
                "counter" => Kind::Counter,
                "histogram" => Kind::Histogram,
                _ => Kind::Gauge,
            };
            if point.kind != kind {
                self.fault(format!("{} is sent as {:?}", metric.otel, point.kind));
            }
            if point.unit != metric.unit {
                self.fault(format!(
                    "{} is sent with the unit {:?}",
                    metric.otel, point.unit
                ));
            }
            if !metric.is_of(&process) {
                self.fault(format!("{} is sent by the {process}", metric.otel));
            }
            if point.description.is_empty() {
                self.fault(format!("{} is sent without a description", metric.otel));
            }
            self.check(&metric, &point.labels);
            if point.reading.count() > 0.0 || kind == Kind::Gauge {
                self.sent.insert((process, metric.prom));
            }
        }
    }

    /// Checks the labels of a series, and notes their values.
    fn check(&mut self, metric: &Metric, labels: &Labels) {
        let names: BTreeSet<String> = labels.keys().cloned().collect();
        if names != metric.labels {
            self.fault(format!("{} has the labels {names:?}", metric.prom));
        }
        for (label, value) in labels {
            let right = match metric.values.get(label) {
                Some(values) => values.contains(value),
                None => is_open(label, value),
            };
            if !right {
                self.fault(format!("{} has {label}={value:?}", metric.prom));
            }
            let key = (metric.prom.clone(), label.clone());
            self.values.entry(key).or_default().insert(value.clone());
        }
    }

    fn fault(&mut self, fault: String) {
        self.faults.insert(fault);
    }

    /// Fails where anything was wrong, or was never seen.
    pub(super) fn judge(mut self) {
        for metric in self.metrics.clone() {
            self.judge_recorded(&metric);
            self.judge_values(&metric);
        }
        let faults: Vec<_> = self.faults.into_iter().collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    fn judge_recorded(&mut self, metric: &Metric) {
        let all = ["server", "worker"].into_iter();
        for process in all.filter(|process| metric.is_of(process)) {
            let key = (process.to_owned(), metric.prom.clone());
            let (shown, sent) = (self.shown.contains(&key), self.sent.contains(&key));
            let no_occasion = NO_OCCASION
                .iter()
                .any(|(of, name, _)| *of == process && *name == metric.prom);
            if shown != sent {
                self.fault(format!("{key:?} is shown {shown} and sent {sent}"));
            } else if shown && no_occasion {
                self.fault(format!("{key:?} was recorded after all"));
            } else if !shown && !no_occasion {
                self.fault(format!("{key:?} was never recorded"));
            }
        }
    }

    fn judge_values(&mut self, metric: &Metric) {
        for (label, values) in &metric.values {
            let key = (metric.prom.clone(), label.clone());
            let seen = self.values.get(&key).cloned().unwrap_or_default();
            for value in values {
                let no_occasion = NO_VALUE.iter().any(|(name, of, values, _)| {
                    *name == metric.prom && of == label && values.contains(&value.as_str())
                });
                match (seen.contains(value), no_occasion) {
                    (false, false) => self.fault(format!(
                        "{} was never seen with {label}={value}",
                        metric.prom
                    )),
                    (true, true) => self.fault(format!(
                        "{} was seen with {label}={value} after all",
                        metric.prom
                    )),
                    _ => {}
                }
            }
        }
    }
}

/// Whether a label whose values the contract does not list may have this one: names that are in the code or in
/// templates, and never anything that tasks or people bring.
fn is_open(label: &str, value: &str) -> bool {
    let is_word =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    match label {
        "correlation_id" => {
            value.is_empty()
                || value
                    .parse::<Uuid>()
                    .is_ok_and(|id| id.to_string() == value)
        }
        "namespace" => ["contract", "unknown"].contains(&value),
        "task_type" => {
            ["blocked", "gated"].contains(&value)
                || TEMPLATES.iter().any(|(name, _)| *name == value)
        }
        "step_name" => {
            let named = format!("name: {value},");
            TEMPLATES.iter().any(|(_, steps)| steps.contains(&named))
                || ["hopeless", "runs"].contains(&value)
        }
        "endpoint" => value.starts_with("/v1/"),
        "error_type" => ["handler_error", "handler_panic", "timeout"].contains(&value),
        _ => is_word(value),
    }
}
