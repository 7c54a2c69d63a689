//! What `/health/detailed` says, of a server or of a worker, told alike.

use serde_json::Value;
use tasker_shared::wire::{
    ChannelStatus, CircuitBreakerStatus, DetailedHealthResponse, HealthCheck, WorkerCheck,
    WorkerDetailedHealth,
};

use super::sign_and;
use crate::client::Answer;
use crate::failure::Failure;
use crate::output::look;
use crate::output::table::Rows;

/// The answer, whoever gave it.
#[derive(Debug)]
pub(super) struct Detailed {
    status: String,
    head: String,
    checks: Vec<Check>,
    breakers: Vec<CircuitBreakerStatus>,
    channels: Vec<ChannelStatus>,
}

#[derive(Debug)]
struct Check {
    name: &'static str,
    status: String,
    duration_ms: u64,
    message: Option<String>,
}

impl Detailed {
    /// The two kinds of process are told apart by what only a worker says.
    pub(super) fn read(answer: &Answer) -> Result<Detailed, Failure> {
        let body: Value = answer.read()?;
        match body.get("system_info") {
            Some(_) => answer.read().map(Detailed::of_worker),
            None => answer.read().map(Detailed::of_server),
        }
    }

    fn of_server(health: DetailedHealthResponse) -> Detailed {
        let (info, checks) = (health.info, health.checks);
        let check = |name, check: HealthCheck| Check {
            name,
            status: check.status,
            duration_ms: check.duration_ms,
            message: check.message,
        };
        Detailed {
            status: health.status,
            head: format!(
                "Tasker {}, environment {}, {}",
                info.version, info.environment, info.operational_state
            ),
            checks: vec![
                check("web_database", checks.web_database),
                check("orchestration_database", checks.orchestration_database),
                check("circuit_breaker", checks.circuit_breaker),
                check("orchestration_system", checks.orchestration_system),
                check("command_processor", checks.command_processor),
                check("pool_utilization", checks.pool_utilization),
                check("queue_depth", checks.queue_depth),
                check("channel_saturation", checks.channel_saturation),
            ],
            breakers: health.circuit_breakers,
            channels: health.channels,
        }
    }

    fn of_worker(health: WorkerDetailedHealth) -> Detailed {
        let (info, checks) = (health.system_info, health.checks);
        let check = |name, check: WorkerCheck| Check {
            name,
            status: check.status,
            duration_ms: check.duration_ms,
            message: check.message,
        };
        let namespaces = match info.supported_namespaces.as_slice() {
            [] => "every namespace".to_owned(),
            some => some.join(", "),
        };
        Detailed {
            status: health.status,
            head: format!(
                "Tasker {}, environment {}, worker {} of {namespaces}",
                info.version, info.environment, health.worker_id
            ),
            checks: vec![
                check("database", checks.database),
                check("command_processor", checks.command_processor),
                check("queue_processing", checks.queue_processing),
                check("event_system", checks.event_system),
                check("step_processing", checks.step_processing),
                check("circuit_breakers", checks.circuit_breakers),
            ],
            breakers: health.circuit_breakers,
            channels: health.channels,
        }
    }

    /// For people.
    pub(super) fn told(&self) -> String {
        let mut told = sign_and(&self.status, &self.head);
        told.push_str("\n\n");
        let mut rows = Rows::under(&["CHECK", "STATUS", ">TOOK", "MESSAGE"]);
        for check in &self.checks {
            rows.add(vec![
                check.name.to_owned(),
                signed(&check.status),
                format!("{} ms", check.duration_ms),
                check.message.clone().unwrap_or_default(),
            ]);
        }
        told.push_str(&rows.text());
        if !self.breakers.is_empty() {
            let mut rows = Rows::under(&["BREAKER", "STATE", ">FAILURES"]);
            for breaker in &self.breakers {
                rows.add(vec![
                    breaker.name.clone(),
                    breaker.state.clone(),
                    breaker.failures.to_string(),
                ]);
            }
            told.push('\n');
            told.push_str(&rows.text());
        }
        if !self.channels.is_empty() {
            let mut rows = Rows::under(&[
                "CHANNEL",
                "OF",
                ">CAPACITY",
                ">USED",
                ">HIGH WATER",
                ">FULL",
            ]);
            for channel in &self.channels {
                rows.add(vec![
                    channel.channel.clone(),
                    channel.component.clone(),
                    channel.capacity.to_string(),
                    format!("{:.0} %", channel.usage_percent),
                    channel.high_water.to_string(),
                    channel.full_events.to_string(),
                ]);
            }
            told.push('\n');
            told.push_str(&rows.text());
        }
        told
    }
}

fn signed(status: &str) -> String {
    format!("{} {status}", look::of_health(status).sign)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(body: &Value) -> Answer {
        Answer::of(body.to_string())
    }

    fn breakers_and_channels(body: &mut Value) {
        body["circuit_breakers"] = json!([{"name": "pgmq", "state": "open", "failures": 7}]);
        body["channels"] = json!([{
            "channel": "results", "component": "worker", "capacity": 64, "usage_percent": 50.0,
            "high_water": 60, "full_events": 3
        }]);
    }

    #[test]
    fn both_kinds_of_process_are_told_with_checks_breakers_and_channels() {
        let at = "2025-01-02T03:04:05.678Z";
        let check = json!({"status": "healthy", "duration_ms": 1, "last_checked": at});
        let bad =
            json!({"status": "unhealthy", "message": "away", "duration_ms": 1, "last_checked": at});
        let mut server = json!({
            "status": "degraded", "timestamp": at,
            "checks": {
                "web_database": bad, "orchestration_database": check, "circuit_breaker": check,
                "orchestration_system": check, "command_processor": check, "pool_utilization": check,
                "queue_depth": check, "channel_saturation": check,
            },
            "info": {
                "version": "1", "environment": "test", "operational_state": "Normal",
                "circuit_breaker_state": "Closed", "web_database_pool_size": 1,
                "orchestration_database_pool_size": 1,
            },
        });
        breakers_and_channels(&mut server);
        let mut worker = json!({
            "status": "degraded", "timestamp": at, "worker_id": "w-1",
            "checks": {
                "database": bad, "command_processor": check, "queue_processing": check,
                "event_system": check, "step_processing": check, "circuit_breakers": check,
            },
            "system_info": {
                "version": "1", "environment": "test", "worker_type": "rust", "uptime_seconds": 1,
                "database_pool_size": 1, "command_processor_active": true, "supported_namespaces": ["shop"],
            },
        });
        breakers_and_channels(&mut worker);
        for (body, head, check) in [
            (&server, "Normal", "web_database"),
            (&worker, "worker w-1 of shop", "database"),
        ] {
            let health = Detailed::read(&answer(body)).unwrap();
            let told = health.told();
            for word in [head, check, "away", "pgmq", "open", "results", "50 %", "60"] {
                assert!(told.contains(word), "{word}: {told}");
            }
        }
    }
}
