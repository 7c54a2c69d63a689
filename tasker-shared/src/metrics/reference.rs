//! The generated document `docs/reference/metrics.md`: every metric, from the definitions that record it.

use super::catalog;
use super::definition::{Definition, Kind, MILLISECONDS, Recorded, SIZES};

const UPDATE: &str = "TASKER_UPDATE_DOCS=1 cargo test -p tasker-shared metrics::reference";

/// Labels whose values are not listed with each metric, and where those come from.
const OPEN_LABELS: &[(&str, &str)] = &[
    (
        "correlation_id",
        "a task's correlation id, which is its trace's id too, or empty: see [cardinality](../operations/cardinality.md)",
    ),
    ("namespace", "the namespace of the task's template"),
    ("task_type", "the name of the template"),
    ("step_name", "the name of the step in the template"),
    (
        "error_type",
        "how an attempt failed: one of those of [`tasker_steps_failures_total`](#tasker_steps_failures_total)",
    ),
    (
        "operation",
        "the function that ran the statement: one of those in `tasker-shared/src/db`",
    ),
    ("pool", "the process's pool of connections"),
    ("channel", "the bounded channel in the process"),
    (
        "component",
        "what the channel or circuit breaker belongs to",
    ),
    (
        "endpoint",
        "the pattern of the route, never a path as it came",
    ),
];

/// The rooms as headings, with what they hold.
const ROOMS: &[(&str, &str, &str)] = &[
    (
        "orchestration",
        "Orchestration",
        "What servers do with tasks, and how many there are.",
    ),
    ("worker", "Worker", "What workers do with steps."),
    (
        "resilience",
        "Resilience",
        "Circuit breakers, bounded channels, handlers in other languages. A process shows those that it has.",
    ),
    (
        "database",
        "Database",
        "Statements, connections and transactions, measured at the one place that runs them.",
    ),
    (
        "messaging",
        "Messaging",
        "The queues between servers and workers, which are tables of the database.",
    ),
    (
        "export",
        "Of telemetry itself",
        "Whether what is recorded arrives. These are beside the contract of names above, and come from every process.",
    ),
];

/// The document.
pub fn reference() -> String {
    let mut text = format!(
        "<!-- Generated from tasker-shared/src/metrics/ by `{UPDATE}`. -->\n\
        # Metrics\n\n\
        Servers and workers serve them at `/metrics` and send them by OTLP; [telemetry](../operations/telemetry.md) says how to switch that on.\n\
        A metric leaves by OTLP under its instrument's name, and is in Prometheus under the name that heads its section.\n\n"
    );
    push_index(&mut text);
    push_labels(&mut text);
    push_kinds(&mut text);
    for (name, heading, about) in ROOMS {
        text.push_str(&format!("\n## {heading}\n\n{about}\n"));
        for definition in room(name) {
            push_metric(&mut text, definition);
        }
    }
    text
}

fn room(name: &str) -> Vec<&'static Definition> {
    let mut rooms = catalog::rooms().into_iter();
    rooms
        .find(|(room, _)| *room == name)
        .map_or_else(Vec::new, |(_, definitions)| definitions)
}

fn push_index(text: &mut String) {
    for (name, heading, _) in ROOMS {
        let links: Vec<String> = room(name)
            .iter()
            .map(|definition| format!("[`{0}`](#{0})", definition.prom))
            .collect();
        text.push_str(&format!("- **{heading}**: {}\n", links.join(", ")));
    }
}

fn push_labels(text: &mut String) {
    text.push_str(
        "\n## Labels\n\n\
        A series carries every label that stands with its metric and no other. Values that are not listed there:\n\n\
        | label | value |\n|---|---|\n",
    );
    for (label, value) in OPEN_LABELS {
        text.push_str(&format!("| `{label}` | {value} |\n"));
    }
}

fn push_kinds(text: &mut String) {
    text.push_str(&format!(
        "\n## Kinds\n\n\
        A **counter** goes up, and begins again at zero when its process does: ask for `rate()` or `increase()`.\n\n\
        A **gauge** is how something stands now. Gauges of the whole cluster, which a server reads in the database every few \
        seconds, come from one server at a time, so that sums are right.\n\n\
        A **histogram** is in Prometheus as `_bucket` (with `le`), `_sum` and `_count`. Upper bounds of its buckets in milliseconds:\n\
        {}; of sizes: {}.\n",
        bounds(MILLISECONDS),
        bounds(SIZES)
    ));
}

fn bounds(bounds: &[f64]) -> String {
    let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
    bounds.join(", ")
}

fn push_metric(text: &mut String, definition: &Definition) {
    text.push_str(&format!(
        "\n### {}\n\n{} from the {} · `{}`\n\n{}.\n",
        definition.prom,
        kind(definition),
        match definition.recorded {
            Recorded::Server => "server",
            Recorded::Worker => "worker",
            Recorded::Both => "server and the worker",
        },
        definition.otel,
        capitalised(definition.when),
    ));
    for (place, label) in definition.labels.iter().enumerate() {
        text.push_str(if place == 0 { "\n- " } else { "- " });
        let closed = definition.values.iter().find(|(of, _)| of == label);
        match closed {
            Some((_, values)) => {
                text.push_str(&format!("`{label}`: `{}`\n", values.join("`, `")));
            }
            None => text.push_str(&format!("`{label}`\n")),
        }
    }
    text.push_str(&format!("\n```promql\n{}\n```\n", definition.example));
}

fn kind(definition: &Definition) -> String {
    let kind = match definition.kind {
        Kind::Counter => "Counter",
        Kind::Gauge => "Gauge",
        Kind::Histogram(_) => "Histogram",
    };
    match definition.unit {
        "" => kind.to_owned(),
        "ms" => format!("{kind} in milliseconds (`ms`)"),
        "1" => format!("{kind}, a ratio (`1`)"),
        unit => format!("{kind} in `{unit}`"),
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
