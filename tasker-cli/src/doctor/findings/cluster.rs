//! What servers, workers and what waits for them mean.

use tasker_shared::config::Config;
use tasker_shared::db::doctor::{COUNTED, Cluster, Unserved};

use super::Finding;

pub(in crate::doctor) fn cluster(
    cluster: &Cluster,
    unserved: &[Unserved],
    config: &Config,
) -> Vec<Finding> {
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
