//! The three services of OTLP over gRPC.

use std::sync::Arc;

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
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tonic::metadata::KeyAndValueRef;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::{Kept, Message};

/// A million series fit into it.
const LARGEST: usize = 256 * 1024 * 1024;

#[derive(Debug)]
struct Service(Arc<Kept>);

pub(super) async fn serve(listener: TcpListener, kept: Arc<Kept>) {
    let service = || Arc::new(Service(Arc::clone(&kept)));
    tonic::transport::Server::builder()
        .add_service(MetricsServiceServer::from_arc(service()).max_decoding_message_size(LARGEST))
        .add_service(TraceServiceServer::from_arc(service()).max_decoding_message_size(LARGEST))
        .add_service(LogsServiceServer::from_arc(service()).max_decoding_message_size(LARGEST))
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
        .unwrap();
}

impl Service {
    async fn take(&self, request: Request<impl Message>) -> Result<(), Status> {
        let headers = request.metadata().iter().filter_map(|header| match header {
            KeyAndValueRef::Ascii(name, value) => {
                Some((name.to_string(), value.to_str().ok()?.to_owned()))
            }
            KeyAndValueRef::Binary(..) => None,
        });
        let headers = headers.collect();
        if self.0.take(headers, request.into_inner()).await {
            Ok(())
        } else {
            Err(Status::permission_denied("not you"))
        }
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.take(request).await?;
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.take(request).await?;
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.take(request).await?;
        Ok(Response::new(Default::default()))
    }
}
