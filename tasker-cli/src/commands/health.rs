//! `tasker health`.

use clap::Args;
use tasker_shared::wire::{DetailedHealthResponse, HealthCheck, HealthResponse};

use super::{print, print_body, print_line};
use crate::cli::Remote;
use crate::failure::Failure;
use crate::output::palette::Palette;
use crate::output::{look, table::Rows};

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Show every check
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Health {
    pub(crate) fn wants_json(&self) -> bool {
        self.remote.json
    }

    /// Fails where the server says that it cannot take work; a degraded one still can.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        if self.detailed {
            let answer = client.get("/health/detailed", &[]).await?;
            let health: DetailedHealthResponse = answer.read()?;
            match self.remote.json {
                true => print_body(&answer.body)?,
                false => print(&told(&health))?,
            }
            return verdict(&health.status);
        }
        client.get("/health/ready", &[]).await?;
        let answer = client.get("/health", &[]).await?;
        let health: HealthResponse = answer.read()?;
        match self.remote.json {
            true => print_body(&answer.body)?,
            false => print_line(&sign_and(&health.status, client.url()))?,
        }
        verdict(&health.status)
    }
}

fn verdict(status: &str) -> Result<(), Failure> {
    match status {
        "unhealthy" => Err(Failure::Verdict("the server is unhealthy".to_owned())),
        _ => Ok(()),
    }
}

fn sign_and(status: &str, more: &str) -> String {
    let look = look::of_health(status);
    let palette = Palette::of_stdout();
    format!(
        "{}  {more}",
        palette.paint(look.ink, &format!("{} {status}", look.sign))
    )
}

fn told(health: &DetailedHealthResponse) -> String {
    let info = &health.info;
    let head = format!(
        "Tasker {}, environment {}, {}",
        info.version, info.environment, info.operational_state
    );
    let mut rows = Rows::under(&["CHECK", "STATUS", ">TOOK", "MESSAGE"]);
    let checks = &health.checks;
    for (name, check) in [
        ("web_database", &checks.web_database),
        ("orchestration_database", &checks.orchestration_database),
        ("circuit_breaker", &checks.circuit_breaker),
        ("orchestration_system", &checks.orchestration_system),
        ("command_processor", &checks.command_processor),
        ("pool_utilization", &checks.pool_utilization),
        ("queue_depth", &checks.queue_depth),
        ("channel_saturation", &checks.channel_saturation),
    ] {
        rows.add(row(name, check));
    }
    format!("{}\n\n{}", sign_and(&health.status, &head), rows.text())
}

fn row(name: &str, check: &HealthCheck) -> Vec<String> {
    vec![
        name.to_owned(),
        format!("{} {}", look::of_health(&check.status).sign, check.status),
        format!("{} ms", check.duration_ms),
        check.message.clone().unwrap_or_default(),
    ]
}
