//! Where the steps of a graph lie: each in the layer of its longest way from a root, and within its layer near
//! its parents. Pure.

use std::collections::HashMap;

use tasker_shared::graph::Graph;
use tasker_shared::wire::TaskGraphResponse;

/// The layer of every step by number; those of start and join are of no use.
pub(super) fn layers(graph: &Graph) -> Vec<u32> {
    let mut layers = vec![0; graph.len() + 2];
    for &number in graph.order() {
        let above = graph
            .parents(number)
            .iter()
            .filter_map(|&parent| layers.get(index(parent)).copied());
        let layer = above.max().map_or(0, |layer: u32| layer + 1);
        if let Some(slot) = layers.get_mut(index(number)) {
            *slot = layer;
        }
    }
    layers
}

fn index(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}

/// Each layer's nodes, by their place in `graph.nodes`, from top to bottom.
pub(super) fn columns(graph: &TaskGraphResponse) -> Vec<Vec<usize>> {
    let place: HashMap<&str, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(i, node)| (node.name.as_str(), i))
        .collect();
    let mut parents: Vec<Vec<usize>> = vec![Vec::new(); graph.nodes.len()];
    for edge in &graph.edges {
        if let (Some(&from), Some(&to)) =
            (place.get(edge.from.as_str()), place.get(edge.to.as_str()))
        {
            parents[to].push(from);
        }
    }
    let depth = graph
        .nodes
        .iter()
        .map(|node| node.layer)
        .max()
        .map_or(0, |layer| layer as usize + 1);
    let mut columns = vec![Vec::new(); depth];
    for (i, node) in graph.nodes.iter().enumerate() {
        columns[node.layer as usize].push(i);
    }
    let mut height = vec![0.0_f64; graph.nodes.len()];
    for column in &mut columns {
        let wish = |i: usize| -> f64 {
            let above = &parents[i];
            let sum: f64 = above.iter().map(|&parent| height[parent]).sum();
            if above.is_empty() {
                0.0
            } else {
                sum / above.len() as f64
            }
        };
        let mut wishes: Vec<(f64, usize)> = column.iter().map(|&i| (wish(i), i)).collect();
        wishes.sort_by(|a, b| a.0.total_cmp(&b.0));
        let middle = (wishes.len() as f64 - 1.0) / 2.0;
        for (slot, (_, i)) in wishes.iter().enumerate() {
            height[*i] = slot as f64 - middle;
        }
        *column = wishes.into_iter().map(|(_, i)| i).collect();
    }
    columns
}
