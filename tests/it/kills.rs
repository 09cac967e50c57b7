//! The real binary, killed at random moments of a run: it completes, and each address gets exactly one message.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::harness::{outbox, place};

const LEADS: usize = 500;
const KILLS: usize = 10;

struct Life {
    process: Child,
    address: String,
}

fn begin(folder: &std::path::Path, url: &str) -> Life {
    let mut process = sortie(url)
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains("POST")).unwrap().unwrap();
    let address = line.split_whitespace().find(|word| word.starts_with("http")).unwrap().to_owned();
    // What else it prints is read and thrown away, so that it never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    Life { process, address }
}

fn sortie(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sortie"));
    command.env("DATABASE_URL", url).env("SORTIE_LEASE_SECONDS", "2").env("RUST_LOG", "off");
    command
}

impl Life {
    async fn ask(&self, query: &str, variables: Value) -> Option<Value> {
        let request =
            reqwest::Client::new().post(&self.address).json(&json!({ "query": query, "variables": variables }));
        let answer: Value = request.send().await.ok()?.json().await.ok()?;
        assert!(answer.get("errors").is_none(), "{query}: {answer:#}");
        Some(answer["data"].clone())
    }

    async fn create(&self, noun: &str, input: Value) -> String {
        let upper = noun[..1].to_uppercase() + &noun[1..];
        let query =
            format!("mutation($input: Create{upper}Input!) {{ create{upper}(input: $input) {{ {noun} {{ id }} }} }}");
        let data = self.ask(&query, json!({ "input": input })).await.unwrap();
        data[format!("create{upper}")][noun]["id"].as_str().unwrap().to_owned()
    }

    /// Approves the review, if it awaits that; says the run's status.
    async fn push(&self, run: &str) -> Option<String> {
        let query = "query($id: ID!) { run(id: $id) { status steps(filter: { types: [\"review_messages\"], statuses: [AWAITING_APPROVAL] }) { nodes { id } } } }";
        let data = self.ask(query, json!({ "id": run })).await?;
        if let Some(step) = data["run"]["steps"]["nodes"][0]["id"].as_str() {
            self.ask(
                "mutation($id: ID!) { approveStep(input: { id: $id }) { step { status } } }",
                json!({ "id": step }),
            )
            .await?;
        }
        Some(data["run"]["status"].as_str().unwrap().to_owned())
    }

    fn kill(mut self) {
        // SIGKILL: nothing is said, nothing is tidied up.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

both! {
    async fn ten_kills_and_nothing_is_lost_or_sent_twice(kind) {
        let (folder, url) = place(kind).await;
        let csv = folder.join("leads.csv");
        std::fs::write(&csv, sortie::demo::leads(LEADS, crate::harness::noon())).unwrap();
        let imported = sortie(&url).args(["import", "--kind", "lead", "--data"]).arg(&folder).arg(&csv).output().unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        let mut life = begin(&folder, &url);
        if kind == crate::harness::Kind::Sqlite {
            // A second process on the same file is turned away.
            let second = sortie(&url).args(["migrate", "--data"]).arg(&folder).output().unwrap();
            let told = String::from_utf8_lossy(&second.stderr).into_owned();
            assert!(!second.status.success() && told.contains("another process is using"), "{told}");
        }
        let campaign = life.create("campaign", json!({
            "name": "Killed", "variables": { "offer": "a trial" },
            "goalId": life.create("goal", json!({ "name": "Survive" })).await,
            "writerId": life.create("writer", json!({ "name": "House" })).await,
            "reviewerId": life.create("reviewer", json!({ "name": "Duty" })).await,
            "messageTemplateId": life.create("messageTemplate", json!({ "name": "Hello", "subject": "Hi {{ first_name }}", "body": "{{ offer }}" })).await,
            "segmentId": life.create("segment", json!({ "name": "All", "filter": {} })).await,
        })).await;
        for verb in ["submitCampaign", "approveCampaign"] {
            let query = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ preflight {{ ready }} }} }}");
            assert_eq!(life.ask(&query, json!({ "id": campaign })).await.unwrap()[verb]["preflight"]["ready"], true);
        }
        let launched = life.ask("mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } } }", json!({ "id": campaign })).await.unwrap();
        let run = launched["runCampaign"]["run"]["id"].as_str().unwrap().to_owned();

        let seed: u64 = std::env::var("SORTIE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(42);
        let mut random = StdRng::seed_from_u64(seed);
        let mut inside = 0;
        for _ in 0..KILLS {
            let until = Instant::now() + Duration::from_millis(random.random_range(20..450));
            let mut status = String::new();
            while Instant::now() < until {
                status = life.push(&run).await.unwrap_or_default();
                tokio::task::yield_now().await;
            }
            inside += usize::from(status != "COMPLETED");
            life.kill();
            life = begin(&folder, &url);
        }
        assert_eq!(inside, KILLS, "the run was over before the kills were (seed {seed})");
        let deadline = Instant::now() + Duration::from_secs(120);
        while life.push(&run).await.as_deref() != Some("COMPLETED") {
            assert!(Instant::now() < deadline, "the run did not complete after the kills (seed {seed})");
        }
        let mut messages: HashMap<String, usize> = HashMap::new();
        for file in outbox(&folder) {
            let raw = std::fs::read(&file).unwrap();
            let mail = mail_parser::MessageParser::default().parse(&raw).unwrap();
            *messages.entry(mail.to().unwrap().first().unwrap().address().unwrap().to_owned()).or_default() += 1;
        }
        assert_eq!(messages.len(), LEADS, "seed {seed}");
        assert!(messages.values().all(|count| *count == 1), "somebody got two (seed {seed})");
        let query = "query($id: ID!) { run(id: $id) { outcome progress { counts { total completed } } communications(statuses: [SENT]) { totalCount } } }";
        let data = life.ask(query, json!({ "id": run })).await.unwrap();
        assert_eq!(data["run"]["outcome"], format!("{LEADS} of {LEADS} sent, 0 failed, 0 skipped"));
        assert_eq!(data["run"]["communications"]["totalCount"], LEADS);
        assert_eq!(data["run"]["progress"]["counts"], json!({ "total": 2 * LEADS + 2, "completed": 2 * LEADS + 2 }));
        life.kill();
        let _ = std::fs::remove_dir_all(&folder);
    }
}
