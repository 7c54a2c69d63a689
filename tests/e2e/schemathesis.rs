//! The API against its own description: schemathesis makes requests of it, proper ones and improper ones, and every
//! answer must be one that it describes. `scripts/setup --tests` installs it.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::json;
use tasker_tests::{Setup, Stack, skipped};
use tokio::process::Command;

const LINE: &str = "
name: line
namespace_name: described
version: 1.0.0
steps:
  - name: first
    handler: { callable: echo, initialization: { result: 1 } }
  - name: broken
    handler: { callable: fail, initialization: { kind: permanent } }
    dependencies: [first]
";
/// Whatever it makes up, it makes up again.
const SEED: &str = "1";
/// Requests of each kind to a route: half a minute altogether without optimisation.
const EXAMPLES: &str = "20";

/// The program, where it is installed.
fn installed() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let program = target.join("schemathesis/bin/schemathesis");
    program.is_file().then_some(program)
}

/// What it is to know, as a file of the stack: the checks, and values for parameters where there are some.
fn configure(stack: &Stack, name: &str, parameters: &str) -> PathBuf {
    let checks = include_str!("../schemathesis/schemathesis.toml");
    let file = stack.directory("schemathesis").join(name);
    std::fs::write(&file, format!("{checks}\n[parameters]\n{parameters}")).unwrap();
    file
}

async fn run(stack: &Stack, program: &Path, configuration: &Path, phases: &str) -> Output {
    Command::new(program)
        .arg("--config-file")
        .arg(configuration)
        .arg("run")
        .arg(stack.url("/api-docs/openapi.json"))
        .args(["--seed", SEED, "--max-examples", EXAMPLES])
        .args(["--phases", phases, "--continue-on-failure"])
        .args(["--generation-database", ":memory:"])
        .args(["--request-timeout", "30", "--no-color"])
        // It never ends for a task that goes on; `task_events` has tests of its own.
        .args(["--exclude-path", "/v1/tasks/{task_uuid}/events"])
        .current_dir(stack.directory("schemathesis"))
        .env("NO_PROXY", "*")
        .output()
        .await
        .unwrap()
}

fn assert_passed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    assert!(said.contains("No issues found"), "{said}\n{failed}");
}

#[tokio::test]
async fn every_route_answers_as_its_description_says() {
    let Some(program) = installed() else {
        return skipped("schemathesis is not there; run scripts/setup --tests");
    };
    let mut stack = Setup {
        templates: vec![LINE.to_owned()],
        ..Setup::default()
    }
    .start()
    .await;
    let file = configure(&stack, "strangers.toml", "");
    assert_passed(
        &run(
            &stack,
            &program,
            &file,
            "examples,coverage,fuzzing,stateful",
        )
        .await,
    );

    // Once more about a task and a step that are there, so that requests come further than to a 404.
    let request = json!({"name": "line", "namespace": "described", "context": {}});
    let task = stack.submit(request).await;
    let patience = std::time::Duration::from_secs(30);
    stack.wait_final(task, patience).await;
    let step = &stack.steps(task).await["broken"]["step_uuid"];
    let known = format!(
        "task_uuid = \"{task}\"\nstep_uuid = {step}\nnamespace = \"described\"\nname = \"line\"\nversion = \"1.0.0\"\n"
    );
    let file = configure(&stack, "known.toml", &known);
    assert_passed(&run(&stack, &program, &file, "fuzzing").await);
    assert!(stack.server().is_running(), "the server is gone");
}
