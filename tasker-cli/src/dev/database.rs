//! The database of `tasker dev`: one that was named, or a PostgreSQL of its own, started again when it dies.

use std::time::Duration;

use tasker_shared::embedded::{Binaries, Cluster, Options, PlaceError, StartError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::console::Console;
use super::data::Data;
use crate::failure::Failure;

/// As its lines are marked.
const NAME: &str = "postgres";
/// Between two attempts to start it again.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A database.
#[derive(Debug)]
pub(super) struct Database {
    url: String,
    description: String,
    embedded: Option<Embedded>,
}

#[derive(Debug)]
struct Embedded {
    stop: CancellationToken,
    keeper: Option<JoinHandle<()>>,
}

impl Database {
    /// Somebody else's.
    pub(super) fn given(url: &str) -> Database {
        Database {
            url: url.to_owned(),
            description: "the one given with --database-url".to_owned(),
            embedded: None,
        }
    }

    /// One of its own, emptied first where asked for.
    pub(super) async fn start(
        data: &Data,
        reset: bool,
        console: Console,
    ) -> Result<Database, Failure> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Failure::setup("the embedded PostgreSQL does not start", error)
        };
        let binaries = Binaries::find(None).map_err(|error| failed(error.into()))?;
        if reset {
            data.reset()?;
        }
        let options = Options::new(data.cluster(), binaries);
        let cluster = match Cluster::start(options.clone()).await {
            Ok(cluster) => cluster,
            Err(StartError::Place(PlaceError::InUse { path, owner })) => {
                return Err(Failure::Usage(format!(
                    "another `tasker dev` (process {owner}) keeps its database in {}: stop it, or name another \
                     directory with --data",
                    path.display()
                )));
            }
            Err(error) => return Err(failed(error.into())),
        };
        let url = cluster.url().to_owned();
        let description = format!("PostgreSQL {}, psql '{url}'", cluster.version());
        let stop = CancellationToken::new();
        let keeper = tokio::spawn(keep(cluster, options, stop.clone(), console));
        Ok(Database {
            url,
            description,
            embedded: Some(Embedded {
                stop,
                keeper: Some(keeper),
            }),
        })
    }

    /// What people may want to know of it.
    pub(super) fn description(&self) -> String {
        self.description.clone()
    }

    /// What tells a child process to use it. No other database of the configuration is to be touched.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![("DATABASE_URL".to_owned(), self.url.clone())];
        if self.embedded.is_some() {
            let direct = "TASKER__DATABASE__DIRECT_URL".to_owned();
            variables.push((direct, self.url.clone()));
        }
        variables
    }

    /// Stops it, if it is its own.
    pub(super) async fn stop(&mut self) {
        let Some(embedded) = &mut self.embedded else {
            return;
        };
        embedded.stop.cancel();
        if let Some(keeper) = embedded.keeper.take() {
            // Its only failure is a panic, which has been printed.
            let _ = keeper.await;
        }
    }
}

/// Keeps the cluster up until it is to stop.
async fn keep(cluster: Cluster, options: Options, stop: CancellationToken, console: Console) {
    let mut running = Some(cluster);
    let mut pause = PAUSE;
    while let Some(mut cluster) = running.take() {
        let ended = tokio::select! {
            ended = cluster.ended() => ended,
            () = stop.cancelled() => return end(cluster, &console).await,
        };
        let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        console.of_child(NAME, &format!("ended with {how}; starting it again"));
        let mut again = cluster.restart().await;
        loop {
            match again {
                Ok(cluster) => {
                    console.of_child(NAME, "is up again");
                    running = Some(cluster);
                    break;
                }
                Err(error) => console.of_child(NAME, &format!("does not start: {error}")),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = stop.cancelled() => return,
            }
            again = Cluster::start(options.clone()).await;
        }
    }
}

async fn end(cluster: Cluster, console: &Console) {
    if let Err(error) = cluster.stop().await {
        console.of_child(NAME, &format!("may not have stopped: {error}"));
    }
}
