//! A child process in a process group of its own, ended with everything it started.
//!
//! What leaves the group by `setsid` is out of reach. Talking to the process is `command`'s.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;

/// How long a process may take to end after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// A running group; dropped, it is ended in the background.
#[derive(Debug)]
pub(super) struct Group {
    id: Pid,
    /// `None` once the leader has been waited for.
    leader: Option<Child>,
}

/// The pipes to the group's leader.
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

impl Group {
    /// Starts the command as leader of a new group, with pipes for all three streams.
    pub(super) fn spawn(mut command: Command) -> io::Result<(Self, Pipes)> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut leader = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = leader
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let pipes = (
            leader.stdin.take(),
            leader.stdout.take(),
            leader.stderr.take(),
        );
        match (id, pipes) {
            (Some(id), (Some(stdin), Some(stdout), Some(stderr))) => Ok((
                Self {
                    id,
                    leader: Some(leader),
                },
                Pipes {
                    stdin,
                    stdout,
                    stderr,
                },
            )),
            _ => Err(io::Error::other("the process has no id or no pipes")),
        }
    }

    /// Waits until the leader has ended.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self.leader.as_mut() {
            Some(leader) => leader.wait().await,
            None => Err(io::Error::other("the process has been swept away already")),
        }
    }

    /// After [`Group::wait`]: kills what the leader left in its group. An attempt's processes do not
    /// outlive it, or the next attempt would run beside them.
    pub(super) fn sweep(mut self) {
        send(self.id, Signal::KILL);
        self.leader = None;
    }

    /// Asks the group to end, and kills it where it does not.
    pub(super) async fn end(mut self) {
        if let Some(leader) = self.leader.take() {
            end(self.id, leader).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(leader) = self.leader.take() else {
            return;
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(end(self.id, leader))),
            Err(_) => send(self.id, Signal::KILL),
        }
    }
}

async fn end(id: Pid, mut leader: Child) {
    send(id, Signal::TERM);
    let _ = tokio::time::timeout(GRACE, leader.wait()).await;
    // Also where the leader has ended: its children may not have.
    send(id, Signal::KILL);
    let _ = leader.wait().await;
}

/// Sends to every process of the group; one that is gone already is what was wanted.
fn send(id: Pid, signal: Signal) {
    let _ = kill_process_group(id, signal);
}
