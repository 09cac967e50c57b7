//! Mail as files in a folder: what is sent when no server is configured. A file is there whole or not at all.

use std::path::PathBuf;

use entity::communication::Model;
use lettre::message::Mailbox;
use tokio::io::AsyncWriteExt;

use super::{Delivery, MailTransport, RefusalPeriod, mail};
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;

/// The folder.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    from: Mailbox,
}

impl Outbox {
    /// Makes the folder where it is not there yet.
    pub async fn new(folder: PathBuf, from: Mailbox) -> Result<Self> {
        let unusable = |err| Error::ours(format!("the outbox {} can't be made: {err}", folder.display()));
        crate::kernel::db::file::private_folder(&folder).map_err(unusable)?;
        Ok(Self { folder, from })
    }

    fn path(&self, message: &Model) -> PathBuf {
        self.folder.join(format!("{}.eml", message.id))
    }

    /// Written aside, synced, then renamed: whoever looks sees a whole message, and twice is once.
    async fn put(&self, message: &Model, bytes: &[u8]) -> std::io::Result<()> {
        let aside = self.folder.join(format!(".{}.part", message.id));
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside).await?;
        file.write_all(bytes).await?;
        file.sync_all().await?;
        tokio::fs::rename(&aside, self.path(message)).await
    }
}

impl MailTransport for Outbox {
    fn batch(&self) -> u64 {
        limits::OUTBOX_BATCH
    }

    async fn deliver(&self, message: &Model) -> Delivery {
        match mail::compose(&self.from, message) {
            Ok(composed) => match self.put(message, &composed.formatted()).await {
                Ok(()) => Delivery::Accepted,
                Err(err) => Delivery::Refused { why: format!("the outbox: {err}"), term: RefusalPeriod::Channel },
            },
            Err(why) => Delivery::Refused { why, term: RefusalPeriod::ForGood },
        }
    }

    async fn look_up(&self, message: &Model) -> Option<bool> {
        tokio::fs::try_exists(self.path(message)).await.ok()
    }
}
