//! Where a cluster lives: its directory (`cluster/`, `postgres.log`, `lock`) and the directory of its socket.
//! The lock is held by the process that owns the cluster, and by nothing else.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::account::Account;

/// Where root keeps a cluster that its user could not reach where it was asked for.
const REACHABLE: [&str; 2] = ["/var/lib/tasker-embedded", "/var/tmp/tasker-embedded"];

/// The names that a cluster's directory may hold.
const CLUSTER: &str = "cluster";
const UNFINISHED: &str = "cluster.new";
const LOG: &str = "postgres.log";
const OLD_LOG: &str = "postgres.log.1";
const LOCK: &str = "lock";

/// The directory of a cluster could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The file system refused.
    #[error("cannot use {} for the embedded PostgreSQL", path.display())]
    Io {
        /// What was to be used.
        path: PathBuf,
        /// Why it could not.
        source: io::Error,
    },
    /// Somebody else's files are in it.
    #[error("{} is neither empty nor a cluster of Tasker's: name another directory for the embedded PostgreSQL", .0.display())]
    Foreign(PathBuf),
    /// The user that PostgreSQL has to run as cannot get there.
    #[error("the user that PostgreSQL runs as instead of root (uid {uid}) cannot enter {}: name a directory that it can", path.display())]
    Unreachable {
        /// What was asked for.
        path: PathBuf,
        /// Whom it is closed to.
        uid: u32,
    },
    /// Another process runs a cluster there.
    #[error("the embedded PostgreSQL in {} is in use by process {owner}: stop it, or name another directory", path.display())]
    InUse {
        /// The cluster's directory.
        path: PathBuf,
        /// The process that holds it, as it wrote itself down.
        owner: String,
    },
}

/// A cluster's directory, locked.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    account: Account,
    _lock: File,
}

impl Place {
    /// Makes the directory where it is missing, sees to it that its user can reach it, and locks it.
    pub(super) fn open(asked: &Path, account: Account) -> Result<Self, PlaceError> {
        let asked = std::path::absolute(asked).map_err(|error| io_at(asked, error))?;
        let (root, account) = settle(&asked, account)?;
        let lock = lock(&root, account)?;
        Ok(Self {
            root,
            account,
            _lock: lock,
        })
    }

    pub(super) fn account(&self) -> Account {
        self.account
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.root.join(CLUSTER)
    }

    pub(super) fn unfinished(&self) -> PathBuf {
        self.root.join(UNFINISHED)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join(LOG)
    }

    pub(super) fn open_log(&self) -> Result<File, PlaceError> {
        let path = self.log();
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| self.account.give(&path, 0o600).map(|()| file))
            .map_err(|error| io_at(&path, error))
    }

    /// Keeps the log of the run before beside the new one. Only for who holds the log's lock.
    pub(super) fn turn_log(&self) -> Result<(), PlaceError> {
        std::fs::rename(self.log(), self.root.join(OLD_LOG))
            .map_err(|error| io_at(&self.log(), error))
    }

    /// The cluster is whole only under its final name, so that a killed `initdb` leaves none.
    pub(super) fn finish(&self) -> Result<(), PlaceError> {
        std::fs::rename(self.unfinished(), self.cluster())
            .and_then(|()| File::open(&self.root)?.sync_all())
            .map_err(|error| io_at(&self.cluster(), error))
    }

    /// Removes the directory and, where it is one, the link to it.
    pub(super) fn erase(self, asked: &Path) -> Result<(), PlaceError> {
        std::fs::remove_dir_all(&self.root).map_err(|error| io_at(&self.root, error))?;
        match std::fs::remove_file(asked) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(asked, error)),
            _ => Ok(()),
        }
    }

    /// The socket's directory, private and always the same for one cluster, so that its URL survives a restart.
    /// It is empty: the lock file that a killed server left there would otherwise count as long as any process has
    /// the number in it.
    pub(super) fn socket_directory(&self) -> Result<PathBuf, PlaceError> {
        let name = short_hash(&self.root);
        let mut refused = None;
        for parent in socket_parents(self.account) {
            for suffix in ["", "-1", "-2", "-3"] {
                let path = parent.join(format!("tasker-{name}{suffix}"));
                match private_directory(&path, self.account).and_then(|()| clear(&path)) {
                    Ok(()) => return Ok(path),
                    Err(error) => refused = Some(io_at(&path, error)),
                }
            }
        }
        Err(refused.unwrap_or_else(|| io_at(Path::new("/tmp"), io::ErrorKind::NotFound.into())))
    }
}

fn io_at(path: &Path, source: io::Error) -> PlaceError {
    PlaceError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The real directory behind the one asked for, and its owner.
fn settle(asked: &Path, account: Account) -> Result<(PathBuf, Account), PlaceError> {
    let real = match std::fs::read_link(asked) {
        // A link whose end was removed: made anew where it points.
        Ok(target) if !asked.exists() => asked.parent().unwrap_or(asked).join(target),
        _ => asked.to_owned(),
    };
    std::fs::create_dir_all(&real).map_err(|error| io_at(&real, error))?;
    let root = real.canonicalize().map_err(|error| io_at(&real, error))?;
    let empty = is_empty(&root).map_err(|error| io_at(&root, error))?;
    let account = match std::fs::metadata(root.join(CLUSTER)) {
        Ok(owner) => account.or_owner(owner.uid(), owner.gid()),
        Err(_) if empty || root.join(LOCK).exists() => account,
        Err(_) => return Err(PlaceError::Foreign(root)),
    };
    account
        .give(&root, 0o700)
        .map_err(|error| io_at(&root, error))?;
    if account == Account::Own || account.enters(&root) {
        return Ok((root, account));
    }
    if !empty {
        return Err(PlaceError::Unreachable {
            path: root,
            uid: account.uid(),
        });
    }
    relocate(asked, &root, account).map(|root| (root, account))
}

/// Puts an empty directory where its user can reach it, and a link to it where it was asked for.
fn relocate(asked: &Path, root: &Path, account: Account) -> Result<PathBuf, PlaceError> {
    // Not named by the path alone: a link that was moved must not meet its successor's data.
    let name = format!("{}-{:08x}", short_hash(root), rand::random::<u32>());
    for parent in REACHABLE {
        let made = std::fs::create_dir_all(parent).is_ok();
        let place = Path::new(parent).join(&name);
        if !made || private_directory(&place, account).is_err() {
            continue;
        }
        if account.enters(&place) {
            std::fs::remove_dir(asked)
                .and_then(|()| symlink(&place, asked))
                .map_err(|error| io_at(asked, error))?;
            tracing::info!(asked = %asked.display(), kept_in = %place.display(), "moved the embedded PostgreSQL to where its user can reach it");
            return Ok(place);
        }
        let _ = std::fs::remove_dir(&place);
    }
    Err(PlaceError::Unreachable {
        path: root.to_owned(),
        uid: account.uid(),
    })
}

fn lock(root: &Path, account: Account) -> Result<File, PlaceError> {
    let path = root.join(LOCK);
    let failed = |error| io_at(&path, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(failed(error)),
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            file.read_to_string(&mut owner).map_err(failed)?;
            return Err(PlaceError::InUse {
                path: root.to_owned(),
                owner: owner.trim().to_owned(),
            });
        }
    }
    account.give(&path, 0o600).map_err(failed)?;
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(file)
}

/// Makes a directory that only `account` may enter. One that exists serves when it is his and no link:
/// anybody may have made one of that name in `/tmp`.
pub(super) fn private_directory(path: &Path, account: Account) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => account.give(path, 0o700),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = std::fs::symlink_metadata(path)?;
            if !found.is_dir() || found.uid() != account.uid() {
                return Err(error);
            }
            account.give(path, 0o700)
        }
        Err(error) => Err(error),
    }
}

/// A socket's whole path may have some 100 bytes, and PostgreSQL reads its directory as one of a list.
fn socket_parents(account: Account) -> impl Iterator<Item = PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
    let runtime = std::env::var("XDG_RUNTIME_DIR").ok().filter(|directory| {
        account == Account::Own
            && directory.starts_with('/')
            && directory.len() <= 40
            && directory.chars().all(plain)
    });
    runtime
        .into_iter()
        .chain(["/tmp".to_owned()])
        .map(PathBuf::from)
}

fn short_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn clear(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(())
}

fn is_empty(directory: &Path) -> io::Result<bool> {
    Ok(std::fs::read_dir(directory)?.next().is_none())
}
