//! Rows that the engine's loops walk have a bound per org.

use serde_json::{Value, json};
use sortie::kernel::limits;

use crate::harness::{Kind, World};

impl World {
    /// Inserts `count` copies of a table's rows with new ids; the columns of `other` get the given
    /// values, in which `n.i` is the copy's number.
    pub async fn copies(&self, kind: Kind, table: &str, count: u64, other: &[(&str, &str)]) {
        let (columns, id) = match kind {
            Kind::Sqlite => (format!("SELECT name FROM pragma_table_info('{table}')"), "randomblob(16)"),
            Kind::Postgres => (
                format!(
                    "SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '{table}'"
                ),
                "gen_random_uuid()",
            ),
        };
        let columns: Vec<String> = self.sql(&columns).await.into_iter().map(|row| format!("\"{}\"", row[0])).collect();
        let value = |column: &String| match column.trim_matches('"') {
            "id" => id.to_owned(),
            name => match other.iter().find(|(of, _)| *of == name) {
                Some((_, value)) => (*value).to_owned(),
                None => format!("t.{column}"),
            },
        };
        let values: Vec<String> = columns.iter().map(value).collect();
        self.force(&format!(
            "INSERT INTO {table} ({}) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             SELECT {} FROM {table} t, n",
            columns.join(", "),
            values.join(", ")
        ))
        .await;
    }
}

fn is_refused(told: &Value, field: &str, most: u64) {
    let error = &told["errors"][0];
    let found = (&error["extensions"]["code"], &error["extensions"]["field"]);
    assert_eq!(found, (&json!("LIMIT_EXCEEDED"), &json!(field)), "{told}");
    assert!(error["message"].as_str().unwrap().contains(&format!("at most {most} ")), "{told}");
}

both! {
    async fn schedules_agents_and_queued_runs_have_a_bound(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, cron: \"0 9 * * *\" }) { schedule { id } } }";
        let id = world.ask(schedule, json!({ "id": plan.campaign })).await["scheduleCampaign"]["schedule"]["id"].clone();
        world.copies(kind, "schedule", limits::SCHEDULES_OF_ORG - 1, &[]).await;
        is_refused(&world.post(schedule, json!({ "id": plan.campaign })).await, "cron", limits::SCHEDULES_OF_ORG);
        let once = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2027-01-01T00:00:00Z\" }) { schedule { id } } }";
        is_refused(&world.post(once, json!({ "id": plan.campaign })).await, "at", limits::SCHEDULES_OF_ORG);
        // A run that has ended frees capacity.
        world.ask("mutation($id: ID!) { endSchedule(input: { id: $id }) { schedule { status } } }", json!({ "id": id })).await;
        world.ask(schedule, json!({ "id": plan.campaign })).await;

        let agent = "mutation($name: String!) { createAgent(input: { name: $name, kind: BUILT_IN, filter: \"true\", instructions: \"x\" }) { agent { id } } }";
        world.ask(agent, json!({ "name": "agent" })).await;
        world.copies(kind, "agent", limits::AGENTS_OF_ORG - 1, &[("name", "t.name || n.i")]).await;
        is_refused(&world.post(agent, json!({ "name": "other" })).await, "name", limits::AGENTS_OF_ORG);
        let manifest = "mutation($yaml: String!) { applyManifest(input: { yaml: $yaml }) { applied problems { message } } }";
        let yaml = json!({ "agents": [{ "name": "other", "filter": "true" }] }).to_string();
        let told = world.post(manifest, json!({ "yaml": yaml })).await;
        assert!(told.to_string().contains(&format!("at most {} agents", limits::AGENTS_OF_ORG)), "{told}");

        let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
        world.ask(launch, json!({ "id": plan.campaign })).await;
        let queued = [("status", "'QUEUED'"), ("schedule_id", "NULL"), ("occurrence_at", "NULL")];
        world.copies(kind, "run", limits::QUEUED_RUNS_OF_ORG, &queued).await;
        is_refused(&world.post(launch, json!({ "id": plan.campaign })).await, "status", limits::QUEUED_RUNS_OF_ORG);
        world.drop_unchecked().await;
    }
}

both! {
    /// Sixteen requests at once, each of which would find room for one more.
    async fn sixteen_at_once_pass_no_bound(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, cron: \"0 9 * * *\" }) { schedule { id } } }";
        world.ask(schedule, json!({ "id": plan.campaign })).await;
        world.copies(kind, "schedule", limits::SCHEDULES_OF_ORG - 4, &[]).await;
        let agent = "mutation($name: String!) { createAgent(input: { name: $name, kind: BUILT_IN, filter: \"false\", instructions: \"x\" }) { agent { id } } }";
        world.ask(agent, json!({ "name": "agent" })).await;
        world.copies(kind, "agent", limits::AGENTS_OF_ORG - 4, &[("name", "t.name || n.i")]).await;
        let schedules = (0..16).map(|_| world.post(schedule, json!({ "id": plan.campaign })));
        let told = futures_util::future::join_all(schedules).await;
        assert_eq!(told.iter().filter(|told| told.get("errors").is_none()).count(), 3, "{told:?}");
        assert_eq!(world.number("SELECT COUNT(*) FROM schedule WHERE status = 'ACTIVE'").await, limits::SCHEDULES_OF_ORG as i64);
        let agents = (0..16).map(|i| world.post(agent, json!({ "name": format!("other{i}") })));
        let told = futures_util::future::join_all(agents).await;
        assert_eq!(told.iter().filter(|told| told.get("errors").is_none()).count(), 3, "{told:?}");
        assert_eq!(world.number("SELECT COUNT(*) FROM agent").await, limits::AGENTS_OF_ORG as i64);
        world.drop_unchecked().await;
    }
}

both! {
    /// The same for runs, of campaigns of their own: those of one campaign wait for its row.
    async fn sixteen_runs_at_once_pass_no_bound(kind) {
        let world = World::without_server(kind, None).await;
        let mut plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let parts = "query($id: ID!) { campaign(id: $id) { goal { id } writer { id } reviewer { id } } }";
        let parts = world.ask(parts, json!({ "id": plan.campaign })).await["campaign"].clone();
        let mut campaigns = vec![plan.campaign.clone()];
        for i in 1..16 {
            let input = json!({
                "name": format!("Outreach {i}"), "channel": "EMAIL", "goalId": parts["goal"]["id"], "writerId": parts["writer"]["id"],
                "reviewerId": parts["reviewer"]["id"], "segmentId": plan.segment, "messageTemplateId": plan.template,
                "variables": { "offer": "a trial" },
            });
            plan.campaign = world.create("campaign", input).await;
            world.activate(&plan).await;
            campaigns.push(plan.campaign.clone());
        }
        let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
        world.ask(launch, json!({ "id": campaigns[0] })).await;
        let queued = [("status", "'QUEUED'"), ("schedule_id", "NULL"), ("occurrence_at", "NULL")];
        world.copies(kind, "run", limits::QUEUED_RUNS_OF_ORG - 4, &queued).await;
        let runs = campaigns.iter().map(|campaign| world.post(launch, json!({ "id": campaign })));
        let told = futures_util::future::join_all(runs).await;
        assert_eq!(told.iter().filter(|told| told.get("errors").is_none()).count(), 3, "{told:?}");
        assert_eq!(world.number("SELECT COUNT(*) FROM run WHERE status = 'QUEUED'").await, limits::QUEUED_RUNS_OF_ORG as i64);
        world.drop_unchecked().await;
    }
}

both! {
    /// The bound refuses people's requests. What is due by a schedule is not lost, and does not
    /// fail: it waits among the queued runs.
    async fn what_falls_due_at_the_bound_is_not_lost(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
        world.ask(launch, json!({ "id": plan.campaign })).await;
        let queued = [("status", "'QUEUED'"), ("schedule_id", "NULL"), ("occurrence_at", "NULL")];
        world.copies(kind, "run", limits::QUEUED_RUNS_OF_ORG - 1, &queued).await;
        is_refused(&world.post(launch, json!({ "id": plan.campaign })).await, "status", limits::QUEUED_RUNS_OF_ORG);
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2026-11-02T12:10:00Z\" }) { schedule { id } run { id } } }";
        let made = world.ask(schedule, json!({ "id": plan.campaign })).await["scheduleCampaign"].clone();
        // Paused over its time, and resumed: it falls due at once.
        for (verb, minutes) in [("pauseSchedule", 0), ("resumeSchedule", 11)] {
            world.clock.set(world.clock.now() + chrono::Duration::minutes(minutes));
            let change = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ schedule {{ status }} }} }}");
            world.ask(&change, json!({ "id": made["schedule"]["id"] })).await;
        }
        let engine = |org| sortie::kernel::viewer::Viewer::engine(org);
        for (org, id) in sortie::domain::run::fire_schedule::due(&world.db).await.unwrap() {
            assert!(sortie::domain::run::fire_schedule::fire(&world.db.write(), &engine(org), id).await.unwrap());
        }
        let status = "query($id: ID!) { run(id: $id) { status failure } }";
        let run = world.ask(status, json!({ "id": made["run"]["id"] })).await["run"].clone();
        assert_eq!((&run["status"], &run["failure"]), (&json!("QUEUED"), &json!(null)), "{run}");
        world.drop_unchecked().await;
    }
}
