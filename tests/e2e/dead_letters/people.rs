//! What people do with dead letters: they look into them, decide, and are told what cannot be done.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::Stack;

use super::{PATIENCE, broken, entry, id, request, requeue};
use crate::wire_tables::assert_fits;

/// A stack with a template whose tasks fail for good while `mended` is missing in the directory.
async fn hopeless() -> (Stack, PathBuf) {
    let stack = Stack::start().await;
    let place = stack.directory("place");
    stack
        .apply_template(&broken("hopeless", "", 64, &place))
        .await;
    (stack, place)
}

#[tokio::test]
async fn people_look_into_dead_letters_and_decide() {
    let (stack, place) = hopeless().await;
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
    let (stack, _) = hopeless().await;
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
    let (stack, place) = hopeless().await;
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
