//! `tasker health`, of servers and of workers.

mod detailed;

use clap::Args;
use reqwest::StatusCode;
use serde_json::Value;
use tasker_shared::wire::HealthResponse;

use self::detailed::Detailed;
use super::{print, print_body, print_line};
use crate::cli::Remote;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::look;
use crate::output::palette::Palette;

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Show every check, circuit breaker and channel
    #[arg(long)]
    detailed: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Health {
    pub(crate) fn wants_json(&self) -> bool {
        self.remote.json
    }

    /// Fails where the process says that it cannot take work; a degraded one still can.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        if self.detailed {
            let answer = client.get("/health/detailed", &[]).await?;
            let health = Detailed::read(&answer)?;
            match self.remote.json {
                true => print_body(&answer.body)?,
                false => print(&health.told())?,
            }
            return ready(&client).await;
        }
        ready(&client).await?;
        let answer = client.get("/health", &[]).await?;
        let health: HealthResponse = answer.read()?;
        match self.remote.json {
            true => print_body(&answer.body)?,
            false => print_line(&sign_and(&health.status, client.url()))?,
        }
        Ok(())
    }
}

/// What says whether work can be taken, since the other answers are given in any case.
async fn ready(client: &Client) -> Result<(), Failure> {
    match client.get("/health/ready", &[]).await {
        Ok(_) => Ok(()),
        Err(Failure::Refused { status, body, .. }) if status == StatusCode::SERVICE_UNAVAILABLE => {
            Err(Failure::Verdict(not_ready(client.url(), &body)))
        }
        Err(failure) => Err(failure),
    }
}

/// Which checks say why, as far as the answer has any.
fn not_ready(url: &str, body: &str) -> String {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let checks = answer["checks"].as_object().into_iter().flatten();
    let unwell = checks.filter(|(_, check)| check["status"] != "healthy");
    let said = unwell.map(|(name, check)| match check["message"].as_str() {
        Some(message) => format!("\n  {name}: {message}"),
        None => format!("\n  {name}"),
    });
    format!(
        "{url} is not ready to take work{}",
        said.collect::<String>()
    )
}

fn sign_and(status: &str, more: &str) -> String {
    let look = look::of_health(status);
    let palette = Palette::of_stdout();
    format!(
        "{}  {more}",
        palette.paint(look.ink, &format!("{} {status}", look.sign))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_is_told_with_the_checks_that_say_so() {
        let body = r#"{"status":"not_ready","checks":{"web_database":{"status":"unhealthy","message":"away"},
            "command_processor":{"status":"healthy"}}}"#;
        let told = not_ready("http://x", body);
        assert_eq!(
            told,
            "http://x is not ready to take work\n  web_database: away"
        );
        assert_eq!(
            not_ready("http://x", ""),
            "http://x is not ready to take work"
        );
    }
}
