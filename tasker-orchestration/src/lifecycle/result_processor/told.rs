//! What wakes have told, as far as it can be applied without a look.

use std::collections::HashMap;

use tasker_shared::cursor::Cursor;
use tasker_shared::plan::Message;
use tasker_shared::plan::advance::Advance;

/// What of it lies in `shards`, those of this server; nothing where a look is due. Looks that have come further than a
/// message may have brought it already.
pub(super) fn ours(
    mut told: Vec<Message>,
    shards: &[i16],
    cursors: &HashMap<i16, Cursor>,
) -> Option<Vec<Message>> {
    told.retain(|message| shards.contains(&message.shard));
    let is_ahead = |message: &Message| {
        let cursor = cursors.get(&message.shard);
        cursor.is_some_and(|cursor| !cursor.has_reached(message.id))
    };
    told.iter().all(is_ahead).then_some(told)
}

/// Whether the plan of so many messages that were told is applied only where they are as the database has them.
pub(super) fn is_safe(plan: &Advance, messages: usize) -> bool {
    plan.moves.len() == messages && plan.moves.iter().all(|step| step.is_plain())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tasker_shared::plan::advance::Move;
    use tasker_shared::state::step::StepState;

    use super::super::testing::message;
    use super::*;

    #[test]
    fn what_is_told_of_our_shards_is_taken_unless_looks_may_have_brought_it() {
        let now = Instant::now();
        let mut cursor = Cursor::new(now);
        cursor.span(now);
        cursor.brought(Some(7), false, now);
        let cursors = HashMap::from([(3, cursor)]);
        let ids = |told: &[(i16, i64)]| {
            let told = told
                .iter()
                .map(|(shard, id)| message(*shard, *id))
                .collect();
            let ours = ours(told, &[3, 4], &cursors)?;
            Some(ours.iter().map(|m| m.id).collect::<Vec<_>>())
        };
        assert_eq!(ids(&[(3, 8), (9, 1), (3, 9)]), Some(vec![8, 9]));
        assert_eq!(ids(&[(9, 1)]), Some(vec![]), "another server's");
        assert_eq!(ids(&[(3, 8), (3, 7)]), None);
        assert_eq!(ids(&[(4, 8)]), None, "where nobody has looked yet");
    }

    #[test]
    fn a_plan_of_anything_but_successes_is_not_safe() {
        let success = Move {
            message: message(3, 8),
            step: Some((StepState::Enqueued, StepState::Complete)),
            tries: 1,
            lost: 0,
            lane: None,
            delay: None,
            bad: false,
            children: 0..0,
            next: None,
            blocks: false,
        };
        let wide = Move {
            next: Some(1_000),
            ..success.clone()
        };
        let plan = |moves: &[&Move]| Advance {
            moves: moves.iter().map(|&m| m.clone()).collect(),
            ..Advance::default()
        };
        assert!(is_safe(&plan(&[&success]), 1));
        assert!(!is_safe(&plan(&[&success]), 2), "one is of no template");
        assert!(!is_safe(&plan(&[&success, &wide]), 2));
    }
}
