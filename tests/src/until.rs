//! Waiting for what comes about by itself.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// Asks until there is an answer; an error says what is still missing.
///
/// # Panics
/// When there is no answer in that time.
pub async fn until<T>(patience: Duration, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + patience;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(missing) => assert!(Instant::now() < end, "after {patience:?} still: {missing}"),
        }
        tokio::time::sleep(POLL).await;
    }
}
