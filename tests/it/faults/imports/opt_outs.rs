//! An opt-out counts whatever else is wrong with its row.

use serde_json::{Value, json};

use super::{record, take};
use crate::harness::World;

/// The addresses of the suppression list, sorted.
async fn closed(world: &World) -> Vec<String> {
    let listed = world.ask("{ suppressions(first: 500) { nodes { address } } }", json!({})).await;
    let nodes = listed["suppressions"]["nodes"].as_array().unwrap().clone();
    let mut all: Vec<String> = nodes.iter().map(|node| node["address"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

both! {
    async fn an_opt_out_of_a_row_that_is_not_imported_closes_its_address(kind) {
        let world = World::without_server(kind, None).await;
        for (rows, addresses, told) in [
            // No id; a cell too many; a cell too few at the begin.
            (",a@x.example,yes\n", &["a@x.example"][..], "its opt-out counts: a@x.example gets no more messages"),
            ("A,b@x.example,yes,\n", &["b@x.example"], "its opt-out counts: b@x.example gets no more messages"),
            ("c@x.example,yes\n", &["c@x.example"], "its opt-out counts: c@x.example gets no more messages"),
            // An id that appeared before.
            ("O1,o1@x.example,no\nO1,o1b@x.example,yes\n", &["o1@x.example", "o1b@x.example"], "its opt-out counts: o1b@x.example gets no more messages"),
            // Several addresses in one cell.
            ("B,\"b1@x.example; Bea <b2@x.example>\",yes\n", &["b1@x.example", "b2@x.example"], "its opt-out counts: b1@x.example, b2@x.example get no more messages"),
            // No address; no opt-out.
            (",nobody,yes\n", &[], "its opt-out is not stored: no address can be read"),
            (",d@x.example,no\n", &[], "must not be blank"),
            ("D,d@x.example,no,\n", &[], "has 4 cells where the header has 3"),
        ] {
            let before = closed(&world).await;
            let (_, problems) = take(&world, format!("external_id,email,unsubscribed\n{rows}").as_bytes()).await;
            assert!(problems.iter().any(|problem| problem.why.ends_with(told)), "{rows}: {problems:?}");
            let added: Vec<String> = closed(&world).await.into_iter().filter(|one| !before.contains(one)).collect();
            assert_eq!(added, addresses, "{rows}");
            // Again, it changes nothing.
            let events = world.ask_all_events().await.len();
            take(&world, format!("external_id,email,unsubscribed\n{rows}").as_bytes()).await;
            assert_eq!((closed(&world).await.len(), world.ask_all_events().await.len()), (before.len() + added.len(), events), "{rows}");
        }
        assert_ne!(record(&world, "B").await["unsubscribedAt"], Value::Null);
        assert_eq!(record(&world, "D").await, Value::Null);
        // Without a column of ids: each address of the cell.
        let (_, problems) = take(&world, b"email,unsubscribed\n\"e1@x.example, e2@x.example\",yes\n").await;
        assert!(problems[0].why.ends_with("e1@x.example, e2@x.example get no more messages"), "{problems:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
        let all = closed(&world).await;
        assert!(all.contains(&"e1@x.example".to_owned()) && all.contains(&"e2@x.example".to_owned()), "{all:?}");
        world.end().await;
    }
}

both! {
    async fn an_opt_out_of_a_row_that_is_too_long_closes_its_addresses(kind) {
        let world = World::without_server(kind, None).await;
        let long = "x".repeat(70_000);
        let counts = |of: &str| format!("is longer than 65536 bytes; its opt-out counts: {of} more messages");
        for (row, addresses, told) in [
            // The long cell is at the end, at the begin, in quotes; it is the opt-out itself.
            (format!("A,a@x.example,yes,{long}"), &["a@x.example"][..], counts("a@x.example gets no")),
            (format!("{long},b@x.example,yes,n"), &["b@x.example"], counts("b@x.example gets no")),
            (format!("C,\"c1@x.example; c2@x.example\",perhaps,\"{long}\""), &["c1@x.example", "c2@x.example"], counts("c1@x.example, c2@x.example get no")),
            (format!("D,d@x.example,{long},n"), &["d@x.example"], counts("d@x.example gets no")),
            // A cell too many.
            (format!("E,e@x.example,yes,n,{long}"), &["e@x.example"], counts("e@x.example gets no")),
            // No opt-out; no address that can be read; so many cells that nobody knows.
            (format!("F,f@x.example,no,{long}"), &[], "is longer than 65536 bytes".to_owned()),
            (format!("F,f@x.example,,{long}"), &[], "is longer than 65536 bytes".to_owned()),
            (format!("G,{long},yes,n"), &[], "is longer than 65536 bytes; its opt-out is not stored: no address can be read; a cell with addresses is too long to be read".to_owned()),
            (format!("G,g@x.example,{long},n,n"), &[], "is longer than 65536 bytes; if it has an opt-out, that was not read".to_owned()),
            ("H,".repeat(40_000), &[], "is longer than 65536 bytes; if it has an opt-out, that was not read".to_owned()),
        ] {
            let before = closed(&world).await;
            let text = format!("external_id,email,unsubscribed,notes\n{row}\nZ,z@x.example,no,n\n");
            let (report, problems) = take(&world, text.as_bytes()).await;
            assert_eq!(problems.iter().map(|problem| (problem.line, problem.why.as_str())).collect::<Vec<_>>(), [(2, told.as_str())]);
            assert_eq!((report.rows, report.bad, report.failure), (2, 1, None), "{told}");
            let added: Vec<String> = closed(&world).await.into_iter().filter(|one| !before.contains(one)).collect();
            assert_eq!(added, addresses, "{told}");
        }
        assert_ne!(record(&world, "Z").await, Value::Null);
        assert_eq!(record(&world, "A").await, Value::Null);
        world.end().await;
    }
}

both! {
    async fn an_opt_out_of_a_skipped_row_reaches_messages_that_wait(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        take(&world, b"external_id,email,unsubscribed\n,lead0@example.com,yes\nX,LEAD1@example.com,yes,\n").await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "1 of 3 sent, 0 failed, 0 skipped, 2 suppressed");
        world.end().await;
    }
}

both! {
    async fn links_and_times_without_seconds_are_read(kind) {
        let world = World::without_server(kind, None).await;
        let text = "external_id,email,last_contacted_at\n\
                    M1,mailto:c@x.example?subject=hi,2026-10-30 10:00\nM2,Di <MAILTO:d@x.example?cc=e@x.example>,2026-10-30T10:00\n\
                    M3,a@1.2.3.4,\nM4,a@x.example#f,\n";
        let (report, problems) = take(&world, text.as_bytes()).await;
        assert_eq!((report.created, problems.iter().map(|problem| problem.line).collect::<Vec<_>>()), (4, vec![4, 5]), "{problems:?}");
        for (id, email) in [("M1", "c@x.example"), ("M2", "d@x.example")] {
            let found = record(&world, id).await;
            assert_eq!((&found["email"], &found["lastContactedAt"]), (&json!(email), &json!("2026-10-30T10:00:00+00:00")), "{id}");
        }
        world.end().await;
    }
}
