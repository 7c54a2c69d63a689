//! What a wake tells, and that nothing comes of what is not so.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::db::effects::Effects;
use crate::db::wake::{Topic, Wakes, listen};

const PATIENCE: Duration = Duration::from_secs(10);

/// Three steps one after the other, of which the last waits for both others.
const TRIANGLE: &str = "  - {name: s1, handler: {callable: echo}}
  - {name: s2, handler: {callable: echo}, dependencies: [s1]}
  - {name: s3, handler: {callable: echo}, dependencies: [s1, s2]}
";

#[tokio::test]
async fn a_wake_tells_what_a_look_reads_and_nothing_comes_of_what_is_not_so() {
    let mut world = World::new().await;
    let chain = world.template("chain", &chain(3)).await;
    let triangle = world.template("triangle", TRIANGLE).await;
    let wakes = Wakes::default();
    let stop = CancellationToken::new();
    let listening = tokio::spawn(listen(
        world.target.clone(),
        &[Topic::Results],
        wakes.clone(),
        |_| {},
        stop.clone(),
    ));
    assert_eq!(wakes.told(PATIENCE).await, None, "anything may have been");

    for blueprint in [chain, triangle] {
        assert_told(&mut world, &wakes, &blueprint).await;
    }
    stop.cancel();
    listening.await.unwrap();
}

/// A task of three steps that follow each other, of which the last fails.
async fn assert_told(world: &mut World, wakes: &Wakes, blueprint: &Blueprint) {
    let task = world.submit(blueprint).await;
    let worker = world.worker;
    for step in 1..=2 {
        let claimed = world.claim(worker, 1).await;
        world.end(&claimed[0], Outcome::Success).await;
        let told = wakes.told(PATIENCE).await.unwrap();
        assert_eq!(told, world.messages().await);

        let falsified: [fn(&mut Message); 4] = [
            |message| message.id += 1,
            |message| message.step_no = 3 - message.step_no,
            |message| message.priority += 1,
            |message| message.shard = (message.shard + 1) % ids::SHARDS,
        ];
        for falsify in falsified {
            let mut told = told.clone();
            falsify(&mut told[0]);
            assert_eq!(world.apply(told).await.1, Effects::default(), "{step}");
        }
        assert_eq!(world.apply(told).await.1.enqueued.len(), 1);
    }
    let claimed = world.claim(worker, 1).await;
    world.end(&claimed[0], Outcome::Permanent).await;
    assert_eq!(wakes.told(PATIENCE).await, None, "a failure has to be read");
    let mut told = world.messages().await;
    told[0].kind = Kind::Ended(Outcome::Success);
    assert_eq!(world.apply(told).await.1, Effects::default());
    world.advance().await;
    assert_eq!(world.state(task).await.0, TaskState::Error);
}

#[tokio::test]
async fn routes_are_known_once_somebody_has_read_of_them() {
    let mut world = World::new().await;
    let blueprint = world.template("single", &chain(1)).await;
    let key = (blueprint.template_id, 7);
    let known = |world: &World| world.blueprints.known_routes([key]).len();
    assert_eq!(known(&world), 0);
    world.blueprints.routes(vec![key]).await.unwrap();
    assert_eq!(known(&world), 1);
}
