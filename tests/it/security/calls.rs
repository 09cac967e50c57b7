//! Outgoing HTTP requests reveal nothing about the internal network.

use serde_json::json;
use sortie::domain::plan::run_template::kind::FRAMING;

use crate::harness::World;

both! {
    /// An unknown host name, and one with a forbidden address, give the same error.
    async fn a_call_does_not_tell_which_names_there_are(kind) {
        let world = World::with_config(kind, |config| config.call_private = Vec::new()).await;
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

both! {
    /// `Host` and the headers that frame a request can't be set by users, in any spelling.
    async fn no_step_sets_the_headers_of_the_connection(kind) {
        let world = World::without_server(kind, None).await;
        let apply = "mutation($yaml: String!) { applyManifest(input: { yaml: $yaml, dryRun: true }) { problems { path message } } }";
        let manifest = |name: &str| {
            let config = json!({ "method": "POST", "url": "https://example.com/", "headers": { name: "x" } });
            let step = json!({ "key": "s", "type": "api_call", "assignedTo": "WORKFLOW", "config": config });
            let phases = json!([{ "key": "all", "name": "All", "tasks": [{ "key": "t", "name": "T", "steps": [step] }] }]);
            json!({ "runTemplates": [{ "key": "calls", "name": "Calls", "phases": phases }] }).to_string()
        };
        for name in FRAMING.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_uppercase()]) {
            let told = world.ask(apply, json!({ "yaml": manifest(&name) })).await["applyManifest"]["problems"].clone();
            let told = told.as_array().unwrap();
            assert!(told.iter().any(|one| one.to_string().contains(&name)), "{name}: {told:?}");
        }
        let told = world.ask(apply, json!({ "yaml": manifest("X-Own") })).await;
        assert_eq!(told["applyManifest"]["problems"], json!([]));
        world.end().await;
    }
}
