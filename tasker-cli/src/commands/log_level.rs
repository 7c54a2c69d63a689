//! `tasker log-level`.

use clap::Args;
use reqwest::Method;
use tasker_shared::wire;

use super::{print_body, print_line};
use crate::cli::Remote;
use crate::failure::Failure;

const PATH: &str = "/config/log-level";

#[derive(Debug, Args)]
pub(crate) struct LogLevel {
    /// The level from now on: off, error, warn, info, debug, trace, or target=level pairs with
    /// commas between; without, the level is shown
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl LogLevel {
    pub(crate) fn wants_json(&self) -> bool {
        self.remote.json
    }

    /// Shows the level in force afterwards.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let answer = match self.level {
            Some(level) => {
                let wanted = wire::LogLevel { level };
                client.send_json(Method::PUT, PATH, &wanted).await?
            }
            None => client.get(PATH, &[]).await?,
        };
        if self.remote.json {
            return print_body(&answer.body);
        }
        let in_force: wire::LogLevel = answer.read()?;
        print_line(&in_force.level)
    }
}
