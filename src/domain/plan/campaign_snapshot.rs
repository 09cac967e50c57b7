//! The snapshot of a campaign's parts that a run is started with, and its drift from the parts as
//! they are now.

use std::collections::HashMap;
use std::hash::Hash;

use entity::definition::Layer;
use entity::id::*;
use entity::reviewer::ReviewPolicy;
use entity::writer::WriterKind;
use entity::{campaign, goal, message_template, reviewer, segment, writer};
use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::content::templating::Source;
use crate::domain::plan::run_template::layer::{self, Changes, Resolved};
use crate::domain::plan::run_template::{self, Chain};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// The campaign's parts, as rows.
#[derive(Clone, Debug)]
pub struct CampaignParts {
    /// The campaign.
    pub campaign: campaign::Model,
    /// The goal.
    pub goal: Option<goal::Model>,
    /// The writer.
    pub writer: Option<writer::Model>,
    /// The reviewer.
    pub reviewer: Option<reviewer::Model>,
    /// The message template.
    pub message_template: Option<message_template::Model>,
    /// The segment.
    pub segment: Option<segment::Model>,
    /// The template of its runs' structure; `None` means the platform's one for its channel.
    pub run_template: Option<Chain>,
    /// The structure after layering.
    pub resolved: Resolved,
}

impl CampaignParts {
    /// Reads the campaign's parts. Errors: NOT_FOUND for a run template that the viewer can't read.
    pub async fn of(db: &impl ConnectionTrait, viewer: &Viewer, campaign: campaign::Model) -> Result<Self> {
        let id = campaign.id;
        let only = Self::of_all(db, viewer, vec![campaign]).await?.pop();
        only.ok_or_else(|| Refusal::not_found("run template of the campaign", id).into())
    }

    /// Reads the parts of several campaigns, in one statement for each kind of part. A campaign whose run
    /// template the viewer can't read is left out.
    pub async fn of_all(
        db: &impl ConnectionTrait,
        viewer: &Viewer,
        campaigns: Vec<campaign::Model>,
    ) -> Result<Vec<Self>> {
        use crate::domain::audience::segment;
        use crate::domain::content::{goal, message_template, reviewer, writer};

        let templates = ids(&campaigns, |campaign| campaign.run_template_id);
        let chains = Chain::of_all(db, run_template::find_all(db, viewer, &templates).await?).await?;
        let chains = by_id(chains, |chain| chain.template.id);
        let goals = goal::find_all(db, viewer, &ids(&campaigns, |campaign| campaign.goal_id)).await?;
        let goals = by_id(goals, |row| row.id);
        let writers = writer::find_all(db, viewer, &ids(&campaigns, |campaign| campaign.writer_id)).await?;
        let writers = by_id(writers, |row| row.id);
        let reviewers = reviewer::find_all(db, viewer, &ids(&campaigns, |campaign| campaign.reviewer_id)).await?;
        let reviewers = by_id(reviewers, |row| row.id);
        let messages = ids(&campaigns, |campaign| campaign.message_template_id);
        let messages = by_id(message_template::find_all(db, viewer, &messages).await?, |row| row.id);
        let segments = segment::find_all(db, viewer, &ids(&campaigns, |campaign| campaign.segment_id)).await?;
        let segments = by_id(segments, |row| row.id);
        let parts = campaigns.into_iter().filter_map(|campaign| {
            let run_template = match campaign.run_template_id {
                Some(id) => Some(chains.get(&id)?.clone()),
                None => None,
            };
            let resolved = resolved(&campaign, run_template.as_ref());
            Some(Self {
                goal: campaign.goal_id.and_then(|id| goals.get(&id).cloned()),
                writer: campaign.writer_id.and_then(|id| writers.get(&id).cloned()),
                reviewer: campaign.reviewer_id.and_then(|id| reviewers.get(&id).cloned()),
                message_template: campaign.message_template_id.and_then(|id| messages.get(&id).cloned()),
                segment: campaign.segment_id.and_then(|id| segments.get(&id).cloned()),
                run_template,
                resolved,
                campaign,
            })
        });
        Ok(parts.collect())
    }

    /// Returns the revisions of all parts. Compare them again before carrying out a decision that
    /// was based on these rows.
    pub fn revisions(&self) -> Vec<Option<i32>> {
        vec![
            Some(self.campaign.revision),
            self.goal.as_ref().map(|row| row.revision),
            self.writer.as_ref().map(|row| row.revision),
            self.reviewer.as_ref().map(|row| row.revision),
            self.message_template.as_ref().map(|row| row.revision),
            self.segment.as_ref().map(|row| row.revision),
            self.run_template.as_ref().map(|chain| chain.template.revision),
            self.run_template.as_ref().and_then(|chain| chain.base.as_ref()).map(|row| row.revision),
        ]
    }
}

/// The ids that campaigns have of one kind of part.
fn ids<I>(campaigns: &[campaign::Model], id_of: impl Fn(&campaign::Model) -> Option<I>) -> Vec<I> {
    campaigns.iter().filter_map(id_of).collect()
}

fn by_id<I: Eq + Hash, T>(all: Vec<T>, id_of: impl Fn(&T) -> I) -> HashMap<I, T> {
    all.into_iter().map(|one| (id_of(&one), one)).collect()
}

/// The structure of a campaign's runs, after layering.
fn resolved(campaign: &campaign::Model, chain: Option<&Chain>) -> Resolved {
    match chain {
        Some(chain) => chain.resolve(&campaign.overrides),
        None => {
            let plain = run_template::standard_outreach(campaign.channel);
            let changes = [Changes { layer: Layer::Campaign, overrides: &campaign.overrides }];
            layer::resolve(&plain, Layer::Platform, &changes)
        }
    }
}

/// The snapshot as it is stored with the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CampaignSnapshot {
    /// The version of the campaign.
    pub campaign_version: i32,
    /// The goal.
    pub goal: Option<Named<GoalId>>,
    /// The source of content.
    pub writer: Option<Named<WriterId>>,
    /// The writer's kind.
    pub writer_kind: Option<WriterKind>,
    /// The writer's own template.
    pub writer_body: Option<String>,
    /// The approver of content.
    pub reviewer: Option<Named<ReviewerId>>,
    /// The reviewer's policy.
    pub review_policy: Option<ReviewPolicy>,
    /// The template that is rendered.
    pub message_template: Option<Named<MessageTemplateId>>,
    /// The template's version.
    pub message_template_version: Option<i32>,
    /// The template's subject.
    pub subject: Option<String>,
    /// The template's body.
    pub body: Option<String>,
    /// The audience.
    pub segment: Option<Named<SegmentId>>,
    /// The audience's filter; `None` for a fixed list.
    pub segment_filter: Option<Value>,
    /// The single record, instead of a segment.
    pub record_id: Option<RecordId>,
    /// The campaign's addition to the writer's instructions.
    pub instructions: String,
    /// Values for placeholders.
    pub variables: Map<String, Value>,
    /// Set when the run repeats only the failed part of another run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_failed: bool,
}

/// Builds a language model's system prompt: the instructions of the agent, the writer and the
/// campaign, in that order.
pub fn system_prompt(snapshot: Option<&CampaignSnapshot>, agent: &str) -> String {
    let writer = snapshot.and_then(|snapshot| snapshot.writer.as_ref()).map(|writer| writer.text.as_str());
    let campaign = snapshot.map(|snapshot| snapshot.instructions.as_str());
    let all = [Some(agent), writer, campaign].into_iter().flatten().filter(|text| !text.trim().is_empty());
    all.collect::<Vec<_>>().join("\n\n")
}

/// A part at the time of the snapshot: its id, name and text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named<I> {
    /// The id.
    pub id: I,
    /// The name at that time.
    pub name: String,
    /// The goal's description, the writer's instructions; empty for others.
    pub text: String,
}

impl CampaignSnapshot {
    /// Takes a snapshot of the parts.
    pub fn of(parts: &CampaignParts) -> Self {
        let campaign = &parts.campaign;
        let (goal, writer, reviewer) = (&parts.goal, &parts.writer, &parts.reviewer);
        let (template, segment) = (&parts.message_template, &parts.segment);
        Self {
            campaign_version: campaign.version,
            goal: goal.as_ref().map(|row| Named { id: row.id, name: row.name.clone(), text: row.description.clone() }),
            writer: writer.as_ref().map(|row| Named {
                id: row.id,
                name: row.name.clone(),
                text: row.instructions.clone(),
            }),
            writer_kind: writer.as_ref().map(|row| row.kind),
            writer_body: writer.as_ref().and_then(|row| row.body.clone()),
            reviewer: reviewer.as_ref().map(|row| Named { id: row.id, name: row.name.clone(), text: String::new() }),
            review_policy: reviewer.as_ref().map(|row| row.policy),
            message_template: template.as_ref().map(|row| Named {
                id: row.id,
                name: row.name.clone(),
                text: String::new(),
            }),
            message_template_version: template.as_ref().map(|row| row.version),
            subject: template.as_ref().and_then(|row| row.subject.clone()),
            body: template.as_ref().map(|row| row.body.clone()),
            segment: segment.as_ref().map(|row| Named { id: row.id, name: row.name.clone(), text: String::new() }),
            segment_filter: segment.as_ref().and_then(|row| row.filter.clone()),
            record_id: campaign.record_id,
            instructions: campaign.instructions.clone(),
            variables: campaign.variables.as_object().cloned().unwrap_or_default(),
            only_failed: false,
        }
    }

    /// Returns the source to render: the template, else the writer's own body; `None` without
    /// either.
    pub fn source(&self, campaign: &str, sender: &str) -> Option<Source> {
        let body = self.body.clone().or_else(|| self.writer_body.clone())?;
        Some(Source {
            subject: self.subject.clone(),
            body,
            variables: self.variables.clone(),
            campaign: campaign.to_owned(),
            sender: sender.to_owned(),
        })
    }

    /// Returns the fields that differ: `(field, value here, value in other)`.
    pub fn drift(&self, other: &Self) -> Result<Vec<(String, Value, Value)>> {
        if self == other {
            return Ok(Vec::new());
        }
        let (here, there) = (serde_json::to_value(self)?, serde_json::to_value(other)?);
        let (Some(here), Some(there)) = (here.as_object(), there.as_object()) else { return Ok(Vec::new()) };
        let differs = here.iter().filter_map(|(field, value)| {
            let now = there.get(field).cloned().unwrap_or(Value::Null);
            // `onlyFailed` belongs to the repeat; it is no change of the campaign.
            (now != *value && field != "onlyFailed").then(|| (field.clone(), value.clone(), now))
        });
        Ok(differs.collect())
    }
}
