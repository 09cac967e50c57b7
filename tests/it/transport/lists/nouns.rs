//! A campaign by mail beside the lists of its objects.

use super::*;
use crate::harness::noon;

both! {
    async fn a_campaign_by_mail_in_all_lists(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 2).await;
        let mut campaigns = Client::open(&world, &CAMPAIGNS, json!({ "orderBy": { "field": "NAME", "direction": "ASC" } })).await;
        let mut work = Client::open(&world, &STEPS, json!({ "filter": { "statuses": ["AWAITING_APPROVAL"] } })).await;
        let mut messages = Client::open(&world, &COMMUNICATIONS, json!({ "filter": { "campaignIds": [plan.campaign] } })).await;
        let mut replies = Client::open(&world, &REPLIES, json!({ "filter": { "campaignIds": [plan.campaign] } })).await;
        let mut inbox = Client::open(&world, &REPLIES, json!({ "filter": { "statuses": ["OPEN"], "unassigned": true }, "orderBy": { "field": "RECEIVED_AT", "direction": "ASC" } })).await;
        assert_eq!((campaigns.ids(), work.list.len(), messages.list.len(), replies.list.len()), (vec![plan.campaign.as_str()], 0, 0, 0));
        world.activate(&plan).await;
        let first = world.create("campaign", json!({ "name": "Another" })).await;
        campaigns.until_current(&world).await;
        assert_eq!((campaigns.ids(), &campaigns.list[1]["status"]), (vec![first.as_str(), plan.campaign.as_str()], &json!("ACTIVE")));
        // Renamed, it moves.
        let rename = "mutation($id: ID!) { updateCampaign(input: { id: $id, name: \"Zulu\" }) { campaign { id } } }";
        world.ask(rename, json!({ "id": first })).await;
        let items = campaigns.until_current(&world).await;
        assert!(!left(&items, &first), "{items:#?}");
        assert_eq!(campaigns.ids(), [plan.campaign.as_str(), first.as_str()]);
        // Deleted, it leaves.
        world.ask("mutation($id: ID!) { deleteCampaign(input: { id: $id }) { deletedId } }", json!({ "id": first })).await;
        assert!(left(&campaigns.until_current(&world).await, &first));

        let run = world.launch(&plan).await;
        let review = world.until_review(&run).await;
        work.until_current(&world).await;
        assert_eq!(work.ids(), [review.as_str()]);
        messages.until_current(&world).await;
        assert_eq!(messages.list.iter().map(|message| &message["status"]).collect::<Vec<_>>(), ["DRAFT", "DRAFT"]);
        world.act("approveStep", "step", json!({ "id": review })).await;
        assert!(left(&work.until_current(&world).await, &review));
        world.until_run(&run, "COMPLETED").await;
        messages.until_current(&world).await;
        assert_eq!(messages.list.iter().map(|message| &message["status"]).collect::<Vec<_>>(), ["SENT", "SENT"]);
        campaigns.until_current(&world).await;
        for at in [0, 1] {
            let reply = world.ask(REPLY, json!({ "id": messages.ids()[at] })).await["recordReply"]["reply"]["id"].clone();
            let items = replies.until_current(&world).await;
            assert_eq!((replies.list[0]["id"].clone(), replies.list.len()), (reply.clone(), at + 1));
            assert_eq!(places(&items, reply.as_str().unwrap()), [json!(null)]);
            messages.until_current(&world).await;
            assert_eq!(messages.list[at]["replies"]["totalCount"], 1);
        }
        // What is assigned or ticked off leaves the inbox, and comes back with its reopening.
        inbox.until_current(&world).await;
        let (first, second) = (inbox.ids()[0].to_owned(), inbox.ids()[1].to_owned());
        let me = world.ask("{ viewer { member { id } } }", json!({})).await["viewer"]["member"]["id"].clone();
        world.act("assignReply", "reply", json!({ "id": first, "assigneeId": me })).await;
        assert!(left(&inbox.until_current(&world).await, &first));
        world.act("handleReply", "reply", json!({ "id": second })).await;
        assert!(left(&inbox.until_current(&world).await, &second));
        assert!(inbox.list.is_empty());
        world.act("reopenReply", "reply", json!({ "id": second })).await;
        inbox.until_current(&world).await;
        assert_eq!(inbox.ids(), [second.as_str()]);
        replies.until_current(&world).await;
        assert_eq!(replies.list.iter().map(|reply| &reply["revision"]).collect::<Vec<_>>(), [3, 2]);
        world.end().await;
    }
}

both! {
    async fn counts_by_status_agree_with_the_total(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.until_review(&run).await;
        let mut socket = Socket::open(world.address).await;
        for (list, status, wanted) in [("campaignList", "ACTIVE", 1), ("stepList", "AWAITING_APPROVAL", 1), ("communicationList", "DRAFT", 2), ("runList", "IN_PROGRESS", 1)] {
            let document = format!("subscription {{ {list}(first: 1) {{ kind totalCount countsByStatus {{ status count }} }} }}");
            socket.subscribe(list, &document, json!({})).await;
            let item = socket.next().await[list].clone();
            let counts = item["countsByStatus"].as_array().unwrap();
            let count = counts.iter().find(|count| count["status"] == status).unwrap()["count"].clone();
            let total: u64 = counts.iter().map(|count| count["count"].as_u64().unwrap()).sum();
            assert_eq!((count, json!(total)), (json!(wanted), item["totalCount"].clone()), "{item:#}");
            socket.say(json!({ "id": list, "type": "complete" })).await;
        }
        world.end().await;
    }
}

both! {
    async fn steps_of_people_enter_when_their_phase_begins(kind) {
        // They are created PENDING, by a sweep, without an event of their own.
        let world = World::new(kind).await;
        world.leads(3).await;
        let human = |key: &str| json!({ "key": key, "type": key, "assignedTo": "HUMAN", "trigger": "manual" });
        let phases = json!([
            { "key": "one", "autonomous": false, "tasks": [{ "key": "look", "steps": [human("look")] }] },
            { "key": "two", "autonomous": false, "tasks": [{ "key": "call", "fanOut": true, "steps": [human("visit")] }] },
        ]);
        world.apply(&json!({ "runTemplates": [{ "key": "visits", "name": "Visits", "phases": phases }] }).to_string()).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let mut work = Client::open(&world, &STEPS, json!({ "filter": { "types": ["visit"], "statuses": ["PENDING"] } })).await;
        let run = world.fly("visits", json!({ "segmentId": segment })).await;
        let look = world.until_step(&run, "look", "PENDING").await["id"].as_str().unwrap().to_owned();
        for verb in ["startStep", "completeStep"] {
            world.step_act(verb, &look, json!({})).await;
        }
        while work.list.len() < 3 {
            work.next().await;
        }
        work.until_current(&world).await;
        world.end().await;
    }
}

both! {
    async fn steps_that_can_be_begun_come_and_leave(kind) {
        let world = World::new(kind).await;
        let leads = world.leads(1).await;
        let human = |key: &str, trigger: &str| json!({ "key": key, "type": key, "assignedTo": "HUMAN", "trigger": trigger });
        let mut visit = human("visit", "manual");
        visit["dueIn"] = json!("2d");
        let mut report = human("report", "after:visit");
        report["dueIn"] = json!("1d");
        let phases = json!([{ "key": "one", "autonomous": false, "tasks": [
            { "key": "first", "steps": [visit, report, human("note", "manual")] },
            { "key": "second", "dependsOn": ["first"], "steps": [human("close", "manual")] },
            { "key": "later", "steps": [human("ring", "delay:1h")] },
        ] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "visits", "name": "Visits", "phases": phases }] }).to_string()).await;
        let order = json!({ "field": "DUE_AT", "direction": "ASC" });
        let mut work = Client::open(&world, &STEPS, json!({ "filter": { "ready": true }, "orderBy": order })).await;
        let mut rest = Client::open(&world, &STEPS, json!({ "filter": { "ready": false }, "orderBy": { "field": "DUE_AT", "direction": "DESC" } })).await;
        let run = world.fly("visits", json!({ "recordId": leads[0] })).await;
        world.until_step(&run, "visit", "PENDING").await;
        let campaign = world.ask("query($id: ID!) { run(id: $id) { campaign { id } } }", json!({ "id": run })).await["run"]["campaign"]["id"].clone();
        let mut of_campaign = Client::open(&world, &STEPS, json!({ "filter": { "ready": true, "campaignIds": [campaign] }, "first": 2 })).await;
        let steps = world.steps(&run).await;
        let id = |key: &str| steps[key]["id"].as_str().unwrap().to_owned();
        let keys = |client: &Client| client.list.iter().map(|step| step["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ");
        work.until_current(&world).await;
        assert_eq!(keys(&work), "visit note");
        // While the run or its campaign is paused, nothing can be begun.
        for (noun, object, pause, resume) in [("run", json!(run), "pauseRun", "resumeRun"), ("campaign", campaign.clone(), "pauseCampaign", "resumeCampaign")] {
            world.act(pause, noun, json!({ "id": object })).await;
            for client in [&mut work, &mut rest, &mut of_campaign] {
                client.until_current(&world).await;
            }
            assert_eq!((keys(&work), keys(&of_campaign), rest.list.len()), (String::new(), String::new(), 5), "{pause}");
            world.act(resume, noun, json!({ "id": object })).await;
            for client in [&mut work, &mut rest, &mut of_campaign] {
                client.until_current(&world).await;
            }
            assert_eq!((keys(&work), keys(&of_campaign)), ("visit note".to_owned(), "visit note".to_owned()), "{resume}");
        }
        // What follows it is due before what has no due time.
        world.step_act("startStep", &id("visit"), json!({})).await;
        assert!(left(&work.until_current(&world).await, &id("visit")));
        world.step_act("completeStep", &id("visit"), json!({})).await;
        let items = work.until_current(&world).await;
        assert_eq!(places(&items, &id("report")).first(), Some(&json!(null)), "{items:#?}");
        assert_eq!(keys(&work), "report note");
        // The assignee's own list.
        let me = world.viewer.member_id().unwrap().to_string();
        let mut own = Client::open(&world, &STEPS, json!({ "filter": { "ready": true, "assigneeIds": [me] }, "orderBy": order })).await;
        let assign = "mutation($id: ID!, $me: ID) { assignStep(input: { id: $id, memberId: $me }) { step { id } } }";
        world.ask(assign, json!({ "id": id("note"), "me": me })).await;
        own.until_current(&world).await;
        assert_eq!(keys(&own), "note");
        world.ask(assign, json!({ "id": id("note"), "me": null })).await;
        assert!(left(&own.until_current(&world).await, &id("note")));
        // A task that is done lets the next one begin.
        for key in ["report", "note"] {
            world.step_act("startStep", &id(key), json!({})).await;
            world.step_act("completeStep", &id(key), json!({})).await;
        }
        work.until_current(&world).await;
        assert_eq!(keys(&work), "close");
        // The passing of time, without an event.
        world.clock.set(noon() + chrono::Duration::hours(1));
        for client in [&mut work, &mut rest, &mut of_campaign] {
            client.until_current(&world).await;
        }
        assert!(work.ids().contains(&id("ring").as_str()) && work.list.len() == 2 && !rest.ids().contains(&id("ring").as_str()));
        work.reconnect(&world).await;
        assert!(work.is_current(&world).await);
        world.act("cancelRun", "run", json!({ "id": run })).await;
        for client in [&mut work, &mut rest, &mut of_campaign] {
            client.until_current(&world).await;
        }
        assert!(work.list.is_empty() && of_campaign.list.is_empty());
        world.end().await;
    }
}
