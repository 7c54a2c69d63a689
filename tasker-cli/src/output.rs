//! How things are shown to people: colours, tables, times, the drawing of a graph, the live view.
//! Nothing here asks the server for anything.

pub(crate) mod diagram;
pub(crate) mod look;
pub(crate) mod palette;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod time;
