//! Steps in the life of a request for approval.

use super::front::{self, Front, Name};
use super::objects::{self, Host, User, again};
use super::{Context, class, rest};
use crate::formats::out::{From, Out, Value};
use crate::record::approval::{Approval, Step};
use crate::record::event::{Outcome, Verdict};
use crate::record::row::Slots;

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, request: &Approval<'_>) {
    let step = request.step;
    let outcome = Outcome {
        verdict: Verdict::Other,
        permitted: step.permits(),
        from: request.step_from,
        code: request.status,
        verdict_name: None,
        effect_name: None,
    };
    let front = Front {
        kind: "event",
        class: class::of_approval(step),
        from: request.step_from,
        action: Name::Ours(action(step)),
        outcome: Some(&outcome),
        severity: step.severity(),
        severity_from: request.step_from,
        time: request.time.map(|time| time.field),
        received: None,
        observer: "portal",
    };
    front::write_with(out, context, &front, |out| write_event(out, request));
    objects::organization(out, context, request.organization, request.organization_name);
    let host = Host {
        id: request.host.id,
        hostname: request.host.name,
        platform: request.host.platform,
        ..Host::default()
    };
    objects::host(out, context, &host);
    objects::user(
        out,
        &User { name: request.actor.name, id: request.actor.id, email: request.actor.email, target: None },
    );
    out.open("source");
    out.text("ip", request.address);
    out.close();
    out.open("file");
    if let Some(path) = request.path {
        objects::file_name(out, path, path.inner());
    }
    out.text("path", request.path);
    out.integer("size", request.size);
    objects::hash(out, request.sha256);
    out.close();
    out.open("rule");
    out.text("id", request.policy.id);
    out.close();
    out.text("message", request.comments);
    write_related(out, context, request);

    out.open("threatlocker");
    out.open("device");
    rest::known_group(out, context);
    rest::known_mode(out, context);
    out.close();
    rest::last_user(out, context, request.user.name);
    rest::matching(out, context);
    if let Some(took) = request.took {
        let from = From::fixed("of a decision: from the request to it");
        out.put("seconds_to_decision", Value::Integer(took.seconds()), from);
    }
    match step {
        // Nothing of a row that is not understood is said to be told.
        Step::Other => rest::all_but(out, context, Slots::NONE),
        _ => rest::remainder(out, context),
    }
    out.close();
}

/// The step in words of ours.
fn action(step: Step) -> &'static str {
    match step {
        Step::Opened => "approval-opened",
        Step::Assigned => "approval-assigned",
        Step::Escalated => "approval-escalated",
        Step::Returned => "approval-returned",
        Step::Approved => "approval-approved",
        Step::SelfApproved => "approval-self-approved",
        Step::Rejected => "approval-rejected",
        Step::NotLearned => "approval-not-learned",
        Step::Reopened => "approval-reopened",
        Step::Updated => "approval-updated",
        Step::Removed => "approval-removed",
        Step::Other => "approval-other",
    }
}

/// Why it was asked for, and how long the decision took.
fn write_event(out: &mut impl Out, request: &Approval<'_>) {
    if let Some(reason) = &request.reason {
        const RULE: &str = "decoded where the portal has it in base64, else as it is";
        match &reason.decoded {
            Some(text) => out.put("reason", Value::Text(text), From::derived(reason.field.slot(), RULE)),
            None => {
                out.put("reason", Value::Escaped(reason.field.inner()), From::field_if(reason.field, RULE))
            }
        }
    }
    let Some(took) = request.took else { return };
    let both = Slots::from(took.from.field.slot()) | took.to.field.slot().into();
    let nanoseconds = (took.to.at - took.from.at).saturating_mul(1_000);
    let from = From::derived(both, "from the request to its decision, in nanoseconds");
    out.put("duration", Value::Integer(nanoseconds), from);
    for (key, time) in [("start", took.from), ("end", took.to)] {
        let from = From::derived(time.field.slot(), "of a decision, in UTC");
        front::date(out, key, &crate::formats::rfc3339(time.at), from);
    }
}

fn write_related(out: &mut impl Out, context: &Context<'_>, request: &Approval<'_>) {
    let [actor, whole_actor] = objects::related_user(request.actor.name);
    let [user, whole_user] = objects::related_user(request.user.name);
    let [known, whole_known] = objects::known_user(context, request.user.name);
    let assignee = again(request.assignee.name);
    let host = objects::known(context.known.device.and_then(|device| device.name));
    out.open("related");
    objects::related(out, "user", &[actor, whole_actor, user, whole_user, assignee, known, whole_known]);
    objects::related(out, "hosts", &[again(request.host.name), host]);
    objects::related(out, "ip", &[again(request.address)]);
    objects::related(out, "hash", &[again(request.sha256), again(request.hash)]);
    out.close();
}
