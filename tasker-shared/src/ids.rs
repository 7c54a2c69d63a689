//! Identity of tasks and steps. A task's uuid is a v7 (its first 48 bits are the millisecond it was
//! accepted) whose low 20 bits are zero; a step's uuid is its task's with the step's number in those
//! bits. So either is computed from the other, and both sort by time.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Bits of a step's uuid that hold its number.
const NUMBER_BITS: u32 = 20;
const NUMBER_MASK: u128 = (1 << NUMBER_BITS) - 1;

/// The largest step number that a step's uuid can hold.
pub const MAX_STEP_NUMBER: i32 = NUMBER_MASK as i32;

/// Number of shards that tasks are spread over; a server owns some of them.
pub const SHARDS: i16 = 16;

/// A new task's uuid, for a task accepted at `now`.
pub fn new_task_uuid(now: DateTime<Utc>) -> Uuid {
    let random = Uuid::new_v4().as_u128();
    let ms = u128::from(now.timestamp_millis().max(0).unsigned_abs()) & 0xffff_ffff_ffff;
    let version_and_variant = (0x7 << 76) | (0b10 << 62);
    let rand_a = random & (0xfff << 64);
    let rand_b = random & ((1 << 62) - 1) & !NUMBER_MASK;
    Uuid::from_u128((ms << 80) | version_and_variant | rand_a | rand_b)
}

/// The lowest uuid that a task accepted at `at` or after can have.
pub fn lowest_uuid_at(at: DateTime<Utc>) -> Uuid {
    let ms = u128::from(at.timestamp_millis().max(0).unsigned_abs()) & 0xffff_ffff_ffff;
    Uuid::from_u128(ms << 80)
}

/// When a task was accepted.
pub fn accepted_at(task: Uuid) -> DateTime<Utc> {
    let ms = i64::try_from(task.as_u128() >> 80).unwrap_or(0);
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

/// The uuid of step `number` of a task.
pub fn step_uuid(task: Uuid, number: i32) -> Uuid {
    let number = u128::from(number.unsigned_abs()) & NUMBER_MASK;
    Uuid::from_u128((task.as_u128() & !NUMBER_MASK) | number)
}

/// The task and the number that a step's uuid stands for.
pub fn split_step_uuid(step: Uuid) -> (Uuid, i32) {
    let bits = step.as_u128();
    let number = i32::try_from(bits & NUMBER_MASK).unwrap_or(MAX_STEP_NUMBER);
    (Uuid::from_u128(bits & !NUMBER_MASK), number)
}

/// The shard a task belongs to, `0..SHARDS`: the four bits above the step number. The function
/// `tasker.shard_of` computes the same in SQL.
pub fn shard_of(task: Uuid) -> i16 {
    i16::from(task.as_bytes()[13] >> 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_uuid_leads_back_to_its_task_and_number() {
        let task = new_task_uuid(Utc::now());
        for number in [0, 1, 17, 10_002, MAX_STEP_NUMBER] {
            assert_eq!(split_step_uuid(step_uuid(task, number)), (task, number));
        }
        assert_eq!(task.get_version_num(), 7);
        assert_eq!(step_uuid(task, 5).get_version_num(), 7);
    }

    #[test]
    fn task_uuids_sort_by_the_time_they_were_accepted() {
        let now = Utc::now();
        let later = now + chrono::Duration::milliseconds(1);
        assert!(new_task_uuid(now) < new_task_uuid(later));
        assert!(lowest_uuid_at(now) <= new_task_uuid(now));
        assert!(lowest_uuid_at(later) > new_task_uuid(now));
    }

    #[test]
    fn tasks_spread_over_every_shard() {
        let mut seen = [false; SHARDS as usize];
        for _ in 0..1000 {
            seen[usize::try_from(shard_of(new_task_uuid(Utc::now()))).unwrap_or_default()] = true;
        }
        assert!(seen.iter().all(|s| *s));
    }
}
