//! A child process in a process group of its own, ended with everything it started.
//!
//! What leaves the group by `setsid` is out of reach. Talking to the process is `command`'s.

use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// A running group; killed when it is dropped, at the latest with the runtime.
#[derive(Debug)]
pub(super) struct Group {
    id: GroupId,
    leader: Child,
    /// Nothing is left that a signal could reach: the id may be somebody else's by now.
    is_over: bool,
}

/// What signals are sent to.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupId(Pid);

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
        let id = leader.id().and_then(|id| i32::try_from(id).ok());
        let pipes = (
            leader.stdin.take(),
            leader.stdout.take(),
            leader.stderr.take(),
        );
        match (id.and_then(Pid::from_raw), pipes) {
            (Some(id), (Some(stdin), Some(stdout), Some(stderr))) => {
                let group = Self {
                    id: GroupId(id),
                    leader,
                    is_over: false,
                };
                Ok((
                    group,
                    Pipes {
                        stdin,
                        stdout,
                        stderr,
                    },
                ))
            }
            _ => Err(io::Error::other("the process has no id or no pipes")),
        }
    }

    /// What signals are sent to.
    pub(super) fn id(&self) -> GroupId {
        self.id
    }

    /// Waits until the leader has ended.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.leader.wait().await
    }

    /// Kills what there is of the group, whether its leader has ended or not: an attempt's processes do not
    /// outlive it, or the next attempt would run beside them.
    pub(super) async fn kill(mut self) {
        self.id.send(Signal::KILL);
        self.is_over = true;
        let _ = self.leader.wait().await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_over {
            self.id.send(Signal::KILL);
        }
    }
}

impl GroupId {
    /// Asks every process of the group to end.
    pub(super) fn terminate(self) {
        self.send(Signal::TERM);
    }

    /// One that is gone already is what was wanted.
    fn send(self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }
}
