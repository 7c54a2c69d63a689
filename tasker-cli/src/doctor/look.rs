//! Looking: the database, the telemetry endpoint, a server.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tasker_shared::config::Config;
use tasker_shared::db;
use tasker_shared::db::doctor::{self, Server};
use tasker_shared::db::pool::Pool;
use tokio::net::TcpStream;

use super::findings::{self, Finding};
use crate::cli::Remote;
use crate::failure::Failure;

/// What does not answer within this is not there.
const PATIENCE: Duration = Duration::from_secs(3);

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
