//! The pulse: asks the database, through the breaker of the API, whether it answers, and looks at how much the server
//! has to do. So an idle server notices that its database went and came back, and a request costs no look of its own.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tasker_shared::db::pool::{Pinned, Pool};
use tasker_shared::db::{self, pressure, upkeep};
use tasker_shared::resilience::breaker::Breaker;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::pressure::Pressure;

mod depths;

pub use depths::Depths;

/// How often the database is asked.
const INTERVAL: Duration = Duration::from_secs(2);
/// How often it is looked at how much waits, while anything is submitted.
const SAMPLE: Duration = Duration::from_secs(1);
/// How often while it does not answer, or has just begun to.
const UNWELL: Duration = Duration::from_millis(200);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the pool is looked at, which costs nothing.
const LOOK: Duration = Duration::from_millis(100);

/// The loop.
#[derive(Debug)]
pub struct Pulse {
    pub pool: Pool,
    /// Its own connection: one of the pool may have to be waited for.
    pub connection: Pinned,
    pub breaker: Breaker,
    pub pressure: Pressure,
    pub answering: std::sync::Arc<Answering>,
    pub depths: std::sync::Arc<Depths>,
}

/// Since when the database has answered whenever it was asked.
#[derive(Debug, Default)]
pub struct Answering(Mutex<Option<Instant>>);

impl Answering {
    /// For how long; `None` while it does not.
    pub fn since(&self) -> Option<Duration> {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    fn set(&self, answers: bool) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = answers.then(|| since.unwrap_or_else(Instant::now));
    }
}

impl Pulse {
    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Pulse {
            pool,
            mut connection,
            breaker,
            pressure,
            answering,
            depths,
        } = self;
        let looking = async {
            loop {
                pressure.look(Instant::now());
                tokio::time::sleep(LOOK).await;
            }
        };
        let asking = async {
            loop {
                let pause = ask(&mut connection, &breaker, &answering).await;
                let mut again = pin!(tokio::time::sleep(pause));
                loop {
                    tokio::select! {
                        biased;
                        () = again.as_mut() => break,
                        () = depths.wanted() => {}
                    }
                    match breaker.is_closed() {
                        true => depths.count(&mut connection).await,
                        false => depths.cannot(),
                    }
                }
            }
        };
        // Not given up where it takes long: what waits for a lock would go on waiting in the database.
        let sampling = async {
            loop {
                if breaker.is_closed() && pressure.was_asked() {
                    match pressure::waiting(&pool, pressure.most_steps()).await {
                        Ok(waiting) => pressure.sampled(Instant::now(), waiting),
                        Err(error) => tracing::debug!(%error, "what waits could not be measured"),
                    }
                }
                tokio::time::sleep(SAMPLE).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = looking => {}
            () = asking => {}
            () = sampling => {}
        }
    }
}

/// Asks the database once; returns how long to wait before it is asked again.
async fn ask(connection: &mut Pinned, breaker: &Breaker, answering: &Answering) -> Duration {
    if let Err(open) = breaker.admit() {
        return open.retry_after.clamp(LOOK, INTERVAL);
    }
    let answered = tokio::time::timeout(PATIENCE, async {
        let result = match connection.get().await {
            Ok(connection) => upkeep::ping(connection).await,
            Err(error) => Err(error),
        };
        db::tell(breaker, connection.check(result))
    })
    .await;
    let answers = match answered {
        Ok(result) => result.is_ok(),
        Err(_) => {
            // It may be stuck for good.
            connection.forget();
            breaker.failed();
            false
        }
    };
    answering.set(answers);
    match answers && breaker.is_closed() {
        true => INTERVAL,
        false => UNWELL,
    }
}
