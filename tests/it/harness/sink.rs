//! A mail server that keeps what it is given.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What it was given: to whom, and the message as it came.
#[derive(Clone, Debug)]
pub struct Mail {
    pub to: String,
    pub raw: String,
}

#[derive(Clone)]
pub struct Sink {
    pub port: u16,
    kept: Arc<Mutex<Vec<Mail>>>,
    credentials: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<String>>,
}

impl Sink {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink = Self {
            port: listener.local_addr().unwrap().port(),
            kept: Arc::default(),
            credentials: Arc::default(),
            refused: Arc::new(Mutex::new("@refused".into())),
        };
        let mine = sink.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(talk(socket, mine.clone()));
            }
        });
        sink
    }

    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    pub fn kept(&self) -> Vec<Mail> {
        self.kept.lock().unwrap().clone()
    }

    /// What those who came in said of themselves, as AUTH PLAIN carries it.
    pub fn credentials(&self) -> Vec<String> {
        self.credentials.lock().unwrap().clone()
    }

    /// From now on addresses with this in them are refused for good.
    pub fn refuse(&self, part: &str) {
        part.clone_into(&mut self.refused.lock().unwrap());
    }

    pub fn forget(&self) {
        self.kept.lock().unwrap().clear();
    }

    /// Subject and text of what came for an address.
    pub fn read(&self, to: &str) -> Vec<(String, String)> {
        let mine = self.kept().into_iter().filter(|mail| mail.to == to);
        mine.map(|mail| {
            let parsed = mail_parser::MessageParser::default().parse(mail.raw.as_bytes()).unwrap();
            (parsed.subject().unwrap().to_owned(), parsed.body_text(0).unwrap().into_owned())
        })
        .collect()
    }
}

async fn talk(socket: TcpStream, sink: Sink) -> Option<()> {
    let Sink { kept, credentials, refused, .. } = sink;
    let mut socket = BufReader::new(socket);
    socket.write_all(b"220 sink\r\n").await.ok()?;
    let mut to = String::new();
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let word = line.split([' ', '\r']).next()?.to_uppercase();
        let reply: &str = match word.as_str() {
            "EHLO" => "250-sink\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n",
            "AUTH" => {
                credentials.lock().unwrap().push(line.split_whitespace().nth(2)?.to_owned());
                "235 welcome\r\n"
            }
            "RCPT" => {
                to = line.split(['<', '>']).nth(1)?.to_owned();
                // One address that is refused for good, and one that is always busy.
                if to.starts_with("refused") || to.contains(refused.lock().unwrap().as_str()) {
                    "550 no such person\r\n"
                } else if to.starts_with("busy") {
                    "451 try again later\r\n"
                } else {
                    "250 ok\r\n"
                }
            }
            "DATA" => {
                socket.write_all(b"354 go on\r\n").await.ok()?;
                let mut raw = Vec::new();
                while !raw.ends_with(b"\r\n.\r\n") {
                    raw.push(socket.read_u8().await.ok()?);
                }
                raw.truncate(raw.len() - 3);
                kept.lock().unwrap().push(Mail { to: to.clone(), raw: String::from_utf8(raw).unwrap() });
                "250 kept\r\n"
            }
            "QUIT" => return None,
            _ => "250 ok\r\n",
        };
        socket.write_all(reply.as_bytes()).await.ok()?;
    }
}
