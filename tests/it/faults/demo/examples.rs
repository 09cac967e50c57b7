//! Runs the commands of docs/examples.md in a shell, in an empty folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::live::Demo;
use crate::harness::life::Home;
use crate::harness::{Kind, World, postgres};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The page's code blocks in a language, joined.
fn lines(language: &str) -> String {
    let page = std::fs::read_to_string(Path::new(HERE).join("docs/examples.md")).unwrap();
    let blocks = page.split("```").skip(1).step_by(2);
    let of = blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    let text: Vec<&str> = of.collect();
    assert!(!text.is_empty());
    text.join("\n")
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs lines in a shell, in a folder with only the examples; returns their output.
fn shell(folder: &Path, lines: &str, env: &[(&str, String)]) -> String {
    std::fs::create_dir_all(folder.join("examples")).unwrap();
    for entry in std::fs::read_dir(Path::new(HERE).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.join("examples").join(path.file_name().unwrap())).unwrap();
        }
    }
    let binary = std::env::var("SORTIE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sortie").to_owned());
    let bin = PathBuf::from(binary).parent().unwrap().display().to_string();
    let lines = lines.replace("cargo build --locked\n", "").replace("$PWD/target/debug", &bin);
    let begin = "set -eu\nSERVER= WAREHOUSE=\ntrap 'kill $SERVER $WAREHOUSE 2>/dev/null || true' EXIT\n";
    std::fs::write(folder.join("lines.sh"), format!("{begin}{lines}")).unwrap();
    let mut sh = Command::new("sh");
    sh.current_dir(folder).arg("lines.sh").env_remove("DATABASE_URL").env("RUST_LOG", "warn,tokio_cron_scheduler=off");
    let done = sh.envs(env.iter().cloned()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let log = std::fs::read_to_string(folder.join("examples-data/sortie.log")).unwrap_or_default();
    assert!(done.status.success(), "{said}\n{log}");
    said
}

both! {
    async fn the_lines_of_the_page_run(kind) {
        if !crate::transport::clients::plain_python() {
            return;
        }
        let home = Home::new(kind).await;
        let (port, warehouse) = (free_port(), free_port());
        let lines = lines("sh").replace("8099", &warehouse.to_string());
        let mut env = vec![
            ("SORTIE_LISTEN", format!("127.0.0.1:{port}")),
            ("SORTIE_URL", format!("http://127.0.0.1:{port}/graphql")),
        ];
        if kind == Kind::Postgres {
            env.push(("DATABASE_URL", home.url.clone()));
        }
        let folder = home.folder().join("empty");
        let said = tokio::task::spawn_blocking(move || shell(&folder, &lines, &env)).await.unwrap();
        // Results that the page promises.
        assert!(said.contains("503 /reservations") && said.contains("201 /reservations") && said.contains("200 /shipments"), "{said}");
        assert!(said.contains("\"stage\": \"Shipped\"") && said.contains("\"stage\": \"Refunded\""), "{said}");
        assert_eq!(said.matches("completed step_").count(), 4, "three drafts, one class: {said}");
        assert!(said.contains("\"status\": \"CANCELLED\"") && !said.contains("WRONG"), "{said}");
        home.remove();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_those_for_the_demo() {
    if !crate::transport::clients::plain_python() {
        return;
    }
    let kind = if postgres::available() { Kind::Postgres } else { Kind::Sqlite };
    let home = Home::new(kind).await;
    let demo = Demo::begin(&home, &[]);
    let folder = home.folder().join("empty");
    let env = [("SORTIE_URL", format!("http://{}/graphql", demo.address))];
    let lines = format!("ask() {{ python3 examples/ask.py \"$@\"; }}\n{}", lines("sh demo"));
    let said = tokio::task::spawn_blocking(move || shell(&folder, &lines, &env)).await.unwrap();
    assert!(said.contains("true"), "{said}");
    drop(demo);
    home.gone().await;
    home.check();
    home.remove();
}
both! {
    async fn the_outreach_over_the_demos_own_leads(kind) {
        let world = World::new(kind).await;
        sortie::app::demo::seed(&world.db, &world.viewer).await.unwrap();
        world.apply(include_str!("../../../../examples/lead-outreach.yaml")).await;
        let goal = world.id_of("goals", "name", "Book a demo").await;
        let segment = world.id_of("segments", "name", "New leads").await;
        let run = world.fly("lead-outreach", json!({ "goalId": goal, "segmentId": segment, "variables": { "sender": "Sam" } })).await;
        let audience = "query($id: ID!) { run(id: $id) { progress { counts { total } } steps(filter: { types: [\"generation\"], statuses: [QUEUED] }) { totalCount } audienceCount } }";
        let made = world.until("its drafts", audience, json!({ "id": run }), |data| data["run"]["steps"]["totalCount"].as_i64() > Some(0) && data["run"]["steps"]["totalCount"] == data["run"]["audienceCount"]).await;
        let count = made["run"]["audienceCount"].as_u64().unwrap();
        assert!(count > 443, "{count}");
        let claim = "mutation { claimSteps(input: { agent: \"email-drafter\", worker: \"w\", limit: 500, leaseSeconds: 600 }) { steps { id token } } }";
        let settle = "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { code } } }";
        let mut settled = 0;
        while settled < count {
            let steps = world.ask(claim, json!({})).await["claimSteps"]["steps"].as_array().unwrap().clone();
            assert!(!steps.is_empty(), "{settled} of {count}");
            settled += steps.len() as u64;
            let result = json!({ "subject": "A demo?", "body": "Dear lead, may I show you what we do?" });
            let ends: Vec<Value> = steps.iter().map(|step| json!({ "id": step["id"], "token": step["token"], "result": result })).collect();
            let done = world.ask(settle, json!({ "steps": ends })).await["settleSteps"]["steps"].clone();
            assert!(done.as_array().unwrap().iter().all(|one| one["code"].is_null()), "{done}");
        }
        let look = world.until_step(&run, "look_over", "PENDING").await;
        for verb in ["startStep", "completeStep"] {
            world.act(verb, "step", json!({ "id": look["id"] })).await;
        }
        // Two steps for each of them: all first mails go.
        let sent = "query($run: ID!) { communications(filter: { runIds: [$run], statuses: [SENT] }) { totalCount } }";
        world.until("the first mails", sent, json!({ "run": run }), |data| data["communications"]["totalCount"] == count).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.end().await;
    }
}
