//! `tasker config show`: what would be in force for a process started here and now.

use clap::{Args, Subcommand};

use super::{print, print_line};
use crate::failure::Failure;
use crate::output::table::Rows;
use crate::process;

#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every key in force and where its value came from, secrets masked
    Show(Show),
}

#[derive(Debug, Args)]
struct Show {
    /// Print a JSON list of key, value and source
    #[arg(long)]
    json: bool,
}

impl Config {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Command::Show(show) = self.command;
        let loaded = process::configuration(&[])?;
        if show.json {
            let text = serde_json::to_string_pretty(loaded.entries())
                .map_err(|source| Failure::setup("cannot write the configuration", source))?;
            return print_line(&text);
        }
        let mut rows = Rows::under(&["KEY", "VALUE", "FROM"]);
        for entry in loaded.entries() {
            let value = match &entry.value {
                serde_json::Value::Null => "(none)".to_owned(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            rows.add(vec![entry.key.clone(), value, entry.source.to_string()]);
        }
        let files = match &loaded.directory {
            Some(directory) => format!("files in {}", directory.display()),
            None => "no configuration files".to_owned(),
        };
        print(&format!(
            "environment {}, {files}\n\n{}",
            loaded.environment,
            rows.text()
        ))
    }
}
