//! Pictures of graphs, as they are printed without colours.

use super::*;
use crate::output::look;

/// A diagram of `name`, its state and its parents' names.
fn diagram(steps: &[(&str, &str, &[&str])]) -> Diagram {
    let at = |name: &str| steps.iter().position(|step| step.0 == name);
    let nodes = steps.iter().map(|(name, state, parents)| Node {
        name: (*name).to_owned(),
        parents: parents.iter().filter_map(|parent| at(parent)).collect(),
        look: if state.is_empty() {
            look::Look::PLAN
        } else {
            look::of_step(state)
        },
        note: String::new(),
        note_room: 0,
    });
    Diagram {
        nodes: nodes.collect(),
    }
}

fn picture(diagram: &Diagram, columns: usize) -> String {
    let lines = diagram.draw(columns).into_iter();
    let lines: Vec<String> = lines.map(|line| line.paint(Palette::PLAIN)).collect();
    format!("\n{}\n", lines.join("\n"))
}

#[test]
fn a_single_step_is_a_box() {
    insta::assert_snapshot!(picture(&diagram(&[("only", "complete", &[])]), 80));
}

#[test]
fn steps_in_a_line_stand_below_each_other() {
    let linear = diagram(&[
        ("extract", "complete", &[]),
        ("transform_rows", "in_progress", &["extract"]),
        ("load", "pending", &["transform_rows"]),
    ]);
    insta::assert_snapshot!(picture(&linear, 80));
}

fn order() -> Diagram {
    diagram(&[
        ("validate_order", "complete", &[]),
        ("reserve_stock", "complete", &["validate_order"]),
        ("authorise_payment", "complete", &["validate_order"]),
        (
            "charge_payment",
            "waiting_for_retry",
            &["reserve_stock", "authorise_payment"],
        ),
        ("pack_items", "pending", &["charge_payment"]),
        ("notify_customer", "pending", &["charge_payment"]),
        ("close_order", "pending", &["pack_items", "notify_customer"]),
    ])
}

#[test]
fn the_order_workflow_is_two_diamonds() {
    insta::assert_snapshot!(picture(&order(), 80));
}

#[test]
fn a_note_stands_behind_the_name_and_keeps_its_room() {
    let mut order = order();
    for node in &mut order.nodes {
        node.note_room = 3;
    }
    let quiet = picture(&order, 80);
    order.nodes[3].note = "×2".to_owned();
    let noted = picture(&order, 80);
    assert!(noted.contains("charge_payment ×2"));
    assert_eq!(quiet.lines().count(), noted.lines().count());
    assert_eq!(
        quiet.replace("charge_payment    ", "charge_payment ×2 "),
        noted
    );
}

#[test]
fn a_line_that_skips_layers_passes_beside_the_boxes() {
    let skipping = diagram(&[
        ("start", "", &[]),
        ("first", "", &["start"]),
        ("second", "", &["first"]),
        ("end", "", &["second", "start", "first"]),
    ]);
    insta::assert_snapshot!(picture(&skipping, 80));
}

#[test]
fn lines_that_cross_can_be_told_apart() {
    let crossing = diagram(&[
        ("a", "", &[]),
        ("b", "", &[]),
        ("c", "", &[]),
        ("only_a", "", &["a"]),
        ("a_and_b", "", &["a", "b"]),
        ("b_and_c", "", &["b", "c"]),
        ("a_and_c", "", &["a", "c"]),
    ]);
    insta::assert_snapshot!(picture(&crossing, 80));
}

#[test]
fn an_eight_step_tree_spreads_out() {
    let tree = diagram(&[
        ("root", "complete", &[]),
        ("left", "complete", &["root"]),
        ("right", "error", &["root"]),
        ("leaf_a", "complete", &["left"]),
        ("leaf_b", "in_progress", &["left"]),
        ("leaf_c", "skipped", &["right"]),
        ("leaf_d", "skipped", &["right"]),
        ("join", "pending", &["leaf_a", "leaf_b", "leaf_c", "leaf_d"]),
    ]);
    insta::assert_snapshot!(picture(&tree, 80));
}

fn fan(parts: usize) -> Diagram {
    let mut nodes = vec![node("split", "complete", vec![])];
    nodes.extend((1..=parts).map(|part| {
        let state = ["complete", "in_progress", "pending"][part % 3];
        node(&format!("part_{part}"), state, vec![0])
    }));
    nodes.push(node("merge", "pending", (1..=parts).collect()));
    Diagram { nodes }
}

fn node(name: &str, state: &str, parents: Vec<usize>) -> Node {
    Node {
        name: name.to_owned(),
        parents,
        look: look::of_step(state),
        note: String::new(),
        note_room: 0,
    }
}

#[test]
fn a_fan_of_a_thousand_is_one_box_that_counts_states() {
    insta::assert_snapshot!(picture(&fan(1_000), 80));
}

#[test]
fn what_fits_in_no_width_is_told_as_a_list() {
    insta::assert_snapshot!(picture(&order(), 30));
}

#[test]
fn no_line_is_wider_than_was_asked_for() {
    for parts in [1, 2, 5, 40, 300] {
        for columns in [20, 40, 79, 200] {
            let lines = fan(parts).draw(columns);
            let widest = lines.iter().map(Line::columns).max();
            assert!(
                widest <= Some(columns),
                "{parts} parts in {columns} columns: {widest:?}"
            );
        }
    }
}

/// Every random graph's lines join exactly the boxes they should: followed from a box's exit, a line
/// ends in the entries of its children and nowhere else.
#[test]
fn every_entry_and_exit_belongs_to_an_edge() {
    for seed in 0..200_u64 {
        let diagram = random(seed, 9);
        let Some(lines) = diagram.boxes(usize::MAX) else {
            continue;
        };
        let text: String = lines
            .iter()
            .map(|line| line.paint(Palette::PLAIN))
            .collect();
        let entered = diagram.nodes.iter().filter(|node| !node.parents.is_empty());
        assert_eq!(text.matches('▼').count(), entered.count(), "seed {seed}");
        for bit in ['╵', '╷', '╴', '╶'] {
            assert!(!text.contains(bit), "a loose end with seed {seed}");
        }
    }
}

fn random(seed: u64, nodes: usize) -> Diagram {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let node = |at: usize, parents| node(&format!("n{at}"), "pending", parents);
    let nodes = (0..nodes)
        .map(|at| {
            let parents = (0..at).filter(|_| next() % 4 == 0).collect();
            node(at, parents)
        })
        .collect();
    Diagram { nodes }
}
