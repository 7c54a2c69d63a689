//! One `tasker` process: starting it, finding its address, killing it, reading its log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

/// A debug build on a busy machine takes its time.
const START: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
const LOG_TAIL_LINES: usize = 60;

/// How to start a process, as often as one likes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Names its files; unique within a stack.
    pub(crate) name: String,
    /// The program, which lies where Cargo puts ours.
    pub(crate) program: &'static str,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    /// Its working directory and that of its files.
    pub(crate) directory: PathBuf,
}

/// A running process, or the remains of one. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    plan: Plan,
    child: Child,
    /// Open for as long as this program lives: they end together, however this one does.
    together: Option<ChildStdin>,
    pid: Pid,
    address: SocketAddr,
}

impl Process {
    pub(crate) async fn start(plan: Plan) -> Self {
        let address_file = plan.directory.join(format!("{}.address", plan.name));
        let _ = std::fs::remove_file(&address_file);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(plan.directory.join(format!("{}.log", plan.name)))
            .unwrap();
        let mut child = command(plan.program, &plan.directory)
            .args(&plan.arguments)
            .args(["--listen", "127.0.0.1:0"])
            .envs(plan.variables.iter().map(|(name, value)| (name, value)))
            .env("TASKER_ADDRESS_FILE", &address_file)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let id = child.id().expect("it was just started");
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        let until = Instant::now() + START;
        let address = loop {
            if let Some(address) = read_address(&address_file) {
                break address;
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "{} ended with {status} while starting:\n{}",
                    plan.name,
                    tail(&plan)
                );
            }
            assert!(
                Instant::now() < until,
                "{} names no address:\n{}",
                plan.name,
                tail(&plan)
            );
            tokio::time::sleep(POLL).await;
        };
        let mut process = Self {
            plan,
            together: child.stdin.take(),
            child,
            pid,
            address,
        };
        process.become_ready(until).await;
        process
    }

    async fn become_ready(&mut self, until: Instant) {
        let client = client();
        let mut last = String::from("no answer");
        loop {
            if let Ok(reply) = client.get(self.url("/health/ready")).send().await {
                if reply.status().is_success() {
                    return;
                }
                last = reply.text().await.unwrap_or_default();
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "{} ended with {status} before it was ready:\n{}",
                    self.plan.name,
                    self.log_tail()
                );
            }
            assert!(
                Instant::now() < until,
                "{} is not ready: {last}\n{}",
                self.plan.name,
                self.log_tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// What it is called within its stack.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Whether it answers: not one that ended, or was killed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        rustix::process::test_kill_process(self.pid).is_ok()
    }

    /// Sends any signal, `STOP` and `CONT` for example.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub async fn kill_9(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to end, by SIGTERM, and waits until it has.
    pub async fn term(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Lets it see what it sees when this program is killed: nobody holds its standard input open any more.
    pub fn abandon(&mut self) {
        self.together = None;
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        match tokio::time::timeout(END, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("{} does not end:\n{}", self.plan.name, self.log_tail()),
        }
    }

    /// Starts it again, at another port, killing it first where it still runs.
    pub async fn restart(&mut self) {
        if self.is_running() {
            self.kill_9().await;
        }
        *self = Self::start(self.plan.clone()).await;
    }

    /// All it has logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(&self.plan)
    }

    /// The end of its log, for a failure's message.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.plan)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("── {} ──\n{}", self.plan.name, self.log_tail());
        }
        // It may be gone already.
        let _ = self.child.start_kill();
    }
}

/// A program under test, with nothing in its environment that would change what it does.
pub(crate) fn command(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(program(name));
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let changes = ["TASKER_", "PG", "OTEL_", "DATABASE_URL"];
        if changes.iter().any(|start| text.starts_with(start)) {
            command.env_remove(name);
        }
    }
    command.env("TASKER_ENV", "test");
    command
}

pub(crate) fn client() -> reqwest::Client {
    // Refused where it was done before, which is all right.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Where Cargo puts programs: beside a benchmark, one directory up from a test. Cargo tells it only to tests of
/// the same package.
fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let mut directory = own.parent().unwrap();
    if directory.ends_with("deps") {
        directory = directory.parent().unwrap();
    }
    let program = directory.join(name);
    assert!(
        program.exists(),
        "{} is missing: build it first, `cargo build --workspace --bins`",
        program.display()
    );
    program
}

fn read_address(file: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn read_log(plan: &Plan) -> String {
    let bytes =
        std::fs::read(plan.directory.join(format!("{}.log", plan.name))).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(plan: &Plan) -> String {
    let log = read_log(plan);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
