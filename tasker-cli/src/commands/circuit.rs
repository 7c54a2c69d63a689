//! `tasker circuit`.

use clap::{Args, Subcommand};
use reqwest::Method;
use tasker_shared::wire::{CircuitClosed, CircuitResponse};

use super::{print, print_body, print_line};
use crate::cli::Remote;
use crate::client::path_part;
use crate::failure::Failure;
use crate::output::table::Rows;
use crate::output::time;

#[derive(Debug, Args)]
pub(crate) struct Circuit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is in trouble: targets whose steps wait until it answers again
    List(List),
    /// Let the steps of a target run again at once
    Close(Close),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct Close {
    /// As the list has it: host:port, or the name in initialization.circuit
    #[arg(value_name = "TARGET")]
    target: String,
    #[command(flatten)]
    remote: Remote,
}

impl Circuit {
    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            Command::List(list) => list.remote.json,
            Command::Close(close) => close.remote.json,
        }
    }

    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List(list) => list.run().await,
            Command::Close(close) => close.run().await,
        }
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let answer = self.remote.client()?.get("/v1/circuits", &[]).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let circuits: Vec<CircuitResponse> = answer.read()?;
        if circuits.is_empty() {
            return print_line("No circuit is open.");
        }
        let mut rows = Rows::under(&[
            "TARGET",
            "STATE",
            "OPEN SINCE",
            "NEXT TRY",
            ">TRIES",
            "REASON",
        ]);
        for circuit in circuits {
            rows.add(vec![
                circuit.target,
                circuit.state,
                time::full(circuit.opened_at),
                time::of_day(circuit.retry_at),
                circuit.failed_probes.to_string(),
                circuit.reason,
            ]);
        }
        print(&rows.text())
    }
}

impl Close {
    async fn run(self) -> Result<(), Failure> {
        let path = format!("/v1/circuits/{}", path_part(&self.target));
        let client = self.remote.client()?;
        let answer = client.bare(Method::DELETE, &path).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let closed: CircuitClosed = answer.read()?;
        print_line(&format!("{}: {}", closed.target, closed.message))
    }
}
