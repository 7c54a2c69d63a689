//! What a fact means: well, worth a look, or broken, and how to mend it. Of the database and of the cluster in rooms of
//! their own; here what else there is.

mod cluster;
mod database;
mod history;

use serde::Serialize;
use tasker_shared::access::{self, check_exposure};
use tasker_shared::config::{Config, Loaded};

use crate::failure::Failure;

pub(super) use cluster::cluster;
pub(super) use database::{
    away, bad_url, clock, migrations, no_database, pooled, reachable, role, settings, unreadable,
};
pub(super) use history::history;

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

pub(super) fn published_keys(url: &str, looked: Result<(), String>) -> Finding {
    match looked {
        Ok(()) => Finding::ok("token keys", format!("{url} has keys that are of use")),
        Err(why) => Finding::fail(
            "token keys",
            format!("{url}: {why}"),
            "until it has them every token is refused: see auth.jwks_url and auth.allowed_algorithms",
        ),
    }
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
