//! Calls to the outside tell nobody what there is inside.

use serde_json::json;

use crate::harness::World;

both! {
    /// A name that there is not, and one whose address may not be called, end in the same words.
    async fn a_call_does_not_tell_which_names_there_are(kind) {
        let world = World::with_doors(kind, |config| config.call_private = Vec::new()).await;
        let hosts = ["localhost", "no-such-name.invalid", "127.0.0.1", "[::1]", "169.254.169.254"];
        let steps: Vec<_> = hosts.iter().enumerate().map(|(i, host)| json!({
            "key": format!("s{i}"), "type": "api_call", "assignedTo": "WORKFLOW", "maxAttempts": 1,
            "config": { "method": "GET", "url": format!("http://{host}:9/") },
        })).collect();
        let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "failWhen": "PERCENT(100)", "steps": steps }] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "calls", "name": "Calls", "phases": phases }] }).to_string()).await;
        let lead = world.leads(1).await.remove(0);
        let run = world.fly("calls", json!({ "recordId": lead })).await;
        let mut told = Vec::new();
        for i in 0..hosts.len() {
            told.push(world.until_step(&run, &format!("s{i}"), "FAILED").await["error"].as_str().unwrap().to_owned());
        }
        assert!(told.iter().all(|why| *why == told[0] && hosts.iter().all(|host| !why.contains(host))), "{told:#?}");
        world.end().await;
    }
}
