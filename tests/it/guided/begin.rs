//! Guided work (docs/reference/guided-runs.txt): its templates, its start, the workflow of its
//! steps, and its end. Tests are named after the sentences of the source, so that each can be found
//! by its words.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::{World, noon};

const RUN: &str = "{ id name type status outcome description runTemplate { key } progress { fraction }
    availableActions { action allowed blockedBecause }
    steps { nodes { id key name type sequence status startedAt completedAt completedBy { name } revision result
        availableActions { action allowed } } } }";

impl World {
    /// Starts guided work from a template's key.
    pub async fn guided(&self, key: &str, more: Value) -> String {
        let mut input = json!({ "templateKey": key });
        input.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let query =
            "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id status type } } }";
        let run = self.ask(query, json!({ "input": input })).await["startGuidedRun"]["run"].clone();
        assert_eq!((&run["status"], &run["type"]), (&json!("IN_PROGRESS"), &json!("GUIDED")), "{run}");
        run["id"].as_str().unwrap().to_owned()
    }

    /// Starts guided work with ad-hoc steps: key, type and `config` of each. Returns the run, and
    /// the ids of its steps in that order.
    pub async fn own_run(&self, steps: &[(&str, &str, Value)], more: Value) -> (String, Vec<String>) {
        let declared = steps.iter().map(|(key, kind, config)| {
            json!({ "definition": { "key": key, "name": key, "type": kind, "assignedTo": "HUMAN", "config": config } })
        });
        let mut input = json!({ "name": "Of one's own", "steps": declared.collect::<Vec<_>>() });
        input.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let query = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id steps { nodes { id key sequence } } } } }";
        let run = self.ask(query, json!({ "input": input })).await["startGuidedRun"]["run"].clone();
        let nodes = run["steps"]["nodes"].as_array().unwrap();
        let id = |key: &str| nodes.iter().find(|node| node["key"] == key).unwrap()["id"].as_str().unwrap().to_owned();
        (run["id"].as_str().unwrap().to_owned(), steps.iter().map(|(key, ..)| id(key)).collect())
    }

    pub async fn guided_run(&self, id: &str) -> Value {
        self.ask(&format!("query($id: ID!) {{ run(id: $id) {RUN} }}"), json!({ "id": id })).await["run"].clone()
    }

    /// A step of a run by its key.
    pub async fn guided_step(&self, run: &str, key: &str) -> String {
        let run = self.guided_run(run).await;
        let steps = run["steps"]["nodes"].as_array().unwrap();
        let found = steps.iter().find(|step| step["key"] == key).unwrap_or_else(|| panic!("no step {key}: {run:#}"));
        found["id"].as_str().unwrap().to_owned()
    }

    /// Applies a transition to a step as a person and returns the step afterwards.
    pub async fn step_act(&self, verb: &str, step: &str, more: Value) -> Value {
        let mut input = json!({ "id": step });
        input.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let query = format!(
            "mutation($input: StepActInput!) {{ {verb}(input: $input) {{ step {{ id status result error completedAt startedAt startedBy {{ name }} revision }} }} }}"
        );
        self.ask(&query, json!({ "input": input })).await[verb]["step"].clone()
    }

    /// Applies a transition to a step that must be rejected; returns the error.
    pub async fn step_refused(&self, verb: &str, step: &str, more: Value) -> Value {
        let mut input = json!({ "id": step });
        input.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let query = format!("mutation($input: StepActInput!) {{ {verb}(input: $input) {{ step {{ id }} }} }}");
        let answer = self.post(&query, json!({ "input": input })).await;
        assert!(answer["errors"][0].is_object(), "{verb} was not refused: {answer:#}");
        answer["errors"][0].clone()
    }

    pub async fn complete_run(&self, run: &str, outcome: &str) -> Value {
        let query = "mutation($id: ID!, $outcome: String) { completeRun(input: { id: $id, outcome: $outcome }) { run { id status outcome endedAt } } }";
        self.post(query, json!({ "id": run, "outcome": outcome })).await
    }
}

both! {
    async fn pre_built_templates_for_common_operational_tasks(kind) {
        let world = World::new(kind).await;
        let query = "{ runTemplates(filter: { kind: GUIDED }) { totalCount nodes { key name description kind layer builtIn resolvedDefinition { problems { path message } definition { phases { tasks { steps { name type description } } } } } } } }";
        let found = world.ask(query, json!({})).await["runTemplates"].clone();
        assert_eq!(found["totalCount"], 4);
        let named = |name: &str| found["nodes"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned().unwrap();
        for (name, description) in [
            ("Weekly Pipeline Review", "Review partnerships, check MOU status, plan follow-ups."),
            ("MOU Sprint", "Push all MOU-stage partnerships toward signed agreements."),
            ("New Lead Intake", "Process new introductions and create partnership records."),
            ("Seasonal Planning Check", "Review OKR progress and adjust priorities."),
        ] {
            let one = named(name);
            assert_eq!(one["description"], description);
            assert_eq!((&one["kind"], &one["layer"], &one["builtIn"]), (&json!("GUIDED"), &json!("PLATFORM"), &json!(true)));
            assert_eq!(one["resolvedDefinition"]["problems"], json!([]), "{name}");
            world.guided(one["key"].as_str().unwrap(), json!({})).await;
        }
        let weekly = named("Weekly Pipeline Review");
        let steps = weekly["resolvedDefinition"]["definition"]["phases"][0]["tasks"][0]["steps"].as_array().unwrap().clone();
        let told: Vec<(&str, &str)> = steps.iter().map(|step| (step["name"].as_str().unwrap(), step["type"].as_str().unwrap())).collect();
        assert_eq!(told, [
            ("Review at-risk partnerships", "review"), ("Check MOU status", "review"), ("Draft follow-up emails", "email"),
            ("Update pipeline stages", "update_stage"), ("Schedule weekly calls", "schedule"),
        ]);
        // All action types of the source are used by the built-in templates.
        let mut types: Vec<&str> = found["nodes"].as_array().unwrap().iter().flat_map(|one| one["resolvedDefinition"]["definition"]["phases"][0]["tasks"][0]["steps"].as_array().unwrap()).map(|step| step["type"].as_str().unwrap()).collect();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types, ["create_task", "custom", "email", "note", "review", "schedule", "update_stage"]);
        // The other templates are for campaigns, and no campaign may use a guided one.
        let query = "{ runTemplates(filter: { kind: CAMPAIGN }) { totalCount } all: runTemplates { totalCount } }";
        let counts = world.ask(query, json!({})).await;
        assert_eq!((&counts["runTemplates"]["totalCount"], &counts["all"]["totalCount"]), (&json!(2), &json!(6)));
        let id = world.ask("{ runTemplates(filter: { keys: [\"mou-sprint\"] }) { nodes { id } } }", json!({})).await["runTemplates"]["nodes"][0]["id"].clone();
        let (code, told) = world.refused("mutation($id: ID) { createCampaign(input: { name: \"c\", channel: EMAIL, runTemplateId: $id }) { campaign { id } } }", json!({ "id": id })).await;
        assert!(code == "BAD_USER_INPUT" && told.contains("guided work"), "{told}");
        world.end().await;
    }
}

both! {
    async fn start_run_on_any_template_and_optionally_customize_the_run_name(kind) {
        let world = World::new(kind).await;
        let query = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id name } } }";
        let input = json!({ "templateKey": "weekly-pipeline-review", "name": "Monday", "description": "As every week", "idempotencyKey": "once" });
        let run = world.ask(query, json!({ "input": input })).await["startGuidedRun"]["run"].clone();
        let again = world.ask(query, json!({ "input": input })).await["startGuidedRun"]["run"].clone();
        assert_eq!((&run["id"], &run["name"]), (&again["id"], &json!("Monday")));
        // You're at the run's detail at once: in progress, with all its steps pending, and nothing done.
        let run = world.guided_run(run["id"].as_str().unwrap()).await;
        assert_eq!((&run["status"], &run["type"], &run["description"]), (&json!("IN_PROGRESS"), &json!("GUIDED"), &json!("As every week")));
        assert_eq!(run["runTemplate"]["key"], "weekly-pipeline-review");
        let steps = run["steps"]["nodes"].as_array().unwrap();
        assert!(steps.len() == 5 && steps.iter().enumerate().all(|(i, step)| step["status"] == "PENDING" && step["sequence"] == i));
        // It is in the runs list, as any other, with all filters.
        let plain = world.guided("mou-sprint", json!({})).await;
        let list = "query($filter: RunFilter) { runs(filter: $filter) { totalCount nodes { id name campaign { id } campaignVersion } countsByStatus: totalCount } }";
        let count = async |filter: Value| world.ask(list, json!({ "filter": filter })).await["runs"]["totalCount"].clone();
        assert_eq!(count(json!({ "types": ["GUIDED"] })).await, 2);
        assert_eq!(count(json!({ "types": ["GUIDED"], "search": "mond" })).await, 1);
        assert_eq!(count(json!({ "ids": [plain], "statuses": ["IN_PROGRESS"] })).await, 1);
        assert_eq!(count(json!({ "types": ["RUN"] })).await, 0);
        let template = world.ask("query($id: ID!) { run(id: $id) { runTemplate { id } campaign { id } campaignVersion } }", json!({ "id": plain })).await["run"].clone();
        assert_eq!((&template["campaign"], &template["campaignVersion"]), (&Value::Null, &Value::Null));
        assert_eq!(count(json!({ "runTemplateIds": [template["runTemplate"]["id"]] })).await, 1);
        for (input, why) in [
            (json!({ "templateKey": "nothing" }), "NOT_FOUND"),
            (json!({ "templateKey": "standard-outreach" }), "BAD_USER_INPUT"),
            (json!({ "name": "x" }), "BAD_USER_INPUT"),
            (json!({ "templateKey": "mou-sprint", "linkedRecordIds": ["record_01h455vb4pex5vsknk084sn02q"] }), "NOT_FOUND"),
        ] {
            assert_eq!(world.refused(query, json!({ "input": input })).await.0, why, "{input}");
        }
        world.end().await;
    }
}

both! {
    async fn step_workflow_start_complete_skip_reset_restart(kind) {
        let world = World::new(kind).await;
        let run = world.guided("weekly-pipeline-review", json!({})).await;
        let step = world.guided_step(&run, "review_at_risk").await;
        let offered = async |step: &str| {
            let run = world.guided_run(&run).await;
            let found = run["steps"]["nodes"].as_array().unwrap().iter().find(|one| one["id"] == step).cloned().unwrap();
            let all = found["availableActions"].as_array().unwrap().clone();
            let all = all.iter().filter(|one| one["allowed"] == true).map(|one| one["action"].as_str().unwrap().to_owned());
            // Without the actions within the step.
            all.filter(|action| !action.contains("_STEP_")).collect::<Vec<_>>()
        };
        // "Pending → Step not started yet: Click Start to begin, click Skip to skip this step."
        assert_eq!(offered(&step).await, ["START", "SKIP"]);
        assert_eq!(world.step_refused("completeStep", &step, json!({})).await["extensions"]["code"], "INVALID_TRANSITION");
        let begun = world.step_act("startStep", &step, json!({})).await;
        assert_eq!((&begun["status"], &begun["startedBy"]["name"]), (&json!("IN_PROGRESS"), &json!("Developer")));
        // "In Progress → Click Complete when done, click Reset to go back to pending."
        assert_eq!(offered(&step).await, ["COMPLETE", "SKIP", "RESET"]);
        assert_eq!(world.step_act("resetStep", &step, json!({})).await["status"], "PENDING");
        world.step_act("startStep", &step, json!({})).await;
        world.clock.set(noon() + Duration::minutes(10));
        let done = world.step_act("completeStep", &step, json!({ "result": { "reviewed": 7 } })).await;
        // "Completed → Shows completion timestamp. Can't be undone (but can be reset if needed)."
        assert_eq!((&done["status"], &done["completedAt"], &done["result"]), (&json!("COMPLETED"), &json!("2026-11-02T12:10:00+00:00"), &json!({ "reviewed": 7 })));
        assert_eq!(offered(&step).await, ["RESET"]);
        let back = world.step_act("resetStep", &step, json!({ "reason": "looked at last week's list" })).await;
        assert_eq!((&back["status"], &back["result"], &back["completedAt"]), (&json!("PENDING"), &Value::Null, &Value::Null));
        // The former result stays in the step's history.
        let query = "query($id: ID!) { step(id: $id) { history { nodes { kind payload } } } }";
        let history = world.ask(query, json!({ "id": step })).await["step"]["history"]["nodes"].as_array().unwrap().clone();
        let resets: Vec<&Value> = history.iter().filter(|event| event["kind"] == "step.reset").collect();
        assert_eq!(resets.len(), 2);
        assert_eq!((&resets[1]["payload"]["formerResult"], &resets[1]["payload"]["reason"]), (&json!({ "reviewed": 7 }), &json!("looked at last week's list")));
        // "Skipped → Step was skipped. Can be restarted later if needed."
        let other = world.guided_step(&run, "check_mou_status").await;
        assert_eq!(world.step_act("skipStep", &other, json!({ "reason": "no MOUs out" })).await["status"], "SKIPPED");
        assert_eq!(offered(&other).await, ["RESTART"]);
        assert_eq!(world.step_act("restartStep", &other, json!({})).await["status"], "PENDING");
        world.step_act("startStep", &other, json!({})).await;
        let failed = world.step_refused("failStep", &other, json!({ "reason": "x" })).await;
        assert_eq!(failed["extensions"]["code"], "CONFLICT", "{failed}");
        // In a paused run no step changes; after the resume they do.
        let hold = async |verb: &str| {
            let query = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ run {{ status }} }} }}");
            world.ask(&query, json!({ "id": run })).await[verb]["run"]["status"].clone()
        };
        assert_eq!(hold("pauseRun").await, "PAUSED");
        assert_eq!(world.step_refused("completeStep", &other, json!({})).await["extensions"]["code"], "CONFLICT");
        assert!(offered(&other).await.is_empty());
        assert_eq!(hold("resumeRun").await, "IN_PROGRESS");
        world.step_act("completeStep", &other, json!({})).await;
        assert_eq!(hold("cancelRun").await, "CANCELLED");
        world.until("the open steps to be skipped", "query($id: ID!) { run(id: $id) { steps(filter: { statuses: [SKIPPED] }) { totalCount } } }", json!({ "id": run }), |data| data["run"]["steps"]["totalCount"] == 4).await;
        world.end().await;
    }
}

both! {
    async fn the_second_to_complete_a_step_is_shown_who_did_it_and_when(kind) {
        let world = World::with_auth(kind).await;
        let (first, second) = (world.key(entity::member::Role::Operator).await, world.key(entity::member::Role::Operator).await);
        let run = world.guided("weekly-pipeline-review", json!({})).await;
        let step = world.guided_step(&run, "review_at_risk").await;
        let act = async |key: &str, verb: &str, revision: Value| {
            let query = format!("mutation($input: StepActInput!) {{ {verb}(input: $input) {{ step {{ status revision completedBy {{ name }} }} }} }}");
            world.post_as(key, &query, json!({ "input": { "id": step, "expectedRevision": revision } })).await.1
        };
        let begun = act(&first, "startStep", json!(1)).await;
        let revision = begun["data"]["startStep"]["step"]["revision"].clone();
        let late = act(&second, "startStep", json!(1)).await["errors"][0].clone();
        assert_eq!(late["extensions"]["code"], "CONFLICT", "{late}");
        assert!(late["extensions"]["startedBy"]["name"].as_str().unwrap().starts_with("OPERATOR"), "{late}");
        world.clock.set(noon() + Duration::minutes(3));
        // Two members saw it in progress, and both complete it at the same time.
        let (one, two) = tokio::join!(act(&first, "completeStep", revision.clone()), act(&second, "completeStep", revision.clone()));
        let (won, lost) = if one["errors"].is_null() { (one, two) } else { (two, one) };
        let winner = won["data"]["completeStep"]["step"]["completedBy"]["name"].clone();
        let error = &lost["errors"][0];
        assert_eq!(error["extensions"]["code"], "CONFLICT", "{lost}");
        assert_eq!(error["extensions"]["completedBy"]["name"], winner);
        assert_eq!(error["extensions"]["completedAt"], "2026-11-02T12:03:00Z");
        assert!(error["message"].as_str().unwrap().contains(winner.as_str().unwrap()));
        // The list of actions gives the same reason.
        let query = "query($id: ID!) { step(id: $id) { availableActions { action blockedBecause } } }";
        let shown = world.post_as(&second, query, json!({ "id": step })).await.1;
        let all = shown["data"]["step"]["availableActions"].as_array().unwrap();
        let complete = all.iter().find(|one| one["action"] == "COMPLETE").unwrap();
        assert_eq!(complete["blockedBecause"], error["message"], "{shown}");
        world.end().await;
    }
}

both! {
    async fn when_all_steps_are_completed_a_complete_run_button_appears(kind) {
        let world = World::new(kind).await;
        let run = world.guided("weekly-pipeline-review", json!({})).await;
        let offered = async || {
            let run = world.guided_run(&run).await;
            let all = run["availableActions"].as_array().unwrap().clone();
            all.into_iter().find(|one| one["action"] == "COMPLETE").unwrap()
        };
        let keys = ["review_at_risk", "check_mou_status", "draft_follow_up_emails", "update_pipeline_stages", "schedule_weekly_calls"];
        for (i, key) in keys.iter().enumerate() {
            let button = offered().await;
            assert_eq!(button["allowed"], false, "{button}");
            assert!(button["blockedBecause"].as_str().unwrap().starts_with(&format!("{} of its steps are open", 5 - i)), "{button}");
            let refused = world.complete_run(&run, "").await["errors"][0].clone();
            assert_eq!(refused["extensions"]["code"], "CONFLICT");
            let open: Vec<&str> = refused["extensions"]["openSteps"].as_array().unwrap().iter().map(|step| step["key"].as_str().unwrap()).collect();
            assert_eq!(open, keys[i..], "the open ones are named");
            let step = world.guided_step(&run, key).await;
            if i == 1 {
                world.step_act("skipStep", &step, json!({})).await;
                continue;
            }
            world.step_act("startStep", &step, json!({})).await;
            world.step_act("completeStep", &step, json!({})).await;
        }
        let through = world.guided_run(&run).await;
        assert_eq!((&through["status"], &through["progress"]["fraction"]), (&json!("IN_PROGRESS"), &json!(1.0)));
        assert_eq!(offered().await["allowed"], true);
        let waits = world.ask("query($id: ID!) { run(id: $id) { waitingFor { code } } }", json!({ "id": run })).await;
        assert_eq!(waits["run"]["waitingFor"], json!([{ "code": "COMPLETION" }]));
        // Nobody can complete it while it is paused.
        world.act("pauseRun", "run", json!({ "id": run })).await;
        let waits = world.ask("query($id: ID!) { run(id: $id) { waitingFor { code } } }", json!({ "id": run })).await;
        assert_eq!(waits["run"]["waitingFor"], json!([{ "code": "RUN_PAUSED" }]));
        world.act("resumeRun", "run", json!({ "id": run })).await;
        // "Clicking it marks the entire run as completed. You can add an outcome summary describing what was accomplished."
        world.clock.set(noon() + Duration::hours(1));
        let done = world.complete_run(&run, "Three partners written to, two calls booked.").await["data"]["completeRun"]["run"].clone();
        assert_eq!((&done["status"], &done["outcome"], &done["endedAt"]), (&json!("COMPLETED"), &json!("Three partners written to, two calls booked."), &json!("2026-11-02T13:00:00+00:00")));
        let again = world.complete_run(&run, "").await["errors"][0].clone();
        assert_eq!(again["extensions"]["code"], "INVALID_TRANSITION");
        let step = world.guided_step(&run, "review_at_risk").await;
        assert_eq!(world.step_refused("resetStep", &step, json!({})).await["extensions"]["code"], "CONFLICT");
        let told = world.sql("SELECT kind FROM event WHERE kind = 'run.completed'").await;
        assert_eq!(told.len(), 1);
        world.end().await;
    }
}

both! {
    async fn custom_runs_combine_steps_from_different_templates_or_have_a_workflow_of_their_own(kind) {
        let world = World::new(kind).await;
        let ids = world.ask("{ runTemplates(filter: { keys: [\"mou-sprint\", \"new-lead-intake\"] }) { nodes { id key } } }", json!({})).await;
        let id = |key: &str| ids["runTemplates"]["nodes"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap()["id"].clone();
        let own = json!({ "key": "phone", "name": "Ring them up", "type": "custom", "assignedTo": "HUMAN" });
        let steps = json!([
            { "templateId": id("mou-sprint"), "stepKey": "set_follow_ups" },
            { "templateId": id("new-lead-intake"), "stepKey": "set_follow_ups" },
            { "definition": own },
        ]);
        let query = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id runTemplate { id } } } }";
        let run = world.ask(query, json!({ "input": { "name": "One of a kind", "steps": steps } })).await["startGuidedRun"]["run"].clone();
        assert_eq!(run["runTemplate"], Value::Null);
        let run = world.guided_run(run["id"].as_str().unwrap()).await;
        let keys: Vec<&str> = run["steps"]["nodes"].as_array().unwrap().iter().map(|step| step["key"].as_str().unwrap()).collect();
        assert_eq!(keys, ["set_follow_ups", "set_follow_ups_2", "phone"]);
        // All errors are reported at once, and nothing is started.
        let bad = json!([
            { "definition": { "key": "a", "name": "A", "type": "dance", "assignedTo": "HUMAN" } },
            { "definition": { "key": "b", "name": "B", "type": "review", "assignedTo": "WORKFLOW", "config": { "records": { "limit": 0 } } } },
            { "definition": { "key": "c", "name": "C", "type": "note", "assignedTo": "HUMAN", "config": { "subject": "x", "recordz": 1 } } },
        ]);
        let answer = world.post(query, json!({ "input": { "name": "Wrong", "steps": bad } })).await;
        let problems = answer["errors"][0]["extensions"]["problems"].as_array().unwrap().clone();
        let paths: Vec<&str> = problems.iter().map(|one| one["path"].as_str().unwrap()).collect();
        for path in ["[0].definition.type", "[1].definition.assignedTo", "[1].definition.config.records.filter", "[1].definition.config.records.limit", "[2].definition.config"] {
            assert!(paths.contains(&format!("steps{path}").as_str()), "{path} in {paths:?}");
        }
        assert!(paths.contains(&answer["errors"][0]["extensions"]["field"].as_str().unwrap()), "{answer:#}");
        let (code, _) = world.refused(query, json!({ "input": { "name": "x", "steps": [{ "templateId": id("mou-sprint"), "stepKey": "dance" }] } })).await;
        assert_eq!(code, "BAD_USER_INPUT");
        assert_eq!(world.ask("{ runs { totalCount } }", json!({})).await["runs"]["totalCount"], 1);
        world.end().await;
    }
}

both! {
    async fn orgs_add_their_own_templates_and_override_the_built_in_ones(kind) {
        let world = World::new(kind).await;
        let base = world.ask("{ runTemplates(filter: { keys: [\"weekly-pipeline-review\"] }) { nodes { id } } }", json!({})).await["runTemplates"]["nodes"][0]["id"].clone();
        let create = "mutation($input: CreateRunTemplateInput!) { createRunTemplate(input: $input) { runTemplate { id kind layer resolvedDefinition { origins { path layer } } } } }";
        let overrides = json!({
            "phases.work.tasks.steps.steps.review_at_risk.config": { "records": { "filter": { "kind": { "eq": "partnership" }, "lastContactedAt": { "olderThan": "21d" } } } },
            "phases.work.tasks.steps.steps.schedule_weekly_calls": null,
        });
        let made = world.ask(create, json!({ "input": { "name": "Our weekly review", "baseId": base, "overrides": overrides } })).await["createRunTemplate"]["runTemplate"].clone();
        assert_eq!((&made["kind"], &made["layer"]), (&json!("GUIDED"), &json!("ORG")));
        let run = world.guided("our-weekly-review", json!({})).await;
        let run = world.guided_run(&run).await;
        assert_eq!((&run["name"], run["steps"]["nodes"].as_array().unwrap().len()), (&json!("Our weekly review"), 4));
        // An org's own template, in YAML; anything not allowed in guided work is reported.
        let yaml = |trigger: &str| format!("phases:\n  - name: Day\n    tasks:\n      - name: All\n        steps:\n          - {{ name: Look, type: review, assignedTo: human, trigger: {trigger}, config: {{ records: {{ linked: true }} }} }}\n");
        let made = world.ask(create, json!({ "input": { "name": "Daily look", "kind": "GUIDED", "yaml": yaml("manual") } })).await["createRunTemplate"]["runTemplate"].clone();
        assert_eq!(made["kind"], "GUIDED");
        world.guided("daily-look", json!({})).await;
        let (code, told) = world.refused(create, json!({ "input": { "name": "Wrong", "kind": "GUIDED", "yaml": yaml("\"event:x.y\"") } })).await;
        assert!(code == "BAD_USER_INPUT" && told.contains("trigger"), "{told}");
        let export = world.ask("{ manifest }", json!({})).await["manifest"].as_str().unwrap().to_owned();
        assert!(export.contains("kind: GUIDED"), "{export}");
        world.end().await;
    }
}

both! {
    async fn recurring_guided_work_waits_for_the_person_on_monday_morning(kind) {
        let world = World::new(kind).await;
        let me = world.ask("{ viewer { member { id } } }", json!({})).await["viewer"]["member"]["id"].clone();
        // Noon of 2 November 2026 is a Monday.
        let input = json!({ "templateKey": "weekly-pipeline-review", "cron": "0 9 * * MON", "timezone": "Europe/Berlin", "assigneeId": me, "name": "Monday review", "idempotencyKey": "m" });
        let query = "mutation($input: ScheduleGuidedRunInput!) { scheduleGuidedRun(input: $input) { schedule { id status nextAt campaign { id } runTemplate { key } assignee { id } } run { id status type scheduledFor } } }";
        let made = world.ask(query, json!({ "input": input })).await["scheduleGuidedRun"].clone();
        let again = world.ask(query, json!({ "input": input })).await["scheduleGuidedRun"].clone();
        assert_eq!(made["run"]["id"], again["run"]["id"]);
        assert_eq!((&made["run"]["status"], &made["run"]["type"], &made["run"]["scheduledFor"]), (&json!("SCHEDULED"), &json!("GUIDED"), &json!("2026-11-09T08:00:00+00:00")));
        assert_eq!((&made["schedule"]["campaign"], &made["schedule"]["runTemplate"]["key"]), (&Value::Null, &json!("weekly-pipeline-review")));
        world.clock.set("2026-11-09T08:00:01Z".parse().unwrap());
        world.db.wake();
        let first = made["run"]["id"].as_str().unwrap();
        world.until_run(first, "IN_PROGRESS").await;
        let run = world.ask("query($id: ID!) { run(id: $id) { name steps { nodes { status assignee { memberId } } } } }", json!({ "id": first })).await["run"].clone();
        let steps = run["steps"]["nodes"].as_array().unwrap();
        assert!(run["name"] == "Monday review" && steps.len() == 5);
        assert!(steps.iter().all(|step| step["status"] == "PENDING" && step["assignee"]["memberId"] == me), "{run:#}");
        let work = world.ask("{ steps(filter: { mine: true }) { totalCount } }", json!({})).await;
        assert_eq!(work["steps"]["totalCount"], 5);
        // The next one is already pending.
        let waiting = "{ runs(filter: { statuses: [SCHEDULED] }) { nodes { id scheduledFor type } } }";
        let next = world.ask(waiting, json!({})).await["runs"]["nodes"][0].clone();
        assert_eq!((&next["scheduledFor"], &next["type"]), (&json!("2026-11-16T08:00:00+00:00"), &json!("GUIDED")));
        let end = "mutation($id: ID!) { endSchedule(input: { id: $id }) { schedule { status } } }";
        assert_eq!(world.ask(end, json!({ "id": made["schedule"]["id"] })).await["endSchedule"]["schedule"]["status"], "ENDED");
        assert_eq!(world.ask(waiting, json!({})).await["runs"]["nodes"], json!([]));
        for (input, field) in [
            (json!({ "templateKey": "mou-sprint" }), "at"),
            (json!({ "templateKey": "mou-sprint", "at": "2026-01-01T00:00:00Z" }), "at"),
            (json!({ "templateKey": "mou-sprint", "cron": "0 9 * * MON" }), "timezone"),
            (json!({ "templateKey": "mou-sprint", "cron": "x", "timezone": "Europe/Berlin" }), "cron"),
        ] {
            let (code, told) = world.refused(query, json!({ "input": input })).await;
            assert!(code == "BAD_USER_INPUT" && told.starts_with(field), "{input}: {told}");
        }
        world.end().await;
    }
}
