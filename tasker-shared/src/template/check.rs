//! What the parts of a template must be to each other: names that exist once, a graph without circles, batches that
//! fit together, overrides of steps that are there.

mod circle;

use super::environment::EVERY_STEP;
use super::read::Places;
use super::yaml::Place;
use super::{StepType, Template};
use crate::spelling;
use std::collections::{HashMap, HashSet};

/// Looking for the word that was meant costs time for each step, so it is done for this many unknown names only.
const HINTS: usize = 20;

/// Adds to `complaints` what is wrong between the parts.
pub(super) fn check(template: &Template, places: &Places, complaints: &mut Vec<(Place, String)>) {
    if places.steps_unread {
        return;
    }
    let mut check = Check {
        template,
        places,
        numbers: HashMap::with_capacity(template.steps.len()),
        hints: 0,
        complaints,
    };
    check.names();
    check.dependencies();
    check.circles();
    check.batches();
    check.overrides();
}

struct Check<'a> {
    template: &'a Template,
    places: &'a Places,
    /// The index of each step by name; of several of one name, the first.
    numbers: HashMap<&'a str, usize>,
    hints: usize,
    complaints: &'a mut Vec<(Place, String)>,
}

impl<'a> Check<'a> {
    fn complain(&mut self, place: Place, message: String) {
        self.complaints.push((place, message));
    }

    fn names(&mut self) {
        for (index, step) in self.template.steps.iter().enumerate() {
            // A name that is missing was complained of where it was read.
            if step.name.is_empty() {
                continue;
            }
            if let Some(&first) = self.numbers.get(step.name.as_str()) {
                let line = self.places.steps[first].name.line;
                let message = format!(
                    "the step name `{}` was used before, on line {line}",
                    step.name
                );
                self.complain(self.places.steps[index].name, message);
            } else {
                self.numbers.insert(&step.name, index);
            }
        }
    }

    fn dependencies(&mut self) {
        for (step, places) in self.template.steps.iter().zip(&self.places.steps) {
            let mut seen = HashSet::with_capacity(step.dependencies.len());
            for (dependency, &place) in step.dependencies.iter().zip(&places.dependencies) {
                if *dependency == step.name {
                    self.complain(place, format!("step `{dependency}` depends on itself"));
                } else if !seen.insert(dependency) {
                    self.complain(
                        place,
                        format!("the dependency `{dependency}` is listed twice"),
                    );
                } else if !self.numbers.contains_key(dependency.as_str()) {
                    let hint = self.hint(dependency);
                    self.complain(place, format!("unknown dependency `{dependency}`{hint}"));
                }
            }
        }
    }

    fn hint(&mut self, name: &str) -> String {
        self.hints += 1;
        if self.hints > HINTS {
            return String::new();
        }
        spelling::hint(
            name,
            self.template.steps.iter().map(|step| step.name.as_str()),
        )
    }

    /// Each circle, complained of where its first step names the next.
    fn circles(&mut self) {
        let steps = &self.template.steps;
        let parents: Vec<Vec<usize>> = steps
            .iter()
            .enumerate()
            .map(|(index, step)| {
                let known = step
                    .dependencies
                    .iter()
                    .filter_map(|name| self.numbers.get(name.as_str()).copied());
                known.filter(|&parent| parent != index).collect()
            })
            .collect();
        for circle in circle::find(&parents) {
            let (first, next) = (circle[0], circle[1]);
            let at = steps[first]
                .dependencies
                .iter()
                .position(|name| *name == steps[next].name);
            let places = &self.places.steps[first];
            let place = at.map_or(places.name, |at| places.dependencies[at]);
            self.complain(place, self.describe_circle(&circle));
        }
    }

    fn describe_circle(&self, circle: &[usize]) -> String {
        const SHOWN: usize = 12;
        let name = |&index: &usize| self.template.steps[index].name.as_str();
        let mut names: Vec<&str> = circle.iter().take(SHOWN).map(name).collect();
        let rest = circle.len().saturating_sub(SHOWN);
        let others = format!("({rest} more)");
        if rest > 0 {
            names.push(&others);
        }
        names.extend(circle.first().map(name));
        format!(
            "the steps depend on each other in a cycle: {}",
            names.join(" -> ")
        )
    }

    fn batches(&mut self) {
        for (step, places) in self.template.steps.iter().zip(&self.places.steps) {
            let Some(config) = &step.batch_config else {
                if step.step_type == StepType::Batchable {
                    let message = format!(
                        "step `{}` is batchable and needs a `batch_config`",
                        step.name
                    );
                    self.complain(places.step_type, message);
                }
                continue;
            };
            if step.step_type != StepType::Batchable {
                let message = "`batch_config` goes with `type: batchable` only";
                self.complain(places.batch_config, message.to_owned());
            }
            if config.worker_template.is_empty() {
                continue;
            }
            let worker = self
                .numbers
                .get(config.worker_template.as_str())
                .map(|&index| &self.template.steps[index]);
            if worker.is_none_or(|worker| worker.step_type != StepType::BatchWorker) {
                let message = format!(
                    "`{}` is not a step of type batch_worker",
                    config.worker_template
                );
                self.complain(places.worker_template, message);
            }
        }
    }

    fn overrides(&mut self) {
        for ((name, environment), places) in self
            .template
            .environments
            .iter()
            .zip(&self.places.overrides)
        {
            let mut seen = HashSet::new();
            for (change, &place) in environment.steps.iter().zip(places) {
                if change.name.is_empty() {
                    continue;
                }
                if !seen.insert(change.name.as_str()) {
                    let message =
                        format!("the environment `{name}` changes `{}` twice", change.name);
                    self.complain(place, message);
                } else if change.name != EVERY_STEP
                    && !self.numbers.contains_key(change.name.as_str())
                {
                    let hint = self.hint(&change.name);
                    self.complain(place, format!("unknown step `{}`{hint}", change.name));
                }
            }
        }
    }
}
