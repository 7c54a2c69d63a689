//! The keys of retention.

use std::path::PathBuf;

use crate::config::setting::{Reader, Rule};

/// From a week, which is what a partition holds, to a hundred years.
struct Days;

impl Rule<Option<u32>> for Days {
    fn check(&self, value: &Option<u32>) -> Result<(), String> {
        value.map_or(Ok(()), |value| (7..=36_500).check(&value))
    }

    fn describe(&self) -> String {
        Rule::<u32>::describe(&(7..=36_500))
    }
}

section! {
    /// How long history is kept. It goes by the week: a week's tasks are dropped together, when all of them have ended and
    /// nothing refers to one.
    Retention at "retention" {
        /// Drop weeks whose tasks ended, and forget dead letters that were resolved, more than so many days ago. Without a value
        /// everything is kept.
        keep_days: Option<u32> = None, Days;
        /// A directory of the server's machine that a week is written to, compressed, before it is dropped. It must exist: a server
        /// makes none, which might be on a disk that is not mounted. Without, a week is only dropped.
        archive_directory: Option<PathBuf> = None, ();
    }
}
