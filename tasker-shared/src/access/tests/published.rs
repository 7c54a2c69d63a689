//! Published keys: fetched when they are needed, and no more often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::signer::Signer;
use crate::access::jwks::Jwks;
use crate::config::HttpUrl;

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
