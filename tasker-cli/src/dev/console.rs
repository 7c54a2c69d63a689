//! What `tasker dev` and its children say, on one standard error. On a terminal every line says whose it is.

use std::io::{IsTerminal, Write};

use crate::output::palette::{Ink, Palette};

/// Columns for the longest name.
const NAME_COLUMNS: usize = 9;

/// Where lines go.
#[derive(Debug, Clone)]
pub(super) struct Console {
    palette: Palette,
    prefixes: bool,
}

impl Console {
    pub(super) fn new() -> Console {
        Console {
            palette: Palette::of_stderr(),
            prefixes: std::io::stderr().is_terminal(),
        }
    }

    /// Whether children's lines are taken in and marked, rather than left as they are.
    pub(super) fn marks_lines(&self) -> bool {
        self.prefixes
    }

    /// Something about the whole.
    pub(super) fn say(&self, text: &str) {
        self.line("dev", Ink::Strong, text);
    }

    /// A line of a child.
    pub(super) fn of_child(&self, name: &str, text: &str) {
        self.line(name, colour_of(name), text);
    }

    /// A text as it is, on standard output.
    pub(super) fn print(&self, text: &str) {
        // Nobody may be reading any more, which is no reason to stop.
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn line(&self, name: &str, ink: Ink, text: &str) {
        let name = self.palette.paint(ink, &format!("{name:<NAME_COLUMNS$}"));
        // As above.
        let _ = writeln!(std::io::stderr(), "{name} │ {text}");
    }
}

fn colour_of(name: &str) -> Ink {
    match name {
        "server" => Ink::Active,
        "postgres" => Ink::Warning,
        _ => Ink::Good,
    }
}
