//! Tokens at real processes: as the published client signs them, against a key in the configuration and against
//! published ones.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tasker_tests::{Setup, Stack};

#[path = "../../tasker-shared/src/access/tests/signer.rs"]
#[allow(dead_code, reason = "what tests of the gate need more than these")]
mod signer;

use signer::Signer;

/// As the published client makes them, with what permits something here.
fn claims(permissions: &[&str], namespaces: Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    json!({
        "sub": "orchestration-client", "iss": "tasker-core", "aud": "tasker-api",
        "iat": now.as_secs(), "exp": now.as_secs() + 600,
        "permissions": permissions, "worker_namespaces": namespaces,
    })
}

async fn status(stack: &Stack, url: &str, token: &str) -> u16 {
    let request = stack.client().get(url).bearer_auth(token);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_token_signed_as_the_published_client_does_is_good_at_server_worker_and_command_line() {
    let signer = Signer::rsa();
    let setup = Setup::default()
        .configure("auth.enabled", true)
        .configure("auth.jwt_public_key", signer.pem());
    let mut stack = setup.start().await;
    let header = json!({"alg": "RS256", "typ": "JWT"});
    let good = claims(&["tasks:*", "worker:config_read"], json!(["*"]));
    let token = signer.token(&header, &good);
    let worker = stack.worker().url("/config");
    let tasks = stack.url("/v1/tasks");
    assert_eq!(status(&stack, &tasks, &token).await, 200);
    assert_eq!(status(&stack, &worker, &token).await, 200);
    assert_eq!(status(&stack, &stack.url("/config"), &token).await, 403);
    let listed = stack
        .tasker(&["task", "list", "--json", "--token", &token])
        .await;
    assert!(listed.status.success());

    let mut expired = good.clone();
    expired["exp"] = json!(1_700_000_000);
    let forged = Signer::ed().token(&json!({"alg": "EdDSA"}), &good);
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    for bad in [
        signer.token(&header, &expired),
        forged,
        unsigned,
        "a.b.c".to_owned(),
    ] {
        assert_eq!(status(&stack, &tasks, &bad).await, 401, "{bad}");
        assert_eq!(status(&stack, &worker, &bad).await, 401, "{bad}");
    }
}

#[tokio::test]
async fn published_keys_verify_tokens_and_a_limited_token_is_limited() {
    let signer = Signer::ed();
    let set = json!({"keys": [signer.jwk(Some("one"))]});
    let publisher = axum::Router::new().route(
        "/jwks.json",
        axum::routing::get(move || std::future::ready(axum::Json(set.clone()))),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, publisher).into_future());
    let setup = Setup::default()
        .configure("auth.enabled", true)
        .configure("auth.jwks_url", &url)
        .configure("auth.allowed_algorithms", "EdDSA")
        .configure("auth.require_namespaces", true);
    let stack = setup.start().await;
    let header = json!({"alg": "EdDSA", "kid": "one"});
    let tasks = stack.url("/v1/tasks");
    for (namespaces, expected) in [
        (json!(["shop"]), 200),
        (json!(["*"]), 200),
        (json!([]), 401),
    ] {
        let token = signer.token(&header, &claims(&["tasks:list"], namespaces.clone()));
        assert_eq!(
            status(&stack, &tasks, &token).await,
            expected,
            "{namespaces}"
        );
    }
    let token = signer.token(&header, &claims(&["tasks:create"], json!(["shop"])));
    let request = json!({ "name": "line", "namespace": "bank", "context": {} });
    let reply = stack
        .client()
        .post(&tasks)
        .bearer_auth(&token)
        .json(&request);
    assert_eq!(reply.send().await.unwrap().status().as_u16(), 403);
    let unknown = json!({"alg": "EdDSA", "kid": "two"});
    let token = signer.token(&unknown, &claims(&["tasks:list"], json!(["*"])));
    assert_eq!(status(&stack, &tasks, &token).await, 401);

    // Commands read files as processes do.
    let files = stack.directory("stack").join("config/tasker/base");
    std::fs::create_dir_all(&files).unwrap();
    let auth =
        format!("[auth]\nenabled = true\njwks_url = \"{url}\"\nallowed_algorithms = [\"EdDSA\"]\n");
    std::fs::write(files.join("auth.toml"), auth).unwrap();
    let doctor = stack.tasker(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let mut checks = report["checks"].as_array().unwrap().iter();
    let keys = checks.find(|found| found["check"] == "token keys").unwrap();
    assert_eq!(keys["status"], "ok", "{report}");
}
