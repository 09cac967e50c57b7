//! Rows that the engine's loops walk have a bound per org.

use serde_json::{Value, json};
use sortie::kernel::limits;

use crate::harness::{Kind, World};

impl World {
    /// Inserts `count` copies of a table's rows with new ids; the columns of `other` get the given
    /// values, in which `n.i` is the copy's number.
    async fn copies(&self, kind: Kind, table: &str, count: u64, other: &[(&str, &str)]) {
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
        let world = World::still(kind, None).await;
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
