//! One child process: started, watched, started again with growing pauses when it dies, stopped when told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{self, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::console::Console;
use crate::failure::Failure;
use crate::process::ADDRESS_FILE;

/// How long a process may take to become ready.
const START: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A process that ran this long was well: the next pause is the first one again.
const WELL: Duration = Duration::from_secs(60);

/// What a child is.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) variables: Vec<(String, String)>,
    /// Where it is to listen; port 0 until it has chosen one.
    pub(super) address: SocketAddr,
    pub(super) address_file: PathBuf,
}

/// A child and who keeps it.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    address: SocketAddr,
    address_file: PathBuf,
    chosen: watch::Sender<SocketAddr>,
    /// How its process ended, while none runs.
    ended: watch::Receiver<Option<ExitStatus>>,
    stop: CancellationToken,
    kill: CancellationToken,
    keeper: Option<JoinHandle<()>>,
}

impl Child {
    /// Starts the process. It gets `grace` to end when it is stopped.
    pub(super) fn start(role: Role, grace: Duration, console: Console) -> Result<Child, Failure> {
        // Left from a run before, it would tell an address of the past.
        let _ = std::fs::remove_file(&role.address_file);
        let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
        let (chosen, address) = watch::channel(role.address);
        let process = spawn(&role, role.address, &console)?;
        let (tell, ended) = watch::channel(None);
        let keeper = Keeper {
            role: role.clone(),
            address,
            ended: tell,
            stop: stop.clone(),
            kill: kill.clone(),
            grace,
            console,
        };
        Ok(Child {
            name: role.name,
            address: role.address,
            address_file: role.address_file,
            chosen,
            ended,
            stop,
            kill,
            keeper: Some(tokio::spawn(keeper.keep(process))),
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it can take work. A process that ends before that would end again.
    pub(super) async fn ready(&mut self) -> Result<SocketAddr, Failure> {
        let until = Instant::now() + START;
        let client = reqwest_client()?;
        let mut told = false;
        loop {
            if !told && let Some(address) = self.told_address() {
                self.address = address;
                self.chosen.send_replace(address);
                told = true;
            }
            if told && is_ready(&client, self.address).await {
                return Ok(self.address);
            }
            if let Some(status) = *self.ended.borrow() {
                return Err(Failure::Usage(format!(
                    "the {} ended with {status} instead of becoming ready; what it said is above",
                    self.name
                )));
            }
            if Instant::now() > until {
                return Err(Failure::Usage(format!(
                    "the {} is not ready after {} s; what it said is above",
                    self.name,
                    START.as_secs()
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn told_address(&self) -> Option<SocketAddr> {
        let text = std::fs::read_to_string(&self.address_file).ok()?;
        text.trim().parse().ok()
    }

    /// Asks it to end and waits until it has.
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(keeper) = &mut self.keeper {
            // Its only failure is a panic, which has been printed.
            let _ = keeper.await;
            self.keeper = None;
        }
        // Nobody needs it any more; a stale one would be removed at the next start.
        let _ = std::fs::remove_file(&self.address_file);
    }

    /// Ends it at once.
    pub(super) async fn kill(&mut self) {
        self.kill.cancel();
        self.stop().await;
    }
}

/// Keeps one child up until it is to stop.
struct Keeper {
    role: Role,
    address: watch::Receiver<SocketAddr>,
    ended: watch::Sender<Option<ExitStatus>>,
    stop: CancellationToken,
    kill: CancellationToken,
    grace: Duration,
    console: Console,
}

impl Keeper {
    async fn keep(self, mut process: process::Child) {
        let mut pause = FIRST_PAUSE;
        loop {
            let since = Instant::now();
            // Waiting would close the pipe by which the child sees that we are there.
            let _pipe = process.stdin.take();
            let ended = tokio::select! {
                ended = process.wait() => ended,
                () = self.stop.cancelled() => return self.end(process).await,
            };
            let Ok(status) = ended else { return };
            self.ended.send_replace(Some(status));
            if since.elapsed() > WELL {
                pause = FIRST_PAUSE;
            }
            loop {
                let text = format!(
                    "ended with {status}; starting again in {} ms",
                    pause.as_millis()
                );
                self.console.of_child(&self.role.name, &text);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.stop.cancelled() => return,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
                let address = *self.address.borrow();
                match spawn(&self.role, address, &self.console) {
                    Ok(again) => {
                        process = again;
                        break;
                    }
                    Err(failure) => self.console.of_child(&self.role.name, &failure.explained()),
                }
            }
            self.ended.send_replace(None);
        }
    }

    /// Asks the process to end, and ends it where it does not.
    async fn end(&self, mut process: process::Child) {
        if let Some(pid) = process.id().and_then(pid) {
            // It may have ended this very moment.
            let _ = kill_process(pid, Signal::TERM);
        }
        tokio::select! {
            _ = process.wait() => return,
            () = self.kill.cancelled() => {}
            () = tokio::time::sleep(self.grace) => {
                self.console.of_child(&self.role.name, "does not end by itself; killing it");
            }
        }
        // As above.
        let _ = process.kill().await;
    }
}

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

/// Starts the process in a group of its own, so that Ctrl-C reaches it through us alone and in order. Its
/// standard input is a pipe that closes when we are gone.
fn spawn(role: &Role, address: SocketAddr, console: &Console) -> Result<process::Child, Failure> {
    let cannot = |source| Failure::setup(format!("cannot start the {}", role.name), source);
    let program = std::env::current_exe().map_err(cannot)?;
    let mut command = Command::new(program);
    command
        .args(&role.arguments)
        .args(["--listen", &address.to_string()])
        .envs(role.variables.iter().map(|(name, value)| (name, value)))
        .env(ADDRESS_FILE, &role.address_file)
        .stdin(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if !console.marks_lines() {
        return command.spawn().map_err(cannot);
    }
    if std::env::var_os("TASKER__LOGGING__FORMAT").is_none() {
        command.env("TASKER__LOGGING__FORMAT", "text");
    }
    let mut process = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    if let Some(out) = process.stdout.take() {
        tokio::spawn(pass_on(out, role.name.clone(), console.clone()));
    }
    if let Some(out) = process.stderr.take() {
        tokio::spawn(pass_on(out, role.name.clone(), console.clone()));
    }
    Ok(process)
}

/// Marks every line of a child with its name.
async fn pass_on(from: impl AsyncRead + Unpin, name: String, console: Console) {
    let mut lines = BufReader::new(from).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        console.of_child(&name, &String::from_utf8_lossy(&line));
    }
}

fn reqwest_client() -> Result<reqwest::Client, Failure> {
    // Fails where a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .timeout(Duration::from_secs(5));
    builder
        .build()
        .map_err(|source| Failure::setup("cannot set up HTTP", source))
}

async fn is_ready(client: &reqwest::Client, address: SocketAddr) -> bool {
    let reply = client
        .get(format!("http://{address}/health/ready"))
        .send()
        .await;
    reply.is_ok_and(|reply| reply.status().is_success())
}
