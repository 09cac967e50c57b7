//! The subscriptions that are live lists, one per noun.

use async_graphql::{Context, Result, Subscription};
use futures_util::Stream;

use super::change::ListChange;
use super::follow;
use super::noun::{Campaigns, Communications, Replies, Runs, Steps};
use crate::domain::message::communication::Filter as CommunicationFilter;
use crate::domain::message::reply::Filter as ReplyFilter;
use crate::domain::plan::campaign::list::Filter as CampaignFilter;
use crate::domain::run::list::RunFilter;
use crate::domain::run::step::StepFilter;
use crate::graphql::campaign::list::CampaignOrder;
use crate::graphql::reply::ReplyOrder;
use crate::graphql::run::list::RunOrder;
use crate::graphql::step::list::StepOrder;
use crate::kernel::page::Args;

/// Live lists.
#[derive(Default)]
#[doc(hidden)]
pub struct ListSubscription;

/// The first rows of a list.
fn head(first: Option<i32>) -> Args {
    Args { first, ..Args::default() }
}

#[Subscription]
impl ListSubscription {
    /// Live list of runs: the first rows of `runs` with the same filter and order, 50 by default
    /// and at most 500, kept up to date. The first item is a SNAPSHOT, then come the changes, at
    /// most four a second and none while nothing changes; `RunListChange` says how to apply them. A
    /// change of a run's progress counts as a change of the run. With `recordIds` in the filter, a
    /// run comes in with its first event after its recipients were stored. `after` is an item's
    /// `cursor`: it is checked, and the list begins with a SNAPSHOT that is at least as new.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn run_list(
        &self,
        ctx: &Context<'_>,
        filter: Option<RunFilter>,
        order_by: Option<RunOrder>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<ListChange<Runs>>> + use<>> {
        follow(ctx, Runs::new(filter.unwrap_or_default(), order_by, head(first))?, after).await
    }

    /// Live list of campaigns: the first rows of `campaigns` with the same filter and order; else as
    /// `runList`. A change of a campaign's run, its phase or its schedules counts as a change of the
    /// campaign.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn campaign_list(
        &self,
        ctx: &Context<'_>,
        filter: Option<CampaignFilter>,
        order_by: Option<CampaignOrder>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<ListChange<Campaigns>>> + use<>> {
        follow(ctx, Campaigns::new(filter.unwrap_or_default(), order_by, head(first)), after).await
    }

    /// Live work list: the first rows of `steps` with the same filter and order; else as `runList`.
    /// The renewal of a lease alone sends no item. With `ready` or `overdue` in the filter, steps
    /// that come or leave by the passing of time alone do so within 15 seconds.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn step_list(
        &self,
        ctx: &Context<'_>,
        filter: Option<StepFilter>,
        order_by: Option<StepOrder>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<ListChange<Steps>>> + use<>> {
        follow(ctx, Steps::new(filter.unwrap_or_default(), order_by, head(first))?, after).await
    }

    /// Live list of messages: the first rows of `communications` with the same filter; else as
    /// `runList`. A reply counts as a change of the message that it answers.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn communication_list(
        &self,
        ctx: &Context<'_>,
        filter: Option<CommunicationFilter>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<ListChange<Communications>>> + use<>> {
        follow(ctx, Communications::new(filter.unwrap_or_default(), head(first))?, after).await
    }

    /// Live list of replies, the inbox: the first rows of `replies` with the same filter and order;
    /// else as `runList`.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn reply_list(
        &self,
        ctx: &Context<'_>,
        filter: Option<ReplyFilter>,
        order_by: Option<ReplyOrder>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<ListChange<Replies>>> + use<>> {
        follow(ctx, Replies::new(filter.unwrap_or_default(), order_by, head(first))?, after).await
    }
}
