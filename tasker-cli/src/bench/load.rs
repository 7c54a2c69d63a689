//! Tasks asked for: in batches, one request each, or in SQL.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tasker_shared::db::measure;
use tasker_shared::wire::TaskBatchResponse;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::connection::Connection;
use super::ground::{Ground, asked};
use super::shape::Graph;
use super::stage::Stage;
use crate::failure::Failure;

/// What a server takes in one request as it is configured by itself.
const BATCH: u64 = 1_000;
/// How long a server that is busy is asked again.
const BUSY: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// The way tasks are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Via {
    /// A request each.
    Rest,
    /// A thousand a request.
    Batch,
    /// `tasker.submit_task`, a thousand a transaction.
    Sql,
}

/// Tasks of one graph, with contexts `{"n":0}` and so on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    graph: Graph,
    first: u64,
    tasks: u64,
}

/// What single requests were answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers {
    /// 201.
    pub(super) created: u64,
    /// 503 that says when to come again: nothing was stored.
    pub(super) unavailable: u64,
    /// Any other 5xx, and a 503 that does not say so.
    pub(super) server_errors: u64,
    /// Anything else, or no answer.
    pub(super) broken: u64,
    /// What the first of these said.
    pub(super) words: Option<String>,
    /// How long each took that made a task, in milliseconds.
    pub(super) took_ms: Vec<f64>,
}

impl Load {
    pub(super) fn new(graph: Graph, tasks: u64) -> Load {
        Load {
            graph,
            first: 0,
            tasks,
        }
    }

    /// The tasks that come after so many others.
    pub(super) fn after(self, first: u64) -> Load {
        Load { first, ..self }
    }

    /// How many there are.
    pub(super) fn count(self) -> u64 {
        self.tasks
    }

    /// Asks for all of them over so many connections; every one must be accepted.
    pub(super) async fn send(
        self,
        ground: &Ground,
        stage: &Stage,
        via: Via,
        connections: usize,
    ) -> Result<(), Failure> {
        match via {
            Via::Batch => self.in_batches(stage, connections).await,
            Via::Sql => self.in_sql(ground, connections).await,
            Via::Rest => {
                let answers = self.one_by_one(stage, connections, true).await?;
                match answers.created == self.tasks {
                    true => Ok(()),
                    false => Err(Failure::Verdict(format!(
                        "{} of {} tasks were not accepted: {}",
                        self.tasks - answers.created,
                        self.tasks,
                        answers.words.as_deref().unwrap_or("the server stayed busy")
                    ))),
                }
            }
        }
    }

    pub(super) async fn in_batches(self, stage: &Stage, connections: usize) -> Result<(), Failure> {
        let sent = self
            .parts()
            .map(|(first, last)| self.send_batch(stage, first, last));
        let sent = stream::iter(sent).buffer_unordered(connections);
        sent.try_collect().await
    }

    async fn send_batch(self, stage: &Stage, first: u64, last: u64) -> Result<(), Failure> {
        let until = Instant::now() + BUSY;
        let mut numbers: Vec<u64> = (first..=last).collect();
        while !numbers.is_empty() {
            let tasks: Vec<String> = numbers.iter().map(|n| self.graph.request(*n)).collect();
            let body = format!(r#"{{"tasks":[{}]}}"#, tasks.join(","));
            let answer = post(stage, "/v1/tasks/batch", body).await;
            let answer = answer.map_err(|source| stage.silent(source))?;
            let status = answer.status();
            let text = answer.text().await.map_err(|source| stage.silent(source))?;
            let refused = || Failure::refused(status, text.clone());
            if status.is_success() {
                let answers: TaskBatchResponse =
                    serde_json::from_str(&text).map_err(|source| Failure::Strange {
                        url: stage.url("/v1/tasks/batch"),
                        source,
                    })?;
                let answers = numbers.iter().zip(answers.results);
                let refused = answers.filter(|(_, answer)| answer.status != 201);
                let refused: Vec<_> = refused.collect();
                if let Some((_, answer)) = refused.iter().find(|(_, answer)| answer.status != 503) {
                    let body = serde_json::to_string(answer).unwrap_or_default();
                    return Err(Failure::Verdict(format!("a task was refused: {body}")));
                }
                numbers = refused.into_iter().map(|(number, _)| *number).collect();
            } else if status != StatusCode::SERVICE_UNAVAILABLE {
                return Err(refused());
            }
            if !numbers.is_empty() {
                if Instant::now() > until {
                    return Err(refused());
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn in_sql(self, ground: &Ground, connections: usize) -> Result<(), Failure> {
        let name = self.graph.name();
        let template = (self.graph.namespace, name.as_str());
        let sent = self.parts().map(|(first, last)| {
            let part = (first.cast_signed(), last.cast_signed());
            async move { asked(measure::submit(&ground.pool, template, part).await).map(drop) }
        });
        stream::iter(sent)
            .buffer_unordered(connections)
            .try_collect()
            .await
    }

    /// A request each, over so many connections. Where `again`, a task that a busy server refuses is asked for again.
    /// All connections are one thread's: answers come in bursts, which it takes without being woken for each.
    pub(super) async fn one_by_one(
        self,
        stage: &Stage,
        connections: usize,
        again: bool,
    ) -> Result<Answers, Failure> {
        let address = stage.address();
        let cannot = |source| Failure::setup("cannot ask over connections", source);
        let thread = tokio::task::spawn_blocking(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build()?;
            Ok(runtime.block_on(self.over(address, connections, again)))
        });
        let answers = thread.await.map_err(std::io::Error::from);
        answers.flatten().map_err(cannot)
    }

    async fn over(self, address: SocketAddr, connections: usize, again: bool) -> Answers {
        let next = Arc::new(AtomicU64::new(self.first));
        let mut under_way = JoinSet::new();
        for _ in 0..connections {
            under_way.spawn(self.over_one(address, Arc::clone(&next), again));
        }
        let all = under_way.join_all().await;
        all.into_iter().fold(Answers::default(), Answers::and)
    }

    async fn over_one(self, address: SocketAddr, next: Arc<AtomicU64>, again: bool) -> Answers {
        let mut answers = Answers::default();
        let mut connection = Connection::to(address);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.first + self.tasks {
                return answers;
            }
            let busy = Instant::now() + BUSY;
            while self.ask(&mut connection, number, &mut answers).await
                && again
                && Instant::now() < busy
            {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Asks for one task; whether the server was busy.
    async fn ask(self, connection: &mut Connection, number: u64, answers: &mut Answers) -> bool {
        let began = Instant::now();
        let answer = connection.post("/v1/tasks", self.graph.request(number));
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(silence) => {
                answers.broken += 1;
                answers.words.get_or_insert(silence.to_string());
                return false;
            }
        };
        let status = answer.status();
        match status {
            StatusCode::CREATED => {
                answers.created += 1;
                answers.took_ms.push(began.elapsed().as_secs_f64() * 1e3);
                return false;
            }
            StatusCode::SERVICE_UNAVAILABLE if answer.headers().contains_key(RETRY_AFTER) => {
                answers.unavailable += 1;
                return true;
            }
            _ if status.is_server_error() => answers.server_errors += 1,
            _ => answers.broken += 1,
        }
        let words = format!("{status} {}", String::from_utf8_lossy(answer.body()));
        answers.words.get_or_insert(words);
        false
    }

    /// The numbers of the first and the last task of each batch.
    fn parts(self) -> impl Iterator<Item = (u64, u64)> {
        let until = self.first + self.tasks;
        let firsts = (self.first..until).step_by(BATCH as usize);
        firsts.map(move |first| (first, (first + BATCH).min(until) - 1))
    }
}

/// Asks for one task; its uuid.
pub(super) async fn submit(stage: &Stage, body: String) -> Result<Uuid, Failure> {
    #[derive(Deserialize)]
    struct Task {
        task_uuid: Uuid,
    }
    let path = "/v1/tasks";
    let answer = post(stage, path, body).await;
    let answer = answer.map_err(|source| stage.silent(source))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|source| stage.silent(source))?;
    if status != StatusCode::CREATED {
        return Err(Failure::refused(status, text));
    }
    let task: Task = serde_json::from_str(&text).map_err(|source| Failure::Strange {
        url: stage.url(path),
        source,
    })?;
    Ok(task.task_uuid)
}

async fn post(stage: &Stage, path: &str, body: String) -> reqwest::Result<Response> {
    let request = stage.http().post(stage.url(path)).body(body);
    request
        .header(CONTENT_TYPE, "application/json")
        .send()
        .await
}

impl Answers {
    fn and(mut self, other: Answers) -> Answers {
        self.created += other.created;
        self.unavailable += other.unavailable;
        self.server_errors += other.server_errors;
        self.broken += other.broken;
        self.words = self.words.or(other.words);
        self.took_ms.extend(other.took_ms);
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bench::shape;

    #[test]
    fn batches_cover_every_task_once() {
        let load = Load::new(Graph::measured(shape::parse("single").unwrap()), 2_500);
        let parts: Vec<_> = load.after(7).parts().collect();
        assert_eq!(parts, [(7, 1_006), (1_007, 2_006), (2_007, 2_506)]);
        assert_eq!(Load::new(load.graph, 0).parts().count(), 0);
    }
}
