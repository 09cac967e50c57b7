//! The typed clients of `examples/`: each is generated, type-checked and built against
//! `schema.graphql`, and run against a server that has a campaign to launch, on each database.

use std::path::Path;
use std::process::Command;

use super::{has, key};
use crate::harness::life::Home;
use crate::harness::{Kind, postgres};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// One of the typed clients.
#[derive(Clone, Copy)]
struct Example {
    folder: &'static str,
    /// A file of what `.ci/run` installs for it, and the command that installs it.
    installed: (&'static str, &'static str),
    /// The lines that generate, check and build it.
    build: &'static str,
    program: &'static str,
    language: &'static str,
}

const TYPESCRIPT: Example = Example {
    folder: "client-ts",
    installed: ("node_modules", "run `npm ci --ignore-scripts` in examples/client-ts"),
    build: "npm run codegen && npm run build",
    program: "node dist/main.js",
    language: "TypeScript",
};

const PYTHON: Example = Example {
    folder: "client-py",
    installed: (
        ".venv/bin/ariadne-codegen",
        "run `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in examples/client-py",
    ),
    build: ".venv/bin/ariadne-codegen && .venv/bin/mypy .",
    program: ".venv/bin/python main.py",
    language: "Python",
};

const RUST: Example = Example {
    folder: "client-rs",
    installed: ("target/debug/sortie-client-rs", "run `cargo build --locked` in examples/client-rs"),
    build: "cargo build --locked --offline --target-dir target",
    program: "target/debug/sortie-client-rs",
    language: "Rust",
};

impl Example {
    /// Runs a line of shell in its folder; returns whether it succeeded, and its output.
    async fn shell(self, line: String, env: Vec<(&'static str, String)>) -> (bool, String) {
        let run = move || {
            let mut sh = Command::new("sh");
            sh.current_dir(Path::new(EXAMPLES).join(self.folder)).args(["-c", &line]).envs(env).output().unwrap()
        };
        let done = tokio::task::spawn_blocking(run).await.unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        (done.status.success(), said)
    }

    async fn works(self) {
        let (path, how) = self.installed;
        if !has(&Path::new(EXAMPLES).join(self.folder).join(path), how) {
            return;
        }
        let (built, said) = self.shell(self.build.to_owned(), Vec::new()).await;
        assert!(built, "{said}");
        self.runs_on(Kind::Sqlite).await;
        if postgres::available() {
            self.runs_on(Kind::Postgres).await;
        }
    }

    async fn runs_on(self, kind: Kind) {
        let home = Home::new(kind).await;
        home.import(3);
        // Without a key the server takes requests of everybody on this machine: of this test.
        let life = home.begin();
        life.campaign().await;
        life.kill();
        home.gone().await;
        // The first key must be an admin's.
        key(&home, "ADMIN");
        let key = key(&home, "OPERATOR");
        let life = home.begin();
        let url = format!("http://{}/graphql", life.address);
        let run = |campaign: &str, key: &str| {
            let env = vec![("SORTIE_URL", url.clone()), ("SORTIE_KEY", key.to_owned())];
            self.shell(format!("{} {campaign}", self.program), env)
        };
        let (worked, said) = run("Killed", &key).await;
        assert!(worked, "{said}");
        let works = format!("the typed client in {} works", self.language);
        for promised in [
            "twice with one key: one run",
            "cut the connection, launched two more",
            "each once, in the order of the log",
            "page of 2: 2 of 3 cancelled runs",
            "page of 1: 3 of 3 cancelled runs",
            works.as_str(),
        ] {
            assert!(said.contains(promised), "{promised}: {said}");
        }
        assert_eq!(said.matches("-> CANCELLED").count(), 3, "{said}");
        // What is not as promised is told in a line, with an exit code.
        let (worked, said) = run("Nowhere", &key).await;
        assert!(!worked && said.contains("there is no active campaign \"Nowhere\""), "{said}");
        let (worked, said) = run("Killed", "sortie_wrong").await;
        assert!(!worked && said.contains("invalid credentials"), "{said}");
        life.kill();
        home.gone().await;
        home.check();
        home.remove();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typescript() {
    TYPESCRIPT.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python() {
    PYTHON.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust() {
    RUST.works().await;
}
