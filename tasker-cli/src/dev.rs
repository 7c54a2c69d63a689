//! `tasker dev`: a PostgreSQL of its own, a server and workers as child processes, started in that order
//! and stopped in the opposite one. The children hold a pipe of this process and end when it is gone.

mod child;
mod console;
mod data;
mod database;
mod ports;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tasker_shared::{config::LogFormat, logging};

use crate::failure::Failure;
use crate::process::{self, Signals};

use child::{Child, Role};
use console::Console;
use data::Data;
use database::Database;

/// What `tasker dev` was asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) port: u16,
    pub(crate) data: PathBuf,
    pub(crate) templates: Option<PathBuf>,
    pub(crate) workers: u16,
    pub(crate) reset: bool,
    pub(crate) database_url: Option<String>,
}

/// Runs until it is told to end, or cannot start.
pub(crate) async fn run(wanted: Wanted) -> Result<(), Failure> {
    let configured = process::configuration(&[])?;
    logging::init(LogFormat::Auto, "warn")
        .map_err(|source| Failure::setup("cannot set up logging", source))?;
    let mut signals = Signals::listen()?;
    let console = Console::new();
    let grace = Grace::of(&configured.config);

    let mut stack = Stack::new(console.clone(), grace);
    let started = tokio::select! {
        started = stack.start(&wanted) => Some(started),
        _ = signals.next() => None,
    };
    if let Some(Ok(())) = started {
        console.print(&stack.banner(&wanted));
        signals.next().await;
    }
    if stack.server.is_some() {
        console.say("stopping; once more to stop at once");
    }
    tokio::select! {
        () = stack.stop() => {}
        _ = signals.next() => stack.kill().await,
    }
    started.unwrap_or(Ok(()))
}

/// How long processes may take to end.
#[derive(Debug, Clone, Copy)]
struct Grace {
    server: Duration,
    worker: Duration,
}

impl Grace {
    /// What the configuration allows them, and a margin for ending itself.
    fn of(config: &tasker_shared::config::Config) -> Grace {
        const MARGIN: Duration = Duration::from_secs(5);
        let server = config.server.drain_delay_ms + config.server.shutdown_timeout_ms;
        Grace {
            server: Duration::from_millis(server) + MARGIN,
            worker: Duration::from_millis(config.worker.drain_timeout_ms) + MARGIN,
        }
    }
}

/// Everything that was started so far.
#[derive(Debug)]
struct Stack {
    console: Console,
    grace: Grace,
    data: Option<Data>,
    database: Option<Database>,
    server: Option<Child>,
    workers: Vec<Child>,
}

impl Stack {
    fn new(console: Console, grace: Grace) -> Stack {
        Stack {
            console,
            grace,
            data: None,
            database: None,
            server: None,
            workers: Vec::new(),
        }
    }

    async fn start(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        let data = Data::open(&wanted.data)?;
        // Where the data is in use as well, that is what the database is about to say.
        if wanted.database_url.is_some() || !data.is_in_use() {
            ports::free(wanted.port, wanted.workers, &data, &self.console).await?;
        }
        let database = match &wanted.database_url {
            Some(url) => Database::given(url),
            None => Database::start(&data, wanted.reset, self.console.clone()).await?,
        };
        let variables = database.variables();
        self.database = Some(database);
        data.mark_running()?;
        let runs = data.runs()?;
        self.data = Some(data);

        let address_of = |number: u16| match wanted.port {
            0 => Ok(loopback(0)),
            port => port.checked_add(number).map(loopback).ok_or_else(|| {
                Failure::Usage(format!("there are no {} ports from {port} on", number + 1))
            }),
        };
        let role = |name: String, kind: &str, address: SocketAddr| Role {
            address_file: runs.join(format!("{name}.address")),
            name,
            arguments: vec![kind.to_owned(), "--exit-with-parent".to_owned()],
            variables: variables.clone(),
            address,
        };
        let mut server = role("server".to_owned(), "server", address_of(0)?);
        if let Some(templates) = &wanted.templates {
            server.arguments.push("--templates".to_owned());
            server.arguments.push(templates.display().to_string());
        }
        self.server = Some(Child::start(
            server,
            self.grace.server,
            self.console.clone(),
        )?);
        if let Some(server) = &mut self.server {
            let address = server.ready().await?;
            process::tell_address(address)?;
        }
        for number in 1..=wanted.workers {
            let worker = role(format!("worker-{number}"), "worker", address_of(number)?);
            let worker = Child::start(worker, self.grace.worker, self.console.clone())?;
            self.workers.push(worker);
        }
        for worker in &mut self.workers {
            worker.ready().await?;
        }
        Ok(())
    }

    /// Workers first, so that what they have done still reaches the server; PostgreSQL last.
    async fn stop(&mut self) {
        let workers = self.workers.iter_mut().map(Child::stop);
        futures::future::join_all(workers).await;
        if let Some(server) = &mut self.server {
            server.stop().await;
        }
        if let Some(database) = &mut self.database {
            database.stop().await;
        }
        if let Some(data) = &self.data {
            data.mark_stopped();
        }
    }

    /// As [`Stack::stop`] without waiting for what they do.
    async fn kill(&mut self) {
        for child in self.workers.iter_mut().chain(&mut self.server) {
            child.kill().await;
        }
        self.stop().await;
    }

    fn banner(&self, wanted: &Wanted) -> String {
        let url = |child: &Child| format!("http://{}", child.address());
        let server = self.server.as_ref().map(url).unwrap_or_default();
        let workers: Vec<String> = self.workers.iter().map(url).collect();
        let place = match server.as_str() {
            "http://127.0.0.1:8080" => String::new(),
            other => format!(" --url {other}"),
        };
        let database = self.database.as_ref().map(Database::description);
        let demo = format!("tasker demo{place}");
        let submit =
            format!("tasker task submit NAME --namespace NS --context '{{…}}' --wait{place}");
        format!(
            "\nTasker is running.\n\n  \
             API       {server}   documented at {server}/api-docs/ui\n  \
             Workers   {}\n  \
             Database  {}\n  \
             Data      {}\n\n  \
             Try       {demo}\n            \
             tasker template apply FILE{place}\n            \
             {submit}\n\n\
             Ctrl-C stops everything.\n",
            workers.join(", "),
            database.unwrap_or_default(),
            wanted.data.display(),
        )
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
