//! The demo: a new user's first minute.

use serde_json::json;

use crate::harness::World;
use crate::harness::socket::Socket;

both! {
    async fn one_flies_and_one_waits(kind) {
        let world = World::new(kind).await;
        let begun = sortie::app::demo::seed(&world.db, &world.viewer).await.unwrap().unwrap();
        sortie::app::demo::continue_demo(world.db.clone(), world.viewer.clone(), begun).await.unwrap();
        let done = world.until_run(&begun.flight.to_string(), "COMPLETED").await;
        // Beside the run's mail, three letters to partners have been sent.
        let sent = world.outbox().len() - 3;
        assert!(sent > 500, "{sent}");
        assert_eq!(done["outcome"], format!("{sent} of {sent} sent, 0 failed, 0 skipped"));
        let data = world.ask("{ records { totalCount } campaigns(orderBy: { field: NAME, direction: ASC }) { nodes { name status preflight(action: RUN) { checks { status message } } } } }", json!({})).await;
        assert_eq!(data["records"]["totalCount"], sortie::app::demo::LEADS + sortie::app::demo::OTHERS);
        // This week's review is in progress, and each of its steps has records to show.
        let guided = world.ask("{ runs(filter: { types: [GUIDED] }) { nodes { name status outcome summary { total { emailsSent } } steps { nodes { key status } } } } }", json!({})).await["runs"]["nodes"].clone();
        let (guided, letters) = (&guided[0], &guided[1]);
        assert_eq!((&letters["status"], &letters["outcome"], &letters["summary"]["total"]["emailsSent"]), (&json!("COMPLETED"), &json!("2 of 3 have answered"), &json!(3)));
        assert_eq!((&guided["name"], &guided["status"], &guided["steps"]["nodes"][0]["status"]), (&json!("This week's review"), &json!("IN_PROGRESS"), &json!("IN_PROGRESS")));
        let steps = world.ask("{ steps(filter: { types: [\"review\", \"email\", \"schedule\"] }) { nodes { id } } }", json!({})).await["steps"]["nodes"].clone();
        for step in steps.as_array().unwrap() {
            let shown = world.ask("query($id: ID!) { step(id: $id) { records { totalCount } } }", json!({ "id": step["id"] })).await;
            assert!(shown["step"]["records"]["totalCount"].as_i64() >= Some(3), "{shown}");
        }
        let query = "{ steps(filter: { types: [\"update_stage\"] }, first: 1) { nodes { records(first: 5) { nodes { name replies(first: 2) { nodes { body } } communications(first: 2) { nodes { status } } } } suggestions { record { name } stage } } } }";
        let moved = world.ask(query, json!({})).await["steps"]["nodes"][0].clone();
        let suggested: std::collections::BTreeMap<_, _> = moved["suggestions"].as_array().unwrap().iter().map(|one| (one["record"]["name"].as_str().unwrap(), &one["stage"])).collect();
        assert_eq!(suggested, [("Riverside College", &json!("MOU Signed")), ("Tidewater Foods", &json!("Conversation Active"))].into());
        for record in moved["records"]["nodes"].as_array().unwrap() {
            assert_eq!((record["replies"]["nodes"].as_array().unwrap().len(), &record["communications"]["nodes"]), (1, &json!([{ "status": "SENT" }])));
        }
        let campaigns = data["campaigns"]["nodes"].as_array().unwrap();
        let waiting = campaigns.iter().find(|one| one["name"] == "Win back quiet leads").unwrap();
        assert_eq!(waiting["status"], "PENDING_APPROVAL");
        let failing: Vec<_> = waiting["preflight"]["checks"].as_array().unwrap().iter().filter(|check| check["status"] == "FAILED").collect();
        assert_eq!(failing.len(), 1, "all but the approval: {failing:?}");
        // A restart seeds nothing more.
        let before = world.ask("{ records { totalCount } campaigns { totalCount } runs { totalCount } goals { totalCount } }", json!({})).await;
        let again = sortie::app::demo::seed(&world.db, &world.viewer).await.unwrap().unwrap();
        assert_eq!((again.flight, again.letters), (begun.flight, begun.letters));
        assert_eq!(world.ask("{ records { totalCount } campaigns { totalCount } runs { totalCount } goals { totalCount } }", json!({})).await, before);
        world.end().await;
    }
}

both! {
    async fn the_tour_of_the_readme_works(kind) {
        let world = World::new(kind).await;
        let run = sortie::app::demo::seed(&world.db, &world.viewer).await.unwrap().unwrap().flight;
        world.until_review(&run.to_string()).await;
        let readme = std::fs::read_to_string("README.md").unwrap();
        let queries: Vec<&str> = readme.split("```graphql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert_eq!(queries.len(), 6);
        for query in queries {
            if query.starts_with("subscription") {
                let mut socket = Socket::open(world.address).await;
                socket.subscribe("tour", query, json!({})).await;
                world.followed_by(1).await;
                sortie::app::demo::live::DemoAgent::default().tick(&world.db.write(), &world.viewer).await.unwrap();
                assert_eq!(socket.next().await["stepStatusChanged"]["step"]["run"]["name"], "Slow flight");
            } else {
                let data = world.ask(query, json!({})).await;
                assert!(data.as_object().unwrap().values().all(|value| !value.is_null()), "{data:#}");
            }
        }
        // The examples in GraphiQL's tabs are valid, too.
        let tabs = std::fs::read_to_string("src/app/graphiql/start.js").unwrap();
        let schema = sortie::graphql::schema(None);
        let mut tried = 0;
        for tab in tabs.split('`').skip(1).step_by(2) {
            for operation in tab.split("\n\n").filter(|part| part.contains('{')) {
                let answer = world.post(operation, json!({ "id": "campaign_01h455vb4pex5vsknk084sn02q" })).await;
                let told = answer["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
                let fine = told.is_empty() || told.contains("there is no") || told.contains("not the id of") || told.contains("ubscription");
                assert!(fine, "{operation}: {told}");
                tried += 1;
            }
        }
        assert!(tried >= 10 && schema.sdl().contains("type Query"));
        world.end().await;
    }
}
