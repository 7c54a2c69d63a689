//! The few colours of the command line, and whether they are used at all: only on a terminal, and never
//! where `NO_COLOR` is set or the terminal is `dumb`.

use std::io::IsTerminal;

/// What a stretch of text is, so that its colour follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Ink {
    #[default]
    Plain,
    /// Of less interest than what is around it.
    Dim,
    Strong,
    /// Under way.
    Active,
    /// Ended well.
    Good,
    /// Will be tried again, or needs attention soon.
    Warning,
    /// Ended badly.
    Bad,
}

/// Whether to write colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Palette {
    colours: bool,
}

impl Palette {
    /// Writes no colours.
    #[cfg(test)]
    pub(crate) const PLAIN: Palette = Palette { colours: false };

    /// What suits standard output.
    pub(crate) fn of_stdout() -> Palette {
        Palette {
            colours: std::io::stdout().is_terminal() && wanted(),
        }
    }

    /// What suits standard error.
    pub(crate) fn of_stderr() -> Palette {
        Palette {
            colours: std::io::stderr().is_terminal() && wanted(),
        }
    }

    /// `text` in the colour of `ink`.
    pub(crate) fn paint(self, ink: Ink, text: &str) -> String {
        match ink.code() {
            Some(code) if self.colours && !text.is_empty() => {
                format!("\u{1b}[{code}m{text}\u{1b}[0m")
            }
            _ => text.to_owned(),
        }
    }
}

impl Ink {
    fn code(self) -> Option<&'static str> {
        match self {
            Ink::Plain => None,
            Ink::Dim => Some("2"),
            Ink::Strong => Some("1"),
            Ink::Active => Some("36"),
            Ink::Good => Some("32"),
            Ink::Warning => Some("33"),
            Ink::Bad => Some("31"),
        }
    }
}

fn wanted() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !no_color && !dumb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_written_only_where_they_are_wanted() {
        let colourful = Palette { colours: true };
        assert_eq!(
            colourful.paint(Ink::Good, "done"),
            "\u{1b}[32mdone\u{1b}[0m"
        );
        assert_eq!(colourful.paint(Ink::Plain, "done"), "done");
        assert_eq!(colourful.paint(Ink::Good, ""), "");
        assert_eq!(Palette::PLAIN.paint(Ink::Good, "done"), "done");
    }
}
