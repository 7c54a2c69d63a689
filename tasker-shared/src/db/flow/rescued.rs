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
    let expire = async |within| workers::expire(&world.pool, 15_000, within).await.unwrap();
    let recent = expire(None).await.workers;
    assert!(recent.is_empty(), "stopped too long ago: {recent:?}");
    let Expired { newest, .. } = expire(None).await;
    let above = expire(Some(Span::behind(newest))).await.workers;
    assert!(above.is_empty(), "none of those ids: {above:?}");
    let gone = expire(Some(Span::behind(0))).await.workers;
    assert_eq!(
        BTreeSet::from_iter(gone.clone()),
        BTreeSet::from([stopped, forgotten])
    );
    assert_eq!(workers::rescue(&world.pool, &gone, 10).await.unwrap(), 2);
    world.advance().await;
    assert_eq!(world.claim(alive, 10).await.len(), 2);
}

#[tokio::test]
async fn what_a_worker_never_heard_of_comes_back_where_it_is_looked_for() {
    let mut world = World::new().await;
    let blueprint = world.template("single", SINGLE).await;
    world.submit(&blueprint).await;
    world.submit(&blueprint).await;
    let worker = world.worker;
    let claimed = world.claim(worker, 2).await;
    let [heard, unheard] = &claimed[..] else {
        panic!("{claimed:?}");
    };
    let give_back = async |(lane, within)| {
        workers::give_back_unheard(&world.pool, worker, &[heard.id], &[lane], within, 10)
            .await
            .unwrap()
    };
    let lane = unheard.lane;
    let GivenBack { newest, .. } = give_back((lane, Span::behind(unheard.id))).await;
    assert!(newest >= unheard.id);
    let below = Span {
        behind: 0,
        until: unheard.id - 1,
    };
    for elsewhere in [
        (lane, Span::behind(newest)),
        (lane, below),
        (lane + 1, Span::behind(0)),
    ] {
        assert_eq!(give_back(elsewhere).await.steps, 0, "{elsewhere:?}");
    }
    assert_eq!(give_back((lane, Span::behind(0))).await.steps, 1);
    world.advance().await;
    let again = world.claim(worker, 10).await;
    assert_eq!(again.len(), 1);
    assert_eq!(
        (again[0].task_uuid, again[0].attempt),
        (unheard.task_uuid, 2)
    );
}
