//! The fields of a run whose values its row has.

use super::Run;
use crate::graphql::selection::text;

row_fields! {
    Run, entity::run, |row: row|
    "id" [Id] => text(row.id),
    "name" [Name] => row.name.to_value(),
    "type" [RunType] => row.run_type.to_value(),
    "status" [Status] => row.status.to_value(),
    "channel" [Channel] => row.channel.to_value(),
    "campaignVersion" [CampaignId, CampaignVersion] => row.campaign_id.map(|_| row.campaign_version).to_value(),
    "description" [Description] => row.description.to_value(),
    "messagesOnWay" [InFlight] => row.in_flight.to_value(),
    "scheduledFor" [ScheduledFor] => row.scheduled_for.to_value(),
    "queuedAt" [QueuedAt] => row.queued_at.to_value(),
    "startedAt" [StartedAt] => row.started_at.to_value(),
    "endedAt" [EndedAt] => row.ended_at.to_value(),
    "audienceCount" [AudienceCount] => row.audience_count.to_value(),
    "outcome" [Outcome] => row.outcome.to_value(),
    "failure" [Failure] => row.failure.to_value(),
    "createdAt" [CreatedAt] => row.created_at.to_value(),
    "revision" [Revision] => row.revision.to_value(),
    resolved from:
    "campaign" [CampaignId],
    "occurrenceAt" [OccurrenceAt, BackfillFor],
    "failureCode" [Status, StartedAt],
    "runTemplate" [RunTemplateId],
    "schedule" [ScheduleId],
    "parent" [ParentId],
}
