//! One connection to a server, over which one request follows the other: a client that takes as little of the processors
//! as can be, since it shares them with what it measures.

use std::error::Error;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::stage::REQUEST;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why there is no answer.
pub(super) type Silence = Box<dyn Error + Send + Sync>;

/// A connection that is opened for its first request, and anew where the server has closed it.
#[derive(Debug)]
pub(super) struct Connection {
    address: SocketAddr,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(super) fn to(address: SocketAddr) -> Connection {
        Connection {
            address,
            open: None,
        }
    }

    /// Posts JSON; the answer is read to its end, so the next request may follow.
    pub(super) async fn post(
        &mut self,
        path: &'static str,
        json: String,
    ) -> Result<Response<Bytes>, Silence> {
        let answer = tokio::time::timeout(REQUEST, self.ask(path, json)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer after {} s", REQUEST.as_secs()).into()))
    }

    async fn ask(&mut self, path: &'static str, json: String) -> Result<Response<Bytes>, Silence> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, JSON)
            .body(Full::from(json))?;
        let mut sender = self.sender().await?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        // Kept only now: what came later over one that failed would answer nothing any more.
        self.open = Some(sender);
        Ok(Response::from_parts(head, body))
    }

    async fn sender(&mut self) -> Result<SendRequest<Full<Bytes>>, Silence> {
        if let Some(mut sender) = self.open.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        connect(self.address).await
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Silence> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender, which is told what goes wrong.
    tokio::spawn(connection);
    Ok(sender)
}
