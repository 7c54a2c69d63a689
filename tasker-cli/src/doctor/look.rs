//! Looking: the database, the telemetry endpoint, a server.

use std::time::Duration;

use chrono::{NaiveDate, TimeDelta, Utc};
use tasker_shared::config::Config;
use tasker_shared::db;
use tasker_shared::db::archive;
use tasker_shared::db::doctor::{self, Server};
use tasker_shared::db::partitions::{self, Hold, Holder, Week};
use tasker_shared::db::pool::{Pool, Target};
use tokio::net::TcpStream;

use super::PATIENCE;
use super::findings::{self, Finding};
use crate::cli::Remote;
use crate::failure::Failure;

/// Old weeks that are looked into.
const MOST_WEEKS: usize = 8;

/// How the database's clock differs from this machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skew {
    /// Positive where the database is ahead.
    pub(super) ahead: TimeDelta,
    /// By so much the measurement may be wrong: half of what asking took.
    pub(super) uncertainty: TimeDelta,
}

/// The database's server, and how its clock stands.
pub(super) async fn timed(pool: &Pool) -> db::Result<(Server, Skew)> {
    // The first call pays for the connection; only the second is timed.
    db::upkeep::ping(pool).await?;
    let before = Utc::now();
    let server = doctor::get_server(pool).await?;
    let half = (Utc::now() - before) / 2;
    let skew = Skew {
        ahead: server.now - (before + half),
        uncertainty: half,
    };
    Ok((server, skew))
}

/// Whether `database.url` answers too, where everything else was asked of `database.direct_url`.
pub(super) async fn pooled(config: &Config) -> Option<Finding> {
    let database = &config.database;
    database.direct_url.as_ref()?;
    let url = database.url.as_ref()?;
    let patience = Duration::from_millis(database.connect_timeout_ms);
    let target = match Target::parse(url.expose(), "tasker doctor", patience) {
        Ok(target) => target.behind_pooler(database.pooler),
        Err(error) => return Some(findings::bad_url(&error)),
    };
    Some(findings::pooled(db::upkeep::ping(&target.pool(1)).await))
}

/// How far back history goes, and what keeps it.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The week whose partitions are the oldest.
    pub(super) oldest: Option<NaiveDate>,
    pub(super) keep_days: Option<u32>,
    /// Weeks that are old enough to go, and do not for this.
    pub(super) held: Vec<(NaiveDate, Hold)>,
    /// Weeks that are old enough to go and were not looked into, the newest of them.
    pub(super) unseen: usize,
    /// What is wrong with the archive directory, seen from this machine.
    pub(super) archive: Option<String>,
    /// Weeks that are being taken away.
    pub(super) leaving: usize,
    pub(super) holders: Vec<Holder>,
}

/// Looks at history. Where weeks are old enough to go it reads their tasks.
pub(super) async fn history(target: &Target, config: &Config) -> db::Result<History> {
    let mut connection = target.connect().await?;
    let weeks = partitions::list(&mut connection).await?;
    let mut history = History {
        oldest: weeks.first().map(|week| week.begins),
        keep_days: config.retention.keep_days,
        leaving: weeks.iter().filter(|week| week.is_leaving()).count(),
        holders: partitions::holders(&mut connection).await?,
        ..History::default()
    };
    let Some(keep_days) = config.retention.keep_days else {
        return Ok(history);
    };
    let directory = config.retention.archive_directory.as_deref();
    history.archive = directory
        .and_then(|directory| archive::check(directory).err())
        .map(|error| error.to_string());
    let cutoff = partitions::cutoff(partitions::now(&mut connection).await?, keep_days);
    let due = |week: &&Week| week.is_due(cutoff) && !week.is_leaving();
    history.unseen = weeks.iter().filter(due).count().saturating_sub(MOST_WEEKS);
    for week in weeks.iter().filter(due).take(MOST_WEEKS) {
        let holds = partitions::holds(&mut connection, week, cutoff).await?;
        history
            .held
            .extend(holds.into_iter().map(|hold| (week.begins, hold)));
    }
    Ok(history)
}

/// Whether something listens where telemetry goes; `None` where nothing is exported.
pub(super) async fn telemetry(config: &Config) -> Option<Result<(), String>> {
    let telemetry = &config.telemetry;
    if !telemetry.enabled || !telemetry.opentelemetry.enabled {
        return None;
    }
    let endpoint = telemetry.opentelemetry.endpoint.as_str();
    let url = reqwest::Url::parse(endpoint).ok();
    let place = url.and_then(|url| {
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some((host, url.port_or_known_default()?))
    });
    let Some(place) = place else {
        return Some(Err("it names no host".to_owned()));
    };
    Some(
        match tokio::time::timeout(PATIENCE, TcpStream::connect(place)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        },
    )
}

/// Whether the server answers, is ready, and takes the credentials.
pub(super) async fn server(remote: &Remote) -> Finding {
    let client = match remote.client() {
        Ok(client) => client,
        Err(failure) => return findings::server(&remote.url, Err(failure)),
    };
    let asked = async {
        client.get("/health/ready", &[]).await?;
        // Any route that needs credentials would do; this one changes and costs least.
        let one = [("per_page", "1".to_owned())];
        client.get("/v1/tasks", &one).await.map(drop)
    };
    let answered = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(Failure::Verdict(format!(
            "no answer within {} s",
            PATIENCE.as_secs()
        ))),
    };
    findings::server(&remote.url, answered)
}
