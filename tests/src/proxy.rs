//! A TCP proxy between a process and PostgreSQL, whose line a test makes worse while it is in use: it stalls, slows
//! down, falls silent, is cut or refuses, and says how much that struck. What PostgreSQL does with a connection that it
//! still has is its own affair.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What is passed on at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// How the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Everything passes.
    Passing,
    /// Nothing passes, in either direction; it is held and passes later. Connections are taken and hear nothing.
    Stalled,
    /// Each chunk waits, and then takes its time.
    Slowed {
        /// How long each waits.
        latency: Duration,
        /// How fast it is then.
        bytes_per_second: u32,
    },
    /// What was connected is cut, and whoever connects is cut off at once.
    Refusing,
}

/// A running proxy. Dropping it ends its tasks and every connection through it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    /// Counts the cuts: a connection lives for as long as there is no new one.
    cuts: watch::Sender<u64>,
    /// Counts the silences: a connection passes something for as long as there is no new one.
    silences: watch::Sender<u64>,
    struck: Arc<AtomicUsize>,
    listening: AbortHandle,
}

impl Proxy {
    /// Listens on a port of its own, and passes everything to PostgreSQL's Unix socket in that directory.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(socket_directory: &Path, port: u16) -> Self {
        Self::to(socket_directory.join(format!(".s.PGSQL.{port}"))).await
    }

    /// The same to any Unix socket.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn to(upstream: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, seen) = watch::channel(Line::Passing);
        let (cuts, cut) = watch::channel(0);
        let (silences, silent) = watch::channel(0);
        let struck = Arc::<AtomicUsize>::default();
        let route = Route {
            upstream,
            line: seen,
            cuts: cut,
            silences: silent,
            struck: Arc::clone(&struck),
        };
        let listening = tokio::spawn(listen(listener, route)).abort_handle();
        Self {
            address,
            line,
            cuts,
            silences,
            struck,
            listening,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How much was struck since the beginning: connections that were cut, silenced or refused, and pieces that were
    /// held or slowed.
    #[must_use]
    pub fn struck(&self) -> usize {
        self.struck.load(Ordering::Relaxed)
    }

    /// Makes the line so, from now on.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
        if line == Line::Refusing {
            self.cut();
        }
    }

    /// Passes nothing more on what is connected, and says so to nobody, as when a host is gone; whoever connects anew
    /// gets through if the line lets him.
    pub fn silence(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }

    /// Cuts what is connected; whoever connects anew gets through if the line lets him.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// What a connection is passed to, and what becomes of it.
#[derive(Debug, Clone)]
struct Route {
    upstream: PathBuf,
    line: watch::Receiver<Line>,
    cuts: watch::Receiver<u64>,
    silences: watch::Receiver<u64>,
    struck: Arc<AtomicUsize>,
}

/// Takes connections until it is aborted, which drops the set and so ends them all.
async fn listen(listener: TcpListener, route: Route) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => {
                // One that has gone again, or no file descriptor left: the next may be better.
                let Ok((client, _)) = taken else { continue };
                match *route.line.borrow() {
                    Line::Refusing => route.strike(),
                    _ => drop(connections.spawn(route.clone().pass(client))),
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Route {
    fn strike(&self) {
        self.struck.fetch_add(1, Ordering::Relaxed);
    }

    /// One connection, until either side ends it or it is cut.
    async fn pass(self, client: TcpStream) {
        let (mut cuts, mut silences) = (self.cuts.clone(), self.silences.clone());
        cuts.mark_unchanged();
        silences.mark_unchanged();
        let server = tokio::select! {
            server = connect(&self.upstream, self.line.clone()) => server,
            _ = cuts.changed() => None,
        };
        let Some(server) = server else { return };
        // A client that has gone again is noticed when it is read from.
        let _ = client.set_nodelay(true);
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        tokio::select! {
            _ = self.pump(&mut from_client, &mut to_server) => return,
            _ = self.pump(&mut from_server, &mut to_client) => return,
            Ok(()) = cuts.changed() => return self.strike(),
            Ok(()) = silences.changed() => self.strike(),
        }
        // Both ends stay open and hear nothing, until the client gives up.
        let mut nowhere = tokio::io::sink();
        tokio::select! {
            _ = tokio::io::copy(&mut from_client, &mut nowhere) => {}
            _ = cuts.changed() => {}
        }
    }

    /// Passes on what comes, as the line is when it has come.
    async fn pump(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> std::io::Result<()> {
        let mut line = self.line.clone();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = from.read(&mut chunk).await?;
            if length == 0 {
                return Ok(());
            }
            if *line.borrow() == Line::Stalled {
                self.strike();
            }
            let slowed = match line
                .wait_for(|line| *line != Line::Stalled)
                .await
                .as_deref()
            {
                Ok(&Line::Slowed {
                    latency,
                    bytes_per_second,
                }) => {
                    let rate = f64::from(bytes_per_second.max(1));
                    let seconds = f64::from(u32::try_from(length).unwrap_or(u32::MAX)) / rate;
                    Some(latency + Duration::from_secs_f64(seconds))
                }
                _ => None,
            };
            if let Some(pause) = slowed {
                self.strike();
                tokio::time::sleep(pause).await;
            }
            to.write_all(&chunk[..length]).await?;
        }
    }
}

/// Connects when the line lets it.
async fn connect(upstream: &Path, mut line: watch::Receiver<Line>) -> Option<UnixStream> {
    line.wait_for(|line| *line != Line::Stalled).await.ok()?;
    UnixStream::connect(upstream).await.ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::AsyncBufReadExt;
    use tokio::net::UnixListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A proxy before a server that sends back what it is sent.
    async fn proxy() -> (Proxy, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join(".s.PGSQL.1")).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        (Proxy::start(directory.path(), 1).await, directory)
    }

    /// Sends a line and waits for it to come back.
    async fn echo(stream: &mut TcpStream) -> std::io::Result<String> {
        stream.write_all(b"word\n").await?;
        heard(stream).await
    }

    async fn heard(stream: &mut TcpStream) -> std::io::Result<String> {
        let mut line = String::new();
        tokio::io::BufReader::new(stream)
            .read_line(&mut line)
            .await?;
        Ok(line)
    }

    #[tokio::test]
    async fn what_a_line_held_while_it_stalled_passes_when_it_does_so_again() {
        let (proxy, _directory) = proxy().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(echo(&mut stream).await.unwrap(), "word\n");
        proxy.set(Line::Stalled);
        stream.write_all(b"held\n").await.unwrap();
        let nothing = tokio::time::timeout(SOON, stream.readable()).await;
        assert!(nothing.is_err());
        proxy.set(Line::Passing);
        assert_eq!(heard(&mut stream).await.unwrap(), "held\n");
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_connected_and_a_refusal_also_what_comes_later() {
        let (proxy, _directory) = proxy().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(echo(&mut stream).await.unwrap(), "word\n");
        proxy.cut();
        assert!(heard(&mut stream).await.is_ok_and(|line| line.is_empty()));
        assert_eq!(proxy.struck(), 1);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(echo(&mut stream).await.unwrap(), "word\n");

        proxy.set(Line::Refusing);
        assert_ne!(echo(&mut stream).await.unwrap_or_default(), "word\n");
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert_ne!(echo(&mut refused).await.unwrap_or_default(), "word\n");
        proxy.set(Line::Passing);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(echo(&mut stream).await.unwrap(), "word\n");
    }

    #[tokio::test]
    async fn a_silenced_connection_stays_open_and_a_new_one_passes() {
        let (proxy, _directory) = proxy().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(echo(&mut stream).await.unwrap(), "word\n");
        proxy.silence();
        let nothing = tokio::time::timeout(SOON, echo(&mut stream)).await;
        assert!(nothing.is_err());
        let mut other = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(echo(&mut other).await.unwrap(), "word\n");
    }

    #[tokio::test]
    async fn a_slowed_line_takes_at_least_its_time_in_both_directions() {
        let (proxy, _directory) = proxy().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let latency = Duration::from_millis(50);
        proxy.set(Line::Slowed {
            latency,
            bytes_per_second: 100,
        });
        let began = Instant::now();
        let said = tokio::time::timeout(PATIENCE, echo(&mut stream)).await;
        assert_eq!(said.unwrap().unwrap(), "word\n");
        // Five bytes at a hundred a second, there and back.
        assert!(began.elapsed() >= 2 * (latency + Duration::from_millis(50)));
    }
}
