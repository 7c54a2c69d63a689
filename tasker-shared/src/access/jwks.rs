//! Published sets of keys (JWKS): fetched when first needed, again when they are old or lack a key, and kept for a while
//! when they cannot be fetched.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use tokio::sync::Mutex;

use super::Refusal;
use super::token::{self, Key};
use crate::config::HttpUrl;

const PATIENCE: Duration = Duration::from_secs(5);
const LARGEST_SET_BYTES: usize = 1024 * 1024;
/// A token that names a key which is not there has the set fetched again, at most so often.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Keys that cannot be fetched again are good for so long after they should have been.
const GRACE: Duration = Duration::from_secs(60 * 60);

const AWAY: Refusal = Refusal::NoPublishedKeys;

/// The keys at a URL.
#[derive(Debug)]
pub(super) struct Jwks {
    client: reqwest::Client,
    url: HttpUrl,
    refresh: Duration,
    held: RwLock<Option<Held>>,
    /// Whoever fetches; holds when that was tried last.
    fetching: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone)]
struct Held {
    fetched_at: Instant,
    keys: Arc<Vec<Key>>,
}

/// The set was not had. The texts name no secret: the URL has none.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("the answer is larger than 1 MiB")]
    TooLarge,
    #[error("the answer is not a set of keys: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the set has no key that could verify a token")]
    Empty,
}

impl Jwks {
    pub(super) fn new(url: HttpUrl, refresh: Duration) -> reqwest::Result<Jwks> {
        Ok(Jwks {
            client: client(&url)?,
            url,
            refresh,
            held: RwLock::default(),
            fetching: Mutex::default(),
        })
    }

    /// The keys, among which is the one called `id` where it can be had.
    pub(super) async fn keys(&self, id: Option<&str>) -> Result<Arc<Vec<Key>>, Refusal> {
        if let Some(held) = self.held().filter(|held| self.serves(held, id)) {
            return Ok(held.keys);
        }
        let mut tried_at = self.fetching.lock().await;
        // Somebody may have fetched while this waited; and what was just tried is not tried again.
        let held = self.held();
        let was_just_tried = tried_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN_AFTER);
        match held {
            Some(held) if self.serves(&held, id) => return Ok(held.keys),
            Some(held) if was_just_tried => return self.still_good(held),
            None if was_just_tried => return Err(AWAY),
            _ => {}
        }
        *tried_at = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                let held = Held {
                    fetched_at: Instant::now(),
                    keys: Arc::new(keys),
                };
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
                Ok(held.keys)
            }
            Err(error) => {
                tracing::warn!(%error, url = self.url.as_str(), "the keys of tokens cannot be fetched");
                held.map_or(Err(AWAY), |held| self.still_good(held))
            }
        }
    }

    fn held(&self) -> Option<Held> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    fn serves(&self, held: &Held, id: Option<&str>) -> bool {
        let has = |id: &str| held.keys.iter().any(|key| key.id.as_deref() == Some(id));
        held.fetched_at.elapsed() <= self.refresh && id.is_none_or(has)
    }

    fn still_good(&self, held: Held) -> Result<Arc<Vec<Key>>, Refusal> {
        match held.fetched_at.elapsed() <= self.refresh + GRACE {
            true => Ok(held.keys),
            false => Err(AWAY),
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, FetchError> {
        let answer = self.client.get(self.url.as_str()).send().await?;
        let mut answer = answer.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > LARGEST_SET_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let set: JwkSet = serde_json::from_slice(&body)?;
        match token::keys_of_set(&set) {
            keys if keys.is_empty() => Err(FetchError::Empty),
            keys => Ok(keys),
        }
    }
}

/// Follows no redirect: where the keys are is what the configuration says.
fn client(url: &HttpUrl) -> reqwest::Result<reqwest::Client> {
    // Fails where the process has installed one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("tasker/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE);
    if url.as_str().starts_with("http:") {
        // A machine without certificates can still speak plain HTTP.
        builder = builder.tls_certs_only([]);
    }
    builder.build()
}
