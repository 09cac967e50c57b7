//! The first key belongs to an admin and the last one can't be revoked; a worker can be tried in
//! development mode, with a key or without.

use entity::member::Role;
use serde_json::{Value, json};

use crate::harness::life::Home;
use crate::harness::{Kind, World, noon, postgres};

const MAKE: &str = "mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) { key apiKey { id } } }";
const REVOKE: &str = "mutation($id: ID!) { revokeApiKey(input: { id: $id }) { apiKey { revokedAt } } }";
const ME: &str = "{ viewer { role } }";

both! {
    async fn the_first_key_is_an_admins_and_the_last_one_stays(kind) {
        let world = World::new(kind).await;
        for role in ["VIEWER", "OPERATOR", "REVIEWER", "MANAGER", "WORKER"] {
            let (code, why) = world.refused(MAKE, json!({ "input": { "name": "first", "role": role } })).await;
            assert_eq!(code, "BAD_USER_INPUT", "{role}: {why}");
            assert!(why.starts_with("role: ") && why.contains("sortie key create --name admin --role ADMIN") && why.contains("createApiKey"), "{why}");
        }
        // Nor does an admin's subject help as long as no tokens are accepted.
        let admin = world.ask("{ viewer { member { id } } }", json!({})).await["viewer"]["member"]["id"].clone();
        let subject = "mutation($id: ID!, $subject: String) { updateMember(input: { id: $id, subject: $subject }) { member { role } } }";
        world.ask(subject, json!({ "id": admin, "subject": "me" })).await;
        assert_eq!(world.refused(MAKE, json!({ "input": { "name": "first", "role": "WORKER" } })).await.0, "BAD_USER_INPUT");
        world.ask(subject, json!({ "id": admin, "subject": null })).await;
        // Nor a key of another org: development mode belongs to the built-in org.
        let (_, theirs) = sortie::domain::people::org::create(&world.db.write(), "Acme", "Anna", "anna@acme.example").await.unwrap();
        let fields = sortie::domain::people::api_key::Fields { name: "first".into(), role: Role::Admin, member_id: None, agent_id: None, expires_at: None };
        assert!(sortie::domain::people::api_key::create(&world.db.write(), &theirs, &fields).await.unwrap_err().to_string().contains("built-in org"));
        assert_eq!(world.number("SELECT COUNT(*) FROM api_key").await, 0);
        let make = async |name: &str, role: &str, expires: Value| {
            let made = world.ask(MAKE, json!({ "input": { "name": name, "role": role, "expiresAt": expires } })).await["createApiKey"].clone();
            (made["apiKey"]["id"].clone(), made["key"].as_str().unwrap().to_owned())
        };
        let soon = noon() + chrono::Duration::hours(1);
        let (first, key) = make("first", "ADMIN", json!(soon)).await;
        let (second, viewer) = make("viewer", "VIEWER", Value::Null).await;
        sortie::domain::people::api_key::create(&world.db.write(), &theirs, &fields).await.unwrap();
        // The admin's key is the last way to log in: it can't be revoked before there is another.
        let (code, why) = world.refused(REVOKE, json!({ "id": first })).await;
        assert_eq!(code, "CONFLICT", "{why}");
        assert!(why.contains("sortie key create"), "{why}");
        world.ask(REVOKE, json!({ "id": second })).await;
        // In development mode an API key already has its own role.
        assert_eq!(world.post_as(&key, ME, json!({})).await.1["data"]["viewer"]["role"], "ADMIN");
        assert_eq!(world.post_as(&viewer, ME, json!({})).await.0, 401, "it is revoked");
        assert_eq!(world.post_as("something-else", ME, json!({})).await.0, 200, "that is no key");
        // When the admin's key has expired, the first one must be an admin's again.
        world.clock.set(soon + chrono::Duration::seconds(1));
        assert_eq!(world.refused(MAKE, json!({ "input": { "name": "v", "role": "VIEWER" } })).await.0, "BAD_USER_INPUT");
        let (one, _) = make("one", "ADMIN", Value::Null).await;
        let (two, _) = make("two", "ADMIN", Value::Null).await;
        // Two keys are revoked at the same moment: one stays.
        let (a, b) = tokio::join!(world.post(REVOKE, json!({ "id": one })), world.post(REVOKE, json!({ "id": two })));
        let refused = [&a, &b].iter().filter(|answer| answer["errors"][0]["extensions"]["code"] == "CONFLICT").count();
        assert_eq!(refused, 1, "{a} {b}");
        world.end().await;
    }
}

both! {
    async fn no_change_of_a_member_locks_admins_out(kind) {
        let world = World::with_auth(kind).await;
        let admin = world.ask("{ viewer { member { id } } }", json!({})).await["viewer"]["member"]["id"].clone();
        // Another admin, with no key and no subject: demoting the one with the key would lock everybody out.
        let update = "mutation($input: UpdateMemberInput!) { updateMember(input: $input) { member { role } } }";
        let (code, why) = world.refused(update, json!({ "input": { "id": admin, "role": "MANAGER" } })).await;
        assert_eq!(code, "CONFLICT");
        assert!(why.contains("last credential"), "{why}");
        // A member known to an identity provider may log in with a token, if tokens are accepted.
        let other = world.create("member", json!({ "name": "Olga", "email": "olga@example.com", "role": "ADMIN", "subject": "olga" })).await;
        assert_eq!(world.refused(update, json!({ "input": { "id": admin, "role": "MANAGER" } })).await.0, "CONFLICT");
        world.db.set_has_tokens(true);
        let done = world.ask(update, json!({ "input": { "id": admin, "role": "MANAGER" } })).await;
        assert_eq!(done["updateMember"]["member"]["role"], "MANAGER");
        let member = sortie::domain::people::member::by_email(&world.db, &world.viewer, "olga@example.com").await.unwrap();
        assert_eq!(member.id.to_string(), other);
        let fields = sortie::domain::people::member::Fields { subject: Some(None), ..Default::default() };
        let why = sortie::domain::people::member::update(&world.db.write(), &world.viewer, member.id, None, &fields).await.unwrap_err().to_string();
        assert!(why.contains("last credential"), "{why}");
        world.end().await;
    }
}

/// The worker's claim request, as given in the docs.
const CLAIM: &str = "mutation($agent: String) { claimSteps(input: { agent: $agent, worker: \"w1\", limit: 10, leaseSeconds: 60 }) { steps { id token type } } }";
const RENEW: &str = "mutation($steps: [HeldStepInput!]!) { renewSteps(input: { steps: $steps, leaseSeconds: 60 }) { steps { id lost } } }";
const COMPLETE: &str = "mutation($id: ID!, $token: String!, $result: JSON!, $key: String) { completeStep(input: { id: $id, token: $token, result: $result, idempotencyKey: $key }) { step { status } } }";
const SETTLE: &str =
    "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status code } } }";

both! {
    async fn a_worker_is_played_in_development_mode(kind) {
        let world = World::new(kind).await;
        world.apply(include_str!("../../../../examples/lead-outreach.yaml")).await;
        world.leads(3).await;
        let goal = world.id_of("goals", "name", "Book a demo").await;
        let segment = world.id_of("segments", "name", "New leads").await;
        let run = world.fly("lead-outreach", json!({ "goalId": goal, "segmentId": segment, "variables": { "sender": "Sam" } })).await;
        world.until_step(&run, "draft_first", "QUEUED").await;
        // A request without an agent gets an error that names an existing one.
        let (code, why) = world.refused(CLAIM, json!({})).await;
        assert!(code == "BAD_USER_INPUT" && why.contains("agent: \"email-drafter\""), "{why}");
        let claimed = world.ask(CLAIM, json!({ "agent": "email-drafter" })).await["claimSteps"]["steps"].clone();
        assert_eq!(claimed.as_array().unwrap().len(), 3);
        let held = |i: usize| json!({ "id": claimed[i]["id"], "token": claimed[i]["token"] });
        let renewed = world.ask(RENEW, json!({ "steps": [held(0), held(1)] })).await["renewSteps"]["steps"].clone();
        assert!(renewed.as_array().unwrap().iter().all(|one| one["lost"] == false), "{renewed}");
        let result = json!({ "subject": "A demo?", "body": "Dear lead, may I show you what we do?" });
        let input = json!({ "id": claimed[0]["id"], "token": claimed[0]["token"], "result": result, "key": "once" });
        for _ in 0..2 {
            assert_eq!(world.ask(COMPLETE, input.clone()).await["completeStep"]["step"]["status"], "COMPLETED");
        }
        // Without the key the settle is late; with a guessed token it is rejected.
        let late = json!({ "id": claimed[0]["id"], "token": claimed[0]["token"], "result": result });
        assert_eq!(world.refused(COMPLETE, late).await.0, "CONFLICT");
        let guessed = json!({ "id": claimed[1]["id"], "token": "guessed", "result": result });
        assert_eq!(world.refused(COMPLETE, guessed).await.0, "CONFLICT");
        let unknown = json!({ "id": "step_01h455vb4pex5vsknk084sn02q", "token": "guessed", "result": result });
        assert_eq!(world.refused(COMPLETE, unknown).await.0, "CONFLICT");
        let ends = json!([
            { "id": claimed[1]["id"], "token": claimed[1]["token"], "result": result },
            { "id": claimed[2]["id"], "token": claimed[2]["token"], "error": "busy", "retryable": true },
        ]);
        let settled = world.ask(SETTLE, json!({ "steps": ends })).await["settleSteps"]["steps"].clone();
        assert_eq!(settled, json!([{ "status": "COMPLETED", "code": null }, { "status": "QUEUED", "code": null }]));
        // A worker's key, created beside the running server, works at once, and only for the
        // worker's fields.
        world.ask(MAKE, json!({ "input": { "name": "admin", "role": "ADMIN" } })).await;
        let key = world.agent_key("email-drafter").await;
        world.clock.set(noon() + chrono::Duration::minutes(10));
        assert_eq!(world.claim(&key, 10).await.len(), 1);
        assert_eq!(world.post_as(&key, "{ runs { totalCount } }", json!({})).await.1["errors"][0]["extensions"]["code"], "FORBIDDEN");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_says_what_to_make_first() {
    let kind = if postgres::available() { Kind::Postgres } else { Kind::Sqlite };
    let home = Home::new(kind).await;
    let agent = home.folder().join("agent.yaml");
    std::fs::write(&agent, "agents:\n  - { name: email-drafter }\n").unwrap();
    assert!(home.run(&["apply", "-f", agent.to_str().unwrap()]).0);
    let worker = ["key", "create", "--name", "w", "--role", "WORKER", "--agent", "email-drafter"];
    let (made, said) = home.run(&worker);
    assert!(!made && said.contains("sortie key create --name admin --role ADMIN"), "{said}");
    // No key was created: the next start is in development mode.
    let life = home.begin();
    assert_eq!(life.ask(ME, json!({})).await.unwrap()["viewer"]["role"], "ADMIN");
    life.kill();
    let (made, said) = home.run(&["key", "create", "--name", "admin", "--role", "ADMIN"]);
    assert!(made && said.contains("Authorization: Bearer"), "{said}");
    // A time that can't be stored is refused, and nothing is made.
    for lasts in ["99999999d", "9999999d", "0s"] {
        let (made, said) = home.run(&["key", "create", "--name", "late", "--role", "VIEWER", "--expires", lasts]);
        assert!(!made && said.contains("expires") && !said.contains("panicked"), "{lasts}: {said}");
    }
    let admin = said.lines().find(|line| line.starts_with("sortie_")).unwrap().to_owned();
    assert!(home.run(&worker).0);
    let (revoked, said) = home.run(&["key", "revoke", &format!("api_key_{}", admin.split('_').nth(1).unwrap())]);
    assert!(revoked && said.contains("No admin has a valid key any more"), "{said}");
    // The start-up output says this, too, and how to authenticate.
    let mut command = home.command();
    let command = command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(home.folder());
    let mut process = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().unwrap()));
    let mut said: Vec<String> = Vec::new();
    for line in lines {
        said.push(line.unwrap());
        if said.last().unwrap().contains("No admin has a valid key") {
            break;
        }
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let said = said.join("\n");
    assert!(said.contains("Authorization: Bearer") && said.contains("sortie key create --name admin"), "{said}");
    home.check();
    home.remove();
}
