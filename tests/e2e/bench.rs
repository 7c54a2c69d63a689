//! `tasker bench`: each scenario runs, finds what it says, and checks its results; what a step costs the database stays
//! within its budget; a run that went wrong says so.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tasker_shared::embedded::Temporary;
use tasker_tests::{Stack, until};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);
/// Everything works by being woken: how long a machine takes for a run does not show in what is counted.
const NO_POLLING: [(&str, &str); 3] = [
    ("TASKER__SERVER__POLL_INTERVAL_MS", "10000"),
    ("TASKER__WORKER__POLL_INTERVAL_MS", "10000"),
    // Its first export would find nobody.
    ("TASKER__TELEMETRY__OPENTELEMETRY__ENABLED", "false"),
];

/// The program with nothing in its environment that would change what it does.
fn tasker(arguments: &[&str]) -> Command {
    let test = std::env::current_exe().unwrap();
    let dependencies = test
        .ancestors()
        .find(|directory| directory.ends_with("deps"));
    let program: PathBuf = dependencies.unwrap().with_file_name("tasker");
    let mut command = Command::new(program);
    for (name, _) in std::env::vars() {
        if ["TASKER_", "PG", "OTEL_", "DATABASE_URL"]
            .iter()
            .any(|start| name.starts_with(start))
        {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .envs(NO_POLLING)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What a run finds that goes well, its shape checked.
async fn bench(arguments: &str) -> Value {
    let mut all = vec!["bench", "--json"];
    all.extend(arguments.split(' '));
    let output = tasker(&all).output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments}: {error}\n{}", told(&output)));
    assert!(output.status.success(), "{arguments}: {}", told(&output));
    assert_eq!(
        (&report["lost"], &report["duplicated"]),
        (&0.into(), &0.into()),
        "{report}"
    );
    assert_eq!(report["faults"], Value::Array(Vec::new()));
    assert_eq!(
        report["scenario"]["name"],
        arguments.split(' ').next().unwrap()
    );
    assert!(report["version"].is_string() && report["machine"]["cores"].as_u64() > Some(0));
    assert!(report["postgres"]["version"].is_string());
    assert_eq!(report["postgres"]["settings"]["fsync"], "on");
    let flush = &report["fdatasync_us"];
    assert!(number(&flush["p50"]) > 0.0 && number(&flush["p95"]) >= number(&flush["p50"]));
    assert_eq!(report["noisy"], Value::Bool(number(&flush["p95"]) >= 200.0));
    for process in ["server", "worker", "postgres", "client"] {
        assert!(number(&report["cpu_s"][process]) >= 0.0, "{report}");
        assert!(number(&report["rss_bytes"][process]) > 1e6, "{report}");
    }
    report
}

fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    format!("{}\n{}", output.status, String::from_utf8_lossy(&text))
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

/// Quantiles in their order.
#[track_caller]
fn assert_quantiles(value: &Value) {
    let values = ["p50", "p95", "p99", "max"].map(|name| number(&value[name]));
    assert!(values[0] > 0.0 && values.is_sorted(), "{value}");
}

async fn runs_to_its_end(run: &str) {
    let report = bench(&format!("throughput {run}")).await;
    assert!(number(&report["steps_per_s"]) > number(&report["tasks_per_s"]));
    assert!(report["latency_ms"].is_null());
}

#[tokio::test]
async fn tasks_asked_for_one_by_one_are_run_to_their_end() {
    runs_to_its_end("--shape diamond --tasks 30 --via rest --connections 4").await;
    runs_to_its_end("--shape fanout:60 --tasks 2 --via rest").await;
}

#[tokio::test]
async fn tasks_asked_for_in_sql_or_run_by_two_workers_are_run_to_their_end() {
    runs_to_its_end("--shape dag7 --tasks 20 --via sql").await;
    runs_to_its_end("--shape tree8 --tasks 20 --workers 2").await;
}

#[tokio::test]
async fn throughput_is_compared_with_the_sketch() {
    let report = bench("throughput --shape linear --tasks 300 --sketch").await;
    let (own, sketch) = (
        number(&report["steps_per_s"]),
        number(&report["findings"]["sketch_steps_per_s"]),
    );
    let share = number(&report["findings"]["share_of_sketch"]);
    assert!((own / sketch - share).abs() < 0.01, "{report}");
}

#[tokio::test]
async fn latency_is_told_alone_and_at_a_rate() {
    let report = bench("latency --shape single --tasks 5").await;
    assert_quantiles(&report["start_ms"]);
    assert_quantiles(&report["latency_ms"]);
    assert!(number(&report["start_ms"]["max"]) <= number(&report["latency_ms"]["max"]));
    assert!(
        report["steps_per_s"].is_null(),
        "tasks waited for each other"
    );
    assert_eq!(
        report["postgres"]["settings"]["track_commit_timestamp"],
        "on"
    );
    let report = bench("latency --shape linear --rate 100 --tasks 25").await;
    assert_quantiles(&report["findings"]["overhead_ms_per_step"]);
    assert!(number(&report["tasks_per_s"]) < 30.0, "{report}");
}

#[tokio::test]
async fn latency_is_compared_with_the_sketch() {
    let report = bench("latency --tasks 5 --sketch").await;
    let (own, sketch) = (&report["latency_ms"], &report["findings"]["sketch_ms"]);
    assert_quantiles(sketch);
    let times = number(&report["findings"]["times_the_sketch"]);
    let ratio = number(&own["p50"]) / number(&sketch["p50"]);
    assert!((ratio - times).abs() < 0.1, "{report}");
}

#[tokio::test]
async fn single_requests_over_many_connections_are_answered_honestly() {
    let report = bench("submit --connections 32 --tasks 200").await;
    let found = &report["findings"];
    assert_eq!(
        number(&found["created"]) + number(&found["unavailable"]),
        200.0
    );
    assert_eq!(
        (&found["server_errors"], &found["broken"]),
        (&0.into(), &0.into())
    );
    assert_quantiles(&found["request_ms"]);
}

#[tokio::test]
async fn a_backlog_is_run_beside() {
    let report = bench("backlog --tasks 600 --measured-tasks 100").await;
    for place in ["other_lanes", "same_lane"] {
        assert!(
            number(&report["findings"][place]["ratio"]) > 0.0,
            "{report}"
        );
    }
}

#[tokio::test]
async fn a_history_is_run_beside() {
    let report = bench("history --tasks 600 --weeks 3 --measured-tasks 50 --shape linear").await;
    assert_eq!(report["scenario"]["steps"], 2_400);
    assert_quantiles(&report["findings"]["listing_ms"]);
}

#[tokio::test]
async fn throughput_is_told_while_a_snapshot_is_held() {
    let report = bench("pinned --minutes 0.05").await;
    let windows = report["findings"]["windows_steps_per_s"]
        .as_array()
        .unwrap();
    assert!(windows.iter().all(|rate| number(rate) > 0.0), "{report}");
}

#[tokio::test]
async fn an_idle_machine_is_measured() {
    let report = bench("idle --seconds 2").await;
    assert!(number(&report["findings"]["statements_per_s"]) >= 0.0);
    assert!(number(&report["findings"]["cores"]) >= 0.0);
}

#[tokio::test]
async fn a_second_worker_is_compared_with_one() {
    let report = bench("scale --tasks 60 --handler-ms 5 --concurrency 2").await;
    assert!(number(&report["findings"]["times"]) > 0.0);
}

/// The most that a step may cost, its task's acceptance included, for runs of the linear graph of four: statements,
/// commits (notifications delivered are among them), bytes of the write-ahead log, rows written. In a batch little
/// depends on the clock. Alone, claims and reads that find nothing come on top, more of them where a machine is slow.
const BUDGET: [(&str, [f64; 4]); 2] = [
    (
        "throughput --shape linear --tasks 3000",
        [0.05, 0.15, 2_000.0, 9.7],
    ),
    (
        "latency --shape linear --tasks 60",
        [8.0, 15.0, 2_100.0, 11.7],
    ),
];

#[tokio::test]
async fn a_step_stays_within_its_budget_in_batches_and_alone() {
    for (run, most) in BUDGET {
        let report = bench(run).await;
        let step = &report["per_step"];
        let names = ["statements", "commits", "wal_bytes", "row_writes"];
        for (name, most) in names.into_iter().zip(most) {
            // Statements are counted where PostgreSQL has the library for it.
            if name == "statements" && step[name].is_null() {
                continue;
            }
            let costs = number(&step[name]);
            assert!(
                costs > 0.0 && costs <= most,
                "{run}: {costs} {name} a step, {most} allowed"
            );
        }
    }
}

#[tokio::test]
async fn a_table_is_printed_for_people_and_a_given_database_used_again() {
    let postgres = Temporary::start().await.unwrap();
    for _ in 0..2 {
        let url = postgres.url();
        let line = [
            "bench",
            "throughput",
            "--tasks",
            "20",
            "--database-url",
            url,
        ];
        let output = tasker(&line).output().await.unwrap();
        let text = told(&output);
        assert!(output.status.success(), "{text}");
        for part in [
            "throughput",
            "steps",
            "rows written",
            "without fsync",
            "nothing lost",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[tokio::test]
async fn a_database_that_serves_others_is_left_alone() {
    let stack = Stack::start().await;
    let url = stack.database_url();
    let line = ["bench", "idle", "--database-url", url];
    let output = tasker(&line).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("2 servers and workers are at work"),
        "{}",
        told(&output)
    );

    let postgres = Temporary::start().await.unwrap();
    let line = [
        "bench",
        "throughput",
        "--tasks",
        "5",
        "--database-url",
        postgres.url(),
    ];
    assert!(tasker(&line).output().await.unwrap().status.success());
    let pool = sqlx::PgPool::connect(postgres.url()).await.unwrap();
    let insert = "INSERT INTO tasker.templates (namespace, name, version, definition, source, step_count) VALUES ('shop', 'a', '1.0.0', '{}', '', 1)";
    sqlx::query(insert).execute(&pool).await.unwrap();
    let output = tasker(&line).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("templates of others"),
        "{}",
        told(&output)
    );
}

#[tokio::test]
async fn what_cannot_be_used_is_named_with_the_way_out() {
    for (line, words) in [
        (
            ["bench", "idle", "--data", "/nowhere"],
            "/nowhere cannot be used",
        ),
        (
            ["bench", "idle", "--database-url", "nonsense"],
            "postgres://user",
        ),
        (
            [
                "bench",
                "idle",
                "--database-url",
                "postgres://nobody@127.0.0.1:1/none?sslmode=disable",
            ],
            "cannot be migrated",
        ),
    ] {
        let output = tasker(&line).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert!(told(&output).contains(words), "{}", told(&output));
    }
}

#[tokio::test]
async fn a_process_that_dies_under_measurement_fails_the_run() {
    let line = ["bench", "--json", "pinned", "--minutes", "5"];
    let child = tasker(&line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bench = child.id().unwrap();
    let worker = until(PATIENCE, async || {
        child_of(bench, "worker").ok_or("a worker".to_owned())
    })
    .await;
    kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = told(&output);
    // Before it is ready, it could not be started; after, the run is worth nothing.
    assert!(matches!(output.status.code(), Some(1 | 2)), "{text}");
    assert!(text.contains("worker-1 ended with signal: 9"), "{text}");
}

/// The process of this kind that another has started.
fn child_of(parent: u32, kind: &str) -> Option<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let read = |pid: i32, file: &str| {
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file))
    };
    let mut found = pids.filter(|pid| {
        let status = read(*pid, "status").unwrap_or_default();
        let is_child = status
            .lines()
            .any(|line| line == format!("PPid:\t{parent}"));
        is_child
            && read(*pid, "cmdline")
                .unwrap_or_default()
                .contains(&format!("\0{kind}\0"))
    });
    found.next()
}
