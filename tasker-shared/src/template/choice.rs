//! The keys of a template that take one of a few words.

use serde::{Deserialize, Serialize};

/// A set of strings a key may take: one list for reading, writing and error messages.
pub(crate) trait Choice: Sized + Copy + 'static {
    /// Every value with its spelling in the YAML.
    const CHOICES: &'static [(&'static str, Self)];
}

macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// The spelling in the YAML.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl Choice for $name {
            const CHOICES: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),+];
        }
    };
}

choice! {
    /// What happens to a task that has stayed too long in one state.
    StalenessAction { Dlq = "dlq", Error = "error", None = "none" }
}

choice! {
    /// What an exhausted step does to its task.
    #[derive(Default)]
    OnFailure {
        /// The task ends in `error`.
        #[default] Fail = "fail",
        /// The task stays open as `blocked_by_failures`.
        Block = "block",
    }
}

choice! {
    /// How a step takes part in the graph.
    #[derive(Default)]
    StepType {
        #[default] Standard = "standard",
        Decision = "decision",
        DeferredConvergence = "deferred_convergence",
        Batchable = "batchable",
        BatchWorker = "batch_worker",
        Wait = "wait",
    }
}

choice! {
    /// How the delay between attempts grows.
    #[derive(Default)]
    Backoff {
        None = "none",
        Linear = "linear",
        #[default] Exponential = "exponential",
        Fibonacci = "fibonacci",
    }
}

choice! {
    /// The outcome upon which a step's event is published.
    #[derive(Default)]
    EventCondition {
        #[default] Success = "success",
        Failure = "failure",
        RetryableFailure = "retryable_failure",
        PermanentFailure = "permanent_failure",
        Always = "always",
    }
}

choice! {
    /// How an event reaches its readers.
    #[derive(Default)]
    DeliveryMode { #[default] Durable = "durable", Fast = "fast", Broadcast = "broadcast" }
}

choice! {
    /// What a failed batch does to the others.
    #[derive(Default)]
    FailureStrategy {
        #[default] FailFast = "fail_fast",
        ContinueOnFailure = "continue_on_failure",
        Isolate = "isolate",
    }
}
