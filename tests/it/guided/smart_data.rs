//! "Smart Data Loading" (docs/reference/guided-runs.txt): the records that a step shows according
//! to its configuration, and its suggestions for each; and the other built-in templates, each run
//! to its end.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::{World, noon};

const SHOWN: &str = "query($id: ID!, $first: Int, $after: String) { step(id: $id) { records(first: $first, after: $after) { totalCount pageInfo { hasNextPage endCursor } nodes { name } } } }";

/// The names of the records that a step shows.
async fn shown(world: &World, step: &str) -> Vec<String> {
    let found = world.ask(SHOWN, json!({ "id": step })).await["step"]["records"].clone();
    let names: Vec<String> =
        found["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(found["totalCount"], names.len());
    names
}

/// A partnership that the test inserts.
struct Partner {
    id: String,
    name: String,
    priority: i64,
    contacted: Option<i64>,
    stage: &'static str,
}

async fn partners(world: &World) -> Vec<Partner> {
    let mut all = Vec::new();
    for i in 0..9_i64 {
        let name = format!("Partner {}", [4, 8, 1, 6, 0, 3, 7, 2, 5][i as usize]);
        let (priority, contacted) = ((i * 7) % 4, (i != 3).then_some(i * 4));
        let stage = ["MOU Sent", "New Lead", "Active Partner"][(i % 3) as usize];
        let input = json!({ "kind": "partnership", "name": name, "stage": stage, "attributes": { "priority": priority },
            "lastContactedAt": contacted.map(|ago| noon() - Duration::days(ago)) });
        let id = world.create("record", input).await;
        all.push(Partner { id, name, priority, contacted, stage });
    }
    all
}

/// Names of the partners that meet a condition, sorted by a key, ascending or descending.
fn sorted<K: Ord>(
    all: &[Partner],
    meant: impl Fn(&Partner) -> bool,
    key: impl Fn(&Partner) -> K,
    descending: bool,
) -> Vec<String> {
    let mut found: Vec<&Partner> = all.iter().filter(|one| meant(one)).collect();
    found.sort_by(|a, b| (key(a), &a.id).cmp(&(key(b), &b.id)));
    if descending {
        found.reverse();
    }
    found.into_iter().map(|one| one.name.clone()).collect()
}

both! {
    async fn steps_automatically_fetch_relevant_data_based_on_action_type_and_config(kind) {
        let world = World::without_server(kind, None).await;
        let all = partners(&world).await;
        world.create("record", json!({ "kind": "lead", "name": "No partner", "stage": "MOU Sent", "attributes": { "priority": 50 } })).await;
        let ids: Vec<&str> = all.iter().take(4).map(|one| one.id.as_str()).collect();
        let listed: Vec<&str> = all.iter().skip(5).map(|one| one.id.as_str()).collect();
        let list = world.create("segment", json!({ "name": "Listed", "recordIds": listed })).await;
        world.create("segment", json!({ "name": "Out", "filter": { "kind": { "eq": "partnership" }, "stage": { "eq": "MOU Sent" } } })).await;
        let partnership = json!({ "kind": { "eq": "partnership" } });
        let by = |field: &str, descending: bool| json!({ "field": field, "descending": descending });
        let (run, steps) = world.own_run(&[
            ("by_ids", "review", json!({ "records": { "ids": ids } })),
            ("by_list", "review", json!({ "records": { "segment": list } })),
            ("by_segment", "review", json!({ "records": { "segment": "Out" } })),
            ("by_filter", "review", json!({ "records": { "filter": { "kind": { "eq": "partnership" }, "lastContactedAt": { "olderThan": "14d", "orNever": true } } } })),
            ("top_three", "email", json!({ "records": { "filter": partnership, "limit": 3 }, "subject": "s", "body": "b" })),
            ("linked", "update_stage", json!({ "records": { "linked": true, "orderBy": by("NAME", false) } })),
            ("both", "note", json!({ "records": { "segment": "Out", "ids": ids } })),
            ("silent", "create_task", json!({ "records": { "filter": partnership, "orderBy": by("LAST_CONTACTED_AT", false) } })),
            ("oldest", "custom", json!({ "records": { "filter": partnership, "orderBy": by("CREATED_AT", false), "limit": 2 } })),
            ("none", "note", json!({})),
            ("gone", "review", json!({ "records": { "segment": "Nobody's" } })),
        ], json!({ "linkedRecordIds": [all[7].id, all[2].id] })).await;
        let any = |_: &Partner| true;
        let urgent = |one: &Partner| one.priority;
        let expected = [
            sorted(&all, |one| ids.contains(&one.id.as_str()), urgent, true),
            sorted(&all, |one| listed.contains(&one.id.as_str()), urgent, true),
            sorted(&all, |one| one.stage == "MOU Sent", urgent, true),
            sorted(&all, |one| one.contacted.is_none_or(|ago| ago > 14), urgent, true),
            sorted(&all, any, urgent, true)[..3].to_vec(),
            sorted(&all, |one| [&all[7].id, &all[2].id].contains(&&one.id), |one| one.name.clone(), false),
            sorted(&all, |one| one.stage == "MOU Sent" && ids.contains(&one.id.as_str()), urgent, true),
            // Records without any contact come first.
            sorted(&all, any, |one| one.contacted.map_or(i64::MIN, |ago| -ago), false),
            sorted(&all, any, |_| 0, false)[..2].to_vec(),
        ];
        for (step, expected) in steps.iter().zip(&expected) {
            assert!(!expected.is_empty());
            assert_eq!(&shown(&world, step).await, expected);
        }
        assert_eq!(expected[0].len() + expected[1].len() + expected[2].len(), 4 + 4 + 3);
        // A step without records has none; one whose segment is deleted reports that, and only
        // that.
        assert_eq!(world.ask(SHOWN, json!({ "id": steps[9] })).await["step"]["records"], Value::Null);
        let answer = world.post(SHOWN, json!({ "id": steps[10] })).await;
        assert_eq!((&answer["errors"][0]["extensions"]["code"], &answer["data"]["step"]["records"]), (&json!("NOT_FOUND"), &Value::Null));
        // By pages, in the same order.
        let (mut paged, mut after) = (Vec::new(), Value::Null);
        loop {
            let page = world.ask(SHOWN, json!({ "id": steps[7], "first": 2, "after": after })).await["step"]["records"].clone();
            assert_eq!(page["totalCount"], all.len());
            paged.extend(page["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().to_owned()));
            if page["pageInfo"]["hasNextPage"] != true {
                break;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
        assert_eq!(paged, expected[7]);
        // Evaluated live: changes show in the list until the step is started; afterwards only after
        // a refresh.
        world.ask("mutation($id: ID!) { updateRecord(input: { id: $id, stage: \"MOU Sent\" }) { record { id } } }", json!({ "id": all[1].id })).await;
        let now = sorted(&all, |one| one.stage == "MOU Sent" || one.id == all[1].id, urgent, true);
        assert_eq!(shown(&world, &steps[2]).await, now);
        world.step_act("startStep", &steps[2], json!({})).await;
        assert_eq!(shown(&world, &steps[2]).await, now);
        // The steps of a whole run with the records of each, in one query.
        let query = "query($id: ID!) { run(id: $id) { steps { nodes { key records { nodes { name } } } } } }";
        let answer = world.post(query, json!({ "id": run })).await;
        let nodes = answer["data"]["run"]["steps"]["nodes"].as_array().unwrap().clone();
        let linked = nodes.iter().find(|node| node["key"] == "linked").unwrap();
        assert_eq!(linked["records"]["nodes"].as_array().unwrap().len(), 2);
        world.end().await;
    }
}

both! {
    async fn new_lead_intake_process_new_introductions_and_create_partnership_records(kind) {
        let world = World::without_server(kind, None).await;
        let mut leads = Vec::new();
        for (name, ago) in [("Late", 9), ("Early", 2), ("Other", 1), ("Fresh", 0)] {
            world.clock.set(noon() - Duration::days(ago));
            leads.push(world.create("record", json!({ "kind": "lead", "name": name, "email": format!("{name}@leads.example") })).await);
        }
        world.clock.set(noon());
        let run = world.guided("new-lead-intake", json!({})).await;
        let review = world.guided_step(&run, "review_introductions").await;
        assert_eq!(shown(&world, &review).await, ["Fresh", "Other", "Early"], "those of a week, the newest first");
        world.step_act("startStep", &review, json!({})).await;
        world.step_act("completeStep", &review, json!({})).await;

        // "Example: "Create partnership records" for new orgs."
        let custom = world.guided_step(&run, "create_partnerships").await;
        world.step_act("startStep", &custom, json!({})).await;
        let create = "mutation($step: ID!, $records: [StepRecordInput!]!, $key: String) { createStepRecords(input: { stepId: $step, records: $records, idempotencyKey: $key }) { records { id kind name stage lastContactedAt } step { result } } }";
        let orgs = json!([
            { "name": "Mill & Sons", "externalId": "mill", "email": "mill@orgs.example", "stage": "New Lead", "attributes": { "contact": "Ann Mill", "priority": 4 }, "fromIds": [leads[1], leads[3], leads[1]] },
            { "name": "Harbour Trust", "externalId": "harbour", "email": "harbour@orgs.example", "stage": "New Lead" },
        ]);
        let made = world.ask(create, json!({ "step": custom, "records": orgs, "key": "orgs" })).await["createStepRecords"].clone();
        let again = world.ask(create, json!({ "step": custom, "records": orgs, "key": "orgs" })).await["createStepRecords"].clone();
        assert_eq!(made, again);
        assert_eq!((made["records"].as_array().unwrap().len(), &made["records"][0]["kind"], &made["step"]["result"]), (2, &json!("partnership"), &json!({ "partnershipsCreated": 2 })));
        // "Process new introductions": each lead is linked to the partnership that it became, and those without one are left.
        let partnership = "query($id: ID!) { record(id: $id) { links { nodes { role to { name links(direction: TO) { totalCount } } } } } }";
        for (lead, name) in [(&leads[1], Some("Mill & Sons")), (&leads[2], None), (&leads[3], Some("Mill & Sons"))] {
            let links = world.ask(partnership, json!({ "id": lead })).await["record"]["links"]["nodes"].clone();
            let expected = name.map(|name| json!({ "role": "partnership", "to": { "name": name, "links": { "totalCount": 2 } } }));
            assert_eq!(links, json!(expected.as_slice()), "{name:?}");
        }
        assert_eq!(shown(&world, &custom).await, ["Fresh", "Other", "Early"], "the list is fixed while the step is done");
        world.ask("mutation($id: ID!) { refreshStepRecords(input: { stepId: $id }) { step { id } } }", json!({ "id": custom })).await;
        assert_eq!(shown(&world, &custom).await, ["Other"]);
        let next = world.guided("new-lead-intake", json!({})).await;
        let left = world.guided_step(&next, "create_partnerships").await;
        assert_eq!(shown(&world, &left).await, ["Other"], "nor are they in tomorrow's run");
        // All or none; errors are reported with their index.
        for (records, field) in [
            (json!([{ "name": "Good" }, { "name": " " }]), "records[1].name"),
            (json!([{ "name": "Good" }, { "name": "Bad", "email": "nobody" }]), "records[1].email"),
            (json!([{ "name": "Good" }, { "name": "Bad", "kind": "no kind!" }]), "records[1].kind"),
            (json!([{ "name": "Good", "fromIds": [leads[2]] }, { "name": "Bad", "fromIds": ["x"] }]), "records[1].fromIds"),
        ] {
            let answer = world.post(create, json!({ "step": custom, "records": records })).await;
            assert_eq!((&answer["errors"][0]["extensions"]["code"], &answer["errors"][0]["extensions"]["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{answer:#}");
        }
        let (code, told) = world.refused(create, json!({ "step": custom, "records": [{ "name": "Good" }, { "name": "Mill again", "externalId": "mill" }] })).await;
        assert!(code == "CONFLICT" && told.starts_with("records[1]"), "{code}: {told}");
        let unknown = "record_01h455vb4pex5vsknk084sn02q";
        assert_eq!(world.refused(create, json!({ "step": custom, "records": [{ "name": "Good", "fromIds": [leads[2], unknown] }] })).await.0, "NOT_FOUND");
        assert_eq!(world.number("SELECT COUNT(*) FROM record WHERE kind = 'partnership'").await, 2);
        assert_eq!(world.number("SELECT COUNT(*) FROM record_link").await, 2);
        // A free-form result, with the step's counts.
        let done = world.step_act("completeStep", &custom, json!({ "result": { "refused": "one, out of our region" } })).await;
        assert_eq!(done["result"], json!({ "partnershipsCreated": 2, "refused": "one, out of our region" }));

        let welcome = world.guided_step(&run, "welcome").await;
        assert_eq!(shown(&world, &welcome).await, ["Mill & Sons", "Harbour Trust"]);
        world.step_act("skipStep", &welcome, json!({ "reason": "by telephone" })).await;

        // "Example: "Set follow-up tasks" for new leads": "Allows creating tasks linked to partnerships".
        let tasks = world.guided_step(&run, "set_follow_ups").await;
        world.step_act("startStep", &tasks, json!({})).await;
        let query = "query($id: ID!) { step(id: $id) { suggestions { record { id } title dueAt } } }";
        let suggested = world.ask(query, json!({ "id": tasks })).await["step"]["suggestions"].clone();
        assert_eq!((&suggested[0]["title"], &suggested[0]["dueAt"]), (&json!("First call with Mill & Sons"), &json!("2026-11-09T12:00:00+00:00")));
        let follow = "mutation($input: CreateStepFollowUpInput!) { createStepFollowUp(input: $input) { followUp { title dueAt record { name } step { result } } } }";
        let input = json!({ "stepId": tasks, "title": suggested[0]["title"], "dueAt": suggested[0]["dueAt"], "recordId": suggested[0]["record"]["id"] });
        let set = world.ask(follow, json!({ "input": input })).await["createStepFollowUp"].clone();
        assert_eq!((&set["followUp"]["record"]["name"], &set["followUp"]["step"]["result"]), (&json!("Mill & Sons"), &json!({ "followUpsCreated": 1 })));
        world.step_act("completeStep", &tasks, json!({})).await;
        let notes = world.guided_step(&run, "note_sources").await;
        world.step_act("skipStep", &notes, json!({})).await;
        assert_eq!(world.complete_run(&run, "Two partnerships").await["data"]["completeRun"]["run"]["status"], "COMPLETED");
        world.end().await;
    }
}

both! {
    async fn mou_sprint_push_all_mou_stage_partnerships_toward_signed_agreements(kind) {
        let world = World::without_server(kind, None).await;
        for (name, stage, priority) in [("Oak", "MOU Sent", 1), ("Pine", "MOU Drafted", 5), ("Rowan", "New Lead", 9)] {
            let input = json!({ "kind": "partnership", "name": name, "stage": stage, "email": format!("{}@p.example", name.to_lowercase()), "attributes": { "priority": priority } });
            world.create("record", input).await;
        }
        let run = world.guided("mou-sprint", json!({})).await;
        let review = world.guided_step(&run, "review_mous").await;
        assert_eq!(shown(&world, &review).await, ["Pine", "Oak"]);
        world.step_act("skipStep", &review, json!({})).await;
        // "Email steps → Email composer interface": what would be sent is there to be changed, previewed and sent.
        let remind = world.guided_step(&run, "send_reminders").await;
        assert_eq!(shown(&world, &remind).await, ["Oak"]);
        world.step_act("startStep", &remind, json!({})).await;
        let oak = world.ask("{ records(filter: { name: { eq: \"Oak\" } }) { nodes { id } } }", json!({})).await["records"]["nodes"][0]["id"].clone();
        let preview = "query($input: PreviewStepEmailInput!) { previewStepEmail(input: $input) { record { name } mail { to subject body problem } suppressed } }";
        let seen = world.ask(preview, json!({ "input": { "stepId": remind, "recordIds": [oak] } })).await["previewStepEmail"][0].clone();
        assert_eq!((&seen["mail"]["subject"], &seen["suppressed"]), (&json!("Our MOU with Oak"), &Value::Null));
        let own = json!({ "stepId": remind, "recordIds": [oak], "subject": "The MOU, {{ name }}", "body": "Signed by Friday?" });
        let seen = world.ask(preview, json!({ "input": own })).await["previewStepEmail"][0]["mail"].clone();
        assert_eq!(seen, json!({ "to": "oak@p.example", "subject": "The MOU, Oak", "body": "Signed by Friday?", "problem": null }));
        assert_eq!(world.number("SELECT COUNT(*) FROM communication").await, 0, "a preview sends nothing");
        world.ask("mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { step { id } } }", json!({ "input": own })).await;
        world.tick(true).await;
        let done = world.step_act("completeStep", &remind, json!({})).await;
        assert_eq!(done["result"], json!({ "emailsSent": 1 }));
        // A record that just got mail stays on the list that was fixed at the step's start.
        assert_eq!(shown(&world, &remind).await, ["Oak"]);
        let calls = world.guided_step(&run, "schedule_signing_calls").await;
        world.step_act("skipStep", &calls, json!({})).await;
        // "Update stage steps → Partnership list with stage dropdowns": the list, the stages, and the one that is suggested.
        let sign = world.guided_step(&run, "record_signatures").await;
        world.step_act("startStep", &sign, json!({})).await;
        let query = "query($id: ID!) { step(id: $id) { suggestions { record { name stage } stage } } stages(recordKind: \"partnership\") { stages own } }";
        let found = world.ask(query, json!({ "id": sign })).await;
        assert_eq!(found["step"]["suggestions"], json!([{ "record": { "name": "Oak", "stage": "MOU Sent" }, "stage": "MOU Signed" }]));
        assert_eq!((found["stages"][0]["stages"].as_array().unwrap().len(), &found["stages"][0]["own"]), (6, &json!(false)));
        let update = "mutation($step: ID!, $id: ID!) { updateStepStage(input: { stepId: $step, changes: [{ recordId: $id, stage: \"MOU Signed\" }] }) { records { stage } } }";
        world.ask(update, json!({ "step": sign, "id": oak })).await;
        assert_eq!(shown(&world, &sign).await, ["Oak"]);
        world.step_act("completeStep", &sign, json!({})).await;
        let tasks = world.guided_step(&run, "set_follow_ups").await;
        world.step_act("skipStep", &tasks, json!({})).await;
        // "Note steps → Text area for notes." "Example: "Log outcomes" for MOU responses."
        let log = world.guided_step(&run, "log_outcomes").await;
        world.step_act("startStep", &log, json!({})).await;
        let note = "mutation($step: ID!, $ids: [ID!]) { addStepNote(input: { stepId: $step, recordIds: $ids, text: \"Oak signed; Pine wants clause 4 changed.\" }) { activities { kind summary details record { name } } } }";
        let noted = world.ask(note, json!({ "step": log, "ids": [oak] })).await["addStepNote"]["activities"][0].clone();
        assert_eq!((&noted["kind"], &noted["details"]["text"]), (&json!("NOTE"), &json!("Oak signed; Pine wants clause 4 changed.")));
        world.step_act("completeStep", &log, json!({})).await;
        assert_eq!(world.complete_run(&run, "Oak has signed").await["data"]["completeRun"]["run"]["outcome"], "Oak has signed");
        world.end().await;
    }
}

both! {
    async fn seasonal_planning_check_review_okr_progress_and_adjust_priorities(kind) {
        let world = World::without_server(kind, None).await;
        let mut old = String::new();
        for (name, stage, priority) in [("Ten signed MOUs", "On Track", 3), ("Two new regions", "At Risk", 8), ("Old goal", "Achieved", 1)] {
            old = world.create("record", json!({ "kind": "objective", "name": name, "stage": stage, "attributes": { "priority": priority, "progress": 0.4 } })).await;
        }
        let run = world.guided("seasonal-planning-check", json!({})).await;
        let review = world.guided_step(&run, "review_okrs").await;
        assert_eq!(shown(&world, &review).await, ["Two new regions", "Ten signed MOUs", "Old goal"]);
        let update = world.guided_step(&run, "update_okrs").await;
        world.step_act("startStep", &update, json!({})).await;
        assert_eq!(shown(&world, &update).await, ["Two new regions", "Ten signed MOUs"]);
        let query = "query($id: ID!) { step(id: $id) { suggestions { record { id } stage } } }";
        let suggested = world.ask(query, json!({ "id": update })).await["step"]["suggestions"].clone();
        assert_eq!((&suggested[0]["stage"], &suggested[1]["stage"]), (&json!("On Track"), &json!("Achieved")), "the one behind");
        let change = "mutation($step: ID!, $id: ID!) { updateStepStage(input: { stepId: $step, changes: [{ recordId: $id, stage: \"On Track\" }] }) { step { result } } }";
        let changed = world.ask(change, json!({ "step": update, "id": suggested[0]["record"]["id"] })).await;
        assert_eq!(changed["updateStepStage"]["step"]["result"], json!({ "objectivesUpdated": 1 }));
        let adjust = world.guided_step(&run, "adjust_priorities").await;
        world.step_act("startStep", &adjust, json!({})).await;
        let create = "mutation($step: ID!, $from: [ID!]) { createStepRecords(input: { stepId: $step, records: [{ name: \"Keep all partners\", stage: \"Planned\", attributes: { priority: 9 }, fromIds: $from }] }) {
            records { kind priority links(direction: TO) { nodes { role from { name } } } } } }";
        let made = world.ask(create, json!({ "step": adjust, "from": [old] })).await["createStepRecords"]["records"][0].clone();
        let linked = json!({ "nodes": [{ "role": "successor", "from": { "name": "Old goal" } }] });
        assert_eq!(made, json!({ "kind": "objective", "priority": 9, "links": linked }));
        // The objective that was given up for another is no longer one of the season's.
        assert_eq!(shown(&world, &review).await, ["Keep all partners", "Two new regions", "Ten signed MOUs"]);
        let tasks = world.guided_step(&run, "set_tasks").await;
        assert_eq!(shown(&world, &tasks).await, ["Keep all partners", "Two new regions", "Ten signed MOUs"]);
        world.end().await;
    }
}
