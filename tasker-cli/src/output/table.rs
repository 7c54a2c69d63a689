//! Tables without frames: a line of heads and one line a row, as wide as they need to be.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::terminal;

/// Rows under heads.
#[derive(Debug)]
pub(crate) struct Rows {
    table: Table,
}

impl Rows {
    /// No rows under `heads`. A head that begins with `>` stands, like its column, to the right.
    pub(crate) fn under(heads: &[&str]) -> Rows {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(heads.iter().map(|head| head.trim_start_matches('>')));
        match u16::try_from(terminal::size().columns) {
            Ok(columns) if terminal::is_live() => table.set_width(columns),
            _ => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        for (at, head) in heads.iter().enumerate() {
            if let Some(column) = table.column_mut(at) {
                column.set_padding((0, 2));
                if head.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Rows { table }
    }

    /// Adds a row, one cell a head.
    pub(crate) fn add(&mut self, cells: Vec<String>) {
        self.table.add_row(cells);
    }

    /// The text, without blanks at the ends of its lines, ending with a line feed.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for line in self.table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_heads() {
        let mut rows = Rows::under(&["NAME", ">STEPS"]);
        rows.add(vec!["process_order".to_owned(), "7".to_owned()]);
        rows.add(vec!["x".to_owned(), "1000".to_owned()]);
        insta::assert_snapshot!(rows.text(), @r"
        NAME           STEPS
        process_order      7
        x               1000
        ");
    }
}
