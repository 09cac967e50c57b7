//! Mail transport over SMTP: pooled connections, TLS or STARTTLS, authentication. It derives from
//! an error's stage whether the message was sent.
//!
//! Uses lettre's connection but not its transport, which does not report an error's stage: a loss
//! before DATA looks like one after the final dot. Its async commands also have no timeout.

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

/// A mail server and the pool of connections to it.
pub struct Smtp {
    server: Server,
    from: Mailbox,
    /// Timeout of one command.
    patience: Duration,
    /// Idle connections, with the time since when.
    idle: Mutex<Vec<(Open, Instant)>>,
    /// Number of connections that the server has greeted.
    open: Arc<AtomicUsize>,
    /// Number of connections allowed when the server last refused another one, and the time.
    allowed: Mutex<Option<(usize, Instant)>>,
    /// Notified when a connection becomes idle.
    kept: Notify,
}

/// The server's address and the credentials for it.
struct Server {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    /// True if the server is on this machine.
    local: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Tls {
    Plain,
    /// TLS from the first byte.
    Wrapped,
    /// STARTTLS; without it, nothing is sent.
    Required,
    /// STARTTLS if the server offers it.
    Opportunistic,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("from", &self.from).finish_non_exhaustive()
    }
}

/// The value of the URL's `tls` parameter.
fn tls_parameter(url: &url::Url) -> Option<String> {
    url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value.into_owned())
}

impl Server {
    fn of(address: &str) -> Result<Self> {
        let invalid = |why: String| Error::internal(format!("SORTIE_SMTP_URL is invalid: {why}"));
        let form = "write it as smtp://host:25, smtps://user:password@host or smtp://user:password@host?tls=required";
        let url = url::Url::parse(address).map_err(|err| invalid(format!("{err}: {form}")))?;
        let tls = tls_parameter(&url);
        let (tls, port) = match (url.scheme(), tls.as_deref()) {
            ("smtp", None) => (Tls::Plain, 25),
            ("smtp", Some("none")) => (Tls::Plain, 25),
            ("smtp", Some("required")) => (Tls::Required, 587),
            ("smtp", Some("opportunistic")) => (Tls::Opportunistic, 587),
            ("smtps", _) => (Tls::Wrapped, 465),
            _ => {
                return Err(invalid(
                    "use smtp://, smtps://, and ?tls=required, ?tls=opportunistic or ?tls=none".into(),
                ));
            }
        };
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text)
                .decode_utf8()
                .map(|text| text.into_owned())
                .map_err(Error::internal)
        };
        let credentials = match (url.username(), url.password().unwrap_or_default()) {
            ("", "") => None,
            ("", _) => return Err(invalid("it has a password and no user: write smtp://user:password@host".into())),
            (_, "") => {
                let why = "it has a user and no password, so that nobody could log in: write smtp://user:password@host, \
                           or leave the user out";
                return Err(invalid(why.into()));
            }
            (user, password) => Some(Credentials::new(decode(user)?, decode(password)?)),
        };
        let host = match url.host().ok_or_else(|| invalid("it names no host".into()))? {
            url::Host::Domain(name) => name.to_owned(),
            url::Host::Ipv4(address) => address.to_string(),
            // Without the brackets, which an address has in URLs only.
            url::Host::Ipv6(address) => address.to_string(),
        };
        let local = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        if credentials.is_some() && tls == Tls::Plain && !local {
            if tls_parameter(&url).is_none() {
                let why = "its password would go over the network unencrypted: write smtps://, or add ?tls=required \
                           (?tls=none allows it nevertheless)";
                return Err(invalid(why.into()));
            }
            tracing::warn!(host, "the mail server's password goes over the network unencrypted, as ?tls=none allows");
        }
        Ok(Self { host, port: url.port().unwrap_or(port), tls, credentials, local })
    }

    /// Opens a connection and logs in. The error's flag is set on a reply of 421 (too many).
    async fn connect(&self) -> std::result::Result<AsyncSmtpConnection, (String, bool)> {
        let failure = |err: SmtpError| (causes(&err), err.status().map(u16::from) == Some(421));
        let (hello, server) = (ClientId::default(), (self.host.as_str(), self.port));
        let parameters = || TlsParameters::new(self.host.clone());
        let wrapped = if self.tls == Tls::Wrapped { Some(parameters().map_err(failure)?) } else { None };
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, None, &hello, wrapped, None).await.map_err(failure)?;
        let upgrade = self.tls == Tls::Required || (self.tls == Tls::Opportunistic && connection.can_starttls());
        if upgrade {
            connection.starttls(parameters().map_err(failure)?, &hello).await.map_err(failure)?;
        }
        if self.tls == Tls::Opportunistic && !upgrade && self.credentials.is_some() && !self.local {
            let why = "it offers no TLS, and the password is not sent without TLS; ?tls=none would allow it";
            return Err((why.into(), false));
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await.map_err(failure)?;
        }
        Ok(connection)
    }
}

/// The refusal of a message that was certainly not sent.
struct Refused {
    why: String,
    term: RefusalPeriod,
    /// True if the connection may be used for other messages.
    usable: bool,
    /// Set when the server closes the connection or allows no more of them (421).
    closes: bool,
}

/// Reply codes about the client, not a message: closed (421), or a missing or rejected login.
const CLIENT_CODES: [u16; 6] = [421, 454, 530, 534, 535, 538];

impl Refused {
    /// Derives the refusal from an error. The connection stays usable only after a complete reply.
    fn of_error(err: &SmtpError) -> Self {
        let replied = err.is_permanent() || err.is_transient();
        let term = match err.status().map(u16::from) {
            Some(code) if CLIENT_CODES.contains(&code) => RefusalPeriod::Channel,
            _ if err.is_permanent() || err.is_client() => RefusalPeriod::ForGood,
            _ => RefusalPeriod::ForNow,
        };
        let closes = err.status().map(u16::from) == Some(421);
        Self { why: err.to_string(), term, usable: replied && !closes, closes }
    }

    fn timed_out(what: &str) -> Self {
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

    fn take_idle(&self) -> Option<Open> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < limits::SMTP_IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn return_idle(&self, connection: Open) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < limits::SMTP_BATCH as usize {
            idle.push((connection, Instant::now()));
            self.kept.notify_one();
        }
    }

    /// Limits the connections to those in use now, for a while.
    fn limit_connections(&self, others: usize) {
        tracing::warn!(connections = others, "the mail server allows no more connections");
        *self.allowed.lock().unwrap_or_else(PoisonError::into_inner) = Some((others, Instant::now()));
    }

    /// Waits shortly for a connection that another message releases.
    async fn wait_idle(&self) -> Option<Open> {
        let released = timeout(limits::SMTP_STALE, async {
            loop {
                if let Some(kept) = self.take_idle() {
                    return kept;
                }
                self.kept.notified().await;
            }
        });
        released.await.ok()
    }

    async fn connect(&self) -> std::result::Result<Open, Refused> {
        match timeout(self.patience, self.server.connect()).await {
            // The login may succeed later, and the message itself was not refused.
            Ok(Err((err, closes))) => {
                let why = format!("the mail server can't be used: {err}");
                Err(Refused { why, term: RefusalPeriod::Channel, usable: false, closes })
            }
            Ok(Ok(connection)) => {
                self.open.fetch_add(1, SeqCst);
                Ok(Open { connection, count: self.open.clone() })
            }
            Err(_) => Err(Refused { term: RefusalPeriod::Channel, ..Refused::timed_out("connecting") }),
        }
    }

    async fn send(&self, email: &lettre::Message) -> Delivery {
        let bytes = email.formatted();
        let mut connection = None;
        // The server may have closed an idle connection, which shows at once. A later error counts
        // as a try of its own, so that the message is reserved again before the next.
        if let Some(mut kept) = self.take_idle() {
            let begun = Instant::now();
            match begin_message(&mut kept.connection, self.patience, email, &bytes).await {
                Ok(()) => connection = Some(kept),
                // The server limits the messages per connection: open another one.
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
                let mut fresh = match self.connect().await {
                    Ok(fresh) => fresh,
                    // The server may allow no more connections, with others of this pool opening.
                    Err(refused) if refused.closes => match self.wait_idle().await {
                        Some(freed) => {
                            self.limit_connections(self.open.load(SeqCst));
                            freed
                        }
                        None => return refused.delivery(),
                    },
                    Err(refused) => return refused.delivery(),
                };
                if let Err(refused) = begin_message(&mut fresh.connection, self.patience, email, &bytes).await {
                    return self.refused(fresh, refused).await;
                }
                fresh
            }
        };
        failpoint::reach("in_data");
        // Only a complete reply after this says if the message was accepted.
        let reply = timeout(self.patience, connection.connection.message(&bytes)).await;
        failpoint::reach("after_dot");
        match reply {
            Ok(Ok(reply)) if reply.code().severity == Severity::PositiveCompletion => {
                self.return_idle(connection);
                Delivery::Accepted
            }
            // An intermediate reply asks for more data, and there is none: the outcome is unknown.
            Ok(Ok(reply)) => {
                Delivery::Unknown { why: format!("the mail server answered {} to the message", reply.code()) }
            }
            Ok(Err(err)) if err.is_permanent() || err.is_transient() => {
                self.refused(connection, Refused::of_error(&err)).await
            }
            Ok(Err(err)) => Delivery::Unknown { why: format!("the connection was lost before the reply: {err}") },
            Err(_) => Delivery::Unknown { why: "the mail server did not answer in time after the message".into() },
        }
    }

    async fn refused(&self, mut connection: Open, refused: Refused) -> Delivery {
        if refused.usable
            && matches!(timeout(Duration::from_secs(5), connection.connection.command(Rset)).await, Ok(Ok(_)))
        {
            self.return_idle(connection);
        }
        refused.delivery()
    }
}

/// A connection that the server has greeted, counted until it is dropped.
struct Open {
    connection: AsyncSmtpConnection,
    count: Arc<AtomicUsize>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.fetch_sub(1, SeqCst);
    }
}

/// An error's text with its causes: `Connection refused` and not only `Connection error`.
fn causes(err: &SmtpError) -> String {
    let (mut text, mut source) = (err.to_string(), std::error::Error::source(err));
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}

/// Sends MAIL, RCPT and DATA, each with its timeout. Whatever fails here, the message was not sent.
async fn begin_message(
    connection: &mut AsyncSmtpConnection,
    patience: Duration,
    email: &lettre::Message,
    bytes: &[u8],
) -> std::result::Result<(), Refused> {
    let envelope = email.envelope();
    let mut parameters = Vec::new();
    let non_ascii = envelope.from().into_iter().chain(envelope.to()).any(|address| !address.to_string().is_ascii());
    let needs = [
        (non_ascii, Extension::SmtpUtfEight, MailParameter::SmtpUtfEight),
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
    command(connection, patience, "MAIL", Mail::new(envelope.from().cloned(), parameters)).await?;
    for to in envelope.to() {
        command(connection, patience, "RCPT", Rcpt::new(to.clone(), Vec::new())).await?;
    }
    command(connection, patience, "DATA", Data).await
}

async fn command(
    connection: &mut AsyncSmtpConnection,
    patience: Duration,
    what: &str,
    command: impl std::fmt::Display,
) -> std::result::Result<(), Refused> {
    match timeout(patience, connection.command(command)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(err)) => Err(Refused::of_error(&err)),
        Err(_) => Err(Refused::timed_out(what)),
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
