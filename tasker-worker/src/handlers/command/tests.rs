use std::path::Path;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::completions::tests::open_door;
use crate::context::Limits;
use crate::testing;

fn command() -> Command {
    Command::new(open_door())
}

fn shell(script: &str) -> Value {
    json!({"argv": ["sh", "-c", script]})
}

async fn run_shell(script: &str) -> Result<String, StepError> {
    testing::call(&command(), testing::context().config(shell(script)).build()).await
}

fn details(error: &StepError) -> Value {
    serde_json::from_str(error.details().unwrap().get()).unwrap()
}

/// Waits until the process `id` is gone (a zombie is: its parent has it to bury).
async fn gone(id: &str) {
    let state =
        || std::fs::read_to_string(Path::new("/proc").join(id).join("stat")).unwrap_or_default();
    let alive = || {
        state()
            .rsplit(')')
            .next()
            .is_some_and(|rest| !rest.is_empty() && !rest.trim().starts_with('Z'))
    };
    let until = Instant::now() + Duration::from_secs(20);
    while alive() {
        assert!(
            Instant::now() < until,
            "process {id} is still alive: {}",
            state()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for a line that a program writes to `path` with one write.
async fn line(path: &Path) -> String {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(
                Instant::now() < until,
                "nothing was written to {}",
                path.display()
            ),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_inputs_come_on_stdin_untouched_and_stdout_is_the_result() {
    let context = testing::context()
        .input_json(r#"{"amount":1.10,"big":1e999999}"#)
        .dependency("reserve", json!({"ok": true}))
        .config(json!({"argv": ["cat"]}))
        .attempt(2)
        .build();
    let expected = concat!(
        r#"{"context":{"amount":1.10,"big":1e999999},"dependencies":{"reserve":{"ok":true}},"#,
        r#""initialization":{"argv":["cat"]},"attempt":2}"#
    );
    assert_eq!(testing::call(&command(), context).await.unwrap(), expected);
}

#[tokio::test]
async fn included_ancestors_are_among_the_dependencies() {
    let context = testing::context()
        .config(json!({"argv": ["cat"], "include": ["first"]}))
        .dependency("second", 2)
        .ancestor("first", 1)
        .build();
    let result: Value =
        serde_json::from_str(&testing::call(&command(), context).await.unwrap()).unwrap();
    assert_eq!(result["dependencies"], json!({"second": 2, "first": 1}));
}

#[tokio::test]
async fn the_exit_status_decides_whether_another_attempt_is_made() {
    // (script, retryable, message)
    let table = [
        ("exit 1", true, "`sh` exited with status 1"),
        ("exit 63", true, "`sh` exited with status 63"),
        ("exit 64", false, "`sh` exited with status 64"),
        ("exit 78", false, "`sh` exited with status 78"),
        ("exit 79", true, "`sh` exited with status 79"),
        (
            "echo first >&2; echo 'no such order' >&2; echo >&2; exit 65",
            false,
            "`sh` exited with status 65: no such order",
        ),
        ("kill -9 $$", true, "`sh` was killed by signal 9"),
    ];
    for (script, retryable, message) in table {
        let error = run_shell(script).await.unwrap_err();
        assert_eq!(
            (error.is_retryable(), error.message()),
            (retryable, message),
            "{script}"
        );
    }
}

#[tokio::test]
async fn what_a_program_says_without_json_is_handled() {
    assert_eq!(run_shell("true").await.unwrap(), "null");
    assert_eq!(run_shell("printf ' \\n'").await.unwrap(), "null");
    assert_eq!(run_shell("echo '  [1, 2]  '").await.unwrap(), "[1, 2]");
    for (script, part) in [
        ("echo '{\"total\": '", "stdout is not a result"),
        ("echo done", "it begins with \"done\""),
        ("printf '\"\\377\"'", "stdout is not UTF-8"),
        ("echo '{\"a\":1,\"a\":2}'", "occurs twice"),
    ] {
        let error = run_shell(script).await.unwrap_err();
        assert!(!error.is_retryable(), "{script}");
        assert!(error.message().contains(part), "{script}: {error}");
    }
}

#[tokio::test]
async fn large_inputs_and_outputs_pass_each_other_without_a_deadlock() {
    // `cat` answers while it is still being fed, far beyond what a pipe holds.
    let text = "x".repeat(700_000);
    let context = testing::context()
        .input(&text)
        .config(json!({"argv": ["cat"]}))
        .build();
    assert!(testing::call(&command(), context).await.unwrap().len() > 700_000);
    // Writes everything before it reads anything, and fills stderr besides.
    let script = "head -c 600000 /dev/zero | tr '\\0' 'e' >&2; printf '\"'; head -c 900000 /dev/zero | tr '\\0' 'x'; \
                  printf '\"'; cat > /dev/null";
    let context = testing::context()
        .input(&text)
        .config(shell(script))
        .build();
    assert_eq!(
        testing::call(&command(), context).await.unwrap().len(),
        900_002
    );
}

#[tokio::test]
async fn a_program_that_never_reads_its_inputs_succeeds() {
    let context = testing::context()
        .input("x".repeat(900_000))
        .config(shell("echo 1"))
        .build();
    assert_eq!(testing::call(&command(), context).await.unwrap(), "1");
}

#[tokio::test]
async fn output_without_end_is_stopped_at_the_limit() {
    let limits = Limits {
        max_result_bytes: 1_000,
        ..testing::LIMITS
    };
    let context = testing::context()
        .config(json!({"argv": ["yes"]}))
        .limits(limits)
        .build();
    let error = testing::call(&command(), context).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(
        error
            .message()
            .contains("1000 bytes to stdout that limits.max_result_bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn of_a_long_stderr_the_end_is_kept() {
    let error =
        run_shell("head -c 100000 /dev/zero | tr '\\0' 'e' >&2; echo; echo last words >&2; exit 3")
            .await
            .unwrap_err();
    let stderr = details(&error)["stderr"].as_str().unwrap().to_owned();
    assert_eq!(stderr.len(), STDERR_BYTES);
    assert!(stderr.ends_with("last words\n"));
    assert_eq!(details(&error)["exit_status"], 3);
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_a_permanent_failure_that_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "not a program").unwrap();
    for (config, part) in [
        (
            json!({"argv": ["no-such-program-anywhere"]}),
            "`no-such-program-anywhere`, or the interpreter it names, was not found",
        ),
        (json!({"argv": [plain]}), "may not be run"),
        (json!({"argv": []}), "initialization.argv is empty"),
        (
            json!({"argv": ["echo", "a\0b"]}),
            "cannot be started with these arguments",
        ),
        (
            json!({"argv": ["true"], "cwd": "/no/such/place"}),
            "`/no/such/place` is not a directory",
        ),
        (
            json!({"argv": "true"}),
            "initialization.argv: invalid type: string",
        ),
        (
            json!({"argv": ["true"], "shell": true}),
            "unknown field `shell`",
        ),
    ] {
        let error = testing::call(&command(), testing::context().config(&config).build())
            .await
            .unwrap_err();
        assert!(!error.is_retryable(), "{config}");
        assert!(error.message().contains(part), "{config}: {error}");
    }
}

#[tokio::test]
async fn it_runs_where_and_with_what_its_template_says() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().canonicalize().unwrap();
    let script = r#"printf '["%s","%s","%s"]' "$PWD" "$CURRENCY" "$TASKER_STEP_UUID""#;
    let mut config = shell(script);
    config["cwd"] = json!(place);
    config["env"] = json!({"CURRENCY": "EUR"});
    let context = testing::context().config(config).build();
    let expected = json!([place, "EUR", context.step_uuid()]).to_string();
    assert_eq!(testing::call(&command(), context).await.unwrap(), expected);
}

#[tokio::test]
async fn cancelling_ends_the_program_and_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("child");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let token = CancellationToken::new();
    let context = testing::context()
        .config(shell(&script))
        .cancellation(token.clone())
        .build();
    let attempt = tokio::spawn(async move { testing::call(&command(), context).await });
    let child = line(&file).await;
    token.cancel();
    let error = attempt.await.unwrap().unwrap_err();
    assert_eq!(error.message(), "`sh` was ended: the step is cancelled");
    gone(&child).await;
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("self");
    let script = format!(
        "trap '' TERM; echo $$ > {}; while :; do sleep 1000; done",
        file.display()
    );
    let token = CancellationToken::new();
    let context = testing::context()
        .config(shell(&script))
        .cancellation(token.clone())
        .build();
    let attempt = tokio::spawn(async move { testing::call(&command(), context).await });
    let leader = line(&file).await;
    token.cancel();
    assert!(attempt.await.unwrap().is_err());
    gone(&leader).await;
}

#[tokio::test]
async fn at_the_deadline_the_program_is_ended_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("child");
    // The child ignores SIGTERM: it has to be killed though nobody waits for that any more.
    let script = format!(
        "(trap '' TERM; sleep 1000) & echo $! > {}; wait",
        file.display()
    );
    let context = testing::context()
        .config(shell(&script))
        .deadline(Instant::now() + Duration::from_millis(500))
        .build();
    let attempt = tokio::spawn(async move { testing::call(&command(), context).await });
    let child = line(&file).await;
    assert_eq!(attempt.await.unwrap().unwrap_err().error_type(), "timeout");
    gone(&child).await;
}

#[tokio::test]
async fn dropping_the_attempt_ends_the_program_and_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("child");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let context = testing::context().config(shell(&script)).build();
    let attempt = tokio::spawn(async move { testing::call(&command(), context).await });
    let child = line(&file).await;
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    gone(&child).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_neither_delays_the_result_nor_lives_on() {
    let begun = Instant::now();
    let result = run_shell("sleep 1000 & echo $!").await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    gone(&result).await;
}

#[test]
fn whatever_may_hold_credentials_of_tasker_is_withheld_and_nothing_else() {
    for (variable, withheld) in [
        ("DATABASE_URL", true),
        ("TASKER__DATABASE__URL", true),
        ("TASKER_URL", true),
        ("TASKER_API_KEY", true),
        ("TASKER_TOKEN", true),
        ("PGPASSWORD", true),
        ("PGPASSFILE", true),
        ("OTEL_EXPORTER_OTLP_HEADERS", true),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", true),
        ("OTEL_SERVICE_NAME", false),
        ("PATH", false),
        ("HOME", false),
    ] {
        assert_eq!(is_withheld(variable), withheld, "{variable}");
    }
}

#[tokio::test]
async fn a_program_is_killed_also_where_nobody_waits_for_its_end_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let (leader, asked) = (
        directory.path().join("leader"),
        directory.path().join("asked"),
    );
    let script = format!(
        "trap 'echo asked > {}' TERM; echo $$ > {}; while :; do sleep 0.01; done",
        asked.display(),
        leader.display()
    );
    let token = CancellationToken::new();
    let context = testing::context()
        .config(shell(&script))
        .cancellation(token.clone())
        .build();
    let attempt = tokio::spawn(async move { testing::call(&command(), context).await });
    let leader = line(&leader).await;
    token.cancel();
    line(&asked).await;
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    gone(&leader).await;
}
