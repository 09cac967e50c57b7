//! A mail server that keeps the mail it is given and misbehaves as the address says; a test may
//! stop it at a stage of a hand-over, to kill the sender at that point.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A received message: its recipient, its run, and the raw text.
#[derive(Clone, Debug)]
pub struct Mail {
    pub to: String,
    pub run: String,
    pub raw: String,
}

/// Stage of an SMTP hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// DATA was received and answered; nothing of the message has been read.
    Data,
    /// The message has arrived with its final dot and is kept; no reply has been sent.
    Dot,
    /// Half of the reply has been sent.
    Half,
    /// The whole reply has been sent.
    Replied,
}

#[derive(Clone, Default)]
pub struct Sink {
    pub port: u16,
    kept: Arc<Mutex<Vec<Mail>>>,
    credentials: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<String>>,
    busy: Arc<Mutex<Option<String>>>,
    tried: Arc<Mutex<HashMap<String, usize>>>,
    in_hand: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    /// Limits: connections at once, and messages per connection; 0 means unlimited.
    allows: Arc<[AtomicUsize; 2]>,
    trap: Arc<Mutex<Option<Trap>>>,
    trapped: Arc<Mutex<Option<oneshot::Sender<bool>>>>,
}

/// A trap: the stage, its remaining count, and the channel that is notified.
type Trap = (Stage, usize, oneshot::Sender<()>);

impl Sink {
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0").await.unwrap()
    }

    /// Starts a server at an address; none if it can't listen there.
    pub async fn at(address: &str) -> Option<Self> {
        let listener = TcpListener::bind(address).await.ok()?;
        let sink = Self { port: listener.local_addr().unwrap().port(), ..Self::default() };
        sink.refuse("@refused");
        let mine = sink.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mine = mine.clone();
                tokio::spawn(async move {
                    let open = mine.connections.fetch_add(1, Ordering::SeqCst);
                    let most = mine.allows[0].load(Ordering::SeqCst);
                    let mut socket = BufReader::new(socket);
                    if most > 0 && open >= most {
                        let _ = socket.write_all(b"421 too many connections\r\n").await;
                    } else {
                        mine.talk(socket).await;
                    }
                    mine.connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Some(sink)
    }

    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    pub fn kept(&self) -> Vec<Mail> {
        self.kept.lock().unwrap().clone()
    }

    /// Credentials that clients presented, as AUTH PLAIN carries them.
    pub fn credentials(&self) -> Vec<String> {
        self.credentials.lock().unwrap().clone()
    }

    /// Rejects addresses that contain `part` permanently from now on.
    pub fn refuse(&self, part: &str) {
        part.clone_into(&mut self.refused.lock().unwrap());
    }

    /// Rejects addresses that contain `part` temporarily from now on; none ends that.
    pub fn busy(&self, part: Option<&str>) {
        *self.busy.lock().unwrap() = part.map(str::to_owned);
    }

    /// Sets the limits of connections at once and of messages per connection.
    pub fn allow(&self, connections: usize, messages: usize) {
        self.allows[0].store(connections, Ordering::SeqCst);
        self.allows[1].store(messages, Ordering::SeqCst);
    }

    /// Number of delivery attempts to addresses that contain `part`.
    pub fn tried(&self, part: &str) -> usize {
        self.tried.lock().unwrap().iter().filter(|(to, _)| to.contains(part)).map(|(_, times)| times).sum()
    }

    pub fn forget(&self) {
        self.kept.lock().unwrap().clear();
    }

    /// Hand-overs in progress: DATA was answered, and the reply to the message has not been sent
    /// completely.
    pub fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::SeqCst)
    }

    /// Resolves when a hand-over reaches the stage for the n-th time from now; the hand-over is
    /// stopped there.
    pub fn trap(&self, stage: Stage, times: usize) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        *self.trap.lock().unwrap() = Some((stage, times, tell));
        told
    }

    /// Resumes the stopped hand-over, or drops its connection.
    pub fn let_go(&self, on: bool) {
        let trapped = self.trapped.lock().unwrap().take();
        trapped.unwrap().send(on).unwrap();
    }

    pub fn untrap(&self) {
        *self.trap.lock().unwrap() = None;
    }

    /// Subject and text of the mail received for an address.
    pub fn read(&self, to: &str) -> Vec<(String, String)> {
        let mine = self.kept().into_iter().filter(|mail| mail.to == to);
        mine.map(|mail| {
            let parsed = mail_parser::MessageParser::default().parse(mail.raw.as_bytes()).unwrap();
            (parsed.subject().unwrap().to_owned(), parsed.body_text(0).unwrap().into_owned())
        })
        .collect()
    }

    /// Stops here if a test set a trap for this stage, until it is resumed or the client is gone.
    /// Returns the bytes received meanwhile.
    async fn pass(&self, stage: Stage, socket: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
        let tell = {
            let mut trap = self.trap.lock().unwrap();
            match &mut *trap {
                Some((wanted, times, _)) if *wanted == stage => {
                    *times -= 1;
                    if *times == 0 { trap.take().map(|(_, _, tell)| tell) } else { None }
                }
                _ => None,
            }
        };
        if let Some(tell) = tell {
            let (go, going) = oneshot::channel();
            *self.trapped.lock().unwrap() = Some(go);
            let _ = tell.send(());
            let mut came = Vec::new();
            let gone = async { while socket.read_buf(&mut came).await.is_ok_and(|read| read > 0) {} };
            let on = tokio::select! {
                () = gone => false,
                on = going => on.unwrap_or(false),
            };
            return on.then_some(came);
        }
        Some(Vec::new())
    }

    async fn talk(&self, mut socket: BufReader<TcpStream>) -> Option<()> {
        socket.write_all(b"220 sink\r\n").await.ok()?;
        let (mut to, mut tries, mut messages) = (String::new(), 0, 0);
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let word = line.split([' ', '\r']).next()?.to_uppercase();
            let most = self.allows[1].load(Ordering::SeqCst);
            if word == "MAIL" && most > 0 && messages >= most {
                socket.write_all(b"421 too many messages over this connection\r\n").await.ok()?;
                return None;
            }
            let reply: &str = match word.as_str() {
                "EHLO" => "250-sink\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n",
                "AUTH" => {
                    self.credentials.lock().unwrap().push(line.split_whitespace().nth(2)?.to_owned());
                    "235 welcome\r\n"
                }
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1)?.to_owned();
                    tries = *self.tried.lock().unwrap().entry(to.clone()).and_modify(|tries| *tries += 1).or_insert(1);
                    let refused = to.contains(self.refused.lock().unwrap().as_str());
                    let busy = self.busy.lock().unwrap().as_ref().is_some_and(|part| to.contains(part));
                    match to.split(['.', '@']).next()? {
                        _ if busy => "451 try again later\r\n",
                        "refused" => "550 no such person\r\n",
                        _ if refused => "550 no such person\r\n",
                        "busy" => "451 try again later\r\n",
                        "grey" if tries == 1 => "451 greylisted\r\n",
                        "dropmail" if tries == 1 => return None,
                        "stallmail" if tries == 1 => {
                            let _ = socket.read_to_end(&mut Vec::new()).await;
                            return None;
                        }
                        _ => "250 ok\r\n",
                    }
                }
                "DATA" => {
                    self.in_hand.fetch_add(1, Ordering::SeqCst);
                    let told = self.data(&mut socket, &to, tries).await;
                    self.in_hand.fetch_sub(1, Ordering::SeqCst);
                    told?;
                    messages += 1;
                    self.pass(Stage::Replied, &mut socket).await?;
                    continue;
                }
                "QUIT" => return None,
                _ => "250 ok\r\n",
            };
            socket.write_all(reply.as_bytes()).await.ok()?;
        }
    }

    async fn data(&self, socket: &mut BufReader<TcpStream>, to: &str, tries: usize) -> Option<()> {
        socket.write_all(b"354 go on\r\n").await.ok()?;
        let mut raw = self.pass(Stage::Data, socket).await?;
        let how = to.split(['.', '@']).next()?;
        if how == "dropdata" && tries == 1 {
            return None;
        }
        while !raw.ends_with(b"\r\n.\r\n") {
            raw.push(socket.read_u8().await.ok()?);
            if how == "dropbody" && tries == 1 && raw.len() == 100 {
                return None;
            }
        }
        raw.truncate(raw.len() - 3);
        let late = match how {
            "late" => Some("554 we do not want this\r\n"),
            "latebusy" if tries == 1 => Some("452 no room now\r\n"),
            _ => None,
        };
        if let Some(reply) = late {
            return socket.write_all(reply.as_bytes()).await.ok();
        }
        let raw = String::from_utf8(raw).ok()?;
        let run = raw.lines().find_map(|line| line.strip_prefix("X-Sortie-Run: ")).unwrap_or_default().to_owned();
        self.kept.lock().unwrap().push(Mail { to: to.to_owned(), run, raw });
        self.pass(Stage::Dot, socket).await?;
        match how {
            "dropdot" => return None,
            "stalldot" => {
                let _ = socket.read_to_end(&mut Vec::new()).await;
                return None;
            }
            "half" => {
                socket.write_all(b"25").await.ok()?;
                return None;
            }
            "garbage" => return socket.write_all(b"what?\r\n").await.ok(),
            _ => {}
        }
        socket.write_all(b"250 k").await.ok()?;
        self.pass(Stage::Half, socket).await?;
        socket.write_all(b"ept\r\n").await.ok()
    }
}
