//! Mail over SMTP: pooled connections, TLS or STARTTLS, authentication, as the address says.

use entity::communication::Model;
use lettre::message::Mailbox;
use lettre::transport::smtp::{Error as SmtpError, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::{Courier, Delivery, mail};
use crate::error::{Error, Result};
use crate::limits;

/// A mail server.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Smtp {
    /// `smtps://user:password@host`, `smtp://user:password@host:587?tls=required`, `smtp://host:25`.
    pub fn new(url: &str, from: Mailbox) -> Result<Self> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|err| Error::ours(format!("SORTIE_SMTP_URL can't be read: {err}")))?;
        let pool = PoolConfig::new().max_size(limits::SMTP_BATCH);
        Ok(Self { transport: builder.timeout(Some(limits::SMTP_TIME)).pool_config(pool).build(), from })
    }
}

impl Courier for Smtp {
    fn batch(&self) -> u64 {
        u64::from(limits::SMTP_BATCH)
    }

    async fn deliver(&self, message: &Model) -> Delivery {
        match mail::compose(&self.from, message) {
            Ok(composed) => match self.transport.send(composed).await {
                Ok(_) => Delivery::Accepted,
                Err(err) => told(&err),
            },
            Err(why) => Delivery::Refused { why, again: false },
        }
    }

    async fn look_up(&self, _: &Model) -> Option<bool> {
        None
    }
}

/// What an error says about the message's fate. A complete reply is certain, and so is a connection that never came to
/// be; anything else may have happened after the last byte, and is unknown.
fn told(err: &SmtpError) -> Delivery {
    let why = err.to_string();
    if err.is_permanent() || err.is_client() {
        Delivery::Refused { why, again: false }
    } else if err.is_transient() || err.is_tls() || why.starts_with("Connection error") {
        Delivery::Refused { why, again: true }
    } else {
        Delivery::Lost { why }
    }
}
