//! The database that everything happens in: a PostgreSQL made for the occasion, durable and at its defaults, or one that
//! was named, which has to be empty of anything that matters to anybody.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tasker_shared::db::measure::{self, calls, verdict};
use tasker_shared::db::pool::{Pool, Target};
use tasker_shared::db::{self, migrate};
use tasker_shared::embedded::{Temporary, TemporaryError};
use tasker_shared::machine;
use uuid::Uuid;

use super::disk::{self, Flush};
use super::report::Postgres;
use super::shape::{MEASURED, WAITING};
use crate::failure::Failure;

const PATIENCE: Duration = Duration::from_secs(10);
const CONNECTIONS: u32 = 4;
/// How often the database is asked what its clock shows.
const CLOCK_READINGS: usize = 8;
/// Where files of the system that must outlive a restart lie, and so never in memory.
const ON_DISK: &str = "/var/tmp";
/// The settings that decide how fast it is.
const SETTINGS: &[&str] = &[
    "autovacuum",
    "checkpoint_timeout",
    "commit_delay",
    "fsync",
    "full_page_writes",
    "huge_pages",
    "max_connections",
    "max_wal_size",
    "shared_buffers",
    "shared_preload_libraries",
    "synchronous_commit",
    "synchronous_standby_names",
    "track_commit_timestamp",
    "wal_buffers",
    "wal_compression",
    "wal_level",
    "wal_sync_method",
    "work_mem",
];

/// A database to run in.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) target: Target,
    pub(super) pool: Pool,
    pub(super) url: String,
    /// Whether statements are counted.
    pub(super) counts_statements: bool,
    /// Its first process, where it runs on this machine.
    pub(super) postmaster: Option<u32>,
    /// For logs and addresses of processes.
    directory: PathBuf,
    /// Where its data lies, where that is known.
    data: Option<PathBuf>,
    /// By how much the database's clock is ahead of ours.
    ahead: chrono::Duration,
    embedded: Option<Temporary>,
}

/// What asking the database came to.
pub(super) fn asked<T>(answer: db::Result<T>) -> Result<T, Failure> {
    answer
        .map_err(|source| Failure::setup("the database did not do what bench asked of it", source))
}

/// By how much the database's clock is ahead of ours: what the quickest of some answers says, since an answer that
/// was under way for long says little of when it was given, as the first does on a connection.
async fn clock_ahead(pool: &Pool) -> Result<chrono::Duration, Failure> {
    let mut quickest: Option<(chrono::Duration, chrono::Duration)> = None;
    for _ in 0..CLOCK_READINGS {
        let before = Utc::now();
        let theirs = asked(measure::clock(pool).await)?;
        let took = Utc::now() - before;
        if quickest.is_none_or(|(best, _)| took < best) {
            quickest = Some((took, theirs - (before + took / 2)));
        }
    }
    Ok(quickest.map_or_else(chrono::Duration::zero, |(_, ahead)| ahead))
}

impl Ground {
    /// One of its own, in a directory of `data` where that is given. `exact_ends` has PostgreSQL note when each
    /// transaction was committed, which it does not by itself.
    pub(super) async fn own(data: Option<&Path>, exact_ends: bool) -> Result<Ground, Failure> {
        let parent = match data {
            Some(directory) => std::fs::canonicalize(directory).map_err(|source| {
                let text = format!("{} cannot be used for the database", directory.display());
                Failure::setup(text, source)
            })?,
            None => on_disk(std::env::temp_dir()),
        };
        if disk::is_in_memory(&parent) {
            return Err(Failure::Usage(format!(
                "{} is kept in memory, where flushing costs nothing: name a directory on a disk with --data",
                parent.display()
            )));
        }
        let postgres = start(&parent, exact_ends).await?;
        let failed = |source| Failure::setup("cannot make a directory for logs", source);
        let directory = postgres.directory("bench").map_err(failed)?;
        if data.is_some() && !directory.starts_with(&parent) {
            return Err(Failure::Usage(format!(
                "the user that PostgreSQL runs as cannot get into {}: name another directory with --data",
                parent.display()
            )));
        }
        let url = postgres.url().to_owned();
        let (target, pool) = reach(&url)?;
        // Where the library is missing statements are just not counted.
        let _ = calls::create(&pool).await;
        let mut ground = Ground::at(url, target, pool, directory.clone()).await?;
        ground.postmaster = Some(postgres.pid());
        ground.data = Some(directory);
        ground.embedded = Some(postgres);
        Ok(ground)
    }

    /// The one that was named.
    pub(super) async fn given(url: &str) -> Result<Ground, Failure> {
        let (target, pool) = reach(url)?;
        let directory = std::env::temp_dir().join(format!("tasker-bench-{}", Uuid::new_v4()));
        let mut ground = Ground::at(url.to_owned(), target, pool, directory).await?;
        ground.check_unused().await?;
        std::fs::create_dir(&ground.directory)
            .map_err(|source| Failure::setup("cannot make a directory for logs", source))?;
        let found = asked(measure::whereabouts(&ground.pool).await)?;
        let backend = u32::try_from(found.backend).unwrap_or_default();
        ground.postmaster = machine::postmaster_of(backend);
        let data = found.data.map(PathBuf::from).filter(|data| data.is_dir());
        ground.data = data.filter(|_| ground.postmaster.is_some());
        Ok(ground)
    }

    async fn at(
        url: String,
        target: Target,
        pool: Pool,
        directory: PathBuf,
    ) -> Result<Ground, Failure> {
        let failed = |source| Failure::setup("the database cannot be migrated", source);
        migrate::run(&target).await.map_err(failed)?;
        let ahead = clock_ahead(&pool).await?;
        Ok(Ground {
            target,
            counts_statements: asked(calls::are_counted(&pool).await)?,
            pool,
            url,
            postmaster: None,
            directory,
            data: None,
            ahead,
            embedded: None,
        })
    }

    /// Refuses a database that serves anybody, or holds what is not bench's.
    async fn check_unused(&self) -> Result<(), Failure> {
        let others = asked(measure::others(&self.pool, &[MEASURED, WAITING]).await)?;
        if others.processes > 0 {
            return Err(Failure::Usage(format!(
                "{} servers and workers are at work in this database: stop them (one that was killed counts for \
                 some seconds more), or name another",
                others.processes
            )));
        }
        if others.used {
            return Err(Failure::Usage(
                "this database has templates of others: bench fills tables and loads the database as it can, so name \
                 one that is empty"
                    .to_owned(),
            ));
        }
        let left = asked(verdict::messages_left(&self.pool).await)?;
        let open = asked(measure::open(&self.pool).await)?;
        if left > 0 || open > 0 {
            return Err(Failure::Usage(format!(
                "{open} tasks of a run before are not done in this database: empty it, or name another"
            )));
        }
        Ok(())
    }

    /// What the processes under measurement get to know of it, above all configuration. No other database is to be
    /// touched; and they listen on this machine alone, where this program has no credentials to show.
    pub(super) fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("DATABASE_URL", &self.url),
            ("TASKER__DATABASE__DIRECT_URL", &self.url),
            ("TASKER__AUTH__ENABLED", "false"),
        ]
    }

    /// A file of its own for a process.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What its clock shows at this moment of ours.
    pub(super) fn clock_at(&self, ours: DateTime<Utc>) -> DateTime<Utc> {
        ours + self.ahead
    }

    /// How long a flush takes beside its data; nothing where that is not on this machine.
    pub(super) async fn flush(&self) -> Result<Option<Flush>, Failure> {
        let Some(data) = &self.data else {
            return Ok(None);
        };
        match disk::measure(data).await {
            Ok(flush) => Ok(Some(flush)),
            // Somebody else's directory.
            Err(_) if self.embedded.is_none() => Ok(None),
            Err(source) => Err(Failure::setup("cannot measure the disk", source)),
        }
    }

    /// What it says of itself.
    pub(super) async fn describe(&self) -> Result<Postgres, Failure> {
        let found = asked(measure::settings(&self.pool, &["server_version"]).await)?;
        Ok(Postgres {
            version: found.into_iter().map(|(_, value)| value).collect(),
            embedded: self.embedded.is_some(),
            settings: asked(measure::settings(&self.pool, SETTINGS).await)?
                .into_iter()
                .collect(),
        })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.embedded.is_none() {
            // What cannot be removed is a few files among the temporary ones.
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

fn reach(url: &str) -> Result<(Target, Pool), Failure> {
    let target = Target::parse(url, "tasker bench", PATIENCE)
        .map_err(|source| Failure::Usage(source.to_string()))?;
    let pool = target.pool(CONNECTIONS);
    Ok((target, pool))
}

fn on_disk(directory: PathBuf) -> PathBuf {
    match disk::is_in_memory(&directory) {
        true => PathBuf::from(ON_DISK),
        false => directory,
    }
}

/// With statements counted, where the library for that is installed.
async fn start(parent: &Path, exact_ends: bool) -> Result<Temporary, Failure> {
    let mut settings = vec![calls::PRELOAD];
    if exact_ends {
        settings.push(("track_commit_timestamp", "on"));
    }
    let mut started = Temporary::start_in(parent, &settings, true).await;
    if let Err(TemporaryError::Start(_)) = started {
        started = Temporary::start_in(parent, &settings[1..], true).await;
    }
    started.map_err(|source| Failure::setup("the embedded PostgreSQL does not start", source))
}
