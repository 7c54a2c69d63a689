//! The server's process and the shell that watches it: the server must not outlive the process that started it,
//! however that one ends. Every process of the cluster holds the lock of its log from birth to death, so whoever
//! gets that lock knows that none is left.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::account::Account;

/// Standard input is a pipe that only the owner writes to: it closes when he dies, and the server is stopped.
/// `keep` on it means that he closed it himself; otherwise the directory in $2 goes too. The shell is the server's
/// parent, so the server's number cannot have become another process's. A shell detaches what it starts with `&`
/// from the keyboard's signals.
const WATCHER: &str = r#"
socket=$1 remove=$2
shift 2
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{
    keep=
    while read -r word; do keep=$word; done
    kill -INT "$server"
    [ "$keep" != keep ] || exit 3
    exit 0
} <&3 2>/dev/null &
guard=$!
exec 3<&-
wait "$server"
status=$?
kill "$guard" 2>/dev/null
wait "$guard"
owner_died=$?
rm -f "$socket"/.s.PGSQL.*
rmdir "$socket" 2>/dev/null
if [ "$owner_died" = 0 ] && [ -n "$remove" ]; then rm -rf -- "$remove"; fi
exit "$status"
"#;

const POLL: Duration = Duration::from_millis(10);
/// Fast shutdown writes a checkpoint, which takes its time after heavy use.
const FAST_SHUTDOWN: Duration = Duration::from_secs(60);
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(10);

/// A running server, stopped when dropped.
#[derive(Debug)]
pub(super) struct Watched {
    watcher: Child,
    /// None once the server was told to stop.
    pipe: Option<File>,
    cluster: PathBuf,
}

/// What to run, and what goes away with it.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) account: Account,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) cluster: &'a Path,
    pub(super) socket: &'a Path,
    /// Removed when the owner dies without a word.
    pub(super) remove: Option<&'a Path>,
    /// Locked; becomes the output of every process.
    pub(super) log: File,
}

impl Launch<'_> {
    pub(super) fn start(self) -> io::Result<Watched> {
        use std::os::unix::process::CommandExt;
        let mut command = self.account.command("/bin/sh");
        command
            .args(["-c", WATCHER, "tasker-embedded"])
            .arg(self.socket)
            .arg(self.remove.unwrap_or(Path::new("")))
            .arg(self.program)
            .arg("-D")
            .arg(self.cluster)
            .args(self.arguments)
            .stdin(Stdio::piped())
            .stdout(self.log.try_clone()?)
            .stderr(self.log)
            .process_group(0);
        let mut watcher = tokio::process::Command::from(command).spawn()?;
        let pipe = watcher
            .stdin
            .take()
            .map(|pipe| pipe.into_owned_fd())
            .transpose()?
            .map(File::from);
        Ok(Watched {
            watcher,
            pipe,
            cluster: self.cluster.to_owned(),
        })
    }
}

impl Watched {
    /// Whether and how the server has ended.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.watcher.try_wait()
    }

    /// Completes when the server has ended.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.watcher.wait().await
    }

    /// Ends the server: a fast shutdown first, and less gentle ones when it does not end.
    pub(super) async fn stop(&mut self) -> io::Result<()> {
        self.release();
        for (patience, next) in [
            (FAST_SHUTDOWN, Signal::QUIT),
            (IMMEDIATE_SHUTDOWN, Signal::KILL),
        ] {
            if let Ok(ended) = tokio::time::timeout(patience, self.watcher.wait()).await {
                return ended.map(drop);
            }
            signal_all(&self.cluster, next);
        }
        self.watcher.wait().await.map(drop)
    }

    /// Tells the watcher that this end is meant.
    fn release(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // A watcher that is gone needs no telling.
            let _ = pipe.write_all(b"keep\n");
        }
    }
}

impl Drop for Watched {
    /// Blocks until the server has ended, which takes some 50 ms.
    fn drop(&mut self) {
        self.release();
        let patience = Instant::now() + IMMEDIATE_SHUTDOWN;
        while matches!(self.watcher.try_wait(), Ok(None)) {
            if Instant::now() > patience {
                signal_all(&self.cluster, Signal::QUIT);
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Waits until no process of the cluster is left and takes the log's lock. A server whose owner was killed is about
/// to end; one whose watcher was killed as well is told to.
pub(super) async fn outlast(log: &File, cluster: &Path) -> io::Result<bool> {
    const STEPS: [(Duration, Option<Signal>); 4] = [
        (Duration::from_secs(3), Some(Signal::INT)),
        (FAST_SHUTDOWN, Some(Signal::QUIT)),
        (IMMEDIATE_SHUTDOWN, Some(Signal::KILL)),
        (IMMEDIATE_SHUTDOWN, None),
    ];
    for (patience, next) in STEPS {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            match log.try_lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
            }
        }
        if let Some(signal) = next {
            signal_all(cluster, signal);
        }
    }
    Ok(false)
}

/// The number in `postmaster.pid`, which after a crash may be another process's by now.
pub(super) fn recorded_pid(cluster: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

/// The living processes of the cluster: each has its directory as working directory.
pub(super) fn processes(cluster: &Path) -> Vec<Pid> {
    if cfg!(target_os = "linux") {
        let works_there = |entry: std::fs::DirEntry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            (std::fs::read_link(entry.path().join("cwd")).ok()? == cluster).then_some(pid)
        };
        return std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(works_there)
            .collect();
    }
    let is_ours = |pid: &Pid| {
        std::process::Command::new("ps")
            .args(["-o", "args=", "-p", &pid.as_raw_nonzero().to_string()])
            .output()
            .is_ok_and(|said| {
                String::from_utf8_lossy(&said.stdout).contains(&*cluster.to_string_lossy())
            })
    };
    recorded_pid(cluster).filter(is_ours).into_iter().collect()
}

fn signal_all(cluster: &Path, signal: Signal) {
    for pid in processes(cluster) {
        // One that has just ended needs no signal.
        let _ = kill_process(pid, signal);
    }
}
