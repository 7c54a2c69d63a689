//! Circuits, their probes and the lanes that they park.

use sqlx::postgres::PgListener;

use super::*;
use crate::db::circuits::{self, Circuit, Passed, Probe, Wait};

const BANK: &str = "bank";
const LEASE: Duration = Duration::from_secs(60);
const FIRST: Duration = Duration::from_secs(10);
const WAIT: Wait = Wait {
    first: FIRST,
    longest: Duration::from_secs(45),
    asked: Duration::ZERO,
};

impl World {
    /// An open circuit whose probe is due, with a step that waits for it.
    async fn parked() -> World {
        let mut world = World::new().await;
        let step = "  - {name: pay, handler: {callable: echo, initialization: {circuit: bank}}}\n";
        let blueprint = world.template("pays", step).await;
        world.submit(&blueprint).await;
        world.open_circuit().await;
        world.make_due().await;
        world
    }

    async fn open_circuit(&self) {
        let opened = circuits::open(&self.pool, BANK, "no answer", FIRST).await;
        assert!(opened.unwrap());
    }

    /// Lets the time pass that lies before the next probe.
    async fn make_due(&self) {
        self.change("UPDATE tasker.circuits SET retry_at = now()")
            .await;
    }

    async fn change(&self, sql: &'static str) {
        let done = sqlx::query(sql).execute(&self.pool).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{sql}");
    }

    async fn ask(&self, worker: Uuid) -> Option<Probe> {
        let lanes = lanes::list(&self.pool, &["echo".into()], &[]).await;
        let lanes: Vec<i32> = lanes.unwrap().iter().map(|lane| lane.lane).collect();
        circuits::begin_probe(&self.pool, BANK, worker, LEASE, &lanes)
            .await
            .unwrap()
    }

    async fn lent(&self) -> Probe {
        self.ask(self.worker).await.expect("a probe that is due")
    }

    async fn pass(&self, probe: Probe, threshold: i32) -> Passed {
        circuits::pass_probe(&self.pool, BANK, probe, threshold)
            .await
            .unwrap()
    }

    async fn fail(&self, probe: Probe, wait: Wait) -> Option<Duration> {
        circuits::fail_probe(&self.pool, BANK, probe, "still none", wait)
            .await
            .unwrap()
    }

    async fn circuits(&self) -> Vec<Circuit> {
        circuits::list(&self.pool, 10, None).await.unwrap()
    }

    async fn parked_for(&self) -> Option<Duration> {
        let lanes = lanes::list(&self.pool, &["echo".into()], &[]).await;
        let of_bank = lanes.unwrap().into_iter().find(|lane| lane.target == BANK);
        let ms = of_bank.unwrap().parked_ms?;
        Some(Duration::from_millis(ms.unsigned_abs()))
    }
}

#[tokio::test]
async fn one_probe_is_out_at_a_time_where_it_is_due_and_there_is_work_for_it() {
    let mut world = World::parked().await;
    let none = circuits::begin_probe(&world.pool, BANK, world.worker, LEASE, &[]).await;
    assert_eq!(none.unwrap(), None, "of lanes without work");
    let other = Uuid::now_v7();
    world.register(other).await;
    let probe = world.lent().await;
    assert_eq!(world.ask(other).await, None, "it is out");
    assert!(world.circuits().await[0].probing);
    assert!(world.parked_for().await > Some(LEASE / 2));
    let long = LEASE * 10;
    circuits::extend_probe(&world.pool, BANK, probe, long)
        .await
        .unwrap();
    assert!(world.parked_for().await > Some(long / 2));
    let given_back = circuits::give_probe_back(&world.pool, BANK, probe).await;
    given_back.unwrap();
    assert!(!world.circuits().await[0].probing);
    let next = world.ask(other).await.unwrap();
    assert_eq!((next.worker, next.number), (other, probe.number + 1));
    circuits::give_probe_back(&world.pool, BANK, next)
        .await
        .unwrap();

    let worker = world.worker;
    assert_eq!(world.claim(worker, 10).await.len(), 1);
    assert_eq!(world.ask(worker).await, None, "nothing waits any more");
}

#[tokio::test]
async fn a_probe_whose_worker_lives_no_more_keeps_nobody_out() {
    let world = World::parked().await;
    let other = Uuid::now_v7();
    world.register(other).await;
    let ends = [
        "UPDATE tasker.workers SET lease_until = now() WHERE lease_until > now() AND worker = (SELECT probe FROM tasker.circuits)",
        "UPDATE tasker.workers SET stopped_at = now() WHERE worker = (SELECT probe FROM tasker.circuits)",
        "DELETE FROM tasker.workers WHERE worker = (SELECT probe FROM tasker.circuits)",
    ];
    for end in ends {
        let lost = Uuid::now_v7();
        world.register(lost).await;
        let probe = world.ask(lost).await.unwrap();
        assert_eq!(world.ask(other).await, None);
        world.change(end).await;
        assert!(!world.circuits().await[0].probing, "{end}");
        assert_eq!(world.parked_for().await, Some(Duration::ZERO), "{end}");
        let next = world.ask(other).await.unwrap();
        assert_eq!(world.fail(probe, WAIT).await, None, "it is another's now");
        circuits::give_probe_back(&world.pool, BANK, next)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_comes_of_a_probe_that_is_not_out_any_more_changes_nothing() {
    let world = World::parked().await;
    let late = world.lent().await;
    world
        .change("UPDATE tasker.circuits SET probe_until = now()")
        .await;
    let now = world.lent().await;
    let foreign = Probe {
        worker: Uuid::now_v7(),
        ..now
    };
    let before = world.circuits().await;
    for probe in [late, foreign] {
        assert_eq!(world.pass(probe, 1).await, Passed::Late);
        assert_eq!(world.fail(probe, WAIT).await, None);
        circuits::extend_probe(&world.pool, BANK, probe, Duration::ZERO)
            .await
            .unwrap();
        circuits::give_probe_back(&world.pool, BANK, probe)
            .await
            .unwrap();
    }
    assert_eq!(world.circuits().await, before);
    assert_eq!(world.pass(now, 1).await, Passed::Closed);
    assert_eq!(world.pass(now, 1).await, Passed::Late, "once is enough");
    assert_eq!(world.circuits().await, []);
    assert_eq!(world.parked_for().await, None);
}

#[tokio::test]
async fn as_many_answers_in_a_row_as_configured_close_a_circuit_and_each_is_told() {
    let world = World::parked().await;
    let mut listener = PgListener::connect_with(&world.target.unmeasured_pool(1))
        .await
        .unwrap();
    listener.listen("tasker_lanes").await.unwrap();
    let told = async |listener: &mut PgListener| {
        let heard = tokio::time::timeout(Duration::from_secs(30), listener.recv()).await;
        heard.expect("a notification").unwrap();
    };
    for _ in 0..2 {
        assert_eq!(world.pass(world.lent().await, 3).await, Passed::Open);
        told(&mut listener).await;
    }
    assert!(world.fail(world.lent().await, WAIT).await.is_some());
    world.make_due().await;
    for _ in 0..2 {
        assert_eq!(world.pass(world.lent().await, 3).await, Passed::Open);
        told(&mut listener).await;
    }
    assert_eq!(world.pass(world.lent().await, 3).await, Passed::Closed);
    told(&mut listener).await;
}

#[tokio::test]
async fn the_wait_doubles_with_each_probe_that_fails_up_to_the_longest_or_what_was_asked_for() {
    let world = World::parked().await;
    let asked = Wait {
        asked: Duration::from_secs(600),
        ..WAIT
    };
    let table = [(WAIT, 20), (WAIT, 40), (WAIT, 45), (asked, 600), (WAIT, 45)];
    for (number, (wait, seconds)) in table.into_iter().enumerate() {
        let waits = world.fail(world.lent().await, wait).await;
        assert_eq!(waits, Some(Duration::from_secs(seconds)), "{number}");
        assert_eq!(world.ask(world.worker).await, None, "it is not due");
        world.make_due().await;
    }
    let circuit = world.circuits().await.remove(0);
    assert_eq!(
        (circuit.failures, circuit.reason.as_str()),
        (5, "still none")
    );
    let again = circuits::open(&world.pool, BANK, "again", FIRST).await;
    assert!(!again.unwrap(), "it is open");
    assert!(circuits::close(&world.pool, BANK).await.unwrap());
    assert!(!circuits::close(&world.pool, BANK).await.unwrap());
}

#[tokio::test]
async fn a_circuit_that_nothing_has_tried_for_a_day_is_forgotten() {
    let world = World::parked().await;
    assert_eq!(circuits::delete_old(&world.pool).await.unwrap(), 0);
    let probe = world.lent().await;
    world
        .change("UPDATE tasker.circuits SET retry_at = now() - interval '25 hours'")
        .await;
    let deleted = circuits::delete_old(&world.pool).await.unwrap();
    assert_eq!(deleted, 0, "a probe is out");
    circuits::give_probe_back(&world.pool, BANK, probe)
        .await
        .unwrap();
    assert_eq!(circuits::delete_old(&world.pool).await.unwrap(), 1);
}
