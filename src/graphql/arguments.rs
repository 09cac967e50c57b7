//! Descriptions of the arguments that mean the same wherever they occur.

use std::borrow::Cow;
use std::pin::Pin;

use async_graphql::registry::{MetaType, Registry};
use async_graphql::{Context, Response, SubscriptionType};
use futures_util::Stream;

/// The root of all subscriptions. It is the last type that registers itself, and describes the
/// arguments of the whole schema then.
#[derive(Default)]
pub struct Described<S>(S);

impl<S: SubscriptionType> SubscriptionType for Described<S> {
    fn type_name() -> Cow<'static, str> {
        S::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        let name = S::create_type_info(registry);
        describe(registry);
        name
    }

    fn create_field_stream<'a>(
        &'a self,
        ctx: &'a Context<'_>,
    ) -> Option<Pin<Box<dyn Stream<Item = Response> + Send + 'a>>> {
        self.0.create_field_stream(ctx)
    }
}

/// Gives arguments without a description that of their name.
fn describe(registry: &mut Registry) {
    for of in registry.types.values_mut() {
        let MetaType::Object { fields, is_subscription, .. } = of else { continue };
        for field in fields.values_mut() {
            let is_list = field.name.ends_with("List");
            for argument in field.args.values_mut().filter(|argument| argument.description.is_none()) {
                let of_stream = is_subscription.then(|| about_stream(&argument.name, is_list)).flatten();
                let is_required = argument.ty.ends_with('!');
                argument.description = of_stream.or_else(|| about(&argument.name, is_required)).map(str::to_owned);
            }
        }
    }
}

/// Descriptions of what means something else in a subscription: a live list, or a stream of events.
fn about_stream(argument: &str, is_list: bool) -> Option<&'static str> {
    match (argument, is_list) {
        ("after", true) => {
            Some("The `cursor` of the last item that the client received: the list begins with a SNAPSHOT again.")
        }
        ("after", false) => {
            Some("Cursor of the last event that the client received, to go on behind it. Null: from now on.")
        }
        ("first", true) => Some("Number of objects at the head of the list."),
        _ => None,
    }
}

/// The description of an argument.
fn about(argument: &str, is_required: bool) -> Option<&'static str> {
    Some(match argument {
        "input" => "What to do, and with which objects.",
        "id" => "Global id of the object.",
        "ids" => "Global ids of the objects, at most 100.",
        "first" => {
            "Number of objects from the beginning of the list, or behind `after` where there is one: at most 500, 50 \
             by default."
        }
        "last" => {
            "Number of objects from the end of the list, or before `before`: at most 500. Not together with `first`."
        }
        "after" => "Cursor of the object behind which the page begins. Null: the beginning of the list.",
        "before" => "Cursor of the object before which the page ends. Null: the end of the list.",
        "filter" if is_required => "Conditions that all objects match.",
        "filter" => "Conditions that all objects match. Null: all objects.",
        "orderBy" => "Order of the list. Null: the newest first.",
        "statuses" => "Only objects in these statuses. Null: in any.",
        "campaignId" if is_required => "Id of the campaign.",
        "runId" if is_required => "Id of the run.",
        "campaignId" => "Id of the campaign that the objects belong to. Null: any.",
        "runId" => "Id of the run that the objects belong to. Null: any.",
        "recordIds" => "Ids of the records to show it for. Null: the first ones of the audience.",
        "recordKind" => "Kind of the records. Null: all kinds.",
        "sample" => {
            "Number of records of the audience to show it for if `recordIds` is null: 3 by default, at most 20."
        }
        "action" => "The action that is asked about.",
        _ => return None,
    })
}
