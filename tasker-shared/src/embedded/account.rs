//! Whom PostgreSQL runs as. It refuses to run as root, so root hands it, and it alone, to another user.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Tried in this order; the first belongs to a packaged PostgreSQL, the second is everywhere.
const SUBSTITUTES: [&str; 2] = ["postgres", "nobody"];

/// The user that owns the cluster's files and runs its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// The user of this process.
    Own,
    /// Another one, because this process is root's.
    Other { uid: u32, gid: u32 },
}

/// There is nobody to run PostgreSQL as.
#[derive(Debug, thiserror::Error)]
#[error(
    "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor a user `nobody` \
     to run it as: create one (`useradd --system postgres`), or start this program as an ordinary user"
)]
pub struct NoAccount;

impl Account {
    /// This process's own user, or a substitute for root.
    pub(super) fn find() -> Result<Self, NoAccount> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        SUBSTITUTES
            .iter()
            .find_map(|name| {
                Some(Self::Other {
                    uid: id("-u", name)?,
                    gid: id("-g", name)?,
                })
            })
            .ok_or(NoAccount)
    }

    /// The owner of files that exist already, where root may act for him; `self` otherwise.
    pub(super) fn or_owner(self, uid: u32, gid: u32) -> Self {
        match self {
            Self::Other { .. } if uid != 0 => Self::Other { uid, gid },
            _ => self,
        }
    }

    pub(super) fn uid(self) -> u32 {
        match self {
            Self::Own => rustix::process::geteuid().as_raw(),
            Self::Other { uid, .. } => uid,
        }
    }

    /// A command that runs as this user, away from a working directory that he may not enter and from
    /// PostgreSQL's environment variables, which would change what the command does.
    pub(super) fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env_remove("LC_ALL").env("LC_MESSAGES", "C");
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes a file or directory this user's, with the mode given.
    pub(super) fn give(self, path: &Path, mode: u32) -> io::Result<()> {
        if let Self::Other { uid, gid } = self {
            chown(path, Some(uid), Some(gid))?;
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    }

    /// Whether this user can enter a directory, judged by entering it: the modes of all its parents count.
    pub(super) fn enters(self, directory: &Path) -> bool {
        self.command("/bin/sh")
            .args(["-c", "cd -- \"$1\"", "sh"])
            .arg(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Asks `id`, which knows users of every source, not only those in `/etc/passwd`.
fn id(option: &str, name: &str) -> Option<u32> {
    let answer = Command::new("id")
        .args([option, name])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let number = std::str::from_utf8(&answer.stdout)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    (answer.status.success() && number != 0).then_some(number)
}
