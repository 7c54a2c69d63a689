//! Published sets of keys (JWKS): fetched when first needed, again when they are old or lack a key, and kept for a while
//! when they cannot be fetched. Old ones serve while they are fetched again, so only who has no key at all waits.

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

/// The keys at a URL. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Jwks {
    publisher: Arc<Publisher>,
    /// Whoever fetches; holds when that was tried last.
    fetching: Arc<Mutex<Option<Instant>>>,
}

#[derive(Debug)]
struct Publisher {
    client: reqwest::Client,
    url: HttpUrl,
    refresh: Duration,
    look_again_after: Duration,
    held: RwLock<Option<Held>>,
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

impl Held {
    /// Whether they have the key called `id`.
    fn have(&self, id: Option<&str>) -> bool {
        let has = |id: &str| self.keys.iter().any(|key| key.id.as_deref() == Some(id));
        id.is_none_or(has)
    }
}

impl Jwks {
    pub(super) fn new(url: HttpUrl, refresh: Duration) -> reqwest::Result<Jwks> {
        Jwks::looking_again(url, refresh, LOOK_AGAIN_AFTER)
    }

    /// One that tries again so soon.
    pub(super) fn looking_again(
        url: HttpUrl,
        refresh: Duration,
        look_again_after: Duration,
    ) -> reqwest::Result<Jwks> {
        Ok(Jwks {
            publisher: Arc::new(Publisher {
                client: client(&url)?,
                url,
                refresh,
                look_again_after,
                held: RwLock::default(),
            }),
            fetching: Arc::default(),
        })
    }

    /// The keys, among which is the one called `id` where it can be had.
    pub(super) async fn keys(&self, id: Option<&str>) -> Result<Arc<Vec<Key>>, Refusal> {
        let publisher = &self.publisher;
        if let Some(held) = publisher.held().filter(|held| held.have(id)) {
            if publisher.is_fresh(&held) {
                return Ok(held.keys);
            }
            if publisher.is_good(&held) {
                self.fetch_beside();
                return Ok(held.keys);
            }
        }
        let mut tried_at = self.fetching.lock().await;
        // Somebody may have fetched while this waited; and what was just tried is not tried again.
        let held = publisher.held();
        match held {
            Some(held) if held.have(id) && publisher.is_fresh(&held) => return Ok(held.keys),
            Some(held) if publisher.was_just_tried(*tried_at) => return publisher.still_good(held),
            None if publisher.was_just_tried(*tried_at) => return Err(AWAY),
            _ => {}
        }
        *tried_at = Some(Instant::now());
        match publisher.renew().await {
            Some(held) => Ok(held.keys),
            None => held.map_or(Err(AWAY), |held| publisher.still_good(held)),
        }
    }

    /// Fetches the keys without anybody waiting, unless that is being done or has just been tried.
    fn fetch_beside(&self) {
        let Ok(mut tried_at) = Arc::clone(&self.fetching).try_lock_owned() else {
            return;
        };
        if self.publisher.was_just_tried(*tried_at) {
            return;
        }
        *tried_at = Some(Instant::now());
        let publisher = Arc::clone(&self.publisher);
        tokio::spawn(async move {
            publisher.renew().await;
            drop(tried_at);
        });
    }

    /// Fetches the keys to see whether they can be had.
    pub(super) async fn look(&self) -> Result<Vec<Key>, String> {
        let fetched = self.publisher.fetch().await;
        fetched.map_err(|error| error.to_string())
    }
}

impl Publisher {
    fn held(&self) -> Option<Held> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    fn is_fresh(&self, held: &Held) -> bool {
        held.fetched_at.elapsed() <= self.refresh
    }

    fn is_good(&self, held: &Held) -> bool {
        held.fetched_at.elapsed() <= self.refresh + GRACE
    }

    fn was_just_tried(&self, at: Option<Instant>) -> bool {
        at.is_some_and(|at| at.elapsed() < self.look_again_after)
    }

    fn still_good(&self, held: Held) -> Result<Arc<Vec<Key>>, Refusal> {
        match self.is_good(&held) {
            true => Ok(held.keys),
            false => Err(AWAY),
        }
    }

    /// Fetches the keys and holds them; `None` where they cannot be had.
    async fn renew(&self) -> Option<Held> {
        match self.fetch().await {
            Ok(keys) => {
                let held = Held {
                    fetched_at: Instant::now(),
                    keys: Arc::new(keys),
                };
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
                Some(held)
            }
            Err(error) => {
                tracing::warn!(%error, url = self.url.as_str(), "the keys of tokens cannot be fetched");
                None
            }
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
