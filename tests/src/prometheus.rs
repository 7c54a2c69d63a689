//! A real Prometheus that scrapes given addresses once a second, and questions to it. It is the `prometheus` on the
//! path; it keeps its data in a temporary directory, listens on a port of its own and is killed when it is dropped.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::exposition::Labels;
use crate::process::client;

const START: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Another process may take a port between our asking for a free one and Prometheus listening there.
const TRIES: usize = 5;

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    client: reqwest::Client,
    targets: usize,
    directory: PathBuf,
}

/// A series of an answer, with its value at the time of the question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its labels, its name as `__name__`.
    pub labels: Labels,
    /// May be none (`NaN`).
    pub value: f64,
}

/// An exemplar that Prometheus keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The labels of its series.
    pub series: Labels,
    /// Its own, `trace_id` for example.
    pub labels: Labels,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(15)..];
            eprintln!("── prometheus ──\n{}", tail.join("\n"));
        }
        // It may be gone already.
        let _ = self.child.start_kill();
    }
}

impl Prometheus {
    /// Starts one with its data in `directory` that scrapes these addresses, each under the name of a job, and waits
    /// until it is ready.
    ///
    /// # Panics
    /// When there is none on the path, or it does not start.
    pub async fn start(directory: PathBuf, targets: &[(&str, SocketAddr)]) -> Self {
        write_configuration(&directory, targets);
        let client = client();
        for _ in 0..TRIES {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let mut started = Self {
                child: spawn(&directory, address),
                address,
                client: client.clone(),
                targets: targets.len(),
                directory: directory.clone(),
            };
            if started.become_ready().await {
                return started;
            }
        }
        let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
        panic!("prometheus does not start:\n{log}");
    }

    /// Whether it became ready; false where it ended.
    async fn become_ready(&mut self) -> bool {
        let until = Instant::now() + START;
        loop {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let ready = self.client.get(self.url("/-/ready")).send().await;
            if ready.is_ok_and(|reply| reply.status().is_success()) {
                return true;
            }
            assert!(Instant::now() < until, "prometheus does not become ready");
            tokio::time::sleep(POLL).await;
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until each target has been scraped so often from now on.
    ///
    /// # Panics
    /// When that takes too long, or a scrape fails.
    pub async fn wait_scrapes(&self, times: usize) {
        let until = Instant::now() + START;
        let before = self.scrapes().await;
        loop {
            let now = self.scrapes().await;
            let seen = now.iter().filter(|(target, count)| {
                **count >= before.get(*target).copied().unwrap_or_default() + times
            });
            if seen.count() == self.targets {
                break;
            }
            assert!(Instant::now() < until, "scraped {now:?}, before {before:?}");
            tokio::time::sleep(POLL).await;
        }
        let up = self.query("up").await.unwrap();
        assert!(up.iter().all(|answer| answer.value == 1.0), "{up:?}");
    }

    /// How often each target was scraped well.
    async fn scrapes(&self) -> BTreeMap<String, usize> {
        let answers = self.query("sum_over_time(up[1h])").await.unwrap();
        answers
            .into_iter()
            .map(|answer| {
                let count = crate::exposition::whole(answer.value);
                (
                    answer.labels["instance"].clone(),
                    usize::try_from(count).unwrap(),
                )
            })
            .collect()
    }

    /// Asks for an expression's value now: its series, or one without labels where it is a number.
    ///
    /// # Errors
    /// What Prometheus says is wrong with it.
    pub async fn query(&self, expression: &str) -> Result<Vec<Answer>, String> {
        let answer = self.ask("/api/v1/query", &[("query", expression)]).await?;
        let result = &answer["result"];
        match answer["resultType"].as_str() {
            Some("vector") => Ok(list(result)
                .iter()
                .map(|series| Answer {
                    labels: labels(&series["metric"]),
                    value: number(&series["value"][1]),
                })
                .collect()),
            Some("scalar") => Ok(vec![Answer {
                labels: Labels::new(),
                value: number(&result[1]),
            }]),
            other => Err(format!("a result of type {other:?}")),
        }
    }

    /// Asks until the answer is as wished.
    ///
    /// # Panics
    /// When it does not become so.
    pub async fn wait_query(
        &self,
        expression: &str,
        patience: Duration,
        wished: impl Fn(&[Answer]) -> bool,
    ) -> Vec<Answer> {
        let until = Instant::now() + patience;
        loop {
            let answers = self.query(expression).await.unwrap();
            if wished(&answers) {
                return answers;
            }
            assert!(
                Instant::now() < until,
                "after {patience:?} {expression} still gives {answers:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// The exemplars it keeps of the series that match.
    ///
    /// # Errors
    /// What Prometheus says is wrong with the expression.
    pub async fn exemplars(&self, expression: &str) -> Result<Vec<Kept>, String> {
        let hour_ago = format!("{}", chrono::Utc::now().timestamp() - 3_600);
        let in_an_hour = format!("{}", chrono::Utc::now().timestamp() + 3_600);
        let parameters = [
            ("query", expression),
            ("start", &hour_ago),
            ("end", &in_an_hour),
        ];
        let answer = self.ask("/api/v1/query_exemplars", &parameters).await?;
        let mut kept = Vec::new();
        for series in list(&answer) {
            for exemplar in list(&series["exemplars"]) {
                kept.push(Kept {
                    series: labels(&series["seriesLabels"]),
                    labels: labels(&exemplar["labels"]),
                });
            }
        }
        Ok(kept)
    }

    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let request = self.client.get(self.url(path)).query(parameters);
        let reply = request.send().await.map_err(|error| error.to_string())?;
        let mut answer: Value = reply.json().await.map_err(|error| error.to_string())?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(answer["error"].to_string()),
        }
    }
}

fn write_configuration(directory: &Path, targets: &[(&str, SocketAddr)]) {
    let mut text = String::from(
        "global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\nscrape_configs:\n",
    );
    for (job, address) in targets {
        text += &format!(
            "  - {{ job_name: {job}, static_configs: [ {{ targets: ['{address}'] }} ] }}\n"
        );
    }
    std::fs::write(directory.join("prometheus.yml"), text).unwrap();
}

fn spawn(directory: &Path, address: SocketAddr) -> Child {
    let log = std::fs::File::create(directory.join("log")).unwrap();
    Command::new("prometheus")
        .arg("--config.file=prometheus.yml")
        .arg("--storage.tsdb.path=data")
        .arg(format!("--web.listen-address={address}"))
        .arg("--enable-feature=exemplar-storage")
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("prometheus: {error}; run scripts/setup --tests"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn labels(value: &Value) -> Labels {
    let labels = value.as_object().into_iter().flatten();
    labels
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

fn number(value: &Value) -> f64 {
    match value.as_str().unwrap_or_default() {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap_or(f64::NAN),
    }
}
