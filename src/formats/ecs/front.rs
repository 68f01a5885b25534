//! What every record begins with: its time and what kind of event it is.

use super::Context;
use super::class::Class;
use crate::formats::out::{From, Out, Value};
use crate::formats::rfc3339;
use crate::record::device::Time;
use crate::record::event::{Outcome, Severity};
use crate::record::row::{Field, Slots};

/// The release whose field names these are.
const VERSION: &str = "9.0.0";

/// What of a record's front follows from what it is about.
#[derive(Debug)]
pub(super) struct Front<'a> {
    /// `event`, or `asset` for a device as it is.
    pub(super) kind: &'static str,
    pub(super) class: Class,
    /// The fields from which the class follows.
    pub(super) from: Slots,
    pub(super) action: Name<'a>,
    pub(super) outcome: Option<&'a Outcome<'a>>,
    pub(super) severity: Severity,
    pub(super) severity_from: Slots,
    /// The vendor's text of the time.
    pub(super) time: Option<Field<'a>>,
    /// When the portal had it.
    pub(super) received: Option<Time<'a>>,
    /// What it is that tells: the agent or the portal.
    pub(super) observer: &'static str,
}

/// The name of an action.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name<'a> {
    /// The vendor's word.
    Field(Option<Field<'a>>),
    Ours(&'static str),
}

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, front: &Front<'_>) {
    write_with(out, context, front, |_| {});
}

/// The same; `event` writes further members of `event`.
pub(super) fn write_with<O: Out>(
    out: &mut O,
    context: &Context<'_>,
    front: &Front<'_>,
    event: impl FnOnce(&mut O),
) {
    let collected = rfc3339(context.origin.collected);
    match (context.record.time.and_then(rfc3339), front.time) {
        (Some(time), Some(field)) => {
            out.put("@timestamp", Value::Escaped(&time), From::derived(field.slot(), "in UTC"))
        }
        (Some(time), None) => out.word("@timestamp", &time, "when it happened"),
        (None, _) => date(out, "@timestamp", &collected, From::fixed("the time of collection")),
    }
    out.open("ecs");
    out.word("version", VERSION, "of the schema");
    out.close();

    out.open("event");
    let mut uid = [0; 36];
    let uid = context.record.uid.hyphenated().encode_lower(&mut uid);
    out.word("id", uid, "lockstep's stable id of the record");
    out.word("kind", front.kind, "of the kind of record");
    write_class(out, front);
    match front.action {
        Name::Field(field) => out.text("action", field),
        Name::Ours(word) => out.word("action", word, "what became of it"),
    }
    if let Some(outcome) = front.outcome {
        let word = match outcome.permitted {
            Some(true) => "success",
            Some(false) => "failure",
            None => "unknown",
        };
        let rule = "success where it was permitted, failure where it was denied";
        out.put("outcome", Value::Escaped(word), From::derived(outcome.from, rule));
        out.text("code", outcome.code);
        out.text("reason", outcome.verdict_name);
    }
    if let Some(severity) = severity(front.severity) {
        let rule = "1 to 5, by the verdict, what was really done, and the threat level";
        out.put("severity", Value::Integer(severity), From::derived(front.severity_from, rule));
    }
    if let Some(received) = front.received {
        let from = From::derived(received.field.slot(), "when the portal had it, in UTC");
        date(out, "created", &rfc3339(received.at), from);
    }
    date(out, "ingested", &collected, From::fixed("when it was collected"));
    out.word("provider", "ThreatLocker", "of the product");
    out.word("module", "threatlocker", "of the product");
    let dataset = ["threatlocker.", context.origin.source].concat();
    out.put("dataset", Value::Text(&dataset), From::fixed("the source"));
    event(out);
    if let Some(raw) = context.raw.filter(|_| context.record.keeps_rest) {
        out.put("original", Value::Text(raw), From::fixed("the vendor's row, if the sink is to carry it"));
    }
    out.close();

    out.open("observer");
    out.word("vendor", "ThreatLocker", "of the product");
    out.word("product", "ThreatLocker", "of the product");
    out.word("type", front.observer, "the agent or the portal, by the source");
    out.close();
    out.open("labels");
    out.put("site", Value::Text(context.origin.site), From::fixed("the site"));
    out.close();
}

/// Writes a time that can be said.
pub(super) fn date(out: &mut impl Out, key: &str, at: &Option<String>, from: From) {
    if let Some(at) = at {
        out.put(key, Value::Escaped(at), from);
    }
}

fn write_class(out: &mut impl Out, front: &Front<'_>) {
    let Class { categories, types, takes_verdict } = front.class;
    let from = From::derived(front.from, "by what was done");
    out.open_list("category");
    for category in categories {
        out.put("", Value::Escaped(category), from);
    }
    out.close_list();
    out.open_list("type");
    for kind in types {
        out.put("", Value::Escaped(kind), from);
    }
    if let Some((outcome, permitted)) =
        front.outcome.filter(|_| takes_verdict).and_then(|outcome| Some((outcome, outcome.permitted?)))
    {
        let word = if permitted { "allowed" } else { "denied" };
        out.put("", Value::Escaped(word), From::derived(outcome.from, "what was really done"));
    }
    out.close_list();
}

fn severity(severity: Severity) -> Option<i64> {
    match severity {
        Severity::Unknown => None,
        Severity::Informational => Some(1),
        Severity::Low => Some(2),
        Severity::Medium => Some(3),
        Severity::High => Some(4),
        Severity::Critical => Some(5),
    }
}
