//! Which tables autovacuum is held off. Pure.

use std::collections::BTreeMap;

use tasker_shared::db::autovacuum::Table;

/// So many vacuums have ended since the oldest snapshot was taken, and another one is in vain. Of one alone it could be that it
/// had begun before.
const ENOUGH: i64 = 2;

/// What is known of the tables since the oldest snapshot is what it is.
#[derive(Debug, Default)]
pub(super) struct Holding {
    horizon: Option<i64>,
    /// How often each had been vacuumed when it was first looked at since.
    seen: BTreeMap<String, i64>,
}

/// To hold autovacuum off a table, or to let it in again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order<'a> {
    pub(super) table: &'a str,
    pub(super) hold: bool,
}

impl Holding {
    /// What is to be done after a look at all tables that matter. Until it is done, each look says so again.
    pub(super) fn look<'a>(&mut self, tables: &'a [Table]) -> Vec<Order<'a>> {
        let horizon = tables.iter().find_map(|table| table.horizon);
        if horizon.is_none() || horizon != self.horizon {
            self.seen.clear();
            self.horizon = horizon;
        }
        tables
            .iter()
            .filter_map(|table| self.order(table))
            .collect()
    }

    fn order<'a>(&mut self, table: &'a Table) -> Option<Order<'a>> {
        let name = table.name.as_str();
        if table.is_held {
            // Held off for a snapshot that has gone, or by whoever had this duty before.
            let let_in = !self.seen.contains_key(name);
            return let_in.then_some(Order {
                table: name,
                hold: false,
            });
        }
        let before = self.seen.entry(name.to_owned()).or_insert(table.vacuums);
        // Counts begin anew after a crash.
        *before = table.vacuums.min(*before);
        (table.vacuums - *before >= ENOUGH).then_some(Order {
            table: name,
            hold: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(horizon: Option<i64>, vacuums: i64, is_held: bool) -> [Table; 1] {
        let name = "ready".to_owned();
        [Table {
            name,
            vacuums,
            is_held,
            horizon,
        }]
    }

    /// What is ordered for the one table at each look.
    fn orders(looks: &[[Table; 1]]) -> Vec<Option<bool>> {
        let mut holding = Holding::default();
        let mut order = |look| holding.look(look).first().map(|order| order.hold);
        looks.iter().map(|look| order(look)).collect()
    }

    #[test]
    fn autovacuum_is_held_off_what_it_has_read_twice_since_the_oldest_snapshot() {
        let looks = [7, 8, 9].map(|vacuums| table(Some(100), vacuums, false));
        assert_eq!(orders(&looks), [None, None, Some(true)]);
        let held = [looks.to_vec(), vec![table(Some(100), 9, true)]].concat();
        assert_eq!(orders(&held)[3], None, "it stays so");
    }

    #[test]
    fn it_is_not_while_snapshots_come_and_go() {
        let looks = [(100, 7), (200, 8), (300, 9), (400, 10)];
        let looks = looks.map(|(horizon, vacuums)| table(Some(horizon), vacuums, false));
        assert_eq!(orders(&looks), [None; 4]);
        // Nobody looks at anything.
        let looks = [7, 8, 9, 10].map(|vacuums| table(None, vacuums, false));
        assert_eq!(orders(&looks), [None; 4]);
    }

    #[test]
    fn it_is_let_in_again_when_the_snapshot_has_gone_and_until_that_is_done() {
        for horizon in [Some(200), None] {
            let looks = [
                table(Some(100), 7, false),
                table(Some(100), 9, false),
                table(Some(100), 9, true),
                table(horizon, 9, true),
                table(horizon, 9, true),
                table(horizon, 9, false),
            ];
            let expected = [None, Some(true), None, Some(false), Some(false), None];
            assert_eq!(orders(&looks), expected, "{horizon:?}");
        }
    }

    #[test]
    fn what_could_not_be_held_off_is_tried_again() {
        let looks = [7, 9, 9].map(|vacuums| table(Some(100), vacuums, false));
        assert_eq!(orders(&looks), [None, Some(true), Some(true)]);
    }

    #[test]
    fn whoever_has_the_duty_next_lets_autovacuum_in_first() {
        assert_eq!(orders(&[table(Some(100), 9, true)]), [Some(false)]);
    }

    #[test]
    fn counts_that_began_anew_are_counted_from_there() {
        let looks = [9, 0, 1, 2].map(|vacuums| table(Some(100), vacuums, false));
        assert_eq!(orders(&looks), [None, None, None, Some(true)]);
    }
}
