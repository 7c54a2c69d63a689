use super::*;

const SHORT: Duration = Duration::from_secs(1);

/// Makes something wrong.
type Spoil = fn(&mut Report);

/// A storm of one strike each of a killed worker, a crash and a cut, in which all went well.
fn well() -> Report {
    let strike = |kind, struck, taken_over: Option<Duration>| Recovery {
        kinds: vec![(kind, struck)],
        whom: vec![String::new()],
        recovered: SHORT,
        taken_over: taken_over.map(|time| TakenOver { kind, time }),
    };
    Report {
        seed: 1,
        took: SHORT,
        kinds: vec![
            Kind::WorkerKilled,
            Kind::DatabaseCrashed,
            Kind::ConnectionsCut,
        ],
        recoveries: vec![
            strike(Kind::WorkerKilled, 3, Some(SHORT)),
            strike(Kind::DatabaseCrashed, 0, None),
            strike(Kind::ConnectionsCut, 2, None),
        ],
        skipped: Vec::new(),
        audit: Audit::default(),
    }
}

#[test]
fn a_storm_in_which_all_went_well_has_nothing_wrong() {
    assert_eq!(well().wrong(), Vec::<String>::new());
}

#[test]
fn what_struck_nothing_was_not_measured_or_took_too_long_is_wrong() {
    let cases: [(&str, Spoil); 6] = [
        ("struck nothing", |r| r.recoveries[2].kinds[0].1 = 0),
        ("struck nothing", |r| drop(r.recoveries.pop())),
        ("killed worker", |r| r.recoveries[0].taken_over = None),
        ("killed worker", |r| {
            let kind = Kind::WorkerKilled;
            r.recoveries[0].taken_over = Some(TakenOver { kind, time: WORKER });
        }),
        ("PostgreSQL's return", |r| {
            r.recoveries[1].recovered = DATABASE
        }),
        ("PostgreSQL's return", |r| {
            r.recoveries[1].kinds.push((Kind::ServerKilled, 1));
        }),
    ];
    for (what, spoil) in cases {
        let mut report = well();
        spoil(&mut report);
        let wrong = report.wrong();
        assert_eq!(wrong.len(), 1, "{what}: {wrong:?}");
        assert!(wrong[0].contains(what), "{what}: {wrong:?}");
    }
}

#[test]
fn the_table_tells_strikes_alone_from_those_with_another() {
    let mut report = well();
    report.recoveries.push(Recovery {
        kinds: vec![(Kind::WorkerKilled, 1), (Kind::ConnectionsCut, 2)],
        whom: vec![String::new(), String::new()],
        recovered: 3 * SHORT,
        taken_over: None,
    });
    let table = report.to_string();
    let row = "| connections cut | 1.0 s (1) | 3.0 s (1) | 4 connections |";
    assert!(table.lines().any(|line| line == row), "{table}");
}
