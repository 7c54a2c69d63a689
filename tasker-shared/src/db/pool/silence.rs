//! Connections that have fallen silent: they answer no more and never end, as when the host of the database is gone.
//! Whoever waits on one could wait for long. So duties that nothing keeps waiting ask their own connection from time
//! to time; where that is silent and a new one is answered, the process trusts none that is as old as the silent one:
//! who waits on such a connection gives up, and who would use it next opens another.

use std::io;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use sqlx::{Connection, Error, PgConnection};
use tokio::sync::watch;

/// How long a connection may take to answer when nothing is to be done.
pub(in crate::db) const ANSWER: Duration = Duration::from_secs(2);

/// What was found out last. A process works on one database, so there is one.
static FOUND: LazyLock<watch::Sender<Option<Found>>> = LazyLock::new(|| watch::Sender::new(None));

#[derive(Debug, Clone, Copy)]
struct Found {
    /// What was opened before this may be silent.
    asked: Instant,
    /// When that became known.
    at: Instant,
}

/// What is said of a connection that does not answer.
pub(in crate::db) fn silent() -> Error {
    let words = "the database did not answer in time; the connection is given up";
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, words))
}

/// Whether an error says that there was no answer.
pub(super) fn is_silence(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Asks a connection that nobody waits on whether it still answers.
pub(super) async fn ask(connection: &mut PgConnection) -> Result<(), Error> {
    let answer = tokio::time::timeout(ANSWER, connection.ping()).await;
    answer.unwrap_or_else(|_| Err(silent()))
}

/// A connection that was asked at `asked` was silent, and a new one is not.
pub(super) fn found(asked: Instant) {
    tracing::warn!("a connection has fallen silent; all that are as old are replaced");
    let at = Instant::now();
    FOUND.send_replace(Some(Found { asked, at }));
}

/// Whether a connection that was opened at `opened` may be silent.
pub(in crate::db) fn is_doubtful(opened: Instant) -> bool {
    FOUND.borrow().is_some_and(|found| found.asked >= opened)
}

/// Waits until a connection that was opened at `opened` is doubtful.
pub(in crate::db) async fn doubtful(opened: Instant) {
    wait(|found| found.asked >= opened).await;
}

/// Waits until a statement that has run since `began` need not be waited for: connections were found silent after
/// that, and its own has not answered for as long as those.
pub(super) async fn in_vain(began: Instant) {
    wait(|found| found.at >= began).await;
    tokio::time::sleep_until((began + ANSWER).into()).await;
}

async fn wait(is: impl Fn(&Found) -> bool) {
    let mut found = FOUND.subscribe();
    // The other end is never closed.
    let _ = found
        .wait_for(|found| found.as_ref().is_some_and(&is))
        .await;
}

/// The answer to a query, or that there was none within `limit`, or that it is waited for in vain.
pub(in crate::db) async fn within<T>(
    limit: Duration,
    query: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    within_since(Instant::now(), limit, query).await
}

/// The same on a connection that has owed an answer since `began`.
pub(super) async fn within_since<T>(
    began: Instant,
    limit: Duration,
    query: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        answer = query => answer,
        () = in_vain(began) => Err(silent()),
        () = tokio::time::sleep(limit) => Err(silent()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_began_before_a_silence_was_found_is_given_up_and_what_came_later_is_not() {
        let opened = Instant::now();
        let never = std::future::pending::<Result<(), Error>>();
        let mut waiting = Box::pin(within(Duration::MAX, never));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        assert!(!is_doubtful(opened));
        found(Instant::now());
        assert!(is_doubtful(opened) && !is_doubtful(Instant::now() + ANSWER));
        assert!(waiting.await.is_err());

        let later = std::future::pending::<Result<(), Error>>();
        let later = within(Duration::MAX, later);
        let patience = tokio::time::timeout(ANSWER * 10, later);
        assert!(patience.await.is_err(), "nothing is known of what is newer");
    }
}
