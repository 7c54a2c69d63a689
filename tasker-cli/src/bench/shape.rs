//! The graphs that are run: their names, their steps and the templates made of them. Every handler gives back the
//! task's context, so that each result can be checked.

use std::fmt;
use std::fmt::Write;

/// Where the tasks that are measured live.
pub(super) const MEASURED: &str = "bench";
/// Where tasks live that only wait.
pub(super) const WAITING: &str = "bench_waiting";
/// The widest fan-out: what a configuration may allow at most, less its ends.
const WIDEST: u32 = 999_998;

/// A graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Single,
    Linear,
    Diamond,
    Dag7,
    Tree8,
    /// One step, so many after it, one after all of them.
    Fanout(u32),
}

/// A graph in a namespace, with what its handlers do: a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Graph {
    pub(super) shape: Shape,
    pub(super) namespace: &'static str,
    /// How long each handler sleeps; without, it returns at once.
    pub(super) sleep_ms: Option<u64>,
}

/// `single`, `linear`, `diamond`, `dag7`, `tree8`, `fanout:N`.
pub(crate) fn parse(text: &str) -> Result<Shape, String> {
    let width = |text: &str| text.parse().ok().filter(|n| (1..=WIDEST).contains(n));
    match text {
        "single" => Ok(Shape::Single),
        "linear" => Ok(Shape::Linear),
        "diamond" => Ok(Shape::Diamond),
        "dag7" => Ok(Shape::Dag7),
        "tree8" => Ok(Shape::Tree8),
        _ => match text.strip_prefix("fanout:").map(width) {
            Some(Some(width)) => Ok(Shape::Fanout(width)),
            Some(None) => Err(format!(
                "a fan-out is 1 to {WIDEST} wide, as in fanout:1000"
            )),
            None => Err("is one of single, linear, diamond, dag7, tree8, fanout:N".to_owned()),
        },
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Single => f.write_str("single"),
            Shape::Linear => f.write_str("linear"),
            Shape::Diamond => f.write_str("diamond"),
            Shape::Dag7 => f.write_str("dag7"),
            Shape::Tree8 => f.write_str("tree8"),
            Shape::Fanout(width) => write!(f, "fanout:{width}"),
        }
    }
}

impl Shape {
    /// Steps of a task.
    pub(super) fn steps(self) -> u64 {
        match self {
            Shape::Fanout(width) => u64::from(width) + 2,
            _ => self.fixed().len() as u64,
        }
    }

    /// Steps on the longest way through the graph.
    pub(super) fn depth(self) -> u32 {
        match self {
            Shape::Single => 1,
            Shape::Diamond | Shape::Fanout(_) => 3,
            Shape::Linear | Shape::Dag7 | Shape::Tree8 => 4,
        }
    }

    /// How many tasks make a run of a second or so on a small machine.
    pub(super) fn usual_tasks(self) -> u64 {
        match self {
            Shape::Fanout(width) => (10_000 / u64::from(width)).max(1),
            Shape::Single => 20_000,
            _ => 10_000,
        }
    }

    /// Each step's name and what it depends on.
    fn fixed(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Shape::Single => &[("a", "")],
            Shape::Linear => &[("a", ""), ("b", "a"), ("c", "b"), ("d", "c")],
            Shape::Diamond => &[("a", ""), ("b", "a"), ("c", "a"), ("d", "b, c")],
            Shape::Dag7 => &[
                ("a", ""),
                ("b", "a"),
                ("c", "a"),
                ("d", "b"),
                ("e", "b, c"),
                ("f", "c"),
                ("g", "d, e, f"),
            ],
            Shape::Tree8 => &[
                ("a", ""),
                ("b", "a"),
                ("c", "a"),
                ("d", "b"),
                ("e", "b"),
                ("f", "c"),
                ("g", "c"),
                ("h", "d, e, f, g"),
            ],
            Shape::Fanout(_) => &[],
        }
    }
}

impl Graph {
    /// The graph whose tasks are measured, with handlers that return at once.
    pub(super) fn measured(shape: Shape) -> Graph {
        Graph {
            shape,
            namespace: MEASURED,
            sleep_ms: None,
        }
    }

    /// The template's name.
    pub(super) fn name(self) -> String {
        let shape = self.shape.to_string().replace(':', "_");
        match self.sleep_ms {
            Some(ms) => format!("{shape}_sleep_{ms}"),
            None => shape,
        }
    }

    /// What its handlers are called.
    pub(super) fn callable(self) -> &'static str {
        match self.sleep_ms {
            Some(_) => "sleep",
            None => "echo",
        }
    }

    /// The template, as it is sent.
    pub(super) fn template(self) -> String {
        let handler = match self.sleep_ms {
            Some(ms) => format!("{{callable: sleep, initialization: {{ms: {ms}}}}}"),
            None => "{callable: echo}".to_owned(),
        };
        let mut text = format!(
            "name: {}\nnamespace_name: {}\nversion: 1.0.0\nsteps:\n",
            self.name(),
            self.namespace
        );
        let mut step = |name: &str, dependencies: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "  - {{name: {name}, handler: {handler}, dependencies: [{dependencies}]}}"
            );
        };
        if let Shape::Fanout(width) = self.shape {
            let names: Vec<String> = (1..=width).map(|n| format!("w{n}")).collect();
            step("first", "");
            names.iter().for_each(|name| step(name, "first"));
            step("last", &names.join(", "));
        }
        for (name, dependencies) in self.shape.fixed() {
            step(name, dependencies);
        }
        text
    }

    /// The body of a request for the task whose context is `{"n":number}`.
    pub(super) fn request(self, number: u64) -> String {
        format!(
            r#"{{"namespace":"{}","name":"{}","context":{{"n":{number}}}}}"#,
            self.namespace,
            self.name()
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tasker_shared::template::{self, Limits};

    #[test]
    fn every_shape_has_a_word_and_a_template_with_its_steps() {
        for word in ["single", "linear", "diamond", "dag7", "tree8", "fanout:3"] {
            let shape = parse(word).unwrap();
            assert_eq!(shape.to_string(), word);
            for sleep_ms in [None, Some(5)] {
                let graph = Graph {
                    sleep_ms,
                    ..Graph::measured(shape)
                };
                let text = graph.template();
                let template = template::parse(&text, "t.yaml", &Limits::default()).unwrap();
                assert_eq!(template.steps.len() as u64, shape.steps(), "{word}");
                assert_eq!(template.name, graph.name());
            }
        }
        assert_eq!(parse("fanout:3").unwrap().steps(), 5);
    }

    #[test]
    fn a_word_that_is_no_shape_is_refused_with_those_that_are() {
        assert!(parse("square").unwrap_err().contains("diamond"));
        for word in ["fanout:", "fanout:0", "fanout:x", "fanout:9999999"] {
            assert!(parse(word).unwrap_err().contains("fanout:1000"), "{word}");
        }
    }
}
