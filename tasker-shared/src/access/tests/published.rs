//! Published keys: fetched when they are needed, and no more often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::signer::Signer;
use crate::access::jwks::Jwks;
use crate::access::{Gate, Need, Permission};
use crate::clock::Clock;
use crate::config::{Auth, Config, HttpUrl};
use crate::db::pool::Target;

/// A publisher that answers everything with `status` and `body`, and counts what it is asked.
async fn publisher(status: &'static str, body: Value) -> (HttpUrl, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = HttpUrl::new(&format!(
        "http://{}/jwks.json",
        listener.local_addr().unwrap()
    ))
    .unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.read(&mut [0; 4096]).await;
            counted.fetch_add(1, Ordering::SeqCst);
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    (url, asked)
}

#[tokio::test]
async fn keys_are_fetched_once_and_a_made_up_key_id_does_not_fetch_them_again_and_again() {
    let signer = Signer::ed();
    let (url, asked) = publisher("200 OK", json!({"keys": [signer.jwk(Some("a"))]})).await;
    let jwks = Jwks::new(url, Duration::from_secs(300)).unwrap();
    for id in [Some("a"), None, Some("a"), Some("b"), Some("c")] {
        assert_eq!(jwks.keys(id).await.unwrap().len(), 1, "{id:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_token_is_held_against_the_key_that_it_names() {
    let (old, new) = (Signer::rsa(), Signer::ed());
    let set = json!({"keys": [old.jwk(Some("old")), new.jwk(Some("new"))]});
    let (url, _) = publisher("200 OK", set).await;
    let config = Auth {
        enabled: true,
        jwks_url: Some(url),
        allowed_algorithms: vec!["RS256".to_owned(), "EdDSA".to_owned()],
        ..Config::default().auth
    };
    let target = Target::parse(
        "postgres://x@127.0.0.1:1/x",
        "test",
        Duration::from_millis(200),
    );
    let clock = Clock::default();
    let gate = Gate::new(&config, target.unwrap().pool(1), clock.clone()).unwrap();
    assert_eq!(gate.shown().verification_method, "jwks");
    let claims = json!({
        "sub": "ada", "iss": "tasker-core", "aud": "tasker-api", "exp": clock.now().timestamp() + 60,
        "permissions": ["tasks:list", "*", "of:tomorrow"]
    });
    let table = [
        (
            old.token(&json!({"alg": "RS256", "kid": "old"}), &claims),
            None,
        ),
        (
            new.token(&json!({"alg": "EdDSA", "kid": "new"}), &claims),
            None,
        ),
        (
            new.token(&json!({"alg": "EdDSA", "kid": "old"}), &claims),
            Some("invalid"),
        ),
        (
            new.token(&json!({"alg": "EdDSA", "kid": "none"}), &claims),
            Some("invalid"),
        ),
    ];
    for (token, reason) in table {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        let listed = gate.admit(&headers, Need::Permission(Permission::TasksList));
        assert_eq!(
            listed.await.err().and_then(|r| r.reason()),
            reason,
            "{token}"
        );
        // A bare `*` permits nothing.
        let created = gate.admit(&headers, Need::Permission(Permission::TasksCreate));
        let expected = reason.or(Some("forbidden"));
        assert_eq!(
            created.await.err().and_then(|r| r.reason()),
            expected,
            "{token}"
        );
    }
}

#[tokio::test]
async fn without_keys_nobody_is_judged_and_the_publisher_is_left_in_peace() {
    for (status, body) in [
        ("500 Internal Server Error", json!({})),
        ("302 Found", json!({})),
        ("200 OK", json!({"keys": []})),
        ("200 OK", json!("nothing of the kind")),
    ] {
        let (url, asked) = publisher(status, body.clone()).await;
        let jwks = Jwks::new(url, Duration::from_secs(300)).unwrap();
        for _ in 0..3 {
            let refusal = jwks.keys(Some("a")).await.unwrap_err();
            assert_eq!(refusal.status().as_u16(), 503, "{status} {body}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{status} {body}");
    }
}

#[tokio::test]
async fn old_keys_serve_while_they_are_fetched_again_and_one_fetches_for_all() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = HttpUrl::new(&format!("http://{address}/")).unwrap();
    let jwks = Jwks::looking_again(url, Duration::ZERO, Duration::ZERO).unwrap();
    let body = json!({"keys": [Signer::ed().jwk(Some("a"))]}).to_string();
    let answers = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let _ = connection.read(&mut [0; 4096]).await;
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        connection.write_all(answer.as_bytes()).await.unwrap();
    };
    let (first, ()) = tokio::join!(jwks.keys(Some("a")), answers);
    first.unwrap();
    // From now on the publisher takes connections and says nothing.
    for _ in 0..20 {
        let keys = jwks.keys(Some("a")).now_or_never();
        assert_eq!(keys.map(|keys| keys.unwrap().len()), Some(1));
    }
    let (_silent, _) = listener.accept().await.unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        assert!(jwks.keys(Some("a")).now_or_never().is_some());
        let another = listener.accept().now_or_never();
        assert!(another.is_none(), "two fetch at once");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_keys_are_published_can_be_looked_at() {
    let table = [
        (json!({"keys": [Signer::ed().jwk(None)]}), "EdDSA", true),
        (json!({"keys": [Signer::ed().jwk(None)]}), "RS256", false),
        (json!({"keys": []}), "RS256", false),
    ];
    for (set, algorithm, is_good) in table {
        let (url, _) = publisher("200 OK", set).await;
        let config = Auth {
            enabled: true,
            jwks_url: Some(url),
            allowed_algorithms: vec![algorithm.to_owned()],
            ..Config::default().auth
        };
        let target = Target::parse(
            "postgres://x@127.0.0.1:1/x",
            "test",
            Duration::from_millis(200),
        );
        let gate = Gate::new(&config, target.unwrap().pool(1), Clock::default()).unwrap();
        let looked = gate.look_at_keys().await.unwrap();
        assert_eq!(looked.is_ok(), is_good, "{algorithm}: {looked:?}");
    }
}
