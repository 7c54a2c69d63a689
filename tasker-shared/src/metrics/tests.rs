//! One test, because what it looks at belongs to the whole process.

use super::collect::{Reader, Series, Value, for_reader, snapshot};
use super::*;
use crate::name::Name;

const SHOP: Name = Name::fixed("shop");
const ORDER: Name = Name::fixed("order");

fn request(n: u128, sampled: bool) {
    let id = Uuid::from_u128(n);
    orchestration::task_requested(Correlation { id, sampled }, SHOP, ORDER);
}

/// The series of `tasker_tasks_requests_total`: (id, count).
fn requests(families: &[collect::Family]) -> Vec<(u128, u64)> {
    let family = families
        .iter()
        .find(|f| f.definition.prom == "tasker_tasks_requests_total")
        .unwrap();
    let count = |s: &Series| match s.value {
        Value::Count(n) => n,
        _ => panic!("not a counter"),
    };
    let id = |s: &Series| s.correlation_id.unwrap().map_or(0, |id| id.as_u128());
    let mut series: Vec<_> = family.series.iter().map(|s| (id(s), count(s))).collect();
    series.sort_unstable();
    series
}

fn total(series: &[(u128, u64)]) -> u64 {
    series.iter().map(|s| s.1).sum()
}

#[test]
fn ids_have_series_while_there_is_room_and_until_they_are_quiet_and_no_count_is_lost() {
    request(1, true);
    assert!(
        snapshot().is_empty(),
        "nothing is recorded before the start"
    );
    let window = Duration::from_millis(700);
    start(Settings {
        process: Process::Server,
        mode: Mode::Window,
        window,
        limit: 3,
    });

    // Admission: as many as there is room for, the same id again for nothing, those that ask beyond it.
    let admitted: Vec<bool> = (1..=4)
        .map(|n| correlation::admit(Uuid::from_u128(n), 4, false))
        .collect();
    assert_eq!(admitted, [true, true, true, false]);
    assert!(correlation::admit(Uuid::from_u128(1), 4, false));
    assert!(correlation::admit(Uuid::from_u128(5), 4, true));
    assert!(
        !correlation::admit(Uuid::from_u128(6), 1_000, true),
        "a wide task needs many places"
    );

    // What happened is the sum of all series, those of ids without their own included.
    (1..=3).for_each(|n| request(n, true));
    request(1, true);
    request(4, false);
    request(6, false);
    assert_eq!(requests(&snapshot()), [(0, 2), (1, 2), (2, 1), (3, 1)]);

    // A scraper sees each series at zero once, and another one by itself too.
    let scraper = |agent: &str| Reader::Scraper {
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        agent: agent.to_owned(),
    };
    let (first, any) = for_reader(scraper("a"));
    assert!(any && total(&requests(&first)) == 0 && requests(&first).len() == 4);
    request(1, true);
    let (second, any) = for_reader(scraper("a"));
    assert!(!any);
    assert_eq!(requests(&second), [(0, 2), (1, 3), (2, 1), (3, 1)]);
    assert_eq!(total(&requests(&for_reader(scraper("b")).0)), 0);

    // Ids that are quiet are forgotten once those who read have seen them; what has no id of its own stays.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        (0..2).for_each(|_| {
            ["a", "b"]
                .into_iter()
                .for_each(|agent| drop(for_reader(scraper(agent))))
        });
        let left = requests(&snapshot());
        if left == [(0, 2)] {
            break;
        }
        let whole = [(0, 2), (1, 3), (2, 1), (3, 1)];
        assert!(
            left.iter().all(|s| whole.contains(s)),
            "an id goes with all it has or not at all: {left:?}"
        );
        assert!(std::time::Instant::now() < deadline, "{left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        correlation::admit(Uuid::from_u128(4), 4, false),
        "its place is free"
    );
}
