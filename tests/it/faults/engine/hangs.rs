//! One recipient at whom the mail server hangs holds up nobody else: its slot waits, and what is answered is settled at once.

use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::life::Home;
use crate::harness::sink::{Sink, Stage};

const COUNTS: &str =
    "query($id: ID!) { run(id: $id) { status sent: communications(statuses: [SENT]) { totalCount } } }";

both! {
    async fn one_that_hangs_holds_up_no_other(kind) {
        let sink = Sink::start().await;
        let world = World::with(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 30).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let review = world.until_review(&run).await;
        let trapped = sink.trap(Stage::Dot, 3);
        world.act("approveStep", "step", json!({ "id": review })).await;
        trapped.await.unwrap();
        world.until("all others to go", COUNTS, json!({ "id": run }), |data| data["run"]["sent"]["totalCount"] == 29).await;
        let statuses = "SELECT status, COUNT(*) FROM communication GROUP BY status ORDER BY status";
        assert_eq!(world.sql(statuses).await, [["SENDING", "1"], ["SENT", "29"]], "while the one is still in hand");
        // Nor of another campaign.
        let launched = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
        let other = world.ask(launched, json!({ "id": plan.campaign })).await["runCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        let review = world.until_review(&other).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.until("the other campaign's to go", COUNTS, json!({ "id": other }), |data| data["run"]["sent"]["totalCount"] == 30).await;
        // What hangs is settled as soon as it is answered, too.
        if sink.in_hand() == 1 {
            sink.let_go(true);
            world.until_run(&run, "COMPLETED").await;
        }
        world.end().await;
    }
}

both! {
    async fn a_kill_makes_only_what_is_open_unknown(kind) {
        let sink = Sink::start().await;
        let home = Home::new(kind).await.with("SORTIE_SMTP_URL", sink.url()).with("SORTIE_SMTP_SECONDS", "60");
        home.import(12);
        let life = home.begin();
        let campaign = life.campaign().await;
        let run = life.launch(&campaign, "one").await.unwrap();
        let mut trapped = sink.trap(Stage::Dot, 2);
        while trapped.try_recv().is_err() {
            life.push(&run).await.unwrap();
        }
        let sent = |data: &Value| data["run"]["sent"]["totalCount"].as_i64();
        while sent(&life.ask(COUNTS, json!({ "id": run })).await.unwrap()) != Some(11) {}
        life.kill();
        home.gone().await;
        let life = home.begin();
        while life.resolve(&run, |_| true).await == 0 {}
        while life.push(&run).await.unwrap() != "COMPLETED" {}
        life.kill();
        let mut to: Vec<String> = sink.kept().into_iter().map(|mail| mail.to).collect();
        to.sort();
        let all = to.len();
        to.dedup();
        assert_eq!((all, to.len()), (12, 12), "everybody once");
        let unknown = "SELECT COUNT(*) FROM event WHERE kind = 'communication.unknown'";
        assert_eq!(home.count(unknown).await, 1);
        home.check();
        home.remove();
    }
}

both! {
    /// A server that allows few connections, or few messages over each, is used within that, and its channel goes on.
    async fn a_server_that_allows_little_is_used_within_it(kind) {
        for (connections, messages) in [(2, 0), (0, 3), (1, 0)] {
            let sink = Sink::start().await;
            sink.allow(connections, messages);
            let world = World::with(kind, Some(sink.url())).await;
            let plan = world.plan("EMAIL", 30).await;
            world.activate(&plan).await;
            let run = world.launch(&plan).await;
            let review = world.until_review(&run).await;
            world.act("approveStep", "step", json!({ "id": review })).await;
            // The clock of the world stands still: what is put off by seconds would never go.
            assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "30 of 30 sent, 0 failed, 0 skipped");
            assert_eq!(sink.kept().len(), 30);
            world.end().await;
        }
    }
}
