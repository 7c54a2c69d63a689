//! The gate with keys in a real database, and without one.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use uuid::Uuid;

use super::signer::Signer;
use crate::access::{ApiKey, Gate, Need, Permission, Refusal, SetupError};
use crate::clock::Clock;
use crate::config::{Auth, Config, PublicKey};
use crate::db::api_keys::{self, NewApiKey};
use crate::db::migrate;
use crate::db::pool::{Pool, Target};
use crate::embedded::Temporary;

const READ: Need = Need::Permission(Permission::TasksRead);
const CREATE: Need = Need::Permission(Permission::TasksCreate);

fn on() -> Auth {
    Auth {
        enabled: true,
        ..Config::default().auth
    }
}

/// Nothing listens there.
fn nowhere() -> Pool {
    let url = "postgres://nobody@127.0.0.1:1/none";
    let target = Target::parse(url, "test", Duration::from_millis(200));
    target.unwrap().pool(1)
}

fn with(name: &'static str, value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_str(value).unwrap());
    headers
}

async fn store(pool: &Pool, name: &str, expires_in: Option<TimeDelta>) -> ApiKey {
    let key = ApiKey::random();
    let stored = NewApiKey {
        key_id: Uuid::now_v7(),
        name: name.to_owned(),
        hash: key.hash().0.to_vec(),
        hint: key.hint().to_owned(),
        permissions: vec!["tasks:read".to_owned(), "of:tomorrow".to_owned()],
        namespaces: vec!["shop".to_owned()],
        expires_at: expires_in.map(|span| Utc::now() + span),
    };
    assert!(api_keys::insert(pool, &stored).await.unwrap());
    key
}

#[tokio::test]
async fn a_key_lets_in_while_it_is_in_force_and_only_for_what_it_permits() {
    let postgres = Temporary::start().await.unwrap();
    let target = Target::parse(postgres.url(), "test", Duration::from_secs(10)).unwrap();
    migrate::run(&target).await.unwrap();
    let pool = target.pool(2);
    let clock = Clock::default();
    let gate = Gate::new(&on(), pool.clone(), clock.clone()).unwrap();
    let key = store(&pool, "ci", None).await;
    let short = store(&pool, "short", Some(TimeDelta::minutes(5))).await;

    let caller = gate.admit(&with("x-api-key", key.expose()), READ).await;
    let caller = caller.unwrap();
    assert_eq!(caller.subject(), Some("ci"));
    assert!(caller.allows("shop") && !caller.allows("bank"));
    assert_eq!(gate.shown().api_key_count, 2);
    assert_eq!(
        gate.admit(&with("x-api-key", key.expose()), CREATE)
            .await
            .unwrap_err(),
        Refusal::Forbidden(Permission::TasksCreate)
    );
    let bearer = format!("Bearer {}", short.expose());
    assert!(
        gate.admit(&with("authorization", &bearer), READ)
            .await
            .is_ok()
    );
    clock.step(TimeDelta::minutes(6));
    let expired = gate.admit(&with("authorization", &bearer), READ).await;
    assert_eq!(expired.unwrap_err(), Refusal::Expired("key"));

    assert!(api_keys::revoke(&pool, "ci").await.unwrap());
    assert!(!api_keys::revoke(&pool, "ci").await.unwrap());
    // Within seconds the process knows.
    let refused = loop {
        match gate.admit(&with("x-api-key", key.expose()), READ).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refused.reason(), Some("invalid"));
    // The name is free again, the other one is not.
    let again = store(&pool, "ci", None).await;
    let taken = NewApiKey {
        key_id: Uuid::now_v7(),
        name: "short".to_owned(),
        hash: ApiKey::random().hash().0.to_vec(),
        hint: String::new(),
        permissions: Vec::new(),
        namespaces: Vec::new(),
        expires_at: None,
    };
    assert!(!api_keys::insert(&pool, &taken).await.unwrap());
    let listed = api_keys::list(&pool).await.unwrap();
    let names: Vec<(&str, bool)> = listed
        .iter()
        .map(|key| (key.name.as_str(), key.revoked_at.is_some()))
        .collect();
    assert_eq!(names, [("ci", true), ("short", false), ("ci", false)]);
    assert_eq!(listed[2].hint, again.hint());
}

#[tokio::test]
async fn a_database_that_is_away_lets_nobody_in_by_key() {
    let gate = Gate::new(&on(), nowhere(), Clock::default()).unwrap();
    let key = ApiKey::random();
    for _ in 0..3 {
        let refusal = gate
            .admit(&with("x-api-key", key.expose()), READ)
            .await
            .unwrap_err();
        assert_eq!(refusal.status().as_u16(), 503, "{refusal}");
    }
    assert!(gate.admit(&HeaderMap::new(), Need::Nothing).await.is_ok());
    let missing = gate.admit(&HeaderMap::new(), READ).await.unwrap_err();
    assert_eq!(missing.reason(), Some("missing"));
}

#[tokio::test]
async fn tokens_need_no_database_and_are_off_unless_a_key_is_configured() {
    let signer = Signer::rsa();
    let clock = Clock::default();
    let exp = clock.now().timestamp() + 60;
    let claims = json!({
        "sub": "orchestration-client", "iss": "tasker-core", "aud": "tasker-api", "exp": exp,
        "permissions": ["tasks:*"], "worker_namespaces": ["*"]
    });
    let token = signer.token(&json!({"alg": "RS256", "typ": "JWT"}), &claims);
    let headers = with("authorization", &format!("Bearer {token}"));

    let without = Gate::new(&on(), nowhere(), clock.clone()).unwrap();
    let refusal = without.admit(&headers, READ).await.unwrap_err();
    assert_eq!(refusal.reason(), Some("invalid"));
    assert_eq!(without.shown().verification_method, "none");

    let config = Auth {
        jwt_public_key: Some(PublicKey::new(&signer.pem()).unwrap()),
        api_keys: false,
        ..on()
    };
    let gate = Gate::new(&config, nowhere(), clock.clone()).unwrap();
    let caller = gate.admit(&headers, CREATE).await.unwrap();
    assert_eq!(
        (caller.subject(), caller.namespaces()),
        (Some("orchestration-client"), None)
    );
    let key = ApiKey::random();
    let refusal = gate.admit(&with("x-api-key", key.expose()), READ).await;
    assert_eq!(refusal.unwrap_err().reason(), Some("invalid"));
    clock.step(TimeDelta::minutes(2));
    let refusal = gate.admit(&headers, CREATE).await.unwrap_err();
    assert_eq!(refusal, Refusal::Expired("token"));
    assert_eq!(gate.shown().verification_method, "public_key");
}

#[tokio::test]
async fn a_gate_that_could_not_judge_is_not_set_up() {
    let file = Auth {
        jwt_public_key_file: Some("/nonexistent/key.pem".into()),
        ..on()
    };
    let gate = Gate::new(&file, nowhere(), Clock::default());
    assert!(matches!(gate, Err(SetupError::ReadKey { .. })));
    let text = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----";
    let key = Auth {
        jwt_public_key: Some(PublicKey::new(text).unwrap()),
        ..on()
    };
    let gate = Gate::new(&key, nowhere(), Clock::default());
    assert!(matches!(gate, Err(SetupError::NoKey { .. })));
    // An Ed25519 key, where only RS256 is allowed.
    let key = Auth {
        jwt_public_key: Some(PublicKey::new(&Signer::ed().pem()).unwrap()),
        ..on()
    };
    let gate = Gate::new(&key, nowhere(), Clock::default());
    assert!(matches!(gate, Err(SetupError::NoAlgorithm { .. })));

    let off = Gate::new(&Config::default().auth, nowhere(), Clock::default()).unwrap();
    assert!(off.admit(&HeaderMap::new(), CREATE).await.is_ok());
    assert!(!off.is_on() && !off.shown().enabled);
}
