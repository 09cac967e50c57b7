//! Events before they have a position in the log.

use entity::Actor;
use entity::id::*;
use serde_json::{Value, json};

use super::kinds;

/// An event before it has a position.
#[derive(Clone, Debug)]
pub struct Event {
    pub(super) org_id: OrgId,
    pub(super) kind: String,
    pub(super) actor: Actor,
    pub(super) payload: Value,
    pub(super) campaign_id: Option<CampaignId>,
    pub(super) run_id: Option<RunId>,
    pub(super) phase_id: Option<PhaseId>,
    pub(super) task_id: Option<TaskId>,
    pub(super) step_id: Option<StepId>,
    pub(super) record_id: Option<RecordId>,
    /// The step's kind, for the engine's loops; it is not stored.
    step_kind: Option<String>,
}

impl Event {
    /// An event of Sortie's own: `kind` is `noun.what_happened` with a noun reserved in `kinds`, so
    /// that clients cannot raise it.
    pub fn new(org_id: OrgId, kind: impl Into<String>, actor: &Actor) -> Self {
        let kind = kind.into();
        debug_assert!(kinds::is_ours(&kind) && kinds::may_come(&kind), "`{kind}` is missing in event/kinds.rs");
        Self::raised(org_id, kind, actor)
    }

    /// An event that a client raises.
    pub(crate) fn raised(org_id: OrgId, kind: String, actor: &Actor) -> Self {
        Self {
            org_id,
            kind,
            actor: actor.clone(),
            payload: json!({}),
            campaign_id: None,
            run_id: None,
            phase_id: None,
            task_id: None,
            step_id: None,
            record_id: None,
            step_kind: None,
        }
    }

    /// The kind, `noun.what_happened`.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// The kind of the step that it is about, if any.
    pub(crate) fn step_kind(&self) -> Option<&str> {
        self.step_kind.as_deref()
    }

    /// Sets the payload, which filters and readers use.
    pub fn payload(mut self, payload: Value) -> Self {
        self.payload = payload;
        self
    }

    /// Sets the campaign; none for guided work.
    pub fn campaign(mut self, id: impl Into<Option<CampaignId>>) -> Self {
        self.campaign_id = id.into();
        self
    }

    /// Sets the run and its campaign.
    pub fn run(mut self, run: &entity::run::Model) -> Self {
        self.run_id = Some(run.id);
        self.campaign_id = run.campaign_id;
        self
    }

    /// Sets the phase.
    pub fn phase(mut self, id: PhaseId) -> Self {
        self.phase_id = Some(id);
        self
    }

    /// Sets the task.
    pub fn task(mut self, id: TaskId) -> Self {
        self.task_id = Some(id);
        self
    }

    /// Sets the step with its record, phase and task.
    pub fn step(mut self, step: &entity::step::Model) -> Self {
        self.step_id = Some(step.id);
        self.step_kind = Some(step.kind.clone());
        self.record_id = step.record_id;
        self.phase(step.phase_id).task(step.task_id)
    }

    /// Sets the record.
    pub fn record(mut self, id: Option<RecordId>) -> Self {
        self.record_id = id;
        self
    }
}
