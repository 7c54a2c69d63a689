//! `tasker worker`: configuration and flags in, the library's worker with the built-in handlers until told
//! to end.

use clap::Args;
use tasker_shared::access::check_exposure;
use tasker_shared::config::{Argument, Loaded};

use crate::failure::Failure;
use crate::process::{self, Ending};

/// The key that says what the flag does.
const ALLOW_ANONYMOUS: &str = "worker.allow_anonymous";

#[derive(Debug, Args)]
#[command(after_help = "The database is DATABASE_URL, or `database.url` of the configuration.")]
pub(crate) struct Worker {
    /// Where health and configuration are served [default: 127.0.0.1:8081, or `worker.listen`]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Steps run at once [default: 256, or `worker.concurrency`]
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Run only the steps of these namespaces [default: all, or `worker.namespaces`]
    #[arg(long = "namespace", value_name = "NS", num_args = 1..)]
    namespaces: Vec<String>,
    /// Let everybody in who can reach an address that is not this machine's own
    #[arg(long)]
    allow_anonymous: bool,
    /// Do not apply pending migrations; see `tasker migrate`
    #[arg(long)]
    no_migrate: bool,
    /// End when standard input does
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

impl Worker {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let loaded = self.configuration()?;
        let worker = &loaded.config.worker;
        let auth = loaded.config.auth.enabled;
        check_exposure(worker.listen, auth, worker.allow_anonymous, ALLOW_ANONYMOUS)
            .map_err(|exposed| Failure::Usage(exposed.to_string()))?;
        process::migration_target(&loaded.config)?;
        process::log(&loaded.config)?;
        let ending = Ending::listen(self.exit_with_parent)?;
        let Some(worker) = ending.unless(self.start(loaded)).await? else {
            return Ok(());
        };
        process::tell_address(worker.address())?;
        worker
            .run_until(ending.wait())
            .await
            .map_err(|source| Failure::setup("the worker cannot run", source))
    }

    async fn start(&self, loaded: Loaded) -> Result<tasker_worker::Started, Failure> {
        let worker = tasker_worker::Worker::new(loaded).built_in_handlers();
        let failed = |source| Failure::setup("the worker cannot start", source);
        worker
            .migrate(!self.no_migrate)
            .start()
            .await
            .map_err(failed)
    }

    fn configuration(&self) -> Result<Loaded, Failure> {
        let mut arguments = Vec::new();
        if let Some(listen) = &self.listen {
            arguments.push(Argument::new("--listen", "worker.listen", listen));
        }
        if let Some(concurrency) = self.concurrency {
            let concurrency = concurrency.to_string();
            arguments.push(Argument::new(
                "--concurrency",
                "worker.concurrency",
                &concurrency,
            ));
        }
        if !self.namespaces.is_empty() {
            let namespaces = self.namespaces.join(",");
            arguments.push(Argument::new(
                "--namespace",
                "worker.namespaces",
                &namespaces,
            ));
        }
        if self.allow_anonymous {
            arguments.push(Argument::new("--allow-anonymous", ALLOW_ANONYMOUS, "true"));
        }
        process::configuration(&arguments)
    }
}
