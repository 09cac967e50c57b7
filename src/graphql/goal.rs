//! Goals.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::id::GoalId;

use super::viewer;
use crate::domain::content::goal as noun;
use crate::kernel::validate;

/// What a campaign is for.
pub struct Goal(pub entity::goal::Model);

/// What a campaign is for.
#[Object]
impl Goal {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What is to be achieved; empty where nothing was said.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// When it was made.
    async fn created_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.created_at
    }

    /// When it was last changed.
    async fn updated_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.updated_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(GoalQuery: goal, goals of Goal, GoalId, Goals);

/// What is to be made.
#[derive(InputObject)]
pub struct CreateGoalInput {
    /// The name.
    name: String,
    /// What is to be achieved.
    description: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be changed: only what is given.
#[derive(InputObject)]
pub struct UpdateGoalInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another name.
    name: Option<String>,
    /// Another description.
    description: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct GoalPayload {
    /// As it is now.
    goal: Goal,
}

deletion!(GoalDeletion: delete_goal of GoalId);

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct GoalMutation;

#[Object]
impl GoalMutation {
    /// Makes one. Refused with BAD_USER_INPUT, naming the field.
    async fn create_goal(&self, ctx: &Context<'_>, input: CreateGoalInput) -> Result<GoalPayload> {
        let fields = noun::Fields { name: Some(input.name), description: input.description };
        Ok(GoalPayload {
            goal: Goal(idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields))),
        })
    }

    /// Changes what is given. Refused with NOT_FOUND, CONFLICT, BAD_USER_INPUT.
    async fn update_goal(&self, ctx: &Context<'_>, input: UpdateGoalInput) -> Result<GoalPayload> {
        let id = validate::id::<GoalId>("id", &input.id)?;
        let fields = noun::Fields { name: input.name, description: input.description };
        let changed = idempotent!(ctx, input.idempotency_key, |db| noun::update(
            db,
            viewer(ctx),
            id,
            input.expected_revision,
            &fields
        ));
        Ok(GoalPayload { goal: Goal(changed) })
    }
}
