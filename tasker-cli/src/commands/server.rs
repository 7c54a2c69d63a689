//! `tasker server`: configuration and flags in, the library's server until told to end.

use std::path::PathBuf;

use clap::Args;
use tasker_shared::access::check_exposure;
use tasker_shared::config::{Argument, Loaded};

use crate::failure::Failure;
use crate::process::{self, Ending};

/// The key that says what the flag does.
const ALLOW_ANONYMOUS: &str = "server.allow_anonymous";

#[derive(Debug, Args)]
#[command(after_help = "The database is DATABASE_URL, or `database.url` of the configuration.")]
pub(crate) struct Server {
    /// Where the REST API listens [default: 127.0.0.1:8080, or `server.listen` of the configuration]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Directory whose templates are stored at start
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
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

impl Server {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let loaded = self.configuration()?;
        let server = &loaded.config.server;
        let auth = loaded.config.auth.enabled;
        check_exposure(server.listen, auth, server.allow_anonymous, ALLOW_ANONYMOUS)
            .map_err(|exposed| Failure::Usage(exposed.to_string()))?;
        process::migration_target(&loaded.config)?;
        process::log(&loaded.config)?;
        let ending = Ending::listen(self.exit_with_parent)?;
        let Some(server) = ending.unless(self.start(loaded)).await? else {
            return Ok(());
        };
        process::tell_address(server.address())?;
        server
            .run_until(ending.wait())
            .await
            .map_err(|source| Failure::setup("the server cannot run", source))
    }

    async fn start(&self, loaded: Loaded) -> Result<tasker_orchestration::Server, Failure> {
        let starting = tasker_orchestration::Server::start(loaded, !self.no_migrate);
        let failed = |source| Failure::setup("the server cannot start", source);
        starting.await.map_err(failed)
    }

    fn configuration(&self) -> Result<Loaded, Failure> {
        let mut arguments = Vec::new();
        if let Some(listen) = &self.listen {
            arguments.push(Argument::new("--listen", "server.listen", listen));
        }
        if let Some(templates) = &self.templates {
            let templates = templates.display().to_string();
            arguments.push(Argument::new("--templates", "server.templates", &templates));
        }
        if self.allow_anonymous {
            arguments.push(Argument::new("--allow-anonymous", ALLOW_ANONYMOUS, "true"));
        }
        process::configuration(&arguments)
    }
}
