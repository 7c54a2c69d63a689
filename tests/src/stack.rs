//! A whole Tasker: database, servers, workers, and talking to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;
use std::str::FromStr;

use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tasker_shared::embedded::Temporary;
use tasker_shared::machine;

use crate::process::{Plan, Process, client, command};
use crate::proxy::Proxy;

/// The program of servers, workers and commands.
const TASKER: &str = "tasker";
/// Nothing of a test stays behind that was killed: its processes end with it. Programs of this package do by themselves.
const WITH_US: &str = "--exit-with-parent";

/// What a stack is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many servers; requests go to the first.
    pub servers: usize,
    /// How many workers.
    pub workers: usize,
    /// Templates loaded by the servers when they start, as YAML.
    pub templates: Vec<String>,
    /// Configuration of every process, by key, for example `worker.lease_ms`.
    pub configuration: Vec<(String, String)>,
    /// Other environment variables of every process.
    pub environment: Vec<(String, String)>,
    /// Settings of PostgreSQL.
    pub postgres: Vec<(String, String)>,
    /// Whether PostgreSQL flushes to disk; needed only where that is what is measured.
    pub durable: bool,
    /// Whether each process reaches PostgreSQL through a [`Proxy`] and follows a clock of its own, both of which a
    /// test may meddle with.
    pub meddled: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            servers: 1,
            workers: 1,
            templates: Vec::new(),
            configuration: Vec::new(),
            environment: Vec::new(),
            postgres: Vec::new(),
            durable: false,
            meddled: false,
        }
    }
}

impl Setup {
    /// Sets a key of the configuration in every process.
    #[must_use]
    pub fn configure(mut self, key: &str, value: impl ToString) -> Self {
        self.configuration.push((key.to_owned(), value.to_string()));
        self
    }

    /// Sends telemetry to this endpoint, metrics every second.
    #[must_use]
    pub fn export_to(self, endpoint: &str) -> Self {
        self.configure("telemetry.opentelemetry.enabled", true)
            .configure("telemetry.opentelemetry.endpoint", endpoint)
            .configure("telemetry.opentelemetry.export_interval_seconds", 1)
    }

    /// Starts it and waits until every process is ready.
    pub async fn start(self) -> Stack {
        Stack::with(self).await
    }
}

/// A running Tasker. The processes are killed before the database goes.
#[derive(Debug)]
pub struct Stack {
    servers: Vec<Process>,
    workers: Vec<Process>,
    pool: PgPool,
    client: reqwest::Client,
    setup: Setup,
    directory: PathBuf,
    /// By the process's name, where they are meddled with.
    lines: BTreeMap<String, Proxy>,
    postgres: Temporary,
}

impl Stack {
    /// One server and one worker on an empty database.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// Starts what is asked for and waits until every process is ready.
    pub async fn with(setup: Setup) -> Self {
        let settings: Vec<(&str, &str)> = setup
            .postgres
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let postgres = Temporary::start_with(&settings, setup.durable)
            .await
            .unwrap();
        let directory = postgres.directory("stack").unwrap();
        let templates = postgres.directory("templates").unwrap();
        for (number, template) in setup.templates.iter().enumerate() {
            std::fs::write(templates.join(format!("{number}.yaml")), template).unwrap();
        }
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy(postgres.url())
            .unwrap();
        let (servers, workers) = (setup.servers, setup.workers);
        let mut stack = Self {
            servers: Vec::new(),
            workers: Vec::new(),
            pool,
            client: client(),
            setup,
            directory,
            lines: BTreeMap::new(),
            postgres,
        };
        for _ in 0..servers {
            stack.add_server().await;
        }
        for _ in 0..workers {
            stack.add_worker(&[]).await;
        }
        stack
    }

    /// Sets an environment variable of the processes that are started from now on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.setup
            .environment
            .push((name.to_owned(), value.to_owned()));
    }

    /// Starts one more server.
    pub async fn add_server(&mut self) -> &mut Process {
        let templates = self
            .postgres
            .directory("templates")
            .unwrap()
            .display()
            .to_string();
        let name = format!("server-{}", self.servers.len() + 1);
        let plan = self
            .plan(
                name,
                TASKER,
                &["server", WITH_US, "--templates", &templates],
            )
            .await;
        self.servers.push(Process::start(plan).await);
        self.servers.last_mut().unwrap()
    }

    /// Starts one more worker, with these arguments besides its address.
    pub async fn add_worker(&mut self, arguments: &[&str]) -> &mut Process {
        let name = format!("worker-{}", self.workers.len() + 1);
        let plan = self
            .plan(name, TASKER, &[&["worker", WITH_US], arguments].concat())
            .await;
        self.workers.push(Process::start(plan).await);
        self.workers.last_mut().unwrap()
    }

    /// Starts one more worker, the program `tests/src/bin/faulty.rs`, whose handlers do what built-in ones do not.
    pub async fn add_faulty_worker(&mut self) -> &mut Process {
        self.add_worker_of("faulty").await
    }

    /// Starts one more worker, a program of this package that is started as `tasker worker` is.
    pub async fn add_worker_of(&mut self, program: &'static str) -> &mut Process {
        let name = format!("worker-{}", self.workers.len() + 1);
        let plan = self.plan(name, program, &[]).await;
        self.workers.push(Process::start(plan).await);
        self.workers.last_mut().unwrap()
    }

    async fn plan(&mut self, name: String, program: &'static str, arguments: &[&str]) -> Plan {
        let variable = |key: &str| format!("TASKER__{}", key.to_uppercase().replace('.', "__"));
        let database = match self.setup.meddled {
            true => self.lay_line(&name).await,
            false => self.postgres.url().to_owned(),
        };
        let mut variables = vec![
            ("DATABASE_URL".to_owned(), database),
            (variable("logging.format"), "text".to_owned()),
            // Nobody receives it but where a test says who.
            (
                variable("telemetry.opentelemetry.enabled"),
                "false".to_owned(),
            ),
        ];
        variables.extend(self.setup.environment.iter().cloned());
        variables.extend(
            self.setup
                .configuration
                .iter()
                .map(|(key, value)| (variable(key), value.clone())),
        );
        if self.setup.meddled {
            let file = self.clock_file(&name).display().to_string();
            variables.push(("TASKER_CLOCK_OFFSET_FILE".to_owned(), file));
        }
        let arguments = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        Plan {
            name,
            program,
            arguments,
            variables,
            directory: self.directory.clone(),
        }
    }

    /// Lays a line of the process's own to PostgreSQL, and answers the URL at its end.
    async fn lay_line(&mut self, name: &str) -> String {
        let options = PgConnectOptions::from_str(self.postgres.url()).unwrap();
        let socket = options.get_socket().expect("it listens on a socket only");
        let line = Proxy::start(socket, options.get_port()).await;
        let (user, database) = (options.get_username(), options.get_database());
        let url = format!(
            "postgres://{user}@{}/{}?sslmode=disable",
            line.address(),
            database.unwrap_or(user)
        );
        self.lines.insert(name.to_owned(), line);
        url
    }

    /// The line of a process that is meddled with to PostgreSQL.
    #[must_use]
    pub fn line(&self, process: &str) -> &Proxy {
        &self.lines[process]
    }

    /// Puts the clock of a process that is meddled with forward, or back, by that much; 0 puts it right.
    pub fn step_clock(&self, process: &str, by_ms: i64) {
        let file = self.clock_file(process);
        // Moved into place, so that a process reads either the old text or the new.
        let part = file.with_extension("part");
        std::fs::write(&part, by_ms.to_string()).unwrap();
        std::fs::rename(part, file).unwrap();
    }

    fn clock_file(&self, process: &str) -> PathBuf {
        self.directory.join(format!("{process}.clock"))
    }

    /// The first server.
    pub fn server(&mut self) -> &mut Process {
        self.servers.first_mut().expect("this stack has a server")
    }

    /// All servers.
    pub fn servers(&mut self) -> &mut [Process] {
        &mut self.servers
    }

    /// The first worker.
    pub fn worker(&mut self) -> &mut Process {
        self.workers.first_mut().expect("this stack has a worker")
    }

    /// All workers.
    pub fn workers(&mut self) -> &mut [Process] {
        &mut self.workers
    }

    /// Every process that was started, with whether it is a `server` or a `worker`.
    pub fn processes(&self) -> impl Iterator<Item = (&'static str, &Process)> {
        let servers = self.servers.iter().map(|server| ("server", server));
        servers.chain(self.workers.iter().map(|worker| ("worker", worker)))
    }

    /// Seconds of processor time that everything here has used so far: the processes and the database's.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let own = self.processes().map(|(_, process)| process.pid());
        let own: f64 = own.filter_map(machine::cpu_seconds).sum();
        own + machine::postgres_cpu_seconds(self.postgres.pid()).unwrap()
    }

    /// The database's server, to kill and restart.
    pub fn postgres(&mut self) -> &mut Temporary {
        &mut self.postgres
    }

    /// What the database's server has logged, as a file.
    #[must_use]
    pub fn postgres_log(&self) -> PathBuf {
        self.postgres.log()
    }

    /// Kills the database's server with SIGKILL, and waits until nothing of it is left.
    pub async fn kill_postgres_9(&mut self) {
        let pid = i32::try_from(self.postgres.pid())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(pid.unwrap(), Signal::KILL).unwrap();
        self.postgres.ended().await.unwrap();
    }

    /// Connections to the database.
    #[must_use]
    pub fn sql(&self) -> &PgPool {
        &self.pool
    }

    /// The URL of the database.
    #[must_use]
    pub fn database_url(&self) -> &str {
        self.postgres.url()
    }

    /// A directory for a test's own files, which goes with the stack.
    #[must_use]
    pub fn directory(&self, name: &str) -> PathBuf {
        self.postgres.directory(name).unwrap()
    }

    /// An HTTP client that knows no proxy.
    #[must_use]
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// The URL of a path of the first server.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        self.servers
            .first()
            .expect("this stack has a server")
            .url(path)
    }

    /// Sends a request to the first server; the answer's body is null where it is not JSON.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let mut request = self.client.request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = request.send().await.unwrap();
        let status = reply.status();
        let text = reply.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// Reads what must be there.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    /// Runs a command of `tasker` against the first server and waits for it.
    pub async fn tasker(&self, arguments: &[&str]) -> Output {
        command(TASKER, &self.directory)
            .args(arguments)
            .env("TASKER_URL", self.url(""))
            .env("DATABASE_URL", self.database_url())
            .output()
            .await
            .unwrap()
    }

    /// Sends a template, which must be accepted.
    pub async fn apply_template(&self, yaml: &str) {
        let request = self.client.post(self.url("/v1/templates"));
        let request = request
            .header("content-type", "application/yaml")
            .body(yaml.to_owned());
        let reply = request.send().await.unwrap();
        let status = reply.status();
        let body = reply.text().await.unwrap();
        assert!(status.is_success(), "template refused: {status} {body}");
    }
}
