//! How many messages to ask each shard for, so that a batch is filled whether its messages are all of one shard or
//! evenly of all, and little is read that does not fit into it.

use std::collections::HashMap;

/// Asked of every shard at least: of one that had nothing, to see whether it has something now.
const LEAST: usize = 16;

/// What the shards brought when they were last looked at.
#[derive(Debug, Default)]
pub struct Asks {
    taken: HashMap<i16, usize>,
}

impl Asks {
    /// How many to ask these shards for, in their order: of each twice what was last taken of it, of all together a
    /// quarter more than a batch.
    pub(super) fn of(&self, shards: &[i16], batch: usize) -> Vec<usize> {
        let wish = |shard: &i16| {
            let taken = self.taken.get(shard).copied().unwrap_or_default();
            (2 * taken).min(batch).max(LEAST)
        };
        let wishes: Vec<usize> = shards.iter().map(wish).collect();
        let (all, most) = (wishes.iter().sum::<usize>(), batch + batch / 4);
        if all <= most {
            return wishes;
        }
        let share = |wish: &usize| (wish * most / all).max(LEAST);
        wishes.iter().map(share).collect()
    }

    /// The messages with these shards and ids were taken.
    pub(super) fn took(&mut self, taken: &[(i16, i64)]) {
        self.taken.clear();
        for (shard, _) in taken {
            *self.taken.entry(*shard).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARDS: [i16; 4] = [0, 1, 2, 3];

    /// What looks ask for while so many messages wait in the shards; of what they bring, a batch of 1,000 is taken, as
    /// evenly as may be.
    fn looks(waiting: [usize; 4], looks: usize) -> Vec<Vec<usize>> {
        let mut asks = Asks::default();
        let mut look = || {
            let asked = asks.of(&SHARDS, 1_000);
            let mut brought: Vec<(i16, i64)> = Vec::new();
            for (shard, (ask, waiting)) in SHARDS.iter().zip(asked.iter().zip(waiting)) {
                brought.extend((0..*ask.min(&waiting)).map(|id| (*shard, id as i64)));
            }
            brought.sort_by_key(|(_, id)| *id);
            brought.truncate(1_000);
            asks.took(&brought);
            asked
        };
        (0..looks).map(|_| look()).collect()
    }

    #[test]
    fn shards_that_are_alike_share_a_batch_and_a_quarter() {
        let asked = looks([5_000; 4], 6);
        assert_eq!(asked[0], [16; 4]);
        assert_eq!(asked[1], [32; 4]);
        assert_eq!(asked[5], [312; 4]);
    }

    #[test]
    fn one_that_has_all_gets_a_batch() {
        let asked = looks([5_000, 0, 0, 10], 8);
        assert_eq!(asked[7], [1_000, 16, 16, 20]);
    }

    #[test]
    fn what_has_nothing_any_more_is_asked_for_little() {
        let mut asks = Asks::default();
        asks.took(&[(1, 7); 500]);
        assert_eq!(asks.of(&SHARDS, 1_000), [16, 1_000, 16, 16]);
        asks.took(&[]);
        assert_eq!(asks.of(&SHARDS, 1_000), [16; 4]);
    }
}
