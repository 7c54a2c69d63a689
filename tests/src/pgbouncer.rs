//! A real PgBouncer in transaction mode before a stack's database: the one that `scripts/setup --tests` fetched, the one
//! that `TASKER_PGBOUNCER` names, or the one on the path. It listens on a port of its own and is killed when it is dropped.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::process::{Child, Command};

use crate::until::until;

const START: Duration = Duration::from_secs(30);
/// Older ones know nothing of prepared statements in transaction mode.
const OLDEST: (u32, u32) = (1, 21);
/// Connections to PostgreSQL: fewer than processes have, so that they have to share.
const SERVER_CONNECTIONS: u32 = 5;

/// A running PgBouncer.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    url: String,
    log: PathBuf,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("── pgbouncer ──\n{log}");
        }
        // It may be gone already.
        let _ = self.child.start_kill();
    }
}

impl PgBouncer {
    /// Starts one before the database of `upstream`, its files in `directory`; `None`, said on standard error, where
    /// there is none that is new enough.
    pub async fn start(directory: &Path, upstream: &str) -> Option<Self> {
        let Some(program) = find().await else {
            eprintln!(
                "skipped: no PgBouncer of {}.{} or newer; scripts/setup --tests fetches one where it can",
                OLDEST.0, OLDEST.1
            );
            return None;
        };
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let options = PgConnectOptions::from_str(upstream).unwrap();
        let socket = options.get_socket().expect("it listens on a socket only");
        let file = directory.join("pgbouncer.ini");
        std::fs::write(&file, configuration(&options, socket, address)).unwrap();
        let log = directory.join("pgbouncer.log");
        // It refuses to run as root, and whoever owns the socket's directory may use it.
        let owner = std::fs::metadata(socket).unwrap();
        let mut command = Command::new(program);
        command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true);
        if rustix::process::geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let child = command.spawn().unwrap();
        until(START, async || {
            let connected = tokio::net::TcpStream::connect(address).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
        Some(Self {
            child,
            url: format!("postgres://anybody@{address}/tasker?sslmode=disable"),
            log,
        })
    }

    /// Where it leads to the database.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn configuration(options: &PgConnectOptions, socket: &Path, address: SocketAddr) -> String {
    format!(
        "[databases]\ntasker = host={} port={} dbname={} user={}\n\n\
         [pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = transaction\nmax_prepared_statements = 200\ndefault_pool_size = {SERVER_CONNECTIONS}\n",
        socket.display(),
        options.get_port(),
        options.get_database().unwrap_or("postgres"),
        options.get_username(),
        address.ip(),
        address.port(),
    )
}

async fn find() -> Option<PathBuf> {
    let builds = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let builds = builds.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let fetched = builds.join("pgbouncer/pgbouncer");
    let named = std::env::var_os("TASKER_PGBOUNCER").map(PathBuf::from);
    for program in named.into_iter().chain([fetched, "pgbouncer".into()]) {
        if is_new_enough(&program).await {
            return Some(program);
        }
    }
    None
}

async fn is_new_enough(program: &Path) -> bool {
    let Ok(said) = Command::new(program).arg("--version").output().await else {
        return false;
    };
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("PgBouncer "));
    let mut numbers = version
        .unwrap_or_default()
        .split('.')
        .map_while(|n| n.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(OLDEST.0), Some(OLDEST.1))
}
