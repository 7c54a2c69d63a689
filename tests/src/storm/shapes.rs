//! What the tasks of a storm look like: the templates, and what each step must give.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// Namespace of all shapes.
pub const NAMESPACE: &str = "storm";
/// How often a step is tried.
const ATTEMPTS: u32 = 5;
/// The same of one that asks a target: what it may fail until the circuit opens is not bounded by this.
const CALLS: u32 = 100;

/// A template.
#[derive(Debug, Clone)]
pub struct Shape {
    pub name: &'static str,
    /// How many of a hundred tasks are of it.
    pub weight: u32,
    pub steps: Vec<Part>,
}

/// A step. What it gives is its value, the task's number and what its parents gave, added up.
#[derive(Debug, Clone, Default)]
pub struct Part {
    pub name: String,
    /// By index.
    pub parents: Vec<usize>,
    pub ms: u64,
    /// How many attempts fail before it ends well.
    pub fails: u32,
    /// It fails for good.
    pub hopeless: bool,
    /// It is an `http` step, which asks the storm's target. Before that one's circuit opens, it may fail any number
    /// of times.
    pub calls: bool,
}

/// How a step must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Once well, with this result, behind so many failures.
    Well { sum: i64, fails: u32 },
    /// Once well, with this result, behind any number of failures.
    Called { sum: i64 },
    /// In error, once.
    Error,
    /// Not at all, since a parent did not end well.
    Skipped,
}

fn part(name: &str, parents: &[usize], ms: u64) -> Part {
    Part {
        name: name.to_owned(),
        parents: parents.to_vec(),
        ms,
        ..Part::default()
    }
}

/// All shapes.
#[must_use]
pub fn all() -> Vec<Shape> {
    let fan = std::iter::once(part("first", &[], 20))
        .chain((0..8).map(|n| part(&format!("leg_{n}"), &[0], 100 + 20 * n)))
        .chain([part("last", &[1, 2, 3, 4, 5, 6, 7, 8], 20)])
        .collect();
    let failing = |part: Part, fails| Part { fails, ..part };
    let hopeless = Part {
        hopeless: true,
        ..part("hopeless", &[0], 50)
    };
    let shape = |name, weight, steps| Shape {
        name,
        weight,
        steps,
    };
    vec![
        shape("single", 25, vec![part("only", &[], 150)]),
        shape(
            "line",
            20,
            vec![
                part("a", &[], 50),
                part("b", &[0], 200),
                part("c", &[1], 0),
                part("d", &[2], 100),
            ],
        ),
        shape(
            "diamond",
            20,
            vec![
                part("top", &[], 50),
                part("left", &[0], 250),
                part("right", &[0], 100),
                part("bottom", &[1, 2], 20),
            ],
        ),
        shape("fan", 10, fan),
        shape(
            "retrying",
            10,
            vec![
                failing(part("a", &[], 50), 1),
                failing(part("b", &[0], 20), 2),
                part("c", &[1], 20),
            ],
        ),
        shape("slow", 5, vec![part("a", &[], 2_500), part("b", &[0], 50)]),
        shape(
            "hopeless",
            5,
            vec![
                part("a", &[], 50),
                hopeless,
                part("never", &[1], 10),
                part("beside", &[0], 100),
            ],
        ),
        shape(
            "calling",
            5,
            vec![
                Part {
                    calls: true,
                    ..part("call", &[], 0)
                },
                part("after", &[0], 20),
            ],
        ),
        // Asked for after each fault, to see when it has been got over.
        shape("probe", 0, vec![part("only", &[], 0)]),
    ]
}

impl Shape {
    /// How many steps nothing waits for.
    #[must_use]
    pub fn leaves(&self) -> usize {
        let waits_for = |n: &usize| self.steps.iter().any(|step| step.parents.contains(n));
        (0..self.steps.len()).filter(|n| !waits_for(n)).count()
    }

    /// The template as YAML, where `target` is whom `http` steps ask.
    #[must_use]
    pub fn yaml(&self, target: SocketAddr) -> String {
        let mut text = format!(
            "name: {}\nnamespace_name: {NAMESPACE}\nversion: 1.0.0\nsteps:\n",
            self.name
        );
        for (index, part) in self.steps.iter().enumerate() {
            let parents: Vec<&str> = self.names(&part.parents).collect();
            let parents = parents.join(", ");
            let (name, value) = (&part.name, value(index));
            let handler = match part.calls {
                true => {
                    format!("callable: http, initialization: {{ url: 'http://{target}/{value}' }}")
                }
                false => format!(
                    "callable: record, initialization: {{ ms: {}, value: {value}, fails: {}, hopeless: {}, parents: [{parents}] }}",
                    part.ms, part.fails, part.hopeless
                ),
            };
            let attempts = if part.calls { CALLS } else { ATTEMPTS };
            let _ = writeln!(
                text,
                "  - name: {name}\n    dependencies: [{parents}]\n    \
                 retry: {{ max_attempts: {attempts}, backoff: linear, backoff_base_ms: 100 }}\n    \
                 handler: {{ {handler} }}"
            );
        }
        text
    }

    fn names<'a>(&'a self, indices: &'a [usize]) -> impl Iterator<Item = &'a str> {
        indices.iter().map(|&index| self.steps[index].name.as_str())
    }

    /// How the steps of task number `n` must end, in their order.
    #[must_use]
    pub fn ends(&self, n: i64) -> Vec<End> {
        let mut ends: Vec<End> = Vec::with_capacity(self.steps.len());
        for (index, part) in self.steps.iter().enumerate() {
            let parents = part.parents.iter().map(|&parent| match ends[parent] {
                End::Well { sum, .. } | End::Called { sum } => Some(sum),
                End::Error | End::Skipped => None,
            });
            let end = match parents.sum::<Option<i64>>() {
                None => End::Skipped,
                Some(_) if part.hopeless => End::Error,
                Some(given) if part.calls => End::Called {
                    sum: value(index) + n + given,
                },
                Some(given) => End::Well {
                    sum: value(index) + n + given,
                    fails: part.fails,
                },
            };
            ends.push(end);
        }
        ends
    }

    /// Whether its tasks end in error, as they must.
    #[must_use]
    pub fn ends_in_error(&self) -> bool {
        self.steps.iter().any(|part| part.hopeless)
    }
}

/// What a step adds: different for each.
fn value(index: usize) -> i64 {
    i64::try_from(1 + index * index).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_gives_what_its_parents_gave_and_something_of_its_own() {
        let shapes = all();
        let ends = |name| {
            let shape = shapes.iter().find(|shape| shape.name == name).unwrap();
            shape.ends(1000)
        };
        let well = |sum, fails| End::Well { sum, fails };
        assert_eq!(ends("calling"), [End::Called { sum: 1001 }, well(2003, 0)]);
        assert_eq!(
            ends("diamond"),
            [well(1001, 0), well(2003, 0), well(2006, 0), well(5019, 0)]
        );
        assert_eq!(ends("retrying")[1], well(2003, 2));
        assert_eq!(
            ends("hopeless"),
            [well(1001, 0), End::Error, End::Skipped, well(2011, 0)]
        );
    }

    #[test]
    fn of_a_hundred_tasks_each_shape_has_its_share() {
        assert_eq!(all().iter().map(|shape| shape.weight).sum::<u32>(), 100);
    }
}
