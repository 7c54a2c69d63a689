//! From the positioned tree to a [`Template`]: keys, types and ranges. What the parts must be to each other is in
//! `check`, what this server can act on in `honour`.

mod fields;
mod sections;
mod step;

use super::yaml::{self, Node, Place};
use super::{Fault, Lifecycle, Limits, Metadata, SystemDependencies, Template, check};
use fields::Fields;
use std::collections::BTreeMap;

/// A larger source is not looked at: more than any template of the permitted number of steps needs.
const MAX_SOURCE_BYTES: usize = 16 * 1024 * 1024;

/// Of more faults than this the first are reported.
const FAULTS_REPORTED: usize = 1_000;

const KEYS: &[&str] = &[
    "name",
    "namespace_name",
    "version",
    "description",
    "metadata",
    "system_dependencies",
    "domain_events",
    "input_schema",
    "lifecycle",
    "on_failure",
    "steps",
    "environments",
];

/// Reads one template from YAML or JSON. `file` is the name the faults carry.
///
/// # Errors
/// Every fault found, in reading order; never an empty list. Broken YAML ends the reading where it breaks.
pub fn parse(source: &str, file: &str, limits: &Limits) -> Result<Template, Vec<Fault>> {
    let mut reader = Reader {
        limits,
        complaints: Vec::new(),
    };
    let template = reader.read(source);
    match template {
        Some(template) if reader.complaints.is_empty() => Ok(template),
        _ => Err(reader.into_faults(file)),
    }
}

/// Where the parts of a template stand that are checked against each other.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) steps: Vec<StepPlaces>,
    /// For each environment, in the order of the template's map, the names its overrides carry.
    pub(super) overrides: Vec<Vec<Place>>,
    /// The steps are missing or were too many to read, so nothing can be said about who names whom.
    pub(super) steps_unread: bool,
}

#[derive(Debug, Default)]
pub(super) struct StepPlaces {
    pub(super) name: Place,
    pub(super) step_type: Place,
    pub(super) dependencies: Vec<Place>,
    pub(super) batch_config: Place,
    pub(super) worker_template: Place,
}

/// Collects complaints while it reads; what has a fault is replaced by a default, so that reading goes on.
struct Reader<'a> {
    limits: &'a Limits,
    complaints: Vec<(Place, String)>,
}

impl Reader<'_> {
    fn complain(&mut self, place: Place, message: impl Into<String>) {
        self.complaints.push((place, message.into()));
    }

    fn read(&mut self, source: &str) -> Option<Template> {
        if source.len() > MAX_SOURCE_BYTES {
            let start = Place { line: 1, column: 1 };
            self.complain(
                start,
                format!("the file is larger than {MAX_SOURCE_BYTES} bytes"),
            );
            return None;
        }
        let (root, complaints) = yaml::build(source);
        self.complaints.extend(complaints);
        let root = root?;
        let (template, places) = self.template(&root);
        check::check(&template, &places, &mut self.complaints);
        if self.limits.refuse_unhonoured {
            for key in template.unhonoured() {
                self.complain(root.locate(&key.pointer), key.message);
            }
        }
        Some(template)
    }

    fn template(&mut self, root: &Node) -> (Template, Places) {
        let fields = self.fields(root, "a template", KEYS);
        let mut places = Places::default();
        let template = Template {
            name: self.template_name(&fields),
            namespace_name: self.namespace_name(&fields),
            version: self.version(&fields),
            description: self.text(&fields, "description"),
            metadata: self.metadata(&fields),
            system_dependencies: self.system_dependencies(&fields),
            domain_events: self.domain_events(&fields),
            input_schema: self.schema(&fields, "input_schema"),
            lifecycle: self.lifecycle(&fields),
            on_failure: self.choice(&fields, "on_failure").unwrap_or_default(),
            steps: self.steps(&fields, &mut places),
            environments: self.environments(&fields, &mut places),
        };
        (template, places)
    }

    fn into_faults(mut self, file: &str) -> Vec<Fault> {
        self.complaints.sort();
        self.complaints.dedup();
        let more = self.complaints.len().saturating_sub(FAULTS_REPORTED);
        self.complaints.truncate(FAULTS_REPORTED);
        if let (Some((_, message)), true) = (self.complaints.last_mut(), more > 0) {
            message.push_str(&format!(" (and {more} faults more)"));
        }
        let faults = self.complaints.into_iter().map(|(place, message)| Fault {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            message,
        });
        faults.collect()
    }
}

#[cfg(test)]
mod tests;
