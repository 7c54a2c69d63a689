//! Tasks that cannot go on become dead letters that say why, and go on when somebody has mended what was wrong.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::{Setup, Stack, until};
use uuid::Uuid;

use crate::wire_tables::assert_fits;

const PATIENCE: Duration = Duration::from_secs(60);

/// A task whose first step fails with this exit status for as long as it is not mended.
fn broken(name: &str, more: &str, status: u8, place: &Path) -> String {
    let place = json!(place.to_str().unwrap());
    format!(
        "name: {name}
namespace_name: letters
version: 1.0.0
{more}steps:
  - name: first
    handler: {{ callable: command, initialization: {{ argv: [sh, -c, 'test -e mended && cat || exit {status}'], cwd: {place} }} }}
    retry: {{ max_attempts: 2, backoff: none }}
  - {{ name: second, dependencies: [first], handler: {{ callable: echo, initialization: {{ result: 2 }} }} }}
"
    )
}

fn request(name: &str) -> Value {
    json!({"name": name, "namespace": "letters", "context": {"n": 1.50}})
}

/// The newest entry of a task, once it is there and pending.
async fn entry(stack: &Stack, task: Uuid) -> Value {
    let path = format!("/v1/dlq/task/{task}");
    let found = until(PATIENCE, async || {
        match stack.call(Method::GET, &path, None).await {
            (status, entry) if status == 200 && entry["resolution_status"] == "Pending" => {
                Ok(entry)
            }
            (status, body) => Err(format!("{status} {body}")),
        }
    })
    .await;
    assert_fits("DlqEntry", &found);
    found
}

fn id(entry: &Value) -> &str {
    entry["dlq_entry_uuid"].as_str().unwrap()
}

async fn requeue(stack: &Stack, entry: &Value) -> (u16, Value) {
    let path = format!("/v1/dlq/entry/{}/requeue", id(entry));
    let said = json!({"requeued_by": "me", "note": "mended"});
    let (status, body) = stack.call(Method::POST, &path, Some(&said)).await;
    (status.as_u16(), body)
}

/// Lets so much time pass for a task as nobody wants to wait.
async fn age(stack: &Stack, task: Uuid) {
    for sql in [
        "UPDATE tasker.tasks SET created_at = created_at - interval '2 hours' WHERE task_uuid = $1",
        "UPDATE tasker.steps SET changed_at = changed_at - interval '2 hours' WHERE task_uuid = $1",
        "UPDATE tasker.deadlines SET since = since - interval '2 hours', due_at = now() WHERE task_uuid = $1",
    ] {
        sqlx::query(sql)
            .bind(task)
            .execute(stack.sql())
            .await
            .unwrap();
    }
}

async fn dlq_counter(stack: &Stack, reason: &str) -> f64 {
    let mut sum = 0.0;
    for (_, process) in stack.processes().filter(|(kind, _)| *kind == "server") {
        let labels = [("namespace", "letters"), ("reason", reason)];
        sum += process
            .metrics()
            .await
            .sum("tasker_dlq_entries_total", &labels);
    }
    sum
}

#[tokio::test]
async fn a_task_that_failed_goes_on_when_what_was_wrong_is_mended() {
    let stack = Stack::start().await;
    let place = stack.directory("place");
    for (name, more, status) in [
        ("hopeless", "", 64),
        ("stubborn", "", 1),
        ("blocked", "on_failure: block\n", 64),
    ] {
        stack
            .apply_template(&broken(name, more, status, &place))
            .await;
    }
    let mut entries = Vec::new();
    for (name, state, exact, reason) in [
        ("hopeless", "error", "permanent", "MaxRetriesExceeded"),
        ("stubborn", "error", "exhausted", "MaxRetriesExceeded"),
        (
            "blocked",
            "blocked_by_failures",
            "permanent",
            "MaxRetriesExceeded",
        ),
    ] {
        let task = stack.submit(request(name)).await;
        assert_eq!(stack.wait_final(task, PATIENCE).await["status"], state);
        let entry = entry(&stack, task).await;
        assert_eq!(
            (&entry["reason"], &entry["dlq_reason"]),
            (&json!(exact), &json!(reason))
        );
        assert_eq!(entry["original_state"], state);
        assert_eq!(
            (&entry["namespace"], &entry["task_name"]),
            (&json!("letters"), &json!(name))
        );
        let failed = &entry["failed_steps"][0];
        assert_eq!(failed["name"], "first");
        assert_eq!(failed["attempts"], if exact == "exhausted" { 2 } else { 1 });
        let steps = entry["task_snapshot"]["steps"].as_array().unwrap();
        let states: Vec<_> = steps.iter().map(|s| (&s["name"], &s["state"])).collect();
        let expected = [
            (json!("first"), json!("error")),
            (json!("second"), json!("skipped")),
        ];
        let expected: Vec<_> = expected.iter().map(|(name, state)| (name, state)).collect();
        assert_eq!(states, expected);
        assert_eq!(entry["task_snapshot"]["task"]["context"], json!({"n": 1.5}));
        let summary = stack.get(&format!("/v1/tasks/{task}/summary")).await;
        let dlq = json!({"in_dlq": true, "dlq_reason": "max_retries_exceeded", "resolution_status": "pending"});
        assert_eq!(summary["dlq"], dlq);
        entries.push((task, entry));
    }
    let counted = (
        dlq_counter(&stack, "permanent").await,
        dlq_counter(&stack, "exhausted").await,
    );
    assert_eq!(counted, (2.0, 1.0));
    wait_depth(&stack, 3.0).await;

    // It fails again as long as nothing is mended, which is another entry.
    let (task, first) = &entries[0];
    assert_eq!(requeue(&stack, first).await.0, 200);
    assert_eq!(stack.wait_final(*task, PATIENCE).await["status"], "error");
    let again = entry(&stack, *task).await;
    assert_ne!(id(&again), id(first));
    let (status, refused) = requeue(&stack, first).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("CONFLICT"))
    );
    entries[0].1 = again;

    std::fs::write(place.join("mended"), "").unwrap();
    for (task, entry) in &entries {
        let (status, done) = requeue(&stack, entry).await;
        assert_eq!(status, 200, "{done}");
        assert_eq!(done["task_uuid"], json!(task));
        stack.wait_complete(*task, PATIENCE).await;
        let resolved = stack.get(&format!("/v1/dlq/entry/{}", id(entry))).await;
        assert_fits("DlqEntry", &resolved);
        assert_eq!(resolved["resolution_status"], "ManuallyResolved");
        let said = (&resolved["resolved_by"], &resolved["resolution_notes"]);
        assert_eq!(said, (&json!("me"), &json!("mended")));
        assert!(resolved["resolution_timestamp"].is_string());
        let summary = stack.get(&format!("/v1/tasks/{task}/summary")).await;
        assert_eq!(summary["dlq"]["in_dlq"], false);
    }
    wait_depth(&stack, 0.0).await;
}

async fn wait_depth(stack: &Stack, depth: f64) {
    until(PATIENCE, async || {
        for (_, server) in stack.processes().filter(|(kind, _)| *kind == "server") {
            let shown = server.metrics().await.sum("tasker_dlq_depth", &[]);
            if shown != depth {
                return Err(format!("{shown} are pending"));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_step_that_kills_its_workers_is_poison() {
    let mut stack = Setup::default()
        .configure("worker.lease_ms", 2_000)
        .configure("worker.heartbeat_interval_ms", 500)
        .configure("limits.max_lost_leases", 1)
        .start()
        .await;
    let place = stack.directory("place");
    // What a killed worker ran goes on, until the test is over at the latest.
    let endless = "until test -e mended || ! test -d $PWD; do sleep 1; done";
    let source = format!(
        "name: endless
namespace_name: letters
version: 1.0.0
steps:
  - {{ name: only, handler: {{ callable: command, initialization: {{ argv: [sh, -c, '{endless}'], cwd: {} }} }} }}
",
        json!(place.to_str().unwrap())
    );
    stack.apply_template(&source).await;
    let task = stack.submit(request("endless")).await;
    for _ in 0..2 {
        let claimed = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL";
        stack
            .wait_count("claimed", claimed, PATIENCE, |claimed| claimed == 1)
            .await;
        stack.worker().kill_9().await;
        let left = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL";
        stack
            .wait_count("left", left, PATIENCE, |left| left == 0)
            .await;
        stack.worker().restart().await;
    }
    let entry = entry(&stack, task).await;
    let reasons = (&entry["reason"], &entry["dlq_reason"]);
    assert_eq!(reasons, (&json!("poison"), &json!("WorkerUnavailable")));
    let failed = &entry["failed_steps"][0];
    assert_eq!(
        (&failed["lost_leases"], &failed["attempts"]),
        (&json!(2), &json!(0))
    );
    std::fs::write(place.join("mended"), "").unwrap();
    assert_eq!(requeue(&stack, &entry).await.0, 200);
    stack.wait_complete(task, PATIENCE).await;
}

#[tokio::test]
async fn an_input_that_breaks_its_schema_is_kept_and_cannot_go_on() {
    let stack = Stack::start().await;
    let template = "name: strict\nnamespace_name: letters\nversion: 1.0.0\ninput_schema: { type: object, required: [id] }
steps: [ { name: only, handler: { callable: echo } } ]\n";
    stack.apply_template(template).await;
    let task: Uuid = sqlx::query_scalar("SELECT tasker.submit_task('letters', 'strict', '{}')")
        .fetch_one(stack.sql())
        .await
        .unwrap();
    let entry = entry(&stack, task).await;
    let reasons = (&entry["reason"], &entry["dlq_reason"]);
    assert_eq!(reasons, (&json!("invalid_input"), &json!("ManualDlq")));
    let failure = &entry["task_snapshot"]["task"]["failure"];
    assert_eq!(failure["code"], "INVALID_CONTEXT");
    let (status, refused) = requeue(&stack, &entry).await;
    assert_eq!(status, 409);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("input_schema"), "{message}");
    // It is left alone unless it is meant.
    let (status, done) = stack
        .call(Method::POST, "/v1/dlq/requeue", Some(&json!({"all": true})))
        .await;
    assert_eq!(
        (status.as_u16(), done),
        (200, json!({"requeued": 0, "refused": [], "more": false}))
    );
    let meant = json!({"reason": "invalid_input"});
    let (_, done) = stack
        .call(Method::POST, "/v1/dlq/requeue", Some(&meant))
        .await;
    assert_eq!(done["refused"][0]["error"]["code"], "CONFLICT");
    assert_eq!(
        done["refused"][0]["dlq_entry_uuid"],
        entry["dlq_entry_uuid"]
    );
}

fn slow(name: &str, lifecycle: &str) -> String {
    format!(
        "name: {name}
namespace_name: letters
version: 1.0.0
lifecycle: {{ {lifecycle} }}
steps:
  - {{ name: runs, handler: {{ callable: sleep, initialization: {{ ms: 600000 }} }} }}
  - {{ name: waits, dependencies: [runs], handler: {{ callable: echo }} }}
"
    )
}

#[tokio::test]
async fn a_task_past_a_limit_of_its_lifecycle_is_stopped_and_kept() {
    let stack = Setup::default()
        .configure("worker.heartbeat_interval_ms", 500)
        .start()
        .await;
    let place = stack.directory("place");
    stack
        .apply_template(&slow("kept", "max_steps_in_process_minutes: 60"))
        .await;
    stack
        .apply_template(&slow(
            "dropped",
            "max_duration_minutes: 60, staleness_action: error",
        ))
        .await;
    stack
        .apply_template(&slow(
            "shown",
            "max_steps_in_process_minutes: 60, staleness_action: none",
        ))
        .await;
    let more = "lifecycle: { max_waiting_for_retry_minutes: 60 }\n";
    let retries = broken("retries", more, 1, &place).replace(
        "backoff: none",
        "backoff: linear, backoff_base_ms: 7200000, max_backoff_ms: 7200000",
    );
    stack.apply_template(&retries).await;
    let mut tasks = Vec::new();
    for name in ["kept", "dropped", "shown", "retries"] {
        tasks.push(stack.submit(request(name)).await);
    }
    let [kept, dropped, shown, retries] = tasks[..] else {
        unreachable!()
    };
    stack
        .wait_for(retries, &["waiting_for_retry"], PATIENCE)
        .await;
    let running = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL";
    stack
        .wait_count("running", running, PATIENCE, |running| running == 3)
        .await;
    for &task in &tasks {
        age(&stack, task).await;
    }
    for task in [kept, retries] {
        assert_eq!(stack.wait_final(task, PATIENCE).await["status"], "error");
        let entry = entry(&stack, task).await;
        let reasons = (&entry["reason"], &entry["dlq_reason"]);
        assert_eq!(reasons, (&json!("stale"), &json!("StalenessTimeout")));
        let message = entry["failed_steps"][0]["message"].as_str().unwrap();
        assert!(
            message.contains("lifecycle.max_") && message.contains("60 min"),
            "{message}"
        );
    }
    assert_eq!(stack.wait_final(dropped, PATIENCE).await["status"], "error");
    assert_eq!(stack.task(shown).await["status"], "steps_in_process");
    // The handlers that ran are told, and no longer run.
    let busy = "SELECT busy::int8 FROM tasker.workers WHERE stopped_at IS NULL";
    stack
        .wait_count("busy", busy, PATIENCE, |busy| busy == 1)
        .await;

    let listed = stack.get("/v1/dlq/staleness").await;
    assert_fits("[StalenessMonitoring]", &listed);
    let of = listed.as_array().unwrap().iter();
    let of: Vec<_> = of
        .map(|t| (&t["task_uuid"], &t["health_status"], &t["action"]))
        .collect();
    assert_eq!(of, [(&json!(shown), &json!("stale"), &json!("none"))]);

    // Its error is the whole of it.
    let (status, _) = stack
        .call(Method::GET, &format!("/v1/dlq/task/{dropped}"), None)
        .await;
    assert_eq!(status, 404);
    let messages = "SELECT count(*) FROM tasker.results";
    stack
        .wait_count("messages", messages, PATIENCE, |messages| messages == 0)
        .await;

    // What is put back has all its time again.
    std::fs::write(place.join("mended"), "").unwrap();
    assert_eq!(requeue(&stack, &entry(&stack, retries).await).await.0, 200);
    stack.wait_complete(retries, PATIENCE).await;
    assert_eq!(requeue(&stack, &entry(&stack, kept).await).await.0, 200);
    stack
        .wait_count("running", running, PATIENCE, |running| running == 2)
        .await;
    let (status, cancelled) = stack
        .call(Method::DELETE, &format!("/v1/tasks/{kept}"), None)
        .await;
    assert_eq!(
        (status.as_u16(), &cancelled["status"]),
        (200, &json!("cancelled"))
    );
}

#[tokio::test]
async fn a_step_that_no_worker_serves_is_given_up_where_configured() {
    let stack = Setup::default()
        .configure("dead_letters.unroutable_after_seconds", 1)
        .start()
        .await;
    let template = "name: lonely\nnamespace_name: letters\nversion: 1.0.0\nsteps: [ { name: only, handler: { callable: nobody_has_this } } ]\n";
    stack.apply_template(template).await;
    let task = stack.submit(request("lonely")).await;
    assert_eq!(stack.wait_final(task, PATIENCE).await["status"], "error");
    let first = entry(&stack, task).await;
    let reasons = (&first["reason"], &first["dlq_reason"]);
    assert_eq!(reasons, (&json!("unroutable"), &json!("WorkerUnavailable")));
    let message = first["failed_steps"][0]["message"].as_str().unwrap();
    assert!(message.contains("nobody_has_this"), "{message}");
    // A person may end it instead.
    let step = &stack.steps(task).await["only"]["step_uuid"];
    let path = format!("/v1/tasks/{task}/workflow_steps/{}", step.as_str().unwrap());
    let action = json!({"action_type": "complete_manually", "reason": "done by hand", "completed_by": "me", "completion_data": {"result": 1}});
    let (status, done) = stack.call(Method::PATCH, &path, Some(&action)).await;
    assert_eq!(status, 200, "{done}");
    let entry = stack.get(&format!("/v1/dlq/entry/{}", id(&first))).await;
    assert_eq!(entry["resolution_status"], "ManuallyResolved");
    let said = (&entry["resolved_by"], &entry["resolution_notes"]);
    assert_eq!(said, (&json!("me"), &json!("done by hand")));
}

#[tokio::test]
async fn people_look_into_dead_letters_and_decide() {
    let stack = Stack::start().await;
    let place = stack.directory("place");
    stack
        .apply_template(&broken("hopeless", "", 64, &place))
        .await;
    stack
        .apply_template(&broken("stubborn", "", 1, &place))
        .await;
    assert_eq!(stack.get("/v1/dlq").await, json!([]));
    assert_eq!(stack.get("/v1/dlq/stats").await, json!([]));
    let mut tasks = stack.submit_all(&vec![request("hopeless"); 3]).await;
    tasks.extend(stack.submit_all(&vec![request("stubborn"); 2]).await);
    for &task in &tasks {
        entry(&stack, task).await;
    }
    let listed = stack.get("/v1/dlq?limit=50&offset=0").await;
    assert_fits("[DlqEntry]", &listed);
    let count = async |query: &str| {
        stack
            .get(&format!("/v1/dlq?{query}"))
            .await
            .as_array()
            .unwrap()
            .len()
    };
    for (query, expected) in [
        ("", 5),
        ("limit=2&offset=4", 1),
        ("resolution_status=pending", 5),
        ("resolution_status=Pending&reason=permanent", 3),
        ("reason=MaxRetriesExceeded", 5),
        ("reason=exhausted&name=stubborn&namespace=letters", 2),
        ("namespace=other", 0),
        ("resolution_status=cancelled", 0),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }
    let queue = stack.get("/v1/dlq/investigation-queue?limit=3").await;
    assert_fits("[DlqInvestigationQueueEntry]", &queue);
    assert_eq!(queue.as_array().unwrap().len(), 3);
    assert!(queue[0]["priority_score"].as_f64().unwrap() >= 500.0);

    // An update as the published client sends it: null leaves what is there.
    let one = entry(&stack, tasks[0]).await;
    let path = format!("/v1/dlq/entry/{}", id(&one));
    let note = json!({"resolution_status": null, "resolution_notes": "known", "resolved_by": null, "metadata": {"ticket": 7}});
    let (status, updated) = stack.call(Method::PATCH, &path, Some(&note)).await;
    assert_eq!((status.as_u16(), &updated["success"]), (200, &json!(true)));
    let verdict = json!({"resolution_status": "PermanentlyFailed", "resolution_notes": null, "resolved_by": "me", "metadata": null});
    assert_eq!(
        stack.call(Method::PATCH, &path, Some(&verdict)).await.0,
        200
    );
    let closed = stack.get(&path).await;
    assert_fits("DlqEntry", &closed);
    assert_eq!(closed["resolution_status"], "PermanentlyFailed");
    assert_eq!(
        (&closed["resolution_notes"], &closed["metadata"]),
        (&json!("known"), &json!({"ticket": 7}))
    );

    std::fs::write(place.join("mended"), "").unwrap();
    let filter = json!({"reason": "permanent", "name": "hopeless", "before": chrono::Utc::now(), "limit": 1, "note": "by filter"});
    let (status, done) = stack
        .call(Method::POST, "/v1/dlq/requeue", Some(&filter))
        .await;
    assert_eq!(
        (status.as_u16(), &done["requeued"], &done["more"]),
        (200, &json!(1), &json!(true))
    );
    let (_, done) = stack
        .call(
            Method::POST,
            "/v1/dlq/requeue",
            Some(&json!({"namespace": "letters"})),
        )
        .await;
    assert_eq!(
        (&done["requeued"], &done["refused"]),
        (&json!(3), &json!([]))
    );
    for &task in &tasks[1..] {
        stack.wait_complete(task, PATIENCE).await;
    }
    let stats = stack.get("/v1/dlq/stats").await;
    assert_fits("[DlqStats]", &stats);
    let counts = [
        "total_entries",
        "pending",
        "manually_resolved",
        "permanent_failures",
        "cancelled",
    ];
    let counts = counts.map(|key| stats[0][key].as_i64().unwrap());
    assert_eq!(counts, [5, 0, 4, 1, 0]);
    assert_eq!(stats[0]["reasons"], json!({"exhausted": 2, "permanent": 3}));
    assert!(stats[0]["avg_resolution_time_minutes"].is_f64());
}

#[tokio::test]
async fn what_cannot_be_done_to_a_dead_letter_is_refused_with_what_to_do() {
    let stack = Stack::start().await;
    let place = stack.directory("place");
    stack
        .apply_template(&broken("hopeless", "", 64, &place))
        .await;
    let later = chrono::Utc::now() + chrono::Duration::hours(1);
    let mut waiting = request("hopeless");
    waiting["run_at"] = json!(later);
    let live = stack.submit(waiting).await;
    let add = format!("/v1/dlq/task/{live}");
    let (status, added) = stack
        .call(
            Method::POST,
            &add,
            Some(&json!({"note": "odd", "added_by": "me"})),
        )
        .await;
    assert_eq!((status.as_u16(), &added["reason"]), (201, &json!("manual")));
    assert_fits("DlqEntry", &added);
    let unknown = "0199c3e0-ccdb-7581-87ab-3f67dae00000";
    let no_entry = format!("/v1/dlq/entry/{unknown}");
    let entry = format!("/v1/dlq/entry/{}", id(&added));
    let table = [
        (Method::GET, no_entry.clone(), None, 404),
        (Method::PATCH, no_entry.clone(), Some(json!({})), 404),
        (Method::POST, format!("{no_entry}/requeue"), None, 404),
        (Method::GET, format!("/v1/dlq/task/{unknown}"), None, 404),
        (Method::POST, format!("/v1/dlq/task/{unknown}"), None, 404),
        (Method::GET, "/v1/dlq/entry/x".to_owned(), None, 400),
        (Method::GET, "/v1/dlq?limit=0".to_owned(), None, 400),
        (Method::GET, "/v1/dlq?offset=-1".to_owned(), None, 400),
        (Method::GET, "/v1/dlq?reason=luck".to_owned(), None, 400),
        (
            Method::GET,
            "/v1/dlq?resolution_status=done".to_owned(),
            None,
            400,
        ),
        (Method::GET, "/v1/dlq?page=1".to_owned(), None, 400),
        (
            Method::GET,
            "/v1/dlq/staleness?limit=1001".to_owned(),
            None,
            400,
        ),
        (
            Method::PATCH,
            entry.clone(),
            Some(json!({"resolution_status": "done"})),
            400,
        ),
        (
            Method::PATCH,
            entry.clone(),
            Some(json!({"resolution_notes": "a\0b"})),
            400,
        ),
        (
            Method::PATCH,
            entry.clone(),
            Some(json!({"notes": "x"})),
            400,
        ),
        (
            Method::POST,
            "/v1/dlq/requeue".to_owned(),
            Some(json!({})),
            400,
        ),
        (
            Method::POST,
            "/v1/dlq/requeue".to_owned(),
            Some(json!({"all": true, "limit": 1001})),
            400,
        ),
        (Method::POST, add.clone(), None, 409),
        // It has nothing that failed.
        (Method::POST, format!("{entry}/requeue"), None, 409),
    ];
    for (method, path, body, expected) in table {
        let (status, answer) = stack.call(method.clone(), &path, body.as_ref()).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert!(
            answer["error"]["message"]
                .as_str()
                .is_some_and(|m| m.len() > 15),
            "{answer}"
        );
    }
    // Cancelling says all there is to say.
    let (status, _) = stack
        .call(Method::DELETE, &format!("/v1/tasks/{live}"), None)
        .await;
    assert_eq!(status, 200);
    let closed = stack.get(&entry).await;
    assert_eq!(closed["resolution_status"], "Cancelled");
    let (status, added) = stack.call(Method::POST, &add, None).await;
    assert_eq!(status, 201, "{added}");
    let (status, refused) = requeue(&stack, &added).await;
    assert_eq!(status, 409);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("cancelled") && message.contains("resolve"),
        "{message}"
    );
    // One that was closed is opened again only while no other is pending.
    let reopen = json!({"resolution_status": "Pending"});
    assert_eq!(
        stack.call(Method::PATCH, &entry, Some(&reopen)).await.0,
        409
    );
}

#[tokio::test]
async fn the_command_line_lists_shows_requeues_and_resolves() {
    let stack = Stack::start().await;
    let place = stack.directory("place");
    stack
        .apply_template(&broken("hopeless", "", 64, &place))
        .await;
    let tasks = stack.submit_all(&vec![request("hopeless"); 3]).await;
    for &task in &tasks {
        entry(&stack, task).await;
    }
    let run = async |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let output = stack.tasker(&words).await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (status, out, err) = run("dlq list --reason permanent --limit 2").await;
    assert_eq!((status, out.lines().count()), (Some(0), 4), "{out}{err}");
    assert!(
        out.contains("letters") && out.contains("pending") && out.contains("--offset 2"),
        "{out}"
    );
    let (status, out, err) = run(&format!("dlq show {}", tasks[0])).await;
    assert_eq!(status, Some(0), "{err}");
    assert!(
        out.contains("permanent") && out.contains("step first"),
        "{out}"
    );
    for (line, expected) in [
        ("dlq stats", "max_retries_exceeded"),
        ("dlq queue", "hopeless"),
        ("dlq stale", "no task is at work"),
    ] {
        let (status, out, err) = run(line).await;
        assert_eq!(status, Some(0), "{err}");
        assert!(out.contains(expected), "{line}: {out}");
    }
    let (status, out, _) = run("dlq list --json").await;
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, json.as_array().unwrap().len()), (Some(0), 3));
    let unknown = "0199c3e0-ccdb-7581-87ab-3f67dae00000";
    let (status, _, err) = run(&format!("dlq show {unknown}")).await;
    assert_eq!(status, Some(1));
    assert!(err.contains("neither"), "{err}");

    std::fs::write(place.join("mended"), "").unwrap();
    let (status, out, err) = run(&format!("dlq requeue {} --note mended", tasks[0])).await;
    assert_eq!(status, Some(0), "{out}{err}");
    let (status, _, err) = run(&format!("dlq requeue {}", tasks[0])).await;
    assert_eq!(status, Some(1), "{err}");
    let (status, out, err) = run(&format!(
        "dlq resolve {} --status permanently_failed --note so",
        tasks[1]
    ))
    .await;
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("permanently_failed"), "{out}");
    let (status, out, err) = run("dlq requeue --namespace letters --json").await;
    assert_eq!(status, Some(0), "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["requeued"], 1);
    for task in [tasks[0], tasks[2]] {
        stack.wait_complete(task, PATIENCE).await;
    }
    let (status, out, err) = run(&format!("dlq add {} --note odd", tasks[0])).await;
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("manual"), "{out}");
    assert_eq!(run("dlq requeue").await.0, Some(2), "nothing is named");
}
