//! The inbox: replies are handled, ignored, reopened and assigned, together with the step or the
//! follow-up that was created for them; filtered, ordered and counted.

use chrono::Duration;
use serde_json::{Value, json};
use sortie::domain::message::reply::{self, SortBy};
use sortie::kernel::page::Args;

use crate::harness::{Kind, World, noon};

const RECORD: &str = "mutation($i: RecordReplyInput!) { recordReply(input: $i) { reply { id } } }";
const REPLY: &str =
    "query($id: ID!) { reply(id: $id) { id status note handledAt handledBy { name kind } assignee { id } revision
    step { id status } followUp { id status closedBy { name } } availableActions { action allowed } } }";
const LIST: &str = "query($filter: ReplyFilter, $orderBy: ReplyOrder, $first: Int, $after: String) {
    replies(filter: $filter, orderBy: $orderBy, first: $first, after: $after) {
        totalCount countsByStatus { status count } nodes { id } pageInfo { hasNextPage endCursor } } }";

/// A run whose messages were sent; their ids, in the order of the leads.
async fn sent(world: &World, leads: usize, open_for: Option<&str>) -> (String, Vec<String>) {
    let plan = world.plan("EMAIL", leads).await;
    if let Some(span) = open_for {
        let open = json!([{ "path": "phases.in_flight.openFor", "value": span }]);
        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";
        world.ask(update, json!({ "input": { "id": plan.campaign, "overrides": open } })).await;
    }
    world.activate(&plan).await;
    let run = world.launch(&plan).await;
    world.tick(true).await;
    let review = world.until_review(&run).await;
    world.act("approveStep", "step", json!({ "id": review })).await;
    world.tick(true).await;
    let query =
        "query($r: [ID!]) { communications(filter: { runIds: $r, statuses: [SENT] }) { nodes { id toAddress } } }";
    let mut all = world.ask(query, json!({ "r": [run] })).await["communications"]["nodes"].as_array().unwrap().clone();
    all.sort_by_key(|message| message["toAddress"].as_str().unwrap().to_owned());
    assert_eq!(all.len(), leads);
    (run, all.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect())
}

async fn answer(world: &World, message: &str, more: Value) -> String {
    let mut input = json!({ "communicationId": message, "body": "Yes" });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.ask(RECORD, json!({ "i": input })).await["recordReply"]["reply"]["id"].as_str().unwrap().to_owned()
}

async fn shown(world: &World, id: &str) -> Value {
    world.ask(REPLY, json!({ "id": id })).await["reply"].clone()
}

/// The kinds of the events about replies and follow-ups.
async fn told(world: &World) -> Vec<String> {
    let query = "{ events(filter: { kinds: [\"reply.*\", \"follow_up.*\"] }, first: 500) { nodes { kind } } }";
    let all = world.ask(query, json!({})).await["events"]["nodes"].clone();
    all.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

both! {
    async fn a_reply_is_ticked_off_with_its_follow_up(kind) {
        let world = World::without_server(kind, None).await;
        let (_, messages) = sent(&world, 1, None).await;
        let id = answer(&world, &messages[0], json!({})).await;
        let now = shown(&world, &id).await;
        assert_eq!((&now["status"], &now["handledAt"], &now["handledBy"], &now["note"]), (&json!("OPEN"), &json!(null), &json!(null), &json!(null)));
        assert_eq!((&now["step"], &now["followUp"]["status"], &now["revision"]), (&json!(null), &json!("OPEN"), &json!(1)));
        let allowed = |now: &Value| now["availableActions"].as_array().unwrap().iter()
            .filter(|one| one["allowed"] == true).map(|one| one["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(allowed(&now), ["HANDLE", "IGNORE", "ASSIGN"]);
        let change = async |mutation: &str, input: Value| {
            world.act(mutation, "reply", input).await;
            shown(&world, &id).await
        };
        let stale = "mutation($id: ID!) { handleReply(input: { id: $id, expectedRevision: 7 }) { reply { id } } }";
        assert_eq!(world.refused(stale, json!({ "id": id })).await.0, "CONFLICT");
        let now = change("handleReply", json!({ "id": id, "note": "Called them", "expectedRevision": 1 })).await;
        assert_eq!((&now["status"], &now["note"], &now["revision"], &now["followUp"]["status"]), (&json!("HANDLED"), &json!("Called them"), &json!(2), &json!("DONE")));
        assert!(now["handledAt"].is_string() && now["handledBy"]["name"] == now["followUp"]["closedBy"]["name"], "{now}");
        assert_eq!(allowed(&now), ["REOPEN"]);
        for mutation in ["handleReply", "ignoreReply"] {
            let again = format!("mutation($id: ID!) {{ {mutation}(input: {{ id: $id }}) {{ reply {{ id }} }} }}");
            assert_eq!(world.refused(&again, json!({ "id": id })).await.0, "INVALID_TRANSITION");
        }
        let now = change("reopenReply", json!({ "id": id })).await;
        assert_eq!((&now["status"], &now["note"], &now["handledBy"], &now["followUp"]["status"]), (&json!("OPEN"), &json!(null), &json!(null), &json!("OPEN")));
        let now = change("ignoreReply", json!({ "id": id, "note": "Out of office" })).await;
        assert_eq!((&now["status"], &now["followUp"]["status"]), (&json!("IGNORED"), &json!("CANCELLED")));
        // The other way round: the follow-up takes the reply with it.
        let follow_up = now["followUp"]["id"].clone();
        for (mutation, status) in [("reopenFollowUp", "OPEN"), ("completeFollowUp", "HANDLED"), ("reopenFollowUp", "OPEN"), ("cancelFollowUp", "IGNORED")] {
            world.act(mutation, "followUp", json!({ "id": follow_up })).await;
            assert_eq!(shown(&world, &id).await["status"], status, "{mutation}");
        }
        assert_eq!(told(&world).await, [
            "reply.received", "follow_up.created", "reply.handled", "follow_up.completed", "reply.reopened", "follow_up.reopened",
            "reply.ignored", "follow_up.cancelled", "follow_up.reopened", "reply.reopened", "follow_up.completed", "reply.handled",
            "follow_up.reopened", "reply.reopened", "follow_up.cancelled", "reply.ignored",
        ]);
        world.end().await;
    }
}

both! {
    async fn a_reply_is_assigned(kind) {
        let world = World::without_server(kind, None).await;
        let (_, messages) = sent(&world, 1, None).await;
        let id = answer(&world, &messages[0], json!({ "subject": "Re: Hi" })).await;
        let member = world.create("member", json!({ "name": "Ida", "email": "ida@example.com", "role": "OPERATOR" })).await;
        world.act("assignReply", "reply", json!({ "id": id, "assigneeId": member })).await;
        let now = shown(&world, &id).await;
        assert_eq!((&now["assignee"]["id"], &now["revision"]), (&json!(member), &json!(2)));
        // The same again changes nothing.
        world.act("assignReply", "reply", json!({ "id": id, "assigneeId": member })).await;
        assert_eq!(shown(&world, &id).await["revision"], 2);
        let delete = "mutation($id: ID!) { deleteMember(input: { id: $id }) { deletedId } }";
        let refused = world.post(delete, json!({ "id": member })).await["errors"][0]["extensions"].clone();
        assert_eq!((&refused["code"], &refused["usedBy"]), (&json!("CONFLICT"), &json!([{ "noun": "reply", "id": id, "name": "Re: Hi" }])));
        let nobody = "mutation($id: ID!) { assignReply(input: { id: $id, assigneeId: \"member_01h455vb4pex5vsknk084sn02q\" }) { reply { id } } }";
        assert_eq!(world.refused(nobody, json!({ "id": id })).await.0, "NOT_FOUND");
        // A variable that was not sent takes nobody off.
        let omitted = "mutation($id: ID!, $to: ID) { assignReply(input: { id: $id, assigneeId: $to }) { reply { id } } }";
        let (code, why) = world.refused(omitted, json!({ "id": id })).await;
        assert!(code == "BAD_USER_INPUT" && why.contains("pass null"), "{why}");
        assert_eq!(shown(&world, &id).await["assignee"]["id"], json!(member));
        world.act("assignReply", "reply", json!({ "id": id, "assigneeId": null })).await;
        assert_eq!(shown(&world, &id).await["assignee"], json!(null));
        world.act("assignReply", "reply", json!({ "id": id, "assigneeId": member })).await;
        world.act("handleReply", "reply", json!({ "id": id })).await;
        let closed = "mutation($id: ID!) { assignReply(input: { id: $id, assigneeId: null }) { reply { id } } }";
        assert_eq!(world.refused(closed, json!({ "id": id })).await.0, "CONFLICT");
        // A handled reply keeps no member.
        world.ask(delete, json!({ "id": member })).await;
        assert_eq!(shown(&world, &id).await["assignee"], json!(null));
        assert_eq!(told(&world).await.iter().filter(|kind| *kind == "reply.assigned").count(), 3);
        world.end().await;
    }
}

both! {
    async fn the_step_that_handles_a_reply_holds_it(kind) {
        let world = World::without_server(kind, None).await;
        let (run, messages) = sent(&world, 2, Some("14 days")).await;
        let (done, skipped) = (answer(&world, &messages[0], json!({})).await, answer(&world, &messages[1], json!({})).await);
        let steps = "query($id: ID!) { run(id: $id) { findings { code count } steps(filter: { types: [\"handle_reply\"] }) { nodes { id reply { id status } } } } }";
        let now = world.ask(steps, json!({ "id": run })).await["run"].clone();
        let open = |run: &Value| run["findings"].as_array().unwrap().iter().find(|one| one["code"] == "REPLIES_OPEN").map(|one| one["count"].clone());
        assert_eq!(open(&now), Some(json!(2)));
        let mut held: Vec<_> = now["steps"]["nodes"].as_array().unwrap().iter().map(|step| step["reply"]["id"].as_str().unwrap()).collect();
        held.sort_unstable();
        assert_eq!(held, [done.as_str(), skipped.as_str()]);
        let step = |of: Value| of["step"]["id"].as_str().unwrap().to_owned();
        let (first, second) = (step(shown(&world, &done).await), step(shown(&world, &skipped).await));
        // A second reply of the same record goes to the same step, which shows the newest.
        let again = answer(&world, &messages[0], json!({ "body": "One more thing" })).await;
        assert_eq!(step(shown(&world, &again).await), first);
        let newest = world.ask("query($id: ID!) { step(id: $id) { reply { id } } }", json!({ "id": first })).await;
        assert_eq!(newest["step"]["reply"]["id"], again.as_str());
        let of_step = world.ask(LIST, json!({ "filter": { "stepIds": [first] } })).await["replies"].clone();
        assert_eq!(of_step["totalCount"], 2);
        for act in ["startStep", "completeStep"] {
            world.act(act, "step", json!({ "id": first })).await;
        }
        for id in [&done, &again] {
            let now = shown(&world, id).await;
            assert!(now["status"] == "HANDLED" && now["handledBy"]["kind"] == "MEMBER" && now["followUp"].is_null(), "{now}");
        }
        // A reply whose step is skipped stays open, and has a follow-up.
        world.act("skipStep", "step", json!({ "id": second, "reason": "no time" })).await;
        let now = shown(&world, &skipped).await;
        assert_eq!((&now["status"], &now["followUp"]["status"], &now["step"]["status"]), (&json!("OPEN"), &json!("OPEN"), &json!("SKIPPED")));
        assert_eq!(open(&world.ask(steps, json!({ "id": run })).await["run"]), Some(json!(1)));
        // Replies that were ticked off before their step is skipped need none.
        world.act("handleReply", "reply", json!({ "id": skipped })).await;
        assert_eq!(open(&world.ask(steps, json!({ "id": run })).await["run"]), None);
        world.end().await;
    }
}

both! {
    async fn replies_are_filtered_ordered_and_counted(kind) {
        let world = World::without_server(kind, None).await;
        let (run, messages) = sent(&world, 3, None).await;
        let mut ids = Vec::new();
        // The first to be recorded came last.
        for (i, body) in ["Ja, gern: Straße 7", "100% sure", "No"].iter().enumerate() {
            let at = noon() - Duration::hours(i64::try_from(i).unwrap());
            let more = json!({ "body": body, "subject": format!("Re: number {i}"), "receivedAt": at.to_rfc3339() });
            ids.push(answer(&world, &messages[i], more).await);
        }
        let me = world.ask("{ viewer { member { id } } }", json!({})).await["viewer"]["member"]["id"].clone();
        world.act("assignReply", "reply", json!({ "id": ids[1], "assigneeId": me })).await;
        world.act("ignoreReply", "reply", json!({ "id": ids[2] })).await;
        let found = async |filter: Value, order: Value| -> Vec<usize> {
            let page = world.ask(LIST, json!({ "filter": filter, "orderBy": order })).await["replies"].clone();
            let nodes = page["nodes"].as_array().unwrap();
            assert_eq!(page["totalCount"], nodes.len());
            nodes.iter().map(|node| ids.iter().position(|id| node["id"] == id.as_str()).unwrap()).collect()
        };
        let records = world.ask("query($ids: [ID!]) { replies(filter: { ids: $ids }) { nodes { record { id } run { campaign { id } } } } }", json!({ "ids": [ids[0]] })).await["replies"]["nodes"][0].clone();
        for (filter, wanted) in [
            (json!(null), vec![2, 1, 0]),
            (json!({ "ids": [ids[0], ids[2]] }), vec![2, 0]),
            (json!({ "ids": [] }), vec![]),
            (json!({ "runIds": [run], "campaignIds": [records["run"]["campaign"]["id"]] }), vec![2, 1, 0]),
            (json!({ "recordIds": [records["record"]["id"]] }), vec![0]),
            (json!({ "communicationIds": [messages[1]] }), vec![1]),
            (json!({ "statuses": ["OPEN"] }), vec![1, 0]),
            (json!({ "statuses": ["IGNORED", "HANDLED"] }), vec![2]),
            (json!({ "assigneeIds": [me] }), vec![1]),
            (json!({ "mine": true }), vec![1]),
            (json!({ "unassigned": true, "statuses": ["OPEN"] }), vec![0]),
            (json!({ "unassigned": false }), vec![1]),
            (json!({ "test": false, "channels": ["EMAIL"] }), vec![2, 1, 0]),
            (json!({ "test": true }), vec![]),
            (json!({ "search": "STRASSE 7" }), vec![0]),
            (json!({ "search": "number 1" }), vec![1]),
            (json!({ "search": "0%" }), vec![1]),
            (json!({ "search": "" }), vec![2, 1, 0]),
            (json!({ "receivedAt": { "from": (noon() - Duration::hours(1)).to_rfc3339(), "to": noon().to_rfc3339() } }), vec![1]),
        ] {
            assert_eq!(found(filter.clone(), json!(null)).await, wanted, "{filter}");
        }
        assert_eq!(found(json!(null), json!({ "field": "RECEIVED_AT", "direction": "DESC" })).await, [0, 1, 2]);
        assert_eq!(found(json!(null), json!({ "field": "RECEIVED_AT", "direction": "ASC" })).await, [2, 1, 0]);
        assert_eq!(found(json!(null), json!({ "field": "CREATED_AT", "direction": "ASC" })).await, [0, 1, 2]);
        // Page by page it is the same.
        let (mut paged, mut after) = (Vec::new(), json!(null));
        loop {
            let page = json!({ "orderBy": { "field": "RECEIVED_AT", "direction": "DESC" }, "first": 1, "after": after });
            let page = world.ask(LIST, page).await["replies"].clone();
            paged.extend(page["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap().to_owned()));
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
        assert_eq!(paged, ids);
        // The counts stay while a status is chosen.
        let counts = world.ask(LIST, json!({ "filter": { "statuses": ["HANDLED"] } })).await["replies"].clone();
        assert_eq!(counts["totalCount"], 0);
        assert_eq!(counts["countsByStatus"], json!([{ "status": "OPEN", "count": 2 }, { "status": "HANDLED", "count": 0 }, { "status": "IGNORED", "count": 1 }]));
        for (filter, field) in [
            (json!({ "runIds": ["nonsense"] }), "filter.runIds"),
            (json!({ "search": "x".repeat(1_001) }), "filter.search"),
        ] {
            let told = world.post(LIST, json!({ "filter": filter })).await["errors"][0]["extensions"].clone();
            assert!(told["field"].as_str().unwrap().starts_with(field), "{told}");
        }
        world.end().await;
    }
}

both! {
    async fn each_list_of_replies_is_answered_from_an_index(kind) {
        use sea_orm::{ConnectionTrait, TransactionTrait};

        let world = World::without_server(kind, None).await;
        let (run, messages) = sent(&world, 1, None).await;
        let id = answer(&world, &messages[0], json!({})).await;
        let me = world.ask("{ viewer { member { id } } }", json!({})).await["viewer"]["member"]["id"].clone();
        world.act("assignReply", "reply", json!({ "id": id, "assigneeId": me })).await;
        let tx = world.db.read().connection().begin().await.unwrap();
        if kind == Kind::Postgres {
            // The planner would read a few rows as a whole and sort them, unless that is disabled.
            tx.execute_unprepared("SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off").await.unwrap();
        }
        for (condition, by_id, by_time) in [
            (json!({}), "reply_by_org", "reply_by_received"),
            (json!({ "statuses": ["OPEN"] }), "reply_by_status", "reply_by_status_received"),
            // Of so few rows in one org, the planners read those of the org in order of creation.
            (json!({ "runIds": [run] }), "", "reply_of_run_by_received"),
            (json!({ "assigneeIds": [me] }), "reply_of_assignee", "reply_of_assignee_by_received"),
            (json!({ "communicationIds": [messages[0]] }), "reply_of_communication", ""),
        ] {
            let filter = <reply::Filter as async_graphql::InputType>::parse(Some(async_graphql::Value::from_json(condition.clone()).unwrap())).ok().unwrap();
            for (by, index) in [(SortBy::CreatedAt, by_id), (SortBy::ReceivedAt, by_time)] {
                if index.is_empty() {
                    continue;
                }
                for (descending, args) in [(true, Args { first: Some(50), ..Args::default() }), (false, Args { first: Some(50), ..Args::default() }), (true, Args { last: Some(50), ..Args::default() })] {
                    let plan = reply::window(&world.db, &world.viewer, &filter, by, descending, args).unwrap().plan(&tx).await.unwrap();
                    let sorts = plan.contains("Sort") || plan.contains("TEMP B-TREE");
                    assert!(!sorts && plan.contains(index), "{kind:?} {condition} {by:?}: {plan}");
                }
            }
        }
        tx.rollback().await.unwrap();
        world.end().await;
    }
}
