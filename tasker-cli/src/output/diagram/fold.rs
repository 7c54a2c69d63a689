//! Steps that stand alike in the graph drawn as one: the thousand parts of a fan-out become a single
//! box that counts their states.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Diagram, Node, layers};
use crate::output::look::Look;
use crate::output::palette::Ink;

/// Fewer steps alike than this are drawn each by itself.
const FEWEST: usize = 3;
/// Rounds of telling steps apart by their neighbours; what looks the same after them is drawn as one.
const ROUNDS: usize = 16;

/// The diagram with steps alike joined. Steps are alike when they are as deep, and their parents and
/// children are alike.
pub(super) fn alike(diagram: &Diagram) -> Diagram {
    let kinds = kinds(diagram);
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (node, &kind) in kinds.iter().enumerate() {
        members.entry(kind).or_default().push(node);
    }
    let mut becomes = vec![0; kinds.len()];
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (node, kind) in kinds.iter().enumerate() {
        let alike = &members[kind];
        let first = alike.first() == Some(&node);
        match alike.len() >= FEWEST {
            true if first => {
                for &member in alike {
                    becomes[member] = groups.len();
                }
                groups.push(alike.clone());
            }
            true => {}
            false => {
                becomes[node] = groups.len();
                groups.push(vec![node]);
            }
        }
    }
    let nodes = groups.iter().map(|group| joined(diagram, group, &becomes));
    Diagram {
        nodes: nodes.collect(),
    }
}

/// For each node the number of its kind.
fn kinds(diagram: &Diagram) -> Vec<usize> {
    let mut kinds = layers::depths(diagram);
    let mut children = vec![Vec::new(); diagram.nodes.len()];
    for (at, node) in diagram.nodes.iter().enumerate() {
        for &parent in &node.parents {
            children[parent].push(at);
        }
    }
    let mut count = 0;
    for _ in 0..ROUNDS {
        let mut numbers: HashMap<(usize, BTreeSet<usize>, BTreeSet<usize>), usize> = HashMap::new();
        let told_apart: Vec<usize> = diagram
            .nodes
            .iter()
            .enumerate()
            .map(|(at, node)| {
                let above = node.parents.iter().map(|&parent| kinds[parent]).collect();
                let below = children[at].iter().map(|&child| kinds[child]).collect();
                let next = numbers.len();
                *numbers.entry((kinds[at], above, below)).or_insert(next)
            })
            .collect();
        kinds = told_apart;
        if numbers.len() == count {
            break;
        }
        count = numbers.len();
    }
    kinds
}

fn joined(diagram: &Diagram, group: &[usize], becomes: &[usize]) -> Node {
    let members: Vec<&Node> = group.iter().map(|&at| &diagram.nodes[at]).collect();
    let parents: BTreeSet<usize> = members
        .iter()
        .flat_map(|node| node.parents.iter().map(|&parent| becomes[parent]))
        .collect();
    let parents = parents.into_iter().collect();
    match members.as_slice() {
        [alone] => Node {
            parents,
            ..(*alone).clone()
        },
        many => Node {
            name: match (many.first(), many.last()) {
                (Some(first), Some(last)) => format!("{} … {}", first.name, last.name),
                _ => String::new(),
            },
            parents,
            look: most_telling(many),
            note: counts(many),
            note_room: room(many),
        },
    }
}

/// The look of the step that matters most: one that failed, then one under way.
fn most_telling(nodes: &[&Node]) -> Look {
    let weight = |look: &Look| match look.ink {
        Ink::Bad => 4,
        Ink::Active => 3,
        Ink::Warning => 2,
        Ink::Dim => 1,
        _ => 0,
    };
    let looks = nodes.iter().map(|node| node.look);
    looks.max_by_key(weight).unwrap_or(Look::PLAN)
}

/// `×1000`, and where they have states how many are in which.
fn counts(nodes: &[&Node]) -> String {
    let mut text = format!("×{}", nodes.len());
    let mut signs: BTreeMap<char, usize> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.look != Look::PLAN) {
        *signs.entry(node.look.sign).or_default() += 1;
    }
    for (sign, count) in signs {
        text.push_str(&format!(" {sign}{count}"));
    }
    text
}

/// Columns for the counts of as many states as are usually seen at once, where room is kept at all.
fn room(nodes: &[&Node]) -> usize {
    const STATES_AT_ONCE: usize = 4;
    if nodes.iter().all(|node| node.note_room == 0) {
        return 0;
    }
    let digits = nodes.len().to_string().len();
    let has_states = nodes.iter().any(|node| node.look != Look::PLAN);
    1 + digits
        + if has_states {
            STATES_AT_ONCE * (digits + 2)
        } else {
            0
        }
}
