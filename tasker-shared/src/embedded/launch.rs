//! Making a cluster and getting its server to accept connections.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use super::place::{Place, PlaceError};
use super::watched::{self, Launch, Watched};
use super::{NAME, Options, PORT, StartError};

/// Recovery after a crash under heavy load can take this long.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(10);
const LOG_TAIL_LINES: usize = 20;

/// Makes the cluster if need be and starts its server, which does not accept connections yet.
pub(super) async fn launch(
    options: &Options,
    place: &Place,
) -> Result<(PathBuf, Watched), StartError> {
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
pub(super) async fn take_log(place: &Place) -> Result<File, StartError> {
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
pub(super) async fn accept(
    place: &Place,
    socket: &Path,
    server: &mut Watched,
) -> Result<(), StartError> {
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
pub(super) fn url(socket: &Path, database: &str) -> String {
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

pub(super) fn run_error(options: &Options, program: &str, source: io::Error) -> StartError {
    StartError::Run {
        program: options.binaries.program(program),
        source,
    }
}

pub(super) fn log_tail(place: &Place) -> String {
    let text = std::fs::read(place.log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
