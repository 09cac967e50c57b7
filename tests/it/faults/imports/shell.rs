//! The command line: importing and exporting files, help, rejected arguments, and readers that
//! close the pipe.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use sortie::app::seed::Size;

use crate::harness::life::Home;
use crate::harness::{Kind, World};

/// Runs the binary in a folder; returns its exit code and output.
fn run(home: &Home, words: &[&str]) -> (i32, String) {
    let done = home.command().env_remove("DATABASE_URL").args(words).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.code().unwrap(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_says_what_it_did_and_fails_where_something_is_missing() {
    let home = Home::new(Kind::Sqlite).await;
    let folder = home.folder().display().to_string();
    let file = home.folder().join("leads.csv");
    let import = |text: &str, more: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let words = [&["import", file.to_str().unwrap(), "--kind", "lead", "--data", &folder], more].concat();
        run(&home, &words)
    };
    assert_eq!(run(&home, &["migrate", "--data", &folder]).0, 0);
    let (code, said) = import("External ID;Mail;Emial;employees\nL-1;ada@example.com;x;12\n", &[]);
    let columns = "columns: External ID → external_id, Mail → email, Emial → attributes.Emial (text), \
                   employees → attributes.employees (number)";
    assert!(code == 0 && said.contains(columns) && said.contains("warning: the column `Emial`"), "{code}: {said}");
    assert!(said.contains("1 rows: 1 created, 0 updated, 0 unchanged, 0 left out; 0 fields left out."), "{said}");
    let map =
        ["--map", "Tel=phone", "--map", "Junk=", "--types", "employees=text", "--region", "us", "--delimiter", "|"];
    let (code, said) = import("external_id|Tel|Junk|employees\nL-1|(212) 555-1234|x|12\n", &map);
    assert!(code == 0 && said.contains("Tel → phone") && said.contains("Junk → not read"), "{code}: {said}");
    for (text, more, right) in [
        ("external_id,phone\nL-1,call me\n", &[][..], "line 2, column phone: `call me` is not a telephone number"),
        ("external_id,phone\n,\n,x\n", &[], "line 3, column external_id: must not be blank"),
        ("external_id,name\nL-1,\"Ada\nL-2,Bo\n", &[], "line 2: the quote opened in line 2 is not closed"),
    ] {
        let (code, said) = import(text, more);
        assert!(code == 3 && said.contains(right), "{code}: {said}");
    }
    for (text, more, right) in [
        ("", &[][..], "file: is empty"),
        ("name\n", &[], "the column `external_id` is missing"),
        ("PK\u{3}\u{4} xl/", &[], "Excel workbook"),
        ("external_id\nL-1\n", &["--map", "Mail=email"], "there is no column `Mail`"),
    ] {
        let (code, said) = import(text, more);
        assert!(code == 1 && said.contains(right), "{code}: {said}");
    }
    let words = ["import", "/nowhere/leads.csv", "--kind", "lead", "--data", &folder];
    assert!(run(&home, &words).1.contains("/nowhere/leads.csv: No such file"));
    home.check();
    home.remove();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help_shows_a_command_s_own_options_first() {
    let home = Home::new(Kind::Sqlite).await;
    for (words, own, lines) in [
        (&["import"][..], "--map", 90),
        (&["export"], "--org", 45),
        (&["apply"], "--plan", 45),
        (&["seed"], "--steps-per-run", 45),
        (&["key", "create"], "--role", 60),
        (&["org", "list"], "--data", 40),
        (&["check"], "--data", 40),
    ] {
        for flag in ["--help", "-h"] {
            let (code, said) = run(&home, &[words, &[flag]].concat());
            assert_eq!(code, 0);
            let (at, settings) = (said.find(own).unwrap(), said.find("Settings:").unwrap());
            assert!(at < settings || own == "--data", "{words:?}: {said}");
            assert!(!said.contains("--ping-seconds") && said.contains("--database-url"), "{words:?}: {said}");
            assert!(said.lines().count() < lines, "{words:?}: {} lines", said.lines().count());
        }
    }
    let (_, said) = run(&home, &["import", "--help"]);
    for column in ["external_id", "last_contacted_at", "unsubscribed_at", "Exit codes", "windows-1252"] {
        assert!(said.contains(column), "{column}: {said}");
    }
    assert!(run(&home, &["serve", "--help"]).1.contains("--ping-seconds"));
    home.remove();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_to_listen_at_as_people_write_them() {
    let home = Home::new(Kind::Sqlite).await;
    for (at, shown) in [
        ("localhost:0", "http://127.0.0.1:"),
        (":0", "http://127.0.0.1:"),
        ("0", "http://127.0.0.1:"),
        ("[::1]:0", "http://[::1]:"),
    ] {
        let serve = ["serve", "--listen", at, "--data", home.folder().to_str().unwrap()];
        let mut process = home.command().args(serve).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let found = lines.find_map(|line| line.ok().filter(|line| line.contains("GraphiQL")));
        assert!(found.as_ref().is_some_and(|line| line.contains(shown)), "{at}: {found:?}");
        // The reader of its output goes away: printing at the end does not make it fail.
        drop(lines);
        Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
        let done = tokio::task::spawn_blocking(move || process.wait().unwrap()).await.unwrap();
        assert!(done.success(), "{at}: {done}");
    }
    for wrong in ["localhost", "localhost:http", "a:b:1", "no.such.host.invalid:80", "127.0.0.1:99999"] {
        let (code, said) = run(&home, &["serve", "--listen", wrong]);
        assert!(code == 2 && said.contains("--listen"), "{wrong}: {said}");
    }
    home.remove();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_away_is_no_failure() {
    let home = Home::new(Kind::Sqlite).await;
    for word in ["schema", "state-machines", "laws"] {
        let mut process = home.command().arg(word).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(process.stdout.take());
        let done = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && said.is_empty(), "{word}: {said}");
    }
    home.remove();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_t_be_written_is_a_failure() {
    let home = Home::new(Kind::Sqlite).await;
    assert!(home.run(&["migrate"]).0);
    for words in [&["export"][..], &["schema"], &["check"], &["key", "create", "--name", "k", "--role", "ADMIN"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = home.command();
        command.args(words).stdout(full);
        if words[0] != "schema" {
            command.arg("--data").arg(home.folder());
        }
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(1) && said.contains("can't write"), "{words:?}: {said}");
    }
    home.remove();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_t_be_reached_is_named_within_seconds() {
    let home = Home::new(Kind::Sqlite).await;
    // A server that accepts connections and sends nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for (url, words) in [
        (
            "postgres://anna:hunter2@127.0.0.1:1/flights".to_owned(),
            &["127.0.0.1:1", "flights", "anna", "refused", "DATABASE_URL"][..],
        ),
        (format!("postgres://anna:hunter2@127.0.0.1:{port}/flights"), &["127.0.0.1", "flights", "no response"]),
        ("postgres://anna:hunter2@no.such.host.invalid/flights".to_owned(), &["no.such.host.invalid:5432", "flights"]),
        ("mysql://anna@127.0.0.1/flights".to_owned(), &["postgres://"]),
    ] {
        for command in ["serve", "migrate", "export"] {
            let begun = Instant::now();
            let words_of = [command, "--database-url", &url];
            let (code, said) = run(&home, &words_of);
            assert!(code == 1 && words.iter().all(|word| said.contains(word)), "{url}: {said}");
            assert!(begun.elapsed() < Duration::from_secs(5) && !said.contains("hunter2"), "{url}: {said}");
        }
    }
    if crate::harness::postgres::available() {
        let real = crate::harness::place(Kind::Postgres).await.1;
        let (server, _) = real.rsplit_once('/').unwrap();
        let url = format!("{server}/no_such_database");
        let (code, said) = run(&home, &["migrate", "--database-url", &url]);
        assert!(code == 1 && said.contains("no_such_database") && said.contains("createdb"), "{said}");
    }
    // Folders: a file of that name, one that can't be created, a database file that is a folder.
    let file = home.folder().join("file");
    std::fs::write(&file, "x").unwrap();
    let taken = home.folder().join("taken");
    std::fs::create_dir_all(taken.join("sortie.db")).unwrap();
    for (folder, word) in [
        (file.display().to_string(), "not a folder"),
        ("/proc/sortie".to_owned(), "--data"),
        (taken.display().to_string(), "is a folder"),
    ] {
        let (code, said) = run(&home, &["migrate", "--data", &folder]);
        assert!(code == 1 && said.contains(&folder) && said.contains(word), "{folder}: {said}");
    }
    // A mistyped folder is reported, and nothing is created in it.
    let mistyped = home.folder().join("sortie-dtaa");
    let data = mistyped.to_str().unwrap();
    std::fs::write(&file, "external_id\nL-1\n").unwrap();
    for words in [
        &["export"][..],
        &["check"],
        &["key", "list"],
        &["key", "create", "--name", "a", "--role", "ADMIN"],
        &["org", "list"],
        &["org", "create", "--name", "a", "--admin", "a", "--email", "a@example.com"],
        &["apply", "-f", file.to_str().unwrap()],
        &["import", file.to_str().unwrap(), "--kind", "lead"],
    ] {
        let (code, said) = run(&home, &[words, &["--data", data]].concat());
        assert!(code == 1 && said.contains("there is no database at") && said.contains(data), "{words:?}: {said}");
        assert!(!mistyped.exists(), "{words:?} made {data}");
    }
    home.remove();
}

both! {
    async fn what_is_exported_can_be_applied(kind) {
        let world = World::without_server(kind, None).await;
        sortie::app::demo::seed(&world.db, &world.viewer).await.unwrap();
        let text = sortie::domain::manifest::export(&world.db, &world.viewer).await.unwrap();
        let apply = async |viewer: &sortie::kernel::viewer::Viewer, text: &str| {
            let found = sortie::domain::manifest::apply(&world.db.write(), viewer, text, false).await.unwrap();
            assert_eq!(found.problems, vec![], "{text}");
            let changed = found.changes.iter().filter(|change| change.action != sortie::domain::manifest::Action::Unchanged).count();
            (found.changes.len(), changed)
        };
        let (count, changed) = apply(&world.viewer, &text).await;
        assert!(count >= 8 && changed == 0, "{changed} of {count}");
        // Applied to another database it creates the same; a second time it changes nothing.
        let (org, _) = sortie::domain::people::org::create(&world.db.write(), "Elsewhere", "Anna", "anna@example.com").await.unwrap();
        let there = sortie::domain::people::org::admin(&world.db, Some(&org.id.to_string())).await.unwrap();
        assert_eq!(apply(&there, &text).await, (count, count));
        assert_eq!(apply(&there, &text).await, (count, 0));
        let again = sortie::domain::manifest::export(&world.db, &there).await.unwrap();
        assert_eq!(again.replace("    member: anna@example.com\n", "").replace("  - member: anna@example.com\n    ", "  - "), text);
        // A duplicate name is rejected with both lines, unless each has its `nth`.
        let problems = async |text: &str| {
            let found = sortie::domain::manifest::apply(&world.db.write(), &there, text, false).await.unwrap();
            assert!(found.changes.is_empty() || !found.problems.is_empty());
            found.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let twice = "goals:\n  - name: A\n    description: one\n  - name: B\n  - name: A\n    description: two\n";
        let told = problems(twice).await;
        assert!(told.len() == 1 && told[0].starts_with("5: goals.2") && told[0].contains("in line 2"), "{told:?}");
        assert_eq!(problems("goals:\n  - {name: A, nth: 1}\n  - {name: A, nth: 1}\n").await.len(), 1);
        assert_eq!(problems("goals:\n  - {name: A, nth: 0}\n").await.len(), 1);
        assert!(problems("goals:\n  - {name: A, nth: 3}\n").await[0].contains("only 0"));
        assert!(problems("agents:\n  - {name: A}\nfunctions:\n  - {name: A}\n").await.iter().any(|told| told.contains("in line 2")));
        let two = "goals:\n  - {name: A, nth: 1, description: one}\n  - {name: A, nth: 2, description: two}\n";
        assert_eq!((apply(&there, two).await, apply(&there, two).await), ((2, 2), (2, 0)));
        assert!(problems("goals:\n  - {name: A}\n").await[0].contains("there are 2 of this name"));
        // Fixed lists are not exported, nor counted in `nth`, even if they are the oldest of a
        // name.
        for (name, list) in [("Same", true), ("Same", false), ("Same", true), ("Same", false), ("Listed", true), ("Listed", false)] {
            let fields = if list { json!({ "recordIds": [] }) } else { json!({ "filter": { "kind": { "eq": "lead" } } }) };
            let mut input = json!({ "name": name });
            input.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            world.create("segment", input).await;
        }
        let text = sortie::domain::manifest::export(&world.db, &world.viewer).await.unwrap();
        let count = apply(&world.viewer, &text).await;
        assert_eq!(count.1, 0, "{text}");
        let (fresh, _) = sortie::domain::people::org::create(&world.db.write(), "Fresh", "Anna", "anna@fresh.example").await.unwrap();
        let fresh = sortie::domain::people::org::admin(&world.db, Some(&fresh.id.to_string())).await.unwrap();
        let bare = text.replace("    member: anna@example.com\n", "").replace("  - member: anna@example.com\n    ", "  - ");
        assert_eq!((apply(&fresh, &bare).await, apply(&fresh, &bare).await), ((count.0, count.0), (count.0, 0)));
        // Large manifests are accepted, too.
        let many: Vec<_> = (0..100).map(|i| json!({ "name": format!("Large {i}"), "description": "x".repeat(9_000) })).collect();
        assert_eq!(apply(&there, &json!({ "goals": many }).to_string()).await, (100, 100));
        let large = sortie::domain::manifest::export(&world.db, &there).await.unwrap();
        assert!(large.len() > 800_000, "{}", large.len());
        assert_eq!(apply(&there, &large).await.1, 0);
        let long = format!("goals:\n  - {{name: A, nth: 1, {}: 1}}\n", "k".repeat(300));
        assert!(problems(&long).await[0].contains("a key must have at most"));
        world.drop_unchecked().await;
    }
}

both! {
    async fn seeded_rows_are_told_apart_by_the_checker(kind) {
        let world = World::without_server(kind, None).await;
        sortie::app::seed::seed(&world.db, &world.viewer, Size { campaigns: 3, runs: 300, steps_per_run: 4 }, |_| {}).await.unwrap();
        let wrong = async || -> Vec<String> {
            let found = sortie::app::check::check(&world.db).await.unwrap();
            found.iter().filter(|one| one.wrong > 0).map(|one| format!("{}: {:?}", one.what, one.examples)).collect()
        };
        assert_eq!(wrong().await, Vec::<String>::new());
        let told = sortie::app::check::check(&world.db).await.unwrap();
        let seeded = told.iter().find(|one| one.what.contains("seed")).expect("a line about seeded rows");
        assert_eq!((seeded.looked_at, seeded.wrong), (303, 0));
        // Other parts of the manifest are validated as usual.
        world.force("UPDATE campaign SET status = 'COMPLETED', started_at = updated_at, completed_at = updated_at WHERE name = 'Pattern'").await;
        assert_eq!(wrong().await.len(), 1);
        world.drop_unchecked().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_reads_works_beside_a_server_and_without_one() {
    let home = Home::new(Kind::Sqlite).await;
    let folder = home.folder().display().to_string();
    let read = || {
        for words in [&["export"][..], &["key", "list"], &["org", "list"], &["check"]] {
            let (code, said) = run(&home, &[words, &["--data", &folder]].concat());
            assert_eq!(code, 0, "{words:?}: {said}");
        }
    };
    assert_eq!(run(&home, &["migrate", "--data", &folder]).0, 0);
    read();
    let server = home.begin();
    server.ask("{ viewer { role } }", json!({})).await.unwrap();
    read();
    server.kill();
    // From standard input; a folder is no file.
    let mut import = home.command();
    import.args(["import", "-", "--kind", "lead", "--data", &folder]).env_remove("DATABASE_URL");
    let mut child = import.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"external_id,name\nL-1,Ada\n").unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).contains("1 created"), "{done:?}");
    let (code, said) = run(&home, &["import", &folder, "--kind", "lead", "--data", &folder]);
    assert!(code == 1 && said.contains("is a folder"), "{code}: {said}");
    read();
    home.remove();
}
