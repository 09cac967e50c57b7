//! The real binary as a process: started, queried over HTTP, killed, started again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::{Kind, noon, place};

/// Folder, database and environment that the binary's processes share across restarts.
pub struct Home {
    pub folder: PathBuf,
    pub url: String,
    env: Vec<(&'static str, String)>,
    /// True if the servers log to a file.
    logged: bool,
    /// True once a Postgres database has its schema.
    migrated: AtomicBool,
}

/// One process of the binary.
pub struct Life {
    process: Child,
    pub address: std::net::SocketAddr,
    client: reqwest::Client,
}

impl Home {
    pub async fn new(kind: Kind) -> Self {
        let (folder, url) = place(kind).await;
        Self::at(folder, url)
    }

    pub fn at(folder: PathBuf, url: String) -> Self {
        let env = vec![("SORTIE_LEASE_SECONDS", "2".to_owned()), ("SORTIE_SMTP_SECONDS", "5".to_owned())];
        Self { folder, url, env, logged: false, migrated: AtomicBool::new(false) }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// The same home, with servers that log to a file.
    pub fn logged(mut self) -> Self {
        self.logged = true;
        self
    }

    /// Log output of all its servers.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("server.log")).unwrap()
    }

    pub fn command(&self) -> Command {
        let binary = std::env::var("SORTIE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sortie").to_owned());
        let mut command = Command::new(binary);
        command
            .env("DATABASE_URL", &self.url)
            .env("RUST_LOG", "warn,tokio_cron_scheduler=off")
            .envs(self.env.iter().cloned());
        command
    }

    /// Runs a command of the binary to its end and returns its output.
    pub fn run(&self, words: &[&str]) -> (bool, String) {
        // Only `serve`, `demo`, `migrate` and `seed` create a database.
        let file = self.url.strip_prefix("sqlite://");
        if words[0] != "migrate" && file.is_some_and(|file| !Path::new(file).exists()) {
            assert!(self.run(&["migrate"]).0);
        }
        let makes = ["migrate", "serve", "demo", "seed"].contains(&words[0]);
        if file.is_none() && !makes && !self.migrated.swap(true, Ordering::Relaxed) {
            assert!(self.run(&["migrate"]).0);
        }
        let done = self.command().args(words).arg("--data").arg(&self.folder).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        (done.status.success(), said)
    }

    pub fn begin(&self) -> Life {
        self.begin_at(None).unwrap_or_else(|| panic!("the server did not come up"))
    }

    /// Starts a process that exits at a failpoint; none if it exited before it was up.
    pub fn begin_at(&self, failpoint: Option<&str>) -> Option<Life> {
        let mut command = self.command();
        if let Some(failpoint) = failpoint {
            command.env("SORTIE_FAILPOINT", failpoint);
        }
        let serve = command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&self.folder);
        if self.logged {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("server.log"));
            serve.stderr(file.unwrap());
        }
        let mut process = serve.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("POST")));
        let Some(line) = line else {
            process.wait().unwrap();
            return None;
        };
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("http://")).unwrap();
        let address = address.trim_end_matches("/graphql").parse().unwrap();
        // The rest of its output is read and discarded, so that it never blocks on the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Life { process, address, client: crate::harness::client() })
    }

    /// Creates leads `L-0` … with distinct mail addresses.
    pub fn import(&self, leads: usize) {
        let csv = self.folder.join("leads.csv");
        std::fs::write(&csv, sortie::app::demo::leads(leads, noon())).unwrap();
        let (done, said) = self.run(&["import", "--kind", "lead", csv.to_str().unwrap()]);
        assert!(done, "{said}");
    }

    /// Checks the invariants.
    pub fn check(&self) {
        let (holds, said) = self.run(&["check"]);
        assert!(holds, "{said}");
    }

    pub fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a counting statement on the database directly, beside the binary or after its end.
    pub async fn count(&self, sql: &str) -> i64 {
        self.rows(sql).await[0].try_get_by_index(0).unwrap()
    }

    /// The texts that a statement returns.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        self.rows(sql).await.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    /// Waits after a kill until Postgres has finished the dead process's statements, committed or
    /// not.
    pub async fn gone(&self) {
        let others =
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        while self.url.starts_with("postgres") && self.count(others).await > 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn rows(&self, sql: &str) -> Vec<sea_orm::QueryResult> {
        use sea_orm::{ConnectionTrait, Statement};
        let db =
            sortie::kernel::db::Db::connect_read_only(&self.url, sortie::kernel::clock::Clock::real()).await.unwrap();
        let statement = Statement::from_string(db.read().get_database_backend(), sql);
        let rows = db.read().query_all_raw(statement).await.unwrap();
        db.close().await;
        rows
    }
}

impl Life {
    /// The response; none if the server was gone before it arrived.
    pub async fn post(&self, query: &str, variables: Value) -> Option<Value> {
        let request = self.client.post(format!("http://{}/graphql", self.address));
        request.json(&json!({ "query": query, "variables": variables })).send().await.ok()?.json().await.ok()
    }

    /// The data of a response without errors; none if the server was gone before it arrived.
    pub async fn ask(&self, query: &str, variables: Value) -> Option<Value> {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let answer = self.post(query, variables.clone()).await?;
            // A busy machine may take long to connect to the database: as its client does, try again.
            let is_away = answer["errors"][0]["extensions"]["code"] == "UNAVAILABLE";
            if is_away && tokio::time::Instant::now() < deadline {
                continue;
            }
            assert!(answer.get("errors").is_none(), "{query}: {answer:#}");
            return Some(answer["data"].clone());
        }
    }

    pub async fn create(&self, noun: &str, input: Value) -> String {
        let upper = noun[..1].to_uppercase() + &noun[1..];
        let query =
            format!("mutation($input: Create{upper}Input!) {{ create{upper}(input: $input) {{ {noun} {{ id }} }} }}");
        let data = self.ask(&query, json!({ "input": input })).await.unwrap();
        data[format!("create{upper}")][noun]["id"].as_str().unwrap().to_owned()
    }

    /// Creates an active campaign over all leads.
    pub async fn campaign(&self) -> String {
        let campaign = self.create("campaign", json!({
            "name": "Killed", "variables": { "offer": "a trial" },
            "goalId": self.create("goal", json!({ "name": "Survive" })).await,
            "writerId": self.create("writer", json!({ "name": "House" })).await,
            "reviewerId": self.create("reviewer", json!({ "name": "Duty" })).await,
            "messageTemplateId": self.create("messageTemplate", json!({ "name": "Hello", "subject": "Hi {{ first_name }}", "body": "{{ offer }}" })).await,
            "segmentId": self.create("segment", json!({ "name": "All", "filter": { "all": true } })).await,
        })).await;
        for verb in ["submitCampaign", "approveCampaign"] {
            let query = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ preflight {{ ready }} }} }}");
            assert_eq!(self.ask(&query, json!({ "id": campaign })).await.unwrap()[verb]["preflight"]["ready"], true);
        }
        campaign
    }

    /// Launches a run with an idempotency key; none if the server was gone before its response.
    pub async fn launch(&self, campaign: &str, key: &str) -> Option<String> {
        let query = "mutation($id: ID!, $key: String!) { runCampaign(input: { campaignId: $id, evenIfOpen: true, idempotencyKey: $key }) { run { id } } }";
        let data = self.ask(query, json!({ "id": campaign, "key": key })).await?;
        Some(data["runCampaign"]["run"]["id"].as_str().unwrap().to_owned())
    }

    /// Approves the review if it is pending; returns the run's status.
    pub async fn push(&self, run: &str) -> Option<String> {
        let query = "query($id: ID!) { run(id: $id) { status steps(filter: { types: [\"review_messages\"], statuses: [AWAITING_APPROVAL] }) { nodes { id } } } }";
        let data = self.ask(query, json!({ "id": run })).await?;
        if let Some(step) = data["run"]["steps"]["nodes"][0]["id"].as_str() {
            // An earlier attempt of ours may have succeeded before the server was gone.
            self.post(
                "mutation($id: ID!) { approveStep(input: { id: $id }) { step { status } } }",
                json!({ "id": step }),
            )
            .await?;
        }
        Some(data["run"]["status"].as_str().unwrap().to_owned())
    }

    /// Resolves each unknown message by what was actually delivered. Returns their number.
    pub async fn resolve(&self, run: &str, went_out: impl Fn(&str) -> bool) -> usize {
        let query = "query($id: ID!) { run(id: $id) { communications(statuses: [UNKNOWN], first: 500) { nodes { id toAddress } } } }";
        let data = self.ask(query, json!({ "id": run })).await.unwrap();
        let unknown = data["run"]["communications"]["nodes"].as_array().unwrap();
        for message in unknown {
            let resolution = if went_out(message["toAddress"].as_str().unwrap()) { "SENT" } else { "SEND_AGAIN" };
            let resolve = "mutation($id: ID!, $to: Resolution!) { resolveCommunication(input: { id: $id, resolution: $to }) { communication { status } } }";
            self.ask(resolve, json!({ "id": message["id"], "to": resolution })).await.unwrap();
        }
        unknown.len()
    }

    /// Resident memory of the process, in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// CPU time of the process, in user and system mode.
    pub fn cpu(&self) -> std::time::Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // A tick is 10 ms on Linux.
        std::time::Duration::from_millis(ticks * 10)
    }

    /// True if the process has exited by itself.
    pub fn is_over(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status().unwrap();
        assert!(done.success());
    }

    pub fn wait(&mut self) -> bool {
        self.process.wait().unwrap().success()
    }

    pub fn kill(mut self) {
        // SIGKILL: no shutdown, no cleanup.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // A failing test leaves no server behind.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
