//! `tasker migrate`.

use clap::Args;
use tasker_shared::db::migrate;

use super::print_line;
use crate::failure::Failure;
use crate::process;

#[derive(Debug, Args)]
#[command(after_help = "The database is DATABASE_URL, or `database.url` of the configuration.")]
pub(crate) struct Migrate {
    /// Apply nothing; exit status 1 and a list where any migration is pending
    #[arg(long)]
    check: bool,
}

impl Migrate {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let loaded = process::configuration(&[])?;
        let target = process::migration_target(&loaded.config)?;
        let failed = |error| Failure::setup("the database cannot be migrated", error);
        let pending = migrate::pending(&target).await.map_err(failed)?;
        if self.check && !pending.is_empty() {
            return Err(Failure::Verdict(format!(
                "pending migrations; apply them with `tasker migrate`\n  {}",
                pending.join("\n  ")
            )));
        }
        if !pending.is_empty() {
            migrate::run(&target).await.map_err(failed)?;
        }
        for migration in &pending {
            print_line(&format!("applied {migration}"))?;
        }
        print_line("the database is up to date")
    }
}
