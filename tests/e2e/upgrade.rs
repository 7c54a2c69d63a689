//! The program of the version before, on the schema of this one: it has to run while an upgrade is under way.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tasker_shared::db::migrate;
use tasker_shared::db::pool::Target;
use tasker_tests::{Setup, until};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(120);

const TEMPLATE: &str = "
name: before
namespace_name: upgrade
version: 1.0.0
steps:
  - { name: one, handler: { callable: echo } }
  - { name: two, handler: { callable: echo }, dependencies: [one] }
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

async fn said(program: &str, arguments: &[&str], directory: &Path) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .await
        .map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The newest release below this tree; none where nothing was released, or there is no repository.
async fn tag_before() -> Option<String> {
    let arguments = ["describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^"];
    said("git", &arguments, &root()).await.ok()
}

/// Builds the program of a tag beside ours, once.
async fn build(tag: &str) -> PathBuf {
    let place = root().join("target/before").join(tag);
    let sources = place.join("sources");
    std::fs::create_dir_all(&sources).unwrap();
    let archive = place.join("sources.tar");
    let file = archive.to_str().unwrap();
    said("git", &["archive", "--output", file, tag], &root())
        .await
        .unwrap();
    said(
        "tar",
        &["-xf", file, "-C", sources.to_str().unwrap()],
        &place,
    )
    .await
    .unwrap();
    let target = place.join("target");
    let arguments = [
        "build",
        "--locked",
        "--bin",
        "tasker",
        "--target-dir",
        target.to_str().unwrap(),
    ];
    said("cargo", &arguments, &sources).await.unwrap();
    target.join("debug/tasker")
}

/// Starts a process of it and waits for its address.
async fn start(program: &Path, role: &str, directory: &Path, database: &str) -> (Child, String) {
    let address = directory.join(format!("{role}.address"));
    let child = Command::new(program)
        .args([role, "--no-migrate", "--listen", "127.0.0.1:0"])
        .env("DATABASE_URL", database)
        .env("TASKER_ADDRESS_FILE", &address)
        .env("TASKER__TELEMETRY__OPENTELEMETRY__ENABLED", "false")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(directory.join(format!("{role}.log"))).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = until(PATIENCE, async || {
        let listening = std::fs::read_to_string(&address).map_err(|error| error.to_string())?;
        Ok(format!("http://{}", listening.trim()))
    })
    .await;
    (child, url)
}

#[tokio::test]
async fn the_program_of_the_version_before_runs_on_this_schema() {
    let Some(tag) = tag_before().await else {
        eprintln!("skipped: nothing has been released before this version (no tag v*)");
        return;
    };
    let program = build(&tag).await;
    let setup = Setup {
        servers: 0,
        workers: 0,
        ..Setup::default()
    };
    let stack = setup.start().await;
    let target = Target::parse(stack.database_url(), "test", PATIENCE).unwrap();
    migrate::run(&target).await.unwrap();
    let directory = stack.directory("before");
    let (_server, url) = start(&program, "server", &directory, stack.database_url()).await;
    let (_worker, _) = start(&program, "worker", &directory, stack.database_url()).await;
    let file = directory.join("before.yaml");
    std::fs::write(&file, TEMPLATE).unwrap();
    let tool = program.to_str().unwrap();
    let apply = ["--url", &url, "template", "apply", file.to_str().unwrap()];
    until(PATIENCE, async || said(tool, &apply, &directory).await).await;
    let submit = [
        "--url",
        &url,
        "task",
        "submit",
        "before",
        "--namespace",
        "upgrade",
        "--wait",
    ];
    for _ in 0..20 {
        said(tool, &submit, &directory).await.unwrap();
    }
}
