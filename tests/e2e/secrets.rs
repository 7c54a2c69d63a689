//! Nothing secret is told: not in logs at their finest, not in errors, not in what is shown of the configuration.

use std::time::Duration;

use reqwest::StatusCode;
use tasker_tests::{Setup, until};

/// Part of every secret that is planted.
const PLANTED: &str = "hunter2";
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn secrets_are_in_no_log_no_error_and_no_answer() {
    let setup = Setup {
        servers: 0,
        workers: 0,
        ..Setup::default()
    };
    let mut stack = setup
        .configure("auth.enabled", true)
        // Nothing listens there, so that failures to export are logged too.
        .export_to("http://127.0.0.1:9")
        .start()
        .await;
    let url = stack
        .database_url()
        .replace("tasker@", "tasker:hunter2-database@");
    assert!(url.contains(PLANTED), "{url}");
    stack.set_environment("DATABASE_URL", &url);
    stack.set_environment(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "authorization=Bearer hunter2-otlp",
    );
    stack.set_environment("RUST_LOG", "trace");
    stack.add_server().await;
    stack.add_worker(&[]).await;

    let made = stack
        .tasker(&[
            "key",
            "create",
            "--name",
            "all",
            "--permission",
            "tasks:*",
            "system:*",
            "worker:*",
            "templates:*",
        ])
        .await;
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let mut seen = vec![String::from_utf8_lossy(&made.stderr).into_owned()];

    let bases: Vec<String> = stack
        .processes()
        .map(|(_, process)| process.url(""))
        .collect();
    let wrong_key = format!("tsk_{}", "c0ffee00".repeat(8));
    let sent = [
        ("x-api-key", key.clone()),
        ("x-api-key", wrong_key.clone()),
        ("x-api-key", "hunter2-key".to_owned()),
        ("authorization", format!("Bearer {key}")),
        (
            "authorization",
            "Bearer eyJhbGciOiJSUzI1NiJ9.hunter2-claims.hunter2-signature".to_owned(),
        ),
        ("authorization", "Basic hunter2-basic".to_owned()),
    ];
    for base in &bases {
        for (name, value) in &sent {
            for path in [
                "/config",
                "/config/log-level",
                "/health/detailed",
                "/metrics",
                "/v1/tasks?status=nonsense",
                "/v1/templates/a/b/c",
                "/nowhere",
            ] {
                let request = stack.client().get(format!("{base}{path}"));
                let reply = request.header(*name, value).send().await.unwrap();
                seen.push(format!("{path}: {:?}", reply.headers()));
                seen.push(reply.text().await.unwrap());
            }
        }
    }
    for arguments in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["doctor"],
        &["key", "list", "--json"],
    ] {
        let output = stack.tasker(arguments).await;
        seen.push(String::from_utf8_lossy(&output.stdout).into_owned());
        seen.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    // What fails for want of the database is logged with its reason.
    stack.postgres().kill_now().await.unwrap();
    for base in &bases {
        let request = stack.client().get(format!("{base}/v1/templates"));
        let reply = request.header("x-api-key", &key).send().await.unwrap();
        assert!(
            [StatusCode::SERVICE_UNAVAILABLE, StatusCode::UNAUTHORIZED].contains(&reply.status()),
            "{}",
            reply.status()
        );
        seen.push(reply.text().await.unwrap());
    }
    // Loops notice, an export is due every second, and each finds its way into the logs.
    let logs = until(PATIENCE, async || {
        let logs: Vec<String> = stack
            .processes()
            .map(|(_, process)| process.log())
            .collect();
        let is_told = |log: &String| log.contains("TRACE") && log.contains("WARN");
        match logs.iter().all(is_told) {
            true => Ok(logs),
            false => Err("a log has no line of level trace, or no warning".to_owned()),
        }
    })
    .await;
    seen.extend(logs);
    for text in &seen {
        for secret in [PLANTED, key.as_str(), &key[12..], wrong_key.as_str()] {
            if let Some(at) = text.find(secret) {
                let from = text[..at].rfind('\n').map_or(0, |line| line + 1);
                let line: String = text[from..]
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take(600)
                    .collect();
                panic!("{secret:?} is told: {line}");
            }
        }
    }
}
