//! `tasker dev`: what it is given. How it runs is [`crate::dev`]'s.

use std::path::PathBuf;

use clap::Args;

use crate::dev;
use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-C lets running steps end, then stops the workers, the server and PostgreSQL."
)]
pub(crate) struct Dev {
    /// Port of the server; workers take the ports after it, 0 takes any that are free
    #[arg(long, default_value_t = 8080, value_name = "N")]
    port: u16,
    /// Directory that everything is kept in
    #[arg(long, default_value = ".tasker", value_name = "DIR")]
    data: PathBuf,
    /// Directory whose templates are stored at start
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// How many workers to run
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Begin with an empty database: what the data directory holds of the last one is removed
    #[arg(long, conflicts_with = "database_url")]
    reset: bool,
    /// Use this database instead of one of its own
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl Dev {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        dev::run(dev::Wanted {
            port: self.port,
            data: self.data,
            templates: self.templates,
            workers: self.workers,
            reset: self.reset,
            database_url: self.database_url,
        })
        .await
    }
}
