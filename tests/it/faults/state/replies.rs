//! 8.10: a reply finds its message by the headers that mail programs and relays write, and keeps
//! its subject.

use serde_json::{Value, json};

use crate::harness::World;

const RECORD: &str =
    "mutation($input: RecordReplyInput!) { recordReply(input: $input) { reply { subject communication { id } } } }";

both! {
    async fn a_reply_finds_its_message_however_its_id_is_written(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        let sent = world.ask("query($id: ID!) { run(id: $id) { communications(first: 5) { nodes { id messageId } } } }", json!({ "id": run })).await;
        let sent = sent["run"]["communications"]["nodes"].as_array().unwrap().clone();
        let (first, id) = (sent[0]["messageId"].as_str().unwrap(), sent[0]["id"].clone());
        let (second, other) = (sent[1]["messageId"].as_str().unwrap(), sent[1]["id"].clone());
        let (local, domain) = first.split_once('@').unwrap();
        let long: String = (0..300).map(|i| format!("<{i}@elsewhere.example>\r\n\t")).collect();
        for (written, found) in [
            (json!({ "messageId": first }), &id),
            (json!({ "messageId": format!("<{first}>") }), &id),
            (json!({ "messageId": format!(" <{first}>\r\n") }), &id),
            (json!({ "messageId": format!("<{local}@{}>", domain.to_uppercase()) }), &id),
            (json!({ "messageId": first.to_uppercase() }), &id),
            (json!({ "messageId": format!("<0100018f@email.relay.example> <{first}>") }), &id),
            (json!({ "messageId": format!("<{first}> <0100018f@email.relay.example>") }), &id),
            (json!({ "messageId": format!("<{first}>,<x@y>") }), &id),
            (json!({ "messageId": format!("<{local}@\r\n {domain}>") }), &id),
            (json!({ "messageId": format!("Message of Monday <{first}>") }), &id),
            (json!({ "messageId": format!("<{first}>\r\n <{second}>") }), &other),
            (json!({ "messageId": format!("{long}<{first}>") }), &id),
            (json!({ "messageId": format!("<{first}> {long}") }), &id),
            (json!({ "references": format!("<a@b>\r\n\t<{second}>\r\n\t<{first}>") }), &id),
            (json!({ "messageId": "<relay@elsewhere.example>", "references": format!("<{second}> <relay@elsewhere.example>") }), &other),
        ] {
            let mut input = written.clone();
            input["body"] = json!("yes");
            let reply = world.ask(RECORD, json!({ "input": input })).await;
            assert_eq!(&reply["recordReply"]["reply"]["communication"]["id"], found, "{written}");
        }
        for (wrong, code, field) in [
            (json!({ "messageId": "<nobody@elsewhere.example>" }), "NOT_FOUND", Value::Null),
            (json!({ "messageId": format!("<{local}@elsewhere.example>") }), "NOT_FOUND", Value::Null),
            (json!({ "messageId": long }), "NOT_FOUND", Value::Null),
            (json!({ "messageId": "" }), "BAD_USER_INPUT", json!("messageId")),
            (json!({ "messageId": "no id" }), "BAD_USER_INPUT", json!("messageId")),
            (json!({ "references": "<>" }), "BAD_USER_INPUT", json!("references")),
            (json!({}), "BAD_USER_INPUT", json!("communicationId")),
            (json!({ "messageId": first, "communicationId": id }), "BAD_USER_INPUT", json!("communicationId")),
            (json!({ "messageId": format!("<{first}>{}", " ".repeat(70_000)) }), "BAD_USER_INPUT", json!("messageId")),
        ] {
            let mut input = wrong.clone();
            input["body"] = json!("yes");
            let answer = world.post(RECORD, json!({ "input": input })).await;
            let extensions = &answer["errors"][0]["extensions"];
            assert_eq!((&extensions["code"], &extensions["field"]), (&json!(code), &field), "{answer:#}");
        }
        // Subjects are stored in full, up to a documented limit.
        for (subject, kept) in [
            ("x".repeat(81), "x".repeat(81)),
            ("ß".repeat(2_000), "ß".repeat(2_000)),
            ("Re: one\r\n two\tthree".to_owned(), "Re: one two three".to_owned()),
        ] {
            let input = json!({ "communicationId": id, "subject": subject, "body": "b" });
            assert_eq!(world.ask(RECORD, json!({ "input": input })).await["recordReply"]["reply"]["subject"], kept);
        }
        let input = json!({ "communicationId": id, "subject": "x".repeat(2_001), "body": "b" });
        let (code, told) = world.refused(RECORD, json!({ "input": input })).await;
        assert!(code == "BAD_USER_INPUT" && told.starts_with("subject: at most 2000"), "{told}");
        world.end().await;
    }
}

#[test]
fn ids_as_they_are_written() {
    for (header, ids) in [
        ("<a@b>", vec!["a@b"]),
        ("a@b", vec!["a@b"]),
        ("  <a@b>\r\n\t<c@d>", vec!["a@b", "c@d"]),
        ("<a@b><c@d>", vec!["a@b", "c@d"]),
        ("a@b, c@d;e@f", vec!["a@b", "c@d", "e@f"]),
        ("<a@exam\r\n ple.com>", vec!["a@example.com"]),
        ("Message from \"x\" of Monday <a@b>", vec!["a@b"]),
        ("< a@b >", vec!["a@b"]),
        ("<a@b", vec!["a@b"]),
        ("nothing here", vec![]),
        ("", vec![]),
        ("<>", vec![]),
    ] {
        assert_eq!(sortie::domain::message::reply::message_ids::of_header(header), ids, "{header:?}");
    }
}
