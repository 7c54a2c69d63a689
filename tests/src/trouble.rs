//! Bringing a [`Stack`]'s circuit breakers to open.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use crate::{Stack, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// More completions than open the breaker, and some that find it open.
const FIRST: usize = 16;
const MORE: usize = 4;

impl Stack {
    /// Keeps results from being stored until completions of `command` steps, of which `request` is for one, are slow
    /// and then refused; then lets all go on. Answers the tasks. Wants `channels.results` and `channels.completions`
    /// to be 1.
    pub async fn slow_completions(&self, request: &Value) -> Vec<Uuid> {
        let mut transaction = self.sql().begin().await.unwrap();
        sqlx::query("LOCK TABLE tasker.attempts IN EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await
            .unwrap();
        let mut tasks = self.submit_all(&vec![request.clone(); FIRST]).await;
        let open = ("tasker_circuit_breaker_state", 2.0);
        self.wait_worker(open, &[("component", "ffi_completion")])
            .await;
        tasks.extend(self.submit_all(&vec![request.clone(); MORE]).await);
        let rejected = ("ffi_completion_circuit_open_rejections_total", 1.0);
        self.wait_worker(rejected, &[]).await;
        transaction.rollback().await.unwrap();
        self.wait_all_final(&tasks, PATIENCE).await;
        tasks
    }

    /// Waits until a worker shows at least so much of a metric.
    async fn wait_worker(&self, (metric, least): (&str, f64), labels: &[(&str, &str)]) {
        until(PATIENCE, async || {
            for (_, process) in self.processes().filter(|(kind, _)| *kind == "worker") {
                if process.is_alive() && process.metrics().await.sum(metric, labels) >= least {
                    return Ok(());
                }
            }
            Err(format!("{metric} is less than {least} at every worker"))
        })
        .await;
    }

    /// Submits while the database is away, until the server answers without having asked it.
    pub async fn wait_refused(&self, request: &Value) -> Value {
        until(PATIENCE, async || {
            let (status, body) = self.call(Method::POST, "/v1/tasks", Some(request)).await;
            match body["error"]["code"].as_str() {
                Some("CIRCUIT_BREAKER_OPEN") if status == StatusCode::SERVICE_UNAVAILABLE => {
                    Ok(body)
                }
                _ => Err(format!("{status} {body}")),
            }
        })
        .await
    }

    /// Submits until the server takes it.
    pub async fn wait_accepted(&self, request: &Value) -> Uuid {
        until(PATIENCE, async || {
            let (status, body) = self.call(Method::POST, "/v1/tasks", Some(request)).await;
            match body["task_uuid"].as_str() {
                Some(task) => Ok(task.parse().unwrap()),
                None => Err(format!("{status} {body}")),
            }
        })
        .await
    }
}
