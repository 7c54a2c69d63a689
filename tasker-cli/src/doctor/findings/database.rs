//! What the facts of a database mean.

use chrono::{DateTime, TimeDelta, Utc};
use tasker_shared::config::Config;
use tasker_shared::db;
use tasker_shared::db::doctor::{Role, Server};
use tasker_shared::db::migrate::Missing;
use tasker_shared::db::pool::BadUrl;

use super::Finding;
use crate::doctor::look::Skew;

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

pub(in crate::doctor) fn no_database() -> Finding {
    let mend = "set DATABASE_URL or database.url; `tasker dev` brings a database of its own";
    Finding::fail("database", "no database is named", mend)
}

pub(in crate::doctor) fn bad_url(error: &BadUrl) -> Finding {
    let mend = "write it as postgres://user:password@host:5432/database";
    Finding::fail("database", error.to_string(), mend)
}

pub(in crate::doctor) fn away(error: &db::Error) -> Finding {
    let mend =
        "is it running, is the address right, does pg_hba.conf let this role in, does sslmode fit?";
    Finding::fail("database", error.to_string(), mend)
}

/// Of `database.url`, where `database.direct_url` answers.
pub(in crate::doctor) fn pooled(answered: db::Result<()>) -> Finding {
    match answered {
        Ok(()) => Finding::ok("pooler", "database.url answers too"),
        Err(error) => {
            let mend = "servers and workers ask database.url; database.direct_url, which answers, is for migrations and \
                        listening only: mend the URL, or the pooler behind it";
            Finding::fail("pooler", format!("database.url: {error}"), mend)
        }
    }
}

pub(in crate::doctor) fn unreadable(check: &'static str, error: &dyn std::error::Error) -> Finding {
    let mend =
        "the role of servers and workers has to own the schema tasker: use that role here too";
    Finding::fail(check, error.to_string(), mend)
}

pub(in crate::doctor) fn reachable(server: &Server) -> Finding {
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

pub(in crate::doctor) fn settings(server: &Server, config: &Config) -> Vec<Finding> {
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

pub(in crate::doctor) fn clock(skew: Skew) -> Finding {
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

pub(in crate::doctor) fn migrations(missing: &[Missing]) -> Finding {
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

pub(in crate::doctor) fn role(role: &Role, now: DateTime<Utc>) -> Vec<Finding> {
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
