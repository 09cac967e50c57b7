//! Mail over SMTP: kept connections, TLS or STARTTLS, authentication, as the address says; and what an error says about
//! the message's fate.
//!
//! Ours over lettre's connection and not its transport: that one tells no stage, so that a connection lost before DATA
//! looks like one lost after the final dot; and its async commands wait for a silent server for ever.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use entity::communication::Model;
use lettre::message::Mailbox;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Severity;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::{Delivery, MailTransport, RefusalPeriod, mail};
use crate::kernel::error::{Error, Result};
use crate::kernel::{failpoint, limits};

/// A mail server.
pub struct Smtp {
    server: Server,
    from: Mailbox,
    /// How long it may take over one command.
    patience: Duration,
    /// Connections that wait for the next message, and since when.
    idle: Mutex<Vec<(Open, Instant)>>,
    /// Connections that the server has greeted.
    open: Arc<AtomicUsize>,
    /// How many connections it allowed when it last refused one more, and when that was.
    allowed: Mutex<Option<(usize, Instant)>>,
    /// Told when a connection waits for the next message.
    kept: Notify,
}

/// Where it is and who we are there.
struct Server {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    /// Whether it is on this machine.
    near: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Tls {
    /// None.
    Plain,
    /// From the first byte.
    Wrapped,
    /// By STARTTLS, or not at all.
    Required,
    /// By STARTTLS where the server offers it.
    Opportunistic,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("from", &self.from).finish_non_exhaustive()
    }
}

/// What an address says of TLS.
fn tls_given(url: &url::Url) -> Option<String> {
    url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value.into_owned())
}

impl Server {
    fn of(address: &str) -> Result<Self> {
        let wrong = |why: String| Error::ours(format!("SORTIE_SMTP_URL can't be read: {why}"));
        let form = "write it as smtp://host:25, smtps://user:password@host or smtp://user:password@host?tls=required";
        let url = url::Url::parse(address).map_err(|err| wrong(format!("{err}: {form}")))?;
        let tls = tls_given(&url);
        let (tls, port) = match (url.scheme(), tls.as_deref()) {
            ("smtp", None) => (Tls::Plain, 25),
            ("smtp", Some("none")) => (Tls::Plain, 25),
            ("smtp", Some("required")) => (Tls::Required, 587),
            ("smtp", Some("opportunistic")) => (Tls::Opportunistic, 587),
            ("smtps", _) => (Tls::Wrapped, 465),
            _ => return Err(wrong("use smtp://, smtps://, and ?tls=required, ?tls=opportunistic or ?tls=none".into())),
        };
        let plain = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(Error::ours)
        };
        let credentials = match (url.username(), url.password().unwrap_or_default()) {
            ("", "") => None,
            ("", _) => return Err(wrong("it has a password and no user: write smtp://user:password@host".into())),
            (_, "") => {
                let why = "it has a user and no password, so that nobody could log in: write smtp://user:password@host, \
                           or leave the user out";
                return Err(wrong(why.into()));
            }
            (user, password) => Some(Credentials::new(plain(user)?, plain(password)?)),
        };
        let host = match url.host().ok_or_else(|| wrong("it names no host".into()))? {
            url::Host::Domain(name) => name.to_owned(),
            url::Host::Ipv4(address) => address.to_string(),
            // Without the brackets, which are an address's in a URL only.
            url::Host::Ipv6(address) => address.to_string(),
        };
        let near = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        if credentials.is_some() && tls == Tls::Plain && !near {
            if tls_given(&url).is_none() {
                let why = "its password would go over the network unencrypted: write smtps://, or add ?tls=required \
                           (?tls=none allows it nevertheless)";
                return Err(wrong(why.into()));
            }
            tracing::warn!(host, "the mail server's password goes over the network unencrypted, as ?tls=none allows");
        }
        Ok(Self { host, port: url.port().unwrap_or(port), tls, credentials, near })
    }

    /// The error says whether the server has enough of us (421) in the place of a greeting.
    async fn connect(&self) -> std::result::Result<AsyncSmtpConnection, (String, bool)> {
        let told = |err: SmtpError| (causes(&err), err.status().map(u16::from) == Some(421));
        let (hello, server) = (ClientId::default(), (self.host.as_str(), self.port));
        let parameters = || TlsParameters::new(self.host.clone());
        let wrapped = if self.tls == Tls::Wrapped { Some(parameters().map_err(told)?) } else { None };
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, None, &hello, wrapped, None).await.map_err(told)?;
        let upgrade = self.tls == Tls::Required || (self.tls == Tls::Opportunistic && connection.can_starttls());
        if upgrade {
            connection.starttls(parameters().map_err(told)?, &hello).await.map_err(told)?;
        }
        if self.tls == Tls::Opportunistic && !upgrade && self.credentials.is_some() && !self.near {
            let why = "it offers no TLS, and the password is not sent without; ?tls=none would allow it";
            return Err((why.into(), false));
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await.map_err(told)?;
        }
        Ok(connection)
    }
}

/// A message that certainly did not go out, for how long, and whether the connection may be used on.
struct Refused {
    why: String,
    term: RefusalPeriod,
    usable: bool,
    /// The server has closed the connection, or has enough of them (421).
    closes: bool,
}

/// Replies that are about us and not about a message: the server closes (421), or wants a login, or another one.
const ABOUT_US: [u16; 6] = [421, 454, 530, 534, 535, 538];

impl Refused {
    /// A complete reply leaves the connection in order; what is no reply is the connection's end.
    fn by(err: &SmtpError) -> Self {
        let replied = err.is_permanent() || err.is_transient();
        let term = match err.status().map(u16::from) {
            Some(code) if ABOUT_US.contains(&code) => RefusalPeriod::Channel,
            _ if err.is_permanent() || err.is_client() => RefusalPeriod::ForGood,
            _ => RefusalPeriod::ForNow,
        };
        let closes = err.status().map(u16::from) == Some(421);
        Self { why: err.to_string(), term, usable: replied && !closes, closes }
    }

    fn late(what: &str) -> Self {
        Self {
            why: format!("the mail server did not answer in time: {what}"),
            term: RefusalPeriod::ForNow,
            usable: false,
            closes: false,
        }
    }

    fn delivery(self) -> Delivery {
        Delivery::Refused { why: self.why, term: self.term }
    }
}

impl Smtp {
    /// `smtps://user:password@host`, `smtp://user:password@host:587?tls=required`, `smtp://host:25`.
    pub fn new(url: &str, from: Mailbox, patience: Duration) -> Result<Self> {
        let server = Server::of(url)?;
        let (idle, open, allowed, kept) = Default::default();
        Ok(Self { server, from, patience, idle, open, allowed, kept })
    }

    fn kept(&self) -> Option<Open> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < limits::SMTP_IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: Open) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < limits::SMTP_BATCH as usize {
            idle.push((connection, Instant::now()));
            self.kept.notify_one();
        }
    }

    /// The server allows no more connections than are in use now, for a while.
    fn narrow(&self, others: usize) {
        tracing::warn!(connections = others, "the mail server allows no more connections");
        *self.allowed.lock().unwrap_or_else(PoisonError::into_inner) = Some((others, Instant::now()));
    }

    /// A connection that another message is done with, waited for shortly.
    async fn freed(&self) -> Option<Open> {
        let waited = timeout(limits::SMTP_STALE, async {
            loop {
                if let Some(kept) = self.kept() {
                    return kept;
                }
                self.kept.notified().await;
            }
        });
        waited.await.ok()
    }

    async fn fresh(&self) -> std::result::Result<Open, Refused> {
        match timeout(self.patience, self.server.connect()).await {
            // Whoever can't log in today may be let in tomorrow: the message itself was not refused.
            Ok(Err((err, closes))) => {
                let why = format!("the mail server can't be used: {err}");
                Err(Refused { why, term: RefusalPeriod::Channel, usable: false, closes })
            }
            Ok(Ok(connection)) => {
                self.open.fetch_add(1, SeqCst);
                Ok(Open { connection, count: self.open.clone() })
            }
            Err(_) => Err(Refused { term: RefusalPeriod::Channel, ..Refused::late("connecting") }),
        }
    }

    async fn send(&self, email: &lettre::Message) -> Delivery {
        let bytes = email.formatted();
        let mut connection = None;
        // A kept connection may have been ended by the server meanwhile, which shows at once. What took longer is another
        // try, before which it is asked again whether the message may go.
        if let Some(mut kept) = self.kept() {
            let begun = Instant::now();
            match introduce(&mut kept.connection, self.patience, email, &bytes).await {
                Ok(()) => connection = Some(kept),
                // It takes so many messages over one connection: another one is made.
                Err(refused) if refused.closes => {}
                Err(refused) if refused.usable || begun.elapsed() > limits::SMTP_STALE => {
                    return self.refused(kept, refused).await;
                }
                Err(_) => {}
            }
        }
        let mut connection = match connection {
            Some(connection) => connection,
            None => {
                let mut fresh = match self.fresh().await {
                    Ok(fresh) => fresh,
                    // It may have enough of them: others of ours may be on their way in.
                    Err(refused) if refused.closes => match self.freed().await {
                        Some(freed) => {
                            self.narrow(self.open.load(SeqCst));
                            freed
                        }
                        None => return refused.delivery(),
                    },
                    Err(refused) => return refused.delivery(),
                };
                if let Err(refused) = introduce(&mut fresh.connection, self.patience, email, &bytes).await {
                    return self.refused(fresh, refused).await;
                }
                fresh
            }
        };
        failpoint::reach("in_data");
        // From here on only a complete reply tells what became of it.
        let told = timeout(self.patience, connection.connection.message(&bytes)).await;
        failpoint::reach("after_dot");
        match told {
            Ok(Ok(reply)) if reply.code().severity == Severity::PositiveCompletion => {
                self.keep(connection);
                Delivery::Accepted
            }
            // It asks for more, which there is not: nobody can say what it made of it.
            Ok(Ok(reply)) => {
                Delivery::Lost { why: format!("the mail server answered {} to the message", reply.code()) }
            }
            Ok(Err(err)) if err.is_permanent() || err.is_transient() => {
                self.refused(connection, Refused::by(&err)).await
            }
            Ok(Err(err)) => Delivery::Lost { why: format!("the connection was lost before the reply: {err}") },
            Err(_) => Delivery::Lost { why: "the mail server did not answer in time after the message".into() },
        }
    }

    async fn refused(&self, mut connection: Open, refused: Refused) -> Delivery {
        if refused.usable
            && matches!(timeout(Duration::from_secs(5), connection.connection.command(Rset)).await, Ok(Ok(_)))
        {
            self.keep(connection);
        }
        refused.delivery()
    }
}

/// A connection that the server has greeted, counted as long as it is there.
struct Open {
    connection: AsyncSmtpConnection,
    count: Arc<AtomicUsize>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.fetch_sub(1, SeqCst);
    }
}

/// An error with what is behind it: `Connection refused` and not only `Connection error`.
fn causes(err: &SmtpError) -> String {
    let (mut told, mut at) = (err.to_string(), std::error::Error::source(err));
    while let Some(inner) = at {
        let more = inner.to_string();
        if !told.contains(&more) {
            told = format!("{told}: {more}");
        }
        at = inner.source();
    }
    told
}

/// MAIL, RCPT and DATA, each with its time: whatever fails here, the message did not go out.
async fn introduce(
    connection: &mut AsyncSmtpConnection,
    patience: Duration,
    email: &lettre::Message,
    bytes: &[u8],
) -> std::result::Result<(), Refused> {
    let envelope = email.envelope();
    let mut parameters = Vec::new();
    let foreign = envelope.from().into_iter().chain(envelope.to()).any(|address| !address.to_string().is_ascii());
    let needs = [
        (foreign, Extension::SmtpUtfEight, MailParameter::SmtpUtfEight),
        (!bytes.is_ascii(), Extension::EightBitMime, MailParameter::Body(MailBodyParameter::EightBitMime)),
    ];
    for (needed, extension, parameter) in needs {
        if needed && !connection.server_info().supports_feature(extension) {
            let why = format!("the mail server has no {extension}, which this message needs");
            return Err(Refused { why, term: RefusalPeriod::ForGood, usable: true, closes: false });
        }
        if needed {
            parameters.push(parameter);
        }
    }
    said(connection, patience, "MAIL", Mail::new(envelope.from().cloned(), parameters)).await?;
    for to in envelope.to() {
        said(connection, patience, "RCPT", Rcpt::new(to.clone(), Vec::new())).await?;
    }
    said(connection, patience, "DATA", Data).await
}

async fn said(
    connection: &mut AsyncSmtpConnection,
    patience: Duration,
    what: &str,
    command: impl std::fmt::Display,
) -> std::result::Result<(), Refused> {
    match timeout(patience, connection.command(command)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(err)) => Err(Refused::by(&err)),
        Err(_) => Err(Refused::late(what)),
    }
}

impl MailTransport for Smtp {
    fn batch(&self) -> u64 {
        let allowed = *self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = allowed.filter(|(_, since)| since.elapsed() < limits::SMTP_NARROW);
        now.map_or(u64::from(limits::SMTP_BATCH), |(allowed, _)| Ord::max(allowed as u64, 1))
    }

    async fn deliver(&self, message: &Model) -> Delivery {
        match mail::compose(&self.from, message) {
            Ok(composed) => self.send(&composed).await,
            Err(why) => Delivery::Refused { why, term: RefusalPeriod::ForGood },
        }
    }

    async fn look_up(&self, _: &Model) -> Option<bool> {
        None
    }
}
