//! A receiver of OTLP, over gRPC or HTTP, that keeps what it is sent, and questions to it. What it keeps is in
//! `otlp/records.rs`, how it listens in `otlp/listen.rs`.

mod grpc;
mod http;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use records::{Kind, Link, Log, Point, Reading, Resource, Span};

use crate::exposition::Labels;

const POLL: Duration = Duration::from_millis(20);

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes and keeps everything.
    Keeps,
    /// Takes everything and keeps only how much it was.
    Counts,
    /// Takes connections and requests, and never answers.
    Hangs,
    /// Answers every request that it is not allowed.
    Refuses,
}

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf in HTTP requests.
    Http,
}

/// A listening receiver. Dropping it ends it.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    kept: Arc<Kept>,
    listening: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// What has arrived.
#[derive(Debug)]
pub(crate) struct Kept {
    manner: Manner,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    requests: u64,
    records: u64,
    headers: BTreeSet<(String, String)>,
    points: Vec<Point>,
    spans: Vec<Span>,
    logs: Vec<Log>,
}

/// What one request brought.
#[derive(Debug)]
pub(crate) enum Brought {
    Points(Vec<Point>),
    Spans(Vec<Span>),
    Logs(Vec<Log>),
}

/// A request's message: how many records it has, and what they are.
pub(crate) trait Message {
    fn records(&self) -> usize;
    fn read(self) -> Brought;
}

impl Kept {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap()
    }

    /// Notes a request with its headers; what it brought is read only where it is kept. Answers false where it is
    /// to be refused.
    pub(crate) async fn take(&self, headers: Vec<(String, String)>, message: impl Message) -> bool {
        let records = message.records();
        let brought = (self.manner == Manner::Keeps).then(|| message.read());
        self.note(headers, records, brought);
        if self.manner == Manner::Hangs {
            std::future::pending::<()>().await;
        }
        self.manner != Manner::Refuses
    }

    fn note(&self, headers: Vec<(String, String)>, records: usize, brought: Option<Brought>) {
        let mut all = self.all();
        all.requests += 1;
        all.records += records as u64;
        all.headers.extend(headers);
        match brought {
            Some(Brought::Points(points)) => all.points.extend(points),
            Some(Brought::Spans(spans)) => all.spans.extend(spans),
            Some(Brought::Logs(logs)) => all.logs.extend(logs),
            None => {}
        }
    }
}

impl Receiver {
    /// One that keeps what it gets by gRPC.
    pub async fn start() -> Self {
        Self::start_as(Manner::Keeps, Protocol::Grpc).await
    }

    /// One of any kind, on a port of its own.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start_as(manner: Manner, protocol: Protocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::listen(listener, manner, protocol)
    }

    /// One that keeps what it gets by gRPC, at a given address.
    ///
    /// # Panics
    /// When it cannot listen there.
    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self::listen(listener, Manner::Keeps, Protocol::Grpc)
    }

    fn listen(listener: TcpListener, manner: Manner, protocol: Protocol) -> Self {
        let address = listener.local_addr().unwrap();
        let kept = Arc::new(Kept {
            manner,
            all: Mutex::default(),
        });
        let listening = match protocol {
            Protocol::Grpc => tokio::spawn(grpc::serve(listener, Arc::clone(&kept))),
            Protocol::Http => tokio::spawn(http::serve(listener, Arc::clone(&kept))),
        };
        Self {
            address,
            kept,
            listening,
        }
    }

    /// What `telemetry.opentelemetry.endpoint` has to be.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests came.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.kept.all().requests
    }

    /// How many points, spans and log records came.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.kept.all().records
    }

    /// Whether any request had this header.
    #[must_use]
    pub fn saw_header(&self, name: &str, value: &str) -> bool {
        let header = (name.to_owned(), value.to_owned());
        self.kept.all().headers.contains(&header)
    }

    /// Every point of every metric, in the order of arrival.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        self.kept.all().points.clone()
    }

    /// The last point of each series, by process, metric and labels.
    #[must_use]
    pub fn latest(&self) -> BTreeMap<(String, String, Labels), Point> {
        let all = self.kept.all();
        let mut latest = BTreeMap::new();
        for point in &all.points {
            let process = point.resource["service.instance.id"].clone();
            let key = (process, point.metric.clone(), point.labels.clone());
            latest.insert(key, point.clone());
        }
        latest
    }

    /// The sum of the last values of a counter's series, or of a histogram's counts, in one kind of process.
    #[must_use]
    pub fn sum(&self, process: &str, metric: &str, labels: &[(&str, &str)]) -> f64 {
        self.latest()
            .values()
            .filter(|point| point.metric == metric && point.is_of(process) && point.has(labels))
            .map(|point| point.reading.count())
            .sum()
    }

    /// Every span, in the order of arrival.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.kept.all().spans.clone()
    }

    /// The spans of a trace, by when they began.
    #[must_use]
    pub fn trace(&self, id: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace_id == id);
        spans.sort_by_key(|span| (span.began, span.ended));
        spans
    }

    /// Every log record, in the order of arrival.
    #[must_use]
    pub fn logs(&self) -> Vec<Log> {
        self.kept.all().logs.clone()
    }

    /// Asks until there is an answer.
    ///
    /// # Panics
    /// When there is none in that time.
    pub async fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut ask: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let until = Instant::now() + patience;
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(
                Instant::now() < until,
                "after {patience:?} the receiver has not got {what}; {} requests with {} records came",
                self.requests(),
                self.records()
            );
            tokio::time::sleep(POLL).await;
        }
    }
}
