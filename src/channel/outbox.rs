//! Mail transport that writes each message to a file in a folder, for servers without a configured
//! mail server. Files appear atomically.

use std::path::PathBuf;

use entity::communication::Model;
use lettre::message::Mailbox;
use tokio::io::AsyncWriteExt;

use super::{Delivery, MailTransport, RefusalPeriod, mail};
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;

/// A folder of mail files.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    from: Mailbox,
}

impl Outbox {
    /// Creates the folder unless it exists.
    pub async fn new(folder: PathBuf, from: Mailbox) -> Result<Self> {
        let unusable = |err| Error::internal(format!("the outbox {} can't be created: {err}", folder.display()));
        crate::kernel::db::file::private_folder(&folder).map_err(unusable)?;
        Ok(Self { folder, from })
    }

    fn path(&self, message: &Model) -> PathBuf {
        self.folder.join(format!("{}.eml", message.id))
    }

    /// Writes a temporary file, syncs it, and renames it: readers see complete messages only, and a
    /// repeated delivery replaces the file.
    async fn put(&self, message: &Model, bytes: &[u8]) -> std::io::Result<()> {
        let temporary = self.folder.join(format!(".{}.part", message.id));
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary).await?;
        file.write_all(bytes).await?;
        file.sync_all().await?;
        tokio::fs::rename(&temporary, self.path(message)).await
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
