//! A graph in Mermaid's language.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use tasker_shared::wire::TaskGraphResponse;

use super::svg::colours;

/// The whole text.
pub(super) fn write(graph: &TaskGraphResponse) -> String {
    let mut text = String::from("flowchart LR\n");
    let ids: HashMap<&str, usize> = (1..)
        .zip(&graph.nodes)
        .map(|(i, node)| (node.name.as_str(), i))
        .collect();
    let mut states: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (id, node) in (1..).zip(&graph.nodes) {
        let _ = writeln!(
            text,
            "    s{id}[\"{}<br/>{}\"]",
            label(&node.name),
            node.current_state
        );
        states
            .entry(&node.current_state)
            .or_default()
            .push(format!("s{id}"));
    }
    for edge in &graph.edges {
        if let (Some(from), Some(to)) = (ids.get(edge.from.as_str()), ids.get(edge.to.as_str())) {
            let _ = writeln!(text, "    s{from} --> s{to}");
        }
    }
    for (state, steps) in states {
        let (fill, stroke) = colours(state);
        let _ = writeln!(
            text,
            "    classDef {state} fill:{fill},stroke:{stroke},color:#111"
        );
        let _ = writeln!(text, "    class {} {state}", steps.join(","));
    }
    text
}

/// Inside quotes, Mermaid takes entities.
fn label(text: &str) -> String {
    text.replace('#', "#35;")
        .replace('"', "#quot;")
        .replace('<', "#lt;")
        .replace('>', "#gt;")
}
