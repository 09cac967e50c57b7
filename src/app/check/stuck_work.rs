//! Checks that no work fails repeatedly.

use super::{CheckedSnapshot, Violations};
use crate::kernel::error::Result;
use crate::kernel::limits;

pub(super) async fn check(snapshot: &CheckedSnapshot) -> Result<Vec<Violations>> {
    let mut found = Violations::new("no work fails again and again");
    let sql = "SELECT work, failures, error, next_try_at, run_id FROM stuck ORDER BY since, subject";
    for row in snapshot.all(sql).await? {
        let (work, failures, error): (String, i32, String) =
            (row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?);
        let next: chrono::DateTime<chrono::Utc> = row.try_get_by_index(3)?;
        let run: Option<entity::id::RunId> = row.try_get_by_index(4)?;
        let of = run.map_or_else(|| "records".to_owned(), |run| run.to_string());
        // A few failures in a row are no violation.
        found.record(failures < limits::STUCK_FAILURES, || {
            format!("{work} of {of} failed {failures} times in a row, next at {}: {error}", next.to_rfc3339())
        });
    }
    Ok(vec![found])
}
