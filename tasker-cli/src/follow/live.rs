//! The live view: a frame drawn over the one before it, so that the graph stands still and changes colour.

use std::io::Write;

use chrono::Utc;

use super::{Picture, Step};
use crate::failure::Failure;
use crate::output::diagram::Line;
use crate::output::palette::{Ink, Palette};
use crate::output::terminal::{self, Size};
use crate::output::{look, time};

/// Steps named below the bar.
const MOST_STEPS: usize = 6;
const BAR_COLUMNS: usize = 30;

/// What is on the screen.
#[derive(Debug)]
pub(super) struct Screen {
    palette: Palette,
    lines: usize,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen {
            palette: Palette::of_stdout(),
            lines: 0,
        }
    }

    /// Draws over the frame before.
    pub(super) fn show(&mut self, picture: &Picture) -> Result<(), Failure> {
        let frame = frame(picture, terminal::size());
        let mut text = match self.lines {
            0 => String::new(),
            lines => format!("\u{1b}[{lines}A\r"),
        };
        for line in &frame {
            text.push_str(&line.paint(self.palette));
            // Each line takes away the rest of the one it covers: emptying the screen first would flicker.
            text.push_str("\u{1b}[K\n");
        }
        text.push_str("\u{1b}[J");
        self.lines = frame.len();
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|source| Failure::local("cannot write to the terminal", source))
    }
}

/// What suits the size: the whole graph, or without it the bar and what is under way.
fn frame(picture: &Picture, size: Size) -> Vec<Line> {
    let mut lines = vec![title(picture), Line::default()];
    let drawing = picture.diagram().draw(size.columns.saturating_sub(1));
    let below = below(picture);
    // One row stays free for the cursor, one between drawing and bar.
    let has_room = lines.len() + drawing.len() + below.len() + 2 <= size.rows;
    if has_room {
        lines.extend(drawing);
        lines.push(Line::default());
    }
    lines.extend(below);
    let columns = size.columns.saturating_sub(1);
    lines
        .into_iter()
        .take(size.rows.saturating_sub(1))
        .map(|line| line.cut(columns))
        .collect()
}

fn title(picture: &Picture) -> Line {
    let look = look::of_task(&picture.status);
    let until = picture.completed_at.unwrap_or_else(Utc::now);
    let took = (until - picture.created_at).num_milliseconds();
    let mut line = Line::default();
    line.push(look.ink, &format!("{} ", look.sign));
    line.push(Ink::Strong, &picture.title);
    line.push(look.ink, &format!("  {}", picture.status));
    line.push(
        Ink::Dim,
        &format!("  {}  {}", time::took(took), picture.task_uuid),
    );
    line
}

/// The bar, then the steps worth a word: failed ones, retries, what runs.
fn below(picture: &Picture) -> Vec<Line> {
    let mut lines = vec![bar(picture)];
    let telling = |step: &&Step| {
        matches!(
            look::of_step(&step.state).ink,
            Ink::Bad | Ink::Warning | Ink::Active
        )
    };
    let count = picture.steps.iter().filter(telling).count();
    let named = picture.steps.iter().filter(telling).take(MOST_STEPS);
    lines.extend(named.map(about));
    if count > MOST_STEPS {
        let mut line = Line::default();
        line.push(Ink::Dim, &format!("  and {} more", count - MOST_STEPS));
        lines.push(line);
    }
    lines
}

fn bar(picture: &Picture) -> Line {
    let (ended, all) = picture.progress();
    let filled = (ended * BAR_COLUMNS).checked_div(all).unwrap_or(0);
    let mut line = Line::default();
    line.push(look::of_task(&picture.status).ink, &"━".repeat(filled));
    line.push(Ink::Dim, &"─".repeat(BAR_COLUMNS - filled));
    line.push(Ink::Plain, &format!(" {ended} of {all} steps"));
    line
}

fn about(step: &Step) -> Line {
    let look = look::of_step(&step.state);
    let mut line = Line::default();
    line.push(look.ink, &format!("  {} ", look.sign));
    line.push(Ink::Plain, &step.name);
    line.push(look.ink, &format!("  {}", step.state));
    if step.attempts > 1 {
        line.push(
            Ink::Dim,
            &format!("  attempt {} of {}", step.attempts, step.max_attempts),
        );
    }
    if let Some(error) = &step.error {
        let first = error.lines().next().unwrap_or_default();
        line.push(Ink::Dim, &format!("  {first}"));
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn picture(steps: usize) -> Picture {
        let step = |at: usize| Step {
            name: format!("step_{at}"),
            uuid: None,
            parents: at.checked_sub(1).into_iter().collect(),
            state: ["complete", "waiting_for_retry", "pending"][at % 3].to_owned(),
            attempts: i32::try_from(at % 3 * 2).unwrap(),
            max_attempts: 3,
            error: (at % 3 == 1).then(|| "answered 503\nbusy".to_owned()),
        };
        Picture {
            task_uuid: uuid::Uuid::nil(),
            title: "shop/process_order 1.0.0".to_owned(),
            status: "waiting_for_retry".to_owned(),
            created_at: "2025-01-02T03:04:05Z".parse().unwrap(),
            completed_at: Some("2025-01-02T03:04:06.5Z".parse().unwrap()),
            steps: (0..steps).map(step).collect(),
        }
    }

    fn text(frame: &[Line]) -> String {
        let lines: Vec<String> = frame
            .iter()
            .map(|line| line.paint(Palette::PLAIN))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn a_frame_has_title_graph_bar_and_what_needs_attention() {
        let size = Size {
            columns: 100,
            rows: 40,
        };
        insta::assert_snapshot!(text(&frame(&picture(3), size)));
    }

    #[test]
    fn a_frame_never_exceeds_the_terminal() {
        for (columns, rows) in [(80, 24), (20, 5), (200, 10), (10, 2)] {
            for steps in [1, 5, 50] {
                let frame = frame(&picture(steps), Size { columns, rows });
                assert!(frame.len() < rows, "{steps} steps, {columns}×{rows}");
                assert!(frame.iter().all(|line| line.columns() < columns));
            }
        }
    }

    #[test]
    fn a_graph_that_is_too_high_leaves_the_bar() {
        let frame = text(&frame(
            &picture(12),
            Size {
                columns: 80,
                rows: 24,
            },
        ));
        assert!(!frame.contains('┌'), "{frame}");
        assert!(frame.contains("4 of 12 steps"), "{frame}");
    }
}
