//! Authorization: keys, tokens and roles; open streams end with their credential; and the audit of
//! it all.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;
use entity::member::Role;
use serde_json::{Value, json};
use sortie::graphql::role;

use crate::harness::socket::{Came, Socket};
use crate::harness::{World, key, noon};

const ME: &str = "{ viewer { role } }";

both! {
    async fn nobody_is_let_in_without_a_key(kind) {
        let world = World::with_auth(kind).await;
        assert_eq!(world.ask(ME, json!({})).await["viewer"]["role"], "ADMIN");
        let viewer = world.key(Role::Viewer).await;
        assert_eq!(world.post_as(&viewer, ME, json!({})).await.1["data"]["viewer"]["role"], "VIEWER");
        let other = if viewer.ends_with('0') { '1' } else { '0' };
        let wrong = format!("{}{other}", &viewer[..viewer.len() - 1]);
        let short = &viewer[..20];
        for shown in ["", "nonsense", "sortie_", "sortie_01h455vb4pex5vsknk084sn02q_00", wrong.as_str(), short, "a.b.c"] {
            let (status, told) = world.post_as(shown, ME, json!({})).await;
            assert_eq!((status, &told["errors"][0]["extensions"]["code"]), (401, &json!("UNAUTHENTICATED")), "{shown}");
            assert!(told.get("data").is_none() && (shown.is_empty() || !told.to_string().contains(shown)), "{told}");
            let mut socket = Socket::open_as(world.address, shown).await;
            assert!(matches!(socket.came().await, Came::Closed(4403)), "{shown}");
        }
        // Endpoints outside of GraphQL need the same authentication.
        let import = crate::harness::client().post(format!("http://{}/import/records?kind=lead", world.address));
        assert_eq!(import.header("content-type", "text/csv").body("name\nA\n").send().await.unwrap().status(), 401);
        // Requests from a page of another origin are rejected, whatever the key.
        let page = crate::harness::client().post(format!("http://{}/graphql", world.address)).bearer_auth(&viewer);
        let page = page.header("origin", "https://evil.example").json(&json!({ "query": ME }));
        assert_eq!(page.send().await.unwrap().status(), 403);
        // Secrets are stored as hashes only and never shown.
        let secret = viewer.rsplit_once('_').unwrap().1;
        let columns = world.sql("SELECT name, role, secret_hash FROM api_key").await;
        assert!(columns.len() >= 2 && !format!("{columns:?}").contains(secret));
        let all = world.ask("{ apiKeys { nodes { id name role lastUsedAt revokedAt member { name } } } events(first: 500) { nodes { kind payload } } }", json!({})).await;
        assert!(!all.to_string().contains(secret), "{all:#}");
        let used = "{ apiKeys { nodes { lastUsedAt } } }";
        world.until("the use to be noted", used, json!({}), |data| data["apiKeys"]["nodes"][0]["lastUsedAt"].is_string()).await;
        world.end().await;
    }
}

both! {
    async fn what_is_open_ends_with_its_key(kind) {
        let world = World::with_auth(kind).await;
        let until = noon() + Duration::hours(1);
        let short_lived = key(&world.db, &world.viewer, Role::Viewer, Some(until)).await;
        let (revoked, demoted, kept) = (world.key(Role::Viewer).await, world.key(Role::Manager).await, world.key(Role::Viewer).await);
        let live = "subscription { events { kind } }";
        let mut sockets = Vec::new();
        for shown in [&short_lived, &revoked, &demoted, &kept] {
            let mut socket = Socket::open_as(world.address, shown).await;
            assert_eq!(socket.message().await["type"], "connection_ack");
            socket.subscribe("live", live, json!({})).await;
            socket.subscribe("q", ME, json!({})).await;
            while socket.message().await["type"] != "complete" {}
            sockets.push(socket);
        }
        let stream = crate::harness::client().post(format!("http://{}/graphql/stream", world.address)).bearer_auth(&revoked);
        let stream = stream.header("accept", "text/event-stream").json(&json!({ "query": live })).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        // One SSE stream for all operations, on which nothing is running.
        let url = format!("http://{}/graphql/stream", world.address);
        let token = crate::harness::client().put(&url).bearer_auth(&revoked).send().await.unwrap().text().await.unwrap();
        let ask = |key: &str| crate::harness::client().get(&url).bearer_auth(key).header("accept", "text/event-stream").header("x-graphql-event-stream-token", &token).send();
        assert_eq!(ask(&kept).await.unwrap().status(), 404, "a stream is its owner's alone");
        let idle = ask(&revoked).await.unwrap();
        assert_eq!((idle.status().as_u16(), ask(&revoked).await.unwrap().status().as_u16()), (200, 409));
        let id = |shown: &str| format!("api_key_{}", shown.split('_').nth(1).unwrap());
        let revoke = "mutation($id: ID!) { revokeApiKey(input: { id: $id }) { apiKey { revokedAt } } }";
        for _ in 0..2 {
            assert!(world.ask(revoke, json!({ "id": id(&revoked) })).await["revokeApiKey"]["apiKey"]["revokedAt"].is_string());
        }
        let member = world.ask("query($id: ID!) { apiKey(id: $id) { member { id } } }", json!({ "id": id(&demoted) })).await["apiKey"]["member"]["id"].clone();
        world.ask("mutation($id: ID!) { updateMember(input: { id: $id, role: VIEWER }) { member { role } } }", json!({ "id": member })).await;
        world.clock.set(until + Duration::seconds(1));
        for socket in &mut sockets[..3] {
            // Earlier events are delivered first.
            let code = loop {
                match socket.came().await {
                    Came::Message(_) => {}
                    Came::Closed(code) => break code,
                }
            };
            assert_eq!(code, 4403);
        }
        let told = stream.text().await.unwrap();
        idle.text().await.unwrap();
        assert!(told.contains("UNAUTHENTICATED") && told.contains("event: complete\ndata:") , "{told}");
        for shown in [&short_lived, &revoked] {
            assert_eq!(world.post_as(shown, ME, json!({})).await.0, 401);
        }
        assert_eq!(world.post_as(&demoted, ME, json!({})).await.1["data"]["viewer"]["role"], "VIEWER");
        // Other keys' streams continue.
        sockets[3].subscribe("again", ME, json!({})).await;
        while sockets[3].message().await["id"] != "again" {}
        world.end().await;
    }
}

/// The roles of `docs/reference/product.md`, repeated here: a root field that is in none of these
/// lists fails the test.
const VIEWER: &str = "node nodes campaign campaigns campaignTags preflight previewMessages run runs step steps communication communications reply \
    replies record records segment segments previewSegment goal goals writer writers reviewer reviewers messageTemplate \
    messageTemplates runTemplate runTemplates agent agents member members schedule schedules nextFireTimes events import imports suppression suppressions \
    runStatusChanged stepStatusChanged runProgress runList campaignList stepList communicationList replyList workQueued manifest activities followUp followUps meeting meetings stages previewStepEmail runActivity bulkAction bulkActions bulkActionProgress savedView savedViews saveView deleteView runNote recordLink";
const OPERATOR: &str = "testRunCampaign runCampaign pauseRun resumeRun cancelRun retryRun refreshRun rescheduleRun releasePhase startStep \
    completeStep failStep skipStep resetStep restartStep retryStep resolveCommunication recordReply handleReply ignoreReply reopenReply assignReply addRunNote updateRunNote deleteRunNote raiseEvent claimSteps renewSteps settleSteps submitStep assignStep repeatRun cancelRuns retryRuns startBulkAction stopBulkAction unsubscribeRecords suppressAddress startGuidedRun completeRun updateRun addRunStep reorderRunSteps sendStepEmail refreshStepRecords updateStepStage scheduleStepMeeting createStepFollowUp addStepNote createStepRecords linkRecords unlinkRecords completeFollowUp cancelFollowUp reopenFollowUp moveMeeting cancelMeeting";
const REVIEWER: &str = "approveStep rejectStep approveCommunication rejectCommunication editCommunication";
const MANAGER: &str = "createGoal updateGoal deleteGoal createWriter updateWriter deleteWriter createReviewer updateReviewer deleteReviewer \
    createMessageTemplate updateMessageTemplate deleteMessageTemplate createSegment updateSegment deleteSegment createRecord updateRecord \
    deleteRecord unsuppressAddress createCampaign updateCampaign deleteCampaign duplicateCampaign restoreCampaignVersion submitCampaign \
    createRunTemplate updateRunTemplate deleteRunTemplate createAgent updateAgent deleteAgent applyManifest approveCampaign rejectCampaign pauseCampaign resumeCampaign completeCampaign cancelCampaign setCampaignTags archiveCampaign unarchiveCampaign scheduleCampaign endSchedule updateSchedule pauseSchedule resumeSchedule triggerSchedule skipOccurrence backfillSchedule scheduleGuidedRun updateRunOutcome setStages";
/// Fields that a worker may use in addition to `viewer`; the worker role includes no other role.
const WORKER: &str = "claimSteps renewSteps settleSteps completeStep failStep workQueued";
const ADMIN: &str = "apiKey apiKeys audit createMember updateMember deleteMember createApiKey revokeApiKey eraseRecord";

/// Types that only an admin may reach, along any path of the schema.
const FOR_ADMINS: &[&str] = &["ApiKey", "AuditEntry"];

both! {
    async fn every_field_with_every_role(kind) {
        let world = World::with_auth(kind).await;
        let listed: Vec<(Role, BTreeSet<&str>)> = [(Role::Viewer, VIEWER), (Role::Operator, OPERATOR), (Role::Reviewer, REVIEWER), (Role::Manager, MANAGER), (Role::Admin, ADMIN)]
            .map(|(role, fields)| (role, fields.split_whitespace().collect()))
            .into();
        let query = "{ __schema { queryType { name } types { name fields { name type { name ofType { name ofType { name ofType { name } } } } } possibleTypes { name } } } }";
        let schema = world.ask(query, json!({})).await["__schema"].clone();
        let mut fields: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for of in schema["types"].as_array().unwrap() {
            let named = |field: &Value| {
                let mut kind = &field["type"];
                while kind["name"].is_null() {
                    kind = &kind["ofType"];
                }
                (field["name"].as_str().unwrap().to_owned(), kind["name"].as_str().unwrap().to_owned())
            };
            let mut all: Vec<_> = of["fields"].as_array().into_iter().flatten().map(named).collect();
            // These types can't be fetched by id by others:
            // security::sharing::what_is_for_admins_is_no_node_for_others.
            let possible = of["possibleTypes"].as_array().into_iter().flatten();
            let possible = possible.filter(|one| !FOR_ADMINS.contains(&one["name"].as_str().unwrap()));
            all.extend(possible.map(|one| ("... on".to_owned(), one["name"].as_str().unwrap().to_owned())));
            fields.insert(of["name"].as_str().unwrap().to_owned(), all);
        }
        let mut keys = Vec::new();
        for role in Role::all() {
            keys.push((role, world.key(role).await));
        }
        let client = crate::harness::client();
        for (root, word) in [("Query", "query"), ("Mutation", "mutation"), ("Subscription", "subscription")] {
            for (field, _) in &fields[root] {
                let least = if field == "viewer" {
                    None
                } else {
                    let found = listed.iter().find(|(_, fields)| fields.contains(field.as_str()));
                    Some(found.unwrap_or_else(|| panic!("{root}.{field} is in no role's list: who may?")).0)
                };
                for (role, key) in &keys {
                    // Authorization is checked first; errors of a document are shown only to those
                    // who may execute it.
                    let request = client.post(format!("http://{}/graphql", world.address)).bearer_auth(key);
                    let answer: Value = request.json(&json!({ "query": format!("{word} {{ {field} {{ nothing }} }}") })).send().await.unwrap().json().await.unwrap();
                    let refused = answer["errors"][0]["extensions"]["code"] == "FORBIDDEN";
                    let may = match (least, role) {
                        (None, _) => true,
                        (Some(_), Role::Worker) => WORKER.split_whitespace().any(|may| may == field),
                        (Some(least), role) => *role >= least,
                    };
                    assert_eq!(!refused, may, "{role} and {root}.{field}: {answer}");
                    if refused {
                        assert_eq!((&answer["errors"][0]["extensions"]["needed"], &answer["errors"][0]["extensions"]["role"]), (&json!(least.unwrap()), &json!(role)));
                    }
                }
            }
        }
        // Fields below the roots are not checked again, so types for admins must be reachable only
        // from admins' roots.
        for role in [Role::Manager, Role::Worker] {
            let may = |field: &str| match role::required_role(async_graphql::parser::types::OperationType::Query, field) {
                None => true,
                Some(needed) => role.covers(needed),
            };
            let mut open: Vec<String> = fields["Query"].iter().filter(|(field, _)| may(field)).map(|(_, of)| of.clone()).collect();
            let mut seen = BTreeSet::new();
            while let Some(of) = open.pop() {
                if seen.insert(of.clone()) {
                    open.extend(fields.get(&of).into_iter().flatten().map(|(_, of)| of.clone()));
                }
            }
            for hidden in FOR_ADMINS {
                assert!(!seen.contains(*hidden), "{role} may come to {hidden}");
            }
            if role == Role::Worker {
                assert!(!seen.contains("Run") && !seen.contains("Record") && !seen.contains("Campaign"), "{seen:?}");
            }
        }
        // Every object type is classified as readable by everybody or by admins only: a new type
        // must be classified.
        let objects = fields.iter().filter(|(name, all)| !all.is_empty() && !name.starts_with("__")).count();
        assert_eq!(objects, OBJECTS, "another type: who may come to it?");
        world.end().await;
    }
}

/// Number of types with fields in the schema.
const OBJECTS: usize = 230;

both! {
    async fn every_mutation_is_in_the_audit(kind) {
        let world = World::with_auth(kind).await;
        let viewer = world.key(Role::Viewer).await;
        let long = "x".repeat(5_000);
        let create = "mutation($d: String) { createGoal(input: { name: \"One\", description: $d, idempotencyKey: \"k\" }) { goal { id } } }";
        let goal = world.ask(create, json!({ "d": long })).await["createGoal"]["goal"]["id"].as_str().unwrap().to_owned();
        world.ask(create, json!({ "d": long })).await;
        world.refused("mutation { a: createGoal(input: { name: \"\" }) { goal { id } } }", json!({})).await;
        assert_eq!(world.post_as(&viewer, "mutation { createGoal(input: { name: \"Mine\" }) { goal { id } } }", json!({})).await.0, 403);
        world.refused("mutation { cancelRun(input: { id: \"nonsense\" }) { run { id } } }", json!({})).await;
        world.refused("mutation { createGoal(input: { nothing: 1 }) { goal { id } } }", json!({})).await;
        let both = world.post("mutation { one: createGoal(input: { name: \"A\" }) { goal { id } } two: cancelRun(input: { id: \"run_01h455vb4pex5vsknk084sn02q\" }) { run { id } } }", json!({})).await;
        assert!(both["errors"].is_array());
        // Behind a trusted proxy the client is the last address that it names; earlier ones may be
        // forged.
        let behind = crate::harness::client().post(format!("http://{}/graphql", world.address)).bearer_auth(&viewer);
        let behind = behind.header("x-forwarded-for", "1.2.3.4, 203.0.113.9").json(&json!({ "query": "mutation { deleteGoal(input: { id: \"x\" }) { deletedId } }" }));
        assert_eq!(behind.send().await.unwrap().status(), 403);
        let query = "query($f: AuditFilter) { audit(filter: $f, first: 50) { totalCount nodes { actor { name } apiKeyId address mutation input targetId outcome code at } } }";
        let audit = world.ask(query, json!({})).await["audit"].clone();
        let mut seen: Vec<(&str, &str, &str)> = audit["nodes"].as_array().unwrap().iter().map(|entry| (entry["mutation"].as_str().unwrap(), entry["outcome"].as_str().unwrap(), entry["code"].as_str().unwrap_or(""))).collect();
        seen.reverse();
        assert_eq!(seen, [
            ("createGoal", "DONE", ""),
            ("createGoal", "NOTHING", ""),
            ("createGoal", "REFUSED", "BAD_USER_INPUT"),
            ("createGoal", "REFUSED", "FORBIDDEN"),
            ("cancelRun", "REFUSED", "BAD_USER_INPUT"),
            ("createGoal", "REFUSED", "BAD_USER_INPUT"),
            ("createGoal", "DONE", ""),
            ("cancelRun", "REFUSED", "NOT_FOUND"),
            ("deleteGoal", "REFUSED", "FORBIDDEN"),
        ]);
        let first = audit["nodes"].as_array().unwrap().last().unwrap();
        assert_eq!((&first["targetId"], &first["address"], &first["input"]["name"]), (&json!(goal), &json!("127.0.0.1"), &json!("One")));
        assert_eq!(audit["nodes"][0]["address"], "203.0.113.9");
        assert!(first["input"]["description"].as_str().unwrap().chars().count() == 201 && first["apiKeyId"].is_string());
        let of = world.ask(query, json!({ "f": { "targetIds": [goal], "outcomes": ["DONE"] } })).await;
        assert_eq!(of["audit"]["totalCount"], 1);
        world.end().await;
    }
}
