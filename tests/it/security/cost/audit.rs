//! Rejected mutations don't fill the disk: entries beyond the rate are only counted, long ones are
//! truncated, old ones are deleted.

use chrono::Duration;
use entity::member::Role;
use serde_json::json;

use crate::faults::engine::{refuse, take_again};
use crate::harness::{World, noon};

both! {
    async fn refusals_are_counted(kind) {
        let world = World::with_auth(kind).await;
        let key = world.key(Role::Viewer).await;
        let before = world.number("SELECT COUNT(*) FROM audit").await;
        let roots: String =
            (0..40).map(|i| format!("m{i}: createGoal(input: {{ name: $name }}) {{ goal {{ id }} }} ")).collect();
        let query = format!("mutation($name: String!) {{ {roots} }}");
        for i in 0..20 {
            let name = format!("{i} {}", "long".repeat(10_000));
            let (_, answer) = world.post_as(&key, &query, json!({ "name": name })).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN", "{answer}");
        }
        let rows = world.number("SELECT COUNT(*) FROM audit").await - before;
        assert!(rows <= 20, "{rows} entries of 800 refusals");
        world.clock.set(noon() + Duration::minutes(2));
        world.post_as(&key, &query, json!({ "name": "again" })).await;
        let times = world.number("SELECT CAST(SUM(times) AS bigint) FROM audit WHERE outcome = 'REFUSED'").await;
        assert!((800..=820).contains(&times), "{times}");
        let longest = world.number("SELECT CAST(MAX(LENGTH(CAST(input AS text))) AS bigint) FROM audit").await;
        assert!(longest < 8_192, "{longest}");
        // An invented name is truncated, and so is a deep input.
        let made_up = format!("mutation {{ {}(input: {{}}) {{ id }} }}", "x".repeat(30_000));
        world.post_as(&key, &made_up, json!({})).await;
        let longest = world.number("SELECT CAST(MAX(LENGTH(mutation)) AS bigint) FROM audit").await;
        assert!(longest <= 200, "{longest}");
        // Old entries are deleted in chunks.
        world.clock.set(noon() + Duration::days(366));
        sortie::kernel::audit::delete_expired(&world.db.write()).await.unwrap();
        assert_eq!(world.number("SELECT COUNT(*) FROM audit").await, 0);
        world.drop_unchecked().await;
    }
}

both! {
    /// Audit entries that could not be written keep being counted, and are written once the
    /// database accepts them again.
    async fn refusals_outlast_a_database_that_refuses(kind) {
        let world = World::with_auth(kind).await;
        let key = world.key(Role::Viewer).await;
        let refused = async |count: usize| {
            let roots: String =
                (0..count).map(|i| format!("m{i}: createGoal(input: {{ name: \"x\" }}) {{ goal {{ id }} }} ")).collect();
            let (_, answer) = world.post_as(&key, &format!("mutation {{ {roots} }}"), json!({})).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN", "{answer}");
        };
        let times = async || world.number("SELECT CAST(COALESCE(SUM(times), 0) AS bigint) FROM audit WHERE outcome = 'REFUSED'").await;
        refuse(&world, kind, "no_audit", "INSERT", "audit", "NEW.outcome = 'REFUSED'").await;
        refused(40).await;
        world.clock.set(noon() + Duration::minutes(2));
        refused(1).await;
        assert_eq!(times().await, 0);
        take_again(&world, kind, "no_audit", "audit").await;
        world.clock.set(noon() + Duration::minutes(4));
        refused(1).await;
        sortie::kernel::audit::write_rest(&world.db).await.unwrap();
        assert_eq!(times().await, 42);
        world.drop_unchecked().await;
    }
}
