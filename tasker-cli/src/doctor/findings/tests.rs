use chrono::{TimeDelta, Utc};
use tasker_shared::db::doctor::{Cluster, Role, Server, Unserved};
use tasker_shared::db::migrate::Missing;

use super::*;
use crate::doctor::look::Skew;

fn server_facts() -> Server {
    Server {
        version_number: 150_004,
        version: "15.4".to_owned(),
        max_connections: 100,
        connections: 10,
        fsync: true,
        full_page_writes: true,
        autovacuum: true,
        synchronous_commit: true,
        is_replica: false,
        encrypted: false,
        remote: false,
        now: Utc::now(),
        oldest_transaction_seconds: 1.0,
    }
}

/// The worst of findings, which must say how to mend whatever is not well.
fn worst(findings: &[Finding]) -> Status {
    for finding in findings {
        assert!(!finding.message.is_empty());
        assert_eq!(
            finding.mend.is_empty(),
            finding.status == Status::Ok,
            "{finding:?}"
        );
    }
    let statuses = findings.iter().map(|finding| finding.status);
    statuses.max_by_key(|status| *status as u8).unwrap()
}

#[test]
fn a_database_is_judged_by_what_it_is_and_how_it_is_set() {
    use Status::{Fail, Ok, Warn};
    type Change = fn(&mut Server);
    let table: [(Change, Status); 13] = [
        (|_| {}, Ok),
        (|s| s.version_number = 130_011, Fail),
        (|s| s.is_replica = true, Fail),
        (|s| s.remote = true, Warn),
        (|s| (s.remote, s.encrypted) = (true, true), Ok),
        (|s| s.fsync = false, Warn),
        (|s| s.full_page_writes = false, Warn),
        (|s| s.synchronous_commit = false, Warn),
        (|s| s.autovacuum = false, Fail),
        (|s| s.connections = 80, Warn),
        (|s| s.connections = 79, Ok),
        (|s| s.max_connections = 19, Warn),
        (|s| s.oldest_transaction_seconds = 3_600.0, Warn),
    ];
    for (number, (change, expected)) in table.into_iter().enumerate() {
        let mut server = server_facts();
        change(&mut server);
        let mut found = settings(&server, &Config::default());
        found.push(reachable(&server));
        assert_eq!(worst(&found), expected, "{number}: {found:?}");
    }
}

#[test]
fn clocks_are_judged_by_what_is_sure() {
    for (ahead_ms, uncertainty_ms, expected) in [
        (0, 5, Status::Ok),
        (900, 5, Status::Ok),
        (1_500, 5, Status::Warn),
        (-1_500, 5, Status::Warn),
        (1_500, 800, Status::Ok),
        (-40_000, 10, Status::Fail),
    ] {
        let found = clock(Skew {
            ahead: TimeDelta::milliseconds(ahead_ms),
            uncertainty: TimeDelta::milliseconds(uncertainty_ms),
        });
        assert_eq!(worst(&[found]), expected, "{ahead_ms} ± {uncertainty_ms}");
    }
}

#[test]
fn a_role_needs_all_of_the_schema_and_partitions_ahead() {
    let now = Utc::now();
    let good = Role {
        role: "tasker".to_owned(),
        can_create: true,
        partitions_until: Some(now + TimeDelta::days(30)),
        ..Role::default()
    };
    type Change = fn(&mut Role);
    let table: [(Change, Status); 7] = [
        (|_| {}, Status::Ok),
        (|r| r.can_create = false, Status::Fail),
        (|r| r.closed.push("steps".to_owned()), Status::Fail),
        (|r| r.not_owned.push("steps".to_owned()), Status::Fail),
        (|r| r.partitions_until = None, Status::Fail),
        (
            |r| r.partitions_until = r.partitions_until.map(|at| at - TimeDelta::days(25)),
            Status::Warn,
        ),
        (
            |r| r.partitions_until = r.partitions_until.map(|at| at - TimeDelta::days(31)),
            Status::Fail,
        ),
    ];
    for (number, (change, expected)) in table.into_iter().enumerate() {
        let mut changed = good.clone();
        change(&mut changed);
        assert_eq!(worst(&role(&changed, now)), expected, "{number}");
    }
}

#[test]
fn migrations_that_are_pending_and_ones_that_were_changed_are_told_apart() {
    let missing = |changed| Missing {
        name: "3 dead letters".to_owned(),
        changed,
    };
    assert_eq!(worst(&[migrations(&[])]), Status::Ok);
    let pending = migrations(&[missing(false)]);
    assert!(pending.message.starts_with("pending: 3 dead letters"));
    let changed = migrations(&[missing(false), missing(true)]);
    assert!(changed.message.contains("another form"));
    assert_eq!(worst(&[pending, changed]), Status::Fail);
}

#[test]
fn a_cluster_is_judged_by_who_is_there_and_what_waits() {
    let good = Cluster {
        servers: 2,
        workers: 3,
        slots: 30,
        busy: 29,
        api_keys: 1,
        ..Cluster::default()
    };
    let mut config = Config::default();
    config.auth.enabled = true;
    type Change = fn(&mut Cluster);
    let table: [(Change, Status); 8] = [
        (|_| {}, Status::Ok),
        (|c| c.servers = 0, Status::Warn),
        (|c| c.orphaned_shards = 3, Status::Warn),
        (|c| c.workers = 0, Status::Warn),
        (|c| c.busy = 30, Status::Warn),
        (|c| c.open_circuits = 1, Status::Warn),
        (|c| c.pending_dead_letters = 1, Status::Warn),
        (|c| c.api_keys = 0, Status::Warn),
    ];
    for (number, (change, expected)) in table.into_iter().enumerate() {
        let mut changed = good.clone();
        change(&mut changed);
        assert_eq!(
            worst(&cluster(&changed, &[], &config)),
            expected,
            "{number}"
        );
    }
    let unserved = Unserved {
        namespace: "shop".to_owned(),
        callable: "charge".to_owned(),
    };
    let found = cluster(&good, &[unserved], &config);
    assert_eq!(worst(&found), Status::Warn);
    assert!(
        found
            .iter()
            .any(|finding| finding.message.contains("shop/charge"))
    );
}

#[test]
fn an_open_address_without_authentication_is_told() {
    use Status::{Fail, Ok, Warn};
    for (listen, auth, anonymous, expected) in [
        ("127.0.0.1:8080", false, false, Ok),
        ("0.0.0.0:8080", true, false, Ok),
        ("0.0.0.0:8080", false, true, Warn),
        ("0.0.0.0:8080", false, false, Fail),
    ] {
        let mut config = Config::default();
        config.server.listen = listen.parse().unwrap();
        config.auth.enabled = auth;
        config.server.allow_anonymous = anonymous;
        assert_eq!(
            worst(&[authentication(&config)]),
            expected,
            "{listen} {auth}"
        );
    }
}

#[test]
fn what_is_not_reached_is_told_with_what_to_do() {
    let config = Config::default();
    assert_eq!(worst(&[telemetry(&config, None)]), Status::Ok);
    assert_eq!(worst(&[telemetry(&config, Some(Ok(())))]), Status::Ok);
    let refused = telemetry(&config, Some(Err("connection refused".to_owned())));
    assert_eq!(worst(&[refused]), Status::Warn);
    let url = "http://127.0.0.1:8080";
    let answers = [
        (Result::Ok(()), Status::Ok),
        (
            Err(Failure::refused(
                reqwest::StatusCode::UNAUTHORIZED,
                String::new(),
            )),
            Status::Warn,
        ),
        (
            Err(Failure::refused(
                reqwest::StatusCode::SERVICE_UNAVAILABLE,
                String::new(),
            )),
            Status::Fail,
        ),
        (Err(Failure::Usage("no address".to_owned())), Status::Warn),
    ];
    for (answered, expected) in answers {
        assert_eq!(worst(&[server(url, answered)]), expected);
    }
    assert_eq!(worst(&[no_database()]), Status::Fail);
}
