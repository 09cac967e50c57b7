//! The real binary as a process: seeding, start, requests, and its cost in CPU and memory.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::client::Client;
use crate::{Size, client};

/// A database, and a folder for the outbox. Removed at the end if it was created here.
pub struct Home {
    pub url: String,
    folder: PathBuf,
    made: bool,
}

impl Home {
    /// `sqlite` means a file in a temporary folder.
    pub fn at(place: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sortie_speed_{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let url = match place {
            "sqlite" => format!("sqlite://{}", folder.join("sortie.db").display()),
            url => url.to_owned(),
        };
        Self { url, folder, made: true }
    }

    pub fn kind(&self) -> &'static str {
        if self.url.starts_with("postgres") { "Postgres" } else { "SQLite" }
    }

    fn command(&self) -> Command {
        let binary = std::env::var("SORTIE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sortie").to_owned());
        let mut command = Command::new(binary);
        command.env("DATABASE_URL", &self.url).env("RUST_LOG", "error").env("SORTIE_DATA", &self.folder);
        command
    }

    /// Seeds the database unless it has rows already.
    pub fn seed(&self, size: Size) {
        let (campaigns, runs) = (size.campaigns.to_string(), size.runs.to_string());
        let words = ["seed", "--campaigns", &campaigns, "--runs", &runs, "--steps-per-run", "5"];
        let done = self.command().args(words).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() || said.contains("seed an empty database"), "{said}");
        print!("{}", String::from_utf8_lossy(&done.stdout));
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Seconds on a core.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    pub server: f64,
    /// CPU seconds of Postgres; none on SQLite, which runs within the server.
    pub database: Option<f64>,
}

impl Cpu {
    pub fn since(self, before: Self) -> Self {
        let database = self.database.zip(before.database).map(|(now, before)| now - before);
        Self { server: self.server - before.server, database }
    }
}

/// A running server.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
    pub postgres: bool,
}

impl Server {
    pub async fn start(home: &Home) -> Self {
        let mut command = home.command();
        let serve = command.args(["serve", "--listen", "127.0.0.1:0"]);
        let mut process = serve.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("POST"))).expect("the server is up");
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("http://")).unwrap();
        let address = address.trim_end_matches("/graphql").parse().unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address, postgres: home.kind() == "Postgres" }
    }

    pub fn stop(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub async fn ask(&self, query: &str, variables: Value) -> Value {
        Client::connect(self.address).await.ask(query, variables).await
    }

    pub fn cpu(&self) -> Cpu {
        let database = self.postgres.then(|| postgres_processes().map(seconds).sum());
        Cpu { server: seconds(self.process.id()), database }
    }

    /// Resident memory in KiB: current and peak.
    pub fn memory(&self) -> [u64; 2] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        ["VmRSS:", "VmHWM:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        })
    }

    pub async fn create(&self, noun: &str, input: Value) -> String {
        let upper = noun[..1].to_uppercase() + &noun[1..];
        let query =
            format!("mutation($input: Create{upper}Input!) {{ create{upper}(input: $input) {{ {noun} {{ id }} }} }}");
        let data = self.ask(&query, json!({ "input": input })).await;
        data[format!("create{upper}")][noun]["id"].as_str().unwrap().to_owned()
    }

    /// Creates records of a kind of their own, and an active campaign over them.
    pub async fn campaign(&self, channel: &str, records: usize) -> String {
        self.campaign_of(channel, records, Value::Null).await
    }

    /// The same with a run template. The template is part of the approved version, so it is set at
    /// creation.
    pub async fn campaign_of(&self, channel: &str, records: usize, template: Value) -> String {
        // Kinds are letters only.
        let kind: String = uuid::Uuid::new_v4().as_bytes().iter().map(|byte| char::from(b'a' + byte % 26)).collect();
        let mut client = Client::connect(self.address).await;
        // As many records per file as the body limit allows.
        for chunk in (0..records).collect::<Vec<_>>().chunks(5_000) {
            let mut csv = String::from("external_id,name,first_name,email,phone,company,stage\n");
            for i in chunk {
                csv += &format!("{kind}-{i},Lead {i},First{i},{kind}-{i}@example.com,+1555{i:07},Acme,New\n");
            }
            let path = format!("/import/records?kind={kind}&file=speed.csv");
            let report = client.post(&path, "text/csv", csv.as_bytes()).await;
            let report: Value = serde_json::from_slice(report).unwrap();
            assert_eq!(report["created"], json!(chunk.len()), "{report:#}");
        }
        let mut input = json!({
            "name": format!("Speed {kind}"), "channel": channel, "variables": { "offer": "a trial" },
            "goalId": self.create("goal", json!({ "name": "Be quick" })).await,
            "writerId": self.create("writer", json!({ "name": "House", "body": "Call {{ first_name }}" })).await,
            "segmentId": self.create("segment", json!({ "name": kind, "filter": { "kind": { "eq": kind } } })).await,
        });
        if !template.is_null() {
            input["runTemplateId"] = template;
        }
        if channel == "EMAIL" {
            let template = json!({ "name": "Hello", "subject": "Hi {{ first_name }}", "body": "Dear {{ first_name }},\n{{ offer }} for {{ company }}.\n" });
            input["messageTemplateId"] = json!(self.create("messageTemplate", template).await);
            input["reviewerId"] = json!(self.create("reviewer", json!({ "name": "Duty" })).await);
        }
        let campaign = self.create("campaign", input).await;
        for verb in ["submitCampaign", "approveCampaign"] {
            let query = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ campaign {{ id }} }} }}");
            self.ask(&query, json!({ "id": campaign })).await;
        }
        campaign
    }

    /// Launches a run of the campaign.
    pub async fn launch(&self, campaign: &str) -> String {
        let query = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } preflight { checks { status message } } } }";
        let data = self.ask(query, json!({ "id": campaign })).await;
        data["runCampaign"]["run"]["id"].as_str().unwrap_or_else(|| panic!("{data:#}")).to_owned()
    }

    /// Polls a run until it meets a condition.
    pub async fn until(&self, run: &str, fields: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let query = format!("query($id: ID!) {{ run(id: $id) {{ status {fields} }} }}");
        let mut client = Client::connect(self.address).await;
        let deadline = Instant::now() + std::time::Duration::from_secs(1_800);
        loop {
            let now = client.ask(&query, json!({ "id": run })).await["run"].clone();
            if wanted(&now) {
                return now;
            }
            assert!(Instant::now() < deadline && now["status"] != "FAILED", "{now:#}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

fn postgres_processes() -> impl Iterator<Item = u32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|id| std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == "postgres"))
}

/// CPU seconds of a process, in user and system mode. A tick is 10 ms on Linux.
fn seconds(process: u32) -> f64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return 0.0 };
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) as f64 / 100.0
}

/// Measures the time from the start of the process to its first response.
pub async fn start_up(home: &Home) {
    let mut all = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let server = Server::start(home).await;
        server.ask("{ viewer { role } }", json!({})).await;
        all.push(begun.elapsed());
        server.stop();
    }
    all.sort();
    println!("Start-up, to the first answer: {:.0} ms (the median of five)\n", client::percentile(&all, 50));
}
