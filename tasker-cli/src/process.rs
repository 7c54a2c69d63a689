//! What `tasker server` and `tasker worker` have in common: configuration, logging, who may reach them,
//! telling their address, and ending when told.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tasker_shared::config::{Argument, Config, Loaded};
use tasker_shared::db::pool::Target;
use tasker_shared::logging;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Names the file that a process writes its address to.
pub(crate) const ADDRESS_FILE: &str = "TASKER_ADDRESS_FILE";

/// The configuration in force, with what the command line says above everything.
pub(crate) fn configuration(arguments: &[Argument]) -> Result<Loaded, Failure> {
    Config::load_with(arguments).map_err(|error| Failure::Usage(error.to_string()))
}

/// Logs to standard error from now on, as configured.
pub(crate) fn log(config: &Config) -> Result<(), Failure> {
    logging::init(config.logging.format, config.logging.level.as_str())
        .map_err(|source| Failure::setup("cannot set up logging", source))
}

/// The database to work on, reached directly where a pooler stands before it.
pub(crate) fn migration_target(config: &Config) -> Result<Target, Failure> {
    let database = &config.database;
    let url = database.direct_url.as_ref().or(database.url.as_ref());
    let url = url.ok_or_else(|| {
        Failure::Usage(
            "no database is named: set DATABASE_URL, or use `tasker dev`, which brings its own"
                .to_owned(),
        )
    })?;
    let patience = Duration::from_millis(database.connect_timeout_ms);
    let is_pooled = database.pooler && database.direct_url.is_none();
    Target::parse(url.expose(), "tasker migrate", patience)
        .map(|target| target.behind_pooler(is_pooled))
        .map_err(|source| Failure::Usage(source.to_string()))
}

/// Writes where the process listens into the file that the environment names, if it names one.
pub(crate) fn tell_address(address: SocketAddr) -> Result<(), Failure> {
    match std::env::var_os(ADDRESS_FILE) {
        Some(file) => write_address(Path::new(&file), address),
        None => Ok(()),
    }
}

/// Writes the file whole: who reads it finds nothing or the address.
fn write_address(file: &Path, address: SocketAddr) -> Result<(), Failure> {
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    std::fs::File::create(&unfinished)
        .and_then(|mut out| writeln!(out, "{address}"))
        .and_then(|()| std::fs::rename(&unfinished, file))
        .map_err(|source| Failure::setup(format!("cannot write {}", file.display()), source))
}

/// What tells a process to end.
#[derive(Debug)]
pub(crate) struct Ending {
    token: CancellationToken,
}

impl Ending {
    /// SIGTERM and SIGINT end the process gracefully, a second one at once. With `with_parent` so does the
    /// end of standard input, which whoever started the process holds open.
    pub(crate) fn listen(with_parent: bool) -> Result<Ending, Failure> {
        let token = CancellationToken::new();
        let mut signals = Signals::listen()?;
        let told = token.clone();
        tokio::spawn(async move {
            signals.next().await;
            tracing::info!("ending; a second signal ends at once");
            told.cancel();
            let status = signals.next().await;
            std::process::exit(status);
        });
        if with_parent {
            let told = token.clone();
            tokio::spawn(async move {
                end_of_input().await;
                tracing::info!("the process that started this one has gone; ending");
                told.cancel();
            });
        }
        Ok(Ending { token })
    }

    /// Completes when the process is to end.
    pub(crate) async fn wait(&self) {
        self.token.cancelled().await;
    }

    /// What `starting` comes to, or nothing where the process is to end before that.
    pub(crate) async fn unless<T>(
        &self,
        starting: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Option<T>, Failure> {
        tokio::select! {
            started = starting => started.map(Some),
            () = self.wait() => Ok(None),
        }
    }
}

/// The two signals that ask a process to end.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Signals, Failure> {
        let failed = |source| Failure::setup("cannot listen for signals", source);
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits for either; the exit status of a process that it ends.
    pub(crate) async fn next(&mut self) -> i32 {
        const BY_SIGNAL: i32 = 128;
        let signal = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        BY_SIGNAL + signal.as_raw_value()
    }
}

async fn end_of_input() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(input.read(&mut ignored).await, Ok(1..)) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_address_file_holds_the_address() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("address");
        write_address(&file, "127.0.0.1:4711".parse().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "127.0.0.1:4711\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
