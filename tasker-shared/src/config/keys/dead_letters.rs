//! The keys of dead letters.

use crate::config::setting::{Reader, Rule};

/// Up to a day: for longer nobody remembers which workers there were.
struct UpToADay;

impl Rule<Option<u32>> for UpToADay {
    fn check(&self, value: &Option<u32>) -> Result<(), String> {
        value.map_or(Ok(()), |value| (1..=86_400).check(&value))
    }

    fn describe(&self) -> String {
        Rule::<u32>::describe(&(1..=86_400))
    }
}

section! {
    /// When tasks that wait in vain become dead letters. The limits of a template's `lifecycle` act without any key.
    DeadLetters at "dead_letters" {
        /// Fail a step that has waited for so long while no worker that runs served its handler and namespace. Without a value
        /// it waits for ever, and says so.
        unroutable_after_seconds: Option<u32> = None, UpToADay;
    }
}
