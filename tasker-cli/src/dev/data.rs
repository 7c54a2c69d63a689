//! The data directory of `tasker dev`: the cluster in `postgres/`, what a run leaves in `run/`, and a mark
//! that is there while a run has not ended well.

use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failure::Failure;

const CLUSTER: &str = "postgres";
const RUNS: &str = "run";
const MARK: &str = "running";
/// What the embedded PostgreSQL keeps in its directory; nothing else there is ever removed.
const OF_CLUSTER: [&str; 4] = ["cluster", "cluster.new", "postgres.log", "postgres.log.1"];
/// How long the server of a killed run may take to end.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// The directory.
#[derive(Debug)]
pub(super) struct Data {
    root: PathBuf,
}

impl Data {
    /// Makes the directory where it is missing.
    pub(super) fn open(path: &Path) -> Result<Data, Failure> {
        let root = std::path::absolute(path).map_err(|source| unusable(path, source))?;
        std::fs::create_dir_all(&root).map_err(|source| unusable(&root, source))?;
        Ok(Data { root })
    }

    /// Where the cluster is.
    pub(super) fn cluster(&self) -> PathBuf {
        self.root.join(CLUSTER)
    }

    /// A directory for the files of this run.
    pub(super) fn runs(&self) -> Result<PathBuf, Failure> {
        let runs = self.root.join(RUNS);
        std::fs::create_dir_all(&runs).map_err(|source| unusable(&runs, source))?;
        Ok(runs)
    }

    /// Notes that a run has begun.
    pub(super) fn mark_running(&self) -> Result<(), Failure> {
        let mark = self.runs()?.join(MARK);
        std::fs::write(&mark, std::process::id().to_string())
            .map_err(|source| unusable(&mark, source))
    }

    /// Notes that the run has ended well.
    pub(super) fn mark_stopped(&self) {
        // Left behind, it only makes the next start more patient.
        let _ = std::fs::remove_file(self.root.join(RUNS).join(MARK));
    }

    /// Whether the run before this one was killed, so that its processes may still be ending.
    pub(super) fn was_killed(&self) -> bool {
        self.root.join(RUNS).join(MARK).exists()
    }

    /// Whether another process owns the cluster.
    pub(super) fn is_in_use(&self) -> bool {
        let lock = std::fs::File::open(self.cluster().join("lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Removes the cluster, if it is one of ours and nobody uses it.
    pub(super) fn reset(&self) -> Result<(), Failure> {
        let cluster = self.cluster();
        if !cluster.exists() {
            return Ok(());
        }
        let lock = cluster.join("lock");
        if !lock.exists() {
            return match is_empty(&cluster) {
                Ok(true) => Ok(()),
                _ => Err(Failure::Usage(format!(
                    "{} is not a database made by `tasker dev`, so --reset leaves it alone: remove it yourself, \
                     or name another directory with --data",
                    cluster.display()
                ))),
            };
        }
        // Both locks are held until everything is gone: by owners who live, and by servers who still end.
        let _owner = locked(&lock, Duration::ZERO)?;
        let log = cluster.join("postgres.log");
        let _server = match log.exists() {
            true => Some(locked(&log, PATIENCE)?),
            false => None,
        };
        for name in OF_CLUSTER {
            let path = cluster.join(name);
            let removed = match path.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            match removed {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(unusable(&path, source));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn locked(path: &Path, patience: Duration) -> Result<std::fs::File, Failure> {
    let file = std::fs::File::options()
        .append(true)
        .open(path)
        .map_err(|source| unusable(path, source))?;
    let until = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(unusable(path, source)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => {
                let directory = path.parent().unwrap_or(path);
                return Err(Failure::Usage(format!(
                    "the database in {} is in use, so --reset leaves it alone: stop the other `tasker dev` first",
                    directory.display()
                )));
            }
        }
    }
}

fn is_empty(directory: &Path) -> io::Result<bool> {
    Ok(std::fs::read_dir(directory)?.next().is_none())
}

fn unusable(path: &Path, source: io::Error) -> Failure {
    Failure::setup(
        format!(
            "cannot use {}: name another directory with --data",
            path.display()
        ),
        source,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn data() -> (tempfile::TempDir, Data) {
        let directory = tempfile::tempdir().unwrap();
        let data = Data::open(&directory.path().join("data")).unwrap();
        (directory, data)
    }

    fn cluster(data: &Data) -> PathBuf {
        let cluster = data.cluster();
        std::fs::create_dir_all(cluster.join("cluster/base")).unwrap();
        for file in ["lock", "postgres.log", "cluster/PG_VERSION"] {
            std::fs::write(cluster.join(file), "").unwrap();
        }
        cluster
    }

    #[test]
    fn a_reset_removes_the_cluster_and_nothing_else() {
        let (_directory, data) = data();
        data.reset().unwrap();
        let cluster = cluster(&data);
        std::fs::write(cluster.join("notes"), "mine").unwrap();
        data.reset().unwrap();
        assert!(!cluster.join("cluster").exists());
        assert!(cluster.join("lock").exists());
        assert!(cluster.join("notes").exists());
    }

    #[test]
    fn a_reset_leaves_a_cluster_in_use_alone() {
        let (_directory, data) = data();
        let cluster = cluster(&data);
        let owner = std::fs::File::open(cluster.join("lock")).unwrap();
        assert!(!data.is_in_use());
        owner.lock().unwrap();
        assert!(data.is_in_use());
        let failure = data.reset().unwrap_err();
        assert_eq!(failure.status(), 2);
        assert!(cluster.join("cluster/PG_VERSION").exists());
    }

    #[test]
    fn a_reset_leaves_what_is_not_ours_alone() {
        let (_directory, data) = data();
        std::fs::create_dir(data.cluster()).unwrap();
        data.reset().unwrap();
        std::fs::write(data.cluster().join("PG_VERSION"), "15").unwrap();
        assert!(data.reset().is_err());
        assert!(data.cluster().join("PG_VERSION").exists());
    }

    #[test]
    fn a_run_that_did_not_end_is_noticed() {
        let (_directory, data) = data();
        assert!(!data.was_killed());
        data.mark_running().unwrap();
        assert!(data.was_killed());
        data.mark_stopped();
        assert!(!data.was_killed());
    }
}
