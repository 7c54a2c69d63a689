//! The parts of a template that are not its steps.

use super::{Fields, Lifecycle, Metadata, Reader, SystemDependencies};
use crate::template::yaml::Kind;
use crate::template::{DEFAULT_SYSTEM, DomainEvent};
use semver::Version;

/// The queue names of other implementations leave this much room.
const NAMESPACE_CHARACTERS: usize = 29;

/// Fits every index and every file name.
pub(super) const NAME_CHARACTERS: usize = 128;

const MINUTES_IN_A_YEAR: u64 = 366 * 24 * 60;

impl Reader<'_> {
    pub(super) fn template_name(&mut self, fields: &Fields<'_>) -> String {
        let Some(name) = self.required_text(fields, "name") else {
            return String::new();
        };
        let place = fields.place_of("name");
        let pattern_fits = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !pattern_fits {
            self.complain(
                place,
                format!("the name `{name}` must match ^[a-z][a-z0-9_]*$"),
            );
        }
        if name.chars().count() > NAME_CHARACTERS {
            self.complain(
                place,
                format!("a name has at most {NAME_CHARACTERS} characters"),
            );
        }
        name
    }

    pub(super) fn namespace_name(&mut self, fields: &Fields<'_>) -> String {
        let Some(name) = self.required_text(fields, "namespace_name") else {
            return String::new();
        };
        let place = fields.place_of("namespace_name");
        let pattern_fits = name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !pattern_fits {
            let message = format!("the namespace `{name}` must match ^[A-Za-z][A-Za-z0-9_-]*$");
            self.complain(place, message);
        }
        let characters = name.chars().count();
        if characters > NAMESPACE_CHARACTERS {
            let message = format!(
                "a namespace has at most {NAMESPACE_CHARACTERS} characters, this one {characters}"
            );
            self.complain(place, message);
        }
        name
    }

    pub(super) fn version(&mut self, fields: &Fields<'_>) -> Version {
        const NONE: Version = Version::new(0, 0, 0);
        let Some(node) = self.required(fields, "version") else {
            return NONE;
        };
        let text = match &*node.kind {
            Kind::Text(text) => text.clone(),
            // Two parts without quotes are a number to YAML, and still a version to whoever wrote them.
            Kind::Number(number) => number.to_string(),
            _ => {
                return self
                    .wrong(node, "version", "a version such as 1.0.0")
                    .unwrap_or(NONE);
            }
        };
        if text.len() > NAME_CHARACTERS {
            self.complain(
                node.place,
                format!("a version has at most {NAME_CHARACTERS} characters"),
            );
            return NONE;
        }
        Version::parse(&text).unwrap_or_else(|error| {
            let message = format!("`{text}` is not a semantic version such as 1.0.0: {error}");
            self.complain(node.place, message);
            NONE
        })
    }

    pub(super) fn metadata(&mut self, fields: &Fields<'_>) -> Metadata {
        const KEYS: &[&str] = &[
            "author",
            "tags",
            "documentation_url",
            "created_at",
            "updated_at",
        ];
        let Some(inner) = self.inner(fields, "metadata", KEYS) else {
            return Metadata::default();
        };
        Metadata {
            author: self.text(&inner, "author"),
            tags: self.texts(&inner, "tags"),
            documentation_url: self.text(&inner, "documentation_url"),
            created_at: self.text(&inner, "created_at"),
            updated_at: self.text(&inner, "updated_at"),
        }
    }

    pub(super) fn system_dependencies(&mut self, fields: &Fields<'_>) -> SystemDependencies {
        let Some(inner) = self.inner(fields, "system_dependencies", &["primary", "secondary"])
        else {
            return SystemDependencies::default();
        };
        SystemDependencies {
            primary: self
                .text(&inner, "primary")
                .unwrap_or_else(|| DEFAULT_SYSTEM.to_owned()),
            secondary: self.texts(&inner, "secondary"),
        }
    }

    pub(super) fn domain_events(&mut self, fields: &Fields<'_>) -> Vec<DomainEvent> {
        let items = self.list(fields, "domain_events");
        let events = items.iter().map(|item| {
            let inner = self.fields(item, "a domain event", &["name", "description", "schema"]);
            DomainEvent {
                name: self.required_text(&inner, "name").unwrap_or_default(),
                description: self.text(&inner, "description"),
                schema: self.schema(&inner, "schema"),
            }
        });
        events.collect()
    }

    pub(super) fn lifecycle(&mut self, fields: &Fields<'_>) -> Lifecycle {
        const KEYS: &[&str] = &[
            "max_duration_minutes",
            "max_waiting_for_dependencies_minutes",
            "max_waiting_for_retry_minutes",
            "max_steps_in_process_minutes",
            "staleness_action",
        ];
        let Some(inner) = self.inner(fields, "lifecycle", KEYS) else {
            return Lifecycle::default();
        };
        let mut minutes = |key| self.integer(&inner, key, 1..=MINUTES_IN_A_YEAR);
        Lifecycle {
            max_duration_minutes: minutes("max_duration_minutes"),
            max_waiting_for_dependencies_minutes: minutes("max_waiting_for_dependencies_minutes"),
            max_waiting_for_retry_minutes: minutes("max_waiting_for_retry_minutes"),
            max_steps_in_process_minutes: minutes("max_steps_in_process_minutes"),
            staleness_action: self.choice(&inner, "staleness_action"),
        }
    }
}
