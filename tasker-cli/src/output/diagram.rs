//! A graph of steps drawn with characters: boxes in layers from top to bottom, lines between them.
//! Where the boxes would not fit, steps alike are drawn as one; where that does not help either, the
//! graph is told as a list. Nothing here knows tasks or templates, only nodes and their parents.

mod canvas;
mod fold;
mod layers;
mod listing;
mod place;
mod route;
#[cfg(test)]
mod tests;

use super::look::Look;
use super::palette::{Ink, Palette};

/// Graphs of more boxes than this are told as a list: nobody can follow the lines.
const MOST_BOXES: usize = 80;

/// What is to be drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Diagram {
    pub(crate) nodes: Vec<Node>,
}

/// A step in a drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Indices of the nodes it waits for. Free of cycles.
    pub(crate) parents: Vec<usize>,
    pub(crate) look: Look,
    /// What stands behind the name; may be empty.
    pub(crate) note: String,
    /// Columns kept free for the note, so that a drawing does not move when a note comes or goes.
    pub(crate) note_room: usize,
}

/// A line of a drawing: stretches of text with their colours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) parts: Vec<(Ink, String)>,
}

impl Line {
    /// Adds `text` in the colour of `ink`.
    pub(crate) fn push(&mut self, ink: Ink, text: &str) {
        match self.parts.last_mut() {
            Some((last, before)) if *last == ink => before.push_str(text),
            _ => self.parts.push((ink, text.to_owned())),
        }
    }

    /// The text with its colours.
    pub(crate) fn paint(&self, palette: Palette) -> String {
        let parts = self.parts.iter();
        parts.map(|(ink, text)| palette.paint(*ink, text)).collect()
    }

    /// How many columns it takes.
    #[cfg(test)]
    pub(crate) fn columns(&self) -> usize {
        let parts = self.parts.iter();
        parts.map(|(_, text)| text.chars().count()).sum()
    }

    /// Without what is beyond `columns`.
    pub(crate) fn cut(mut self, columns: usize) -> Line {
        let mut room = columns;
        for (_, text) in &mut self.parts {
            let kept: String = text.chars().take(room).collect();
            room -= kept.chars().count();
            *text = kept;
        }
        self
    }
}

impl Diagram {
    /// The same for a drawing that is made once: no room is kept for what may come.
    pub(crate) fn at_rest(mut self) -> Diagram {
        for node in &mut self.nodes {
            node.note_room = 0;
        }
        self
    }

    /// The drawing, no wider than `columns` where that can be had.
    pub(crate) fn draw(&self, columns: usize) -> Vec<Line> {
        self.boxes(columns)
            .or_else(|| fold::alike(self).boxes(columns))
            .unwrap_or_else(|| listing::of(&fold::alike(self), columns))
    }

    /// The drawing with boxes, unless it has too many or is too wide.
    fn boxes(&self, columns: usize) -> Option<Vec<Line>> {
        if self.nodes.is_empty() || self.nodes.len() > MOST_BOXES {
            return None;
        }
        let layers = layers::of(self);
        let placed = place::of(&layers, self);
        if placed.columns() > columns {
            return None;
        }
        Some(canvas::paint(self, &placed, &route::of(&placed)))
    }
}

impl Node {
    /// The columns of its box, frame included.
    fn box_columns(&self) -> usize {
        const FRAME_AND_SIGN: usize = 6;
        let note = self.note.chars().count().max(self.note_room);
        let note = if note == 0 { 0 } else { note + 1 };
        FRAME_AND_SIGN + self.name.chars().count() + note
    }
}
