//! The agents and members that a run's structure names, by id. They are resolved at the launch: an
//! agent may be renamed, and a member's address may change, while the run makes its later steps.

use std::collections::{BTreeMap, HashSet};

use entity::definition::{Definition, StepDef};
use entity::id::{AgentId, MemberId};
use entity::step::{self, Executor};
use entity::{agent, member};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::plan::run_template::{Executors, steps};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Ids of the executors that a structure names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorIds {
    /// Agents and functions, by name.
    pub agents: BTreeMap<String, AgentId>,
    /// Members, by mail address in lower case.
    pub members: BTreeMap<String, MemberId>,
}

impl ExecutorIds {
    /// Looks up the names of a structure as they are now. Names that nobody has are left out.
    pub(super) async fn of_structure(
        db: &impl ConnectionTrait,
        viewer: &Viewer,
        definition: &Definition,
    ) -> Result<Self> {
        let found = Executors::of(db, viewer, definition).await?;
        let named: HashSet<&String> = steps(definition).filter_map(|step| step.agent.as_ref()).collect();
        let agents = found.agents.into_iter().filter(|(name, _)| named.contains(name));
        Ok(Self {
            agents: agents.map(|(name, (id, _))| (name, id)).collect(),
            members: found.members.into_iter().collect(),
        })
    }

    /// Returns the executors of a run's later steps: those of its launch that have not been deleted
    /// since. None of them can be deleted before the transaction ends.
    pub(super) async fn of_run(
        tx: &Tx,
        viewer: &Viewer,
        launched: Option<&Self>,
        definition: &Definition,
    ) -> Result<Self> {
        let Some(launched) = launched else {
            // The run was launched before ids were stored.
            return Self::of_structure(tx.db(), viewer, definition).await;
        };
        let mut left = launched.clone();
        if !left.agents.is_empty() {
            let select = agent::Entity::find().filter(agent::COLUMN.org_id.eq(viewer.org_id));
            let ids = left.agents.values().copied();
            let select =
                select.filter(any_of(tx.dialect(), agent::COLUMN.id, ids)).order_by_asc(agent::COLUMN.id).lock_shared();
            let found: HashSet<AgentId> = select.all(tx.db()).await?.into_iter().map(|row| row.id).collect();
            left.agents.retain(|_, id| found.contains(id));
        }
        if !left.members.is_empty() {
            let select = member::Entity::find().filter(member::COLUMN.org_id.eq(viewer.org_id));
            let ids = left.members.values().copied();
            let select = select
                .filter(any_of(tx.dialect(), member::COLUMN.id, ids))
                .order_by_asc(member::COLUMN.id)
                .lock_shared();
            let found: HashSet<MemberId> = select.all(tx.db()).await?.into_iter().map(|row| row.id).collect();
            left.members.retain(|_, id| found.contains(id));
        }
        Ok(left)
    }

    /// Returns the member or agent that a step names; none if it names nobody, or somebody who is gone.
    pub(super) fn of_step(&self, declared: &StepDef) -> Option<Uuid> {
        match declared.assigned_to {
            Executor::Human => self.members.get(&declared.assignee.as_ref()?.to_lowercase()).map(|id| id.0),
            Executor::Agent | Executor::Workflow => self.agents.get(declared.agent.as_ref()?).map(|id| id.0),
        }
    }
}

/// Makes steps that are to be done again anybody's if their member or agent has been deleted: closed
/// steps don't keep them from being deleted.
pub(super) async fn release_deleted(tx: &Tx, steps: &[step::Model]) -> Result<()> {
    let assigned: Vec<_> = steps.iter().filter(|step| step.assignee_id.is_some()).map(|step| step.id).collect();
    if assigned.is_empty() {
        return Ok(());
    }
    let assignee = || Expr::col((step::Entity, step::Column::AssigneeId));
    let mut is_member = Query::select();
    is_member
        .expr(Expr::val(1))
        .from(member::Entity)
        .and_where(assignee().equals((member::Entity, member::Column::Id)));
    let mut is_agent = Query::select();
    is_agent.expr(Expr::val(1)).from(agent::Entity).and_where(assignee().equals((agent::Entity, agent::Column::Id)));
    step::Entity::update_many()
        .col_expr(step::Column::AssigneeId, Expr::value(Option::<Uuid>::None))
        .filter(any_of(tx.dialect(), step::COLUMN.id, assigned))
        .filter(Expr::exists(is_member).not())
        .filter(Expr::exists(is_agent).not())
        .exec(tx.db())
        .await?;
    Ok(())
}
