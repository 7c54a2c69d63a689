//! A graph as a picture: a column a layer, left to right, a box a step.

use std::collections::HashMap;
use std::fmt::Write;

use tasker_shared::wire::{GraphNode, TaskGraphResponse};

use super::layout::columns;

const BOX_HEIGHT: f64 = 44.0;
const ROW: f64 = 64.0;
const GAP: f64 = 64.0;
const MARGIN: f64 = 24.0;
const TITLE: f64 = 32.0;
/// A letter of a name is about this wide.
const LETTER: f64 = 7.4;
const NARROWEST: f64 = 120.0;

#[derive(Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
}

/// The whole document.
pub(super) fn draw(graph: &TaskGraphResponse) -> String {
    let columns = columns(graph);
    let rows = columns.iter().map(Vec::len).max().unwrap_or_default();
    let height = MARGIN * 2.0 + TITLE + rows as f64 * ROW;
    let mut places = vec![
        Place {
            x: 0.0,
            y: 0.0,
            width: 0.0
        };
        graph.nodes.len()
    ];
    let mut x = MARGIN;
    for column in &columns {
        let width = column
            .iter()
            .map(|&i| width(&graph.nodes[i]))
            .fold(NARROWEST, f64::max);
        let top = TITLE + (height - TITLE - column.len() as f64 * ROW) / 2.0;
        for (slot, &i) in column.iter().enumerate() {
            let y = top + slot as f64 * ROW + (ROW - BOX_HEIGHT) / 2.0;
            places[i] = Place { x, y, width };
        }
        x += width + GAP;
    }
    let title = format!(
        "{}/{} {}: {}",
        graph.namespace, graph.name, graph.version, graph.status
    );
    let total = (x - GAP + MARGIN).max(title.chars().count() as f64 * LETTER * 1.3 + MARGIN * 2.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{total:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {total:.0} {height:.0}\" \
         font-family=\"ui-sans-serif, system-ui, sans-serif\" font-size=\"13\">\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0 0 L8 4 L0 8 z\" fill=\"#888\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{MARGIN}\" y=\"{y}\" font-size=\"16\" font-weight=\"600\" fill=\"#111\">{}</text>\n",
        escape(&title),
        y = MARGIN + 8.0,
    );
    edges(&mut svg, graph, &places);
    for (node, place) in graph.nodes.iter().zip(&places) {
        step(&mut svg, node, *place);
    }
    svg.push_str("</svg>\n");
    svg
}

fn edges(svg: &mut String, graph: &TaskGraphResponse, places: &[Place]) {
    let by_name: HashMap<&str, Place> = graph
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .zip(places.iter().copied())
        .collect();
    for edge in &graph.edges {
        let (Some(from), Some(to)) = (
            by_name.get(edge.from.as_str()),
            by_name.get(edge.to.as_str()),
        ) else {
            continue;
        };
        let (x1, y1) = (from.x + from.width, from.y + BOX_HEIGHT / 2.0);
        let (x2, y2) = (to.x, to.y + BOX_HEIGHT / 2.0);
        let bend = (x2 - x1) / 2.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{x1:.0} {y1:.0} C{:.0} {y1:.0} {:.0} {y2:.0} {x2:.0} {y2:.0}\" fill=\"none\" stroke=\"#888\" marker-end=\"url(#arrow)\"/>",
            x1 + bend,
            x2 - bend,
        );
    }
}

fn step(svg: &mut String, node: &GraphNode, place: Place) {
    let (fill, stroke) = colours(&node.current_state);
    let Place { x, y, width } = place;
    let attempts = match node.attempts {
        0 | 1 => String::new(),
        n => format!(" · attempt {n}"),
    };
    let middle = x + width / 2.0;
    let _ = writeln!(
        svg,
        "<g><title>{name} ({handler})</title><rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{width:.0}\" height=\"{BOX_HEIGHT}\" rx=\"6\" fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"1.5\"/>\
         <text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\" font-weight=\"600\" fill=\"#111\">{name}</text>\
         <text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#444\">{state}{attempts}</text></g>",
        y + 18.0,
        y + 35.0,
        name = escape(&node.name),
        handler = escape(&node.handler),
        state = escape(&node.current_state),
    );
}

fn width(node: &GraphNode) -> f64 {
    let letters = node
        .name
        .chars()
        .count()
        .max(node.current_state.chars().count());
    letters as f64 * LETTER + 28.0
}

/// Fill and stroke of a state.
pub(super) fn colours(state: &str) -> (&'static str, &'static str) {
    match state {
        "complete" | "resolved_manually" => ("#d7f5dd", "#2e8b57"),
        "error" => ("#fbd5d5", "#c0392b"),
        "cancelled" | "skipped" => ("#eeeeee", "#999999"),
        "waiting_for_retry" => ("#fdebc8", "#d68910"),
        "in_progress" => ("#d3e5fd", "#2471a3"),
        "enqueued" | "enqueued_for_orchestration" | "enqueued_as_error_for_orchestration" => {
            ("#e8f1fe", "#7fa8d8")
        }
        _ => ("#ffffff", "#bbbbbb"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
