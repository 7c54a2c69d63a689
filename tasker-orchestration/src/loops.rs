//! Duties that run beside a task's way through: owning shards, waking what is due, rescuing what lost its worker,
//! ending what is past its limits or cannot run, reading gauges, keeping the database fit, dropping old history. All in one mould: wait for a
//! wake or the interval, do one pass, say what it did.

pub mod autovacuum;
pub mod delayed;
pub mod gauges;
pub mod pulse;
pub mod rescue;
pub mod retention;
pub mod shards;
pub mod staleness;
pub mod unroutable;
pub mod upkeep;
