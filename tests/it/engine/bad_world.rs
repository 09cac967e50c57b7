//! Failing dependencies: mail servers that misbehave, databases that go away, full disks, frozen
//! processes, nodes that race. Each run's report agrees with what was actually delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::life::{Home, Life};
use crate::harness::sink::{Sink, Stage};
use crate::harness::{Kind, World, noon, outbox, postgres};

/// Recipients by the mail server's behaviour, with the status that the run reports in the end.
const TREATED: [(&str, &str); 13] = [
    ("refused", "FAILED"),
    ("grey", "SENT"),
    ("dropmail", "SENT"),
    ("stallmail", "SENT"),
    ("late", "FAILED"),
    ("latebusy", "SENT"),
    // From here on the outcome is unknown until a person resolves it.
    ("dropdata", "UNKNOWN"),
    ("dropbody", "UNKNOWN"),
    ("dropdot", "UNKNOWN"),
    ("stalldot", "UNKNOWN"),
    ("half", "UNKNOWN"),
    ("garbage", "UNKNOWN"),
    ("plain", "SENT"),
];

both! {
    async fn a_mail_server_that_behaves_badly(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 0).await;
        for (how, _) in TREATED {
            let input = json!({ "kind": "lead", "externalId": how, "name": how, "email": format!("{how}@example.com"), "attributes": { "first_name": how, "company": "Acme" } });
            world.create("record", input).await;
        }
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        for minute in 0..10 {
            world.clock.set(noon() + chrono::Duration::minutes(minute));
            world.tick(true).await;
        }
        let query = "query($id: ID!) { run(id: $id) { status outcome waitingFor { code } communications(first: 100) { nodes { id toAddress status error } } } }";
        let found = world.ask(query, json!({ "id": run })).await["run"].clone();
        let mut said: BTreeMap<String, Value> = BTreeMap::new();
        for message in found["communications"]["nodes"].as_array().unwrap() {
            said.insert(message["toAddress"].as_str().unwrap().split('@').next().unwrap().to_owned(), message.clone());
        }
        for (how, status) in TREATED {
            assert_eq!(said[how]["status"], status, "{how}: {}", said[how]);
            // A message reported as sent was received once; one reported as failed was not
            // received.
            let kept = sink.read(&format!("{how}@example.com")).len();
            assert!(kept <= 1 && (status != "SENT" || kept == 1) && (status != "FAILED" || kept == 0), "{how}: kept {kept}");
        }
        assert_eq!(found["waitingFor"], json!([{ "code": "RESOLUTION" }]));
        // A person resolves the unknown messages.
        for (how, message) in said.iter().filter(|(_, message)| message["status"] == "UNKNOWN") {
            let kept = !sink.read(&format!("{how}@example.com")).is_empty();
            let resolve = "mutation($id: ID!, $to: Resolution!) { resolveCommunication(input: { id: $id, resolution: $to }) { communication { status } } }";
            world.ask(resolve, json!({ "id": message["id"], "to": if kept { "SENT" } else { "SEND_AGAIN" } })).await;
        }
        world.tick(true).await;
        assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "11 of 13 sent, 2 failed, 0 skipped");
        let to: BTreeSet<String> = sink.kept().into_iter().map(|mail| mail.to).collect();
        assert_eq!((sink.kept().len(), to.len()), (11, 11));
        world.end().await;
    }
}

/// Asserts that each lead got one message, and that the run reports this.
async fn complete(home: &Home, life: &Life, run: &str, leads: usize) {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        match life.push(run).await.as_deref() {
            Some("COMPLETED") => break,
            other => assert!(Instant::now() < deadline, "the run did not complete, it is {other:?}"),
        }
        tokio::task::yield_now().await;
    }
    let told = life.ask("query($id: ID!) { run(id: $id) { outcome } }", json!({ "id": run })).await.unwrap();
    assert_eq!(told["run"]["outcome"], format!("{leads} of {leads} sent, 0 failed, 0 skipped"));
    let mut to = BTreeSet::new();
    for file in outbox(home.folder()) {
        let raw = std::fs::read(&file).unwrap();
        let mail = mail_parser::MessageParser::default().parse(&raw).unwrap();
        if mail.header("X-Sortie-Run").unwrap().as_text() == Some(run) {
            assert!(to.insert(mail.to().unwrap().first().unwrap().address().unwrap().to_owned()), "somebody got two");
        }
    }
    assert_eq!(to.len(), leads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_goes_away_and_comes_back() {
    let Some(mut server) = postgres::Own::start() else { return };
    let name = "sortie_away";
    let folder = std::env::temp_dir().join(format!("sortie_test_{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).unwrap();
    server.create(name).await;
    let home = Home::at(folder, server.url(name));
    home.import(300);
    let life = home.begin();
    let campaign = life.campaign().await;
    for round in 0..4 {
        let run = life.launch(&campaign, &format!("round-{round}")).await.unwrap();
        // While the run is in progress …
        let sent = "SELECT COUNT(*) FROM step WHERE status = 'COMPLETED'";
        let before = home.count(sent).await;
        while home.count(sent).await == before {
            life.push(&run).await;
        }
        // … when each connection is cut, or the whole server dies.
        if round % 2 == 0 {
            for _ in 0..5 {
                home.count("SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").await;
                life.post("query($id: ID!) { run(id: $id) { status } }", json!({ "id": run })).await;
            }
        } else {
            server.kill();
            // The server stays up and reports the outage.
            let told = life.post("{ runs { totalCount } }", json!({})).await.unwrap();
            assert_eq!(told["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{told}");
            server.again();
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while life
            .post("{ viewer { role } runs { totalCount } }", json!({}))
            .await
            .is_none_or(|told| told.get("errors").is_some())
        {
            assert!(Instant::now() < deadline, "it did not come back");
        }
        complete_through_errors(&home, &life, &run, 300).await;
    }
    life.kill();
    home.check();
    home.remove();
}

/// The same, while single queries may still get a broken connection.
async fn complete_through_errors(home: &Home, life: &Life, run: &str, leads: usize) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let query = "query($id: ID!) { run(id: $id) { status steps(filter: { types: [\"review_messages\"], statuses: [AWAITING_APPROVAL] }) { nodes { id } } } }";
    loop {
        let told = life.post(query, json!({ "id": run })).await.unwrap();
        if told["data"]["run"]["status"] == "COMPLETED" {
            break;
        }
        if let Some(step) = told["data"]["run"]["steps"]["nodes"][0]["id"].as_str() {
            life.post("mutation($id: ID!) { approveStep(input: { id: $id }) { step { id } } }", json!({ "id": step }))
                .await;
        }
        assert!(Instant::now() < deadline, "the run did not complete: {told}");
    }
    complete(home, life, run, leads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_fills_and_is_free_again() {
    let folder = std::env::temp_dir().join(format!("sortie_disk_{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).unwrap();
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&folder).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!(
            "\n*** SKIPPED: no small disk can be mounted here (it takes root); the full disk was not tried. ***\n"
        );
        return;
    }
    let url = format!("sqlite://{}", folder.join("sortie.db").display());
    let home = Home::at(folder.clone(), url);
    home.import(300);
    let mut life = home.begin();
    let campaign = life.campaign().await;
    let run = life.launch(&campaign, "full").await.unwrap();
    while life.push(&run).await.as_deref() != Some("IN_PROGRESS") {}
    // The disk is full to the last byte.
    let ballast = folder.join("ballast");
    let mut size = 1024 * 1024;
    let mut file = std::fs::File::create(&ballast).unwrap();
    while size > 0 {
        use std::io::Write;
        if file.write_all(&vec![0; size]).is_err() {
            size /= 2;
        }
    }
    drop(file);
    let deadline = Instant::now() + Duration::from_secs(60);
    let create =
        "mutation { createGoal(input: { name: \"G\", description: \"long enough to need room\" }) { goal { id } } }";
    loop {
        let told = life.post(create, json!({})).await.unwrap();
        if told["errors"][0]["extensions"]["code"] == "INTERNAL" {
            break;
        }
        assert!(Instant::now() < deadline, "writing went on: {told}");
    }
    // The server stays up, and responds to requests that need no disk space.
    assert!(!life.is_over());
    assert_eq!(
        life.ask("query($id: ID!) { run(id: $id) { id } }", json!({ "id": run })).await.unwrap()["run"]["id"],
        run.as_str()
    );
    std::fs::remove_file(&ballast).unwrap();
    complete_through_errors(&home, &life, &run, 300).await;
    life.kill();
    home.check();
    assert!(std::process::Command::new("umount").arg(&folder).status().unwrap().success());
    home.remove();
}

both! {
    async fn who_froze_past_its_lease_comes_too_late(kind) {
        const FEW: usize = 12;
        let sink = Sink::start().await;
        let home = Home::new(kind).await.with("SORTIE_SMTP_URL", sink.url());
        home.import(FEW);
        let frozen = home.begin();
        let campaign = frozen.campaign().await;
        let run = frozen.launch(&campaign, "frozen").await.unwrap();
        let mut reached = sink.trap(Stage::Dot, 1);
        while reached.try_recv().is_err() {
            frozen.push(&run).await;
        }
        frozen.signal("STOP");
        let now = match kind { Kind::Sqlite => "strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')", Kind::Postgres => "now()" };
        let held = format!("SELECT COUNT(*) FROM step WHERE lease_expires_at > {now}");
        while home.count(&held).await > 0 {
            tokio::task::yield_now().await;
        }
        // On Postgres another node takes over meanwhile.
        let other = (kind == Kind::Postgres).then(|| home.begin());
        let went_out = |to: &str| sink.kept().iter().any(|mail| mail.to == to);
        let unknown = "SELECT COUNT(*) FROM communication WHERE status IN ('UNKNOWN', 'SENDING')";
        if let Some(other) = &other {
            let deadline = Instant::now() + Duration::from_secs(60);
            while other.push(&run).await.as_deref() != Some("COMPLETED") {
                other.resolve(&run, went_out).await;
                assert!(Instant::now() < deadline, "the other node did not take over");
            }
            let at_completion = home.count("SELECT COUNT(*) FROM event").await;
            frozen.signal("CONT");
            // Its leases are lost: its late results change nothing, and it keeps working.
            let next = frozen.launch(&campaign, "after").await.unwrap();
            while frozen.push(&next).await.as_deref() != Some("COMPLETED") {
                frozen.resolve(&next, went_out).await;
            }
            assert!(home.count("SELECT COUNT(*) FROM event").await > at_completion);
        } else {
            frozen.signal("CONT");
            let deadline = Instant::now() + Duration::from_secs(60);
            while frozen.push(&run).await.as_deref() != Some("COMPLETED") {
                frozen.resolve(&run, went_out).await;
                assert!(Instant::now() < deadline, "it did not go on");
            }
        }
        assert_eq!(home.count(unknown).await, 0);
        let mut each: BTreeMap<(String, String), usize> = BTreeMap::new();
        for mail in sink.kept() {
            *each.entry((mail.run, mail.to)).or_default() += 1;
        }
        assert!(each.values().all(|count| *count == 1), "{each:?}");
        assert_eq!(each.keys().filter(|(of, _)| *of == run).count(), FEW);
        drop((frozen, other));
        home.check();
        home.remove();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_race_for_steps_and_for_a_schedule() {
    if !postgres::available() {
        return;
    }
    let home = Home::new(Kind::Postgres).await;
    home.import(300);
    let (one, two) = (home.begin(), home.begin());
    let campaign = one.campaign().await;
    let at = chrono::DateTime::from_timestamp(at_in(Duration::from_secs(3)), 0).unwrap().to_rfc3339();
    let schedule =
        "mutation($id: ID!, $at: DateTime!) { scheduleCampaign(input: { campaignId: $id, at: $at }) { run { id } } }";
    let due = two.ask(schedule, json!({ "id": campaign, "at": at })).await.unwrap()["scheduleCampaign"]["run"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let run = one.launch(&campaign, "race").await.unwrap();
    for (life, run) in [(&two, &run), (&one, &due)] {
        complete(&home, life, run, 300).await;
    }
    assert_eq!(home.count("SELECT COUNT(*) FROM event WHERE kind = 'schedule.fired'").await, 1);
    assert_eq!(home.count("SELECT COUNT(*) FROM run").await, 2);
    drop((one, two));
    home.check();
    home.remove();
}

fn at_in(later: Duration) -> i64 {
    let at = std::time::SystemTime::now() + later;
    i64::try_from(at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

both! {
    async fn twenty_keys_asked_a_hundred_times_at_once(kind) {
        const KEYS: usize = 20;
        const TIMES: usize = 100;
        let home = Home::new(kind).await;
        home.import(1);
        let mut life = Arc::new(home.begin());
        let campaign = life.campaign().await;
        let mut runs: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for key in 0..KEYS {
            let mut unanswered = TIMES;
            while unanswered > 0 {
                let mut asked = tokio::task::JoinSet::new();
                for _ in 0..unanswered {
                    let (life, campaign) = (life.clone(), campaign.clone());
                    asked.spawn(async move { life.launch(&campaign, &format!("key-{key}")).await });
                }
                // The server is killed halfway, with requests of one idempotency key in flight.
                let mut answered = 0;
                while let Some(answer) = asked.join_next().await {
                    if let Some(run) = answer.unwrap() {
                        runs.entry(key).or_default().insert(run);
                        unanswered -= 1;
                    }
                    answered += 1;
                    if key == KEYS / 2 && answered == 3 && unanswered > TIMES / 2 {
                        life.signal("KILL");
                    }
                }
                if unanswered > 0 {
                    assert_eq!(key, KEYS / 2);
                    life = Arc::new(home.begin());
                }
            }
        }
        assert!(runs.len() == KEYS && runs.values().all(|made| made.len() == 1), "{runs:?}");
        assert_eq!(home.count("SELECT COUNT(*) FROM run").await, KEYS as i64);
        drop(life);
        home.check();
        home.remove();
    }
}

both! {
    async fn a_stop_gives_back_what_did_not_settle_in_time(kind) {
        let sink = Sink::start().await;
        let home = Home::new(kind).await.with("SORTIE_SMTP_URL", sink.url()).with("SORTIE_SMTP_SECONDS", "60").with("SORTIE_LEASE_SECONDS", "600");
        home.import(3);
        let mut life = home.begin();
        let campaign = life.campaign().await;
        let run = life.launch(&campaign, "stop").await.unwrap();
        let mut reached = sink.trap(Stage::Dot, 1);
        while reached.try_recv().is_err() {
            life.push(&run).await;
        }
        let mut socket = crate::harness::socket::Socket::open(life.address).await;
        let begun = Instant::now();
        life.signal("TERM");
        // Connected clients are told to reconnect.
        assert!(matches!(socket.came().await, crate::harness::socket::Came::Closed(1012)));
        assert!(life.wait(), "it did not stop in order");
        assert!(begun.elapsed() < Duration::from_secs(40));
        assert_eq!(home.count("SELECT COUNT(*) FROM step WHERE lease_owner IS NOT NULL").await, 0);
        assert_eq!(home.count("SELECT COUNT(*) FROM step WHERE lapse_count > 0").await, 0);
        // The next process takes over at once, although the lease was for ten minutes; messages in
        // flight are left to a person.
        let life = home.begin();
        let deadline = Instant::now() + Duration::from_secs(60);
        while life.push(&run).await.as_deref() != Some("COMPLETED") {
            life.resolve(&run, |to| sink.kept().iter().any(|mail| mail.to == to)).await;
            assert!(Instant::now() < deadline, "it did not go on");
        }
        assert_eq!(sink.kept().len(), 3);
        life.kill();
        home.check();
        home.remove();
    }
}
