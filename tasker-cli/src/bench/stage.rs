//! The processes under measurement: a server and workers, the very program that measures, as anybody would start them.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tasker_shared::machine;
use tokio::process::{Child, Command};

use super::ground::Ground;
use super::shape::Graph;
use crate::failure::Failure;
use crate::process::ADDRESS_FILE;

/// How long a process may take to become ready, and to end.
const START: Duration = Duration::from_secs(90);
const END: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// How long a process may take to answer a request.
pub(super) const REQUEST: Duration = Duration::from_secs(60);
const LOG_TAIL_LINES: usize = 15;
/// What a configuration allows a task by itself.
const USUAL_STEPS: u64 = 10_002;

/// What to start.
#[derive(Debug, Clone, Default)]
pub(super) struct Cast {
    pub(super) workers: usize,
    /// Steps that each worker runs at once, where not as configured.
    pub(super) concurrency: Option<u32>,
    /// The only namespace that is served, where not all are.
    pub(super) namespace: Option<&'static str>,
}

/// A server and its workers. Dropped, they are killed.
#[derive(Debug)]
pub(super) struct Stage {
    server: Process,
    workers: Vec<Process>,
    http: reqwest::Client,
}

#[derive(Debug)]
struct Process {
    name: String,
    child: Child,
    pid: u32,
    address: SocketAddr,
    log: PathBuf,
}

impl Stage {
    /// Starts them and waits until all can take work; the server knows the graph then.
    pub(super) async fn start(
        ground: &Ground,
        cast: &Cast,
        graph: Option<Graph>,
    ) -> Result<Stage, Failure> {
        // Fails where a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(REQUEST)
            .build()
            .map_err(|source| Failure::setup("cannot set up HTTP", source))?;
        let steps = graph.map_or(0, |graph| graph.shape.steps());
        let arguments = ["server".to_owned()];
        let mut stage = Stage {
            server: Process::start(ground, "server", &arguments, steps, &http).await?,
            workers: Vec::new(),
            http,
        };
        if let Some(graph) = graph {
            stage.apply(graph).await?;
        }
        for _ in 0..cast.workers {
            stage.add_worker(ground, cast, steps).await?;
        }
        Ok(stage)
    }

    /// Starts one more worker.
    pub(super) async fn add_worker(
        &mut self,
        ground: &Ground,
        cast: &Cast,
        steps: u64,
    ) -> Result<(), Failure> {
        let mut arguments = vec!["worker".to_owned()];
        if let Some(concurrency) = cast.concurrency {
            arguments.extend(["--concurrency".to_owned(), concurrency.to_string()]);
        }
        if let Some(namespace) = cast.namespace {
            arguments.extend(["--namespace".to_owned(), namespace.to_owned()]);
        }
        let name = format!("worker-{}", self.workers.len() + 1);
        let worker = Process::start(ground, &name, &arguments, steps, &self.http).await?;
        self.workers.push(worker);
        Ok(())
    }

    /// Stores a template; the very same may be there already.
    pub(super) async fn apply(&self, graph: Graph) -> Result<(), Failure> {
        let request = self
            .http
            .post(self.url("/v1/templates"))
            .header("content-type", "application/yaml")
            .body(graph.template());
        let answer = request.send().await.map_err(|source| self.silent(source))?;
        let status = answer.status();
        let body = answer.text().await.map_err(|source| self.silent(source))?;
        match status.is_success() {
            true => Ok(()),
            false => Err(Failure::refused(status, body)),
        }
    }

    /// Where the server listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// The URL of a path of the server.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    /// The client that everything is asked with.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The server did not answer.
    pub(super) fn silent(&self, source: reqwest::Error) -> Failure {
        Failure::Unreachable {
            url: self.url(""),
            source,
        }
    }

    /// The server's process.
    pub(super) fn server(&self) -> u32 {
        self.server.pid
    }

    /// The workers' processes.
    pub(super) fn workers(&self) -> impl Iterator<Item = u32> {
        self.workers.iter().map(|worker| worker.pid)
    }

    /// How many steps the workers have handed to handlers, by their own count; nothing where they do not count.
    pub(super) async fn handler_runs(&self) -> Result<Option<u64>, Failure> {
        let mut runs = None;
        for worker in &self.workers {
            let url = format!("http://{}/metrics", worker.address);
            let answer = self.http.get(url).send().await;
            let text = match answer.and_then(reqwest::Response::error_for_status) {
                Ok(answer) => answer.text().await,
                Err(error) => Err(error),
            };
            let text = text.map_err(|source| self.silent(source))?;
            if let Some(found) = sum(&text, "tasker_steps_claimed_total") {
                runs = Some(runs.unwrap_or(0) + found);
            }
        }
        Ok(runs)
    }

    /// Fails where a process has ended.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        let processes = self.workers.iter_mut().chain([&mut self.server]);
        for process in processes {
            if let Ok(Some(status)) = process.child.try_wait() {
                let text = format!(
                    "the {} ended with {status}:\n{}",
                    process.name,
                    process.tail()
                );
                return Err(Failure::Verdict(text));
            }
        }
        Ok(())
    }

    /// What the processes said last, where something went wrong.
    pub(super) fn last_words(&self) -> String {
        let processes = self.workers.iter().chain([&self.server]);
        let told = processes.map(|process| format!("{}:\n{}", process.name, process.tail()));
        told.collect::<Vec<_>>().join("\n")
    }

    /// Ends them, workers first; whoever does not end by itself is killed, which is a failure.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        for process in self.workers.iter_mut().chain([&mut self.server]) {
            process.stop().await?;
        }
        Ok(())
    }
}

impl Process {
    async fn start(
        ground: &Ground,
        name: &str,
        arguments: &[String],
        steps: u64,
        http: &reqwest::Client,
    ) -> Result<Process, Failure> {
        let cannot = |source| Failure::setup(format!("cannot start the {name}"), source);
        let address_file = ground.file(&format!("{name}.address"));
        // Left from a process before, it would tell an address of the past.
        let _ = std::fs::remove_file(&address_file);
        let log = ground.file(&format!("{name}.log"));
        let output = File::create(&log).map_err(cannot)?;
        let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
        command
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--exit-with-parent"])
            .envs(ground.variables())
            .env(ADDRESS_FILE, &address_file)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().map_err(cannot)?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        if steps > USUAL_STEPS {
            command.env("TASKER__LIMITS__MAX_STEPS_PER_TASK", steps.to_string());
        }
        let child = command.spawn().map_err(cannot)?;
        let mut process = Process {
            name: name.to_owned(),
            pid: child.id().unwrap_or_default(),
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
        };
        process.become_ready(&address_file, http).await?;
        Ok(process)
    }

    async fn become_ready(
        &mut self,
        file: &PathBuf,
        http: &reqwest::Client,
    ) -> Result<(), Failure> {
        let until = Instant::now() + START;
        loop {
            let told = std::fs::read_to_string(file).unwrap_or_default();
            if let Ok(address) = told.trim().parse() {
                self.address = address;
                let url = format!("http://{address}/health/ready");
                let answer = http.get(url).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(());
                }
            }
            let what = match self.child.try_wait() {
                Ok(Some(status)) => format!("ended with {status} instead of becoming ready"),
                _ if Instant::now() > until => {
                    format!("is not ready after {} s", START.as_secs())
                }
                _ => {
                    tokio::time::sleep(POLL).await;
                    continue;
                }
            };
            return Err(Failure::Usage(format!(
                "the {} {what}:\n{}",
                self.name,
                self.tail()
            )));
        }
    }

    async fn stop(&mut self) -> Result<(), Failure> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| machine::is_alive(self.pid)) {
            // It may have ended this very moment.
            let _ = kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(END, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::Verdict(format!(
                "the {} ended with {status}:\n{}",
                self.name,
                self.tail()
            ))),
            Ok(Err(source)) => Err(Failure::setup(
                format!("cannot end the {}", self.name),
                source,
            )),
            Err(_) => Err(Failure::Verdict(format!(
                "the {} does not end:\n{}",
                self.name,
                self.tail()
            ))),
        }
    }

    fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_TAIL_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

/// All series of a counter together, in the text that Prometheus reads.
fn sum(text: &str, metric: &str) -> Option<u64> {
    let of_metric = |line: &str| {
        let rest = line.strip_prefix(metric)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse::<f64>().ok()
    };
    let values: Vec<f64> = text.lines().filter_map(of_metric).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>().round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_metric_are_added_and_those_of_others_are_not() {
        let text = "# TYPE a_total counter\na_total{x=\"}\"} 2\na_total{x=\"b c\"} 3.0\na_total_more{x=\"\"} 50\n";
        assert_eq!(sum(text, "a_total"), Some(5));
        assert_eq!(sum("b_total 7\n", "b_total"), Some(7));
        assert_eq!(sum(text, "nothing"), None);
    }
}
