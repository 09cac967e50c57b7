//! Members.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use entity::id::MemberId;
use entity::member::Role;

use super::record::given;
use super::viewer;
use crate::domain::people::member as noun;
use crate::kernel::validate;

/// A person of the org.
pub struct Member(pub entity::member::Model);

/// A person of the org.
#[Object]
impl Member {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The address, unique within the org.
    async fn email(&self) -> &str {
        &self.0.email
    }

    /// What they may do.
    async fn role(&self) -> Role {
        self.0.role
    }

    /// As whom the identity provider knows them, the `sub` of their tokens; null where they have none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
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

definition!(MemberQuery: member, members of Member, MemberId, Members);

/// What is to be made.
#[derive(InputObject)]
pub struct CreateMemberInput {
    /// The name.
    name: String,
    /// The address, unique within the org.
    email: String,
    /// What they may do; VIEWER unless said.
    role: Option<Role>,
    /// As whom the identity provider knows them: the `sub` of their tokens. Unique within the org.
    subject: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be changed: only what is given.
#[derive(InputObject)]
pub struct UpdateMemberInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another name.
    name: Option<String>,
    /// Another address.
    email: Option<String>,
    /// Another role.
    role: Option<Role>,
    /// Another `sub` of their tokens; null takes it away.
    subject: MaybeUndefined<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct MemberPayload {
    /// As it is now.
    member: Member,
}

deletion!(MemberDeletion: delete_member of MemberId);

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Makes one. Refused with BAD_USER_INPUT, naming the field.
    async fn create_member(&self, ctx: &Context<'_>, input: CreateMemberInput) -> Result<MemberPayload> {
        let fields = noun::Fields {
            name: Some(input.name),
            email: Some(input.email),
            role: input.role,
            subject: Some(input.subject),
        };
        Ok(MemberPayload {
            member: Member(idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields))),
        })
    }

    /// Changes what is given. Refused with NOT_FOUND, CONFLICT, BAD_USER_INPUT.
    async fn update_member(&self, ctx: &Context<'_>, input: UpdateMemberInput) -> Result<MemberPayload> {
        let id = validate::id::<MemberId>("id", &input.id)?;
        let fields =
            noun::Fields { name: input.name, email: input.email, role: input.role, subject: given(&input.subject) };
        let changed = idempotent!(ctx, input.idempotency_key, |db| noun::update(
            db,
            viewer(ctx),
            id,
            input.expected_revision,
            &fields
        ));
        Ok(MemberPayload { member: Member(changed) })
    }
}
