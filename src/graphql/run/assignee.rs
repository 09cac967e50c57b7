//! The member to whom a task is assigned.

use std::collections::HashMap;

use entity::id::{MemberId, TaskId};

use crate::domain::run::task;
use crate::graphql::batch_loader::Loader;
use crate::graphql::loader::Rows;
use crate::kernel::error::Result;

/// Loader key for the member to whom all of a task's steps are assigned; of a task without a step per
/// record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AssigneeOfTask(pub(super) TaskId);

impl Loader<AssigneeOfTask> for Rows {
    type Value = MemberId;

    async fn load(&self, tasks: &[AssigneeOfTask]) -> Result<HashMap<AssigneeOfTask, Self::Value>> {
        let ids: Vec<TaskId> = tasks.iter().map(|of| of.0).collect();
        let found = task::assignees(self.db.read(), &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, member)| (AssigneeOfTask(id), member)).collect())
    }
}
