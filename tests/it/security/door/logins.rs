//! Failed logins: counted, audited, rate-limited.

use entity::member::Role;
use serde_json::json;

use crate::harness::socket::{Came, Socket};
use crate::harness::{World, client, noon};

const ME: &str = "{ viewer { role } }";

async fn status(world: &World, shown: &str, from: &str) -> (u16, Option<String>) {
    let mut request = client().post(format!("http://{}/graphql", world.address)).header("x-forwarded-for", from);
    if !shown.is_empty() {
        request = request.bearer_auth(shown);
    }
    let answer = request.json(&json!({ "query": ME })).send().await.unwrap();
    let wait = answer.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
    (answer.status().as_u16(), wait)
}

both! {
    async fn failures_are_counted_and_slowed(kind) {
        let world = World::with_auth(kind).await;
        sortie::app::telemetry::metrics();
        let (known, fresh) = (world.key(Role::Viewer).await, world.key(Role::Viewer).await);
        assert_eq!(status(&world, &known, "203.0.113.5").await.0, 200);
        let guess = |i: usize| format!("sortie_01h455vb4pex5vsknk084sn0{i:02}_guess");
        for i in 0..20 {
            // Credentials of all forms, and IPv6 addresses in one /64.
            let shown = if i % 2 == 0 { guess(i) } else { format!("nonsense{i}") };
            assert_eq!(status(&world, &shown, "203.0.113.5").await, (401, None), "{i}");
            assert_eq!(status(&world, &shown, &format!("2001:db8::{i}")).await.0, 401, "{i}");
        }
        // Requests without a credential don't count as failed logins.
        for _ in 0..30 {
            assert_eq!(status(&world, "", "203.0.113.6").await, (401, None));
        }
        // The engine's loops ask the database now and then: one round of requests must be without.
        let mut rounds = 0..20;
        let is_unasked = loop {
            let before = world.db.statements();
            for from in ["203.0.113.5", "2001:db8::ffff"] {
                let (status, wait) = status(&world, &guess(50), from).await;
                assert_eq!((status, wait.as_deref()), (429, Some("60")));
            }
            assert_eq!(status(&world, &fresh, "203.0.113.5").await.0, 429);
            match world.db.statements() == before {
                false if rounds.next().is_some() => {}
                unasked => break unasked,
            }
        };
        assert!(is_unasked, "the database was asked");
        // Authenticated clients continue, others can log in.
        assert_eq!(status(&world, &known, "203.0.113.5").await.0, 200);
        assert_eq!(status(&world, &fresh, "203.0.113.6").await.0, 200);
        assert_eq!(status(&world, &guess(51), "2001:db8:0:1::1").await.0, 401);
        // Also on a socket, whose headers give the client address.
        for i in 0..20 {
            let mut socket = Socket::open_as(world.address, &guess(i)).await;
            assert!(matches!(socket.came().await, Came::Closed(4403)));
        }
        let mut socket = Socket::open_as(world.address, &guess(0)).await;
        assert!(matches!(socket.came().await, Came::Closed(1013)));
        // After a minute logins are accepted again.
        world.clock.set(noon() + chrono::Duration::seconds(61));
        assert_eq!(status(&world, &guess(52), "203.0.113.5").await.0, 401);
        let metrics = client().get(format!("http://{}/metrics", world.address)).send().await.unwrap().text().await.unwrap();
        for reason in ["unknown_key", "malformed", "missing", "slowed"] {
            assert!(metrics.contains(&format!("sortie_failed_logins_total{{reason=\"{reason}\"}}")), "{reason}");
        }
        world.end().await;
    }
}

both! {
    async fn keys_shown_in_vain_are_in_the_audit(kind) {
        let world = World::with_auth(kind).await;
        let expired = crate::harness::key(&world.db, &world.viewer, Role::Viewer, Some(noon() + chrono::Duration::seconds(10))).await;
        let revoked = world.key(Role::Operator).await;
        let id = |key: &str| format!("api_key_{}", key.split('_').nth(1).unwrap());
        world.ask("mutation($id: ID!) { revokeApiKey(input: { id: $id }) { apiKey { id } } }", json!({ "id": id(&revoked) })).await;
        let guessed = format!("{}x", world.key(Role::Viewer).await);
        world.clock.set(noon() + chrono::Duration::seconds(20));
        let shown = [(&expired, "expired"), (&revoked, "revoked"), (&guessed, "wrong_secret")];
        for (key, _) in shown {
            for _ in 0..5 {
                assert_eq!(status(&world, key, "203.0.113.8").await.0, 401);
            }
        }
        let query = "{ audit(filter: { mutations: [\"authenticate\"] }) { nodes { apiKeyId address input outcome code actor { name } } } }";
        let found = world.until("the audit", query, json!({}), |data| data["audit"]["nodes"].as_array().unwrap().len() >= 3).await;
        let all = found["audit"]["nodes"].as_array().unwrap();
        assert_eq!(all.len(), 3, "{all:#?}");
        for (key, reason) in shown {
            let entry = all.iter().find(|entry| entry["apiKeyId"] == id(key)).unwrap();
            assert_eq!((&entry["input"]["reason"], &entry["address"]), (&json!(reason), &json!("203.0.113.8")));
            assert_eq!((&entry["outcome"], &entry["code"]), (&json!("REFUSED"), &json!("UNAUTHENTICATED")));
            assert!(!entry.to_string().contains(key.rsplit_once('_').unwrap().1));
        }
        world.end().await;
    }
}
