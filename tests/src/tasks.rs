//! Tasks on a [`Stack`]: sending them and waiting for them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Stack;

const POLL: Duration = Duration::from_millis(20);
const BATCH: usize = 1_000;
/// Tasks asked for at once while waiting for many.
const WATCHED: usize = 16;
/// In these a task stays, the last until somebody acts.
const AT_REST: [&str; 5] = [
    "complete",
    "error",
    "cancelled",
    "resolved_manually",
    "blocked_by_failures",
];

impl Stack {
    /// Sends a request, which must make a new task.
    pub async fn submit(&self, request: Value) -> Uuid {
        let (status, body) = self.call(Method::POST, "/v1/tasks", Some(&request)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        uuid(&body["task_uuid"])
    }

    /// Sends many requests in batches, all of which must make new tasks.
    pub async fn submit_all(&self, requests: &[Value]) -> Vec<Uuid> {
        let mut tasks = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            let body = json!({ "tasks": batch });
            let (status, body) = self
                .call(Method::POST, "/v1/tasks/batch", Some(&body))
                .await;
            assert_eq!(status, StatusCode::OK, "{body}");
            for result in body["results"].as_array().unwrap() {
                assert_eq!(result["status"], 201, "{result}");
                tasks.push(uuid(&result["task_uuid"]));
            }
        }
        assert_eq!(tasks.len(), requests.len());
        tasks
    }

    /// The task as the server shows it.
    pub async fn task(&self, task: Uuid) -> Value {
        self.get(&format!("/v1/tasks/{task}")).await
    }

    /// The task's steps by name.
    pub async fn steps(&self, task: Uuid) -> BTreeMap<String, Value> {
        let steps = self.get(&format!("/v1/tasks/{task}/workflow_steps")).await;
        let steps = steps.as_array().expect("a list of steps");
        steps
            .iter()
            .map(|step| (step["name"].as_str().unwrap().to_owned(), step.clone()))
            .collect()
    }

    /// Waits until the task rests in a final state, or blocked, and answers it.
    pub async fn wait_final(&self, task: Uuid, patience: Duration) -> Value {
        self.wait_for(task, &AT_REST, patience).await
    }

    /// Waits until the task is complete, and answers it.
    pub async fn wait_complete(&self, task: Uuid, patience: Duration) -> Value {
        let found = self.wait_final(task, patience).await;
        assert_eq!(found["status"], "complete", "{found}");
        found
    }

    /// Waits until the task is in one of the states. A server that is away is waited for too.
    pub async fn wait_for(&self, task: Uuid, states: &[&str], patience: Duration) -> Value {
        let until = Instant::now() + patience;
        let mut last = String::from("no answer");
        while Instant::now() < until {
            if let Some(found) = self.glance(task).await {
                if states.iter().any(|&state| found["status"] == state) {
                    return found;
                }
                last = found.to_string();
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("after {patience:?} task {task} is in none of {states:?}: {last}");
    }

    /// Waits until all the tasks rest, and counts their states.
    pub async fn wait_all_final(
        &self,
        tasks: &[Uuid],
        patience: Duration,
    ) -> BTreeMap<String, usize> {
        let until = Instant::now() + patience;
        let mut states = BTreeMap::new();
        let mut found = stream::iter(tasks)
            .map(|&task| self.wait_final(task, until.saturating_duration_since(Instant::now())))
            .buffer_unordered(WATCHED);
        while let Some(task) = found.next().await {
            *states
                .entry(task["status"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
        states
    }

    /// The task where the server answers and knows it.
    async fn glance(&self, task: Uuid) -> Option<Value> {
        let reply = self
            .client()
            .get(self.url(&format!("/v1/tasks/{task}")))
            .send()
            .await
            .ok()?;
        let reply = reply.error_for_status().ok()?;
        reply.json().await.ok()
    }
}

fn uuid(value: &Value) -> Uuid {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no uuid: {value}"))
}
