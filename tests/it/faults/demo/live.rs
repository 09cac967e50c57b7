//! The demo's live activity: it lasts for minutes and can be repeated, is bounded when left alone,
//! and is complete even if its creation was interrupted.

use std::path::Path;

use serde_json::{Value, json};
use sortie::app::demo::{self, live};

use crate::harness::life::Home;
use crate::harness::socket::Socket;
use crate::harness::{Kind, World};

const STEPS: &str = "subscription { stepStatusChanged { name to step { run { name } record { name } } } }";

impl World {
    async fn runs_named(&self, name: &str) -> Vec<Value> {
        let query = "{ runs(first: 100, orderBy: { field: CREATED_AT, direction: ASC }) { nodes { id name status progress { counts { total completed } } } } }";
        let data = self.ask(query, json!({})).await;
        data["runs"]["nodes"].as_array().unwrap().iter().filter(|run| run["name"] == name).cloned().collect()
    }
}

both! {
    async fn a_slow_flight_moves_step_by_step(kind) {
        let world = World::new(kind).await;
        demo::seed(&world.db, &world.viewer).await.unwrap().unwrap();
        let slow = world.runs_named(live::SLOW).await[0]["id"].as_str().unwrap().to_owned();
        let made = "query($id: ID!) { run(id: $id) { progress { counts { total } } } }";
        world.until("its steps", made, json!({ "id": slow }), |data| data["run"]["progress"]["counts"]["total"] == 800).await;
        // Long enough: 400 leads, one every second and a half.
        let mut socket = Socket::open(world.address).await;
        socket.subscribe("live", STEPS, json!({})).await;
        world.followed_by(1).await;
        let mut desk = live::DemoAgent::default();
        for _ in 0..5 {
            assert_eq!(desk.tick(&world.db.write(), &world.viewer).await.unwrap(), 1);
            // Each tick has a visible effect.
            while socket.next().await["stepStatusChanged"]["step"]["run"]["name"] != live::SLOW {}
        }
        // Restarted after a kill, with the dead process's leases still valid: it continues with the
        // next lead, and creates nothing twice.
        let begun = demo::seed(&world.db, &world.viewer).await.unwrap();
        assert!(begun.is_some());
        assert_eq!(world.ask("{ records { totalCount } campaigns { totalCount } runs { totalCount } }", json!({})).await,
            json!({ "records": { "totalCount": demo::LEADS + demo::OTHERS }, "campaigns": { "totalCount": 4 }, "runs": { "totalCount": 4 } }));
        let mut desk = live::DemoAgent::default();
        assert_eq!(desk.tick(&world.db.write(), &world.viewer).await.unwrap(), 1);
        // The visitor's own run proceeds beside it, at its own pace, and its mails are sent one by
        // one.
        let own = world.id_of("campaigns", "name", live::OWN).await;
        let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } preflight { ready } } }";
        let own = world.ask(launch, json!({ "id": own })).await["runCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        world.until_step(&own, "look", "QUEUED").await;
        let before = world.outbox().len();
        for _ in 0..2 {
            assert_eq!(desk.tick(&world.db.write(), &world.viewer).await.unwrap(), 2, "one of each");
        }
        world.until_step(&own, "mail", "COMPLETED").await;
        assert!(world.outbox().len() > before);
        // A paused run does not advance.
        world.act("pauseRun", "run", json!({ "id": slow })).await;
        world.act("cancelRun", "run", json!({ "id": own })).await;
        assert_eq!(desk.tick(&world.db.write(), &world.viewer).await.unwrap(), 0);
        world.end().await;
    }
}

both! {
    async fn it_flies_again_but_not_for_ever(kind) {
        let world = World::new(kind).await;
        demo::seed(&world.db, &world.viewer).await.unwrap();
        let slow = world.runs_named(live::SLOW).await[0]["id"].as_str().unwrap().to_owned();
        let made = "query($id: ID!) { run(id: $id) { progress { counts { total } } } }";
        world.until("its steps", made, json!({ "id": slow }), |data| data["run"]["progress"]["counts"]["total"] == 800).await;
        let mut desk = live::DemoAgent::default();
        desk.tick(&world.db.write(), &world.viewer).await.unwrap();
        // A run that the visitor cancels stays cancelled.
        world.act("cancelRun", "run", json!({ "id": slow })).await;
        world.until_run(&slow, "CANCELLED").await;
        for _ in 0..3 {
            desk.tick(&world.db.write(), &world.viewer).await.unwrap();
        }
        assert_eq!(world.runs_named(live::SLOW).await.len(), 1);
        // Over a few leads, launched by the visitor: it is launched again when it ends, a bounded
        // number of times.
        let segment = world.id_of("segments", "name", "Largest companies").await;
        let one = "{ records(filter: { kind: { eq: \"lead\" } }, first: 1) { nodes { externalId } } }";
        let one = world.ask(one, json!({})).await["records"]["nodes"][0]["externalId"].clone();
        world.ask("mutation($input: UpdateSegmentInput!) { updateSegment(input: $input) { segment { id } } }", json!({ "input": { "id": segment, "filter": { "externalId": { "eq": one } } } })).await;
        let campaign = world.id_of("campaigns", "name", live::SLOW).await;
        // A change that needs a new approval gets one.
        world.post("mutation($id: ID!) { approveCampaign(input: { id: $id }) { campaign { id } } }", json!({ "id": campaign })).await;
        let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, name: \"Slow flight\" }) { run { id } preflight { ready checks { code status message } } } }";
        let launched = world.ask(launch, json!({ "id": campaign })).await;
        assert_eq!(launched["runCampaign"]["preflight"]["ready"], true, "{launched:#}");
        for _ in 0..400 {
            desk.tick(&world.db.write(), &world.viewer).await.unwrap();
            let runs = world.runs_named(live::SLOW).await;
            if runs.len() == 2 + live::AGAIN && runs.iter().all(|run| run["status"] == "COMPLETED" || run["status"] == "CANCELLED") {
                break;
            }
        }
        for _ in 0..3 {
            desk.tick(&world.db.write(), &world.viewer).await.unwrap();
        }
        let runs = world.runs_named(live::SLOW).await;
        assert_eq!(runs.len(), 2 + live::AGAIN, "{runs:#?}");
        assert!(runs.iter().skip(1).all(|run| run["status"] == "COMPLETED"), "{runs:#?}");
        world.end().await;
    }
}

both! {
    async fn a_demo_that_was_half_made_is_completed_and_a_foreign_place_is_refused(kind) {
        let world = World::new(kind).await;
        assert!(!demo::is_foreign(&world.db, &world.viewer).await.unwrap());
        // Killed after the leads.
        let csv = demo::leads(demo::LEADS, world.db.now());
        sortie::domain::import::import(&world.db.write(), &world.viewer, "lead", "demo leads", csv.as_bytes(), |_, _| {}).await.unwrap();
        assert!(!demo::is_foreign(&world.db, &world.viewer).await.unwrap());
        let begun = demo::seed(&world.db, &world.viewer).await.unwrap().unwrap();
        demo::continue_demo(world.db.clone(), world.viewer.clone(), begun).await.unwrap();
        // Killed before the last campaign was created.
        world.force("DELETE FROM campaign_version WHERE campaign_id IN (SELECT id FROM campaign WHERE name = 'Your own flight'); DELETE FROM campaign_approval WHERE campaign_id IN (SELECT id FROM campaign WHERE name = 'Your own flight'); DELETE FROM campaign WHERE name = 'Your own flight'; DELETE FROM event WHERE kind = 'sortie.demo_made'").await;
        let again = demo::seed(&world.db, &world.viewer).await.unwrap().unwrap();
        assert_eq!((again.flight, again.letters), (begun.flight, begun.letters));
        demo::continue_demo(world.db.clone(), world.viewer.clone(), again).await.unwrap();
        let data = world.ask("{ records { totalCount } runs { totalCount } campaigns { totalCount } goals { nodes { name } } writers { totalCount } reviewers { totalCount } replies { totalCount } }", json!({})).await;
        assert_eq!(data["records"]["totalCount"], demo::LEADS + demo::OTHERS);
        assert_eq!((&data["runs"]["totalCount"], &data["campaigns"]["totalCount"], &data["replies"]["totalCount"]), (&json!(4), &json!(4), &json!(2)));
        // No name exists twice.
        assert_eq!((data["goals"]["nodes"].as_array().unwrap().len(), &data["writers"]["totalCount"], &data["reviewers"]["totalCount"]), (2, &json!(1), &json!(1)));
        world.drop_unchecked().await;
        let world = World::new(kind).await;
        world.leads(1).await;
        assert!(demo::is_foreign(&world.db, &world.viewer).await.unwrap());
        world.end().await;
    }
}

/// The real demo process: its address once it is up, and its output; killed on drop.
pub struct Demo {
    pub process: std::process::Child,
    pub address: String,
    pub said: String,
}

impl Demo {
    pub fn begin(home: &Home, more: &[&str]) -> Self {
        let mut command = home.command();
        command.args(["demo", "--listen", "127.0.0.1:0", "--data"]).arg(home.folder()).args(more);
        let mut process = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().unwrap()));
        let mut lines = lines.map_while(Result::ok);
        for line in lines.by_ref() {
            said += &format!("{line}\n");
            if line.contains("Ctrl-C") {
                break;
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        let url = said
            .split_whitespace()
            .find_map(|word| word.strip_suffix("/graphiql"))
            .unwrap_or_else(|| panic!("it did not come up: {said}"));
        Self { process, address: url.trim_start_matches("http://").to_owned(), said: said.clone() }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_in_a_browser() {
    let home = Home::new(Kind::Sqlite).await.with("SORTIE_SMTP_URL", "smtp://127.0.0.1:1");
    let demo = Demo::begin(&home, &[]);
    for told in ["Slow flight", "?live", "Your own flight", "outbox", "Ctrl-C stops", "tab \"Fly\""] {
        assert!(demo.said.contains(told), "{told}: {}", demo.said);
    }
    assert!(!demo.said.contains("over SMTP"), "the demo's mail stays here: {}", demo.said);
    let chromium = std::env::var_os("CHROMIUM").unwrap_or("/usr/bin/chromium".into());
    if crate::transport::clients::node()
        && crate::transport::clients::has(Path::new(&chromium), "install Debian's package chromium")
    {
        let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
        let mut node = std::process::Command::new("node");
        node.current_dir(clients).arg("demo.mjs").arg(format!("http://{}/graphql", demo.address));
        let done = tokio::task::spawn_blocking(move || node.output().unwrap()).await.unwrap();
        assert!(
            done.status.success(),
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    // A second demo in the same folder is rejected, as is one over somebody's own records.
    let mut second = home.command();
    second.args(["demo", "--listen", "127.0.0.1:0", "--data"]).arg(home.folder());
    let second = second.output().unwrap();
    assert!(!second.status.success() && !String::from_utf8_lossy(&second.stdout).contains("Sortie is up"));
    let pid = demo.process.id().to_string();
    assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
    let mut demo = demo;
    assert!(demo.process.wait().unwrap().success());
    // Stopped halfway, it resumes where it was.
    let again = Demo::begin(&home, &[]);
    let slow = home.count("SELECT COUNT(*) FROM run WHERE name = 'Slow flight'").await;
    assert_eq!(slow, 1);
    drop(again);
    home.check();
    home.remove();
    let own = Home::new(Kind::Sqlite).await;
    std::fs::write(own.folder().join("own.csv"), "external_id,name\nX-1,Somebody\n").unwrap();
    assert!(own.run(&["import", "--kind", "lead", own.folder().join("own.csv").to_str().unwrap()]).0);
    let mut foreign = own.command();
    foreign.args(["demo", "--listen", "127.0.0.1:0", "--data"]).arg(own.folder());
    let foreign = foreign.output().unwrap();
    let said = String::from_utf8_lossy(&foreign.stderr).into_owned();
    assert!(!foreign.status.success() && said.contains("no demo") && said.contains("--data"), "{said}");
    own.remove();
}

both! {
    /// The demo's parts are looked up by name only until all of them exist; afterwards the visitor
    /// may rename them, and seeding must not recreate them.
    async fn what_the_visitor_renamed_is_not_made_again(kind) {
        let world = World::new(kind).await;
        demo::seed(&world.db, &world.viewer).await.unwrap().unwrap();
        let counts = "{ records { totalCount } campaigns { totalCount } segments { totalCount } goals { totalCount } writers { totalCount } reviewers { totalCount } messageTemplates { totalCount } runTemplates { nodes { name } } }";
        for (noun, nouns) in [("campaign", "campaigns"), ("segment", "segments"), ("goal", "goals"), ("writer", "writers"), ("runTemplate", "runTemplates")] {
            let all = world.ask(&format!("{{ {nouns}(first: 100) {{ nodes {{ id name }} }} }}"), json!({})).await;
            for one in all[nouns]["nodes"].as_array().unwrap() {
                let big = noun[..1].to_uppercase() + &noun[1..];
                let rename = format!("mutation($i: Update{big}Input!) {{ update{big}(input: $i) {{ {noun} {{ id }} }} }}");
                // Built-in ones and those that a run's snapshot has fixed are rejected.
                world.post(&rename, json!({ "i": { "id": one["id"], "name": format!("My {}", one["name"].as_str().unwrap()) } })).await;
            }
        }
        let before = world.ask(counts, json!({})).await;
        assert!(before.to_string().contains("My "), "{before}");
        demo::seed(&world.db, &world.viewer).await.unwrap();
        assert_eq!(world.ask(counts, json!({})).await, before);
        assert!(!demo::is_foreign(&world.db, &world.viewer).await.unwrap());
        world.end().await;
    }
}

both! {
    async fn a_demo_is_not_made_beside_other_people_s_work(kind) {
        let world = World::without_server(kind, None).await;
        assert!(!demo::is_foreign(&world.db, &world.viewer).await.unwrap());
        world.ask("mutation { createCampaign(input: { name: \"Mine\" }) { campaign { id } } }", json!({})).await;
        assert!(demo::is_foreign(&world.db, &world.viewer).await.unwrap());
        world.end().await;
    }
}
