//! OTLP as protobuf in HTTP requests.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tokio::net::TcpListener;

use super::{Kept, Message};

type Answer = (StatusCode, [(&'static str, &'static str); 1]);

const PROTOBUF: &str = "application/x-protobuf";

pub(super) async fn serve(listener: TcpListener, kept: Arc<Kept>) {
    let router = Router::new()
        .route("/v1/metrics", post(metrics))
        .route("/v1/traces", post(traces))
        .route("/v1/logs", post(logs))
        .layer(DefaultBodyLimit::disable())
        .with_state(kept);
    axum::serve(listener, router).await.unwrap();
}

async fn metrics(kept: State<Arc<Kept>>, headers: HeaderMap, body: Bytes) -> Answer {
    take::<ExportMetricsServiceRequest>(&kept, &headers, body).await
}

async fn traces(kept: State<Arc<Kept>>, headers: HeaderMap, body: Bytes) -> Answer {
    take::<ExportTraceServiceRequest>(&kept, &headers, body).await
}

async fn logs(kept: State<Arc<Kept>>, headers: HeaderMap, body: Bytes) -> Answer {
    take::<ExportLogsServiceRequest>(&kept, &headers, body).await
}

async fn take<T: prost::Message + Default + Message>(
    kept: &Kept,
    headers: &HeaderMap,
    body: Bytes,
) -> Answer {
    let right_type = headers.get("content-type").is_some_and(|t| t == PROTOBUF);
    let status = match T::decode(body) {
        Ok(all) if right_type => {
            let headers = headers
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.to_string(), value.to_str().ok()?.to_owned()))
                })
                .collect();
            match kept.take(headers, all).await {
                true => StatusCode::OK,
                false => StatusCode::FORBIDDEN,
            }
        }
        _ => StatusCode::BAD_REQUEST,
    };
    (status, [("content-type", PROTOBUF)])
}
