//! Identical subscriptions share one execution: the cost of a change does not grow with the number
//! of subscribers, and each gets it once and in order, from whatever position it starts at.

use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::socket::{Came, Socket};

const CROWD: usize = 40;

async fn item(socket: &mut Socket) -> Value {
    let Came::Message(message) = socket.came().await else { panic!("closed") };
    assert_eq!(message["type"], "next", "{message:#}");
    message["payload"]["data"]["runStatusChanged"].clone()
}

both! {
    async fn one_change_costs_the_same_for_one_and_for_forty(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("PHONE", 1).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.until_run(&run, "IN_PROGRESS").await;
        // One that starts at the beginning of the log. On Postgres positions are given once no older
        // transaction is open, also of another test's database: the others begin after its last item.
        let mut whole = Socket::open(world.address).await;
        let document = "subscription($after: String) { runStatusChanged(after: $after) { cursor to run { name campaign { name } } } }";
        whole.subscribe("whole", document, json!({ "after": crate::harness::cursor::at(0) })).await;
        let mut heard = Vec::new();
        while heard.last().is_none_or(|item: &Value| item["to"] != "IN_PROGRESS") {
            heard.push(item(&mut whole).await);
        }
        let cursor = heard.last().map(|item| item["cursor"].clone()).unwrap();
        let mut sockets = Vec::new();
        for i in 0..CROWD {
            let mut socket = Socket::open(world.address).await;
            // The same subscription in another spelling.
            let space = [" ", "\n  ", " # of runs\n", ", "][i % 4];
            let document = format!("subscription($after: String){space}{{ runStatusChanged(after: $after){space}{{ cursor to run {{ name campaign {{ name }} }} }} }}");
            socket.subscribe(&format!("s{i}"), &document, json!({ "after": cursor })).await;
            sockets.push(socket);
        }
        // One that selects less.
        let mut other = Socket::open(world.address).await;
        other.subscribe("other", "subscription($after: String) { runStatusChanged(after: $after) { to } }", json!({ "after": cursor })).await;
        let mut costs = Vec::new();
        for (verb, status) in [("pauseRun", "PAUSED"), ("resumeRun", "IN_PROGRESS"), ("pauseRun", "PAUSED")] {
            let before = world.db.statements();
            world.act(verb, "run", json!({ "id": run })).await;
            let told = item(&mut whole).await;
            assert_eq!((&told["to"], &told["run"]["campaign"]["name"]), (&json!(status), &json!("Outreach")));
            for socket in &mut sockets {
                assert_eq!(item(socket).await, told);
            }
            costs.push(world.db.statements() - before);
            assert_eq!(item(&mut other).await, json!({ "to": status }));
            heard.push(told);
        }
        // Waiting for another database's transaction takes statements, too, but not each time.
        let cost = costs.iter().min().unwrap();
        assert!(*cost < 2 * CROWD as u64, "{costs:?} statements for a change that {CROWD} hear of");
        let positions: Vec<i64> = heard.iter().map(|item| crate::harness::cursor::position(item["cursor"].as_str().unwrap())).collect();
        assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
        world.end().await;
    }
}

both! {
    /// Subscriptions that select different fields share the rows of an item, and none goes back in
    /// time.
    async fn unlike_subscriptions_share_rows(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("PHONE", 1).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.until_run(&run, "IN_PROGRESS").await;
        let last = async || {
            let log = world.ask_all_events().await;
            let of_run = |event: &&Value| event["runId"] == run && event["kind"].as_str().unwrap().starts_with("run.");
            log.iter().rev().find(of_run).unwrap()["cursor"].clone()
        };
        let begin = last().await;
        let mut sockets = Vec::new();
        for i in 0..CROWD {
            let mut socket = Socket::open(world.address).await;
            let document = format!("subscription($after: String) {{ runStatusChanged(after: $after) {{ cursor to run {{ a{i}: status revision campaign {{ c{i}: name }} }} }} }}");
            socket.subscribe(&format!("s{i}"), &document, json!({ "after": begin })).await;
            sockets.push(socket);
        }
        let mut changes = 0;
        let change = async |changes: &mut usize| {
            let verb = if changes.is_multiple_of(2) { "pauseRun" } else { "resumeRun" };
            world.act(verb, "run", json!({ "id": run })).await;
            *changes += 1;
        };
        // They fall behind, and catch up.
        for _ in 0..30 {
            change(&mut changes).await;
        }
        let (mut heard, last) = (vec![Vec::<Value>::new(); CROWD], last().await);
        for (heard, socket) in heard.iter_mut().zip(&mut sockets) {
            while heard.last().is_none_or(|item| item["cursor"] != last) {
                heard.push(item(socket).await);
            }
        }
        for (i, heard) in heard.iter().enumerate() {
            let (status, name) = (format!("a{i}"), format!("c{i}"));
            let revisions: Vec<i64> = heard.iter().map(|item| item["run"]["revision"].as_i64().unwrap()).collect();
            assert!(revisions.is_sorted(), "{i}: {revisions:?}");
            assert!(heard.iter().all(|item| item["run"][&status].is_string() && item["run"]["campaign"][&name] == "Outreach"));
            let end = heard.last().unwrap();
            assert_eq!(end["run"][&status], end["to"], "the last change is the run's state");
        }
        let mut costs = Vec::new();
        for _ in 0..5 {
            let before = world.db.statements();
            change(&mut changes).await;
            for socket in &mut sockets {
                item(socket).await;
            }
            costs.push(world.db.statements() - before);
        }
        let cost = costs.iter().min().unwrap();
        // Each would read two rows of its own; the change itself takes some statements, too.
        assert!(*cost < CROWD as u64 * 3 / 2, "{costs:?} statements for a change that {CROWD} unlike subscriptions tell");
        world.end().await;
    }
}
