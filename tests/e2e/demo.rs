//! The example order workflow from the command line: what `tasker demo` shows is what its files and the API say.

use std::path::Path;

use serde_json::Value;
use tasker_tests::Stack;

/// The pieces of an item that the stock list has.
fn on_hand(demo: &Path, sku: &str) -> u32 {
    let stock = std::fs::read_to_string(demo.join("stock.csv")).unwrap();
    let row = stock.lines().find(|row| row.starts_with(sku)).unwrap();
    row.rsplit(',').next().unwrap().parse().unwrap()
}

async fn run_demo(stack: &Stack, demo: &Path) -> String {
    let output = stack
        .tasker(&["demo", "--dir", demo.to_str().unwrap()])
        .await;
    let out = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{out}\n{error}", output.status);
    out
}

#[tokio::test]
async fn the_demo_runs_an_order_through_real_files_and_a_busy_payment_provider() {
    let stack = Stack::start().await;
    let demo = stack.directory("demo");
    let out = run_demo(&stack, &demo).await;

    let tasks = stack.get("/v1/tasks?namespace=demo").await;
    let [task] = tasks["tasks"].as_array().unwrap().as_slice() else {
        panic!("{tasks}");
    };
    assert_eq!(task["status"], "complete", "{task}");
    let uuid = task["task_uuid"].as_str().unwrap();
    let order = task["context"]["order_id"].as_str().unwrap();

    let steps = stack.steps(uuid.parse().unwrap()).await;
    assert_eq!(steps.len(), 7);
    for (name, step) in &steps {
        assert_eq!(step["current_state"], "complete", "{name}: {step}");
        let attempts = if name == "charge_payment" { 2 } else { 1 };
        assert_eq!(step["attempts"], attempts, "{name}: {step}");
    }
    let charge = steps["charge_payment"]["step_uuid"].as_str().unwrap();
    let path = format!("/v1/tasks/{uuid}/workflow_steps/{charge}/audit");
    let audit = stack.get(&path).await;
    let outcomes: Vec<&str> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["success", "retryable"], "newest first: {audit}");
    assert_eq!(audit[1]["error"]["status_code"], 503, "{audit}");

    for (sku, left) in [("MUG-BLUE", 398), ("TEE-M", 249), ("PEN-BLACK", 1995)] {
        assert_eq!(on_hand(&demo, sku), left, "{sku}");
    }
    let result = |step: &str, key: &str| -> String {
        let path = steps[step]["results"][key].as_str().unwrap();
        std::fs::read_to_string(demo.join(path)).unwrap()
    };
    let invoice = result("notify_customer", "invoice");
    assert!(
        invoice.contains(order) && invoice.contains("51.50 EUR"),
        "{invoice}"
    );
    assert!(result("notify_customer", "mail").contains("To: ada@example.org"));
    assert!(result("pack_items", "parcel").contains("2 x MUG-BLUE   Blue mug"));
    let ledger = result("close_order", "ledger");
    assert!(
        ledger.contains(&format!("{order},5150,ch-{order}")),
        "{ledger}"
    );

    for text in [
        "┌",
        "✓ charge_payment ×2",
        "waiting_for_retry",
        "steps enqueued",
        "51.50 EUR",
        demo.to_str().unwrap(),
    ] {
        assert!(out.contains(text), "{text:?} is missing in\n{out}");
    }
    let door = |name: &str| -> Option<u32> {
        let line = out.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().last()?.parse().ok()
    };
    let doors = [
        "tasks requested",
        "steps enqueued",
        "steps claimed",
        "steps executed",
        "results processed",
        "tasks completed",
    ];
    assert_eq!(doors.map(door), [1, 8, 8, 8, 8, 1].map(Some), "{out}");
}

#[tokio::test]
async fn the_demo_can_be_run_again() {
    let stack = Stack::start().await;
    let demo = stack.directory("demo");
    run_demo(&stack, &demo).await;
    run_demo(&stack, &demo).await;
    assert_eq!(on_hand(&demo, "MUG-BLUE"), 396);
    let ledger = std::fs::read_to_string(demo.join("ledger.csv")).unwrap();
    assert_eq!(ledger.lines().count(), 3, "{ledger}");
}

#[tokio::test]
async fn without_a_server_the_demo_says_what_to_do() {
    let stack = Stack::start().await;
    let output = stack.tasker(&["demo", "--url", "http://127.0.0.1:9"]).await;
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("tasker dev"), "{error}");
}

#[tokio::test]
async fn the_command_line_answers_in_json_and_with_its_exit_status() {
    let stack = Stack::start().await;
    let json = |output: &std::process::Output| -> Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let directory = stack.directory("notes");
    let template = "
name: note
namespace_name: tests
version: 1.0.0
input_schema: { type: object, required: [n] }
steps:
  - name: only
    handler: { callable: command, initialization: { argv: [sh, -c, cat note.json || exit 64], cwd: HERE } }
";
    let here = serde_json::json!(directory).to_string();
    stack.apply_template(&template.replace("HERE", &here)).await;
    let submit = ["task", "submit", "note", "--namespace", "tests", "--json"];
    let with = |more: &[&'static str]| -> Vec<&str> { [&submit[..], more].concat() };

    let refused = stack.tasker(&submit).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(json(&refused)["error"]["code"].is_string());
    assert!(refused.stderr.is_empty(), "{refused:?}");

    let failed = stack
        .tasker(&with(&["--context", r#"{"n":1.10}"#, "--wait"]))
        .await;
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(json(&failed)["status"], "error");
    assert!(
        String::from_utf8_lossy(&failed.stdout).contains("1.10"),
        "kept as it came"
    );
    let task = json(&failed)["task_uuid"].as_str().unwrap().to_owned();

    std::fs::write(directory.join("note.json"), "{}").unwrap();
    let retried = stack
        .tasker(&["task", "retry", &task, "--wait", "--json"])
        .await;
    assert_eq!(
        (retried.status.code(), &json(&retried)["status"]),
        (Some(0), &"complete".into())
    );

    let first = stack
        .tasker(&with(&["--context", r#"{"n":2}"#, "--key", "k"]))
        .await;
    let again = stack
        .tasker(&with(&["--context", r#"{"n":2}"#, "--key", "k"]))
        .await;
    assert_eq!(json(&first)["task_uuid"], json(&again)["task_uuid"]);

    for (arguments, status) in [
        (&["task", "show", &task, "--json"][..], 0),
        (&["task", "graph", &task, "--format", "svg"], 0),
        (&["task", "graph", &task, "--format", "mermaid"], 0),
        (&["task", "graph", &task], 0),
        (&["task", "watch", &task], 0),
        (&["task", "list", "--namespace", "tests"], 0),
        (&["task", "show", "0199c3e0-ccdb-7581-87ab-3f67dae00000"], 1),
        (&["task", "show", "0199c3e0"], 2),
        (&["step", "show", &task, "only"], 0),
        (&["step", "show", &task, "nobody"], 1),
        (&["template", "list"], 0),
        (&["template", "show", "note", "--namespace", "tests"], 0),
        (&["template", "graph", "note"], 0),
        (&["template", "show", "nothing"], 1),
        (&["health"], 0),
        (&["health", "--detailed", "--json"], 0),
        (&["config", "show", "--json"], 0),
        (&["migrate", "--check"], 0),
    ] {
        let output = stack.tasker(arguments).await;
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {output:?}"
        );
    }
}
