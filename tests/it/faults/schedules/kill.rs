//! A kill during a catch-up: missed occurrences are caught up once, by whichever process takes
//! over.

use std::time::{Duration, Instant};

use serde_json::json;
use sortie::kernel::clock::Clock;

use crate::harness::life::Home;
use crate::harness::{Kind, World, postgres};

both! {
    async fn in_the_middle_of_a_catch_up(kind) {
        let world = World::without_server(kind, None).await;
        let now = || Clock::real().now();
        world.clock.set(now() - chrono::Duration::minutes(20));
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        world.schedule(&plan, json!({ "cron": "* * * * *", "catchUp": "ALL", "catchUpWindowSeconds": 600 })).await;
        // The real binary starts after 20 minutes of downtime, and dies three times before the
        // commit of a start.
        let url = match kind {
            Kind::Sqlite => format!("sqlite://{}", world.folder.join("sortie.db").display()),
            Kind::Postgres => postgres::url(world.folder.file_name().unwrap().to_str().unwrap()),
        };
        let home = Home::at(world.folder.clone(), url);
        world.db.close().await;
        drop(world);
        for place in ["firing:1", "firing:3", "firing:2"] {
            let deadline = Instant::now() + Duration::from_secs(60);
            if let Some(mut life) = home.begin_at(Some(place)) {
                while !life.is_over() {
                    life.post("{ __typename }", json!({})).await;
                    assert!(Instant::now() < deadline, "{place} was not reached");
                }
            }
            home.gone().await;
        }
        let life = home.begin();
        let deadline = Instant::now() + Duration::from_secs(60);
        while home.count("SELECT COUNT(*) FROM event WHERE kind = 'schedule.fired'").await < 9 {
            assert!(Instant::now() < deadline, "it was not made up for");
        }
        life.kill();
        home.gone().await;
        // Each start belongs to a different occurrence; the checker verifies that all are accounted
        // for.
        let fired = home.count("SELECT COUNT(*) FROM event WHERE kind = 'schedule.fired'").await;
        let started = home.count("SELECT COUNT(DISTINCT occurrence_at) FROM run WHERE status <> 'SCHEDULED'").await;
        let stretches = home.count("SELECT COUNT(*) FROM unfired").await;
        assert_eq!((started, stretches), (fired, 1));
        home.check();
        home.remove();
    }
}
