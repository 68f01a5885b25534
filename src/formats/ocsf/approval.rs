//! Steps in the life of a request for approval: Entity Management, the entity being the request.

use super::class::{Class, Mapping, Profiles};
use super::common::{self, Front, UNKNOWN};
use super::objects::{self, User};
use super::{Context, Version};
use crate::formats::out::{From, Out, Value};
use crate::record::approval::{Approval, Person, Step};
use crate::record::row::Field;

/// How the step follows from the row.
const BY_STATE: &str = "by the state of the request, and by that before it";

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, request: &Approval<'_>) {
    let step = request.step;
    let (activity, activity_name) = match step {
        Step::Opened => (1, "Create"),
        Step::Removed => (4, "Delete"),
        _ => (3, "Update"),
    };
    // Before 1.5 the class has no verdicts.
    let judges = step.permits().is_some() && context.version >= Version::V1_5;
    let front = Front {
        mapping: Mapping { class: Class::Entity, activity, activity_name },
        profiles: if judges { Profiles::HostAndControl } else { Profiles::Host },
        activity_name: None,
        from: request.step_from,
        severity: step.severity(),
        severity_from: request.step_from,
        id: request.id,
        time: request.time.map(|time| time.field),
        organization: request.organization,
        code: request.status,
    };
    common::write_front(out, context, &front);
    write_status(out, request);
    if judges {
        write_verdict(out, context, request);
    }
    write_duration(out, request);
    out.open("actor");
    objects::user(out, "user", user(request.actor));
    if request.actor.name.is_none() {
        out.word("app_name", UNKNOWN, "where the row does not say who took the step");
    }
    out.close();
    let organization = [request.organization, request.organization_name];
    objects::host(out, context, request.host, organization, |out| {
        out.text("ip", request.address);
        out.open("hw_info");
        out.text("serial_number", request.serial);
        out.close();
    });
    write_entity(out, context, request);
    if let Some(reason) = &request.reason {
        const RULE: &str = "decoded where the portal has it in base64, else as it is";
        match &reason.decoded {
            Some(text) => {
                out.put("comment", Value::Text(text), From::derived(reason.field.slot(), RULE));
            }
            None => {
                out.put("comment", Value::Escaped(reason.field.inner()), From::field_if(reason.field, RULE))
            }
        }
    }
    out.text("message", request.comments);
    objects::enrichments(out, context);
    match step {
        // Nothing of a row that is not understood is said to be told.
        Step::Other => common::write_unmapped(out, context, Default::default()),
        _ => common::write_rest(out, context),
    }
}

/// What became of the request stands in `status_detail`, and the vendor's number in `status_code`.
fn write_status(out: &mut impl Out, request: &Approval<'_>) {
    let (id, caption) = match request.step.permits() {
        Some(true) => (1, "Success"),
        Some(false) => (2, "Failure"),
        None => (0, "Unknown"),
    };
    let from = From::derived(request.step_from, "Success where it is approved, Failure where it is rejected");
    out.put("status_id", Value::Integer(id), from);
    out.put("status", Value::Escaped(caption), from);
    out.text("status_code", request.status);
    let from = From::derived(request.step_from, BY_STATE);
    out.put("status_detail", Value::Escaped(request.step.as_str()), from);
}

fn write_verdict(out: &mut impl Out, context: &Context<'_>, request: &Approval<'_>) {
    let from = From::derived(request.step_from, BY_STATE);
    let (action, action_name, disposition, disposition_name) = match request.step.permits() {
        Some(true) => (1, "Allowed", 8, "Approved"),
        _ => (2, "Denied", 25, "Rejected"),
    };
    out.put("action_id", Value::Integer(action), from);
    out.put("action", Value::Escaped(action_name), from);
    out.put("disposition_id", Value::Integer(disposition), from);
    out.put("disposition", Value::Escaped(disposition_name), from);
    objects::write_policy(out, context, &request.policy);
}

/// From the request to its decision.
fn write_duration(out: &mut impl Out, request: &Approval<'_>) {
    let Some(took) = request.took else { return };
    let (from, to) = (took.from.field.slot(), took.to.field.slot());
    let milliseconds = (took.to.at - took.from.at).div_euclid(1_000);
    let both = From::derived(
        crate::record::row::Slots::from(from) | to.into(),
        "from the request to its decision, in milliseconds",
    );
    out.put("duration", Value::Integer(milliseconds), both);
    for (key, time) in [("start_time", took.from), ("end_time", took.to)] {
        let from = From::derived(time.field.slot(), "of a decision, in milliseconds since 1970");
        out.put(key, Value::Integer(time.at.div_euclid(1_000)), from);
    }
}

fn write_entity(out: &mut impl Out, context: &Context<'_>, request: &Approval<'_>) {
    out.open("entity");
    out.fixed("type_id", 99, "a request for approval");
    out.word("type", "Approval Request", "a request for approval");
    out.text("uid", request.id);
    match (request.path, request.id) {
        (Some(path), _) => out.text("name", Some(path)),
        (None, None) => out.word("name", UNKNOWN, "where the row does not say"),
        (None, Some(_)) => {}
    }
    objects::user(out, "user", user(request.user));
    out.open("data");
    out.text("requestTypeId", request.kind);
    if let Some(took) = request.took {
        out.put(
            "secondsToDecision",
            Value::Integer(took.seconds()),
            From::fixed("of a decision: from the request to it"),
        );
    }
    out.open("assignee");
    out.text("name", request.assignee.name);
    out.text("uid", request.assignee.id);
    out.close();
    out.text("hash", request.hash);
    out.text("sha256", request.sha256);
    out.integer("size", request.size);
    objects::facts_in(out, context, request.facts.iter());
    out.close();
    out.close();
}

fn user<'a>(person: Person<'a>) -> User<'a> {
    let organization: [Option<Field<'a>>; 2] = [None, None];
    User { name: person.name, id: person.id, email: person.email, organization }
}
