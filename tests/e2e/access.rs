//! Who may do what: keys, permissions and namespaces at real processes, and the command line with credentials.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tasker_tests::{Setup, Stack, until};

const PATIENCE: Duration = Duration::from_secs(30);

fn template(namespace: &str) -> String {
    format!(
        "
name: line
namespace_name: {namespace}
version: 1.0.0
steps:
  - name: first
    handler: {{ callable: echo, initialization: {{ result: 1 }} }}
  - name: broken
    handler: {{ callable: fail, initialization: {{ kind: permanent }} }}
"
    )
}

fn request(namespace: &str) -> Value {
    json!({ "name": "line", "namespace": namespace, "context": {} })
}

/// Somebody with a key.
pub(crate) struct User<'a> {
    stack: &'a Stack,
    pub(crate) key: String,
}

impl User<'_> {
    pub(crate) async fn make<'a>(stack: &'a Stack, arguments: &str) -> User<'a> {
        let words: Vec<&str> = ["key", "create"]
            .into_iter()
            .chain(arguments.split_whitespace())
            .collect();
        let made = stack.tasker(&words).await;
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        assert_eq!(key.len(), 68, "{key}");
        User { stack, key }
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let mut request = self.stack.client().request(method, self.stack.url(path));
        request = request.header("x-api-key", &self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = request.send().await.unwrap();
        let status = reply.status();
        let text = reply.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.call(Method::GET, path, None).await;
        (status.as_u16(), body)
    }

    pub(crate) async fn submit(&self, namespace: &str) -> String {
        let body = request(namespace);
        let (status, task) = self.call(Method::POST, "/v1/tasks", Some(&body)).await;
        assert_eq!(status, StatusCode::CREATED, "{task}");
        task["task_uuid"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn guarded() -> Stack {
    let setup = Setup {
        templates: vec![template("shop"), template("bank")],
        ..Setup::default()
    };
    setup.configure("auth.enabled", true).start().await
}

#[tokio::test]
async fn a_key_reaches_its_namespaces_and_nothing_beyond() {
    let stack = guarded().await;
    let admin = User::make(
        &stack,
        "--name admin --permission tasks:* steps:* templates:* dlq:* system:* worker:*",
    )
    .await;
    let shop = User::make(
        &stack,
        "--name shop --namespace shop --permission tasks:* steps:* templates:* dlq:*",
    )
    .await;
    let (ours, theirs) = (admin.submit("shop").await, admin.submit("bank").await);
    for task in [&ours, &theirs] {
        until(PATIENCE, async || {
            let status = admin.get(&format!("/v1/tasks/{task}")).await.1["status"].clone();
            (status == "error")
                .then_some(())
                .ok_or(format!("the task is {status}"))
        })
        .await;
    }

    // By uuid: what is ours is there, what is not does not exist, in the words for what never did.
    let step = admin
        .get(&format!("/v1/tasks/{theirs}/workflow_steps"))
        .await
        .1[0]["step_uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    for (method, path) in [
        (Method::GET, ""),
        (Method::GET, "/summary"),
        (Method::GET, "/graph"),
        (Method::GET, "/events"),
        (Method::GET, "/workflow_steps"),
        (Method::GET, "/workflow_steps/STEP"),
        (Method::GET, "/workflow_steps/STEP/audit"),
        (Method::PATCH, "/workflow_steps/STEP"),
        (Method::POST, "/retry"),
        (Method::DELETE, ""),
    ] {
        let path = format!("/v1/tasks/{theirs}{path}").replace("STEP", &step);
        let body = json!({"action_type": "reset_for_retry", "reason": "x", "reset_by": "x"});
        let body = (method == Method::PATCH).then_some(&body);
        let (status, answer) = shop.call(method.clone(), &path, body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}: {answer}");
        assert_eq!(
            answer["error"]["message"],
            format!("there is no task {theirs}")
        );
    }
    for path in ["", "/summary", "/graph", "/workflow_steps"] {
        let (status, answer) = shop.get(&format!("/v1/tasks/{ours}{path}")).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }

    // Lists have ours alone, whatever is asked for.
    for (query, ours_too) in [
        ("", true),
        ("?namespace=shop", true),
        ("?namespace=bank", false),
        ("?name=line", true),
    ] {
        let (_, list) = shop.get(&format!("/v1/tasks{query}")).await;
        let tasks: Vec<&str> = list["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["task_uuid"].as_str().unwrap())
            .collect();
        let expected: Vec<&str> = ours_too.then_some(ours.as_str()).into_iter().collect();
        assert_eq!(tasks, expected, "{query}");
        assert_eq!(list["pagination"]["total_count"], expected.len(), "{query}");
    }
    let (_, templates) = shop.get("/v1/templates").await;
    assert_eq!(templates["total_count"], 1, "{templates}");
    assert_eq!(templates["templates"][0]["namespace"], "shop");
    assert_eq!(shop.get("/v1/templates/shop/line/1.0.0").await.0, 200);
    assert_eq!(shop.get("/v1/templates/bank/line/1.0.0").await.0, 404);

    // Submitting and storing.
    let (status, refused) = shop
        .call(Method::POST, "/v1/tasks", Some(&request("bank")))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    assert_eq!(refused["error"]["code"], "AUTHORIZATION_FAILED");
    let batch = json!({"tasks": [request("shop"), request("bank"), {"name": 1}]});
    let (_, batch) = shop
        .call(Method::POST, "/v1/tasks/batch", Some(&batch))
        .await;
    let statuses: Vec<u64> = batch["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [201, 403, 400], "{batch}");
    for (namespace, expected) in [("bank", 403), ("shop", 201)] {
        let yaml = template(namespace).replace("1.0.0", "1.1.0");
        let reply = stack
            .client()
            .post(stack.url("/v1/templates"))
            .header("authorization", format!("Bearer {}", shop.key))
            .header("content-type", "application/yaml")
            .body(yaml);
        assert_eq!(
            reply.send().await.unwrap().status(),
            expected,
            "{namespace}"
        );
    }
    assert_eq!(admin.get("/v1/templates/bank/line/1.1.0").await.0, 404);
}

#[tokio::test]
async fn what_a_key_does_not_permit_is_refused_and_a_revoked_one_permits_nothing() {
    let mut stack = guarded().await;
    let worker = stack.worker().url("");
    let reader = User::make(
        &stack,
        "--name reader --permission tasks:list worker:config_read",
    )
    .await;
    assert_eq!(reader.get("/v1/tasks").await.0, 200);
    let reply = stack
        .client()
        .get(stack.url("/config"))
        .header("x-api-key", &reader.key)
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), StatusCode::FORBIDDEN);
    assert_eq!(reply.headers()["x-auth-failure-reason"], "forbidden");
    assert_eq!(reply.headers()["x-auth-failure-severity"], "medium");
    let body: Value = reply.json().await.unwrap();
    assert_eq!(body["error"]["details"]["permission"], "system:config_read");

    let config = stack.client().get(format!("{worker}/config"));
    let config = config
        .header("x-api-key", &reader.key)
        .send()
        .await
        .unwrap();
    assert_eq!(config.status(), StatusCode::OK);
    let config: Value = config.json().await.unwrap();
    assert_eq!(config["auth"]["enabled"], true);
    assert_eq!(config["auth"]["api_key_count"], 1);
    let anonymous = stack
        .client()
        .get(format!("{worker}/config"))
        .send()
        .await
        .unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    for path in ["/health", "/health/ready", "/health/detailed", "/metrics"] {
        for base in [&worker, &stack.url("")] {
            let reply = stack
                .client()
                .get(format!("{base}{path}"))
                .send()
                .await
                .unwrap();
            assert_eq!(reply.status(), StatusCode::OK, "{base}{path}");
        }
    }

    // The command line says what to do, and takes the key.
    let refused = stack.tasker(&["task", "list"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("TASKER_API_KEY") && said.contains("tasker key create"),
        "{said}"
    );
    let listed = stack
        .tasker(&["task", "list", "--json", "--api-key", &reader.key])
        .await;
    assert!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );

    let taken = stack.tasker(&[
        "key",
        "create",
        "--name",
        "reader",
        "--permission",
        "tasks:list",
    ]);
    assert_eq!(taken.await.status.code(), Some(1));
    let list = stack.tasker(&["key", "list"]).await;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(
        list.contains("reader") && list.contains(&reader.key[..12]),
        "{list}"
    );
    assert!(!list.contains(&reader.key), "{list}");
    assert!(
        stack
            .tasker(&["key", "revoke", "reader"])
            .await
            .status
            .success()
    );
    assert_eq!(
        stack
            .tasker(&["key", "revoke", "reader"])
            .await
            .status
            .code(),
        Some(1)
    );
    until(PATIENCE, async || {
        let (status, _) = reader.get("/v1/tasks").await;
        (status == 401)
            .then_some(())
            .ok_or(format!("the key is answered {status}"))
    })
    .await;

    let exposed = stack.tasker(&["server", "--listen", "0.0.0.0:0"]).await;
    let said = String::from_utf8_lossy(&exposed.stderr).into_owned();
    assert_eq!(exposed.status.code(), Some(2), "{said}");
    assert!(
        said.contains("auth.enabled") && said.contains("--allow-anonymous"),
        "{said}"
    );
    let exposed = stack.tasker(&["worker", "--listen", "[::]:0"]).await;
    assert_eq!(exposed.status.code(), Some(2));
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong_and_says_how_to_mend_it() {
    let mut stack = Stack::start().await;
    let doctor = stack.tasker(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let status = |report: &Value, check: &str| {
        let checks = report["checks"].as_array().unwrap().iter();
        let found = checks.filter(|found| found["check"] == check);
        let found: Vec<&str> = found
            .map(|found| found["status"].as_str().unwrap())
            .collect();
        found.join(",")
    };
    assert!(doctor.status.success(), "{report}");
    for check in [
        "configuration",
        "database",
        "clock",
        "migrations",
        "permissions",
        "partitions",
        "servers",
        "workers",
        "handlers",
        "circuits",
        "dead letters",
        "authentication",
        "history",
        "server",
    ] {
        assert_eq!(status(&report, check), "ok", "{check}: {report}");
    }
    // The test's PostgreSQL flushes nothing to disk, and says so.
    assert!(status(&report, "settings").contains("warn"));

    stack.worker().term().await;
    sqlx::query("UPDATE tasker.migrations SET checksum = '' WHERE version = 2")
        .execute(stack.sql())
        .await
        .unwrap();
    let doctor = stack.tasker(&["doctor"]).await;
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(1), "{told}");
    assert!(told.contains("✗ fail  migrations"), "{told}");
    assert!(told.contains("→ "), "{told}");

    stack.postgres().kill_now().await.unwrap();
    let doctor = stack.tasker(&["doctor"]).await;
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(2), "{told}");
    assert!(told.contains("✗ fail  database"), "{told}");
}
