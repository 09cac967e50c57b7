//! Runs that can be mended, and by whom.

use entity::id::OrgId;
use entity::member::Role;
use sortie::domain::run::guided::add_step::{self, NewStep};
use sortie::domain::run::guided::reorder_steps;
use sortie::domain::run::guided::structure::GuidedStepDraft;
use sortie::domain::run::update::Changes;
use sortie::kernel::viewer::Viewer;

use super::*;

both! {
    async fn only_open_guided_work_is_mended(kind) {
        let world = World::without_server(kind, None).await;
        let step = || declared("z", "note", json!({}));
        let check = async |what: &str, run: &str, may_steps: bool, may_outcome: bool| {
            let now = read(&world, run).await;
            assert_eq!((allowed(&now, "ADD_STEP"), allowed(&now, "REORDER_STEPS")), (may_steps, may_steps), "{what}: {now:#}");
            assert_eq!(allowed(&now, "UPDATE_OUTCOME"), may_outcome, "{what}: {now:#}");
            assert!(allowed(&now, "UPDATE"));
            let task = now["phases"][0]["tasks"][0]["id"].as_str().unwrap_or("task_01h455vb4pex5vsknk084sn02q").to_owned();
            if !may_steps {
                let told = refused(&world, ADD, json!({ "runId": run, "step": step() })).await;
                let why = now["availableActions"].as_array().unwrap().iter().find(|one| one["action"] == "ADD_STEP").unwrap()["blockedBecause"].clone();
                assert_eq!((&told["code"], &told["message"]), (&json!("CONFLICT"), &why), "{what}");
                assert_eq!(refused(&world, REORDER, json!({ "runId": run, "taskId": task, "stepIds": [] })).await["code"], "CONFLICT", "{what}");
            } else {
                add(&world, run, step(), json!({})).await;
            }
            let answer = world.post(OUTCOME, json!({ "input": { "runId": run, "outcome": "O", "reason": "R" } })).await;
            assert_eq!(answer["errors"].is_null(), may_outcome, "{what}: {answer:#}");
        };
        let (run, _) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        check("in progress", &run, true, false).await;
        let act = async |verb: &str, run: &str| drop(world.act(verb, "run", json!({ "id": run })).await);
        act("pauseRun", &run).await;
        check("paused", &run, true, false).await;
        act("resumeRun", &run).await;
        finish(&world, &run, "done").await;
        check("completed", &run, false, true).await;
        let (run, _) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        act("cancelRun", &run).await;
        world.tick(true).await;
        check("cancelled", &run, false, true).await;
        let schedule = "mutation { scheduleGuidedRun(input: { templateKey: \"mou-sprint\", at: \"2027-01-01T00:00:00Z\" }) { run { id } } }";
        let scheduled = world.ask(schedule, json!({})).await["scheduleGuidedRun"]["run"]["id"].as_str().unwrap().to_owned();
        check("scheduled", &scheduled, false, false).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        check("a campaign's run", &run, false, false).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        check("a campaign's cancelled run", &run, false, false).await;
        world.end().await;
    }
}

both! {
    async fn roles_of_those_who_mend(kind) {
        let world = World::with_auth(kind).await;
        let (run, ids) = world.own_run(&[("a", "note", json!({})), ("b", "note", json!({}))], json!({})).await;
        let task = task(&world, &run).await;
        let (viewer, operator, manager) = (world.key(Role::Viewer).await, world.key(Role::Operator).await, world.key(Role::Manager).await);
        let ask = async |key: &str, query: &str, input: Value| world.post_as(key, query, json!({ "input": input })).await.1;
        let code = |answer: &Value| answer["errors"][0]["extensions"]["code"].clone();
        for (query, input) in [
            (UPDATE, json!({ "id": run, "name": "N" })),
            (ADD, json!({ "runId": run, "step": declared("c", "note", json!({})) })),
            (REORDER, json!({ "runId": run, "taskId": task, "stepIds": [ids[1], ids[0]] })),
        ] {
            assert_eq!(code(&ask(&viewer, query, input.clone()).await), "FORBIDDEN");
            if query == REORDER {
                world.step_act("skipStep", &world.guided_step(&run, "c").await, json!({})).await;
            }
            let done = ask(&operator, query, input).await;
            assert!(done.get("errors").is_none(), "{done:#}");
        }
        finish(&world, &run, "first").await;
        let input = json!({ "runId": run, "outcome": "second", "reason": "r" });
        assert_eq!(code(&ask(&operator, OUTCOME, input.clone()).await), "FORBIDDEN");
        assert_eq!(ask(&manager, OUTCOME, input).await["data"]["updateRunOutcome"]["run"]["outcome"], "second");
        world.end().await;
    }
}

both! {
    async fn another_org_mends_nothing(kind) {
        let world = World::without_server(kind, None).await;
        let (run, ids) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        let (task, db) = (task(&world, &run).await.parse().unwrap(), world.db.write());
        let (id, step) = (run.parse().unwrap(), ids[0].parse().unwrap());
        let changes = Changes { name: Some("Theirs".into()), description: Some(None) };
        assert!(update::update(&db, &other, id, None, &changes).await.is_err());
        let declared = serde_json::from_value(declared("b", "note", json!({}))["definition"].clone()).unwrap();
        let new = NewStep { draft: GuidedStepDraft::Own(Box::new(declared)), task_id: Some(task), after: Some(step), due_at: None };
        assert!(add_step::add(&db, &other, id, None, &new).await.is_err());
        assert!(reorder_steps::reorder(&db, &other, id, None, task, &[step]).await.is_err());
        finish(&world, &run, "ours").await;
        assert!(outcome::correct(&db, &other, id, None, Some("theirs"), "r").await.is_err());
        assert_eq!(read(&world, &run).await["outcome"], "ours");
        assert_eq!(order(&world, &run).await, ["a"]);
        world.end().await;
    }
}
