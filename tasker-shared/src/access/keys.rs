//! The API keys as this process knows them: read all at once and at most every few seconds, so that no request costs a
//! statement, and none that is made up does either. Keys that cannot be read again let nobody in.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

use super::{ApiKey, Caller, KeyHash, Permissions, Refusal};
use crate::db::api_keys::{self, ApiKeyRow};
use crate::db::pool::Pool;

/// For so long what was read counts: a revoked key is worthless after it.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// A key that is not among those read may be new: looked for again when they are older than this.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The database gets so long to answer; a request that waits for it holds others up.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a reading that failed, requests are refused without another for so long.
const PAUSE: Duration = Duration::from_secs(1);

const AWAY: Refusal = Refusal::Unavailable("the database that has the keys does not answer");

/// The keys of a database.
#[derive(Debug)]
pub(super) struct Keys {
    pool: Pool,
    held: RwLock<Option<Held>>,
    /// Whoever reads the keys; the others wait for what it finds. Holds when reading failed last.
    reading: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct Held {
    read_at: Instant,
    keys: Arc<HashMap<KeyHash, ApiKeyRow>>,
}

impl Keys {
    pub(super) fn new(pool: Pool) -> Keys {
        Keys {
            pool,
            held: RwLock::default(),
            reading: Mutex::default(),
        }
    }

    /// Whose key that is.
    pub(super) async fn caller(&self, key: &ApiKey, now: DateTime<Utc>) -> Result<Caller, Refusal> {
        let hash = key.hash();
        let held = self.not_older_than(FRESH_FOR).await?;
        let mut found = find(&held, &hash);
        if found.is_none() && held.read_at.elapsed() > LOOK_AGAIN_AFTER {
            found = find(&self.not_older_than(LOOK_AGAIN_AFTER).await?, &hash);
        }
        let row = found.ok_or_else(|| Refusal::Invalid {
            what: "key",
            why: "there is none like it, or it was revoked".to_owned(),
        })?;
        if row.expires_at.is_some_and(|at| at <= now) {
            return Err(Refusal::Expired("key"));
        }
        // What a later version may permit, this one does not know.
        let (permissions, _) = Permissions::read(&row.permissions);
        Ok(Caller::known(row.name, permissions, row.namespaces))
    }

    /// How many keys there are, as far as they were read.
    pub(super) fn count(&self) -> usize {
        self.held().map_or(0, |held| held.keys.len())
    }

    fn held(&self) -> Option<Held> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    async fn not_older_than(&self, age: Duration) -> Result<Held, Refusal> {
        let fresh = |held: &Held| held.read_at.elapsed() <= age;
        if let Some(held) = self.held().filter(fresh) {
            return Ok(held);
        }
        let mut failed_at = self.reading.lock().await;
        if let Some(held) = self.held().filter(fresh) {
            return Ok(held);
        }
        if failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(AWAY);
        }
        let read_at = Instant::now();
        let rows = match tokio::time::timeout(PATIENCE, api_keys::list_usable(&self.pool)).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                tracing::warn!(%error, "API keys cannot be read; nobody is let in by one");
                *failed_at = Some(Instant::now());
                return Err(AWAY);
            }
            Err(_) => {
                tracing::warn!("API keys cannot be read in time; nobody is let in by one");
                *failed_at = Some(Instant::now());
                return Err(AWAY);
            }
        };
        let hashed = rows
            .into_iter()
            .filter_map(|row| Some((KeyHash(row.hash.as_slice().try_into().ok()?), row)));
        let held = Held {
            read_at,
            keys: Arc::new(hashed.collect()),
        };
        *failed_at = None;
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
        Ok(held)
    }
}

/// The table is asked by the hash, whose value nobody can steer; what it finds is compared once more in constant time.
fn find(held: &Held, hash: &KeyHash) -> Option<ApiKeyRow> {
    let (stored, row) = held.keys.get_key_value(hash)?;
    stored.matches(hash).then(|| row.clone())
}
