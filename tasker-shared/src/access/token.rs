//! Tokens (JWT): whether one is genuine, in force and ours, and what it permits. Pure: keys and time are given.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, crypto, dangerous, decode_header};
use serde::Deserialize;

use super::{Caller, Permissions, Refusal};

const TOKEN: &str = "token";

/// The algorithms that tokens may be signed by. A shared secret is none of them: whoever can check such a token could
/// make one.
pub(crate) const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// What a token is held against.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) algorithms: Vec<Algorithm>,
    /// Clocks may differ by so many seconds.
    pub(super) leeway_seconds: f64,
    /// Whether a permission that is not known makes the token worthless.
    pub(super) strict: bool,
    /// Whether one that names no namespaces is worthless.
    pub(super) require_namespaces: bool,
}

/// A key with the id it is published under.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) key: DecodingKey,
}

/// What Tasker looks at in a token.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    iss: String,
    aud: OneOrMany,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    permissions: Vec<String>,
    #[serde(default)]
    worker_namespaces: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// The id of the key that a token says it was signed with; `None` where it names none.
pub(super) fn key_id(token: &str) -> Result<Option<String>, Refusal> {
    Ok(header(token)?.kid)
}

fn header(token: &str) -> Result<Header, Refusal> {
    decode_header(token).map_err(|_| Refusal::Malformed("the token is not a signed JWT"))
}

/// Who the token says calls, where one of `keys` has signed it and it keeps `rules` at `now` (Unix seconds).
pub(super) fn verify(
    token: &str,
    keys: &[Key],
    rules: &Rules,
    now: f64,
) -> Result<Caller, Refusal> {
    let header = header(token)?;
    if !rules.algorithms.contains(&header.alg) {
        return Err(invalid(
            "its algorithm is not among auth.allowed_algorithms",
        ));
    }
    // With a key id only that key counts; without, any that fits may have signed.
    let is_meant = |key: &&Key| match (&header.kid, &key.id) {
        (Some(wanted), Some(id)) => wanted == id,
        _ => true,
    };
    let mut candidates = keys.iter().filter(is_meant).peekable();
    if candidates.peek().is_none() {
        return Err(invalid("it was signed by a key that is not known"));
    }
    if !candidates.any(|key| is_signed(token, header.alg, &key.key)) {
        return Err(invalid("its signature is wrong"));
    }
    let claims: Claims = dangerous::insecure_decode_claims(token).map_err(|error| {
        let why = match error.kind() {
            ErrorKind::Json(error) => format!("its claims: {error}"),
            _ => "its claims cannot be read".to_owned(),
        };
        Refusal::Invalid { what: TOKEN, why }
    })?;
    judge(claims, rules, now)
}

fn is_signed(token: &str, algorithm: Algorithm, key: &DecodingKey) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else {
        return false;
    };
    key.family() == algorithm.family()
        && crypto::verify(signature, message.as_bytes(), key, algorithm).unwrap_or(false)
}

fn judge(claims: Claims, rules: &Rules, now: f64) -> Result<Caller, Refusal> {
    if claims.iss != rules.issuer {
        return Err(invalid("its issuer is not auth.jwt_issuer"));
    }
    let is_for_us = match &claims.aud {
        OneOrMany::One(audience) => *audience == rules.audience,
        OneOrMany::Many(audiences) => audiences.contains(&rules.audience),
    };
    if !is_for_us {
        return Err(invalid("its audience is not auth.jwt_audience"));
    }
    if claims.exp + rules.leeway_seconds <= now {
        return Err(Refusal::Expired(TOKEN));
    }
    if claims
        .nbf
        .is_some_and(|from| from - rules.leeway_seconds > now)
    {
        return Err(invalid("it is not in force yet"));
    }
    let (permissions, unknown) = Permissions::read(&claims.permissions);
    if rules.strict
        && let Some(unknown) = unknown.first()
    {
        return Err(Refusal::Invalid {
            what: TOKEN,
            why: format!("there is no permission {:?}", unknown.text),
        });
    }
    if rules.require_namespaces && claims.worker_namespaces.is_empty() {
        return Err(invalid(
            "it names no worker_namespaces, which auth.require_namespaces asks for",
        ));
    }
    Ok(Caller::known(
        claims.sub,
        permissions,
        claims.worker_namespaces,
    ))
}

fn invalid(why: &str) -> Refusal {
    Refusal::Invalid {
        what: TOKEN,
        why: why.to_owned(),
    }
}

/// The key of a PEM text, whatever its kind; `None` where it holds no public key.
pub(super) fn key_of_pem(pem: &str) -> Option<Key> {
    let pem = pem.as_bytes();
    let key = DecodingKey::from_rsa_pem(pem)
        .or_else(|_| DecodingKey::from_ec_pem(pem))
        .or_else(|_| DecodingKey::from_ed_pem(pem));
    key.ok().map(|key| Key { id: None, key })
}

/// Whether one of `keys` may verify what is signed by one of `algorithms`.
pub(super) fn fit(keys: &[Key], algorithms: &[Algorithm]) -> bool {
    let fits = |key: &Key| algorithms.iter().any(|a| a.family() == key.key.family());
    keys.iter().any(fits)
}

/// The keys of a published set that may verify signatures. Shared secrets have no place in a public set.
pub(super) fn keys_of_set(set: &JwkSet) -> Vec<Key> {
    let usable = set.keys.iter().filter(|jwk| is_for_signatures(jwk));
    let read = usable.filter_map(|jwk| {
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let is_public = ALGORITHMS.iter().any(|(_, a)| a.family() == key.family());
        is_public.then(|| Key {
            id: jwk.common.key_id.clone(),
            key,
        })
    });
    read.collect()
}

fn is_for_signatures(jwk: &Jwk) -> bool {
    matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    )
}
