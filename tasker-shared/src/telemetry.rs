//! What leaves a process about itself: metrics are recorded in `metrics`, spans in `spans`, log lines in `logging`,
//! and all three are exported by OTLP from one thread. Nothing here fails or delays the work.

mod attributes;
mod batch;
pub mod context;
mod endpoint;
mod faults;
mod headers;
pub(crate) mod logs;
mod metrics;
mod points;
mod resource;
pub mod spans;
mod stop;
mod thread;
pub mod trace;
pub mod tracestate;

#[cfg(test)]
mod tests;

use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::{self, Correlation};
use crate::metrics::export::Signal;
use crate::metrics::{Mode, Process, Settings};

use batch::Waiting;
use endpoint::{Endpoint, EndpointError};
use faults::Faults;
use stop::{Stop, Stopper};

/// Why telemetry cannot be started as configured.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] thread::ThreadError<EndpointError>);

/// The telemetry of this process, until it is shut down. Dropping it ends the export at once.
#[derive(Debug)]
pub struct Telemetry {
    export: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stopper: Stopper,
    /// Closed when the export has ended.
    ended: oneshot::Receiver<()>,
}

/// Begins to record and to export, as configured. The `instance` is the process's own id, the `environment` the one
/// whose configuration it has.
///
/// # Errors
/// What is configured can never work. That nobody listens is no error.
pub fn start(
    settings: &config::Telemetry,
    process: Process,
    instance: Uuid,
    environment: &str,
) -> Result<Telemetry, Error> {
    if !settings.enabled {
        return Ok(Telemetry { export: None });
    }
    let export = if settings.opentelemetry.enabled {
        let name = &settings.service_name;
        let resource = resource::resource(name, process, instance, environment);
        Some(export(&settings.opentelemetry, resource)?)
    } else {
        None
    };
    crate::metrics::start(Settings {
        process,
        mode: match settings.metrics.correlation {
            Correlation::Window => Mode::Window,
            Correlation::Exemplar => Mode::Exemplar,
            Correlation::Off => Mode::Off,
        },
        window: Duration::from_secs(settings.metrics.correlation_window_seconds),
        limit: settings.metrics.correlation_limit,
    });
    Ok(Telemetry { export })
}

impl Telemetry {
    /// Exports what is left, and takes no longer than `within`; what has not been taken by then is lost.
    pub async fn shutdown(self, within: Duration) {
        let Some(running) = self.export else {
            return;
        };
        running.stopper.end(Instant::now() + within);
        // The answer does not matter: it is over, or takes too long.
        let _ = tokio::time::timeout(within, running.ended).await;
        spans::DOOR.close();
        logs::DOOR.close();
    }
}

/// What the exporting thread works with.
struct Export {
    settings: config::TelemetryOpentelemetry,
    resource: Resource,
    endpoint: Endpoint,
    span_exporter: opentelemetry_otlp::SpanExporter,
    spans: Waiting<SpanData>,
    log_exporter: opentelemetry_otlp::LogExporter,
    logs: Option<Waiting<logs::Entry>>,
}

fn export(
    settings: &config::TelemetryOpentelemetry,
    resource: Resource,
) -> Result<Running, thread::ThreadError<EndpointError>> {
    let (stopper, stop) = stop::pair();
    let (end, ended) = oneshot::channel();
    let work = async move |export: Export| {
        export.run(&stop).await;
        drop(end);
    };
    thread::start(|| Export::prepare(settings, resource), work)?;
    Ok(Running { stopper, ended })
}

impl Export {
    fn prepare(
        settings: &config::TelemetryOpentelemetry,
        resource: Resource,
    ) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::new(settings)?;
        Ok(Self {
            settings: settings.clone(),
            span_exporter: endpoint.spans(&resource)?,
            log_exporter: endpoint.logs(&resource)?,
            spans: spans::DOOR.open(Signal::Traces, settings.queue),
            logs: settings
                .logs
                .then(|| logs::DOOR.open(Signal::Logs, settings.queue)),
            endpoint,
            resource,
        })
    }

    async fn run(self, stop: &Stop) {
        let timeout = Duration::from_millis(self.settings.timeout_ms);
        let faults = Faults::new(self.settings.endpoint.as_str());
        let metrics = metrics::Metrics {
            endpoint: &self.endpoint,
            resource: points::resource(&self.resource),
            interval: Duration::from_secs(self.settings.export_interval_seconds),
            timeout,
            faults: &faults,
            stop,
        };
        let export = async |batch| {
            let exported = self.span_exporter.export(batch).await;
            exported.map_err(endpoint::reason)
        };
        let spans = self.spans.export(export, timeout, &faults, stop);
        let logs = async {
            if let Some(logs) = self.logs {
                let export = async |batch| {
                    let exported = logs::export(&self.log_exporter, batch).await;
                    exported.map_err(endpoint::reason)
                };
                logs.export(export, timeout, &faults, stop).await;
            }
        };
        tokio::join!(metrics.run(), spans, logs);
    }
}
