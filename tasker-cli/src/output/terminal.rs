//! How large the terminal is.

use std::io::IsTerminal;

/// The width text is laid out for where there is no terminal to ask.
const WIDTH_WITHOUT_TERMINAL: usize = 100;

/// Columns and rows to draw in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// Whether standard output is a terminal that understands cursor movement.
pub(crate) fn is_live() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The size of the terminal behind standard output; `COLUMNS` where there is none.
pub(crate) fn size() -> Size {
    let asked = std::io::stdout()
        .is_terminal()
        .then(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok())
        .flatten();
    match asked {
        Some(size) if size.ws_col > 0 && size.ws_row > 0 => Size {
            columns: usize::from(size.ws_col),
            rows: usize::from(size.ws_row),
        },
        _ => Size {
            columns: columns_of_environment().unwrap_or(WIDTH_WITHOUT_TERMINAL),
            rows: usize::MAX,
        },
    }
}

fn columns_of_environment() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok()?.parse().ok()?;
    (columns > 0).then_some(columns)
}
