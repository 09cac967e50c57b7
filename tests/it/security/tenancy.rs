//! Two orgs on one database: neither sees the other's rows, by whatever id or list it requests.

use entity::id::OrgId;
use serde_json::{Value, json};
use sortie::graphql::with_viewer;
use sortie::kernel::viewer::Viewer;

use crate::harness::World;

both! {
    async fn nothing_crosses(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        let ours = world.ask("query($id: ID!) { run(id: $id) { phases { id tasks { id } } communications { nodes { id } } } }", json!({ "id": run })).await["run"].clone();
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        let schema = sortie::graphql::schema(Some(world.db.clone()));
        let ask = async |query: &str, variables: Value| {
            let request = async_graphql::Request::new(query).variables(async_graphql::Variables::from_json(variables));
            serde_json::to_value(schema.execute(with_viewer(request, &world.db, &other)).await).unwrap()
        };
        // By id: absent.
        let ids = json!([plan.campaign, plan.template, plan.segment, plan.records[0], run, review, ours["phases"][0]["id"], ours["phases"][0]["tasks"][0]["id"], ours["communications"]["nodes"][0]["id"]]);
        let found = ask("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", json!({ "ids": ids })).await;
        assert!(found["data"]["nodes"].as_array().unwrap().iter().all(Value::is_null), "{found:#}");
        // By list: only the org's own objects.
        let lists = "{ goals { totalCount } writers { totalCount } reviewers { totalCount } messageTemplates { totalCount } segments { totalCount } records { totalCount } campaigns { totalCount } runs { totalCount } steps { totalCount } communications { totalCount } replies { totalCount } schedules { totalCount } imports { totalCount } members { totalCount } events { nodes { kind } } previewSegment(filter: {}) { count } }";
        let found = ask(lists, json!({})).await["data"].clone();
        for (list, value) in found.as_object().unwrap() {
            let count = value["totalCount"].as_i64().or(value["count"].as_i64()).unwrap_or(value["nodes"].as_array().map_or(0, Vec::len) as i64);
            assert_eq!(count, i64::from(list == "members"), "{list}");
        }
        // By mutation: not found; by reference: not found, and nothing is created.
        for mutation in [
            "cancelRun(input: { id: $run }) { run { id } }",
            "approveStep(input: { id: $step }) { step { id } }",
            "cancelCampaign(input: { id: $campaign }) { campaign { id } }",
            "runCampaign(input: { campaignId: $campaign }) { run { id } }",
            "createCampaign(input: { name: \"Theft\", segmentId: $segment }) { campaign { id } }",
            "createSegment(input: { name: \"Theft\", recordIds: [$record] }) { segment { id } }",
            "recordReply(input: { communicationId: $communication, body: \"x\" }) { reply { id } }",
        ] {
            let declared: Vec<String> = ["run", "step", "campaign", "segment", "record", "communication"]
                .iter()
                .filter(|name| mutation.contains(&format!("${name}")))
                .map(|name| format!("${name}: ID!"))
                .collect();
            let variables = json!({ "run": run, "step": review, "campaign": plan.campaign, "segment": plan.segment, "record": plan.records[0], "communication": ours["communications"]["nodes"][0]["id"] });
            let answer = ask(&format!("mutation({}) {{ {mutation} }}", declared.join(", ")), variables).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "NOT_FOUND", "{mutation}: {answer:#}");
        }
        // Each org's log has its own positions.
        let member = ask("mutation { createRecord(input: { kind: \"lead\", name: \"Theirs\" }) { record { id } } }", json!({})).await;
        assert!(member.get("errors").is_none(), "{member:#}");
        let positions = world.sql("SELECT COUNT(*), MIN(position) FROM event GROUP BY org_id ORDER BY 1").await;
        assert_eq!((positions.len(), positions[0].clone()), (2, vec!["1".to_owned(), "1".to_owned()]));
        // The platform org's own definitions are not accessible to others, by any query.
        let house = "phases: [{ key: p, tasks: [{ key: t, steps: [{ key: s, type: custom, assignedTo: HUMAN }] }] }]";
        let house = world.create("runTemplate", json!({ "key": "house", "name": "House", "kind": "GUIDED", "yaml": house })).await;
        let seen = ask("query($id: ID!) { runTemplates { nodes { key builtIn } } runTemplate(id: $id) { id } node(id: $id) { id } }", json!({ "id": house })).await["data"].clone();
        assert!(seen["runTemplates"]["nodes"].as_array().unwrap().iter().all(|one| one["builtIn"] == true), "{seen}");
        assert_eq!((&seen["runTemplate"], &seen["node"]), (&json!(null), &json!(null)));
        for (mutation, code) in [
            ("startGuidedRun(input: { templateKey: \"house\" }) { run { id } }".to_owned(), "NOT_FOUND"),
            (format!("startGuidedRun(input: {{ templateId: \"{house}\" }}) {{ run {{ id }} }}"), "NOT_FOUND"),
            (format!("createRunTemplate(input: {{ key: \"mine\", name: \"Mine\", baseId: \"{house}\" }}) {{ runTemplate {{ id }} }}"), "NOT_FOUND"),
        ] {
            let answer = ask(&format!("mutation {{ {mutation} }}"), json!({})).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{mutation}: {answer:#}");
        }
        // Built-in templates are shared: guided work from one of them does not count as a foreign
        // row in the checker.
        let begun = ask("mutation { startGuidedRun(input: { templateKey: \"mou-sprint\" }) { run { status runTemplate { key layer } } } }", json!({})).await;
        assert_eq!(begun["data"]["startGuidedRun"]["run"], json!({ "status": "IN_PROGRESS", "runTemplate": { "key": "mou-sprint", "layer": "PLATFORM" } }));
        world.end().await;
    }
}
