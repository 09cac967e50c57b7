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
        let MetaType::Object { fields, .. } = of else { continue };
        for argument in fields.values_mut().flat_map(|field| field.args.values_mut()) {
            if argument.description.is_none() {
                argument.description = about(&argument.name, argument.ty.ends_with('!')).map(str::to_owned);
            }
        }
    }
}

fn about(argument: &str, is_required: bool) -> Option<&'static str> {
    Some(match argument {
        "input" => "What to do, and with which objects.",
        "id" => "Global id of the object.",
        "ids" => "Global ids of the objects, at most 500.",
        "first" => {
            "Number of objects from the beginning of the list, or behind `after`: 0 to 500; 50 if neither `first` nor `last` is given."
        }
        "last" => {
            "Number of objects from the end of the list, or before `before`: 0 to 500. Not together with `first`."
        }
        "after" => "Cursor of the object behind which the page begins. Null: the beginning of the list.",
        "before" => "Cursor of the object before which the page ends. Null: the end of the list.",
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
