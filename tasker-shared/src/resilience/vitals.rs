//! Whether the loops of a process still run. One that panicked, or ended though nobody told it to, cannot be mended
//! from inside: it is logged, the process says that it is not alive, and whoever watches it starts it anew.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

/// The loops of a process. Clones share what is known of them.
#[derive(Debug, Clone, Default)]
pub struct Vitals(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    first: OnceLock<Death>,
    died: CancellationToken,
}

/// A loop that runs no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the loop `{name}` has died: {why}")]
pub struct Death {
    /// The loop's.
    pub name: &'static str,
    pub why: String,
}

impl Vitals {
    /// Runs a loop that ends only once it is told to by `stop`; any other end of it is a death.
    pub async fn keep(
        self,
        name: &'static str,
        stop: CancellationToken,
        work: impl Future<Output = ()>,
    ) {
        let why = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => "it ended though nothing told it to".to_owned(),
            Err(panic) => format!("it panicked: {}", said(&*panic)),
        };
        let death = Death { name, why };
        tracing::error!(%death, "a loop of the process has died; start the process anew");
        // The first one is told of.
        let _ = self.0.first.set(death);
        self.0.died.cancel();
    }

    /// Runs a loop that ends by itself when nothing more can come; only a panic is its death.
    pub async fn guard(self, name: &'static str, work: impl Future<Output = ()>) {
        let told = CancellationToken::new();
        told.cancel();
        self.keep(name, told, work).await;
    }

    /// The first loop that died, where one has.
    pub fn death(&self) -> Option<&Death> {
        self.0.first.get()
    }

    /// Waits until a loop has died.
    pub async fn died(&self) {
        self.0.died.cancelled().await;
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_panics_or_ends_by_itself_is_a_death_and_one_that_is_told_to_end_is_not() {
        let vitals = Vitals::default();
        let stop = CancellationToken::new();
        let told = CancellationToken::new();
        told.cancel();
        vitals.clone().keep("told", told, async {}).await;
        assert_eq!(vitals.death(), None);

        let panics = async { panic!("out of {}", "luck") };
        vitals.clone().keep("rescue", stop.clone(), panics).await;
        vitals.died().await;
        assert_eq!(
            vitals.death().unwrap().to_string(),
            "the loop `rescue` has died: it panicked: out of luck"
        );
        vitals.clone().keep("timer", stop, async {}).await;
        assert_eq!(vitals.death().unwrap().name, "rescue", "the first counts");

        let other = Vitals::default();
        let stop = CancellationToken::new();
        other.clone().keep("timer", stop, async {}).await;
        assert_eq!(
            other.death().unwrap().why,
            "it ended though nothing told it to"
        );
    }
}
