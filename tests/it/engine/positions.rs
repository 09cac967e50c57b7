//! Positions on Postgres, which are assigned after the commit: they follow the order of the
//! changes, whatever transactions are open meanwhile.

use sea_orm::{ConnectionTrait, Database, TransactionTrait};
use serde_json::json;

use crate::harness::{Kind, World, postgres};

#[tokio::test(flavor = "multi_thread")]
async fn what_had_to_wait_is_not_passed_over() {
    if !postgres::available() {
        return;
    }
    let world = World::without_server(Kind::Postgres, None).await;
    // Also read before any event exists.
    for _ in 0..4 {
        assert_eq!(world.db.raise_watermark().await.unwrap(), 0);
    }
    world.create("goal", json!({ "name": "Held" })).await;
    let campaign = world.create("campaign", json!({ "name": "Zero" })).await;
    world.ask_all_events().await;
    // The usual case: every event has its position, so the search for events without one starts
    // after them.
    let mut floor = 0;
    while floor == 0 {
        floor = world.db.raise_watermark().await.unwrap();
    }
    // An earlier transaction stays open: events committed meanwhile have to wait for it.
    let name = world.sql("SELECT current_database()::text").await[0][0].clone();
    let other = Database::connect(postgres::url(&name)).await.unwrap();
    let long = other.begin().await.unwrap();
    long.execute_unprepared("UPDATE goal SET description = description").await.unwrap();
    let rename = "mutation($id: ID!, $n: String!) { updateCampaign(input: { id: $id, name: $n }) { campaign { id } } }";
    for name in ["One", "Two", "Three"] {
        world.ask(rename, json!({ "id": campaign, "n": name })).await;
    }
    let waiting = "SELECT MIN(sequence)::text FROM event WHERE position IS NULL";
    let first: i64 = world.sql(waiting).await[0][0].parse().unwrap();
    for _ in 0..6 {
        assert!(world.db.raise_watermark().await.unwrap() < first, "the look would begin behind what has to wait");
    }
    long.commit().await.unwrap();
    world.ask(rename, json!({ "id": campaign, "n": "Four" })).await;
    world.ask_all_events().await;
    let disorder = "SELECT COUNT(*)::text FROM event a JOIN event b ON b.org_id = a.org_id AND b.sequence > a.sequence AND b.position < a.position";
    assert_eq!(world.sql(disorder).await, [["0"]]);
    assert_eq!(world.sql("SELECT COUNT(*)::text FROM event WHERE position IS NULL").await, [["0"]]);
    // Once it has ended, all events are numbered in order.
    while world.db.raise_watermark().await.unwrap() <= first {}
    // The newest transaction has its sequence number and no younger one has completed: its events
    // are not skipped, either.
    let long = other.begin().await.unwrap();
    long.execute_unprepared("INSERT INTO event (org_id, kind, actor, payload, at) SELECT org_id, 'goal.held', actor, payload, at FROM event LIMIT 1").await.unwrap();
    let taken: i64 = world.sql("SELECT last_value::text FROM event_sequence_seq").await[0][0].parse().unwrap();
    for _ in 0..6 {
        assert!(
            world.db.raise_watermark().await.unwrap() < taken,
            "the look would begin behind what is not committed yet"
        );
    }
    long.commit().await.unwrap();
    world.ask_all_events().await;
    assert_eq!(world.sql("SELECT COUNT(*)::text FROM event WHERE position IS NULL").await, [["0"]]);
    other.close().await.unwrap();
    world.drop_unchecked().await;
}
