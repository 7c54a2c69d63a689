//! Where telemetry goes and how it gets there: one connection, by gRPC or HTTP. Traces and logs are sent by the
//! exporters of OpenTelemetry; metrics, whose series are our own, as the messages that those send too.

use std::time::Duration;

use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig,
    WithHttpConfig, WithTonicConfig,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::logs::LogExporter as _;
use opentelemetry_sdk::trace::SpanExporter as _;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig};

use super::headers;
use crate::config::{OtlpProtocol, TelemetryOpentelemetry};

/// How often an idle connection is asked whether it still stands.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const PROTOBUF: &str = "application/x-protobuf";

/// Why nothing can be exported by this configuration.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("telemetry.opentelemetry.endpoint is no address: {0}")]
    Address(#[from] http::uri::InvalidUri),
    #[error("telemetry.opentelemetry.endpoint cannot be used: {}", chain(.0))]
    Grpc(#[from] tonic::transport::Error),
    #[error("telemetry.opentelemetry.endpoint cannot be used: {}", chain(.0))]
    Http(#[from] reqwest::Error),
    #[error("the export of telemetry cannot be set up: {0}")]
    Exporter(#[from] ExporterBuildError),
    #[error(transparent)]
    Headers(#[from] headers::Malformed),
}

/// A sending of metrics failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    // What the endpoint itself says is left out: some repeat the credentials they were sent.
    #[error("{:?}{}", .0.code(), causes(&**.0))]
    Grpc(#[from] Box<tonic::Status>),
    #[error("{}", chain(.0))]
    Http(#[from] reqwest::Error),
    #[error("the answer was {0}")]
    Refused(http::StatusCode),
    #[error("the answer is not what an OTLP endpoint answers: {0}")]
    Answer(#[from] prost::DecodeError),
}

impl SendError {
    /// Whether the same may be taken later, by the lists of the OTLP specification.
    pub(super) fn may_pass(&self) -> bool {
        use tonic::Code;
        match self {
            Self::Grpc(status) => matches!(
                status.code(),
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
            ),
            Self::Http(_) => true,
            Self::Refused(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Answer(_) => false,
        }
    }
}

/// Something that takes telemetry.
#[derive(Debug)]
pub(super) struct Endpoint {
    transport: Transport,
    timeout: Duration,
}

#[derive(Debug)]
enum Transport {
    Grpc(Channel, MetadataMap),
    Http(reqwest::Client, String, http::HeaderMap),
}

impl Endpoint {
    /// Connects when there is something to send, inside the runtime this is called in.
    ///
    /// # Errors
    /// What is configured can never work.
    pub(super) fn new(settings: &TelemetryOpentelemetry) -> Result<Self, EndpointError> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        let url = settings.endpoint.as_str();
        let headers = headers::of_environment("METRICS")?;
        let transport = match settings.protocol {
            OtlpProtocol::Grpc => {
                Transport::Grpc(channel(url, timeout)?, MetadataMap::from_headers(headers))
            }
            OtlpProtocol::Http => {
                let base = url.trim_end_matches('/').to_owned();
                Transport::Http(client(timeout)?, base, headers)
            }
        };
        Ok(Self { transport, timeout })
    }

    /// What exports spans.
    ///
    /// # Errors
    /// The environment asks for what cannot be had.
    pub(super) fn spans(&self, resource: &Resource) -> Result<SpanExporter, ExporterBuildError> {
        let builder = SpanExporter::builder();
        let mut exporter = match &self.transport {
            Transport::Grpc(channel, _) => builder
                .with_tonic()
                .with_channel(channel.clone())
                .with_timeout(self.timeout)
                .with_retry_policy(RetryPolicy::recommended())
                .build()?,
            Transport::Http(client, base, _) => builder
                .with_http()
                .with_http_client(client.clone())
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(format!("{base}/v1/traces"))
                .with_timeout(self.timeout)
                .with_retry_policy(RetryPolicy::recommended())
                .build()?,
        };
        exporter.set_resource(resource);
        Ok(exporter)
    }

    /// What exports log records.
    ///
    /// # Errors
    /// The environment asks for what cannot be had.
    pub(super) fn logs(&self, resource: &Resource) -> Result<LogExporter, ExporterBuildError> {
        let builder = LogExporter::builder();
        let mut exporter = match &self.transport {
            Transport::Grpc(channel, _) => builder
                .with_tonic()
                .with_channel(channel.clone())
                .with_timeout(self.timeout)
                .with_retry_policy(RetryPolicy::recommended())
                .build()?,
            Transport::Http(client, base, _) => builder
                .with_http()
                .with_http_client(client.clone())
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(format!("{base}/v1/logs"))
                .with_timeout(self.timeout)
                .with_retry_policy(RetryPolicy::recommended())
                .build()?,
        };
        exporter.set_resource(resource);
        Ok(exporter)
    }

    /// Sends metrics once; what the endpoint would not take of them is in the answer.
    ///
    /// # Errors
    /// They have not arrived, or not so that anybody knows.
    pub(super) async fn send(
        &self,
        request: ExportMetricsServiceRequest,
    ) -> Result<Option<ExportMetricsPartialSuccess>, SendError> {
        let response = match &self.transport {
            Transport::Grpc(channel, headers) => {
                let mut message = tonic::Request::new(request);
                *message.metadata_mut() = headers.clone();
                MetricsServiceClient::new(channel.clone())
                    .export(message)
                    .await
                    .map_err(Box::new)?
                    .into_inner()
            }
            Transport::Http(client, base, headers) => {
                let answer = client
                    .post(format!("{base}/v1/metrics"))
                    .headers(headers.clone())
                    .header(http::header::CONTENT_TYPE, PROTOBUF)
                    .body(request.encode_to_vec())
                    .send()
                    .await?;
                if !answer.status().is_success() {
                    return Err(SendError::Refused(answer.status()));
                }
                ExportMetricsServiceResponse::decode(answer.bytes().await?)?
            }
        };
        Ok(response.partial_success)
    }
}

fn channel(url: &str, timeout: Duration) -> Result<Channel, EndpointError> {
    let mut endpoint = Channel::builder(url.parse()?)
        .connect_timeout(timeout)
        .timeout(timeout)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(timeout);
    if url.starts_with("https:") {
        endpoint = endpoint.tls_config(ClientTlsConfig::new().with_webpki_roots())?;
    }
    Ok(endpoint.connect_lazy())
}

fn client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    // Fails where the process has installed one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("tasker/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeout)
            .timeout(timeout)
    };
    // A machine without any root certificates: plain HTTP has to work there all the same.
    builder()
        .build()
        .or_else(|_| builder().tls_certs_only([]).build())
}

/// An error with what caused it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    format!("{error}{}", causes(error))
}

/// What caused an error, each cause once.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = String::new();
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    for cause in causes.map(ToString::to_string) {
        if !said.ends_with(&cause) {
            said.push_str(": ");
            said.push_str(&cause);
        }
    }
    said
}

/// What an exporter of OpenTelemetry says of its failure.
pub(super) fn reason(error: OTelSdkError) -> String {
    match error {
        OTelSdkError::InternalFailure(reason) => reason,
        other => other.to_string(),
    }
}
