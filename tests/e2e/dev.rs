//! `tasker dev`: what it starts it also ends, however it ends itself, and the next one goes on from there.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tasker_shared::embedded::Temporary;
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A running `tasker dev`, in a directory of its own.
struct Dev {
    child: Child,
    directory: PathBuf,
    url: String,
}

impl Dev {
    async fn start(directory: &Path, arguments: &[&str]) -> Dev {
        let address = directory.join("address");
        let _ = std::fs::remove_file(&address);
        let log = std::fs::File::create(directory.join("dev.log")).unwrap();
        let child = tasker(directory)
            .args(["dev", "--port", "0", "--data", "data"])
            .args(arguments)
            .env("TASKER_ADDRESS_FILE", &address)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut dev = Dev {
            child,
            directory: directory.to_owned(),
            url: String::new(),
        };
        let log = directory.join("dev.log");
        eventually("it runs", || {
            assert!(dev.child.try_wait().unwrap().is_none(), "{}", read(&log));
            read(&log).contains("Tasker is running")
        })
        .await;
        dev.url = format!("http://{}", read(&address).trim());
        dev
    }

    fn pid(&self) -> Pid {
        pid(self.child.id().unwrap())
    }

    /// The processes it has started: PostgreSQL's watcher, the server, the workers.
    fn children(&self) -> Vec<(Pid, String)> {
        let parent = self.child.id().unwrap();
        let threads = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
        let of_threads = threads
            .flatten()
            .map(|thread| read(thread.path().join("children")));
        let mut all: Vec<u32> = of_threads
            .flat_map(|text| {
                text.split_whitespace()
                    .map(|pid| pid.parse().unwrap())
                    .collect::<Vec<_>>()
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        let line = |pid: u32| read(format!("/proc/{pid}/cmdline")).replace('\0', " ");
        all.into_iter()
            .map(|number| (pid(number), line(number)))
            .collect()
    }

    fn child(&self, kind: &str) -> Option<Pid> {
        let mut children = self.children().into_iter();
        let found = children.find(|(_, line)| line.contains(kind));
        found.map(|(pid, _)| pid)
    }

    async fn tasker(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = tasker(&self.directory)
            .args(arguments)
            .env("TASKER_URL", &self.url)
            .output()
            .await
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    async fn ended(mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends")
            .unwrap()
    }
}

fn tasker(directory: &Path) -> Command {
    let test = std::env::current_exe().unwrap();
    let mut directories = test.ancestors();
    let dependencies = directories
        .find(|directory| directory.ends_with("deps"))
        .unwrap();
    let mut command = Command::new(dependencies.with_file_name("tasker"));
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for (name, _) in std::env::vars() {
        if name.starts_with("TASKER_") || name.starts_with("PG") || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lives(pid: Pid) -> bool {
    // One that has ended and that nobody has asked about yet does not live.
    let stat = read(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let is_zombie = stat
        .rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('Z'));
    test_kill_process(pid).is_ok() && !is_zombie
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "in vain waited until {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// A directory that goes with the test, however it ends.
async fn directory() -> (Temporary, PathBuf) {
    let temporary = Temporary::start().await.unwrap();
    let directory = temporary.directory("dev").unwrap();
    (temporary, directory)
}

const TEMPLATE: &str = "
name: note
namespace_name: tests
version: 1.0.0
steps:
  - name: only
    handler: { callable: echo }
";

#[tokio::test]
async fn told_to_end_it_ends_everything_and_keeps_the_data() {
    let (_temporary, directory) = directory().await;
    let templates = directory.join("templates");
    std::fs::create_dir(&templates).unwrap();
    std::fs::write(templates.join("note.yaml"), TEMPLATE).unwrap();
    let dev = Dev::start(&directory, &["--templates", "templates", "--workers", "2"]).await;
    let submit = ["task", "submit", "note", "--namespace", "tests", "--wait"];
    let (status, text) = dev.tasker(&submit).await;
    assert_eq!(status, Some(0), "{text}");

    let children = dev.children();
    assert_eq!(
        children.len(),
        4,
        "PostgreSQL, a server, two workers: {children:?}"
    );
    kill_process(dev.pid(), Signal::INT).unwrap();
    assert!(dev.ended().await.success());
    for (pid, line) in children {
        assert!(!lives(pid), "{line}");
    }

    let dev = Dev::start(&directory, &[]).await;
    let (_, text) = dev.tasker(&["task", "list", "--json"]).await;
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["pagination"]["total_count"], 1, "{list}");
    kill_process(dev.pid(), Signal::TERM).unwrap();
    assert!(dev.ended().await.success());

    let dev = Dev::start(&directory, &["--reset"]).await;
    let (_, text) = dev.tasker(&["task", "list", "--json"]).await;
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["pagination"]["total_count"], 0, "{list}");
    kill_process(dev.pid(), Signal::TERM).unwrap();
    assert!(dev.ended().await.success());
}

#[tokio::test]
async fn killed_it_leaves_nothing_running_and_the_next_one_recovers() {
    let (_temporary, directory) = directory().await;
    let mut dev = Dev::start(&directory, &[]).await;
    let children = dev.children();
    dev.child.kill().await.unwrap();
    let again = Dev::start(&directory, &[]).await;
    for (pid, line) in children {
        eventually(&format!("{line} has ended"), || !lives(pid)).await;
    }
    let (status, text) = again.tasker(&["health"]).await;
    assert_eq!(status, Some(0), "{text}");
    kill_process(again.pid(), Signal::TERM).unwrap();
    assert!(again.ended().await.success());
}

#[tokio::test]
async fn what_dies_is_started_again() {
    let (_temporary, directory) = directory().await;
    std::fs::write(directory.join("note.yaml"), TEMPLATE).unwrap();
    let dev = Dev::start(&directory, &[]).await;
    let (status, text) = dev.tasker(&["template", "apply", "note.yaml"]).await;
    assert_eq!(status, Some(0), "{text}");
    for kind in ["tasker worker", "tasker server"] {
        let before = dev.child(kind).unwrap();
        kill_process(before, Signal::KILL).unwrap();
        eventually(&format!("{kind} is back"), || {
            dev.child(kind).is_some_and(|now| now != before)
        })
        .await;
    }
    let postmaster = read(directory.join("data/postgres/cluster/postmaster.pid"));
    let postmaster: u32 = postmaster.lines().next().unwrap().parse().unwrap();
    kill_process(pid(postmaster), Signal::KILL).unwrap();
    eventually("PostgreSQL is back", || {
        read(directory.join("dev.log")).contains("is up again")
    })
    .await;
    let submit = ["task", "submit", "note", "--namespace", "tests", "--wait"];
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, text) = dev.tasker(&submit).await;
        if status == Some(0) {
            break;
        }
        assert!(Instant::now() < until, "{text}");
    }
    kill_process(dev.pid(), Signal::TERM).unwrap();
    assert!(dev.ended().await.success());
}

#[tokio::test]
async fn what_is_taken_is_named_with_the_way_out() {
    let (_temporary, directory) = directory().await;
    let dev = Dev::start(&directory, &[]).await;
    let (status, text) = dev.tasker(&["dev", "--port", "0", "--data", "data"]).await;
    assert_eq!(status, Some(2), "{text}");
    assert!(
        text.contains("another `tasker dev`") && text.contains("--data"),
        "{text}"
    );

    let port = dev.url.rsplit(':').next().unwrap().to_owned();
    let (status, text) = dev
        .tasker(&["dev", "--port", &port, "--data", "other"])
        .await;
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains(&port) && text.contains("--port"), "{text}");

    let (status, text) = dev.tasker(&["server", "--listen", "0.0.0.0:0"]).await;
    assert_eq!(status, Some(2), "{text}");
    assert!(
        text.contains("authentication") && text.contains("--allow-anonymous"),
        "{text}"
    );
    kill_process(dev.pid(), Signal::TERM).unwrap();
    assert!(dev.ended().await.success());
}

#[tokio::test]
async fn a_process_that_still_waits_for_its_database_ends_when_told() {
    let (_temporary, directory) = directory().await;
    for kind in ["server", "worker"] {
        let log = directory.join(format!("{kind}.log"));
        let mut child = tasker(&directory)
            .args([kind, "--listen", "127.0.0.1:0"])
            .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        eventually("it waits", || read(&log).contains("cannot be reached yet")).await;
        kill_process(pid(child.id().unwrap()), Signal::TERM).unwrap();
        let status = tokio::time::timeout(PATIENCE, child.wait()).await;
        assert!(status.unwrap().unwrap().success(), "{}", read(&log));
    }
}
