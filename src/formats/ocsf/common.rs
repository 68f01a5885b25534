//! What every record has: its class, time and metadata at the front, what remains of the row at the end.

use super::class::{Mapping, Profiles};
use super::{Context, Version};
use crate::formats::out::{From, Out, Value};
use crate::record::About;
use crate::record::event::{Outcome, Severity};
use crate::record::row::{Field, Slots};

/// Stands where the schema insists on a name and the row has none.
pub(super) const UNKNOWN: &str = "unknown";

/// What of a record's front follows from what it is about.
#[derive(Debug)]
pub(super) struct Front<'a> {
    pub(super) mapping: Mapping,
    /// The profiles that it uses.
    pub(super) profiles: Profiles,
    /// The vendor's word for the activity, for activities that the schema has no word for.
    pub(super) activity_name: Option<Field<'a>>,
    /// The fields from which class and activity follow.
    pub(super) from: Slots,
    pub(super) severity: Severity,
    pub(super) severity_from: Slots,
    /// The vendor's id of the event, its time, its organization's id and its word for the kind of row.
    pub(super) id: Option<Field<'a>>,
    pub(super) time: Option<Field<'a>>,
    pub(super) organization: Option<Field<'a>>,
    pub(super) code: Option<Field<'a>>,
}

pub(super) fn write_front(out: &mut impl Out, context: &Context<'_>, front: &Front<'_>) {
    let Mapping { class, activity, activity_name } = front.mapping;
    let class = class.facts();
    const BY_ACTION: &str = "by what was done";
    let derived = |number| (Value::Integer(number), From::derived(front.from, BY_ACTION));
    let (value, from) = derived(activity);
    out.put("activity_id", value, from);
    match front.activity_name.filter(|_| activity == 99) {
        Some(name) => out.text("activity_name", Some(name)),
        None => out.put("activity_name", Value::Escaped(activity_name), From::derived(front.from, BY_ACTION)),
    }
    out.put("category_uid", Value::Integer(class.category), From::fixed("of the class"));
    out.word("category_name", class.category_name, "of the class");
    let (value, from) = derived(class.uid);
    out.put("class_uid", value, from);
    out.word("class_name", class.name, "of the class");
    let (value, from) = derived(class.uid * 100 + activity);
    out.put("type_uid", value, from);
    let (id, caption) = severity(front.severity);
    let by_severity =
        From::derived(front.severity_from, "by the verdict, what was really done, and the threat level");
    out.put("severity_id", Value::Integer(id), by_severity);
    out.put("severity", Value::Escaped(caption), by_severity);
    let milliseconds = context.record.time.unwrap_or(context.origin.collected).div_euclid(1_000);
    let time = match front.time {
        Some(time) => {
            From::derived(time.slot(), "in milliseconds since 1970; the time of collection if it is no time")
        }
        None => From::fixed("the time of collection, in milliseconds since 1970"),
    };
    out.put("time", Value::Integer(milliseconds), time);
    write_metadata(out, context, front);
}

fn write_metadata(out: &mut impl Out, context: &Context<'_>, front: &Front<'_>) {
    let Context { version, origin, .. } = *context;
    out.open("metadata");
    out.word("version", version.full(), "of the schema");
    out.open("product");
    out.word("name", "ThreatLocker", "of the product");
    out.word("vendor_name", "ThreatLocker", "of the product");
    out.close();
    let mut uid = [0; 36];
    out.word(
        "uid",
        context.record.uid.hyphenated().encode_lower(&mut uid),
        "lockstep's stable id of the record",
    );
    match version {
        Version::V1_3 => {}
        Version::V1_5 => logger(out, front.id),
        Version::V1_8 => out.text("original_event_uid", front.id),
    }
    out.text("event_code", front.code);
    out.text("original_time", front.time);
    let logged = Value::Integer(origin.collected.div_euclid(1_000));
    out.put("logged_time", logged, From::fixed("when it was collected, in milliseconds since 1970"));
    match &context.record.about {
        About::Remediation(remediation) => {
            let rule = "the computer's organization";
            out.put("tenant_uid", Value::Text(remediation.organization), From::fixed(rule));
        }
        _ => out.text("tenant_uid", front.organization),
    }
    out.put("log_name", Value::Text(origin.source), From::fixed("the source"));
    if let Some(profiles) = front.profiles.json() {
        out.put("profiles", Value::Json(profiles), From::fixed("of the class"));
    }
    out.open_list("labels");
    out.put("", Value::Text(&["site:", origin.site].concat()), From::fixed("the site"));
    out.close_list();
    out.close();
}

/// The portal, which gave the event its id.
fn logger(out: &mut impl Out, id: Option<Field<'_>>) {
    if id.is_some() {
        out.open_list("loggers");
        out.open("");
        out.word("name", "ThreatLocker Portal", "of the product");
        out.text("event_uid", id);
        out.close();
        out.close_list();
    }
}

fn severity(severity: Severity) -> (i64, &'static str) {
    match severity {
        Severity::Unknown => (0, "Unknown"),
        Severity::Informational => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    }
}

/// Whether it came to pass, with the vendor's words for it.
pub(super) fn write_status(out: &mut impl Out, outcome: &Outcome<'_>) {
    let (id, caption) = match outcome.permitted {
        Some(true) => (1, "Success"),
        Some(false) => (2, "Failure"),
        None => (0, "Unknown"),
    };
    let from = From::derived(outcome.from, "Success where it was permitted, Failure where it was denied");
    out.put("status_id", Value::Integer(id), from);
    out.put("status", Value::Escaped(caption), from);
    out.text("status_code", outcome.code);
    out.text("status_detail", outcome.effect_name);
}

/// All of the row that is not told elsewhere, verbatim, and the row itself where it is wanted.
pub(super) fn write_rest(out: &mut impl Out, context: &Context<'_>) {
    if !context.record.keeps_rest {
        out.open("unmapped");
        write_matching(out, context);
        out.close();
        return;
    }
    if let Some(raw) = context.raw.filter(|raw| raw.len() <= context.version.longest_text()) {
        out.put("raw_data", Value::Text(raw), From::fixed("the vendor's row, if the sink is to carry it"));
    }
    for (again, of) in context.record.repeats.iter() {
        if out.told().contains(of.slot()) {
            out.tell(again, "left out where it repeats a field that is told");
        }
    }
    write_unmapped(out, context, out.told());
}

/// Everything but what was told.
pub(super) fn write_unmapped(out: &mut impl Out, context: &Context<'_>, told: Slots) {
    out.open("unmapped");
    for field in context.record.row.unused(told) {
        out.put(context.name_of(field), Value::Json(field.raw()), From::field_if(field, "verbatim"));
    }
    for rest in context.record.row.rest() {
        out.put(&rest.key, Value::Json(rest.raw), From::fixed("a field that this version does not know"));
    }
    write_matching(out, context);
    out.close();
}

/// What no enrichment can say: that the portal was asked which applications match, and named none, or more.
fn write_matching(out: &mut impl Out, context: &Context<'_>) {
    let Some(matching) = context.known.matching else { return };
    if matching.applications == "[]" && matching.more == 0 {
        let from = From::fixed("an empty list where the portal was asked and no application matches");
        out.put("matching_applications", Value::Json("[]"), from);
    }
    if matching.more > 0 {
        let from = From::fixed("how many applications match beside those that are told");
        out.put("more_matching_applications", Value::Integer(matching.more.into()), from);
    }
}
