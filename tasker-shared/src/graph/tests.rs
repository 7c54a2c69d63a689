use super::*;
use crate::template::{Handler, Retry, Step, StepType};
use std::collections::BTreeMap;

/// A template of steps given as a name and the names it depends on.
fn graph(steps: &[(&str, &[&str])]) -> Graph {
    let owned: Vec<(String, Vec<String>)> = steps
        .iter()
        .map(|(name, parents)| {
            let parents = parents.iter().map(|&parent| parent.to_owned());
            ((*name).to_owned(), parents.collect())
        })
        .collect();
    graph_of(owned)
}

fn graph_of(steps: Vec<(String, Vec<String>)>) -> Graph {
    let steps = steps.into_iter().map(|(name, dependencies)| Step {
        name,
        description: None,
        step_type: StepType::Standard,
        handler: Handler {
            callable: "echo".to_owned(),
            method: None,
            resolver: None,
            initialization: serde_json::Map::new(),
        },
        dependencies,
        retry: Retry::default(),
        timeout_seconds: None,
        publishes_events: Vec::new(),
        result_schema: None,
        batch_config: None,
        system_dependency: None,
    });
    Graph::of(&Template {
        name: "t".to_owned(),
        namespace_name: "n".to_owned(),
        version: semver::Version::new(1, 0, 0),
        description: None,
        metadata: crate::template::Metadata::default(),
        system_dependencies: crate::template::SystemDependencies::default(),
        domain_events: Vec::new(),
        input_schema: None,
        lifecycle: crate::template::Lifecycle::default(),
        on_failure: crate::template::OnFailure::Fail,
        steps: steps.collect(),
        environments: BTreeMap::new(),
    })
}

/// Everything a graph says of its steps, from the start to the join.
fn table(graph: &Graph) -> Vec<(i32, Vec<i32>, Vec<i32>, i32)> {
    (START..=graph.join())
        .map(|no| {
            let (parents, children) = (graph.parents(no).to_vec(), graph.children(no).to_vec());
            (no, parents, children, graph.waiting_on(no))
        })
        .collect()
}

#[test]
fn a_single_step_hangs_between_start_and_join() {
    assert_eq!(
        table(&graph(&[("only", &[])])),
        [
            (0, vec![], vec![1], 0),
            (1, vec![], vec![2], 0),
            (2, vec![1], vec![], 1),
        ]
    );
}

#[test]
fn a_line_has_one_root_and_one_leaf() {
    let line = graph(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])]);
    assert_eq!(
        table(&line),
        [
            (0, vec![], vec![1], 0),
            (1, vec![], vec![2], 0),
            (2, vec![1], vec![3], 1),
            (3, vec![2], vec![4], 1),
            (4, vec![3], vec![5], 1),
            (5, vec![4], vec![], 1),
        ]
    );
    assert_eq!(line.order(), [1, 2, 3, 4]);
}

#[test]
fn a_join_behind_an_only_leaf_has_no_row() {
    let line = graph(&[("a", &[]), ("b", &["a"])]);
    assert_eq!((line.only_leaf(), line.rows()), (Some(2), 1..=2));
    let fork = graph(&[("a", &[]), ("b", &["a"]), ("c", &["a"])]);
    assert_eq!((fork.only_leaf(), fork.rows()), (None, 1..=4));
}

#[test]
fn a_diamond_declared_upside_down_keeps_declaration_numbers() {
    let diamond = graph(&[
        ("close", &["left", "right"]),
        ("right", &["open"]),
        ("left", &["open"]),
        ("open", &[]),
    ]);
    assert_eq!(
        table(&diamond),
        [
            (0, vec![], vec![4], 0),
            (1, vec![3, 2], vec![5], 2),
            (2, vec![4], vec![1], 1),
            (3, vec![4], vec![1], 1),
            (4, vec![], vec![2, 3], 0),
            (5, vec![1], vec![], 1),
        ]
    );
    assert_eq!(diamond.order(), [4, 2, 3, 1]);
    assert_eq!(diamond.number_of("left"), Some(3));
    assert_eq!(diamond.number_of("none"), None);
    assert_eq!(diamond.name(1), "close");
    assert_eq!(diamond.name(4), "open");
    for outside in [-1, 0, 5, 6, i32::MIN, i32::MAX] {
        assert_eq!(diamond.name(outside), "");
    }
}

#[test]
fn a_tree_joins_all_its_leaves() {
    let tree = graph(&[
        ("root", &[]),
        ("l", &["root"]),
        ("r", &["root"]),
        ("ll", &["l"]),
        ("lr", &["l"]),
        ("rl", &["r"]),
        ("rr", &["r"]),
        ("rrr", &["rr"]),
    ]);
    assert_eq!(tree.len(), 8);
    assert_eq!(tree.join(), 9);
    assert_eq!(tree.parents(9), [4, 5, 6, 8]);
    assert_eq!(tree.waiting_on(9), 4);
    for leaf in [4, 5, 6, 8] {
        assert_eq!(tree.children(leaf), [9]);
    }
    assert_eq!(tree.children(7), [8]);
}

#[test]
fn a_fan_of_ten_thousand_goes_out_and_in() {
    const WIDTH: i32 = 10_000;
    let middle = (1..=WIDTH).map(|n| (format!("m{n}"), vec!["open".to_owned()]));
    let mut steps = vec![("open".to_owned(), vec![])];
    steps.extend(middle);
    steps.push((
        "close".to_owned(),
        (1..=WIDTH).map(|n| format!("m{n}")).collect(),
    ));
    let fan = graph_of(steps);
    let close = WIDTH + 2;
    assert_eq!(fan.children(1).len(), 10_000);
    assert_eq!(fan.children(1)[9_999], WIDTH + 1);
    assert_eq!(fan.waiting_on(close), WIDTH);
    assert_eq!(fan.parents(close)[0], 2);
    assert_eq!(fan.children(close), [fan.join()]);
    assert_eq!(fan.waiting_on(fan.join()), 1);
    assert_eq!(fan.order().len(), 10_002);
}

#[test]
fn numbers_outside_the_graph_have_no_edges() {
    let line = graph(&[("a", &[]), ("b", &["a"])]);
    for outside in [-1, 4, i32::MIN, i32::MAX] {
        assert!(line.parents(outside).is_empty());
        assert!(line.children(outside).is_empty());
        assert_eq!(line.waiting_on(outside), 0);
    }
}

#[test]
fn a_step_with_no_known_parent_is_a_root() {
    let odd = graph(&[("a", &["nowhere"]), ("b", &["a", "a"])]);
    assert_eq!(odd.children(START), [1]);
    assert_eq!(odd.waiting_on(2), 1);
    assert_eq!(odd.children(1), [2]);
}
