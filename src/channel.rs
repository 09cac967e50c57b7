//! Connections to external systems. The channels for mail hand over a message and report its
//! delivery; `http_client` and `language_model` serve API calls and models.

pub mod http_client;
pub mod language_model;

pub mod mail;
pub mod outbox;
pub mod pause;
pub mod rate;
pub mod smtp;

use chrono::Duration;
use entity::communication::Model;

use crate::kernel::config::Config;
use crate::kernel::error::Result;
use rate::Rate;

/// The result of handing over a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The receiving system has accepted the message.
    Accepted,
    /// The receiving system certainly does not have the message.
    Refused {
        /// The receiving system's error, or the reason why it was not reached.
        why: String,
        /// The duration of the refusal.
        term: RefusalPeriod,
    },
    /// Unknown if the receiving system has the message.
    Unknown {
        /// The reason.
        why: String,
    },
}

/// The scope and duration of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalPeriod {
    /// Permanent: the same message would be refused again.
    ForGood,
    /// Temporary: this message may be accepted later.
    ForNow,
    /// Temporary, and not specific to this message: the system can't be reached, or rejects the
    /// login.
    Channel,
}

/// A transport for mail, implemented by `outbox` and `smtp`.
pub trait MailTransport {
    /// Maximum number of messages handed over at once.
    fn batch(&self) -> u64;
    /// Hands one message over.
    fn deliver(&self, message: &Model) -> impl Future<Output = Delivery> + Send;
    /// True if the receiving system has a message whose hand-over was cut short; `None` if it can't
    /// be asked.
    fn look_up(&self, message: &Model) -> impl Future<Output = Option<bool>> + Send;
}

/// The configured mail transport, its rate and its retries.
#[derive(Debug)]
pub struct Mail {
    transport: Transport,
    /// The rate limit; `None` for no limit.
    pub rate: Option<Rate>,
    /// The period for which a temporarily refused message is retried.
    pub retry_period: Duration,
    /// The order of hand-overs and answers.
    pub answer_order: pause::AnswerOrder,
}

#[derive(Debug)]
enum Transport {
    /// Files in a folder.
    Outbox(outbox::Outbox),
    /// A mail server.
    Smtp(smtp::Smtp),
}

impl Mail {
    /// A mail server if one is configured, else the outbox. Returns an internal error for an
    /// address that can't be parsed.
    pub async fn configured(config: &Config) -> Result<Self> {
        let from = mail::from(&config.mail_from)?;
        let transport = match &config.smtp_url {
            Some(url) => Transport::Smtp(smtp::Smtp::new(url, from, config.smtp_time())?),
            None => Transport::Outbox(outbox::Outbox::new(config.outbox(), from).await?),
        };
        let rate = config.mail_per_minute.map(|per_minute| Rate { channel: entity::Channel::Email, per_minute });
        Ok(Self {
            transport,
            rate,
            retry_period: Duration::hours(i64::from(config.mail_retry_hours)),
            answer_order: pause::AnswerOrder::default(),
        })
    }
}

impl MailTransport for Mail {
    fn batch(&self) -> u64 {
        match &self.transport {
            Transport::Outbox(outbox) => outbox.batch(),
            Transport::Smtp(smtp) => smtp.batch(),
        }
    }

    async fn deliver(&self, message: &Model) -> Delivery {
        match &self.transport {
            Transport::Outbox(outbox) => outbox.deliver(message).await,
            Transport::Smtp(smtp) => smtp.deliver(message).await,
        }
    }

    async fn look_up(&self, message: &Model) -> Option<bool> {
        match &self.transport {
            Transport::Outbox(outbox) => outbox.look_up(message).await,
            Transport::Smtp(smtp) => smtp.look_up(message).await,
        }
    }
}
