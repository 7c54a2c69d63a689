//! The gate of a process: credentials in, a caller or a refusal out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use jsonwebtoken::Algorithm;

use super::credentials::{self, Credentials};
use super::jwks::Jwks;
use super::keys::Keys;
use super::token::{self, Key, Rules};
use super::{ALGORITHMS, Caller, Need, Refusal, signature};
use crate::clock::Clock;
use crate::config::Auth;
use crate::db::pool::Pool;
use crate::wire::AuthConfig;

/// What to do about keys that no algorithm fits.
const KINDS: &str =
    "allow RS256 to RS512 or PS256 to PS512 for RSA keys, ES256 or ES384 for EC, EdDSA for Ed25519";
const TOKEN: &str = "token";
const KEY: &str = "key";

/// Lets callers in. Clones share what it knows.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Auth,
    api_key_header: HeaderName,
    keys: Option<Keys>,
    tokens: Tokens,
    rules: Rules,
    clock: Clock,
}

/// What verifies tokens.
#[derive(Debug)]
enum Tokens {
    None,
    Fixed(Vec<Key>),
    Published(Jwks),
}

/// Authentication cannot be set up as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("auth.jwt_public_key_file: {} cannot be read: {source}", path.display())]
    ReadKey {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{key} holds no public key that tokens can be verified with: give an RSA, EC (P-256, P-384) or Ed25519 key as PEM"
    )]
    NoKey { key: &'static str },
    #[error(
        "{key} is of a kind that none of auth.allowed_algorithms is for, so every token would be refused: {kinds}",
        kinds = KINDS
    )]
    NoAlgorithm { key: &'static str },
    #[error("auth.api_key_header is no name of a header")]
    Header,
    #[error("auth.jwks_url: HTTP cannot be set up: {0}")]
    Http(#[from] reqwest::Error),
}

impl Gate {
    /// The gate that `config` describes. API keys are read from `pool`; nothing is read or fetched yet but the file of
    /// the public key.
    pub fn new(config: &Auth, pool: Pool, clock: Clock) -> Result<Gate, SetupError> {
        signature::install();
        let algorithms = ALGORITHMS
            .iter()
            .filter(|(name, _)| config.allowed_algorithms.iter().any(|a| a == name))
            .map(|(_, algorithm)| *algorithm);
        let algorithms: Vec<Algorithm> = algorithms.collect();
        let tokens = match config.enabled {
            true => Tokens::of(config, &algorithms)?,
            false => Tokens::None,
        };
        Ok(Gate(Arc::new(Inner {
            api_key_header: config
                .api_key_header
                .parse()
                .map_err(|_| SetupError::Header)?,
            keys: (config.enabled && config.api_keys).then(|| Keys::new(pool)),
            tokens,
            rules: Rules {
                issuer: config.jwt_issuer.clone(),
                audience: config.jwt_audience.clone(),
                algorithms,
                leeway_seconds: f64::from(config.jwt_leeway_seconds),
                strict: config.strict_validation,
                require_namespaces: config.require_namespaces,
            },
            config: config.clone(),
            clock,
        })))
    }

    /// Lets a caller with these headers do what has that need, or says why not. Where authentication is off, anybody
    /// may do anything.
    pub async fn admit(&self, headers: &HeaderMap, need: Need) -> Result<Caller, Refusal> {
        let Need::Permission(permission) = need else {
            return Ok(Caller::anonymous());
        };
        if !self.0.config.enabled {
            return Ok(Caller::anonymous());
        }
        let caller = self.recognise(headers).await?;
        match caller.may(permission) {
            true => Ok(caller),
            false => {
                tracing::info!(
                    subject = caller.subject(),
                    permission = permission.as_str(),
                    "a caller lacks a permission"
                );
                Err(Refusal::Forbidden(permission))
            }
        }
    }

    async fn recognise(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let recognised = self.judge(headers).await;
        if let Err(refusal) = &recognised {
            tracing::info!(
                reason = refusal.reason(),
                severity = refusal.severity(),
                %refusal,
                "a caller was not recognised"
            );
        }
        recognised
    }

    async fn judge(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let not_in_use = |what, why: &str| {
            Err(Refusal::Invalid {
                what,
                why: why.to_owned(),
            })
        };
        match credentials::read(headers, &self.0.api_key_header)? {
            Credentials::None => Err(Refusal::Missing {
                api_key_header: self.0.config.api_key_header.clone(),
            }),
            Credentials::Key(key) => match &self.0.keys {
                Some(keys) => keys.caller(&key, self.0.clock.now()).await,
                None => not_in_use(KEY, "keys are not in use here (auth.api_keys)"),
            },
            Credentials::Token(token) => match &self.0.tokens {
                Tokens::None => not_in_use(TOKEN, "tokens are not in use here (auth.jwt_*)"),
                Tokens::Fixed(keys) => self.verify(token, keys),
                Tokens::Published(jwks) => {
                    let id = token::key_id(token)?;
                    self.verify(token, &jwks.keys(id.as_deref()).await?)
                }
            },
        }
    }

    #[allow(clippy::cast_precision_loss)] // Seconds of our age have 31 bits.
    fn verify(&self, token: &str, keys: &[Key]) -> Result<Caller, Refusal> {
        let now = self.0.clock.now().timestamp_millis() as f64 / 1_000.0;
        token::verify(token, keys, &self.0.rules, now)
    }

    /// Fetches the published keys of tokens, to see whether they are there and of use; `None` where none are published.
    pub async fn look_at_keys(&self) -> Option<Result<(), String>> {
        let Tokens::Published(jwks) = &self.0.tokens else {
            return None;
        };
        let looked = jwks.look().await;
        Some(
            looked.and_then(|keys| match token::fit(&keys, &self.0.rules.algorithms) {
                true => Ok(()),
                false => Err(format!(
                    "none of the keys is of a kind that auth.allowed_algorithms is for: {KINDS}"
                )),
            }),
        )
    }

    /// Whether anybody is asked who they are.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.config.enabled
    }

    /// The name of the header that keys come in.
    #[must_use]
    pub fn api_key_header(&self) -> &HeaderName {
        &self.0.api_key_header
    }

    /// How callers are recognised, for `/config`.
    #[must_use]
    pub fn shown(&self) -> AuthConfig {
        let config = &self.0.config;
        if !config.enabled {
            return AuthConfig::disabled();
        }
        let method = match self.0.tokens {
            Tokens::None => "none",
            Tokens::Fixed(_) => "public_key",
            Tokens::Published(_) => "jwks",
        };
        AuthConfig {
            enabled: true,
            verification_method: method.to_owned(),
            jwt_issuer: config.jwt_issuer.clone(),
            jwt_audience: config.jwt_audience.clone(),
            api_key_header: config.api_key_header.clone(),
            api_key_count: self.0.keys.as_ref().map_or(0, |keys| keys.count() as u64),
            strict_validation: config.strict_validation,
            allowed_algorithms: config.allowed_algorithms.clone(),
        }
    }
}

impl Tokens {
    fn of(config: &Auth, algorithms: &[Algorithm]) -> Result<Tokens, SetupError> {
        if let Some(url) = &config.jwks_url {
            let refresh = Duration::from_secs(config.jwks_refresh_seconds);
            return Ok(Tokens::Published(Jwks::new(url.clone(), refresh)?));
        }
        let (pem, key) = if let Some(pem) = &config.jwt_public_key {
            (pem.as_str().to_owned(), "auth.jwt_public_key")
        } else if let Some(path) = &config.jwt_public_key_file {
            let read = std::fs::read_to_string(path).map_err(|source| SetupError::ReadKey {
                path: path.clone(),
                source,
            })?;
            (read, "auth.jwt_public_key_file")
        } else {
            return Ok(Tokens::None);
        };
        let found = token::key_of_pem(&pem).ok_or(SetupError::NoKey { key })?;
        if !token::fit(std::slice::from_ref(&found), algorithms) {
            return Err(SetupError::NoAlgorithm { key });
        }
        Ok(Tokens::Fixed(vec![found]))
    }
}
