//! What server, worker and command line share. Bottom to top, each layer knows only those below it:
//! ids, clock, document, config; template, graph, state, retry, plan (pure: no async, no database);
//! metrics and stats (what is counted), resilience (bounded channels), telemetry and logging (how it leaves);
//! wire (the REST bodies); db (every SQL statement); access (who calls and what they may do); embedded (a private PostgreSQL);
//! machine (what processes have used of it).

pub mod access;
pub mod blueprints;
pub mod clock;
pub mod config;
pub mod cursor;
pub mod db;
pub mod document;
pub mod embedded;
pub mod graph;
pub mod ids;
pub mod logging;
pub mod machine;
pub mod metrics;
pub mod name;
pub mod plan;
pub mod resilience;
pub mod retry;
mod spelling;
pub mod state;
pub mod stats;
pub mod telemetry;
pub mod template;
pub mod wire;
