//! The level at which a process logs, asked for and changed while it runs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET` and `PUT /config/log-level`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`, or `target=level` pairs with commas between.
    #[schema(example = "info,tasker_shared::db=debug")]
    pub level: String,
}
