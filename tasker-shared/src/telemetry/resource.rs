//! What all telemetry of a process says of the process.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use uuid::Uuid;

use crate::metrics::Process;

/// The resource of metrics, spans and log records alike.
pub(super) fn resource(
    service: &str,
    process: Process,
    instance: Uuid,
    environment: &str,
) -> Resource {
    let process = match process {
        Process::Server => "server",
        Process::Worker => "worker",
    };
    let host = rustix::system::uname();
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", service.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance.to_string()),
            KeyValue::new("process.pid", i64::from(std::process::id())),
            KeyValue::new("host.name", host.nodename().to_string_lossy().into_owned()),
            KeyValue::new("deployment.environment.name", environment.to_owned()),
            KeyValue::new("tasker.process", process),
        ])
        .build()
}
