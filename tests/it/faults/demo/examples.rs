//! The lines of docs/examples.md, run by a shell in an empty folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::live::Demo;
use crate::harness::life::Home;
use crate::harness::{Kind, postgres};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The blocks of the page in a language, one after the other.
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

/// Runs lines in a shell, in a folder that has the examples and nothing else; what they said.
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
    let lines = lines.replace("cargo build --release\n", "").replace("$PWD/target/release", &bin);
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
        if !crate::clients::plain_python() {
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
        // What the page promises.
        assert!(said.contains("503 /reservations") && said.contains("201 /reservations") && said.contains("200 /shipments"), "{said}");
        assert!(said.contains("\"stage\": \"Shipped\"") && said.contains("\"stage\": \"Refunded\""), "{said}");
        assert_eq!(said.matches("completed step_").count(), 4, "three drafts, one class: {said}");
        assert!(said.contains("\"status\": \"CANCELLED\"") && !said.contains("WRONG"), "{said}");
        home.remove();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_those_for_the_demo() {
    if !crate::clients::plain_python() {
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
