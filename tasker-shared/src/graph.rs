//! A template's steps as numbers and edges, for planning. Steps are 1..=N in the template's order; 0 is the virtual
//! start above the roots and N+1 the join below the leaves. Immutable: share it behind an `Arc`.

use crate::template::Template;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// The number of the virtual start.
pub const START: i32 = 0;

/// Edges in both directions, each as one flat array with the offset of every step's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, i32>,
    parents: Edges,
    children: Edges,
    order: Vec<i32>,
}

impl Graph {
    /// The graph of a template that [`crate::template::parse`] accepted. A dependency that is unknown or listed twice,
    /// which such a template does not have, counts for nothing.
    #[must_use]
    pub fn of(template: &Template) -> Self {
        let names: Vec<Box<str>> = template
            .steps
            .iter()
            .map(|step| step.name.as_str().into())
            .collect();
        let numbers: HashMap<Box<str>, i32> = names.iter().cloned().zip(1..).collect();
        let join = number(names.len() + 1);

        let mut parents_of: Vec<Vec<i32>> = Vec::with_capacity(names.len() + 2);
        parents_of.push(Vec::new());
        // The last child that named each step: tells a repeated dependency, and in the end a leaf.
        let mut last_child = vec![START; names.len() + 2];
        for (child, step) in (1..).zip(&template.steps) {
            let mut parents = Vec::with_capacity(step.dependencies.len());
            for dependency in &step.dependencies {
                if let Some(&parent) = numbers.get(dependency.as_str())
                    && last_child[index(parent)] != child
                {
                    parents.push(parent);
                    last_child[index(parent)] = child;
                }
            }
            parents_of.push(parents);
        }
        parents_of.push(
            (1..join)
                .filter(|&no| last_child[index(no)] == START)
                .collect(),
        );

        let parents = Edges::from_lists(&parents_of);
        let children = Edges::downwards(&parents_of);
        let order = order(&parents, &children, join);
        Self {
            names,
            numbers,
            parents,
            children,
            order,
        }
    }

    /// How many steps there are, the start and the join not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no steps at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The number of the join: N+1.
    #[must_use]
    pub fn join(&self) -> i32 {
        number(self.names.len() + 1)
    }

    /// The steps this one waits for, in the order its template lists them: none for a root, the leaves for the join.
    /// A number outside the graph has neither parents nor children.
    #[must_use]
    pub fn parents(&self, no: i32) -> &[i32] {
        self.parents.of(no)
    }

    /// The steps that wait for this one, ascending: the roots for the start, the join for a leaf.
    #[must_use]
    pub fn children(&self, no: i32) -> &[i32] {
        self.children.of(no)
    }

    /// How many steps must end before this one may run.
    #[must_use]
    pub fn waiting_on(&self, no: i32) -> i32 {
        number(self.parents(no).len())
    }

    /// The leaf, where there is only one: nothing has to be counted behind it.
    #[must_use]
    pub fn only_leaf(&self) -> Option<i32> {
        match self.parents(self.join()) {
            [leaf] => Some(*leaf),
            _ => None,
        }
    }

    /// The numbers that are stored with a template and get rows in its tasks: all steps, and the join unless it stands
    /// behind an only leaf.
    #[must_use]
    pub fn rows(&self) -> RangeInclusive<i32> {
        1..=self.join() - i32::from(self.only_leaf().is_some())
    }

    /// The number of the step of that name.
    #[must_use]
    pub fn number_of(&self, name: &str) -> Option<i32> {
        self.numbers.get(name).copied()
    }

    /// The name of that step; empty for the start, the join and numbers outside the graph.
    #[must_use]
    pub fn name(&self, no: i32) -> &str {
        usize::try_from(no)
            .ok()
            .and_then(|no| self.names.get(no.checked_sub(1)?))
            .map_or("", |name| name)
    }

    /// The steps 1..=N so that each comes after its parents.
    #[must_use]
    pub fn order(&self) -> &[i32] {
        &self.order
    }
}

/// For each step the slice of `targets` between its offset and the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edges {
    offsets: Vec<u32>,
    targets: Vec<i32>,
}

impl Edges {
    fn from_lists(lists: &[Vec<i32>]) -> Self {
        let mut offsets = Vec::with_capacity(lists.len() + 1);
        let mut targets = Vec::with_capacity(lists.iter().map(Vec::len).sum());
        offsets.push(0);
        for list in lists {
            targets.extend_from_slice(list);
            offsets.push(offset(targets.len()));
        }
        Self { offsets, targets }
    }

    /// The edges of `parents_of` turned round, with an edge from the start to every step that has no parent.
    fn downwards(parents_of: &[Vec<i32>]) -> Self {
        let edges = || {
            parents_of
                .iter()
                .enumerate()
                .skip(1)
                .flat_map(|(child, parents)| {
                    let start = if parents.is_empty() {
                        &[START][..]
                    } else {
                        &[]
                    };
                    parents
                        .iter()
                        .chain(start)
                        .map(move |&parent| (parent, number(child)))
                })
        };
        let mut offsets = vec![0_u32; parents_of.len() + 1];
        for (parent, _) in edges() {
            offsets[index(parent) + 1] += 1;
        }
        for at in 1..offsets.len() {
            offsets[at] += offsets[at - 1];
        }
        let mut next = offsets.clone();
        let mut targets = vec![0; edges().count()];
        for (parent, child) in edges() {
            let place = &mut next[index(parent)];
            targets[*place as usize] = child;
            *place += 1;
        }
        Self { offsets, targets }
    }

    fn of(&self, no: i32) -> &[i32] {
        let range = usize::try_from(no).ok().and_then(|no| {
            let from = *self.offsets.get(no)?;
            let to = *self.offsets.get(no + 1)?;
            Some(from as usize..to as usize)
        });
        range.map_or(&[], |range| &self.targets[range])
    }
}

/// Kahn's algorithm. Every step has the start or another step above it, so it is reached unless it is in a cycle.
fn order(parents: &Edges, children: &Edges, join: i32) -> Vec<i32> {
    let mut waiting: Vec<usize> = (START..=join).map(|no| parents.of(no).len()).collect();
    let mut order: Vec<i32> = children
        .of(START)
        .iter()
        .copied()
        .filter(|&no| no != join)
        .collect();
    let mut done = 0;
    while let Some(&no) = order.get(done) {
        done += 1;
        for &child in children.of(no) {
            waiting[index(child)] -= 1;
            if waiting[index(child)] == 0 && child != join {
                order.push(child);
            }
        }
    }
    order
}

/// Steps are counted in `i32`; `limits.max_steps_per_task` keeps them far below its end.
fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn index(no: i32) -> usize {
    usize::try_from(no).unwrap_or_default()
}

fn offset(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
