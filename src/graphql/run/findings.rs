//! The findings about runs, loaded for all runs of a response together.

use std::collections::HashMap;

use entity::id::RunId;

use crate::domain::run::findings::{Finding, of_runs};
use crate::graphql::batch_loader::Loader;
use crate::graphql::loader::Rows;
use crate::kernel::error::Result;

/// Loader key for the findings about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FindingsOfRun(pub RunId);

impl Loader<FindingsOfRun> for Rows {
    type Value = Vec<Finding>;

    async fn load(&self, runs: &[FindingsOfRun]) -> Result<HashMap<FindingsOfRun, Self::Value>> {
        let ids: Vec<RunId> = runs.iter().map(|of| of.0).collect();
        let found = of_runs(&self.db, &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, findings)| (FindingsOfRun(id), findings)).collect())
    }
}
