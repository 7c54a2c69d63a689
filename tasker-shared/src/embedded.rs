//! A private PostgreSQL for `tasker dev`, the demo, tests and benchmarks: made from the programs found on this
//! machine, on a Unix socket only, as durable as any, stopped with the process that owns it.
//! What is in the database is not known here.

mod account;
mod binaries;
mod place;
mod temporary;
#[cfg(test)]
mod tests;
mod watched;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use sqlx::migrate::MigrateDatabase;
use sqlx::{Connection, PgConnection, Postgres};

pub use account::NoAccount;
pub use binaries::{Binaries, FindError, SUPPORTED, Unfit, Version};
pub use place::PlaceError;
pub use temporary::{Temporary, TemporaryError};

use account::Account;
use place::Place;
use watched::{Launch, Watched};

/// The role that owns everything, and the database made for it.
const NAME: &str = "tasker";
/// It names the socket; nothing listens on the port.
const PORT: u16 = 5432;
/// Recovery after a crash under heavy load can take this long.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(10);
const LOG_TAIL_LINES: usize = 20;

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

/// Makes the cluster if need be and starts its server, which does not accept connections yet.
async fn launch(options: &Options, place: &Place) -> Result<(PathBuf, Watched), StartError> {
    let cluster = place.cluster();
    let log = take_log(place).await?;
    if !watched::processes(&cluster).is_empty() {
        return Err(StartError::Running(cluster));
    }
    if !cluster.exists() {
        create(options, place, &log).await?;
    }
    check_version(options, &cluster)?;
    // Nobody is alive in there, whatever process may have that number now.
    match std::fs::remove_file(cluster.join("postmaster.pid")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(PlaceError::Io {
                path: cluster,
                source: error,
            }
            .into());
        }
        _ => {}
    }
    let socket = place.socket_directory()?;
    let launch = Launch {
        account: place.account(),
        program: options.binaries.program("postgres"),
        arguments: arguments(options, &socket),
        cluster: &cluster,
        socket: &socket,
        remove: options.remove.as_deref(),
        log,
    };
    let server = launch
        .start()
        .map_err(|source| run_error(options, "postgres", source))?;
    Ok((socket, server))
}

/// An empty log whose lock says that no process of the cluster is alive.
async fn take_log(place: &Place) -> Result<File, StartError> {
    let log = place.open_log()?;
    let failed = |source| PlaceError::Io {
        path: place.log(),
        source,
    };
    if !watched::outlast(&log, &place.cluster())
        .await
        .map_err(failed)?
    {
        return Err(StartError::Running(place.cluster()));
    }
    if log.metadata().map_err(failed)?.len() == 0 {
        return Ok(log);
    }
    place.turn_log()?;
    let log = place.open_log()?;
    log.lock().map_err(failed)?;
    Ok(log)
}

/// Makes the cluster beside its place, and moves it there when it is whole.
async fn create(options: &Options, place: &Place, log: &File) -> Result<(), StartError> {
    let unfinished = place.unfinished();
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(|source| PlaceError::Io {
            path: unfinished.clone(),
            source,
        })?;
    }
    let mut command = match &options.copy_of {
        // By this process's user: the other one may not get at the original. The owner is copied too.
        Some(original) => {
            let mut command = Command::new("cp");
            command.arg("-Rp").arg(original).arg(&unfinished);
            command
        }
        None => {
            let mut command = place.account().command(options.binaries.program("initdb"));
            command.arg("-D").arg(&unfinished);
            command.args([
                "--username",
                NAME,
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
            ]);
            command.args((!options.durable).then_some("--no-sync"));
            command
        }
    };
    let program = PathBuf::from(command.get_program());
    let failed = |source| StartError::Run { program, source };
    let outputs = log.try_clone().and_then(|out| Ok((out, log.try_clone()?)));
    let status = match outputs {
        Ok((out, error)) => {
            command.stdin(Stdio::null()).stdout(out).stderr(error);
            tokio::process::Command::from(command)
                .status()
                .await
                .map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    if !status.success() {
        return Err(StartError::Initialise {
            status,
            log: log_tail(place),
        });
    }
    Ok(place.finish()?)
}

fn check_version(options: &Options, cluster: &Path) -> Result<(), StartError> {
    let path = cluster.join("PG_VERSION");
    let found = std::fs::read_to_string(&path).map_err(|source| PlaceError::Io { path, source })?;
    let binaries = options.binaries.version().clone();
    if found.trim() == binaries.major().to_string() {
        return Ok(());
    }
    Err(StartError::Version {
        path: cluster.to_owned(),
        found: found.trim().to_owned(),
        binaries,
    })
}

fn arguments(options: &Options, socket: &Path) -> Vec<String> {
    let mut settings = vec![
        ("listen_addresses".to_owned(), String::new()),
        ("port".to_owned(), PORT.to_string()),
        (
            "unix_socket_directories".to_owned(),
            socket.display().to_string(),
        ),
        ("unix_socket_permissions".to_owned(), "0700".to_owned()),
    ];
    if !options.durable {
        settings
            .extend(["fsync", "full_page_writes"].map(|name| (name.to_owned(), "off".to_owned())));
    }
    settings.extend(options.settings.iter().cloned());
    settings
        .into_iter()
        .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
        .collect()
}

/// Waits for the first connection.
async fn accept(place: &Place, socket: &Path, server: &mut Watched) -> Result<(), StartError> {
    let url = url(socket, "postgres");
    let until = Instant::now() + PATIENCE;
    loop {
        match PgConnection::connect(&url).await {
            Ok(connection) => {
                // The server does not mind a connection that just closes.
                let _ = connection.close().await;
                return Ok(());
            }
            Err(source) => {
                if let Ok(Some(status)) = server.ended() {
                    return Err(StartError::Ended {
                        status,
                        log: log_tail(place),
                    });
                }
                if Instant::now() > until || !may_pass(&source) {
                    return Err(StartError::Connect {
                        log: log_tail(place),
                        source,
                    });
                }
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A server that is not there yet or still recovers; anything else it says stays as it is.
fn may_pass(error: &sqlx::Error) -> bool {
    const CANNOT_CONNECT_NOW: &str = "57P03";
    error
        .as_database_error()
        .is_none_or(|refusal| refusal.code().as_deref() == Some(CANNOT_CONNECT_NOW))
}

/// Nothing is left to the environment: a `PGPORT` or `PGSSLMODE` there must not reach this server.
fn url(socket: &Path, database: &str) -> String {
    let encoded = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    let (database, host) = (encoded(database), encoded(&socket.to_string_lossy()));
    format!("postgres://{NAME}@localhost:{PORT}/{database}?host={host}&sslmode=disable")
}

fn run_error(options: &Options, program: &str, source: io::Error) -> StartError {
    StartError::Run {
        program: options.binaries.program(program),
        source,
    }
}

fn log_tail(place: &Place) -> String {
    let text = std::fs::read(place.log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
