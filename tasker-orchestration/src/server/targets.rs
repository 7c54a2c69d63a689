//! How a server reaches its database.

use std::time::Duration;

use tasker_shared::config::Config;
use tasker_shared::db::pool::{Pool, Target};

use super::Error;

/// How to reach the database.
#[derive(Debug, Clone)]
pub(super) struct Targets {
    pub(super) target: Target,
    /// Without a pooler between.
    pub(super) direct: Target,
    pub(super) pool: Pool,
}

impl Targets {
    pub(super) fn of(config: &Config) -> Result<Targets, Error> {
        let database = &config.database;
        let url = database.url.as_ref().ok_or(Error::NoDatabase)?;
        let timeout = Duration::from_millis(database.connect_timeout_ms);
        let target = Target::parse(url.expose(), "tasker-server", timeout)?;
        let direct = match &database.direct_url {
            Some(url) => Target::parse(url.expose(), "tasker-server", timeout)?,
            None => target.clone().behind_pooler(database.pooler),
        };
        let target = target.behind_pooler(database.pooler);
        let pool = target.pool(database.max_connections);
        Ok(Targets {
            target,
            direct,
            pool,
        })
    }
}
