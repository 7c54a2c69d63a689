//! Circuits against a database.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use chrono::Utc;
use tasker_shared::db::pool::Target;
use tasker_shared::embedded::Temporary;
use uuid::Uuid;

use super::*;

const BANK: &str = "bank:443";
const HOUR: Duration = Duration::from_secs(60 * 60);
const RULES: Rules = Rules {
    enabled: true,
    failure_threshold: 3,
    success_threshold: 1,
    wait: Duration::from_secs(5),
    longest_wait: Duration::from_secs(60),
    free_probes: 2,
};

/// A database in which the circuit of the bank can be opened.
pub(crate) struct Database {
    _cluster: Temporary,
    pub(crate) target: Target,
    pub(crate) pool: Pool,
    pub(crate) circuits: Circuits,
}

impl Database {
    pub(crate) async fn start() -> Database {
        let cluster = Temporary::start().await.unwrap();
        let target = Target::parse(cluster.url(), "test", Duration::from_secs(5)).unwrap();
        db::migrate::run(&target).await.unwrap();
        let pool = target.pool(4);
        Database {
            _cluster: cluster,
            target,
            circuits: Circuits::new(pool.clone(), RULES),
            pool,
        }
    }

    /// Opens the circuit of the bank and lends its probe for an hour.
    pub(crate) async fn lent(&self) -> Probing {
        let opened = circuits::open(&self.pool, BANK, "no answer", Duration::ZERO).await;
        assert!(opened.unwrap());
        let worker = Uuid::now_v7();
        let lend = "UPDATE tasker.circuits SET probe = $1, probe_no = 1, probe_until = now() + interval '1 hour'";
        let lend = sqlx::query(lend).bind(worker);
        lend.execute(&self.pool).await.unwrap();
        Probing {
            target: Name::of(BANK),
            probe: Probe { worker, number: 1 },
            until: Instant::now() + HOUR,
        }
    }

    /// Waits until so many circuits are open, and so many of their probes out.
    pub(crate) async fn until(&self, open: i64, out: i64) {
        let counts = "SELECT count(*), count(probe) FROM tasker.circuits";
        let reached = async {
            while sqlx::query_as::<_, (i64, i64)>(counts)
                .fetch_one(&self.pool)
                .await
                .unwrap()
                != (open, out)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        reached.expect("circuits and probes as they should be");
    }

    async fn change(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.pool).await.unwrap();
    }
}

/// A step claimed for this attempt, after so many tries.
pub(crate) fn claimed(attempt: i32, tries: i32) -> Claimed {
    Claimed {
        lane: 1,
        id: 1,
        task_uuid: Uuid::now_v7(),
        correlation_id: Uuid::now_v7(),
        step_no: 1,
        attempt,
        tries,
        template_id: 1,
        sampled: false,
        traced: false,
        enqueued_at: Utc::now(),
        claimed_at: Utc::now(),
        context: "{}".to_owned(),
        tracestate: None,
        results: None,
    }
}

#[tokio::test]
async fn what_came_of_a_probe_is_told_again_until_the_database_takes_it() {
    let database = Database::start().await;
    let probing = database.lent().await;
    database
        .change("ALTER TABLE tasker.circuits RENAME TO away")
        .await;
    database.circuits.settle(probing, Verdict::Answered).await;
    database
        .change("ALTER TABLE tasker.away RENAME TO circuits")
        .await;
    database.until(0, 0).await;
}

#[tokio::test]
async fn a_probe_costs_its_step_no_attempt_but_not_for_ever() {
    let target = Target::parse("postgres://nobody@127.0.0.1:1/none", "test", HOUR).unwrap();
    let circuits = Circuits::new(target.pool(1), RULES);
    // Three tries failed before the circuit opened; then probes.
    let table = [
        (1, 0, true),
        (4, 3, true),
        (5, 3, true),
        (6, 3, false),
        (7, 4, false),
        (1, 5, true),
    ];
    for (attempt, tries, spared) in table {
        let spares = circuits.spares(&claimed(attempt, tries));
        assert_eq!(spares, spared, "attempt {attempt} after {tries} tries");
    }
}
