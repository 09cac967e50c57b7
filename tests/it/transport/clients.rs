//! Third-party clients and audits against the real binary: npm's graphql-http audits, graphql-ws,
//! graphql-sse and Apollo, Python's gql, and GraphiQL in headless Chromium. `.ci/run` installs what
//! they need; without it they are skipped, with a message.

mod examples;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Kind;
use crate::harness::life::Home;

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// True if a client's prerequisite is installed. Panics if it is missing and
/// `SORTIE_REQUIRE_CLIENTS` is set.
pub fn has(what: &Path, how: &str) -> bool {
    if what.exists() {
        return true;
    }
    let required = std::env::var_os("SORTIE_REQUIRE_CLIENTS").is_some();
    assert!(!required, "{} is missing: {how}", what.display());
    eprintln!("SKIPPED: {} is missing: {how}", what.display());
    false
}

pub fn node() -> bool {
    has(&Path::new(CLIENTS).join("node_modules"), "run `npm ci --ignore-scripts` in tests/clients")
}

/// Creates an API key while no server runs.
fn key(home: &Home, role: &str) -> String {
    let (made, said) = home.run(&["key", "create", "--name", "client", "--role", role]);
    assert!(made, "{said}");
    said.lines().find(|line| line.starts_with("sortie_")).unwrap().to_owned()
}

/// Runs a client against a server of its own; with an API key if the server has authentication.
async fn run(program: &Path, script: &str, with_key: bool) {
    let home = Home::new(Kind::Sqlite).await;
    let key = with_key.then(|| key(&home, "ADMIN"));
    let life = home.begin();
    let url = format!("http://{}/graphql", life.address);
    let mut command = Command::new(program);
    command.current_dir(CLIENTS).arg(script).arg(&url).args(key);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{script}: {said}");
    life.kill();
    home.check();
    home.remove();
}

/// True if Python is installed; only its standard library is needed.
pub fn plain_python() -> bool {
    let runs = Command::new("python3").arg("--version").output().is_ok_and(|done| done.status.success());
    runs || has(Path::new("/usr/bin/python3"), "install Python 3")
}

/// Python with the client `gql`.
fn python() -> Option<PathBuf> {
    let python = Path::new(CLIENTS).join(".venv/bin/python");
    let how = "run `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in tests/clients";
    has(&python, how).then_some(python)
}

macro_rules! npm {
    ($($name:ident: $script:literal, $with_key:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if node() {
                run(Path::new("node"), $script, $with_key).await;
            }
        }
    )*};
}

npm! {
    graphql_over_http_passes_all_audits: "audits.mjs", false;
    and_all_audits_with_a_key: "audits.mjs", true;
    graphql_ws: "ws.mjs", false;
    graphql_ws_with_a_key: "ws.mjs", true;
    graphql_ws_resumes_as_the_example_does: "resume.mjs", true;
    graphql_sse: "sse.mjs", false;
    graphql_sse_with_a_key: "sse.mjs", true;
    apollo: "apollo.mjs", true;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphiql_in_a_browser() {
    let chromium = std::env::var_os("CHROMIUM").map_or("/usr/bin/chromium".into(), PathBuf::from);
    if node() && has(&chromium, "install Debian's package chromium") {
        run(Path::new("node"), "graphiql.mjs", false).await;
        run(Path::new("node"), "graphiql.mjs", true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gql_of_python() {
    if let Some(python) = python() {
        run(&python, "client.py", true).await;
    }
}
