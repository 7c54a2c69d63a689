//! Whose steps are taken back, and how long after.

use std::collections::BTreeSet;

use super::*;

const SINGLE: &str = "  - {name: a, handler: {callable: echo}}\n";

#[tokio::test]
async fn what_somebody_has_who_is_not_alive_comes_back_however_long_ago_he_stopped() {
    let mut world = World::new().await;
    let blueprint = world.template("single", SINGLE).await;
    let alive = world.worker;
    let (stopped, forgotten) = (Uuid::now_v7(), Uuid::now_v7());
    for worker in [stopped, forgotten, alive] {
        if worker != alive {
            world.register(worker).await;
        }
        world.submit(&blueprint).await;
        assert_eq!(world.claim(worker, 1).await.len(), 1);
    }
    let long_ago =
        "UPDATE tasker.workers SET stopped_at = now() - interval '20 s' WHERE worker = $1";
    let never = "DELETE FROM tasker.workers WHERE worker = $1";
    for (worker, sql) in [(stopped, long_ago), (forgotten, never)] {
        let query = sqlx::query(sql).bind(worker);
        query.execute(&mut world.connection).await.unwrap();
    }
    let recent = workers::expire(&world.pool, 15_000, false).await.unwrap();
    assert!(recent.is_empty(), "stopped too long ago: {recent:?}");
    let gone = workers::expire(&world.pool, 15_000, true).await.unwrap();
    assert_eq!(
        BTreeSet::from_iter(gone.clone()),
        BTreeSet::from([stopped, forgotten])
    );
    assert_eq!(workers::rescue(&world.pool, &gone, 10).await.unwrap(), 2);
    world.advance().await;
    assert_eq!(world.claim(alive, 10).await.len(), 2);
}
