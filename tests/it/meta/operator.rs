//! The operator's view: settings, health, metrics, traces, imports over HTTP; and the secrets that
//! must not appear in it.

use std::sync::{Arc, Mutex};

use entity::member::Role;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::life::Home;
use crate::harness::{Kind, World, client};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_a_file_and_wrong_ones() {
    let home = Home::new(Kind::Sqlite).await;
    let file = home.folder().join("sortie.toml");
    let refused = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let (up, said) = home.run(&["serve", "--config", file.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
        assert!(!up, "{text} was taken");
        said
    };
    assert!(refused("lease-second = 3").contains("there is no setting `lease-second`; there are listen, data"));
    assert!(refused("client_seconds = \"soon\"").contains("invalid value 'soon' for '--client-seconds"));
    assert!(refused("client-seconds = 0").contains("0 is not in 1..=600"));
    assert!(refused("client-seconds = [1").contains("sortie.toml"));
    assert!(refused("ping-seconds = 1.5").contains("`ping-seconds` must be a text, a number"));
    assert!(refused("mail-from = \"nobody\"").contains("the sender `nobody` is not a valid address"));
    assert!(refused("jwt-issuer = \"https://issuer.example\"").contains("set all three, or none of them"));
    let (up, said) = home.run(&["serve", "--log", "sortie=loud"]);
    assert!(!up && said.contains("log: `sortie=loud`"), "{said}");
    let (up, said) = home.run(&["serve", "--config", "/nowhere/sortie.toml"]);
    assert!(!up && said.contains("/nowhere/sortie.toml"), "{said}");
    let (up, said) = home.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert!(!up && said.contains("not a loopback address"), "{said}");
    // Settings of the file apply; the environment overrides them.
    std::fs::write(&file, "streams-per-key = 1\nallow-origins = [\"https://app.example.com\"]\n").unwrap();
    let home = home.with("SORTIE_CONFIG", file.to_str().unwrap());
    let life = home.begin();
    let asked = |origin: &'static str| {
        let request = client().request(reqwest::Method::OPTIONS, format!("http://{}/graphql", life.address));
        request.header("origin", origin).header("access-control-request-method", "POST").send()
    };
    let answer = asked("https://app.example.com").await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example.com");
    assert!(asked("https://evil.example").await.unwrap().headers().get("access-control-allow-origin").is_none());
    life.kill();
    home.remove();
}

both! {
    async fn the_log_begins_with_what_is_up_and_is_json_where_that_is_said(kind) {
        for format in ["text", "json"] {
            let home = Home::new(kind).await.logged().with("SORTIE_LOG_FORMAT", format).with("RUST_LOG", "warn,sortie=info,tokio_cron_scheduler=off");
            let life = home.begin();
            let address = life.address.to_string();
            life.kill();
            let log = home.log();
            let line = log.lines().find(|line| line.contains("Sortie is up")).unwrap_or_else(|| panic!("{log}")).to_owned();
            let (version, database) = (env!("CARGO_PKG_VERSION"), format!("{kind:?}"));
            assert!([version, &address, &database].iter().all(|part| line.contains(part)), "{line}");
            if format == "json" {
                let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
                let up = lines.iter().find(|line| line["message"] == "Sortie is up").unwrap();
                assert_eq!((up["level"].as_str(), up["version"].as_str(), up["address"].as_str(), up["database"].as_str()), (Some("INFO"), Some(version), Some(address.as_str()), Some(database.as_str())), "{up}");
                assert!(up["timestamp"].is_string() && up["target"].is_string(), "{up}");
            }
            home.gone().await;
            home.remove();
        }
        let home = Home::new(kind).await;
        let (up, said) = home.run(&["serve", "--log-format", "xml"]);
        assert!(!up && said.contains("text, json"), "{said}");
        // A failed start says so in the form of the log.
        for words in [
            ["--listen", "192.0.2.1:4000"], ["--log", "sortie=loud=x"], ["--listen", "here"], ["--lease-secnds", "3"],
        ] {
            let (up, said) = home.run(&["serve", "--log-format", "json", words[0], words[1]]);
            let line = said.lines().last().unwrap_or_default();
            let told: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}"));
            assert!(!up && told["level"] == "ERROR" && told["error"].is_string() && told["timestamp"].is_string(), "{said}");
        }
        home.remove();
    }
}

#[test]
fn names_in_the_environment_that_are_no_settings() {
    let names = ["SORTIE_LEASE_SECOND", "SORTIE_WHAT", "SORTIE_LEASE_SECONDS", "SORTIE_KEY", "HOME", "SORTIE_CONFIG"];
    let told = sortie::kernel::config::unknown(names.into_iter().map(Into::into));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("`SORTIE_LEASE_SECOND`") && told[0].contains("is `SORTIE_LEASE_SECONDS` meant?"),
        "{told:?}"
    );
    assert!(told[1].ends_with("`SORTIE_WHAT`, which is not a setting"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_by_the_shell() {
    let kind = if crate::harness::postgres::available() { Kind::Postgres } else { Kind::Sqlite };
    let home = Home::new(kind).await.with("SORTIE_RECHECK_SECONDS", "1");
    let create = |words: &[&str]| {
        let (made, said) = home.run(&[&["key", "create", "--name", "shell", "--role"], words].concat());
        (made, said.lines().find(|line| line.starts_with("sortie_")).map(str::to_owned), said)
    };
    let (_, Some(admin), _) = create(&["ADMIN"]) else { panic!("no key") };
    assert!(create(&["nobody"]).2.contains("role: one of VIEWER"));
    assert!(create(&["VIEWER", "--expires", "90"]).2.contains("write it like 90d, 12h or 30min"));
    assert!(create(&["VIEWER", "--member", "nobody@example.com"]).2.contains("there is no member nobody@example.com"));
    let (_, Some(short), _) = create(&["viewer", "--expires", "30d", "--member", "developer@localhost"]) else {
        panic!("no key")
    };
    let (made, org) = home.run(&["org", "create", "--name", "Acme", "--admin", "Anna", "--email", "anna@acme.example"]);
    let org = org.lines().find(|line| line.starts_with("org_")).unwrap().to_owned();
    assert!(made && home.run(&["org", "list"]).1.contains("Acme"));
    let (_, Some(theirs), _) = create(&["MANAGER", "--org", &org]) else { panic!("no key") };
    let listed = home.run(&["key", "list"]).1;
    assert!(
        listed.contains("ADMIN")
            && listed.contains("does not expire, last used never: shell")
            && listed.contains("expires 20"),
        "{listed}"
    );
    assert!(home.run(&["key", "list", "--org", &org]).1.contains("MANAGER"));
    assert!(!listed.contains(admin.rsplit('_').next().unwrap()));
    let life = home.begin();
    let ask = async |key: &str| {
        let request = client().post(format!("http://{}/graphql", life.address)).bearer_auth(key);
        let answer = request.json(&json!({ "query": "{ viewer { orgId role } }" })).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    assert_eq!(ask(&theirs).await["data"]["viewer"], json!({ "orgId": org, "role": "MANAGER" }));
    // A key is revoked from the shell beside a server on Postgres; the key's open streams end in
    // time.
    if kind == Kind::Postgres {
        let mut socket = crate::harness::socket::Socket::open_as(life.address, &short).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        let id = format!("api_key_{}", short.split('_').nth(1).unwrap());
        let (revoked, said) = home.run(&["key", "revoke", &id]);
        assert!(revoked && said.contains("is revoked"), "{said}");
        assert!(matches!(socket.came().await, crate::harness::socket::Came::Closed(4403)));
        assert_eq!(ask(&short).await["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
        assert!(home.run(&["key", "list"]).1.contains("revoked 20"));
        // Revoking all keys does not return the server to development mode.
        for shown in [&admin, &theirs] {
            let id = format!("api_key_{}", shown.split('_').nth(1).unwrap());
            let words = ["key", "revoke", &id, "--org", &org];
            assert!(home.run(if shown == &theirs { &words } else { &words[..3] }).0);
        }
        let again = home.begin();
        let request =
            client().post(format!("http://{}/graphql", again.address)).json(&json!({ "query": "{ viewer { role } }" }));
        assert_eq!(request.send().await.unwrap().status(), 401);
        again.kill();
    }
    life.kill();
    home.remove();
}

#[test]
fn every_setting_is_in_the_readme() {
    use clap::{Args, Command};
    let readme = std::fs::read_to_string("README.md").unwrap();
    for arg in sortie::kernel::config::Config::augment_args(Command::new("")).get_arguments() {
        let (flag, env) = (arg.get_long().unwrap(), arg.get_env().unwrap().to_str().unwrap());
        assert!(readme.contains(&format!("| `--{flag}` | `{env}` |")), "--{flag} ({env}) is not in the README's table");
    }
    for (metric, _) in sortie::app::telemetry::METRICS {
        assert!(readme.contains(&format!("| `{metric}` |")), "{metric} is not in the README");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics() {
    let home = Home::new(Kind::Sqlite).await;
    home.import(20);
    let life = home.begin();
    let get = async |path: &str| {
        let answer = client().get(format!("http://{}{path}", life.address)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await, (200, "{\"alive\":true}".into()));
    assert_eq!(get("/readyz").await, (200, "{\"ready\":true}".into()));
    let (status, told) = get("/nothing").await;
    assert_eq!(
        (status, serde_json::from_str::<Value>(&told).unwrap()["errors"][0]["extensions"]["code"].clone()),
        (404, json!("NOT_FOUND"))
    );
    let run = life.launch(&life.campaign().await, "metrics").await.unwrap();
    while life.push(&run).await.as_deref() != Some("COMPLETED") {}
    let mut socket = crate::harness::socket::Socket::open(life.address).await;
    socket.subscribe("live", "subscription { events { kind } }", json!({})).await;
    socket.subscribe("q", "{ nothing }", json!({})).await;
    assert_eq!(socket.message().await["type"], "error");
    let told = loop {
        let (_, told) = get("/metrics").await;
        // The subscription is established shortly after its request.
        if told.contains("sortie_log_followers 1") {
            break told;
        }
    };
    let value = |name: &str| -> f64 {
        let line = told.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {told}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert_eq!(value("sortie_steps_claimed_total{kind=\"send_message\"}"), 20.0);
    assert_eq!(value("sortie_steps_settled_total{kind=\"send_message\",outcome=\"done\"}"), 20.0);
    assert_eq!(value("sortie_messages_total{channel=\"EMAIL\",outcome=\"SENT\"}"), 20.0);
    assert_eq!(
        (value("sortie_streams "), value("sortie_log_followers "), value("sortie_queue_steps ")),
        (1.0, 1.0, 0.0)
    );
    assert!(value("sortie_requests_total{way=\"http\",kind=\"mutation\",outcome=\"OK\"}") >= 8.0);
    assert_eq!(value("sortie_requests_total{way=\"socket\",kind=\"query\",outcome=\"BAD_USER_INPUT\"}"), 1.0);
    assert!(
        value("sortie_pool_connections{pool=\"writer\",state=\"idle\"}") >= 0.0 && value("sortie_connections ") >= 1.0
    );
    // Each metric has a HELP line.
    for (metric, about) in sortie::app::telemetry::METRICS {
        if told.contains(metric) {
            assert!(told.contains(&format!("# HELP {metric} {about}")), "{metric}");
        }
    }
    life.kill();
    home.check();
    home.remove();
}

both! {
    async fn a_file_over_http(kind) {
        let world = World::with_auth(kind).await;
        let post = async |key: &str, path: &str, kind: &str, body: Vec<u8>| {
            let request = client().post(format!("http://{}{path}", world.address)).bearer_auth(key).header("content-type", kind.to_owned());
            let answer = request.body(body).send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        };
        let dirty = std::fs::read("tests/data/leads-dirty.csv").unwrap();
        let (manager, operator) = (world.key(Role::Manager).await, world.key(Role::Operator).await);
        let path = "/import/records?kind=lead&file=leads-dirty.csv";
        let (status, told) = post(&manager, path, "text/csv; charset=utf-8", dirty.clone()).await;
        assert_eq!((status, &told["created"], &told["file"], &told["problems"][0]["line"]), (200, &json!(11), &json!("leads-dirty.csv"), &json!(4)), "{told:#}");
        assert_eq!((&told["status"], &told["failure"]), (&json!("FAILED"), &json!("the quote opened in line 20 is not closed: the rest was not read")));
        assert_eq!(told["problems"].as_array().unwrap().len(), 12);
        let query = "query($id: ID!) { import(id: $id) { status rows created bad problems { line why } } imports { totalCount } records { totalCount } }";
        let report = world.ask(query, json!({ "id": told["id"] })).await;
        assert_eq!((&report["import"]["created"], &report["import"]["bad"], &report["records"]["totalCount"]), (&told["created"], &told["bad"], &json!(11)));
        let (_, again) = post(&manager, path, "text/csv", dirty.clone()).await;
        assert_eq!((&again["created"], &again["unchanged"]), (&json!(0), &json!(11)));
        for (key, path, of, status, code) in [
            (&operator, path, "text/csv", 403, "FORBIDDEN"),
            (&manager, path, "application/json", 415, "BAD_USER_INPUT"),
            (&manager, "/import/records", "text/csv", 400, "BAD_USER_INPUT"),
            (&manager, "/import/records?kind=No%20kind", "text/csv", 400, "BAD_USER_INPUT"),
        ] {
            let (found, told) = post(key, path, of, dirty.clone()).await;
            assert_eq!((found, &told["errors"][0]["extensions"]["code"]), (status, &json!(code)), "{told}");
        }
        let (status, told) = post(&manager, path, "text/csv", b"a,b\n1,2\n".to_vec()).await;
        assert_eq!((status, told["errors"][0]["extensions"]["code"].as_str()), (400, Some("BAD_USER_INPUT")), "{told}");
        // An upload that ends too early: the imported rows stay, and the report says so.
        let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {manager}\r\nContent-Type: text/csv\r\nContent-Length: 100000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(b"external_id,name\nx-1,One\nx-2,Tw").await.unwrap();
        drop(stream);
        let reports = world.until("the report", "{ imports(first: 1) { nodes { status rows } } }", json!({}), |data| data["imports"]["nodes"][0]["status"] == "FAILED").await;
        assert_eq!(reports["imports"]["nodes"][0]["status"], "FAILED");
        let audit = world.ask("{ audit(filter: { mutations: [\"importRecords\"] }, first: 50) { nodes { outcome code input targetId } } }", json!({})).await;
        let outcomes: Vec<_> = audit["audit"]["nodes"].as_array().unwrap().iter().rev().map(|entry| (entry["outcome"].as_str().unwrap(), entry["code"].as_str().unwrap_or(""))).collect();
        assert_eq!(outcomes[..6], [("DONE", ""), ("DONE", ""), ("REFUSED", "FORBIDDEN"), ("REFUSED", "BAD_USER_INPUT"), ("REFUSED", "BAD_USER_INPUT"), ("REFUSED", "BAD_USER_INPUT")]);
        world.drop_unchecked().await;
    }
}

/// A trace collector that keeps the names of the spans it receives, read from the raw bytes.
async fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = seen.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                let (mut head, mut wanted) = (Vec::new(), None);
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    kept.lock().unwrap().extend(&buffer[..count]);
                    head.extend(&buffer[..count]);
                    let text = String::from_utf8_lossy(&head).to_lowercase();
                    if let (None, Some(at)) = (wanted, head.windows(4).position(|end| end == b"\r\n\r\n")) {
                        let length = text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
                        wanted = Some(at + 4 + length.parse::<usize>().unwrap());
                    }
                    if wanted.is_some_and(|wanted| head.len() >= wanted) {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                        (head, wanted) = (Vec::new(), None);
                    }
                }
            });
        }
    });
    (url, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_go_to_a_collector_and_secrets_go_nowhere() {
    let (url, seen) = collector().await;
    let home = Home::new(Kind::Sqlite).await;
    let (made, said) = home.run(&["key", "create", "--name", "traced", "--role", "admin"]);
    assert!(made, "{said}");
    let key = said.lines().find(|line| line.starts_with("sortie_")).unwrap().to_owned();
    // The most verbose log level.
    let home = home
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .with("RUST_LOG", "trace")
        .with("SORTIE_SMTP_URL", "smtp://anna:hunter2hunter2@127.0.0.1:9");
    let log = home.folder().join("log");
    let mut command = home.command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(home.folder());
    let mut process =
        command.stdout(std::process::Stdio::piped()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().unwrap()));
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("POST"))).unwrap();
    let address = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("http://"))
        .unwrap()
        .trim_end_matches("/graphql")
        .to_owned();
    let ask = async |query: &str| {
        let request =
            client().post(format!("http://{address}/graphql")).bearer_auth(&key).json(&json!({ "query": query }));
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let made = ask("mutation { createApiKey(input: { name: \"second\", role: VIEWER }) { key apiKey { id } } }").await;
    let second = made["data"]["createApiKey"]["key"].as_str().unwrap().to_owned();
    ask("{ runs { totalCount nodes { id } } apiKeys { nodes { id } } }").await;
    let mut socket = crate::harness::socket::Socket::open_as(address.parse().unwrap(), &second).await;
    assert_eq!(socket.message().await["type"], "connection_ack");
    drop(socket);
    std::process::Command::new("kill").arg(process.id().to_string()).status().unwrap();
    let done = tokio::task::spawn_blocking(move || process.wait().unwrap().success()).await.unwrap();
    assert!(done);
    let seen = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    for span in ["request", "createApiKey", "INSERT", "SELECT"] {
        assert!(seen.contains(span), "no {span} in the traces");
    }
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("TRACE"), "little was logged: {log}");
    for (what, secret) in
        [("the key", key.as_str()), ("the second key", second.as_str()), ("the password", "hunter2hunter2")]
    {
        let secret = secret.rsplit_once('_').map_or(secret, |(_, secret)| secret);
        assert!(!log.contains(secret), "{what} is in the log: {:?}", log.lines().find(|line| line.contains(secret)));
        assert!(!seen.contains(secret), "{what} is in the traces");
        let database = std::fs::read(home.folder().join("sortie.db")).unwrap();
        assert!(!database.windows(secret.len()).any(|part| part == secret.as_bytes()), "{what} is in the database");
    }
    home.check();
    home.remove();
}
