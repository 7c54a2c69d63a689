//! What is going on, on standard error: a line that changes on a terminal, a line a part elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::output::palette::{Ink, Palette};

/// Between two drawings of the line.
const PAUSE: Duration = Duration::from_millis(100);
const BAR_COLUMNS: u64 = 30;

/// Tells people how far it is.
#[derive(Debug)]
pub(super) struct Progress {
    live: bool,
    palette: Palette,
    part: String,
    drawn: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Progress {
            live: std::io::stderr().is_terminal() && !dumb,
            palette: Palette::of_stderr(),
            part: String::new(),
            drawn: None,
        }
    }

    /// Something else begins.
    pub(super) fn begin(&mut self, part: impl Into<String>) {
        self.part = part.into();
        self.drawn = None;
        match self.live {
            true => self.draw(&self.palette.paint(Ink::Dim, "…")),
            false => self.write(&format!("{}\n", self.part)),
        }
    }

    /// So many of so many are done.
    pub(super) fn at(&mut self, done: u64, of: u64) {
        if !self.live || self.drawn.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        self.drawn = Some(Instant::now());
        let filled = (done.min(of) * BAR_COLUMNS).checked_div(of).unwrap_or(0);
        let bar = |columns: u64, sign: &str| sign.repeat(usize::try_from(columns).unwrap_or(0));
        let done_bar = self.palette.paint(Ink::Active, &bar(filled, "━"));
        let rest = self
            .palette
            .paint(Ink::Dim, &bar(BAR_COLUMNS - filled, "─"));
        self.draw(&format!("{done_bar}{rest} {}", share(done, of)));
    }

    /// Takes the line away.
    pub(super) fn end(&mut self) {
        if self.live {
            self.write("\r\u{1b}[K");
        }
    }

    fn draw(&self, more: &str) {
        self.write(&format!("\r{}  {more}\u{1b}[K", self.part));
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stderr().lock();
        // Nobody may be looking, which is no reason to stop.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn share(done: u64, of: u64) -> String {
    format!("{} of {}", grouped(done), grouped(of))
}

/// A number with its thousands apart: `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
