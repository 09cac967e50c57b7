//! Erasure of a person: nothing personal is left in any column of any table, what counts stays, and
//! nobody writes to the person again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sortie::domain::import::{Options, import_with};

use crate::harness::life::Home;
use crate::harness::sink::Sink;
use crate::harness::{Kind, World, noon};

const ERASE: &str =
    "mutation($input: EraseRecordInput!) { eraseRecord(input: $input) { record { id name erasedAt } } }";
const SHOW: &str =
    "query($id: ID!) { record(id: $id) { kind name externalId email phone timeZone stage attributes priority
    unsubscribedAt erasedAt erasureCompletedAt revision } }";
const FATES: &str =
    "query($id: ID!) { run(id: $id) { status outcome communications(first: 500) { nodes { status record { id } } }
    records(first: 500) { nodes { outcome reason record { id } } } } }";

const NAME: &str = "Zyxandra Quillfeather";
const EMAIL: &str = "zyx.quill@private.example";
const FORMER: &str = "old.quill@private.example";
const PHONE: &str = "+4915299887766";
const EXTERNAL: &str = "EXT-ZQ-774411";

/// The texts that must be found nowhere afterwards, in lower case: her name, her addresses, her id, and a word
/// that every text about her contains.
const PERSONAL: [&str; 7] =
    ["zyxandra", "quillfeather", "zyx.quill", "old.quill", "4915299887766", "ext-zq-774411", "zq-secret"];

fn lead(name: &str, more: Value) -> Value {
    let mut input = json!({ "kind": "lead", "name": name });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    input
}

/// Creates the person with something distinctive in every field.
async fn person(world: &World) -> String {
    let all = json!({
        "externalId": EXTERNAL, "email": FORMER, "phone": PHONE, "timeZone": "Europe/Berlin", "stage": "New",
        "attributes": { "first_name": "Zyxandra", "company": "zq-secret works", "priority": 7, "shoe_size": 38 },
        "idempotencyKey": format!("make {EMAIL}"),
    });
    let id = world.create("record", lead(NAME, all)).await;
    let update =
        "mutation($id: ID!, $email: String) { updateRecord(input: { id: $id, email: $email }) { record { id } } }";
    world.ask(update, json!({ "id": id, "email": EMAIL })).await;
    id
}

async fn shown(world: &World, id: &str) -> Value {
    world.ask(SHOW, json!({ "id": id })).await["record"].clone()
}

async fn erase(world: &World, id: &str) -> Value {
    let input = json!({ "id": id, "reason": format!("{NAME} asked for it") });
    world.ask(ERASE, json!({ "input": input })).await["eraseRecord"]["record"].clone()
}

/// Erases in a still world, to the end.
async fn erase_all(world: &World, id: &str) {
    erase(world, id).await;
    for _ in 0..100 {
        world.tick(false).await;
        if shown(world, id).await["erasureCompletedAt"].is_string() {
            return;
        }
        // Work was in hand.
        world.forget().await;
    }
    panic!(
        "the erasure does not end: {:?}",
        (
            world.sql("SELECT kind, CAST(detail AS text) FROM sweep").await,
            world.sql("SELECT work, error FROM stuck").await
        )
    );
}

/// Every column of every table.
async fn columns(world: &World, kind: Kind) -> Vec<Vec<String>> {
    let sql = match kind {
        Kind::Sqlite => {
            "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
        }
        Kind::Postgres => {
            "SELECT CAST(c.table_name AS text), CAST(c.column_name AS text) FROM information_schema.columns c \
             JOIN information_schema.tables t ON t.table_name = c.table_name AND t.table_schema = c.table_schema \
             WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
        }
    };
    world.sql(sql).await
}

/// The columns that contain one of some texts, with their values.
async fn found(world: &World, kind: Kind, texts: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for column in columns(world, kind).await {
        let (table, name) = (&column[0], &column[1]);
        let each = texts.iter().map(|text| format!("LOWER(CAST(\"{name}\" AS text)) LIKE '%{text}%'"));
        let met = each.collect::<Vec<_>>().join(" OR ");
        for row in world.sql(&format!("SELECT CAST(\"{name}\" AS text) FROM \"{table}\" WHERE {met}")).await {
            all.push(format!("{table}.{name}: {}", row[0]));
        }
    }
    all
}

/// Number of rows of each table.
async fn counts(world: &World, kind: Kind) -> BTreeMap<String, i64> {
    let mut all = BTreeMap::new();
    for column in columns(world, kind).await {
        if !all.contains_key(&column[0]) {
            all.insert(column[0].clone(), world.number(&format!("SELECT COUNT(*) FROM \"{}\"", column[0])).await);
        }
    }
    all
}

/// The figures of reports: statuses and outcomes, with their numbers.
async fn reports(world: &World) -> Vec<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for sql in [
        "SELECT status, COUNT(*) FROM communication GROUP BY status ORDER BY status",
        "SELECT COALESCE(outcome, '-'), COUNT(*) FROM run_record GROUP BY outcome ORDER BY 1",
        "SELECT status, COUNT(*) FROM step GROUP BY status ORDER BY status",
        "SELECT status, COUNT(*) FROM run GROUP BY status ORDER BY status",
        "SELECT status, COUNT(*) FROM reply GROUP BY status ORDER BY status",
        "SELECT status, COUNT(*) FROM follow_up GROUP BY status ORDER BY status",
        "SELECT status, COUNT(*) FROM meeting GROUP BY status ORDER BY status",
        "SELECT kind, COUNT(*) FROM activity GROUP BY kind ORDER BY kind",
        "SELECT stage, COUNT(*) FROM record WHERE stage IS NOT NULL GROUP BY stage ORDER BY stage",
    ] {
        all.push(world.sql(sql).await);
    }
    all
}

/// Sends a campaign's messages to all leads, and has the person answer.
async fn campaign(world: &World, id: &str) -> String {
    let plan = world.plan("EMAIL", 2).await;
    world.activate(&plan).await;
    let run = world.launch(&plan).await;
    let review = world.until_review(&run).await;
    world.act("approveStep", "step", json!({ "id": review })).await;
    let sent = world
        .until("all to be sent", FATES, json!({ "id": run }), |found| {
            let all = found["run"]["communications"]["nodes"].as_array().unwrap();
            all.len() == 3 && all.iter().all(|one| one["status"] == "SENT")
        })
        .await;
    assert!(sent.to_string().contains(id), "{sent:#}");
    let query = "query($id: [ID!]) { communications(filter: { recordIds: $id }) { nodes { id body } } }";
    let message = world.ask(query, json!({ "id": [id] })).await["communications"]["nodes"][0].clone();
    assert!(message["body"].as_str().unwrap().contains("zq-secret works"), "{message:#}");
    let reply = json!({ "communicationId": message["id"], "subject": "Re: zq-secret", "body": format!("zq-secret, {NAME}"), "externalId": "<zq-secret@private.example>" });
    let answered = "mutation($input: RecordReplyInput!) { recordReply(input: $input) { reply { id } } }";
    let reply = world.ask(answered, json!({ "input": reply })).await["recordReply"]["reply"]["id"].clone();
    let handled = "mutation($id: ID!) { handleReply(input: { id: $id, note: \"zq-secret note\" }) { reply { id } } }";
    world.ask(handled, json!({ "id": reply })).await;
    let raise = "mutation($input: RaiseEventInput!) { raiseEvent(input: $input) { name } }";
    world
        .ask(
            raise,
            json!({ "input": { "name": "payment.received", "recordIds": [id], "payload": { "by": "zq-secret" } } }),
        )
        .await;
    world.ask(raise, json!({ "input": { "name": "payment.seen", "runId": run, "payload": { "by": EMAIL } } })).await;
    world.until_run(&run, "COMPLETED").await;
    let note =
        json!({ "runId": run, "belongsTo": "CAMPAIGN", "text": format!("{NAME} was glad.\nWrite to {EMAIL} again.") });
    let noted = "mutation($input: AddRunNoteInput!) { addRunNote(input: $input) { runNote { id } } }";
    world.ask(noted, json!({ "input": note })).await;
    let view =
        json!({ "page": "leads", "name": "Mine", "filter": { "search": NAME }, "settings": { "opened": [EMAIL] } });
    let saved = "mutation($input: SaveViewInput!) { saveView(input: $input) { savedView { id } } }";
    world.ask(saved, json!({ "input": view })).await;
    run
}

/// Does guided work about the person: mail, notes, a meeting, a follow-up, results.
async fn guided(world: &World, id: &str) {
    let (run, steps) = world.own_run(&[("a", "custom", json!({}))], json!({ "name": format!("Talk to {NAME}") })).await;
    let step = &steps[0];
    world.step_act("startStep", step, json!({})).await;
    let at = noon() + chrono::Duration::days(1);
    let call = json!({ "definition": { "key": "call", "name": format!("Call {NAME}"), "type": "note", "assignedTo": "HUMAN" } });
    let add = "mutation($input: AddRunStepInput!) { addRunStep(input: $input) { step { id } } }";
    world.ask(add, json!({ "input": { "runId": run, "step": call } })).await;
    // What is written about somebody else may name the person.
    let other = world.create("record", json!({ "kind": "contact", "name": "Somebody else" })).await;
    for (mutation, shown, input) in [
        ("linkRecords", "recordLink { id }", json!({ "fromId": id, "toId": other, "role": "zyxandra" })),
        ("linkRecords", "recordLink { id }", json!({ "fromId": other, "toId": id, "role": "zyxandra" })),
        ("addStepNote", "step { id }", json!({ "recordIds": [id, other], "text": format!("{NAME} knows them") })),
        ("createStepFollowUp", "followUp { id }", json!({ "recordId": other, "title": format!("Ask about {NAME}") })),
        (
            "sendStepEmail",
            "step { id }",
            json!({ "recordIds": [id], "subject": "zq-secret", "body": "zq-secret body" }),
        ),
        ("addStepNote", "step { id }", json!({ "recordIds": [id], "text": "zq-secret: she called" })),
        ("addStepNote", "step { id }", json!({ "text": format!("Ask {EMAIL} again") })),
        ("createStepFollowUp", "followUp { id }", json!({ "recordId": id, "title": "zq-secret", "note": "zq-secret" })),
        ("updateStepStage", "step { id }", json!({ "changes": [{ "recordId": id, "stage": "Contacted" }] })),
        (
            "scheduleStepMeeting",
            "meeting { id }",
            json!({
                "title": "zq-secret talk", "description": "zq-secret", "location": "zq-secret street", "startsAt": at, "minutes": 30,
                "attendees": [{ "recordId": id }, { "email": "boss@us.example", "name": "The boss" }],
            }),
        ),
        (
            "scheduleStepMeeting",
            "meeting { id }",
            json!({
                "title": format!("Prepare {NAME}"), "startsAt": at + chrono::Duration::days(1), "minutes": 30,
                "attendees": [{ "email": EMAIL, "name": NAME }, { "email": "boss@us.example" }],
            }),
        ),
    ] {
        let mut input = input;
        if mutation != "linkRecords" {
            input["stepId"] = json!(step);
        }
        let kind = input_of(world, mutation).await;
        let query = format!("mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {shown} }} }}");
        world.ask(&query, json!({ "input": input })).await;
    }
    let way = "query($id: ID!) { run(id: $id) { messagesOnWay } }";
    world.until("its messages to go", way, json!({ "id": run }), |found| found["run"]["messagesOnWay"] == 0).await;
    world.step_act("completeStep", step, json!({ "result": { "about": NAME } })).await;
    world.complete_run(&run, &format!("{NAME} will think about it")).await;
}

/// The type of a mutation's input.
async fn input_of(world: &World, mutation: &str) -> String {
    let query = "{ __schema { mutationType { fields { name args { type { ofType { name } } } } } } }";
    let schema = world.ask(query, json!({})).await;
    let fields = schema["__schema"]["mutationType"]["fields"].as_array().unwrap();
    let of = fields.iter().find(|field| field["name"] == mutation).unwrap();
    of["args"][0]["type"]["ofType"]["name"].as_str().unwrap().to_owned()
}

/// Imports a file with a problem in one of the person's lines.
async fn import(world: &World) {
    let options = Options { kind: "lead".into(), file: format!("{NAME}.csv"), ..Options::default() };
    let file = format!(
        "external_id,name,email\n{EXTERNAL},{NAME},{EMAIL}\n{EXTERNAL},{NAME},{EMAIL}\nX-1,Other,{EMAIL} bcc\n"
    );
    let report = import_with(&world.db.write(), &world.viewer, &options, file.as_bytes(), |_, _| {}).await.unwrap();
    assert_eq!((report.unchanged, report.bad), (1, 1), "{report:?}");
}

both! {
    async fn nothing_personal_is_left_in_any_column(kind) {
        let sink = Sink::start().await;
        let world = World::with(kind, Some(sink.url())).await;
        let id = person(&world).await;
        let run = campaign(&world, &id).await;
        guided(&world, &id).await;
        import(&world).await;
        // A request that was rejected, and an entry of the suppression list.
        let create = "mutation($input: CreateRecordInput!) { createRecord(input: $input) { record { id } } }";
        let twin = lead(NAME, json!({ "externalId": EXTERNAL, "attributes": { "note": "zq-nothing" } }));
        assert_eq!(world.refused(create, json!({ "input": twin })).await.0, "CONFLICT");
        let suppress = "mutation($reason: String!) { suppressAddress(input: { channel: PHONE, address: \"+4915299887766\", reason: $reason }) { suppression { id } } }";
        world.ask(suppress, json!({ "reason": format!("{NAME} asked") })).await;
        let before = found(&world, kind, &PERSONAL).await;
        for table in ["record", "run_record", "communication", "reply", "activity", "follow_up", "meeting", "step", "event", "run", "import", "import_problem", "audit", "suppression", "idempotency_key", "run_note", "saved_view", "record_link"] {
            assert!(before.iter().any(|line| line.starts_with(&format!("{table}."))), "{table} has nothing to erase: {before:#?}");
        }
        let (rows, said) = (counts(&world, kind).await, reports(&world).await);
        let cursors: Vec<Value> = world.ask_all_events().await.into_iter().map(|event| event["cursor"].clone()).collect();

        let erased = erase(&world, &id).await;
        assert_eq!((&erased["name"], erased["erasedAt"].is_string()), (&json!("[erased]"), true));
        let done = world.until("the erasure to end", SHOW, json!({ "id": id }), |found| found["record"]["erasureCompletedAt"].is_string()).await;
        let done = done["record"].clone();
        for field in ["externalId", "email", "phone", "timeZone"] {
            assert_eq!(done[field], Value::Null, "{field}");
        }
        assert_eq!((&done["kind"], &done["stage"], &done["attributes"], &done["priority"]), (&json!("lead"), &json!("Contacted"), &json!({}), &json!(0)));
        let left = found(&world, kind, &PERSONAL).await;
        assert!(left.is_empty(), "{left:#?}");

        // The counts, the reports and the log stay.
        let mut after = counts(&world, kind).await;
        for changed in ["event", "audit", "suppression", "sweep", "idempotency_key", "stuck", "record_link"] {
            after.insert(changed.into(), rows[changed]);
        }
        assert_eq!(after, rows);
        assert_eq!(reports(&world).await, said);
        let events = world.ask_all_events().await;
        let kept: Vec<Value> = events.iter().take(cursors.len()).map(|event| event["cursor"].clone()).collect();
        assert_eq!(kept, cursors);
        let new: Vec<&str> = events[cursors.len()..].iter().map(|event| event["kind"].as_str().unwrap()).collect();
        assert_eq!(new, ["record.unsubscribed", "record.erased", "record.erasure_completed"]);
        let fates = world.ask(FATES, json!({ "id": run })).await;
        assert_eq!(fates["run"]["records"]["nodes"].as_array().unwrap().len(), 3, "{fates:#}");
        // The audit has the actor, the reason and the record, without the name.
        let audit = world.ask("{ audit(first: 1, filter: { mutations: [\"eraseRecord\"] }) { nodes { targetId outcome input actor { kind } } } }", json!({})).await;
        let entry = &audit["audit"]["nodes"][0];
        assert_eq!((&entry["targetId"], &entry["outcome"], &entry["input"]["reason"]), (&json!(id), &json!("DONE"), &json!("[erased] asked for it")), "{entry:#}");
        world.end().await;
    }
}

both! {
    async fn an_erased_record_is_found_and_changed_no_more(kind) {
        let world = World::without_server(kind, None).await;
        let id = person(&world).await;
        let found_by = async |filter: Value| {
            let query = "query($filter: RecordFilterInput) { records(filter: $filter) { totalCount } }";
            world.ask(query, json!({ "filter": filter })).await["records"]["totalCount"].clone()
        };
        let filters = [json!({ "search": "quillfeather" }), json!({ "email": { "eq": EMAIL } }), json!({ "name": { "eq": NAME } }), json!({ "externalId": { "eq": EXTERNAL } })];
        for filter in &filters {
            assert_eq!(found_by(filter.clone()).await, 1, "{filter}");
        }
        // Rejected: an unknown record, a blank reason, another revision.
        let unknown = entity::id::RecordId::new().to_string();
        for (input, code, word) in [
            (json!({ "id": unknown, "reason": "r" }), "NOT_FOUND", "record"),
            (json!({ "id": id, "reason": " " }), "BAD_USER_INPUT", "reason"),
            (json!({ "id": "run_01h455vb4pex5vsknk084sn02q", "reason": "r" }), "BAD_USER_INPUT", "id"),
            (json!({ "id": id, "reason": "r", "expectedRevision": 99 }), "CONFLICT", "revision"),
        ] {
            let (given, message) = world.refused(ERASE, json!({ "input": input })).await;
            assert!(given == code && message.contains(word), "{given} {message}");
        }
        // The same key: the same result. Without it, it was erased already.
        let input = json!({ "id": id, "reason": "r", "idempotencyKey": "k", "expectedRevision": shown(&world, &id).await["revision"] });
        let first = world.ask(ERASE, json!({ "input": input })).await;
        for filter in filters {
            assert_eq!(found_by(filter.clone()).await, 0, "{filter}");
        }
        assert_eq!(world.ask(ERASE, json!({ "input": input })).await, first);
        let is_erased = |answer: &Value| {
            let extensions = &answer["errors"][0]["extensions"];
            assert_eq!((&extensions["code"], &extensions["reason"], &extensions["recordId"]), (&json!("CONFLICT"), &json!("RECORD_ERASED"), &json!(id)), "{answer:#}");
        };
        is_erased(&world.post(ERASE, json!({ "input": { "id": id, "reason": "r" } })).await);
        is_erased(&world.post("mutation($id: ID!) { updateRecord(input: { id: $id, name: \"N\" }) { record { id } } }", json!({ "id": id })).await);
        is_erased(&world.post("mutation($id: ID!) { updateRecord(input: { id: $id, unsubscribed: false }) { record { id } } }", json!({ "id": id })).await);
        is_erased(&world.post("mutation($id: ID!) { deleteRecord(input: { id: $id }) { deletedId } }", json!({ "id": id })).await);
        world.tick(true).await;
        world.forget().await;
        world.tick(true).await;
        assert!(shown(&world, &id).await["erasureCompletedAt"].is_string());
        assert_eq!(world.number("SELECT COUNT(*) FROM sweep").await, 0);
        world.end().await;
    }
}

both! {
    async fn nobody_writes_to_the_person_again(kind) {
        let world = World::without_server(kind, None).await;
        let id = person(&world).await;
        erase_all(&world, &id).await;
        assert_eq!(found(&world, kind, &PERSONAL).await, Vec::<String>::new());
        let listed = world.ask("{ suppressions { nodes { address reason recordId } } }", json!({})).await["suppressions"]["nodes"].clone();
        assert_eq!(listed.as_array().unwrap().len(), 2, "the mail address and the number: {listed:#}");
        assert!(listed.as_array().unwrap().iter().all(|one| one["address"] == "[erased]" && one["recordId"] == json!(id)));
        // The same external id is another record, but its addresses are still suppressed.
        let again = person(&world).await;
        assert_ne!(again, id);
        let plan = world.plan("EMAIL", 2).await;
        let preflight = "query($id: ID!) { campaign(id: $id) { preflight(action: RUN) { checks { code message } } } }";
        let said = world.ask(preflight, json!({ "id": plan.campaign })).await.to_string();
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        let fates = world.ask(FATES, json!({ "id": run })).await["run"].clone();
        let of = |id: &str| fates["records"]["nodes"].as_array().unwrap().iter().find(|one| one["record"]["id"] == id).cloned();
        let fate = of(&again).unwrap();
        assert_eq!((&fate["outcome"], &fate["reason"]), (&json!("SUPPRESSED"), &json!("UNSUBSCRIBED")), "{fates:#}; {said}");
        assert!(of(&id).is_none(), "the erased one is in no audience: {fates:#}");
        assert_eq!(world.outbox().len(), 2);
        // Erased again: the addresses that came back are digests again.
        erase_all(&world, &again).await;
        assert_eq!(found(&world, kind, &PERSONAL).await, Vec::<String>::new());
        world.end().await;
    }
}

both! {
    async fn an_address_that_others_have_stays_on_the_list(kind) {
        let world = World::without_server(kind, None).await;
        let (shared, own) = ("family@private.example", "only.hers@private.example");
        let suppress = "mutation($address: String!) { suppressAddress(input: { channel: EMAIL, address: $address, reason: \"bounced\" }) { suppression { id } } }";
        let first = world.create("record", lead("Ann", json!({ "email": shared }))).await;
        let second = world.create("record", lead("Ben", json!({ "email": "Family@private.example" }))).await;
        let third = world.create("record", lead("Cleo", json!({ "email": own }))).await;
        let id = world.ask(suppress, json!({ "address": shared })).await["suppressAddress"]["suppression"]["id"].clone();
        world.ask(suppress, json!({ "address": own })).await;
        let listed = async || {
            let all = world.ask("{ suppressions(first: 100) { nodes { id address reason recordId } } }", json!({})).await["suppressions"]["nodes"].clone();
            all.as_array().unwrap().clone()
        };
        erase_all(&world, &third).await;
        assert!(listed().await.iter().all(|one| one["address"] != own), "{:?}", listed().await);
        // The entry of the address that Ben has, too, stays as it is; the person's own is a digest.
        erase_all(&world, &first).await;
        let all = listed().await;
        let plain: Vec<&Value> = all.iter().filter(|one| one["address"] != "[erased]").collect();
        assert_eq!(plain.len(), 1, "{all:#?}");
        assert_eq!((&plain[0]["id"], &plain[0]["reason"]), (&id, &json!("bounced")));
        assert!(plain[0]["address"].as_str().unwrap().eq_ignore_ascii_case(shared));
        assert!(all.iter().any(|one| one["address"] == "[erased]" && one["recordId"] == json!(first)));
        // When nobody has it any more, it is a digest.
        erase_all(&world, &second).await;
        assert!(listed().await.iter().all(|one| one["address"] == "[erased]"), "{:?}", listed().await);
        // Without an entry of its own, the address is listed in plain for those who still have it.
        let (one, two) = (world.create("record", lead("Dora", json!({ "email": "pair@private.example" }))).await, world.create("record", lead("Emil", json!({ "email": "pair@private.example" }))).await);
        erase_all(&world, &one).await;
        assert!(listed().await.iter().any(|entry| entry["address"] == "pair@private.example" && entry["recordId"].is_null()));
        erase_all(&world, &two).await;
        assert!(listed().await.iter().all(|entry| entry["address"] == "[erased]"), "{:?}", listed().await);
        // Also if those who share it are erased at the same time.
        let twins = ["Fay", "Gus"].map(|name| lead(name, json!({ "email": "twins@private.example" })));
        let twins = [world.create("record", twins[0].clone()).await, world.create("record", twins[1].clone()).await];
        tokio::join!(erase(&world, &twins[0]), erase(&world, &twins[1]));
        assert!(listed().await.iter().all(|entry| entry["address"] == "[erased]"), "{:?}", listed().await);
        world.end().await;
    }
}

both! {
    async fn a_run_in_progress_leaves_the_person_out(kind) {
        let world = World::without_server(kind, None).await;
        let id = person(&world).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM communication WHERE status = 'DRAFT'").await, 3);
        erase_all(&world, &id).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        let fates = world.ask(FATES, json!({ "id": run })).await["run"].clone();
        let mine: Vec<&Value> = fates["communications"]["nodes"].as_array().unwrap().iter().filter(|one| one["record"]["id"] == json!(id)).collect();
        assert_eq!((mine.len(), &mine[0]["status"]), (1, &json!("SUPPRESSED")), "{fates:#}");
        let places = fates["records"]["nodes"].as_array().unwrap();
        let mine = places.iter().find(|one| one["record"]["id"] == json!(id)).unwrap();
        assert_eq!((&mine["outcome"], &mine["reason"]), (&json!("SUPPRESSED"), &json!("UNSUBSCRIBED")), "{fates:#}");
        assert_eq!(places.iter().filter(|one| one["outcome"] == "SENT").count(), 2, "{fates:#}");
        assert_eq!((&fates["status"], world.outbox().len()), (&json!("COMPLETED"), 2));
        assert_eq!(found(&world, kind, &PERSONAL).await, Vec::<String>::new());
        world.end().await;
    }
}

both! {
    async fn twins_erase_once(kind) {
        let world = World::new(kind).await;
        let id = person(&world).await;
        let asked = |key: Option<&str>| json!({ "input": { "id": id, "reason": "r", "idempotencyKey": key } });
        let all = tokio::join!(world.post(ERASE, asked(Some("k"))), world.post(ERASE, asked(Some("k"))), world.post(ERASE, asked(None)));
        let all = [all.0, all.1, all.2];
        let done = all.iter().filter(|answer| answer.get("errors").is_none()).count();
        let refused = all.iter().filter(|answer| answer["errors"][0]["extensions"]["code"] == "CONFLICT").count();
        assert!(done >= 1 && done + refused == 3, "{all:#?}");
        world.until("the erasure to end", SHOW, json!({ "id": id }), |found| found["record"]["erasureCompletedAt"].is_string()).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'record.erased'").await, 1);
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'record.erasure_completed'").await, 1);
        world.end().await;
    }
}

both! {
    async fn an_erasure_goes_on_after_a_kill(kind) {
        let home = Home::new(kind).await;
        home.import(3);
        for (i, place) in ["erasing:1", "erasing:2", "erasing:4"].into_iter().enumerate() {
            let mut life = home.begin_at(Some(place)).unwrap();
            let records = "{ records(first: 9, filter: { email: { isNull: false } }) { nodes { id name email } } }";
            let record = life.ask(records, json!({})).await.unwrap()["records"]["nodes"][0].clone();
            let input = json!({ "id": record["id"], "reason": "r", "idempotencyKey": place });
            life.post(ERASE, json!({ "input": input })).await;
            let deadline = Instant::now() + Duration::from_secs(60);
            while !life.is_over() {
                assert!(Instant::now() < deadline, "never came to {place}");
                tokio::task::yield_now().await;
            }
            home.gone().await;
            // It shows as erased before its other tables are empty.
            assert_eq!(home.count("SELECT COUNT(*) FROM record WHERE erased_at IS NOT NULL AND name = '[erased]'").await, i as i64 + 1);
            let life = home.begin();
            let again = life.ask(ERASE, json!({ "input": input })).await.unwrap();
            assert_eq!(again["eraseRecord"]["record"]["id"], record["id"]);
            while home.count("SELECT COUNT(*) FROM record WHERE erasure_completed_at IS NOT NULL").await <= i as i64 {
                assert!(Instant::now() < deadline, "the erasure does not go on");
                tokio::task::yield_now().await;
            }
            life.kill();
            home.gone().await;
            assert_eq!(home.count("SELECT COUNT(*) FROM sweep").await, 0, "the words are gone with it");
        }
        home.check();
        home.remove();
    }
}
