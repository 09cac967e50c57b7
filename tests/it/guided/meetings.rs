//! Meetings booked from within a step: the invited, the messages they get, and the cases without
//! any message.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::sink::{Sink, Stage};
use crate::harness::{Kind, World, noon};

const BOOK: &str = "mutation($input: ScheduleStepMeetingInput!) { scheduleStepMeeting(input: $input) { meeting { id revision conflicts { title } invitations { nodes { toAddress status } } } } }";
const MOVE: &str = "mutation($input: MoveMeetingInput!) { moveMeeting(input: $input) { meeting { status startsAt sequence invitations { totalCount } } } }";
const CANCEL: &str = "mutation($id: ID!) { cancelMeeting(input: { id: $id }) { meeting { status sequence invitations { totalCount } } } }";

/// Creates a partner, and a run with a `schedule` step in progress.
async fn begun(world: &World) -> (String, String, String) {
    let oak = world.create("record", json!({ "kind": "partnership", "name": "Oak", "email": "oak@p.example" })).await;
    let (run, steps) = world.own_run(&[("calls", "schedule", json!({}))], json!({})).await;
    world.step_act("startStep", &steps[0], json!({})).await;
    (oak, run, steps[0].clone())
}

fn booking(step: &str, title: &str, hours: i64, attendees: Value) -> Value {
    let at = noon() + Duration::hours(hours);
    json!({ "input": { "stepId": step, "title": title, "startsAt": at, "minutes": 60, "attendees": attendees } })
}

async fn booked(world: &World, asked: Value) -> Value {
    world.ask(BOOK, asked).await["scheduleStepMeeting"]["meeting"].clone()
}

both! {
    async fn who_is_invited_is_told_once_at_the_address_that_is_said(kind) {
        let world = World::without_server(kind, None).await;
        let (oak, _, step) = begun(&world).await;
        let mute = world.create("record", json!({ "kind": "partnership", "name": "Mute" })).await;
        for (attendees, field) in [
            (json!([{ "recordId": oak }, { "recordId": oak, "email": "other@p.example" }]), "attendees[1].recordId"),
            (json!([{ "recordId": oak }, { "email": "OAK@p.example" }]), "attendees[1].email"),
            (json!([{ "recordId": mute }]), "attendees[0].recordId"),
            (json!([{ "name": "Nobody" }]), "attendees[0].email"),
        ] {
            let answer = world.post(BOOK, booking(&step, "Call", 2, attendees)).await;
            assert_eq!((&answer["errors"][0]["extensions"]["code"], &answer["errors"][0]["extensions"]["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{answer:#}");
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM meeting").await, 0);
        // Sent to another address than the record's; its suppression does not block mail to the
        // record's own address in the same batch.
        world.ask("mutation { suppressAddress(input: { channel: EMAIL, address: \"desk@p.example\", reason: \"bounced\" }) { suppression { id } } }", json!({})).await;
        let first = booked(&world, booking(&step, "Call", 2, json!([{ "recordId": oak, "email": "desk@p.example" }, { "recordId": mute, "email": "mute@p.example", "name": "Ms Mute" }]))).await;
        world.ask("mutation($s: ID!, $id: ID!) { sendStepEmail(input: { stepId: $s, recordIds: [$id], subject: \"s\", body: \"b\" }) { step { id } } }", json!({ "s": step, "id": oak })).await;
        world.tick(true).await;
        let fates = world.sql("SELECT to_address, status FROM communication ORDER BY to_address").await;
        assert_eq!(fates, [["desk@p.example", "SUPPRESSED"], ["mute@p.example", "SENT"], ["oak@p.example", "SENT"]]);
        // Conflicting meetings of the invited or of the inviting person are shown; others are not.
        let second = booked(&world, booking(&step, "At once", 2, json!([{ "email": "boss@us.example" }]))).await;
        assert_eq!((&first["conflicts"], &second["conflicts"]), (&json!([]), &json!([{ "title": "Call" }])));
        let third = booked(&world, booking(&step, "Later", 3, json!([{ "recordId": oak }]))).await;
        assert_eq!(third["conflicts"], json!([]), "one ends as the other begins");
        world.end().await;
    }
}

both! {
    async fn a_change_is_told_when_its_run_may_send(kind) {
        let world = World::without_server(kind, None).await;
        let (oak, run, step) = begun(&world).await;
        let one = booked(&world, booking(&step, "One", 2, json!([{ "recordId": oak }]))).await;
        let two = booked(&world, booking(&step, "Two", 4, json!([{ "recordId": oak }]))).await;
        world.tick(true).await;
        assert_eq!(world.outbox().len(), 2);
        // A move into the past, or of a meeting changed by somebody else meanwhile, is rejected.
        let shift = |more: Value| {
            let mut input = json!({ "id": one["id"], "startsAt": noon() + Duration::hours(6) });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "input": input })
        };
        let (code, told) = world.refused(MOVE, shift(json!({ "startsAt": noon() - Duration::hours(1) }))).await;
        assert!(code == "BAD_USER_INPUT" && told.starts_with("startsAt"), "{told}");
        assert_eq!(world.refused(MOVE, shift(json!({ "expectedRevision": 7 }))).await.0, "CONFLICT");
        // A paused run holds the update back; after the resume it is sent.
        world.act("pauseRun", "run", json!({ "id": run })).await;
        let moved = world.ask(MOVE, shift(json!({ "minutes": 15 }))).await["moveMeeting"]["meeting"].clone();
        assert_eq!(moved, json!({ "status": "BOOKED", "startsAt": (noon() + Duration::hours(6)).to_rfc3339(), "sequence": 1, "invitations": { "totalCount": 2 } }));
        world.tick(true).await;
        assert_eq!(world.outbox().len(), 2);
        world.act("resumeRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!(world.outbox().len(), 3);
        // A cancelled run sends nothing any more: a meeting can still be cancelled, but nobody is
        // notified.
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        let off = world.ask(CANCEL, json!({ "id": two["id"] })).await["cancelMeeting"]["meeting"].clone();
        assert_eq!(off, json!({ "status": "CANCELLED", "sequence": 1, "invitations": { "totalCount": 1 } }));
        world.tick(true).await;
        let left = world.ask("query($id: ID!) { run(id: $id) { messagesOnWay } }", json!({ "id": run })).await;
        assert_eq!((world.outbox().len(), &left["run"]["messagesOnWay"]), (3, &json!(0)));
        world.end().await;
    }
}

both! {
    async fn one_meeting_is_booked_however_often_it_is_asked_for(kind) {
        let world = World::new(kind).await;
        let (oak, _, step) = begun(&world).await;
        let ask = |title: &str, hours: i64, guests: Value| booking(&step, title, hours, guests);
        let mine = json!([{ "recordId": oak }]);
        let all = futures_util::future::join_all((0..4).map(|_| world.post(BOOK, ask("Call", 2, mine.clone())))).await;
        let refused = all.iter().filter(|answer| answer["errors"][0]["extensions"]["code"] == "CONFLICT").count();
        assert_eq!((refused, all.iter().filter(|answer| answer.get("errors").is_none()).count()), (3, 1), "{all:#?}");
        // A duplicate also if given by address, beside others, and under another title; not at
        // another time, nor once the first was cancelled.
        let by_address = json!([{ "email": "boss@us.example" }, { "email": "OAK@p.example" }]);
        let (code, told) = world.refused(BOOK, ask("Again", 2, by_address)).await;
        assert!(code == "CONFLICT" && told.contains("Call") && told.contains("oak@p.example"), "{told}");
        booked(&world, ask("Boss", 2, json!([{ "email": "boss@us.example" }]))).await;
        booked(&world, ask("Later", 3, mine.clone())).await;
        let id = all.iter().find_map(|answer| answer["data"]["scheduleStepMeeting"]["meeting"]["id"].as_str()).unwrap();
        world.ask(CANCEL, json!({ "id": id })).await;
        booked(&world, ask("Anew", 2, mine)).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM meeting WHERE status = 'BOOKED'").await, 3);
        world.until("all to go", "{ communications { nodes { status } } }", json!({}), |data| {
            data["communications"]["nodes"].as_array().unwrap().iter().all(|node| node["status"] == "SENT")
        }).await;
        world.end().await;
    }
}

both! {
    async fn the_messages_of_a_meeting_come_in_the_order_in_which_they_were_written(kind) {
        let world = World::without_server(kind, None).await;
        let (oak, _, step) = begun(&world).await;
        let guests = json!([{ "recordId": oak }, { "email": "a@us.example" }, { "email": "b@us.example" }]);
        let meeting = booked(&world, booking(&step, "Call", 20, guests)).await;
        // Another meeting of the same step in between; and ids in descending order, as another
        // server may assign.
        booked(&world, booking(&step, "Other", 9, json!([{ "recordId": oak }]))).await;
        for hours in [21, 22] {
            let moved = json!({ "input": { "id": meeting["id"], "startsAt": noon() + Duration::hours(hours) } });
            world.ask(MOVE, moved).await;
        }
        world.ask(CANCEL, json!({ "id": meeting["id"] })).await;
        world.force("DELETE FROM posting").await;
        let turned = match kind {
            Kind::Sqlite => "UPDATE communication SET id = randomblob(16)",
            Kind::Postgres => "UPDATE communication SET id = gen_random_uuid()",
        };
        world.force(turned).await;
        let query = "query($id: ID!, $first: Int, $after: String) { meeting(id: $id) { invitations(first: $first, after: $after) { totalCount nodes { subject } pageInfo { endCursor hasNextPage } } } }";
        let whole = world.ask(query, json!({ "id": meeting["id"] })).await["meeting"]["invitations"].clone();
        let subjects = |page: &Value| page["nodes"].as_array().unwrap().iter().map(|node| node["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let wanted: Vec<String> = ["Invitation: Call", "New time: Call", "New time: Call", "Cancelled: Call"].iter().flat_map(|one| vec![(*one).to_owned(); 3]).collect();
        assert_eq!((subjects(&whole), &whole["totalCount"]), (wanted.clone(), &json!(12)));
        // The same by pages of any size.
        for first in [1, 2, 5] {
            let (mut after, mut all) = (Value::Null, Vec::new());
            loop {
                let page = world.ask(query, json!({ "id": meeting["id"], "first": first, "after": after })).await["meeting"]["invitations"].clone();
                all.extend(subjects(&page));
                after = page["pageInfo"]["endCursor"].clone();
                if page["pageInfo"]["hasNextPage"] == false {
                    break;
                }
            }
            assert_eq!(all, wanted, "pages of {first}");
        }
        world.drop_unchecked().await;
    }
}

both! {
    async fn messages_about_one_meeting_go_one_after_the_other(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let (oak, _, step) = begun(&world).await;
        let elm = world.create("record", json!({ "kind": "partnership", "name": "Elm", "email": "elm@p.example" })).await;
        let one = booked(&world, booking(&step, "One", 2, json!([{ "recordId": oak }]))).await;
        world.ask(MOVE, json!({ "input": { "id": one["id"], "startsAt": noon() + Duration::hours(6) } })).await;
        world.ask("mutation($s: ID!, $id: ID!) { sendStepEmail(input: { stepId: $s, recordIds: [$id], subject: \"s\", body: \"b\" }) { step { id } } }", json!({ "s": step, "id": elm })).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM posting").await, 3);
        let trapped = sink.trap(Stage::Dot, 1);
        let hold = async {
            trapped.await.unwrap();
            // The mail to another goes out meanwhile, or was itself the one that was stopped.
            while sink.in_hand() > 1 {
                tokio::task::yield_now().await;
            }
            sink.let_go(true);
        };
        tokio::join!(world.tick(true), hold);
        let subjects: Vec<String> = sink.read("oak@p.example").into_iter().map(|mail| mail.0).collect();
        assert_eq!(subjects, ["Invitation: One", "New time: One"]);
        world.end().await;
    }
}

/// Subjects of the mails that an address has received, in order.
fn received(sink: &Sink, to: &str) -> Vec<String> {
    sink.read(to).into_iter().map(|mail| mail.0).collect()
}

both! {
    async fn a_message_waits_while_an_earlier_one_about_its_meeting_is_refused_for_now(kind) {
        for has_look_between in [true, false] {
            let sink = Sink::start().await;
            sink.busy(Some("oak@"));
            let world = World::without_server(kind, Some(sink.url())).await;
            let (oak, _, step) = begun(&world).await;
            let one = booked(&world, booking(&step, "One", 2, json!([{ "recordId": oak }, { "email": "elm@p.example" }]))).await;
            world.tick(true).await;
            assert_eq!((sink.tried("oak@"), received(&sink, "elm@p.example").len()), (1, 1));
            sink.busy(None);
            world.ask(MOVE, json!({ "input": { "id": one["id"], "startsAt": noon() + Duration::hours(6) } })).await;
            if has_look_between {
                world.clock.set(noon() + Duration::seconds(10));
                world.tick(true).await;
                // The other guest's does not wait.
                assert_eq!(received(&sink, "oak@p.example"), Vec::<String>::new());
                assert_eq!(received(&sink, "elm@p.example"), ["Invitation: One", "New time: One"]);
            }
            world.clock.set(noon() + Duration::seconds(100));
            world.tick(true).await;
            assert_eq!(received(&sink, "oak@p.example"), ["Invitation: One", "New time: One"]);
            world.end().await;
        }
    }
}

both! {
    async fn messages_about_one_meeting_go_in_order_after_a_pause_of_their_channel(kind) {
        let sink = Sink::start().await;
        sink.busy(Some("@"));
        let world = World::without_server(kind, Some(sink.url())).await;
        let (oak, _, step) = begun(&world).await;
        let mut ids = Vec::new();
        for i in 0..12 {
            ids.push(world.create("record", json!({ "kind": "partnership", "name": format!("P{i}"), "email": format!("p{i}@p.example") })).await);
        }
        let one = booked(&world, booking(&step, "One", 2, json!([{ "recordId": oak }]))).await;
        let send = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id } } }";
        world.ask(send, json!({ "input": { "stepId": step, "recordIds": ids, "subject": "s", "body": "b" } })).await;
        world.tick(true).await;
        let tried = sink.tried("@");
        assert!((10..=13).contains(&tried), "{tried}");
        // Moved and cancelled while nothing can be sent.
        world.ask(MOVE, json!({ "input": { "id": one["id"], "startsAt": noon() + Duration::hours(6) } })).await;
        world.ask(CANCEL, json!({ "id": one["id"] })).await;
        world.tick(true).await;
        assert_eq!(sink.tried("@"), tried);
        sink.busy(None);
        for seconds in [15, 90, 180] {
            world.clock.set(noon() + Duration::seconds(seconds));
            world.tick(true).await;
        }
        assert_eq!(received(&sink, "oak@p.example"), ["Invitation: One", "New time: One", "Cancelled: One"]);
        assert_eq!(sink.kept().len(), 15);
        world.end().await;
    }
}

/// Numbers of the changes of which an address was told, in the order of the mails.
fn sequences(sink: &Sink, to: &str) -> Vec<i32> {
    let mine = sink.kept().into_iter().filter(|mail| mail.to == to);
    mine.map(|mail| {
        let parsed = mail_parser::MessageParser::default().parse(mail.raw.as_bytes()).unwrap();
        let texts = parsed.parts.iter().filter_map(|part| part.text_contents());
        texts.flat_map(str::lines).find_map(|line| line.strip_prefix("SEQUENCE:")?.trim().parse().ok()).unwrap()
    })
    .collect()
}

both! {
    async fn changes_of_a_meeting_during_an_outage_are_told_in_order_by_several_slots_at_once(kind) {
        let sink = Sink::start().await;
        sink.busy(Some("@"));
        let world = World::without_server(kind, Some(sink.url())).await;
        let (oak, _, step) = begun(&world).await;
        let one = booked(&world, booking(&step, "One", 2, json!([{ "recordId": oak }, { "email": "elm@p.example" }]))).await;
        for hours in [6, 7, 8] {
            world.ask(MOVE, json!({ "input": { "id": one["id"], "startsAt": noon() + Duration::hours(hours) } })).await;
            world.clock.set(noon() + Duration::seconds(hours));
            world.tick(true).await;
        }
        world.ask(CANCEL, json!({ "id": one["id"] })).await;
        sink.busy(None);
        for minutes in 2..20 {
            world.clock.set(noon() + Duration::minutes(minutes));
            // Each takes what the other left, while that is in flight.
            tokio::join!(world.tick(true), world.tick(true), world.tick(true));
        }
        for to in ["oak@p.example", "elm@p.example"] {
            assert_eq!(sequences(&sink, to), [0, 1, 2, 3, 4], "{to}");
        }
        world.end().await;
    }
}

both! {
    async fn no_message_is_left_behind_when_the_one_before_it_settles_meanwhile(kind) {
        // The clock stands still: a message that missed its turn would wait for ever.
        let world = World::new(kind).await;
        let (oak, _, step) = begun(&world).await;
        for round in 0..12 {
            let attendees = json!([{ "recordId": oak }, { "email": "elm@p.example" }, { "email": "fir@p.example" }]);
            let one = booked(&world, booking(&step, &format!("Round {round}"), 2, attendees)).await;
            for hours in [6, 7] {
                world.ask(MOVE, json!({ "input": { "id": one["id"], "startsAt": noon() + Duration::hours(hours) } })).await;
            }
            world.ask(CANCEL, json!({ "id": one["id"] })).await;
            let messages = "query($id: ID!) { meeting(id: $id) { invitations { nodes { status } } } }";
            world
                .until("all messages of the meeting to go", messages, json!({ "id": one["id"] }), |data| {
                    let nodes = data["meeting"]["invitations"]["nodes"].as_array().unwrap();
                    nodes.iter().filter(|one| one["status"] == "SENT").count() == 12
                })
                .await;
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM posting").await, 0);
        world.end().await;
    }
}

both! {
    async fn the_organizer_stays_when_the_members_address_changes(kind) {
        let world = World::without_server(kind, None).await;
        let (oak, _, step) = begun(&world).await;
        let me = world.ask("{ viewer { member { id email } } }", json!({})).await["viewer"]["member"].clone();
        let meeting = booked(&world, booking(&step, "Call", 2, json!([{ "recordId": oak }]))).await;
        let change = "mutation($id: ID!) { updateMember(input: { id: $id, email: \"moved@us.example\" }) { member { email } } }";
        world.ask(change, json!({ "id": me["id"] })).await;
        let later = json!({ "input": { "id": meeting["id"], "startsAt": noon() + Duration::hours(5), "minutes": 30 } });
        world.ask(MOVE, later).await;
        let named = format!("mailto:{}", me["email"].as_str().unwrap());
        let sent = format!("SELECT COUNT(*) FROM communication WHERE REPLACE(REPLACE(calendar, '\r', ''), '\n ', '') LIKE '%{named}%'");
        assert_eq!(world.number(&sent).await, 2);
        world.end().await;
    }
}
