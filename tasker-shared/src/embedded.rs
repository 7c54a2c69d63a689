//! A private PostgreSQL for `tasker dev`, the demo, tests and benchmarks: made from the programs found on this
//! machine, on a Unix socket only, as durable as any, stopped with the process that owns it.
//! What is in the database is not known here.

mod account;
mod binaries;
mod launch;
mod place;
mod temporary;
#[cfg(test)]
mod tests;
mod watched;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::{Signal, kill_process};
use sqlx::Postgres;
use sqlx::migrate::MigrateDatabase;

pub use account::NoAccount;
pub use binaries::{Binaries, FindError, SUPPORTED, Unfit, Version};
pub use place::PlaceError;
pub use temporary::{Temporary, TemporaryError};

use account::Account;
use launch::{accept, launch, log_tail, run_error, take_log, url};
use place::Place;
use watched::Watched;

/// The role that owns everything, and the database made for it.
const NAME: &str = "tasker";
/// It names the socket; nothing listens on the port.
const PORT: u16 = 5432;

/// What cluster to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cluster's directory, made when missing; its log is `postgres.log` in it.
    pub data: PathBuf,
    /// The programs to run it with.
    pub binaries: Binaries,
    /// Whether a crash of the machine must lose nothing (`fsync`). A crash of PostgreSQL alone never does.
    pub durable: bool,
    /// Further settings, passed on the server's command line.
    pub settings: Vec<(String, String)>,
    /// A cluster that was stopped, copied instead of making a new one.
    copy_of: Option<PathBuf>,
    /// Removed should this process die without stopping the server.
    remove: Option<PathBuf>,
}

impl Options {
    /// A durable cluster at PostgreSQL's default settings.
    #[must_use]
    pub fn new(data: impl Into<PathBuf>, binaries: Binaries) -> Self {
        let data = data.into();
        Self {
            data,
            binaries,
            durable: true,
            settings: Vec::new(),
            copy_of: None,
            remove: None,
        }
    }
}

/// The server did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directory could not be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Root has nobody to run it as.
    #[error(transparent)]
    Account(#[from] NoAccount),
    /// The directory holds a cluster of another major version.
    #[error("{} was made by PostgreSQL {found}, and this is {binaries}: name the programs of {found}, or another directory", path.display())]
    Version {
        /// The cluster's directory.
        path: PathBuf,
        /// The major version that made it.
        found: String,
        /// The version at hand.
        binaries: Version,
    },
    /// Processes of the cluster are alive that neither end nor belong to anybody.
    #[error("a PostgreSQL that this program does not own is running in {}: stop it first", .0.display())]
    Running(PathBuf),
    /// A program could not be run.
    #[error("cannot run {}", program.display())]
    Run {
        /// Which one.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb ended with {status}:\n{log}")]
    Initialise {
        /// How it ended.
        status: ExitStatus,
        /// The last it said.
        log: String,
    },
    /// The server ended instead of accepting connections.
    #[error("PostgreSQL ended with {status} while starting:\n{log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The last it said.
        log: String,
    },
    /// It accepts no connections.
    #[error("PostgreSQL accepts no connections; its log ends with:\n{log}")]
    Connect {
        /// The last it said.
        log: String,
        /// The last attempt's failure.
        source: sqlx::Error,
    },
}

/// A running server. Dropping it stops it, for which the thread is blocked; [`Cluster::stop`] does not block.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    place: Place,
    socket: PathBuf,
    server: Watched,
    url: String,
    pid: rustix::process::Pid,
}

impl Cluster {
    /// Makes the cluster where there is none, starts it and waits until it accepts connections. What a crash or a
    /// kill has left behind is cleaned up, a server of this cluster without an owner stopped first.
    ///
    /// # Errors
    /// Another process owns the cluster, or it cannot be made or started; the message then ends with the log's end.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let place = Place::open(&options.data, Account::find()?)?;
        let (socket, server) = launch(&options, &place).await?;
        Self::ready(options, place, socket, server).await
    }

    /// Starts the server again, at the same URL, after it has ended or, gracefully, while it runs.
    ///
    /// # Errors
    /// As [`Cluster::start`]. The cluster is stopped then.
    pub async fn restart(self) -> Result<Self, StartError> {
        let Self {
            options,
            place,
            mut server,
            ..
        } = self;
        server
            .stop()
            .await
            .map_err(|source| run_error(&options, "postgres", source))?;
        let (socket, server) = launch(&options, &place).await?;
        Self::ready(options, place, socket, server).await
    }

    async fn ready(
        options: Options,
        place: Place,
        socket: PathBuf,
        mut server: Watched,
    ) -> Result<Self, StartError> {
        accept(&place, &socket, &mut server).await?;
        let url = url(&socket, NAME);
        let failed = |source| StartError::Connect {
            log: log_tail(&place),
            source,
        };
        // Looked for at every start: the first may have been killed before it came to this.
        if !Postgres::database_exists(&url).await.map_err(failed)? {
            Postgres::create_database(&url).await.map_err(failed)?;
        }
        let pid = watched::recorded_pid(&place.cluster()).ok_or_else(|| PlaceError::Io {
            path: place.cluster().join("postmaster.pid"),
            source: io::ErrorKind::NotFound.into(),
        })?;
        tracing::info!(version = %options.binaries.version(), directory = %place.root().display(), "embedded PostgreSQL is ready");
        Ok(Self {
            options,
            place,
            socket,
            server,
            url,
            pid,
        })
    }

    /// The URL of the database `tasker`, the same at every start of this cluster.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL of another database.
    #[must_use]
    pub fn url_for(&self, database: &str) -> String {
        url(&self.socket, database)
    }

    /// Makes an empty database and answers its URL.
    ///
    /// # Errors
    /// It exists already, or the server is gone.
    pub async fn create_database(&self, name: &str) -> Result<String, sqlx::Error> {
        let url = self.url_for(name);
        Postgres::create_database(&url).await?;
        Ok(url)
    }

    /// The server's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The server's version.
    #[must_use]
    pub fn version(&self) -> &Version {
        self.options.binaries.version()
    }

    /// Where the server writes its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.place.log()
    }

    /// Completes when the server has ended, for whatever reason.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.server.wait().await
    }

    /// Ends the server as a crash would, without a checkpoint, and waits until it has. For tests.
    ///
    /// # Errors
    /// The operating system does not tell whether it has ended.
    pub async fn kill_now(&mut self) -> io::Result<()> {
        if self.server.ended()?.is_none() {
            // It may have ended this very moment.
            let _ = kill_process(self.pid, Signal::QUIT);
        }
        self.server.wait().await.map(drop)
    }

    /// Closes all connections, writes a checkpoint and ends.
    ///
    /// # Errors
    /// The operating system does not tell whether it has ended.
    pub async fn stop(mut self) -> io::Result<()> {
        self.server.stop().await
    }
}

/// Removes a stopped cluster, also where root's lies elsewhere; nothing happens where there is none.
///
/// # Errors
/// A process owns it, or the directory holds something else.
pub async fn erase(data: &Path) -> Result<(), StartError> {
    if !data.exists() {
        return Ok(());
    }
    let place = Place::open(data, Account::find()?)?;
    take_log(&place).await?;
    Ok(place.erase(data)?)
}
