//! Serving, asked by plain sockets.

use std::future::{Ready, ready};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tower::{service_fn, util::ServiceFn};

use super::*;

/// Generous: what is expected happens long before.
const PATIENCE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(200);

type Answer = Response<String>;
type Asked = fn(Request<Incoming>) -> Ready<Result<Answer, Infallible>>;

/// Says whether the connection is beyond the bound.
fn tells_crowded() -> ServiceFn<Asked> {
    fn answer(request: Request<Incoming>) -> Ready<Result<Answer, Infallible>> {
        assert!(request.extensions().get::<Peer>().is_some());
        let crowded = request.extensions().get::<Crowded>().is_some();
        ready(Ok(Response::new(format!("crowded: {crowded}"))))
    }
    service_fn(answer as Asked)
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Nobody accepts meanwhile, so one that found no place would try in vain.
#[tokio::test]
async fn hundreds_of_connections_that_come_at_once_find_a_place_to_wait() {
    let (_listener, address) = listener().await;
    let mut waiting = Vec::new();
    for _ in 0..500 {
        let connecting = tokio::time::timeout(PATIENCE, TcpStream::connect(address));
        waiting.push(connecting.await.unwrap().unwrap());
    }
}

fn bounds(connections: u32) -> Bounds {
    Bounds {
        connections,
        first_request: PATIENCE,
        keep_alive: PATIENCE,
    }
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// What comes until `end` or the end of the connection.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut said = Vec::new();
    let reading = async {
        let mut part = [0; 1024];
        while !String::from_utf8_lossy(&said).contains(end) {
            // A connection that is closed with something unread is reset.
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(read) => said.extend_from_slice(&part[..read]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    String::from_utf8(said).unwrap()
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    read_to(stream, "\u{0}").await
}

async fn ask(stream: &mut TcpStream) -> String {
    send(stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_to(stream, "crowded: false").await
}

#[tokio::test]
async fn whoever_does_not_send_a_request_in_time_is_closed_whatever_it_sent() {
    let (listener, address) = listener().await;
    let bounds = Bounds {
        first_request: SOON,
        keep_alive: SOON,
        ..bounds(8)
    };
    let serving = Serving::begin(listener, tells_crowded(), bounds);
    // Nothing; what may become HTTP/2; half a head; half a head after a request.
    for begun in ["", "PRI * HT", "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        send(&mut stream, begun).await;
        assert_eq!(read_to_end(&mut stream).await, "", "{begun:?}");
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200"));
    send(&mut stream, "GET / HTTP/1.1\r\nhost").await;
    assert!(!read_to_end(&mut stream).await.contains("HTTP"));
    serving.end().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_are_told_so_and_those_beyond_the_reserve_wait() {
    let (listener, address) = listener().await;
    let serving = Serving::begin(listener, tells_crowded(), bounds(2));
    let mut ordinary = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut stream).await.ends_with("crowded: false"));
        ordinary.push(stream);
    }
    let mut beyond = TcpStream::connect(address).await.unwrap();
    send(&mut beyond, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let said = read_to_end(&mut beyond).await;
    assert!(said.contains("connection: close"), "{said}");
    assert!(said.ends_with("crowded: true"), "{said}");

    let mut holding = Vec::new();
    for _ in 0..RESERVE {
        let mut stream = TcpStream::connect(address).await.unwrap();
        send(&mut stream, "GET").await;
        holding.push(stream);
    }
    let mut waiting = TcpStream::connect(address).await.unwrap();
    send(&mut waiting, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut part = [0; 16];
    let answered = tokio::time::timeout(SOON, waiting.read(&mut part)).await;
    assert!(answered.is_err(), "{part:?}");
    // A place becomes free: an ordinary one, and the connection keeps it.
    drop(ordinary);
    let said = read_to(&mut waiting, "crowded: false").await;
    assert!(!said.contains("connection: close"), "{said}");
    drop((holding, waiting));
    serving.end().await;
}

#[tokio::test]
async fn an_end_waits_for_the_answer_that_is_under_way_and_closes_the_port_before() {
    let (listener, address) = listener().await;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&go_on));
    let slow = service_fn(move |_: Request<Incoming>| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            Ok::<Answer, Infallible>(Response::new("done".to_owned()))
        }
    });
    let serving = Serving::begin(listener, slow, bounds(8));
    let closing = serving.closing();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    send(&mut stream, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    begun.notified().await;
    let ending = tokio::spawn(serving.end());
    closing.cancelled().await;
    assert_eq!(read_to_end(&mut idle).await, "");
    tokio::time::timeout(PATIENCE, async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(!ending.is_finished());
    go_on.notify_one();
    assert!(read_to_end(&mut stream).await.ends_with("done"));
    tokio::time::timeout(PATIENCE, ending)
        .await
        .unwrap()
        .unwrap();
}
