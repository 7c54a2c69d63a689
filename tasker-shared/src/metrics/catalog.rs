//! The list of all metrics: of the contract, and what the export says of itself.

use std::sync::LazyLock;

use super::definition::Definition;
use super::instrument::Instrument;
use super::{database, export, messaging, orchestration, resilience, worker};

/// Every instrument, in the order of the reference.
pub(super) static INSTRUMENTS: LazyLock<Vec<&'static dyn Instrument>> = LazyLock::new(|| {
    [
        orchestration::INSTRUMENTS,
        worker::INSTRUMENTS,
        resilience::INSTRUMENTS,
        database::INSTRUMENTS,
        messaging::INSTRUMENTS,
        export::INSTRUMENTS,
    ]
    .concat()
});

/// The metrics of each room, with the room's name.
pub fn rooms() -> Vec<(&'static str, Vec<&'static Definition>)> {
    let rooms = [
        ("orchestration", orchestration::INSTRUMENTS),
        ("worker", worker::INSTRUMENTS),
        ("resilience", resilience::INSTRUMENTS),
        ("database", database::INSTRUMENTS),
        ("messaging", messaging::INSTRUMENTS),
        ("export", export::INSTRUMENTS),
    ];
    rooms
        .into_iter()
        .map(|(name, instruments)| (name, instruments.iter().map(|i| i.definition()).collect()))
        .collect()
}

/// Series held altogether.
pub(super) fn held() -> usize {
    INSTRUMENTS.iter().map(|i| i.held()).sum()
}
