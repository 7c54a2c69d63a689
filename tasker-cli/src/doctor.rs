//! `tasker doctor`: looks at everything that Tasker needs, from here. `findings` judges what was found and is pure;
//! `look` finds it; here they come together.

mod findings;
mod look;

use std::time::Duration;

use tasker_shared::access::Gate;
use tasker_shared::clock::Clock;
use tasker_shared::config::Loaded;
use tasker_shared::db::pool::{Pool, Target};
use tasker_shared::db::{doctor, migrate};

use crate::cli::Remote;
pub(crate) use findings::{Finding, Status};

/// What does not answer within this is not there.
const PATIENCE: Duration = Duration::from_secs(3);

/// Everything that was found, in the order it is told.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    /// The database, without which little can be said, was not there.
    pub(crate) unreachable: bool,
}

/// Looks at everything that `loaded` names, and at the server of `remote`.
pub(crate) async fn examine(loaded: &Loaded, remote: &Remote) -> Report {
    let mut report = Report::default();
    report.findings.push(findings::configuration(loaded));
    database(loaded, &mut report).await;
    report
        .findings
        .push(findings::authentication(&loaded.config));
    report.findings.extend(keys(loaded).await);
    report.findings.push(findings::telemetry(
        &loaded.config,
        look::telemetry(&loaded.config).await,
    ));
    report.findings.push(look::server(remote).await);
    report
}

async fn database(loaded: &Loaded, report: &mut Report) {
    let Some(target) = target(loaded, report) else {
        return;
    };
    let pool = target.pool(1);
    if let Some(gate) = gate_fault(loaded, &pool) {
        report.findings.push(gate);
    }
    match look::timed(&pool).await {
        Ok((server, skew)) => {
            report.findings.push(findings::reachable(&server));
            report
                .findings
                .extend(findings::settings(&server, &loaded.config));
            report.findings.push(findings::clock(skew));
        }
        Err(error) => {
            report.unreachable = true;
            report.findings.push(findings::away(&error));
            return;
        }
    }
    report.findings.extend(look::pooled(&loaded.config).await);
    match migrate::missing(&target).await {
        Ok(missing) => {
            let is_complete = missing.is_empty();
            report.findings.push(findings::migrations(&missing));
            if !is_complete {
                return;
            }
        }
        Err(error) => {
            return report
                .findings
                .push(findings::unreadable("migrations", &error));
        }
    }
    match doctor::get_role(&pool).await {
        Ok(role) => report
            .findings
            .extend(findings::role(&role, chrono::Utc::now())),
        Err(error) => report
            .findings
            .push(findings::unreadable("permissions", &error)),
    }
    match look::history(&target, &loaded.config).await {
        Ok(history) => report.findings.push(findings::history(&history)),
        Err(error) => report
            .findings
            .push(findings::unreadable("history", &error)),
    }
    let cluster = doctor::get_cluster(&pool).await;
    match (cluster, doctor::list_unserved(&pool).await) {
        (Ok(cluster), Ok(unserved)) => {
            report
                .findings
                .extend(findings::cluster(&cluster, &unserved, &loaded.config));
        }
        (Err(error), _) | (_, Err(error)) => {
            report
                .findings
                .push(findings::unreadable("cluster", &error));
        }
    }
}

fn target(loaded: &Loaded, report: &mut Report) -> Option<Target> {
    let config = &loaded.config.database;
    let Some(url) = config.direct_url.as_ref().or(config.url.as_ref()) else {
        report.unreachable = true;
        report.findings.push(findings::no_database());
        return None;
    };
    let patience = Duration::from_millis(config.connect_timeout_ms);
    let is_pooled = config.pooler && config.direct_url.is_none();
    match Target::parse(url.expose(), "tasker doctor", patience) {
        Ok(target) => Some(target.behind_pooler(is_pooled)),
        Err(error) => {
            report.unreachable = true;
            report.findings.push(findings::bad_url(&error));
            None
        }
    }
}

/// Whether published keys can be had, where tokens are verified with them.
async fn keys(loaded: &Loaded) -> Option<Finding> {
    let url = loaded.config.auth.jwks_url.as_ref()?;
    // The database is not asked.
    let nowhere = Target::parse("postgres://127.0.0.1", "tasker doctor", PATIENCE).ok()?;
    let gate = Gate::new(&loaded.config.auth, nowhere.pool(1), Clock::default()).ok()?;
    let looked = gate.look_at_keys().await?;
    Some(findings::published_keys(url.as_str(), looked))
}

/// What keeps servers and workers from setting up authentication.
fn gate_fault(loaded: &Loaded, pool: &Pool) -> Option<Finding> {
    let gate = Gate::new(&loaded.config.auth, pool.clone(), Clock::default());
    gate.err().map(|error| findings::no_gate(&error))
}
