//! Passwords in addresses are told nowhere, and not sent in the clear unasked.

use lettre::message::Mailbox;
use sortie::channel::smtp::Smtp;
use sortie::secret::{hidden, without};

use crate::harness::Kind;
use crate::harness::life::Home;

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
    // A word too many, a file of settings, and its help.
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
