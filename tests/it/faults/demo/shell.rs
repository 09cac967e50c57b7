//! Errors of the command line: each names what is wrong, where the value came from, and how to fix
//! it.

use std::path::Path;

use sea_orm::{ConnectionTrait, Database};

use crate::harness::life::Home;
use crate::harness::{Kind, place, postgres};

/// Runs a command; returns its error output if it failed.
fn failed(home: &Home, words: &[&str]) -> String {
    let done = home.command().args(words).arg("--data").arg(home.folder()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(!done.status.success(), "{words:?}: {said}");
    said
}

async fn force(url: &str, sql: &str) {
    let db = Database::connect(url).await.unwrap();
    db.execute_unprepared(sql).await.unwrap();
    db.close().await.unwrap();
}

both! {
    async fn a_schema_that_does_not_fit_is_told_with_its_remedy(kind) {
        let (folder, url) = place(kind).await;
        if kind == Kind::Sqlite {
            std::fs::File::create(url.trim_start_matches("sqlite://")).unwrap();
        }
        let home = Home::at(folder, url.clone());
        let file = home.folder().join("leads.csv");
        std::fs::write(&file, "external_id,name\nL-1,Ada\n").unwrap();
        let file = file.to_str().unwrap();
        let manifest = home.folder().join("goals.yaml");
        std::fs::write(&manifest, "goals: [{ name: Grow }]\n").unwrap();
        let plan = ["apply", "--plan", "--file", manifest.to_str().unwrap()];
        let reading = [&["check"][..], &["export"], &["key", "list"], &["org", "list"], &plan];
        let writing = [&["key", "create", "--name", "k", "--role", "ADMIN"][..], &["import", file, "--kind", "lead"], &["org", "create", "--name", "A", "--admin", "A", "--email", "a@example.com"]];
        for words in reading.into_iter().chain(writing) {
            let said = failed(&home, words);
            assert!(said.contains("sortie migrate") && said.contains("is empty") && !said.contains("Query Error"), "{words:?}: {said}");
        }
        assert!(home.run(&["migrate"]).0);
        force(&url, "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_future', 0)").await;
        for words in reading.into_iter().chain(writing).chain([&["migrate"][..], &["serve", "--listen", "127.0.0.1:0"]]) {
            let said = failed(&home, words);
            assert!(said.contains("a newer version of sortie") && said.contains("m9999_future"), "{words:?}: {said}");
        }
        force(&url, "DELETE FROM seaql_migrations WHERE version >= 'm0022'").await;
        for words in reading {
            let said = failed(&home, words);
            assert!(said.contains("older than this program") && said.contains("m0020_audit") && said.contains("sortie migrate"), "{words:?}: {said}");
        }
        home.remove();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_database_and_who_may_not_make_one() {
    let (folder, url) = place(Kind::Sqlite).await;
    let path = url.trim_start_matches("sqlite://").to_owned();
    std::fs::write(&path, "this is a text, and long enough to be looked at as a database".repeat(100)).unwrap();
    let home = Home::at(folder, url.clone());
    for words in [&["check"][..], &["migrate"]] {
        let said = failed(&home, words);
        assert!(said.contains(&format!("{path} is not an SQLite database")), "{said}");
    }
    let elsewhere = Home::at(home.folder().to_owned(), format!("sqlite://{}/nope/x.db", home.folder().display()));
    assert!(failed(&elsewhere, &["export"]).contains("--database-url sqlite://"));
    home.remove();
    let Some(server) = postgres::Own::start() else { return };
    server.create("sortie_rights").await;
    for (more, told) in [("?sslmode=foo", "can't be read: unknown value"), ("?sslmode=require", "TLS: ")] {
        let home = Home::at(std::env::temp_dir(), server.url("sortie_rights") + more);
        assert!(failed(&home, &["migrate"]).contains(told), "{more}");
    }
    let socket = Home::at(std::env::temp_dir(), "postgres://u@/db?host=/run/postgresql".into());
    assert!(failed(&socket, &["migrate"]).contains("for a socket it is postgres://user@localhost/"));
    force(&server.url("sortie_rights"), "CREATE ROLE ro LOGIN").await;
    let url = server.url("sortie_rights").replace("postgres@", "ro@");
    let home = Home::at(std::env::temp_dir(), url);
    let said = failed(&home, &["migrate"]);
    assert!(
        said.contains("GRANT CREATE ON SCHEMA public TO ro") && said.contains("createdb -O ro sortie_rights"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_a_server_has_is_told_with_what_the_server_can_do() {
    let home = Home::new(Kind::Sqlite).await;
    let life = home.begin();
    let manifest = home.folder().join("goals.yaml");
    std::fs::write(&manifest, "goals:\n  - name: Planned\n").unwrap();
    let manifest = manifest.to_str().unwrap();
    for (words, remedy) in [
        (&["serve", "--listen", "127.0.0.1:0"][..], "use that one"),
        (&["key", "revoke", "api_key_01h455vb4pex5vsknk084sn02q"], "revokeApiKey"),
        (&["key", "create", "--name", "k", "--role", "ADMIN"], "createApiKey"),
        (&["import", "-", "--kind", "lead"], "POST /import/records"),
        (&["migrate"], "stop it first"),
        (&["apply", "-f", manifest], "`--plan` works beside it"),
    ] {
        let said = failed(&home, words);
        assert!(said.contains("another process is using") && said.contains(remedy), "{words:?}: {said}");
    }
    // A dry run shows what would be done, also for piped input, and does nothing.
    let (done, said) = home.run(&["apply", "-f", manifest, "--plan"]);
    assert!(done && said.contains("create     goal Planned") && said.contains("1 would be created"), "{said}");
    let mut piped = home.command();
    piped.args(["apply", "--plan", "-f", "-"]).stdin(std::fs::File::open(manifest).unwrap());
    let piped = piped.output().unwrap();
    let said = String::from_utf8_lossy(&piped.stdout);
    assert!(piped.status.success() && said.contains("-: 1 would be created"), "{said}");
    assert_eq!(home.count("SELECT COUNT(*) FROM goal").await, 0);
    life.create("goal", serde_json::json!({ "name": "Made by the server" })).await;
    let taken = life.address.to_string();
    let other = Home::new(Kind::Sqlite).await;
    assert!(failed(&other, &["serve", "--listen", &taken]).contains("another program listens there"));
    life.kill();
    home.remove();
    other.remove();
}

/// Reads a command line with a file of settings.
fn read(words: &[&str], file: Option<&Path>) -> Result<sortie::kernel::config::Config, String> {
    let words = ["sortie", "serve"].iter().chain(words).map(Into::into).collect();
    match sortie::kernel::config::file::read_from(words, file) {
        Ok(cli) => Ok(cli.command.config().unwrap().clone()),
        Err(err) => Err(err.render().to_string()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_name_where_a_wrong_value_is_from() {
    for (given, right) in [
        ("https://a.example", "https://a.example"),
        ("https://A.example:443/", "https://a.example"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://[::1]:80", "http://[::1]"),
        ("app://desk", "app://desk"),
    ] {
        assert_eq!(read(&["--allow-origins", given], None).unwrap().origins(), [right], "{given}");
    }
    for wrong in [
        "*",
        "https://*.example",
        "b.example",
        "null",
        "https://a.example/app",
        "https://u@a.example",
        "https://",
        "localhost:5173",
    ] {
        let told = read(&["--allow-origins", wrong], None).unwrap_err();
        assert!(told.contains("write it like https://app.example.com"), "{wrong}: {told}");
    }
    let home = Home::new(Kind::Sqlite).await;
    let file = home.folder().join("a.toml");
    std::fs::write(&file, "lease-seconds = \"abc\"\n").unwrap();
    let told = read(&[], Some(&file)).unwrap_err();
    assert!(told.contains("a.toml, setting `lease-seconds`: invalid value 'abc'"), "{told}");
    let told = read(&["--lease-seconds", "0"], Some(&file)).unwrap_err();
    assert!(told.starts_with("error: invalid value '0' for '--lease-seconds"), "{told}");
    let home = home.with("SORTIE_LEASE_SECONDS", "abc");
    let said = failed(&home, &["serve"]);
    assert!(said.contains("the environment's SORTIE_LEASE_SECONDS: invalid value 'abc'"), "{said}");
    // An empty setting counts as not set.
    let home = home.with("SORTIE_LEASE_SECONDS", "").with("SORTIE_MODEL_URL", "").with("SORTIE_CONFIG", "");
    for (words, told) in [
        (["--call-secrets", "/nope.toml"], "--call-secrets (SORTIE_CALL_SECRETS): /nope.toml"),
        (["--documents", "/nope.json"], "--documents (SORTIE_DOCUMENTS): /nope.json"),
        (["--mail-from", "x"], "--mail-from (SORTIE_MAIL_FROM)"),
        (["--model-url", "api.example.com/v1"], "--model-url (SORTIE_MODEL_URL)"),
    ] {
        let said = failed(&home, &[&["serve", "--listen", "127.0.0.1:0"][..], &words].concat());
        assert!(said.contains(told), "{words:?}: {said}");
    }
    home.remove();
}
