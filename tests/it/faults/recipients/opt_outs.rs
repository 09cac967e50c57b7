//! An opt-out applies to the address: for every record that has it, in every way of sending, up to
//! the hand-over.

use serde_json::{Value, json};

use super::{person, recipient_outcomes, reviewed, update, written_to};
use crate::harness::{World, noon};

const PREFLIGHT: &str = "query($id: ID!) { preflight(campaignId: $id, action: RUN) { ready checks { code status message } audience { total reachable noAddress unsubscribed suppressed duplicateAddress } } }";

async fn preflight(world: &World, campaign: &str) -> Value {
    world.ask(PREFLIGHT, json!({ "id": campaign })).await["preflight"].clone()
}

async fn suppress(world: &World, channel: &str, address: &str) {
    let query = "mutation($channel: Channel!, $to: String!) { suppressAddress(input: { channel: $channel, address: $to, reason: \"bounced\" }) { suppression { id } } }";
    world.ask(query, json!({ "channel": channel, "to": address })).await;
}

async fn unsubscribe(world: &World, id: &str) {
    update(world, id, json!({ "unsubscribed": true })).await;
}

both! {
    async fn preflight_counts_who_can_be_reached_and_who_shares_an_address(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 0).await;
        let none = preflight(&world, &plan.campaign).await;
        assert_eq!(none["audience"], json!({ "total": 0, "reachable": 0, "noAddress": 0, "unsubscribed": 0, "suppressed": 0, "duplicateAddress": 0 }));
        for i in 0..3 {
            person(&world, &format!("Fine {i}"), &format!("fine{i}@example.com")).await;
        }
        person(&world, "Twin", "FINE0@example.com").await;
        let gone = person(&world, "Gone", "gone@example.com").await;
        // A record outside of the audience and of another kind; one in the audience has the same
        // address.
        let other = json!({ "kind": "contact", "name": "Elsewhere", "email": "Else@Example.com", "unsubscribed": false });
        let other = world.create("record", { let mut other = other; other.as_object_mut().unwrap().remove("unsubscribed"); other }).await;
        person(&world, "Same as elsewhere", "else@example.com").await;
        person(&world, "Listed", "listed@example.com").await;
        world.create("record", json!({ "kind": "lead", "name": "Nowhere", "attributes": {} })).await;
        unsubscribe(&world, &gone).await;
        unsubscribe(&world, &other).await;
        suppress(&world, "EMAIL", "Listed@example.com").await;
        let now = preflight(&world, &plan.campaign).await;
        assert_eq!(now["audience"], json!({ "total": 8, "reachable": 3, "noAddress": 1, "unsubscribed": 2, "suppressed": 1, "duplicateAddress": 1 }));
        let check = |code: &str| now["checks"].as_array().unwrap().iter().find(|check| check["code"] == code).unwrap().clone();
        assert_eq!(check("AUDIENCE_REACHABLE")["message"], "4 of 8 records can't be reached and will be skipped: 2 unsubscribed, 1 suppressed, 1 without an address");
        assert_eq!(check("SHARED_ADDRESSES")["message"], "1 records share an address with another one; each address gets one message");
        // The run does what preflight counted.
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "3 of 8 sent, 0 failed, 2 skipped, 3 suppressed");
        let who: Vec<_> = recipient_outcomes(&world, &run).await.into_iter().filter(|[_, outcome, _]| outcome != "SENT").collect();
        assert_eq!(who, [
            ["Gone", "SUPPRESSED", "UNSUBSCRIBED"],
            ["Listed", "SUPPRESSED", "SUPPRESSED: bounced"],
            ["Nowhere", "SKIPPED", "NO_ADDRESS"],
            ["Same as elsewhere", "SUPPRESSED", "UNSUBSCRIBED"],
            ["Twin", "SKIPPED", "DUPLICATE_ADDRESS"],
        ]);
        world.end().await;
    }
}

both! {
    async fn at_every_moment_up_to_the_hand_over(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 0).await;
        let mut twins = Vec::new();
        for i in 0..6 {
            person(&world, &format!("R{i}"), &format!("r{i}@example.com")).await;
            let twin = json!({ "kind": "contact", "externalId": format!("T{i}"), "name": format!("T{i}"), "email": format!("R{i}@example.COM") });
            twins.push(world.create("record", twin).await);
        }
        world.activate(&plan).await;
        // Before the launch.
        unsubscribe(&world, &twins[0]).await;
        let run = world.launch(&plan).await;
        // Before the draft.
        unsubscribe(&world, &twins[1]).await;
        world.tick(true).await;
        // While it waits for the review: the draft is closed at once.
        unsubscribe(&world, &twins[2]).await;
        let drafts = "query($id: ID!) { run(id: $id) { communications(statuses: [SUPPRESSED]) { nodes { toAddress } } } }";
        let closed = world.ask(drafts, json!({ "id": run })).await["run"]["communications"]["nodes"].clone();
        assert_eq!(closed, json!([{ "toAddress": "r2@example.com" }]));
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(false).await;
        // Released and queued; opted out by the record, and by a sweep that has not reached it yet.
        unsubscribe(&world, &twins[3]).await;
        let many = "mutation { unsubscribeRecords(input: { filter: { externalId: { eq: \"T4\" } } }) { count } }";
        assert_eq!(world.ask(many, json!({})).await["unsubscribeRecords"]["count"], 1);
        world.work().await;
        assert_eq!(written_to(&world), ["r5@example.com"]);
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "1 of 6 sent, 0 failed, 0 skipped, 5 suppressed");
        let reasons: Vec<String> = recipient_outcomes(&world, &run).await.into_iter().map(|[_, _, reason]| reason).collect();
        assert_eq!(reasons, ["UNSUBSCRIBED", "UNSUBSCRIBED", "UNSUBSCRIBED", "UNSUBSCRIBED", "UNSUBSCRIBED", ""]);
        assert_eq!(written_to(&world), ["r5@example.com"]);
        world.end().await;
    }
}

both! {
    async fn it_stays_with_the_address_and_is_lifted_only_by_who_caused_it(kind) {
        let world = World::without_server(kind, None).await;
        let (a, b) = (person(&world, "A", "one@example.com").await, person(&world, "B", "One@example.com").await);
        let c = person(&world, "C", "one@EXAMPLE.com").await;
        let plan = world.plan("EMAIL", 0).await;
        let closed = async || preflight(&world, &plan.campaign).await["audience"]["unsubscribed"].as_i64().unwrap();
        assert_eq!(closed().await, 0);
        unsubscribe(&world, &a).await;
        unsubscribe(&world, &b).await;
        assert_eq!(closed().await, 3);
        // One of two records reverts its opt-out: the other's remains. Removing the suppression by
        // hand is rejected with the record that causes it.
        update(&world, &a, json!({ "unsubscribed": false })).await;
        assert_eq!(closed().await, 3);
        let listed = world.ask("{ suppressions { nodes { id address reason recordId } } }", json!({})).await["suppressions"]["nodes"].clone();
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!((&listed[0]["recordId"], &listed[0]["reason"]), (&json!(b), &json!("UNSUBSCRIBED")));
        let off = "mutation($id: ID!) { unsuppressAddress(input: { id: $id }) { suppression { id } } }";
        let (code, told) = world.refused(off, json!({ "id": listed[0]["id"] })).await;
        assert!(code == "CONFLICT" && told.contains(&b), "{told}");
        // A new address of an opted-out record is suppressed with it, and the former one stays
        // suppressed.
        update(&world, &b, json!({ "email": "two@example.com" })).await;
        assert_eq!(closed().await, 3);
        update(&world, &c, json!({ "email": "TWO@example.com" })).await;
        assert_eq!(closed().await, 3);
        update(&world, &c, json!({ "email": "three@example.com" })).await;
        assert_eq!(closed().await, 2);
        // The former address, which may have been a mistake, can be removed from the list by hand;
        // the current one can't.
        let listed = world.ask("{ suppressions { nodes { id address } } }", json!({})).await["suppressions"]["nodes"].clone();
        let row = |address: &str| listed.as_array().unwrap().iter().find(|row| row["address"] == address).unwrap()["id"].clone();
        assert_eq!(world.refused(off, json!({ "id": row("two@example.com") })).await.0, "CONFLICT");
        world.ask(off, json!({ "id": row("One@example.com") })).await;
        assert_eq!(closed().await, 1);
        // Reverting the opt-out removes all suppressions that it caused; those made by hand stay.
        suppress(&world, "EMAIL", "two@example.com").await;
        update(&world, &b, json!({ "unsubscribed": false })).await;
        let now = preflight(&world, &plan.campaign).await["audience"].clone();
        assert_eq!((&now["unsubscribed"], &now["suppressed"], &now["reachable"]), (&json!(0), &json!(1), &json!(2)));
        // The record is deleted, the opt-out stays.
        unsubscribe(&world, &a).await;
        world.ask("mutation($id: ID!) { deleteRecord(input: { id: $id }) { deletedId } }", json!({ "id": a })).await;
        person(&world, "Back", "ONE@example.com").await;
        assert_eq!(closed().await, 1);
        let listed = world.ask("{ suppressions { nodes { id recordId } } }", json!({})).await["suppressions"]["nodes"].clone();
        let left = listed.as_array().unwrap().iter().find(|row| row["recordId"] == json!(a)).unwrap();
        world.ask(off, json!({ "id": left["id"] })).await;
        assert_eq!(closed().await, 0);
        world.end().await;
    }
}

both! {
    async fn a_whole_list_opts_out_in_chunks(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 0).await;
        for i in 0..501 {
            let input = json!({ "kind": "contact", "externalId": format!("C{i}"), "name": format!("C{i}"), "email": format!("c{i}@example.com"), "phone": format!("+4930{:06}", i) });
            world.create("record", input).await;
        }
        for i in [0, 499, 500] {
            person(&world, &format!("Twin {i}"), &format!("C{i}@example.com")).await;
        }
        world.ask("mutation { unsubscribeRecords(input: { filter: { kind: { eq: \"contact\" } } }) { count } }", json!({})).await;
        world.tick(true).await;
        assert_eq!(preflight(&world, &plan.campaign).await["audience"]["unsubscribed"], 3);
        assert_eq!(world.number("SELECT COUNT(*) FROM suppression").await, 1002);
        world.end().await;
    }
}

both! {
    async fn an_opt_out_from_before_the_list_stands_on_it_after_the_upgrade(kind) {
        use migration::{Migrator, MigratorTrait};
        let world = World::without_server(kind, None).await;
        let a = person(&world, "A", "A@example.com").await;
        update(&world, &a, json!({ "phone": "+4930123456", "unsubscribed": true })).await;
        let names = Migrator::migrations();
        let at = names.iter().position(|step| step.name().starts_with("m0012")).unwrap();
        let back = u32::try_from(names.len() - at).unwrap();
        let url = match kind {
            crate::harness::Kind::Sqlite => format!("sqlite://{}", world.folder.join("sortie.db").display()),
            crate::harness::Kind::Postgres => crate::harness::postgres::url(world.folder.file_name().unwrap().to_str().unwrap()),
        };
        let db = sea_orm::Database::connect(&url).await.unwrap();
        Migrator::down(&db, Some(back)).await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        db.close().await.unwrap();
        let rows = world.sql("SELECT channel, address, address_key, reason FROM suppression ORDER BY channel").await;
        assert_eq!(rows, [["EMAIL", "A@example.com", "a@example.com", "UNSUBSCRIBED"], ["PHONE", "+4930123456", "+4930123456", "UNSUBSCRIBED"]]);
        let listed = world.ask("{ suppressions { nodes { id recordId createdBy { kind name } createdAt } } }", json!({})).await["suppressions"]["nodes"].clone();
        assert_eq!((&listed[0]["recordId"], &listed[0]["createdBy"]["kind"]), (&json!(a), &json!("ENGINE")));
        let found = world.ask("query($id: ID!) { suppression(id: $id) { address } }", json!({ "id": listed[0]["id"] })).await;
        assert!(found["suppression"]["address"].is_string());
        world.end().await;
    }
}

both! {
    async fn the_checker_finds_who_was_written_to_all_the_same(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        world.clock.set(noon() + chrono::Duration::hours(1));
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        let wrong = async || -> Vec<&'static str> {
            let found = sortie::app::check::check(&world.db).await.unwrap();
            found.into_iter().filter(|one| one.wrong > 0).map(|one| one.what).collect()
        };
        assert_eq!(wrong().await, Vec::<&str>::new());
        // Suppressed after the hand-over: no finding. Suppressed before it: a finding.
        suppress(&world, "EMAIL", "lead0@example.com").await;
        assert_eq!(wrong().await, Vec::<&str>::new());
        world.force("UPDATE suppression SET created_at = '2026-11-02T12:30:00+00:00'").await;
        assert_eq!(wrong().await, ["no message goes to an address that was suppressed when its reservation was made"]);
        world.force("DELETE FROM suppression").await;
        world.force("UPDATE record SET unsubscribed_at = '2026-11-02T14:00:00+00:00' WHERE external_id = 'L-0'").await;
        assert_eq!(wrong().await, ["each address of an unsubscribed record is suppressed, and no other address by an opt-out"]);
        world.force("UPDATE record SET unsubscribed_at = NULL").await;
        world.force("UPDATE communication SET to_address = 'lead1@example.com'").await;
        assert!(wrong().await.contains(&"an address gets one message per run and step"));
        world.drop_unchecked().await;
    }
}

both! {
    /// A suppressed address gets no test message either, however it is spelled; and each address
    /// gets one.
    async fn test_recipients_are_known_by_their_addresses(kind) {
        let world = World::without_server(kind, None).await;
        let suppress = "mutation($c: Channel!, $a: String!) { suppressAddress(input: { channel: $c, address: $a, reason: \"asked\" }) { suppression { id } } }";
        for (channel, address) in [("EMAIL", "ann@ex.com"), ("EMAIL", "bob@Bücher.example"), ("PHONE", "+4930123456")] {
            world.ask(suppress, json!({ "c": channel, "a": address })).await;
        }
        let test = "mutation($id: ID!, $r: [String!]) { testRunCampaign(input: { campaignId: $id, recipients: $r }) { run { id } preflight { ready checks { code status message field } } } }";
        let mail = world.plan("EMAIL", 1).await;
        let all = json!([" ANN@ex.com ", "ann@ex.com.", "bob@Bücher.example", "BOB@BÜCHER.example", "bob@xn--bcher-kva.example", "me@ex.com", "ME@ex.com"]);
        let run = world.ask(test, json!({ "id": mail.campaign, "r": all })).await["testRunCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        world.tick(true).await;
        let list = "query($r: [ID!]) { communications(filter: { runIds: $r }, first: 50) { nodes { toAddress status } } }";
        let came = world.ask(list, json!({ "r": [run] })).await["communications"]["nodes"].clone();
        let mut came: Vec<(String, String)> = came.as_array().unwrap().iter().map(|one| (one["toAddress"].as_str().unwrap().to_lowercase(), one["status"].as_str().unwrap().to_owned())).collect();
        came.sort();
        let wanted = [("ann@ex.com", "SUPPRESSED"), ("bob@xn--bcher-kva.example", "SUPPRESSED"), ("me@ex.com", "SENT")];
        assert_eq!(came, wanted.map(|(address, status)| (address.to_owned(), status.to_owned())));
        // An invalid address is reported by its index, and nothing is sent.
        let refused = world.ask(test, json!({ "id": mail.campaign, "r": ["me@ex.com", "a@ex.com, b@ex.com"] })).await["testRunCampaign"].clone();
        let check = refused["preflight"]["checks"].as_array().unwrap().iter().find(|check| check["code"] == "TEST_RECIPIENTS").unwrap().clone();
        assert!(refused["run"].is_null() && check["message"].as_str().unwrap().contains("recipients[1]"), "{refused}");
        world.end().await;
        // Calls.
        let world = World::without_server(kind, None).await;
        world.ask(suppress, json!({ "c": "PHONE", "a": "+4930123456" })).await;
        let calls = world.plan("PHONE", 1).await;
        let numbers = json!(["+4930123456", "+49 30 123456", "tel:+4930123456", "004930123456"]);
        let run = world.ask(test, json!({ "id": calls.campaign, "r": numbers })).await["testRunCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        world.tick(true).await;
        let query = "query($id: ID!) { run(id: $id) { communications { nodes { toAddress } } steps(filter: { types: [\"call\"] }) { nodes { id } } } }";
        let found = world.ask(query, json!({ "id": run })).await["run"].clone();
        assert_eq!(found["communications"]["nodes"], json!([{ "toAddress": "+4930123456" }]), "one number, however it is spelled");
        let start = "mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }";
        let (code, told) = world.refused(start, json!({ "id": found["steps"]["nodes"][0]["id"] })).await;
        assert!(code == "CONFLICT" && told.contains("must not be called"), "{code} {told}");
        world.end().await;
    }
}

both! {
    /// An opt-out in the change that takes the address away, or gives another one, closes the address
    /// that the record had: other records with it get nothing.
    async fn the_address_that_a_record_had_is_closed_with_it(kind) {
        let world = World::without_server(kind, None).await;
        let closed = async || -> Vec<String> {
            world.sql("SELECT address_key FROM suppression ORDER BY address_key").await.into_iter().map(|row| row[0].clone()).collect()
        };
        let input = json!({ "kind": "lead", "externalId": "A", "name": "a", "email": "a@example.com", "phone": "+4930123456", "attributes": {} });
        let ann = world.create("record", input).await;
        update(&world, &ann, json!({ "unsubscribed": true, "email": null, "phone": null })).await;
        assert_eq!(closed().await, ["+4930123456", "a@example.com"]);
        for name in ["b", "c", "d"] {
            person(&world, name, &format!("{name}@example.com")).await;
        }
        let bob = person(&world, "bob", "bob@example.com").await;
        update(&world, &bob, json!({ "unsubscribed": true, "email": "new@example.com" })).await;
        // As a file of a customer system has it, which blanks people who opted out.
        let file = "external_id,email,unsubscribed\nb,,yes\nc,other@example.com,yes\nd,d@example.com,yes\n";
        sortie::domain::import::import(&world.db.write(), &world.viewer, "lead", "file.csv", file.as_bytes(), |_, _| {}).await.unwrap();
        let all = ["+4930123456", "a@example.com", "b@example.com", "bob@example.com", "c@example.com", "d@example.com", "new@example.com", "other@example.com"];
        assert_eq!(closed().await, all);
        // Who takes it back opens what it closed.
        update(&world, &ann, json!({ "unsubscribed": false })).await;
        assert_eq!(closed().await, all[2..]);
        world.end().await;
    }
}
