//! How many messages to ask each shard for, so that a batch is filled whether its messages are all of one shard or
//! evenly of all, and little is read that does not fit into it.

use std::collections::HashMap;

use super::look::Look;

/// Asked of every shard at least: of one that had nothing, to see whether it has something now.
const LEAST: usize = 16;

/// What the shards brought when all that they have was last looked at.
#[derive(Debug, Default)]
pub struct Asks {
    brought: HashMap<i16, usize>,
}

impl Asks {
    /// How many to ask these shards for, in their order: of each twice what it last brought, of all together a quarter
    /// more than a batch, and of none less than the least.
    pub(super) fn of(&self, shards: &[i16], batch: usize) -> Vec<usize> {
        let wish = |shard: &i16| {
            let brought = self.brought.get(shard).copied().unwrap_or_default();
            (2 * brought).min(batch).max(LEAST)
        };
        let wishes: Vec<usize> = shards.iter().map(wish).collect();
        let (all, most) = (wishes.iter().sum::<usize>(), batch + batch / 4);
        if all <= most {
            return wishes;
        }
        let share = |wish: &usize| (wish * most / all).max(LEAST);
        wishes.iter().map(share).collect()
    }

    /// A look ended. What is unknown counts, too: what is behind it is to be seen. What lies between two ids says nothing
    /// of what is above them.
    pub(super) fn brought(&mut self, look: &Look) {
        self.brought.extend(look.of_all());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tasker_shared::cursor::Span;
    use tasker_shared::db::advance::{Ask, Listed};

    use super::super::testing::message;
    use super::*;

    const SHARDS: [i16; 4] = [0, 1, 2, 3];
    const BATCH: usize = 1_000;

    fn look(asks: &mut Asks, span: Span, waiting: [usize; 4]) {
        let counts = asks.of(&SHARDS, BATCH);
        let mut listed = Listed::default();
        let mut asked = Vec::new();
        for ((shard, count), waiting) in SHARDS.into_iter().zip(counts).zip(waiting) {
            let ids = 0..count.min(waiting);
            let messages = ids.map(|id| message(shard, id as i64));
            listed.messages.extend(messages);
            let most = count as i64;
            asked.push(Ask { shard, span, most });
        }
        asks.brought(&Look::new(Instant::now(), &asked, &listed));
    }

    /// What the last of some looks asks for while so many messages wait in the shards.
    fn asked(waiting: [usize; 4], looks: usize) -> Vec<usize> {
        let mut asks = Asks::default();
        for _ in 1..looks {
            look(&mut asks, Span::behind(0), waiting);
        }
        asks.of(&SHARDS, BATCH)
    }

    #[test]
    fn shards_that_are_alike_share_a_batch_and_a_quarter() {
        assert_eq!(asked([5_000; 4], 1), [16; 4]);
        assert_eq!(asked([5_000; 4], 2), [32; 4]);
        assert_eq!(asked([5_000; 4], 6), [312; 4]);
    }

    #[test]
    fn one_that_has_all_gets_a_batch_until_it_has_nothing_any_more() {
        assert_eq!(asked([5_000, 0, 0, 10], 8), [1_000, 16, 16, 20]);
        let mut asks = Asks::default();
        (0..8).for_each(|_| look(&mut asks, Span::behind(0), [5_000, 0, 0, 0]));
        let slice = Span {
            behind: 0,
            until: 10,
        };
        look(&mut asks, slice, [0; 4]);
        assert_eq!(asks.of(&SHARDS, BATCH), [1_000, 16, 16, 16]);
        look(&mut asks, Span::behind(0), [0; 4]);
        assert_eq!(asks.of(&SHARDS, BATCH), [16; 4]);
    }

    #[test]
    fn what_is_unknown_is_looked_beyond() {
        let mut asks = Asks::default();
        let listed = Listed {
            messages: Vec::new(),
            unknown: vec![(1, 7); 500],
        };
        let asked = SHARDS.map(|shard| Ask {
            shard,
            span: Span::behind(0),
            most: 500,
        });
        asks.brought(&Look::new(Instant::now(), &asked, &listed));
        assert_eq!(asks.of(&SHARDS, BATCH), [16, 1_000, 16, 16]);
    }
}
