//! Finds the message that a reply's In-Reply-To and References headers name. Tolerates what mail
//! clients and relays write: missing angle brackets, several ids, folded lines, changed case, and
//! foreign ids beside ours.

use entity::communication::{COLUMN, Entity, Model};
use entity::id::CommunicationId;
use sea_orm::sea_query::ExprTrait;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Returns a header's ids in order: text in angle brackets, or a word with an `@`. The brackets and
/// the whitespace of folded lines are removed.
pub fn of_header(text: &str) -> Vec<String> {
    let (mut all, mut word, mut inside) = (Vec::new(), String::new(), false);
    for c in text.chars().chain([' ']) {
        match c {
            '<' => {
                all.push(std::mem::take(&mut word));
                inside = true;
            }
            '>' => {
                all.push(std::mem::take(&mut word));
                inside = false;
            }
            c if c.is_whitespace() && inside => {}
            c if c.is_whitespace() || (matches!(c, ',' | ';') && !inside) => all.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    all.push(word);
    all.retain(|id| id.contains('@'));
    all
}

/// Returns the message named by the last matching id: the newest of a thread comes last.
pub(crate) async fn find(db: &impl ConnectionTrait, viewer: &Viewer, ids: &[String]) -> Result<Option<Model>> {
    // The end of a long thread counts; the first id is included as clients that shorten References
    // keep it.
    let skipped = ids.len().saturating_sub(limits::THREAD_IDS);
    let ids: Vec<&String> = ids.iter().take(1).chain(ids.iter().skip(skipped.max(1))).collect();
    // The part before the @ is the communication's id, so the domain's case does not matter.
    let ours = ids.iter().filter_map(|id| id.split('@').next()?.to_lowercase().parse::<CommunicationId>().ok());
    let found = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), COLUMN.id, ours).or(any_of(
            db.get_database_backend(),
            COLUMN.message_id,
            ids.iter().map(|id| id.as_str()),
        )))
        .all(db)
        .await?;
    let named = |id: &&&String| found.iter().find(|row| row.message_id.eq_ignore_ascii_case(id)).cloned();
    Ok(ids.iter().rev().find_map(|id| named(&id)))
}
