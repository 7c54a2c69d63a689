//! What a crash of the database may take with it, and what must not come of that.

use super::*;

#[tokio::test]
async fn an_advance_is_flushed_where_a_task_ends_and_else_with_the_next_result() {
    let mut world = World::new().await;
    let blueprint = world.template("chain", &chain(2)).await;
    world.submit(&blueprint).await;
    let worker = world.worker;
    for expected in ["off", "on"] {
        let claimed = world.claim(worker, 1).await;
        assert_eq!(world.end(&claimed[0], Outcome::Success).await, 1);
        let messages = world.messages().await;
        world.execute("BEGIN").await;
        world.apply(messages).await;
        let setting: String = sqlx::query_scalar("SHOW synchronous_commit")
            .fetch_one(&mut world.connection)
            .await
            .unwrap();
        world.execute("COMMIT").await;
        assert_eq!(setting, expected);
    }
    world.assert_settled().await;
}

#[tokio::test]
async fn a_result_does_not_count_for_another_step_that_was_given_the_same_id() {
    let mut world = World::new().await;
    let blueprint = world.template("single", &chain(1)).await;
    let task = world.submit(&blueprint).await;
    let worker = world.worker;
    let claimed = world.claim(worker, 1).await;
    world
        .execute("UPDATE tasker.ready SET enqueued_at = enqueued_at + interval '1 us'")
        .await;
    assert_eq!(world.end(&claimed[0], Outcome::Success).await, 0);
    world.advance().await;
    assert_eq!(world.state(task).await.0, TaskState::StepsInProcess);
}

impl World {
    async fn execute(&mut self, sql: &'static str) {
        sqlx::query(sql)
            .execute(&mut self.connection)
            .await
            .unwrap();
    }
}
