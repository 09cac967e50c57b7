//! The fields of a run whose values its row has.

use async_graphql::{InputType, Value};
use entity::columns::{Columns, PartialModel};

use super::Run;
use crate::graphql::selection::{RowFields, text};

impl RowFields for Run {
    fn row_field(&self, name: &str) -> Option<Value> {
        let row = &self.row;
        Some(match name {
            "id" => text(row.id),
            "name" => row.name.to_value(),
            "type" => row.run_type.to_value(),
            "status" => row.status.to_value(),
            "channel" => row.channel.to_value(),
            "campaignVersion" => row.campaign_id.map(|_| row.campaign_version).to_value(),
            "description" => row.description.to_value(),
            "messagesOnWay" => row.in_flight.to_value(),
            "scheduledFor" => row.scheduled_for.to_value(),
            "queuedAt" => row.queued_at.to_value(),
            "startedAt" => row.started_at.to_value(),
            "endedAt" => row.ended_at.to_value(),
            "audienceCount" => row.audience_count.to_value(),
            "outcome" => row.outcome.to_value(),
            "failure" => row.failure.to_value(),
            "createdAt" => row.created_at.to_value(),
            "revision" => row.revision.to_value(),
            _ => return None,
        })
    }

    fn columns_of(name: &str) -> Option<Columns> {
        use entity::run::Column::*;
        Some(entity::run::Model::columns(match name {
            "id" => &[Id],
            "name" => &[Name],
            "type" => &[RunType],
            "status" => &[Status],
            "channel" => &[Channel],
            "campaignVersion" => &[CampaignId, CampaignVersion],
            "description" => &[Description],
            "messagesOnWay" => &[InFlight],
            "scheduledFor" => &[ScheduledFor],
            "queuedAt" => &[QueuedAt],
            "startedAt" => &[StartedAt],
            "endedAt" => &[EndedAt],
            "audienceCount" => &[AudienceCount],
            "outcome" => &[Outcome],
            "failure" => &[Failure],
            "createdAt" => &[CreatedAt],
            "revision" => &[Revision],
            "campaign" => &[CampaignId],
            "failureCode" => &[Status, StartedAt],
            "runTemplate" => &[RunTemplateId],
            "schedule" => &[ScheduleId],
            "parent" => &[ParentId],
            _ => return None,
        }))
    }
}
