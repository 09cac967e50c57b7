//! Nothing is sent after the response to an opt-out: the response waits for reservations in flight.

use std::time::Duration;

use sea_orm::ConnectionTrait;
use serde_json::json;

use super::person;
use crate::harness::{Kind, World};

both! {
    async fn every_opt_out_waits_for_the_reservations_that_are_under_way(kind) {
        let world = World::without_server(kind, None).await;
        let ann = person(&world, "Ann", "ann@example.com").await;
        person(&world, "Bob", "bob@example.com").await;
        let asked = [
            ("mutation { unsubscribeRecords(input: { filter: { name: { eq: \"Bob\" } } }) { count } }", json!({})),
            ("mutation($id: ID!) { updateRecord(input: { id: $id, unsubscribed: true }) { record { id } } }", json!({ "id": ann })),
            ("mutation { suppressAddress(input: { channel: EMAIL, address: \"eve@example.com\", reason: \"asked\" }) { suppression { id } } }", json!({})),
        ];
        for (query, variables) in asked {
            // A reservation that has read the suppression list, and has not committed yet.
            let reserving = world.db.write().begin().await.unwrap();
            if kind == Kind::Postgres {
                let low = world.viewer.org_id.0.as_u64_pair().1.cast_signed();
                reserving.db().execute_unprepared(&format!("SELECT pg_advisory_xact_lock_shared({low})")).await.unwrap();
            }
            let mut answer = Box::pin(world.post(query, variables));
            let early = tokio::time::timeout(Duration::from_millis(300), &mut answer).await;
            assert!(early.is_err(), "{query} was answered: {early:?}");
            world.db.write().end(reserving, Ok(()), &mut 0).await.unwrap().unwrap();
            let answer = answer.await;
            assert!(answer.get("errors").is_none(), "{answer:#}");
        }
        world.tick(true).await;
        world.end().await;
    }
}
