//! What a fact means: well, worth a look, or broken, and how to mend it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tasker_shared::access::{self, check_exposure};
use tasker_shared::config::{Config, Loaded};
use tasker_shared::db;
use tasker_shared::db::doctor::{COUNTED, Cluster, Role, Server, Unserved};
use tasker_shared::db::migrate::Missing;
use tasker_shared::db::pool::BadUrl;

use super::look::Skew;
use crate::failure::Failure;

const OLDEST_VERSION: i32 = 140_000;
/// Of all connections in use.
const CROWDED_PERCENT: i64 = 80;
/// A transaction this old keeps vacuum from cleaning the queues.
const OLD_TRANSACTION_SECONDS: f64 = 15.0 * 60.0;
/// Leases are granted by the database's clock and times shown by it; tokens are judged by this machine's.
const SKEW_SHOWN: TimeDelta = TimeDelta::seconds(1);
const SKEW_HARMFUL: TimeDelta = TimeDelta::seconds(30);
/// Servers make partitions four weeks ahead.
const PARTITIONS_AHEAD: TimeDelta = TimeDelta::days(7);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) status: Status,
    pub(crate) message: String,
    /// How to mend it; empty where all is well.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) mend: &'static str,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Finding {
        Finding {
            check,
            status: Status::Ok,
            message: message.into(),
            mend: "",
        }
    }

    fn warn(check: &'static str, message: impl Into<String>, mend: &'static str) -> Finding {
        Finding {
            check,
            status: Status::Warn,
            message: message.into(),
            mend,
        }
    }

    fn fail(check: &'static str, message: impl Into<String>, mend: &'static str) -> Finding {
        Finding {
            check,
            status: Status::Fail,
            message: message.into(),
            mend,
        }
    }
}

pub(super) fn configuration(loaded: &Loaded) -> Finding {
    let files = match &loaded.directory {
        Some(directory) => format!("files in {}", directory.display()),
        None => "no files, the program's defaults".to_owned(),
    };
    let message = format!("environment {}, {files}", loaded.environment);
    Finding::ok("configuration", message)
}

pub(super) fn no_database() -> Finding {
    let mend = "set DATABASE_URL or database.url; `tasker dev` brings a database of its own";
    Finding::fail("database", "no database is named", mend)
}

pub(super) fn bad_url(error: &BadUrl) -> Finding {
    let mend = "write it as postgres://user:password@host:5432/database";
    Finding::fail("database", error.to_string(), mend)
}

pub(super) fn away(error: &db::Error) -> Finding {
    let mend =
        "is it running, is the address right, does pg_hba.conf let this role in, does sslmode fit?";
    Finding::fail("database", error.to_string(), mend)
}

pub(super) fn unreadable(check: &'static str, error: &dyn std::error::Error) -> Finding {
    let mend =
        "the role of servers and workers has to own the schema tasker: use that role here too";
    Finding::fail(check, error.to_string(), mend)
}

pub(super) fn reachable(server: &Server) -> Finding {
    let message = format!("PostgreSQL {}", server.version);
    if server.version_number < OLDEST_VERSION {
        let mend = "Tasker runs on PostgreSQL 14 to 18: upgrade it";
        return Finding::fail("database", message, mend);
    }
    if server.is_replica {
        let message = format!("{message}, a standby that takes no writes");
        let mend = "give the URL of the primary, or add target_session_attrs to that of a pooler";
        return Finding::fail("database", message, mend);
    }
    if server.remote && !server.encrypted {
        let message = format!("{message}, over a network without encryption");
        let mend = "add sslmode=verify-full and sslrootcert to the URL";
        return Finding::warn("database", message, mend);
    }
    let how = if server.encrypted { ", encrypted" } else { "" };
    Finding::ok("database", format!("{message}{how}"))
}

pub(super) fn settings(server: &Server, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for (is_on, name, what) in [
        (
            server.fsync,
            "fsync",
            "a crash of the machine can lose everything",
        ),
        (
            server.full_page_writes,
            "full_page_writes",
            "a crash of the machine can break tables",
        ),
        (
            server.synchronous_commit,
            "synchronous_commit",
            "a crash can lose tasks that were accepted",
        ),
    ] {
        if !is_on {
            let mend = "switch it on in postgresql.conf; off is for tests only";
            found.push(Finding::warn(
                "settings",
                format!("{name} is off: {what}"),
                mend,
            ));
        }
    }
    if !server.autovacuum {
        let mend = "switch it on: queues are emptied by it";
        found.push(Finding::fail("settings", "autovacuum is off", mend));
    }
    let (used, most) = (
        i64::from(server.connections),
        i64::from(server.max_connections),
    );
    let wanted = i64::from(config.database.max_connections);
    if used * 100 >= most * CROWDED_PERCENT || used + wanted > most {
        let message = format!(
            "{used} of {most} connections are in use; a process may take {wanted} and a few more"
        );
        let mend =
            "raise max_connections, lower database.max_connections, or put a pooler before it";
        found.push(Finding::warn("settings", message, mend));
    }
    if server.oldest_transaction_seconds > OLD_TRANSACTION_SECONDS {
        let minutes = server.oldest_transaction_seconds / 60.0;
        let message = format!(
            "a transaction has been open for {minutes:.0} min: vacuum cannot clean behind it"
        );
        let mend = "find it in pg_stat_activity (xact_start) and end it; set idle_in_transaction_session_timeout";
        found.push(Finding::warn("settings", message, mend));
    }
    if found.is_empty() {
        found.push(Finding::ok(
            "settings",
            format!("{used} of {most} connections in use"),
        ));
    }
    found
}

pub(super) fn clock(skew: Skew) -> Finding {
    let message = format!(
        "the database's is {} ms {}, ± {} ms",
        skew.ahead.num_milliseconds().abs(),
        if skew.ahead < TimeDelta::zero() {
            "behind"
        } else {
            "ahead"
        },
        skew.uncertainty.num_milliseconds()
    );
    let sure = skew.ahead.abs() - skew.uncertainty;
    let mend = "run NTP on both machines: times shown and tokens judged depend on them";
    if sure >= SKEW_HARMFUL {
        return Finding::fail("clock", message, mend);
    }
    if sure >= SKEW_SHOWN {
        return Finding::warn("clock", message, mend);
    }
    Finding::ok("clock", message)
}

pub(super) fn migrations(missing: &[Missing]) -> Finding {
    if missing.is_empty() {
        return Finding::ok("migrations", "all are applied");
    }
    let names = |changed: bool| -> Vec<&str> {
        let those = missing.iter().filter(|m| m.changed == changed);
        those.map(|m| m.name.as_str()).collect()
    };
    let changed = names(true);
    if !changed.is_empty() {
        let message = format!(
            "applied in another form than this program has: {}",
            changed.join(", ")
        );
        let mend = "the database was migrated by a program that was changed: use the released one";
        return Finding::fail("migrations", message, mend);
    }
    let message = format!("pending: {}", names(false).join(", "));
    Finding::fail("migrations", message, "apply them with `tasker migrate`")
}

pub(super) fn role(role: &Role, now: DateTime<Utc>) -> Vec<Finding> {
    let mut found = Vec::new();
    let who = &role.role;
    if !role.closed.is_empty() || !role.can_create || !role.not_owned.is_empty() {
        let mut lacks = Vec::new();
        if !role.closed.is_empty() {
            lacks.push(format!(
                "may not both read and write {}",
                role.closed.join(", ")
            ));
        }
        if !role.can_create {
            lacks.push("may make no tables in the schema tasker".to_owned());
        }
        if !role.not_owned.is_empty() {
            lacks.push(format!("owns neither of {}", role.not_owned.join(", ")));
        }
        let message = format!("{who} {}", lacks.join(", "));
        let mend = "servers and workers need the role that owns the schema: use it, or GRANT it to this one";
        found.push(Finding::fail("permissions", message, mend));
    } else {
        found.push(Finding::ok(
            "permissions",
            format!("{who} may do what is needed"),
        ));
    }
    let mend = "servers make them each hour: is one running, and may its role make tables?";
    found.push(match role.partitions_until {
        None => Finding::fail(
            "partitions",
            "there is none, so no task can be stored",
            mend,
        ),
        Some(until) => {
            let message = format!("tasks can be stored until {}", until.format("%Y-%m-%d"));
            match until - now {
                ahead if ahead <= TimeDelta::zero() => Finding::fail("partitions", message, mend),
                ahead if ahead < PARTITIONS_AHEAD => Finding::warn("partitions", message, mend),
                _ => Finding::ok("partitions", message),
            }
        }
    });
    found
}

pub(super) fn cluster(cluster: &Cluster, unserved: &[Unserved], config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let servers = format!(
        "{} alive, {} of 16 shards without one",
        cluster.servers, cluster.orphaned_shards
    );
    found.push(match (cluster.servers, cluster.orphaned_shards) {
        (0, _) => Finding::warn(
            "servers",
            "none is alive: tasks do not move",
            "start one with `tasker server`",
        ),
        (_, 0) => Finding::ok("servers", servers),
        _ => Finding::warn(
            "servers",
            servers,
            "others take them within seconds; where not, look at the servers' logs",
        ),
    });
    let workers = format!(
        "{} alive, {} of {} slots busy",
        cluster.workers, cluster.busy, cluster.slots
    );
    found.push(match cluster.workers {
        0 => Finding::warn(
            "workers",
            "none is alive: steps are not run",
            "start one with `tasker worker`",
        ),
        _ if cluster.busy >= cluster.slots => Finding::warn(
            "workers",
            workers,
            "start more workers, or raise worker.concurrency",
        ),
        _ => Finding::ok("workers", workers),
    });
    let names: Vec<String> = unserved
        .iter()
        .map(|lane| format!("{}/{}", lane.namespace, lane.callable))
        .collect();
    found.push(match names.is_empty() {
        true => Finding::ok("handlers", "every step that waits has a worker for it"),
        false => Finding::warn(
            "handlers",
            format!(
                "steps wait for handlers that no live worker has: {}",
                names.join(", ")
            ),
            "start a worker with these handlers that serves these namespaces",
        ),
    });
    found.push(match cluster.open_circuits {
        0 => Finding::ok("circuits", "none is open"),
        open => Finding::warn(
            "circuits",
            format!("{open} open: steps for these targets wait until they answer"),
            "`tasker circuit list` says which and why",
        ),
    });
    found.push(match cluster.pending_dead_letters {
        0 => Finding::ok("dead letters", "none is pending"),
        pending => Finding::warn(
            "dead letters",
            format!(
                "{pending}{} pending",
                if pending >= COUNTED { " or more" } else { "" }
            ),
            "`tasker dlq list` shows them; `tasker dlq requeue` lets their tasks go on",
        ),
    });
    if config.auth.enabled {
        found.push(keys(cluster, config));
    }
    found
}

fn keys(cluster: &Cluster, config: &Config) -> Finding {
    let message = format!(
        "{} in force, {} expired",
        cluster.api_keys, cluster.expired_api_keys
    );
    let has_tokens = config.auth.jwt_public_key.is_some()
        || config.auth.jwt_public_key_file.is_some()
        || config.auth.jwks_url.is_some();
    match cluster.api_keys {
        0 if config.auth.api_keys && !has_tokens => Finding::warn(
            "API keys",
            "none is in force, so nobody is let in",
            "make one with `tasker key create`",
        ),
        _ => Finding::ok("API keys", message),
    }
}

pub(super) fn authentication(config: &Config) -> Finding {
    let auth = config.auth.enabled;
    let (server, worker) = (&config.server, &config.worker);
    let exposed = check_exposure(
        server.listen,
        auth,
        server.allow_anonymous,
        "server.allow_anonymous",
    )
    .and_then(|()| {
        let key = "worker.allow_anonymous";
        check_exposure(worker.listen, auth, worker.allow_anonymous, key)
    });
    if let Err(exposed) = exposed {
        let mend = "docs/operations/security.md says how to switch authentication on";
        return Finding::fail("authentication", exposed.to_string(), mend);
    }
    if auth {
        return Finding::ok("authentication", "on");
    }
    let is_open = |address: std::net::SocketAddr| !address.ip().to_canonical().is_loopback();
    if is_open(server.listen) || is_open(worker.listen) {
        let message =
            "off, and addresses can be reached from other machines: everybody may do everything";
        return Finding::warn("authentication", message, "set auth.enabled = true");
    }
    Finding::ok(
        "authentication",
        "off; only this machine can reach the addresses",
    )
}

pub(super) fn no_gate(error: &access::SetupError) -> Finding {
    let mend = "neither a server nor a worker would start: mend the key it names";
    Finding::fail("authentication", error.to_string(), mend)
}

pub(super) fn telemetry(config: &Config, reached: Option<Result<(), String>>) -> Finding {
    let endpoint = config.telemetry.opentelemetry.endpoint.as_str();
    match reached {
        None => Finding::ok("telemetry", "nothing is exported; /metrics serves"),
        Some(Ok(())) => Finding::ok("telemetry", format!("something listens at {endpoint}")),
        Some(Err(why)) => Finding::warn(
            "telemetry",
            format!("{endpoint} cannot be reached: {why}"),
            "start a collector there, name it in telemetry.opentelemetry.endpoint, or set telemetry.opentelemetry.enabled = false",
        ),
    }
}

pub(super) fn server(url: &str, answered: Result<(), Failure>) -> Finding {
    match answered {
        Ok(()) => Finding::ok("server", format!("{url} is ready")),
        Err(failure @ Failure::Refused { status, .. }) if matches!(status.as_u16(), 401 | 403) => {
            let mend =
                "give credentials with --api-key or --token, or TASKER_API_KEY or TASKER_TOKEN";
            Finding::warn(
                "server",
                format!("{url} is ready and refuses: {failure}"),
                mend,
            )
        }
        Err(failure @ Failure::Refused { .. }) => {
            let mend = "`tasker health --detailed` says why it is not ready";
            Finding::fail("server", format!("{url} answers: {failure}"), mend)
        }
        Err(failure) => Finding::warn(
            "server",
            failure.explained(),
            "start one, or name one with --url or TASKER_URL",
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
