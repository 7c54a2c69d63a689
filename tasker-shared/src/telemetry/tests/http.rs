//! Exports to a receiver that speaks HTTP, as much of it as is needed here.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::received::Received;
use super::*;

/// A receiver at an address of its own that answers everything with `status`, for as long as the runtime lives.
pub(super) async fn receiver(status: u16) -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, answering(listener, status))
}

/// The same at that address.
pub(super) async fn receiver_at(address: &str, status: u16) -> Received {
    answering(TcpListener::bind(address).await.unwrap(), status)
}

fn answering(listener: TcpListener, status: u16) -> Received {
    let received = Received::default();
    let kept = received.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, status, kept.clone()));
        }
    });
    received
}

async fn serve(mut stream: TcpStream, status: u16, received: Received) {
    while let Some((path, body)) = request(&mut stream).await {
        match path.trim_start_matches("/otlp") {
            "/v1/metrics" => {
                let request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
                received.metrics.lock().unwrap().push(request);
            }
            "/v1/traces" => {
                let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
                received.traces.lock().unwrap().push(request);
            }
            other => panic!("{other}"),
        }
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Path and body of the next request.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    let length = head.split("content-length: ").nth(1).unwrap();
    let length = length.lines().next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let path = head.split(' ').nth(1).unwrap().to_owned();
    Some((path, body))
}

#[tokio::test]
async fn metrics_and_spans_are_posted_below_the_endpoint() {
    let _alone = alone();
    let (url, received) = receiver(200).await;
    let telemetry = started(&settings(&format!("{url}/otlp/"), OtlpProtocol::Http));
    crate::metrics::database::query("over_http", true, Duration::from_millis(3));
    let task = Uuid::from_u128(9);
    tell_a_span(task);
    let span = eventually("a span", || received.spans().pop()).await;
    assert_eq!(span.trace_id, task.into_bytes());
    let counts = || received.counts("tasker.sql.queries.total", "operation", "over_http");
    eventually("the value of a counter", || {
        counts().contains(&1).then_some(())
    })
    .await;
    assert_eq!(counts()[..2], [0, 1]);
    telemetry.shutdown(Duration::from_secs(20)).await;
    let resources = received.resources();
    assert!(resources.iter().all(|resource| resource == &resources[0]));
}
