//! A dashboard's page as docs/questions.md shows it: a query and a subscription, each with a number of
//! statements that does not depend on the number of runs.

use std::collections::BTreeSet;
use std::pin::Pin;

use async_graphql::{Request, Response, Variables};
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use sortie::kernel::db::dialect::Dialect;

use crate::harness::{Kind, World};

/// Numbers of runs on the page.
const SIZES: [usize; 4] = [1, 10, 50, 200];

/// A document of the page, by its first words.
fn document(begins: &str) -> String {
    let page = std::fs::read_to_string("docs/questions.md").unwrap();
    let found = page.split("```graphql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let found = found.filter(|document| document.contains(&format!("\n{begins}("))).collect::<Vec<_>>();
    assert_eq!((found.len(), found[0].matches(" findings {").count()), (1, 1), "{begins}");
    found[0].to_owned()
}

/// Runs of two dozen campaigns in all statuses, of which every tenth is paused. The campaigns have
/// changed since, so that each run that has begun has a finding.
async fn many_runs(kind: Kind) -> World {
    let world = World::without_server(kind, None).await;
    let size = sortie::app::seed::Size { campaigns: 24, runs: 2_400, steps_per_run: 1 };
    sortie::app::seed::seed(&world.db, &world.viewer, size, |_| {}).await.unwrap();
    world.force("UPDATE run SET status = 'PAUSED', ended_at = NULL, outcome = NULL WHERE name LIKE 'Run %0'").await;
    let writer = world.id_of("writers", "name", "House style").await;
    let change =
        "mutation($id: ID!) { updateWriter(input: { id: $id, instructions: \"At length\" }) { writer { id } } }";
    world.ask(change, json!({ "id": writer })).await;
    world
}

/// Number of tries, the cheapest of which counts: snapshots of runs are cached, and on Postgres the
/// sequencer's statements are counted as well.
fn tries(world: &World) -> usize {
    if world.db.dialect() == Dialect::Postgres { 5 } else { 2 }
}

/// Number of statements of the query for a page of `first` runs; and the runs.
async fn cost(world: &World, document: &str, filter: &Value, first: usize) -> (u64, Vec<Value>) {
    let (mut least, mut runs) = (u64::MAX, Vec::new());
    for _ in 0..tries(world) {
        let before = world.db.statements();
        let data = world.ask(document, json!({ "filter": filter, "first": first })).await;
        least = least.min(world.db.statements() - before);
        runs = data["runs"]["nodes"].as_array().unwrap().clone();
    }
    assert_eq!(runs.len(), first, "{filter}");
    (least, runs)
}

both! {
    async fn a_page_costs_the_same_however_long(kind) {
        let world = many_runs(kind).await;
        let page = document("query Dashboard");
        for filter in [json!({ "statuses": ["COMPLETED"] }), json!({ "statuses": ["PAUSED"] })] {
            let mut costs = Vec::new();
            for first in SIZES {
                let (cost, runs) = cost(&world, &page, &filter, first).await;
                let campaigns: BTreeSet<&str> = runs.iter().map(|run| run["campaign"]["name"].as_str().unwrap()).collect();
                assert!(campaigns.len() >= first.min(10) / 2, "{campaigns:?}");
                assert!(runs.iter().all(|run| run["progress"]["counts"]["total"] == 1 && run["availableActions"][0]["action"].is_string()));
                assert!(runs.iter().all(|run| run["findings"][0]["code"] == "DRIFT"), "{:#}", runs[0]);
                let waits = filter["statuses"][0] == "PAUSED";
                assert!(runs.iter().all(|run| run["waitingFor"].as_array().unwrap().is_empty() != waits), "{:#}", runs[0]);
                costs.push(cost);
            }
            assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?} statements for {SIZES:?} runs with {filter}");
        }
        // Runs in all statuses, from the shortest page that has them.
        let mut costs = Vec::new();
        for first in [20, 50, 200] {
            let (cost, runs) = cost(&world, &page, &json!({}), first).await;
            let statuses: BTreeSet<&str> = runs.iter().map(|run| run["status"].as_str().unwrap()).collect();
            assert_eq!(statuses, ["CANCELLED", "COMPLETED", "FAILED", "PAUSED", "SCHEDULED"].into());
            costs.push(cost);
        }
        assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?} statements for pages with all statuses");
        // As docs/questions.md says.
        assert!(kind == Kind::Postgres || costs[0] <= 40, "{costs:?} statements");
        world.drop_unchecked().await;
    }
}

/// A subscription that only advances when it is asked for its next item.
struct Followed(Pin<Box<dyn Stream<Item = Response> + Send>>);

impl Followed {
    fn open(world: &World, document: &str, first: usize) -> Self {
        let variables = json!({ "filter": { "statuses": ["PAUSED"] }, "first": first });
        let request = Request::new(document).variables(Variables::from_json(variables));
        let request = sortie::graphql::with_viewer(request, &world.db, &world.viewer);
        let schema = sortie::graphql::schema(Some(world.db.clone()));
        Self(Box::pin(sortie::graphql::batching::stream(&schema, request)))
    }

    async fn next(&mut self) -> Value {
        let item = tokio::time::timeout(std::time::Duration::from_secs(60), self.0.next()).await;
        let item = serde_json::to_value(item.expect("nothing came").expect("it ended")).unwrap();
        assert!(item.get("errors").is_none(), "{item:#}");
        item["data"]["runList"].clone()
    }

    /// The item that an event of a run causes, and the number of statements for both.
    async fn after_event(&mut self, world: &World, run: &Value) -> (u64, Value) {
        let note = "mutation($id: ID!) { addRunNote(input: { runId: $id, belongsTo: EXECUTION, text: \"n\" }) { runNote { id } } }";
        let before = world.db.statements();
        world.ask(note, json!({ "id": run })).await;
        let item = self.next().await;
        assert_eq!(item["kind"], "CHANGED");
        (world.db.statements() - before, item)
    }
}

/// Fails if numbers of statements differ by more than the log's reader may cause, which is a task of
/// its own and looks into the log once more or less.
fn check_equal(costs: &[u64], what: &str) {
    let (least, most) = (costs.iter().min().unwrap(), costs.iter().max().unwrap());
    assert!(most - least <= 2, "{costs:?} statements for {what} of {SIZES:?} runs");
}

both! {
    async fn a_live_page_costs_the_same_however_many_change(kind) {
        let world = many_runs(kind).await;
        let page = document("subscription DashboardLive");
        let (mut snapshots, mut single, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for first in SIZES {
            let mut least = [u64::MAX; 3];
            for nth in 0..5 {
                let before = world.db.statements();
                let mut followed = Followed::open(&world, &page, first);
                let item = followed.next().await;
                least[0] = least[0].min(world.db.statements() - before);
                assert_eq!((&item["kind"], item["nodes"].as_array().unwrap().len()), (&json!("SNAPSHOT"), first));
                let run = item["nodes"][0]["id"].clone();
                let (cost, item) = followed.after_event(&world, &run).await;
                least[1] = least[1].min(cost);
                assert_eq!((item["nodes"].as_array().unwrap().len(), &item["nodes"][0]["id"]), (1, &run));
                // All runs of the page have changed when the next event comes.
                world.force(&format!("UPDATE run SET outcome = '{nth} of {first}' WHERE status = 'PAUSED'")).await;
                let (cost, item) = followed.after_event(&world, &run).await;
                least[2] = least[2].min(cost);
                assert_eq!(item["nodes"].as_array().unwrap().len(), first);
            }
            for (costs, least) in [&mut snapshots, &mut single, &mut all].into_iter().zip(least) {
                costs.push(least);
            }
        }
        check_equal(&snapshots, "snapshots");
        check_equal(&single, "a change in lists");
        check_equal(&all, "changes");
        world.drop_unchecked().await;
    }
}
