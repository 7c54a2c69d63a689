//! Every SQL statement of the project, a file for each table or concern, and the one door they all pass:
//! a `Statement` has a name, and `Statement::run` is what executes it. Nothing here decides anything.

pub mod accept;
pub mod advance;
pub mod analytics;
pub mod api_keys;
pub mod archive;
pub mod autovacuum;
pub mod circuits;
pub mod claim;
pub mod controls;
pub mod dead_letter_views;
pub mod dead_letters;
pub mod delayed;
pub mod doctor;
mod door;
pub mod effects;
pub mod gauges;
pub mod lanes;
pub mod measure;
pub mod migrate;
pub mod namespaces;
pub mod partitions;
pub mod pool;
pub mod pooler;
pub mod pressure;
pub mod queue_views;
pub mod requests;
pub mod shards;
pub mod sketch;
pub mod staleness;
pub mod stats;
pub mod step_views;
pub mod submit;
pub mod task_views;
pub mod templates;
mod transaction;
pub mod unroutable;
pub mod upkeep;
pub mod wake;
mod weekly;
pub mod workers;

use door::statements;
pub use door::{Error, Result, Statement, tell};
pub use transaction::Transaction;

/// Every statement of the project, for the test that prepares them all against a real server.
#[cfg(test)]
fn all_statements() -> Vec<&'static Statement> {
    let rooms = [
        accept::STATEMENTS,
        advance::STATEMENTS,
        analytics::STATEMENTS,
        api_keys::STATEMENTS,
        circuits::STATEMENTS,
        claim::STATEMENTS,
        controls::STATEMENTS,
        dead_letter_views::STATEMENTS,
        dead_letters::STATEMENTS,
        delayed::STATEMENTS,
        doctor::STATEMENTS,
        gauges::STATEMENTS,
        lanes::STATEMENTS,
        measure::STATEMENTS,
        measure::fill::STATEMENTS,
        measure::verdict::STATEMENTS,
        migrate::STATEMENTS,
        namespaces::STATEMENTS,
        archive::STATEMENTS,
        autovacuum::STATEMENTS,
        partitions::STATEMENTS,
        partitions::leaving::STATEMENTS,
        pooler::STATEMENTS,
        pressure::STATEMENTS,
        queue_views::STATEMENTS,
        requests::STATEMENTS,
        shards::STATEMENTS,
        staleness::STATEMENTS,
        stats::STATEMENTS,
        step_views::STATEMENTS,
        submit::STATEMENTS,
        task_views::STATEMENTS,
        task_views::lists::STATEMENTS,
        templates::STATEMENTS,
        unroutable::STATEMENTS,
        upkeep::STATEMENTS,
        workers::STATEMENTS,
    ];
    rooms.concat()
}

#[cfg(test)]
mod flow;
#[cfg(test)]
mod tests;
