//! Stores with a meeting the mail address that its invitations name as the organizer: a calendar takes
//! an update only from the organizer of the invitation. Meetings from before have none, and go by the
//! member's address.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "ALTER TABLE meeting ADD COLUMN organizer_email {text};\n").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, "ALTER TABLE meeting DROP COLUMN organizer_email;\n").await
    }
}
