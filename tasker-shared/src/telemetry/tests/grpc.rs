//! Exports to a receiver that speaks gRPC.

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, async_trait};

use super::received::{Received, text};
use super::*;
use crate::logging;

/// Takes what it is sent, except for so many points of each request.
#[derive(Debug, Clone, Default)]
struct Receiver {
    received: Received,
    refuses: i64,
}

#[async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let partial_success = (self.refuses > 0).then(|| ExportMetricsPartialSuccess {
            rejected_data_points: self.refuses,
            error_message: "too old".to_owned(),
        });
        self.received
            .metrics
            .lock()
            .unwrap()
            .push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse {
            partial_success,
        }))
    }
}

#[async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.received
            .traces
            .lock()
            .unwrap()
            .push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.received
            .logs
            .lock()
            .unwrap()
            .push(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

/// A receiver at an address of its own, for as long as the runtime lives.
async fn receiver(refuses: i64) -> (String, Received) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let receiver = Receiver {
        refuses,
        ..Receiver::default()
    };
    let received = receiver.received.clone();
    let server = Server::builder()
        .add_service(MetricsServiceServer::new(receiver.clone()))
        .add_service(TraceServiceServer::new(receiver.clone()))
        .add_service(LogsServiceServer::new(receiver));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    (url, received)
}

#[tokio::test]
async fn metrics_spans_and_log_lines_arrive_and_say_the_same_of_their_process() {
    let _alone = alone();
    let (url, received) = receiver(0).await;
    let mut settings = settings(&url, OtlpProtocol::Grpc);
    settings.opentelemetry.logs = true;
    let telemetry = started(&settings);
    let counted = Counted::now();

    crate::metrics::database::query("over_grpc", true, Duration::from_millis(3));
    let task = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0020_0000);
    tell_a_span(task);
    let (subscriber, _) = logging::tests::exporting("info");
    tracing::subscriber::with_default(subscriber, || {
        let step = logging::step_span(task, Uuid::from_u128(2), Uuid::from_u128(3));
        let place = trace::TraceContext::of_step(task, task, 1, 1, true);
        let said = context::within(&place, async {
            step.in_scope(|| tracing::warn!(amount = 5, "charged"));
        });
        futures_now(said);
        tracing::debug!("not said");
    });

    let span = eventually("a span", || received.spans().pop()).await;
    assert_eq!(span.name, "task.initialize");
    assert_eq!(span.trace_id, task.into_bytes());
    let (target, record) = eventually("a log record", || received.records().pop()).await;
    assert_eq!(target, "tasker_shared::telemetry::tests::grpc");
    assert_eq!(record.severity_text, "WARN");
    assert_eq!(record.event_name, "");
    assert!(record.time_unix_nano > 0);
    let body = record.body.clone().unwrap().value.unwrap();
    assert!(format!("{body:?}").contains("charged"), "{body:?}");
    assert_eq!(record.trace_id, task.into_bytes());
    let id = trace::span_id(trace::Kind::StepExecute, task, 1, 1);
    assert_eq!(record.span_id, id.to_bytes());
    for (key, value) in [
        ("amount", "5"),
        ("task_uuid", "01900000-0000-7000-8000-000000200000"),
        ("step_uuid", "00000000-0000-0000-0000-000000000002"),
        ("correlation_id", "00000000-0000-0000-0000-000000000003"),
    ] {
        assert_eq!(text(&record.attributes, key).as_deref(), Some(value));
    }
    let counts = || received.counts("tasker.sql.queries.total", "operation", "over_grpc");
    eventually("the value of a counter", || {
        counts().contains(&1).then_some(())
    })
    .await;
    assert_eq!(counts()[..2], [0, 1], "a new series is shown at zero first");

    telemetry.shutdown(Duration::from_secs(20)).await;
    assert_eq!(received.spans().len(), 1);
    assert_eq!(received.records().len(), 1);
    assert_eq!(counted.exported(Signal::Traces), 1);
    assert_eq!(counted.exported(Signal::Logs), 1);
    assert!(counted.exported(Signal::Metrics) > 0);
    let resources = received.resources();
    assert!(resources.len() >= 3);
    for resource in &resources {
        assert_eq!(resource, &resources[0]);
    }
    for (key, value) in [
        ("service.name", "tasker-core-dev"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        (
            "service.instance.id",
            "00000000-0000-0000-0000-000000000005",
        ),
        ("process.pid", &std::process::id().to_string()),
        ("deployment.environment.name", "test"),
        ("tasker.process", "worker"),
    ] {
        let pair = (key.to_owned(), value.to_owned());
        assert!(resources[0].contains(&pair), "{key}: {resources:?}");
    }
    assert!(
        resources[0]
            .iter()
            .any(|(key, host)| key == "host.name" && !host.is_empty())
    );
}

#[tokio::test]
async fn a_process_that_ends_at_once_leaves_its_values_behind() {
    let _alone = alone();
    let (url, received) = receiver(0).await;
    let mut settings = settings(&url, OtlpProtocol::Grpc);
    settings.opentelemetry.export_interval_seconds = 3_600;
    let telemetry = started(&settings);
    crate::metrics::database::query("short", true, Duration::from_millis(3));
    tell_a_span(Uuid::from_u128(7));
    telemetry.shutdown(Duration::from_secs(20)).await;
    let counts = received.counts("tasker.sql.queries.total", "operation", "short");
    assert_eq!(counts, [0, 1]);
    assert_eq!(received.spans().len(), 1);
}

#[tokio::test]
async fn points_that_the_endpoint_will_not_take_count_as_dropped() {
    let _alone = alone();
    let (url, _) = receiver(1).await;
    let telemetry = started(&settings(&url, OtlpProtocol::Grpc));
    let counted = Counted::now();
    crate::metrics::database::query("refused", true, Duration::from_millis(3));
    let dropped = || (counted.dropped(Signal::Metrics) > 0).then_some(());
    eventually("a dropped point", dropped).await;
    assert!(counted.failed(Signal::Metrics) > 0);
    telemetry.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn what_the_export_logs_is_not_exported() {
    let _alone = alone();
    let (url, received) = receiver(0).await;
    let mut settings = settings(&url, OtlpProtocol::Grpc);
    settings.opentelemetry.logs = true;
    // The threads of the export have no subscriber but this one.
    let (subscriber, written) = logging::tests::exporting("trace");
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let telemetry = started(&settings);
    tracing::info!(target: "work", "one");
    let of_work = |received: &Received| {
        let records = received.records().into_iter();
        records.filter(|(target, _)| target == "work").count()
    };
    eventually("the first record", || {
        (of_work(&received) == 1).then_some(())
    })
    .await;
    tracing::info!(target: "work", "two");
    eventually("the second record", || {
        (of_work(&received) == 2).then_some(())
    })
    .await;
    telemetry.shutdown(Duration::from_secs(20)).await;
    // The receiver of this test logs too, and it is not part of the export.
    let written = written.take();
    assert!(
        written.contains("\"target\":\"h2::client\""),
        "the export says what it does"
    );
    let of_export =
        |target: &str| target.starts_with("h2::client") || target.starts_with("tower::buffer");
    for (target, record) in received.records() {
        assert!(!of_export(&target), "{target}: {record:?}");
    }
}

/// Runs what never waits.
fn futures_now<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match work.as_mut().poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("it waits"),
    }
}
