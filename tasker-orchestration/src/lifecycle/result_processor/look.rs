//! What a look at the shards brought, for their cursors.

use std::collections::HashMap;
use std::time::Instant;

use tasker_shared::cursor::Cursor;
use tasker_shared::db::advance::{Ask, Listed};

/// A look at some shards, until what it brought has been worked off.
#[derive(Debug)]
pub(super) struct Look {
    /// When it ended.
    at: Instant,
    shards: Vec<Shard>,
}

/// A shard that was looked at.
#[derive(Debug)]
struct Shard {
    shard: i16,
    /// It was asked for all that it has, not only for what lies between two ids.
    is_open: bool,
    /// It has as many messages as were asked for, some to be worked off, so that there may be more.
    is_full: bool,
    listed: usize,
    /// The last of its messages that are a newer version's and stay; how many there are.
    unknown: (Option<i64>, usize),
}

impl Look {
    /// A look at no shard.
    pub(super) fn nowhere(at: Instant) -> Look {
        let shards = Vec::new();
        Look { at, shards }
    }

    /// A look until `at` that asked shards for so many messages.
    pub(super) fn new(at: Instant, asks: &[Ask], listed: &Listed) -> Look {
        let mut known: HashMap<i16, usize> = HashMap::new();
        for message in &listed.messages {
            *known.entry(message.shard).or_default() += 1;
        }
        let unknown = by_shard(&listed.unknown);
        let shard = |ask: &Ask| {
            let unknown = unknown.get(&ask.shard).copied().unwrap_or_default();
            let known = known.get(&ask.shard).copied().unwrap_or_default();
            let listed = known + unknown.1;
            Shard {
                shard: ask.shard,
                is_open: ask.span.is_open(),
                is_full: known > 0 && i64::try_from(listed).is_ok_and(|n| n >= ask.most),
                listed,
                unknown,
            }
        };
        let shards = asks.iter().map(shard).collect();
        Look { at, shards }
    }

    /// How many messages the shards have that were asked for all they have, known or not.
    pub(super) fn of_all(&self) -> impl Iterator<Item = (i16, usize)> {
        let open = self.shards.iter().filter(|shard| shard.is_open);
        open.map(|shard| (shard.shard, shard.listed))
    }

    /// Tells the cursors, now that the messages with these shards and ids have been taken; says whether there may be
    /// more.
    pub(super) fn brought(&self, taken: &[(i16, i64)], cursors: &mut HashMap<i16, Cursor>) -> bool {
        let taken = by_shard(taken);
        let mut may_be_more = false;
        for shard in &self.shards {
            let (last, count) = taken.get(&shard.shard).copied().unwrap_or_default();
            let (last_unknown, unknown) = shard.unknown;
            let is_left = count + unknown < shard.listed;
            may_be_more |= is_left;
            if is_left && count == 0 {
                // The batch did not come to it.
                continue;
            }
            let filled = shard.is_full || is_left;
            // What is unknown does not hold up what is behind it, nor is it passed over for what is before it.
            let last = if is_left {
                last
            } else {
                last.max(last_unknown)
            };
            if let Some(cursor) = cursors.get_mut(&shard.shard) {
                may_be_more |= filled | cursor.brought(last, filled, self.at);
            }
        }
        may_be_more
    }
}

/// The highest id of each shard, and how many there are.
fn by_shard(messages: &[(i16, i64)]) -> HashMap<i16, (Option<i64>, usize)> {
    let mut found: HashMap<i16, (Option<i64>, usize)> = HashMap::new();
    for (shard, id) in messages {
        let (last, count) = found.entry(*shard).or_default();
        (*last, *count) = ((*last).max(Some(*id)), *count + 1);
    }
    found
}

#[cfg(test)]
mod tests {
    use tasker_shared::cursor::Span;

    use super::super::testing::message;
    use super::*;

    const SHARDS: [i16; 2] = [3, 4];

    fn listed(known: &[(i16, i64)], unknown: &[(i16, i64)]) -> Listed {
        Listed {
            messages: known
                .iter()
                .map(|&(shard, id)| message(shard, id))
                .collect(),
            unknown: unknown.to_vec(),
        }
    }

    /// What looks for 2 messages of each shard say, and where the next one begins in both.
    fn looks(steps: &[(Listed, &[(i16, i64)])]) -> Vec<(bool, i64, i64)> {
        let start = Instant::now();
        let mut cursors: HashMap<i16, Cursor> =
            SHARDS.map(|shard| (shard, Cursor::new(start))).into();
        let behind = |cursors: &mut HashMap<i16, Cursor>| {
            SHARDS.map(|shard| cursors.get_mut(&shard).map_or(-1, |c| c.span(start).behind))
        };
        let _ = behind(&mut cursors);
        let asks = SHARDS.map(|shard| Ask {
            shard,
            span: Span::behind(0),
            most: 2,
        });
        let look = |(listed, taken): &(Listed, &[(i16, i64)])| {
            let more = Look::new(start, &asks, listed).brought(taken, &mut cursors);
            let [first, second] = behind(&mut cursors);
            (more, first, second)
        };
        steps.iter().map(look).collect()
    }

    #[test]
    fn a_shard_that_is_full_is_read_on_and_looked_at_again_at_its_end() {
        let both = [(3, 7), (3, 9), (4, 8)];
        let seen = looks(&[
            (listed(&both, &[]), &both),
            (listed(&[], &[]), &[]),
            (listed(&[], &[]), &[]),
        ]);
        assert_eq!(seen, [(true, 9, 0), (true, 0, 0), (false, 0, 0)]);
    }

    #[test]
    fn what_a_batch_did_not_take_is_looked_at_again() {
        let seen = looks(&[(listed(&[(3, 7), (3, 8), (4, 9)], &[]), &[(3, 7)])]);
        assert_eq!(seen, [(true, 7, 0)], "and nothing is known of the other");
    }

    #[test]
    fn messages_of_a_newer_version_are_passed_over() {
        let seen = looks(&[
            (listed(&[(3, 5)], &[(3, 6), (4, 7), (4, 8)]), &[(3, 5)]),
            (listed(&[], &[(4, 7), (4, 8)]), &[]),
            (listed(&[], &[(4, 7), (4, 8)]), &[]),
        ]);
        assert_eq!(seen, [(true, 6, 0), (true, 0, 0), (false, 0, 0)]);
    }
}
