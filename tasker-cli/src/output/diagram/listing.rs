//! A graph told as a list: one line a step, each after the steps it waits for.

use super::{Diagram, Line, layers};
use crate::output::palette::Ink;

/// Parents named in a line; of more only the number is told.
const MOST_PARENTS: usize = 4;

/// The lines, no wider than `columns`.
pub(super) fn of(diagram: &Diagram, columns: usize) -> Vec<Line> {
    let depth = layers::depths(diagram);
    let mut order: Vec<usize> = (0..diagram.nodes.len()).collect();
    order.sort_by_key(|&at| depth[at]);
    let widest = diagram.nodes.iter().map(|node| node.name.chars().count());
    let name_columns = widest.max().unwrap_or(0);
    order
        .into_iter()
        .map(|at| line(diagram, at, name_columns).cut(columns))
        .collect()
}

fn line(diagram: &Diagram, at: usize, name_columns: usize) -> Line {
    let node = &diagram.nodes[at];
    let mut line = Line::default();
    line.push(node.look.ink, &format!("{} ", node.look.sign));
    if node.parents.is_empty() && node.note.is_empty() {
        line.push(Ink::Plain, &node.name);
        return line;
    }
    line.push(Ink::Plain, &format!("{:name_columns$}", node.name));
    if !node.parents.is_empty() {
        let parents = match node.parents.len() {
            ..=MOST_PARENTS => {
                let names = node
                    .parents
                    .iter()
                    .map(|&parent| &*diagram.nodes[parent].name);
                names.collect::<Vec<_>>().join(", ")
            }
            many => format!("{many} steps"),
        };
        line.push(Ink::Dim, &format!("  ← {parents}"));
    }
    if !node.note.is_empty() {
        line.push(Ink::Dim, &format!("  {}", node.note));
    }
    line
}
