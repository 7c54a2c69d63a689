//! Boxes and lines as characters.

use std::ops::Range;

use super::layers::Item;
use super::place::{Placed, Spot};
use super::route::{Bus, Channel};
use super::{Diagram, Line, Node};
use crate::output::palette::Ink;

/// Frame, text, frame.
const BOX_ROWS: usize = 3;

const UP: u8 = 1;
const DOWN: u8 = 2;
const LEFT: u8 = 4;
const RIGHT: u8 = 8;

/// Draws everything.
pub(super) fn paint(diagram: &Diagram, placed: &Placed, channels: &[Channel]) -> Vec<Line> {
    let none = Channel::default();
    let mut lines = Vec::new();
    for (layer, spots) in placed.layers.iter().enumerate() {
        let above = layer.checked_sub(1).and_then(|at| channels.get(at));
        let below = channels.get(layer);
        let mut canvas = Canvas::new(placed.columns(), BOX_ROWS);
        for (at, spot) in spots.iter().enumerate() {
            let entry = above.and_then(|channel| channel.entries[at]);
            let exit = below.and_then(|channel| exit_of(channel, at));
            match spot.item {
                Item::Step(node) => canvas.draw_box(spot, &diagram.nodes[node], entry, exit),
                Item::Pass => canvas.draw_down(entry.unwrap_or_else(|| spot.centre()), 0..BOX_ROWS),
            }
        }
        lines.extend(canvas.into_lines());
        lines.extend(between(placed.columns(), below.unwrap_or(&none)));
    }
    lines
}

/// The column at which an item is left, where any line leaves it.
fn exit_of(channel: &Channel, at: usize) -> Option<usize> {
    let column = channel.exits[at];
    let used = channel.buses.iter().any(|bus| bus.from.contains(&column));
    used.then_some(column)
}

/// The rows of a channel.
fn between(columns: usize, channel: &Channel) -> Vec<Line> {
    let mut canvas = Canvas::new(columns, channel.tracks);
    let mut wires = Wires::new(columns, channel.tracks);
    for bus in &channel.buses {
        wires.lay_across(bus);
    }
    for bus in &channel.buses {
        match bus.track {
            None => wires.lay_down(&bus.from, 0..channel.tracks, channel),
            Some(track) => {
                wires.lay_down(&bus.from, 0..track, channel);
                wires.lay_down(&bus.to, track + 1..channel.tracks, channel);
                wires.join(track, &bus.from, UP);
                wires.join(track, &bus.to, DOWN);
            }
        }
    }
    for (row, line) in wires.bits.iter().enumerate() {
        for (column, &bits) in line.iter().enumerate() {
            canvas.put(row, column, wire(bits), Ink::Dim);
        }
    }
    canvas.into_lines()
}

/// Which of the four directions a wire takes from each place.
struct Wires {
    bits: Vec<Vec<u8>>,
}

impl Wires {
    fn new(columns: usize, rows: usize) -> Wires {
        Wires {
            bits: vec![vec![0; columns]; rows],
        }
    }

    fn lay_across(&mut self, bus: &Bus) {
        let Some(row) = bus.track else { return };
        let (first, last) = bus.span();
        for column in first..=last {
            if column > first {
                self.bits[row][column] |= LEFT;
            }
            if column < last {
                self.bits[row][column] |= RIGHT;
            }
        }
    }

    /// Wires in `columns` through `rows`. What they only cross they cover.
    fn lay_down(&mut self, columns: &[usize], rows: Range<usize>, channel: &Channel) {
        for row in rows {
            for column in columns {
                let joins = channel.buses.iter().any(|bus| {
                    bus.track == Some(row) && (bus.from.contains(column) || bus.to.contains(column))
                });
                match joins {
                    true => self.bits[row][*column] |= UP | DOWN,
                    false => self.bits[row][*column] = UP | DOWN,
                }
            }
        }
    }

    /// Ends of wires on a bus.
    fn join(&mut self, row: usize, columns: &[usize], bit: u8) {
        for &column in columns {
            self.bits[row][column] |= bit;
        }
    }
}

fn wire(bits: u8) -> char {
    const SIGNS: [char; 16] = [
        ' ', '╵', '╷', '│', '╴', '┘', '┐', '┤', '╶', '└', '┌', '├', '─', '┴', '┬', '┼',
    ];
    SIGNS[usize::from(bits & 15)]
}

/// Rows of characters with their colours.
struct Canvas {
    cells: Vec<Vec<(char, Ink)>>,
}

impl Canvas {
    fn new(columns: usize, rows: usize) -> Canvas {
        Canvas {
            cells: vec![vec![(' ', Ink::Plain); columns]; rows],
        }
    }

    fn put(&mut self, row: usize, column: usize, sign: char, ink: Ink) {
        if let Some(cell) = self.cells[row].get_mut(column) {
            *cell = (sign, ink);
        }
    }

    fn write(&mut self, row: usize, column: usize, text: &str, ink: Ink) {
        for (at, sign) in text.chars().enumerate() {
            self.put(row, column + at, sign, ink);
        }
    }

    fn draw_down(&mut self, column: usize, rows: Range<usize>) {
        for row in rows {
            self.put(row, column, '│', Ink::Dim);
        }
    }

    fn draw_box(&mut self, spot: &Spot, node: &Node, entry: Option<usize>, exit: Option<usize>) {
        let frame = node.look.ink;
        let right = spot.left + spot.width - 1;
        for column in spot.left + 1..right {
            self.put(0, column, '─', frame);
            self.put(2, column, '─', frame);
        }
        for (row, column, sign) in [
            (0, spot.left, '┌'),
            (0, right, '┐'),
            (1, spot.left, '│'),
            (1, right, '│'),
            (2, spot.left, '└'),
            (2, right, '┘'),
        ] {
            self.put(row, column, sign, frame);
        }
        if let Some(column) = entry {
            self.put(0, column, '▼', Ink::Dim);
        }
        if let Some(column) = exit {
            self.put(2, column, '┬', frame);
        }
        let name = match node.look.ink {
            Ink::Dim => Ink::Dim,
            _ => Ink::Plain,
        };
        let name_at = spot.left + 4;
        self.put(1, spot.left + 2, node.look.sign, node.look.ink);
        self.write(1, name_at, &node.name, name);
        let note_at = name_at + node.name.chars().count() + 1;
        self.write(1, note_at, &node.note, Ink::Dim);
    }

    /// The rows without blanks at their ends.
    fn into_lines(self) -> Vec<Line> {
        let line = |cells: Vec<(char, Ink)>| {
            let end = cells.iter().rposition(|(sign, _)| *sign != ' ');
            let mut line = Line::default();
            for (sign, ink) in &cells[..end.map_or(0, |at| at + 1)] {
                let ink = if *sign == ' ' { Ink::Plain } else { *ink };
                line.push(ink, sign.encode_utf8(&mut [0; 4]));
            }
            line
        };
        self.cells.into_iter().map(line).collect()
    }
}
