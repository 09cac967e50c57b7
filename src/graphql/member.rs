//! Members: the object, its queries and its mutations.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use entity::id::MemberId;
use entity::member::Role;

use super::record::given;
use super::viewer;
use crate::domain::people::member as noun;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// A person who belongs to the org.
pub struct Member(pub entity::member::Model);

impl RowFields for Member {}

/// A person who belongs to the org.
#[Object]
impl Member {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The email address, unique within the org.
    async fn email(&self) -> &str {
        &self.0.email
    }

    /// The role, which sets the member's permissions.
    async fn role(&self) -> Role {
        self.0.role
    }

    /// The `sub` claim of the member's tokens at the identity provider; null if none is set.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// Creation time.
    async fn created_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.updated_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(MemberQuery: member, members of Member, MemberId, Members);

/// Fields of a new member.
#[derive(InputObject)]
pub struct CreateMemberInput {
    /// The name.
    name: String,
    /// The email address, unique within the org.
    email: String,
    /// The role; VIEWER by default.
    role: Option<Role>,
    /// The `sub` claim of the member's tokens at the identity provider. Unique within the org.
    subject: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to a member. Omitted fields stay as they are.
#[derive(InputObject)]
pub struct UpdateMemberInput {
    /// Id of the member.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the member has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// The new name.
    name: Option<String>,
    /// The new email address.
    email: Option<String>,
    /// The new role.
    role: Option<Role>,
    /// The new `sub` claim; null removes it.
    subject: MaybeUndefined<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed member.
#[derive(SimpleObject)]
pub struct MemberPayload {
    /// The member after the change.
    member: Member,
}

deletion!(MemberDeletion: delete_member of MemberId);

/// Mutations for members.
#[derive(Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Creates a member. Rejected with BAD_USER_INPUT, naming the field.
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

    /// Updates the given fields. Rejected with NOT_FOUND, CONFLICT or BAD_USER_INPUT.
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
