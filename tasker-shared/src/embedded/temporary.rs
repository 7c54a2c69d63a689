//! A cluster that lives as long as the value that stands for it, for tests and benchmarks: nothing of it is left.

use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use super::account::Account;
use super::place::private_directory;
use super::{Binaries, Cluster, FindError, NoAccount, Options, StartError};

/// A running cluster, and directories for whatever belongs to it. All go when this is dropped, or when the process
/// dies.
#[derive(Debug)]
pub struct Temporary {
    /// None only while it is restarted.
    cluster: Option<Cluster>,
    directory: PathBuf,
}

/// A temporary cluster did not come up.
#[derive(Debug, thiserror::Error)]
pub enum TemporaryError {
    /// There is no server on this machine.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Root has nobody to run it as.
    #[error(transparent)]
    Account(#[from] NoAccount),
    /// Its directory could not be made.
    #[error("cannot make a temporary directory")]
    Directory(#[source] io::Error),
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It did not restart, and is gone.
    #[error("the temporary cluster is gone")]
    Gone,
}

impl Temporary {
    /// Starts an empty cluster, without `fsync`: in some 0.2 s where one was kept as a pattern, in 0.6 s where not.
    ///
    /// # Errors
    /// There is no PostgreSQL server, or it does not start.
    pub async fn start() -> Result<Self, TemporaryError> {
        Self::start_with(&[], false).await
    }

    /// The same with settings, and durable where it is the disk that matters.
    ///
    /// # Errors
    /// As [`Temporary::start`].
    pub async fn start_with(
        settings: &[(&str, &str)],
        durable: bool,
    ) -> Result<Self, TemporaryError> {
        Self::start_in(&std::env::temp_dir(), settings, durable).await
    }

    /// The same in a directory of this one, or of `/tmp` where the server's user cannot get there.
    ///
    /// # Errors
    /// As [`Temporary::start`].
    pub async fn start_in(
        parent: &Path,
        settings: &[(&str, &str)],
        durable: bool,
    ) -> Result<Self, TemporaryError> {
        let binaries = Binaries::find(None)?;
        let account = Account::find()?;
        let pattern = pattern_place(&binaries, account);
        let directory = make_directory(parent, account).map_err(TemporaryError::Directory)?;
        let mut options = Options::new(directory.join("postgres"), binaries);
        options.durable = durable;
        options.settings = settings
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        options.remove = Some(directory.clone());
        options.copy_of = pattern.clone().filter(|pattern| pattern.exists());
        // From here on the directory is removed with it, also when starting fails.
        let mut temporary = Self {
            cluster: None,
            directory,
        };
        temporary.cluster = Some(Cluster::start(options).await?);
        if let Some(pattern) = pattern.filter(|pattern| !pattern.exists()) {
            temporary = temporary.keep_as_pattern(&pattern).await?;
        }
        Ok(temporary)
    }

    /// A private directory of that name for files of the same life, made when missing. Put only files into it: what
    /// root keeps in directories of its own survives a kill of root's process.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.directory.join(name);
        private_directory(&path, self.place.account())?;
        Ok(path)
    }

    /// Starts the server again, at the same URL, after it has ended or, gracefully, while it runs.
    ///
    /// # Errors
    /// It does not start.
    pub async fn restart(&mut self) -> Result<(), TemporaryError> {
        let cluster = self.cluster.take().ok_or(TemporaryError::Gone)?;
        self.cluster = Some(cluster.restart().await?);
        Ok(())
    }

    /// Copies the stopped cluster to where the next one finds it. That this fails costs only time.
    async fn keep_as_pattern(mut self, pattern: &Path) -> Result<Self, TemporaryError> {
        let cluster = self.cluster.take().ok_or(TemporaryError::Gone)?;
        let Cluster {
            options,
            place,
            mut server,
            ..
        } = cluster;
        server.stop().await.map_err(TemporaryError::Directory)?;
        copy_atomically(&place.cluster(), pattern);
        drop(place);
        self.cluster = Some(Cluster::start(options).await?);
        Ok(self)
    }
}

impl Deref for Temporary {
    type Target = Cluster;

    #[allow(
        clippy::expect_used,
        reason = "a restart that failed was reported, and the value is good for nothing"
    )]
    fn deref(&self) -> &Cluster {
        self.cluster.as_ref().expect("the temporary cluster runs")
    }
}

impl DerefMut for Temporary {
    #[allow(
        clippy::expect_used,
        reason = "a restart that failed was reported, and the value is good for nothing"
    )]
    fn deref_mut(&mut self) -> &mut Cluster {
        self.cluster.as_mut().expect("the temporary cluster runs")
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.cluster.take();
        // What cannot be removed now is somebody else's doing.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// In the directory asked for, where the server's user can get there.
fn make_directory(asked: &Path, account: Account) -> io::Result<PathBuf> {
    let parent = if account.enters(asked) {
        asked
    } else {
        Path::new("/tmp")
    };
    let directory = parent.join(format!("tasker-temporary-{:016x}", rand::random::<u64>()));
    private_directory(&directory, account)?;
    Ok(directory)
}

/// Beside the test programs, one for each version and user; nowhere for a program that Cargo does not run as a test.
fn pattern_place(binaries: &Binaries, account: Account) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let dependencies = program
        .ancestors()
        .find(|directory| directory.ends_with("deps"))?;
    Some(dependencies.with_file_name("test-postgres").join(format!(
        "{}-{}",
        binaries.version(),
        account.uid()
    )))
}

/// Silent about its failures: another test was faster, or there is no room or no right.
fn copy_atomically(from: &Path, to: &Path) {
    let Some(parent) = to.parent() else { return };
    let part = parent.join(format!("part-{}", std::process::id()));
    if std::fs::create_dir_all(parent).is_err() {
        return;
    }
    let mut copy = std::process::Command::new("cp");
    let copied = copy.arg("-Rp").arg(from).arg(&part).output();
    let whole = copied.is_ok_and(|copied| copied.status.success());
    if !whole || std::fs::rename(&part, to).is_err() {
        let _ = std::fs::remove_dir_all(&part);
    }
}
