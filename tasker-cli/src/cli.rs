//! The command line as a whole: its commands, what they have in common, and who runs them.

use clap::{Args, Parser, Subcommand};

use crate::client::{Client, Credentials};
use crate::commands::{
    bench, circuit, config, demo, demo_payments, dev, dlq, doctor, health, key, log_level, migrate,
    server, step, task, template, worker,
};
use crate::failure::Failure;

/// Runs tasks made of steps, durably, on PostgreSQL alone
#[derive(Debug, Parser)]
#[command(
    name = "tasker",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Begin with `tasker dev` in one terminal and `tasker demo` in another.\n\n\
        Exit status: 0 done; 1 the thing asked about failed, was not found or was refused; 2 wrong usage, \
        or no server to be reached."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine: a PostgreSQL of its own, a server and workers
    Dev(dev::Dev),
    /// Submit the example workflow to a running `tasker dev` and watch it
    Demo(demo::Demo),
    /// Submit tasks, look at them, steer them
    Task(task::Task),
    /// Look at steps, retry them
    Step(step::Step),
    /// Check templates, send them, look at them
    Template(template::Template),
    /// See which tasks cannot go on until somebody has looked at them, and let them go on
    Dlq(dlq::Dlq),
    /// Run an orchestration server
    Server(server::Server),
    /// Run a worker with the built-in handlers
    Worker(worker::Worker),
    /// Make, list and revoke the API keys that servers and workers accept
    Key(key::Key),
    /// Apply the database's migrations, or only look whether any are pending
    Migrate(migrate::Migrate),
    /// See which outside services are in trouble, so that their steps wait
    Circuit(circuit::Circuit),
    /// Ask a server how it is
    Health(health::Health),
    /// Check configuration, database, migrations, clocks, permissions and telemetry, and say how to mend each
    Doctor(doctor::Doctor),
    /// Show the configuration
    Config(config::Config),
    /// Show or change the level at which a server or worker logs, while it runs
    LogLevel(log_level::LogLevel),
    /// Measure how fast this machine runs tasks, and check every result
    Bench(bench::Bench),
    /// The payment provider of the example workflow
    #[command(hide = true)]
    DemoPayments(demo_payments::DemoPayments),
}

/// Which server, and how to show what it says.
#[derive(Debug, Args)]
pub(crate) struct Remote {
    /// Address of the server
    #[arg(
        long,
        env = "TASKER_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        help_heading = "Server"
    )]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) credentials: Credentials,
    /// Print the answer's JSON and nothing else
    #[arg(long, help_heading = "Server")]
    pub(crate) json: bool,
}

impl Remote {
    /// The way to the server.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.url, &self.credentials)
    }
}

impl Cli {
    /// Runs the command.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Dev(command) => command.run().await,
            Command::Demo(command) => command.run().await,
            Command::Task(command) => command.run().await,
            Command::Step(command) => command.run().await,
            Command::Template(command) => command.run().await,
            Command::Dlq(command) => command.run().await,
            Command::Server(command) => command.run().await,
            Command::Worker(command) => command.run().await,
            Command::Key(command) => command.run().await,
            Command::Migrate(command) => command.run().await,
            Command::Circuit(command) => command.run().await,
            Command::Health(command) => command.run().await,
            Command::Doctor(command) => command.run().await,
            Command::Config(command) => command.run(),
            Command::LogLevel(command) => command.run().await,
            Command::Bench(command) => command.run().await,
            Command::DemoPayments(command) => command.run().await,
        }
    }

    /// Whether standard output is to hold one JSON document and nothing else.
    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            Command::Task(command) => command.wants_json(),
            Command::Step(command) => command.wants_json(),
            Command::Template(command) => command.wants_json(),
            Command::Dlq(command) => command.wants_json(),
            Command::Circuit(command) => command.wants_json(),
            Command::Health(command) => command.wants_json(),
            Command::LogLevel(command) => command.wants_json(),
            Command::Key(command) => command.wants_json(),
            Command::Doctor(command) => command.wants_json(),
            Command::Bench(command) => command.wants_json(),
            Command::Dev(_)
            | Command::Demo(_)
            | Command::Server(_)
            | Command::Worker(_)
            | Command::Migrate(_)
            | Command::Config(_)
            | Command::DemoPayments(_) => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_line_of_the_reference_is_understood() {
        for line in [
            "tasker demo",
            "tasker dev --port 9000 --data /tmp/x --templates t --workers 3 --reset",
            "tasker dev --database-url postgres://localhost/tasker",
            "tasker server --listen 127.0.0.1:0 --templates t --allow-anonymous",
            "tasker worker --listen 127.0.0.1:0 --concurrency 4 --namespace a b --namespace c",
            "tasker migrate",
            "tasker migrate --check",
            "tasker key create --name ci --permission tasks:create tasks:read --namespace shop --expires 720h",
            "tasker key list --json",
            "tasker doctor --json",
            "tasker key revoke ci",
            "tasker health --api-key x",
            "tasker task list --token x",
            "tasker demo --api-key x",
            "tasker task submit order --namespace shop --version 1.0.0 --context {} --key k \
             --priority -5 --in 5m --tag a --tag b --wait --json",
            "tasker task submit order --namespace shop --at 2025-01-02T03:04:05Z",
            "tasker task list --namespace shop --status error --limit 5 --json",
            "tasker task show 0199c3e0-ccdb-7581-87ab-3f67dae00000",
            "tasker task watch 0199c3e0-ccdb-7581-87ab-3f67dae00000",
            "tasker task graph 0199c3e0-ccdb-7581-87ab-3f67dae00000 --format svg",
            "tasker task cancel 0199c3e0-ccdb-7581-87ab-3f67dae00000",
            "tasker task retry 0199c3e0-ccdb-7581-87ab-3f67dae00000 --wait",
            "tasker step show 0199c3e0-ccdb-7581-87ab-3f67dae00000 charge --json",
            "tasker step retry 0199c3e0-ccdb-7581-87ab-3f67dae00000 charge --reason x",
            "tasker template check a.yaml b",
            "tasker template apply a.yaml",
            "tasker template list --namespace shop",
            "tasker template show order --namespace shop",
            "tasker template graph a.yaml --format mermaid",
            "tasker dlq list --status pending --reason poison --namespace shop --name order --limit 5 --offset 5 --json",
            "tasker dlq show 0199c3e0-ccdb-7581-87ab-3f67dae00000",
            "tasker dlq stats",
            "tasker dlq queue --limit 5",
            "tasker dlq stale",
            "tasker dlq requeue 0199c3e0-ccdb-7581-87ab-3f67dae00000 0199c3e0-ccdb-7581-87ab-3f67dae00001 --note mended",
            "tasker dlq requeue --reason exhausted --namespace shop --name order --before 2025-01-02T03:04:05Z --limit 1000",
            "tasker dlq requeue --all",
            "tasker dlq resolve 0199c3e0-ccdb-7581-87ab-3f67dae00000 --status permanently_failed --note x",
            "tasker dlq add 0199c3e0-ccdb-7581-87ab-3f67dae00000 --note odd",
            "tasker health --detailed --json",
            "tasker config show --json",
            "tasker log-level",
            "tasker log-level info,sqlx=debug --url http://127.0.0.1:8081 --json",
            "tasker bench throughput --shape dag7 --tasks 5 --workers 2 --via rest --connections 8 --sketch --json",
            "tasker bench latency --shape fanout:10 --rate 500 --tasks 5",
            "tasker bench latency --sketch",
            "tasker bench submit --connections 256 --tasks 10 --database-url postgres://localhost/empty",
            "tasker bench --json backlog --tasks 10 --measured-tasks 5",
            "tasker bench history --tasks 10 --shape single",
            "tasker bench pinned --minutes 0.5 --data /var/tmp",
            "tasker bench idle --seconds 5",
            "tasker bench scale --tasks 10 --handler-ms 5 --concurrency 10",
        ] {
            let words = line.split_whitespace();
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        for line in [
            "tasker",
            "tasker fly",
            "tasker task submit order",
            "tasker task submit order --namespace shop --at 2025-01-02T03:04:05Z --in 5m",
            "tasker task submit order --namespace shop --in soon",
            "tasker task submit order --namespace shop --priority 101",
            "tasker task show not-a-uuid",
            "tasker dev --workers 0",
            "tasker bench latency --sketch --shape single",
            "tasker bench latency --sketch --rate 500",
            "tasker key create --name ci",
            "tasker key create --name ci --permission tasks:fly",
            "tasker key create --permission tasks:read",
            "tasker health --api-key x --token y",
            "tasker dev --reset --database-url postgres://localhost/tasker",
            "tasker dlq requeue",
            "tasker dlq requeue 0199c3e0-ccdb-7581-87ab-3f67dae00000 --all",
            "tasker dlq list --limit 0",
            "tasker template check",
            "tasker bench",
            "tasker bench throughput --shape square",
            "tasker bench throughput --tasks 0",
            "tasker bench latency --rate fast",
            "tasker bench pinned --minutes 0",
            "tasker bench idle --data x --database-url postgres://localhost/x",
            "tasker task pause 0199c3e0-ccdb-7581-87ab-3f67dae00000",
        ] {
            assert_eq!(parsed(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
