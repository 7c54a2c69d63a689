//! What the tests of this module are made with.

use tasker_shared::plan::{Kind, Message, Outcome};
use uuid::Uuid;

/// A success of the first step of some task.
pub(super) fn message(shard: i16, id: i64) -> Message {
    Message {
        shard,
        id,
        kind: Kind::Ended(Outcome::Success),
        task_uuid: Uuid::nil(),
        correlation_id: Uuid::nil(),
        step_no: 1,
        attempt: 1,
        tries: 0,
        lost: 0,
        template_id: 1,
        priority: 0,
        sampled: false,
        traced: false,
        progress: 0,
        retry_after_ms: None,
        control: None,
    }
}
