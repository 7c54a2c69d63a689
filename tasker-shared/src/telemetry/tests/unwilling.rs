//! Endpoints that are not there, do not answer, or are something else.

use tokio::net::TcpListener;

use super::*;

/// Long enough for anything that ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// Work goes on beside an export that gets nowhere, and the end does not wait for it.
async fn gets_nowhere(settings: &config::Telemetry) -> Counted {
    let telemetry = started(settings);
    let counted = Counted::now();
    crate::metrics::database::query("unwilling", true, Duration::from_millis(3));
    for task in 1..10_000 {
        tell_a_span(Uuid::from_u128(task));
    }
    assert!(counted.dropped(Signal::Traces) > 0, "the queue is bounded");
    eventually("failures", || {
        let failed = |signal| counted.failed(signal) > 0;
        (failed(Signal::Metrics) && failed(Signal::Traces)).then_some(())
    })
    .await;
    let shutdown = telemetry.shutdown(Duration::from_millis(200));
    tokio::time::timeout(PATIENCE, shutdown).await.unwrap();
    assert_eq!(counted.exported(Signal::Metrics), 0);
    assert_eq!(counted.exported(Signal::Traces), 0);
    assert!(!spans::wanted(true));
    counted
}

async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_costs_nothing_else() {
    let _alone = alone();
    let url = free_address().await;
    gets_nowhere(&settings(&url, OtlpProtocol::Grpc)).await;
    gets_nowhere(&settings(&url, OtlpProtocol::Http)).await;
}

#[tokio::test]
async fn an_endpoint_that_never_answers_costs_nothing_else() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut held = Vec::new();
    let accept = async {
        loop {
            held.push(listener.accept().await.unwrap());
        }
    };
    let tried = async {
        gets_nowhere(&settings(&url, OtlpProtocol::Grpc)).await;
        gets_nowhere(&settings(&url, OtlpProtocol::Http)).await;
    };
    tokio::select! {
        () = accept => {}
        () = tried => {}
    }
}

#[tokio::test]
async fn an_endpoint_that_is_something_else_costs_nothing_else() {
    let _alone = alone();
    let (url, received) = http::receiver(404).await;
    let url = format!("{url}/otlp");
    let counted = gets_nowhere(&settings(&url, OtlpProtocol::Http)).await;
    assert!(!received.spans().is_empty());
    // What is refused for good is not sent again.
    assert!(counted.dropped(Signal::Metrics) > 0);
    // gRPC does not find HTTP 2 there.
    gets_nowhere(&settings(&url, OtlpProtocol::Grpc)).await;
}

#[tokio::test]
async fn what_comes_back_gets_what_waited() {
    let _alone = alone();
    let url = free_address().await;
    let telemetry = started(&settings(&url, OtlpProtocol::Http));
    let counted = Counted::now();
    crate::metrics::database::query("waited", true, Duration::from_millis(3));
    eventually("a failure", || {
        (counted.failed(Signal::Metrics) > 0).then_some(())
    })
    .await;
    let address = url.trim_start_matches("http://");
    let received = http::receiver_at(address, 200).await;
    let counts = || received.counts("tasker.sql.queries.total", "operation", "waited");
    eventually("the value of a counter", || {
        counts().contains(&1).then_some(())
    })
    .await;
    assert_eq!(counts()[..2], [0, 1], "the zero was not lost");
    telemetry.shutdown(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn an_endpoint_that_can_never_work_is_refused_by_the_name_of_its_key() {
    let _alone = alone();
    let settings = settings("http://m\u{fc}nchen.example:4317", OtlpProtocol::Grpc);
    let error = start(&settings, Process::Worker, Uuid::nil(), "test").unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("telemetry.opentelemetry.endpoint "),
        "{error}"
    );
    assert!(!spans::wanted(true));
}

#[test]
fn telemetry_that_is_off_does_nothing() {
    let _alone = alone();
    let mut settings = settings("http://localhost:1", OtlpProtocol::Grpc);
    settings.enabled = false;
    let telemetry = started(&settings);
    assert!(telemetry.export.is_none());
    assert!(!spans::wanted(true));
}

#[test]
fn telemetry_starts_outside_of_any_runtime_and_ends_when_it_is_dropped() {
    let _alone = alone();
    let settings = settings("http://localhost:1", OtlpProtocol::Grpc);
    let telemetry = started(&settings);
    assert!(spans::wanted(true));
    let Running { stopper, ended } = telemetry.export.unwrap();
    drop(stopper);
    // The thread closes it.
    assert!(ended.blocking_recv().is_err());
    spans::DOOR.close();
}
