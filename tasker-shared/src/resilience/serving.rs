//! Serving HTTP within bounds, for servers and workers alike: so many connections, so long until a request is there,
//! and an end that lets running requests be answered. What is answered is the [`Front`]'s.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::front::Front;

mod usage;

use usage::{Counted, Usage};

/// Connections beyond the bound that are served all the same, one request each, so that health and metrics can be asked
/// for when there are too many.
const RESERVE: usize = 32;
/// A new connection brings its first request within this time.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// One that served is kept this long for another request: longer than balancers keep theirs (60 s), so that none sends a
/// request into a connection that is being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// At the end, one without a request gets this long to go by itself.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often an HTTP/2 peer is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);
/// No connection can be accepted, as when the process has no file left: something has to end first.
const PAUSE: Duration = Duration::from_secs(1);

/// How many connections may wait to be accepted, as far as the kernel goes along. Clients that come at once are more than
/// the usual 128, and one that finds no place tries again after a second.
const WAITING: u32 = 4_096;

/// Takes an address, for [`Serving`] to serve.
///
/// # Errors
/// The address cannot be had.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A server that is started again finds connections of the one before in their last minute.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

/// What connections may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many there may be at once.
    pub connections: u32,
    /// How long a new one may be without a request.
    pub first_request: Duration,
    /// How long it may be without one later.
    pub keep_alive: Duration,
}

impl Bounds {
    /// So many connections, with the usual times.
    #[must_use]
    pub fn of(connections: u32) -> Bounds {
        Bounds {
            connections,
            first_request: FIRST_REQUEST,
            keep_alive: KEEP_ALIVE,
        }
    }

    fn at_the_end(self) -> Bounds {
        Bounds {
            first_request: FAREWELL,
            keep_alive: FAREWELL,
            ..self
        }
    }
}

/// Where a request came from; among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Among the extensions of a request that came by a connection beyond the bound: it may have health and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowded {
    /// The bound.
    pub connections: u32,
}

/// An address that is being served.
#[derive(Debug)]
pub struct Serving<S> {
    front: Front<S>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl<S, B> Serving<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Serves `starting` at the address of `listener`.
    #[must_use]
    pub fn begin(listener: TcpListener, starting: S, bounds: Bounds) -> Serving<S> {
        let (front, stop) = (Front::new(starting), CancellationToken::new());
        let accepting = accept(listener, front.clone(), bounds, stop.clone());
        Serving {
            front,
            stop,
            task: tokio::spawn(accepting),
        }
    }

    /// Serves `started` from now on.
    pub fn start(&self, started: S) {
        self.front.start(started);
    }

    /// Cancelled when no more requests are taken: what would be answered for ever ends then.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Takes no more requests, and ends when those that run have been answered.
    pub async fn end(self) {
        self.stop.cancel();
        drop(self.front);
        // Its only failure is a panic, which has been logged.
        let _ = self.task.await;
    }

    /// The same, where what has not been answered within `limit` is cut off.
    pub async fn end_within(self, limit: Duration) {
        if tokio::time::timeout(limit, self.end()).await.is_err() {
            tracing::warn!("requests did not end in time; they are cut off");
        }
    }
}

/// Accepts connections until `stop`, then waits for those there are.
async fn accept<S, B>(
    listener: TcpListener,
    front: Front<S>,
    bounds: Bounds,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut places = Places::new(bounds.connections);
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            let place = places.take().await;
            let (stream, peer) = accepted(&listener).await;
            let place = places.better(place);
            let connection = Connection {
                front: front.clone(),
                bounds,
                peer,
                crowded: place.crowded,
                stop: stop.clone(),
            };
            connections.spawn(async move {
                connection.serve(stream).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
    }
    // Whoever comes now is refused by the system, and asks another server.
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accepted(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Room for connections: so many, and a few beyond. When those are taken too, whoever comes waits to be accepted.
#[derive(Debug)]
struct Places {
    connections: u32,
    ordinary: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    was_crowded: bool,
}

/// Room for one; free again when dropped.
#[derive(Debug)]
struct Place {
    crowded: Option<Crowded>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    fn new(connections: u32) -> Places {
        let ordinary = usize::try_from(connections).unwrap_or(usize::MAX);
        Places {
            connections,
            ordinary: Arc::new(Semaphore::new(ordinary.min(Semaphore::MAX_PERMITS))),
            reserve: Arc::new(Semaphore::new(RESERVE)),
            was_crowded: false,
        }
    }

    async fn take(&self) -> Place {
        let (ordinary, reserve) = (Arc::clone(&self.ordinary), Arc::clone(&self.reserve));
        tokio::select! {
            biased;
            permit = ordinary.acquire_owned() => Place { crowded: None, _permit: permit.ok() },
            permit = reserve.acquire_owned() => Place {
                crowded: Some(Crowded { connections: self.connections }),
                _permit: permit.ok(),
            },
        }
    }

    /// An ordinary place instead of one beyond, where one has become free while nobody came.
    fn better(&mut self, place: Place) -> Place {
        let place = match Arc::clone(&self.ordinary).try_acquire_owned() {
            Ok(permit) if place.crowded.is_some() => Place {
                crowded: None,
                _permit: Some(permit),
            },
            _ => place,
        };
        let is_crowded = place.crowded.is_some();
        if is_crowded && !self.was_crowded {
            tracing::warn!(
                connections = self.connections,
                "there are as many connections as may be; others get health and metrics only"
            );
        }
        self.was_crowded = is_crowded;
        place
    }
}

/// A connection.
struct Connection<S> {
    front: Front<S>,
    bounds: Bounds,
    peer: SocketAddr,
    crowded: Option<Crowded>,
    stop: CancellationToken,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Until the peer closes it, or `stop`, or it has been without a request for too long.
    async fn serve(self, stream: TcpStream) {
        let usage = Arc::new(Usage::default());
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(self.peer));
            if let Some(crowded) = self.crowded {
                request.extensions_mut().insert(crowded);
            }
            let running = Usage::begin(&usage);
            let answering = self.front.clone().call(request);
            async move {
                let answer = answering.await?;
                Ok::<_, Infallible>(answer.map(|body| Counted::new(body, running)))
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        // A crowded connection makes room for the next.
        builder.http1().keep_alive(self.crowded.is_none());
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = usage.unused(self.bounds) => return,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection => served,
                    () = usage.unused(self.bounds.at_the_end()) => return,
                }
            }
        };
        if let Err(error) = served {
            // Peers that go away are no news.
            tracing::trace!(%error, peer = %self.peer, "a connection ended");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
