//! The ways out: hand a message over, and say what became of it.

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

/// What became of a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The outside has it.
    Accepted,
    /// The outside certainly does not have it.
    Refused {
        /// What it said.
        why: String,
        /// For how long.
        term: RefusalPeriod,
    },
    /// Nobody can say.
    Lost {
        /// What happened.
        why: String,
    },
}

/// For how long the outside refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalPeriod {
    /// For good: the same message would be refused again.
    ForGood,
    /// For now: it may take this message later.
    ForNow,
    /// For now, and not this message alone: it can't be reached, or lets nobody in.
    Channel,
}

/// A way out. `outbox` and `smtp` are the two for mail.
pub trait MailTransport {
    /// How many messages it is handed at once.
    fn batch(&self) -> u64;
    /// Hands one message over.
    fn deliver(&self, message: &Model) -> impl Future<Output = Delivery> + Send;
    /// Whether the outside has a message whose hand-over was cut short; `None` where it can't be asked.
    fn look_up(&self, message: &Model) -> impl Future<Output = Option<bool>> + Send;
}

/// The way out for mail, and how fast it may be used.
#[derive(Debug)]
pub struct Mail {
    way: Way,
    /// None: as fast as it takes.
    pub rate: Option<Rate>,
    /// For how long a message that is refused for now is tried again.
    pub patience: Duration,
    /// The order of hand-overs and answers.
    pub turns: pause::AnswerOrder,
}

#[derive(Debug)]
enum Way {
    /// Files in a folder.
    Outbox(outbox::Outbox),
    /// A mail server.
    Smtp(smtp::Smtp),
}

impl Mail {
    /// A mail server where one is configured, else the outbox. Errors: ours, for an address that can't be read.
    pub async fn configured(config: &Config) -> Result<Self> {
        let from = mail::from(&config.mail_from)?;
        let way = match &config.smtp_url {
            Some(url) => Way::Smtp(smtp::Smtp::new(url, from, config.smtp_time())?),
            None => Way::Outbox(outbox::Outbox::new(config.outbox(), from).await?),
        };
        let rate = config.mail_per_minute.map(|per_minute| Rate { channel: entity::Channel::Email, per_minute });
        Ok(Self {
            way,
            rate,
            patience: Duration::hours(i64::from(config.mail_retry_hours)),
            turns: pause::AnswerOrder::default(),
        })
    }
}

impl MailTransport for Mail {
    fn batch(&self) -> u64 {
        match &self.way {
            Way::Outbox(outbox) => outbox.batch(),
            Way::Smtp(smtp) => smtp.batch(),
        }
    }

    async fn deliver(&self, message: &Model) -> Delivery {
        match &self.way {
            Way::Outbox(outbox) => outbox.deliver(message).await,
            Way::Smtp(smtp) => smtp.deliver(message).await,
        }
    }

    async fn look_up(&self, message: &Model) -> Option<bool> {
        match &self.way {
            Way::Outbox(outbox) => outbox.look_up(message).await,
            Way::Smtp(smtp) => smtp.look_up(message).await,
        }
    }
}
