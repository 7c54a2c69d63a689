//! `tasker demo`: submits the example order to a running `tasker dev`, watches it, and shows what came of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use serde_json::value::to_raw_value;
use tasker_shared::wire::{StepAuditResponse, StepResponse, TaskRequest, TaskResponse};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{print, print_line, task, task_show, template};
use crate::client::{Client, Credentials};
use crate::failure::Failure;
use crate::follow::show::{self, Manner};
use crate::follow::{Follow, Picture};
use crate::order::{self, Stock, payments::Provider};
use crate::output::{table::Rows, terminal, time};

/// It takes two seconds where workers are well.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
#[command(
    after_help = "The order's files (stock, invoice, mail, parcel, ledger) are kept in --dir."
)]
pub(crate) struct Demo {
    /// Address of the server that `tasker dev` runs
    #[arg(
        long,
        env = "TASKER_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    url: String,
    #[command(flatten)]
    credentials: Credentials,
    /// Directory that the order's handlers work in
    #[arg(long, default_value = ".tasker/demo", value_name = "DIR")]
    dir: PathBuf,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.url, &self.credentials)?;
        client.get("/health/ready", &[]).await?;
        let directory = std::path::absolute(&self.dir).map_err(|source| {
            Failure::setup(format!("cannot use {}", self.dir.display()), source)
        })?;
        let stock = order::prepare(&directory)?;

        let provider = provider().await?;
        let (source, version) = order::template(&directory, provider.address());
        template::send(&client, source).await?;
        let order_id = format!("order-{}", Utc::now().format("%Y%m%d-%H%M%S-%3f"));
        print_line(&format!(
            "Order {order_id}: template {}/{} {version}",
            order::NAMESPACE,
            order::NAME
        ))?;
        print_line(&format!("Payment provider: http://{}", provider.address()))?;
        if stock == Stock::Filled {
            print_line("The shelves have been filled.")?;
        }
        print_line("")?;

        let end = CancellationToken::new();
        let serving = tokio::spawn(provider.serve(end.clone().cancelled_owned()));
        let followed = run_order(&client, &order_id, version).await;
        end.cancel();
        serving
            .await
            .map_err(|source| Failure::setup("the payment provider broke down", source))??;
        let picture = followed?;
        Report {
            client,
            directory,
            picture,
        }
        .print()
        .await
    }
}

/// The provider at the template's own port, or at another where that is taken.
async fn provider() -> Result<Provider, Failure> {
    if let Ok(usual) = order::PROVIDER.parse::<SocketAddr>()
        && let Ok(provider) = Provider::bind(usual).await
    {
        return Ok(provider);
    }
    Provider::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
}

/// Submits the order and follows it to its end.
async fn run_order(client: &Client, order_id: &str, version: String) -> Result<Picture, Failure> {
    let context = to_raw_value(&order::order(order_id))
        .map_err(|source| Failure::setup("cannot write the order", source))?;
    let request = TaskRequest {
        name: order::NAME.to_owned(),
        namespace: order::NAMESPACE.to_owned(),
        version: Some(version),
        context,
        initiator: Some("tasker-cli".to_owned()),
        source_system: Some("demo".to_owned()),
        reason: Some("tasker demo".to_owned()),
        tags: vec!["demo".to_owned()],
        priority: None,
        correlation_id: None,
        parent_correlation_id: None,
        idempotency_key: Some(order_id.to_owned()),
        run_at: None,
        requested_at: None,
        options: None,
    };
    let answer = client
        .send_json(Method::POST, "/v1/tasks", &request)
        .await?;
    let task: TaskResponse = answer.read()?;
    let follow = Follow::start(client.clone(), task.task_uuid).await?;
    let watching = show::until_settled(follow, Manner::Shown);
    match tokio::time::timeout(PATIENCE, watching).await {
        Ok(picture) => picture,
        Err(_) => Err(Failure::Verdict(format!(
            "the order is not through after {} s: is a worker running on this machine? See `tasker task show {}`",
            PATIENCE.as_secs(),
            task.task_uuid
        ))),
    }
}

/// What came of the order.
struct Report {
    client: Client,
    directory: PathBuf,
    picture: Picture,
}

impl Report {
    async fn print(&self) -> Result<(), Failure> {
        let task = self.picture.task_uuid;
        if !terminal::is_live() {
            print(&format!("\n{}", task::drawing(&self.picture)))?;
        }
        let steps: Vec<StepResponse> = self
            .client
            .read(&format!("/v1/tasks/{task}/workflow_steps"))
            .await?;
        print(&format!("\n{}", task_show::table(&steps)))?;
        let attempts = self.attempts(&steps).await?;
        print(&format!("\n{}", attempts_table(&attempts)))?;
        print(&format!("\n{}", doors(&self.picture, &attempts)))?;
        task::verdict(&self.picture)?;
        print(&format!("\n{}", artefacts(&self.directory, &steps)))?;
        print_line(&format!("\nLook again: tasker task show {task}"))
    }

    /// Every attempt at every step, from the audit, in the order they ended.
    async fn attempts(&self, steps: &[StepResponse]) -> Result<Vec<StepAuditResponse>, Failure> {
        let mut attempts = Vec::new();
        for step in steps {
            attempts.extend(self.audit(step.step_uuid).await?);
        }
        attempts.sort_by_key(|attempt| attempt.recorded_at);
        Ok(attempts)
    }

    async fn audit(&self, step: Uuid) -> Result<Vec<StepAuditResponse>, Failure> {
        let task = self.picture.task_uuid;
        let path = format!("/v1/tasks/{task}/workflow_steps/{step}/audit");
        self.client.read(&path).await
    }
}

fn attempts_table(attempts: &[StepAuditResponse]) -> String {
    let mut rows = Rows::under(&["STEP", ">ATTEMPT", "OUTCOME", ">TOOK", "ENDED"]);
    for attempt in attempts {
        rows.add(vec![
            attempt.step_name.clone(),
            attempt.attempt.to_string(),
            attempt.outcome.clone(),
            attempt
                .execution_time_ms
                .map(time::took)
                .unwrap_or_default(),
            time::of_day(attempt.recorded_at),
        ]);
    }
    rows.text()
}

/// What went through each door on the way, counted from the audit.
fn doors(picture: &Picture, attempts: &[StepAuditResponse]) -> String {
    let count = |through: &dyn Fn(&StepAuditResponse) -> bool| {
        attempts.iter().filter(|attempt| through(attempt)).count()
    };
    let retries = count(&|attempt| !attempt.success);
    let mut rows = Rows::under(&["DOOR", ">WENT THROUGH"]);
    for (door, number) in [
        ("tasks requested", 1),
        (
            "steps enqueued",
            count(&|attempt| attempt.enqueued_at.is_some()),
        ),
        (
            "steps claimed",
            count(&|attempt| attempt.claimed_at.is_some()),
        ),
        (
            "steps executed",
            count(&|attempt| attempt.started_at.is_some()),
        ),
        ("results processed", attempts.len()),
        ("tasks completed", usize::from(picture.has_succeeded())),
    ] {
        rows.add(vec![door.to_owned(), number.to_string()]);
    }
    let retries = match retries {
        0 => "no attempt failed".to_owned(),
        1 => "1 attempt failed and was made again".to_owned(),
        many => format!("{many} attempts failed and were made again"),
    };
    format!(
        "{}({} steps; {retries})\n",
        rows.text(),
        picture.steps.len()
    )
}

/// Where the files are, and the invoice itself.
fn artefacts(directory: &Path, steps: &[StepResponse]) -> String {
    let mut text = String::new();
    let mut invoice = None;
    for step in steps {
        let result = step.results.as_ref().map(|result| result.get());
        let result: Value = serde_json::from_str(result.unwrap_or("null")).unwrap_or_default();
        for name in ["reservation", "parcel", "invoice", "mail", "ledger"] {
            if let Some(path) = result.get(name).and_then(Value::as_str) {
                let path = directory.join(path);
                text.push_str(&format!("{name:<12} {}\n", path.display()));
                if name == "invoice" {
                    invoice = std::fs::read_to_string(&path).ok();
                }
            }
        }
    }
    if let Ok(stock) = std::fs::read_to_string(directory.join("stock.csv")) {
        let left = order::on_hand(&stock);
        let left: Vec<String> = left
            .iter()
            .map(|(sku, left)| format!("{left} {sku}"))
            .collect();
        text.push_str(&format!("{:<12} {} left\n", "stock", left.join(", ")));
    }
    if let Some(invoice) = invoice {
        text.push('\n');
        for line in invoice.lines() {
            text.push_str(format!("  {line}").trim_end());
            text.push('\n');
        }
    }
    text
}
