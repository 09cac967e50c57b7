//! Passwords in URLs are never shown, and not sent in clear text without consent.

use entity::id::{CommunicationId, RunId, RunRecordId, StepId};
use lettre::message::Mailbox;
use serde_json::json;
use sortie::channel::smtp::Smtp;
use sortie::kernel::secret::{hidden, without};

use crate::harness::life::Home;
use crate::harness::{Kind, World};

const PASSWORD: &str = "hunter2hunter2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_database_address_is_not_told() {
    let home = Home::new(Kind::Sqlite).await;
    for address in [
        format!("postgress://anna:{PASSWORD}@127.0.0.1/sortie"),
        format!("postgres:/anna:{PASSWORD}@127.0.0.1/sortie"),
        format!("postgres:anna:{PASSWORD}@127.0.0.1/sortie"),
        format!("postgres://anna:{PASSWORD}@127.0.0.1:port/sortie"),
        format!("postgres://anna:12/{PASSWORD}@127.0.0.1/sortie"),
        format!("postgres://anna:12?{PASSWORD}@127.0.0.1/sortie"),
        format!("postgres://anna:12#{PASSWORD}@127.0.0.1/sortie"),
        format!("postgres://anna:{PASSWORD}@[::1/sortie"),
        format!("postgres://anna:{PASSWORD}@127.0.0.1:1/sortie"),
        format!("postgres://127.0.0.1:1/sortie?passwort={PASSWORD}"),
        format!("postgres://127.0.0.1:1/sortie?sslmode={PASSWORD}&password={PASSWORD}"),
        format!("sqlite:postgres://anna:{PASSWORD}@127.0.0.1/sortie"),
        format!("anna:{PASSWORD}@127.0.0.1"),
        format!(" postgres://anna:{PASSWORD}@127.0.0.1/sortie"),
    ] {
        for words in [vec!["check", "--database-url", &address], vec!["migrate", "--database-url", &address]] {
            let (done, said) = home.run(&words);
            assert!(!done && !said.contains(PASSWORD), "{address}: {said}");
        }
    }
    // An extra argument, a settings file, and the help text.
    let (done, said) = home.run(&["check", &format!("postgres://anna:{PASSWORD}@127.0.0.1/sortie")]);
    assert!(!done && !said.contains(PASSWORD), "{said}");
    let file = home.folder().join("sortie.toml");
    std::fs::write(&file, format!("lease-seconds = 5\ndatabase-url = \"postgres://anna:{PASSWORD}@host\n")).unwrap();
    let file_name = file.to_str().unwrap();
    let (done, said) = home.run(&["check", "--config", file_name]);
    assert!(!done && said.contains("line 2") && !said.contains(PASSWORD), "{said}");
    std::fs::write(&file, format!("database-url = \"postgres://anna:{PASSWORD}@host\"\n")).unwrap();
    let (done, said) = home.run(&["serve", "--config", file_name, "--help"]);
    assert!(done && !said.contains(PASSWORD), "{said}");
    home.remove();
}

#[test]
fn texts_are_told_without_secrets() {
    let text = format!("can't reach postgres://anna:{PASSWORD}@host/db now\nand smtp://a:b/c@d");
    assert_eq!(hidden(&text), "can't reach postgres://…@host/db now\nand smtp://…@d");
    assert_eq!(hidden("http://host/path"), "http://host/path");
    let address = format!("postgres://anna:{PASSWORD}@host/db");
    assert!(!without(&format!("no {PASSWORD} here, {address}"), &address).contains(PASSWORD));
}

#[test]
fn a_password_for_mail_needs_tls() {
    let from = || "Sortie <sortie@localhost>".parse::<Mailbox>().unwrap();
    let new = |address: &str| Smtp::new(address, from(), std::time::Duration::from_secs(1)).map(drop);
    for refused in [
        format!("smtp://anna:{PASSWORD}@mail.example"),
        format!("smtp://anna:{PASSWORD}@mail.example:587"),
        format!("smtp://anna:{PASSWORD}@192.0.2.1"),
        format!("smtp://anna:{PASSWORD}@localhost.evil.example"),
        format!("smtp://anna:{PASSWORD}@mail.example?tls=maybe"),
    ] {
        let told = new(&refused).unwrap_err().to_string();
        assert!(told.contains("tls=required") && !told.contains(PASSWORD), "{refused}: {told}");
    }
    for taken in [
        format!("smtp://anna:{PASSWORD}@localhost"),
        format!("smtp://anna:{PASSWORD}@127.0.0.1:25"),
        format!("smtp://anna:{PASSWORD}@[::1]:25"),
        format!("smtp://anna:{PASSWORD}@mail.example?tls=none"),
        format!("smtp://anna:{PASSWORD}@mail.example?tls=opportunistic"),
        format!("smtp://anna:{PASSWORD}@mail.example?tls=required"),
        format!("smtps://anna:{PASSWORD}@mail.example"),
        "smtp://mail.example".to_owned(),
    ] {
        assert!(new(&taken).is_ok(), "{taken}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_for_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = std::env::temp_dir().join(format!("sortie_test_{}", uuid::Uuid::now_v7().simple()));
    let home = Home::at(folder.join("deep"), format!("sqlite://{}", folder.join("deep/sortie.db").display()));
    let life = home.begin();
    life.ask("mutation { createGoal(input: { name: \"G\" }) { goal { id } } }", serde_json::json!({})).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut seen = 0;
    let mut look = vec![home.folder().to_path_buf()];
    while let Some(at) = look.pop() {
        assert_eq!(mode(&at), 0o700, "{}", at.display());
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 3, "{seen}");
    life.kill();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn no_header_is_decoded_into_another() {
    let from = sortie::channel::mail::from("Sortie <a@example.com>").unwrap();
    let spoof = "=?utf-8?q?From=3A_boss?= =?utf-8?b?4oKs?=";
    let text = composed(&from, spoof, spoof);
    let headers: Vec<&str> = text.split("\r\n\r\n").next().unwrap().split("\r\n").collect();
    let of = |name: &str| {
        let at = headers.iter().position(|line| line.starts_with(name)).unwrap();
        let more = headers[at + 1..].iter().take_while(|line| line.starts_with(' '));
        std::iter::once(&headers[at]).chain(more).copied().collect::<String>()
    };
    for header in [of("Subject:"), of("To:")] {
        assert!(!header.contains("From=3A") && !header.contains("4oKs"), "{header}");
    }
}

/// A composed mail, as it is handed over.
fn composed(from: &Mailbox, name: &str, subject: &str) -> String {
    let now = crate::harness::noon();
    let message = entity::communication::Model {
        id: CommunicationId::new(),
        org_id: entity::org::PLATFORM,
        campaign_id: None,
        run_id: RunId::new(),
        step_id: StepId::new(),
        run_record_id: RunRecordId::new(),
        record_id: None,
        action_number: 1,
        is_repeat: false,
        acted_by: None,
        channel: entity::Channel::Email,
        to_address: "ann@example.com".to_owned(),
        to_name: name.to_owned(),
        subject: Some(subject.to_owned()),
        body: "Hello".to_owned(),
        search: None,
        status: entity::communication::CommunicationStatus::Sending,
        test: false,
        message_id: "1@example.com".to_owned(),
        edited_by: None,
        reviewed_by: None,
        rejected_because: None,
        error: None,
        reserved_at: None,
        refusals: 0,
        refused_since: None,
        sent_at: None,
        meeting_id: None,
        calendar: None,
        created_at: now,
        updated_at: now,
        revision: 0,
    };
    String::from_utf8(sortie::channel::mail::compose(from, &message).unwrap().formatted()).unwrap()
}

#[test]
fn no_line_break_adds_a_header() {
    let from = sortie::channel::mail::from("Sortie <a@example.com>").unwrap();
    for line_break in ["\r\n", "\n", "\r", "\r\n\r\n", "\u{2028}", "\u{85}", "\u{0b}", "\r\n "] {
        let spoof = format!("Hello{line_break}Bcc: eve@evil.example");
        let text = composed(&from, &spoof, &spoof);
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(head.split("\r\n").all(|line| !line.trim_start().starts_with("Bcc")), "{line_break:?}: {head}");
        let names: Vec<&str> = head
            .split("\r\n")
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split(':').next())
            .collect();
        assert!(names.contains(&"Subject") && names.contains(&"To") && !names.contains(&"Bcc"), "{names:?}");
    }
}

both! {
    /// A subject is one line, whatever its template and the record's values have.
    async fn a_subject_is_one_line(kind) {
        let world = World::without_server(kind, None).await;
        let record = world.create("record", json!({ "kind": "lead", "name": "Ann", "email": "ann@example.com", "attributes": { "company": "Acme", "first_name": "Ann\r\nBcc: eve@evil.example" } })).await;
        let plan = world.plan("EMAIL", 1).await;
        let template = "mutation($id: ID!, $subject: String!) { updateMessageTemplate(input: { id: $id, subject: $subject }) { messageTemplate { id } } }";
        world.ask(template, json!({ "id": plan.template, "subject": "Hi\r\nX-Own: {{ first_name }}\n" })).await;
        let preview = "query($id: ID!, $records: [ID!]) { previewMessages(campaignId: $id, recordIds: $records) { subject error } }";
        let told = world.ask(preview, json!({ "id": plan.campaign, "records": [record] })).await;
        assert_eq!(told["previewMessages"][0]["subject"], "Hi X-Own: Ann Bcc: eve@evil.example", "{told}");
        world.end().await;
    }
}
