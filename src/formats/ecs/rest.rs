//! What the schema has no name for, under `threatlocker`: what is known besides the row, under names of ours, and
//! what remains of the row, under the vendor's.
//!
//! A field that this version does not know may be called anything, also like an object that stands here already;
//! so do the members of a nested object that comes again as text. These stand one level deeper, in `unmapped`.

use super::Context;
use super::front::date;
use super::objects::user_name;
use crate::formats::out::{From, Out, Value};
use crate::formats::rfc3339;
use crate::record::row::{Field, Slots};

/// The device's group, where known.
pub(super) fn known_group(out: &mut impl Out, context: &Context<'_>) {
    if let Some(group) = context.known.device.and_then(|device| device.group) {
        out.put(
            "group",
            Value::Text(group),
            From::fixed("the device's group as listed before it was collected, where known"),
        );
    }
}

/// The device's mode, where known.
pub(super) fn known_mode(out: &mut impl Out, context: &Context<'_>) {
    if let Some(mode) = context.known.device.and_then(|device| device.mode) {
        out.put(
            "mode",
            Value::Text(mode),
            From::fixed("the device's mode as listed before it was collected, where known"),
        );
    }
}

/// Whether the row's own user is the last logged-in one.
pub(super) fn is_last_user(context: &Context<'_>, own: Option<Field<'_>>) -> bool {
    own.zip(context.known.user).is_some_and(|(own, user)| own.text() == user.name)
}

/// The last logged-in user, where it is not the row's own.
pub(super) fn last_user(out: &mut impl Out, context: &Context<'_>, own: Option<Field<'_>>) {
    const RULE: From = From::fixed("the last logged-in user at that time, where it is not the row's own");
    let Some(user) = context.known.user.as_ref().filter(|_| !is_last_user(context, own)) else { return };
    out.open("last_user");
    user_name(out, user.name, RULE);
    user_origin(out, context);
    out.close();
}

/// Where the last user is known from, and since when.
pub(super) fn user_origin(out: &mut impl Out, context: &Context<'_>) {
    let Some(user) = &context.known.user else { return };
    out.word("origin", user.origin.as_str(), "where the last user is known from");
    date(out, "time", &user.time.and_then(rfc3339), From::fixed("since when the last user is known"));
}

/// The applications that match what a request for approval is about; an empty list where the portal was asked and none
/// does.
pub(super) fn matching(out: &mut impl Out, context: &Context<'_>) {
    let Some(matching) = context.known.matching else { return };
    let from = From::fixed("the applications that the portal says match, where it was asked");
    out.put("matching_applications", Value::Json(matching.applications), from);
    if matching.more > 0 {
        let from = From::fixed("how many applications match beside those that are told");
        out.put("more_matching_applications", Value::Integer(matching.more.into()), from);
    }
}

/// All of the row that is not told elsewhere, verbatim.
pub(super) fn remainder(out: &mut impl Out, context: &Context<'_>) {
    if !context.record.keeps_rest {
        return;
    }
    for (one, other) in context.record.repeats.iter() {
        let told = out.told();
        for (again, of) in [(one, other), (other, one)] {
            if told.contains(of.slot()) && !told.contains(again.slot()) {
                out.tell(again, "left out where it repeats a field that is told");
            }
        }
    }
    all_but(out, context, out.told());
}

/// All of the row but what was told.
pub(super) fn all_but(out: &mut impl Out, context: &Context<'_>, told: Slots) {
    let row = context.record.row;
    let nested = row.names().nested();
    let member = |field: Field<'_>| nested.and_then(|_| context.name_of(field).split_once('.'));
    let clash = nested.and_then(|slot| row.get(slot)).filter(|object| !told.contains(object.slot()));
    for field in row.unused(told).filter(|field| member(*field).is_none()) {
        verbatim(out, context.name_of(field), field);
    }
    if let Some(object) = nested.filter(|_| clash.is_none()) {
        out.open(row.names().all()[usize::from(object)]);
        for field in row.unused(told) {
            if let Some((_, name)) = member(field) {
                verbatim(out, name, field);
            }
        }
        out.close();
    }
    out.open("unmapped");
    for field in row.unused(told).filter(|field| clash.is_some() && member(*field).is_some()) {
        verbatim(out, context.name_of(field), field);
    }
    for rest in row.rest() {
        out.put(&rest.key, Value::Json(rest.raw), From::fixed("a field that this version does not know"));
    }
    out.close();
}

fn verbatim(out: &mut impl Out, name: &str, field: Field<'_>) {
    out.put(name, Value::Json(field.raw()), From::field_if(field, "verbatim"));
}
