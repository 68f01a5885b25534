//! Detection findings: what was found, and all that the row tells of it as evidence.

use super::class::{FINDING, FINDING_AGAIN};
use super::common::{self, Front};
use super::{Context, Version, event, objects};
use crate::formats::out::{From, Out, Value};
use crate::record::event::{Action, Event};
use crate::record::finding::Finding;
use crate::record::path::{base_name, program};
use crate::record::row::{Field, Slots};

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, finding: &Finding<'_>) {
    let Finding { event, .. } = finding;
    let front = Front {
        mapping: if finding.is_update { FINDING_AGAIN } else { FINDING },
        profiles: FINDING.class.profiles(context.version),
        activity_name: None,
        from: Slots::NONE,
        severity: event.severity,
        severity_from: event.severity_from,
        id: event.id,
        time: event.time,
        organization: event.organization,
        code: event.action_name,
    };
    common::write_front(out, context, &front);
    if context.version >= Version::V1_5 {
        out.put("is_alert", Value::Boolean(true), From::fixed("of the class"));
    }
    objects::control(out, context, &event.outcome, &event.policy);
    write_info(out, context, finding);
    if context.version >= Version::V1_5 {
        objects::device(out, context, event);
    }
    out.open_list("evidences");
    out.open("");
    write_evidence(out, context, event);
    if context.version < Version::V1_5 {
        objects::device(out, context, event);
    }
    out.close();
    if finding.ratings.is_some() {
        out.open("");
        objects::facts(out, context, "data", &[finding.ratings]);
        out.close();
    }
    out.close_list();
    objects::enrichments(out, context);
    common::write_rest(out, context);
}

fn write_info(out: &mut impl Out, context: &Context<'_>, finding: &Finding<'_>) {
    out.open("finding_info");
    let mut uid = [0; 36];
    let uid = context.record.uid.hyphenated().encode_lower(&mut uid);
    out.word("uid", uid, "lockstep's stable id of the record");
    write_title(out, context, finding);
    out.text("desc", finding.notes);
    out.open_list("types");
    out.word("", "Threat", "of the class");
    out.close_list();
    if let Some(event) = finding.tells_of {
        let mut uid = [0; 36];
        out.open_list("related_events");
        out.open("");
        out.word(
            "uid",
            event.hyphenated().encode_lower(&mut uid),
            "the uid of the same row in the unified audit",
        );
        out.close();
        out.close_list();
        if context.version >= Version::V1_5 {
            out.fixed("related_events_count", 1, "the same row in the unified audit");
        }
    }
    out.close();
}

/// How bad it is and what it is about, in the row's own words.
fn write_title(out: &mut impl Out, context: &Context<'_>, finding: &Finding<'_>) {
    let level = finding.level.map_or("Known", Field::inner);
    let path = finding.event.subject.path;
    let about = path.map_or("", |path| name_of(path, finding.event.action));
    let whole = [level, " threat: ", about].concat();
    let fits = !about.is_empty() && whole.len() <= context.version.longest_text();
    let slots = [finding.level, path].into_iter().flatten();
    let slots = slots.fold(Slots::NONE, |slots, field| slots | field.slot().into());
    let from = From::derived(slots, "the severity, and the file or what else the row is about");
    out.put("title", Value::Escaped(if fits { &whole } else { "Threat" }), from);
}

/// The file's name, where the path is that of a file.
fn name_of<'a>(path: Field<'a>, action: Action) -> &'a str {
    match action {
        Action::Network | Action::Dns | Action::Web | Action::Registry | Action::Configuration => {
            path.inner()
        }
        _ => base_name(program(path.inner()).unwrap_or(path.inner())),
    }
}

/// Who did it, and to what.
fn write_evidence(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let subject = &event.subject;
    let actor = |out: &mut _| objects::actor(out, context, &event.actor, None, |_| {});
    match event.action {
        Action::Launch | Action::Elevate => {
            actor(out);
            objects::subject_file(out, context, event, 1);
            objects::started_by_line(out, context, event);
        }
        Action::Script if context.version < Version::V1_5 => event::script_as_process(out, context, event),
        Action::Script => event::script_and_actor(out, context, event),
        Action::Network | Action::Dns | Action::Web | Action::Registry | Action::Configuration => {
            event::only_file(out, context, event, &event.application);
            write_far_end(out, context, event);
        }
        _ => {
            actor(out);
            if subject.path.is_some() || subject.sha256.is_some() || subject.hash.is_some() {
                objects::subject_file(out, context, event, 0);
            }
        }
    }
}

/// A connection, a name, an address on the web or a key.
fn write_far_end(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let path = event.subject.path;
    event::source(out, event);
    if event.subject.destination_address.is_some() {
        out.open("dst_endpoint");
        event::destination(out, event, None);
        out.close();
    }
    match (event.action, path) {
        (Action::Web, Some(_)) => event::url(out, path),
        (Action::Dns, Some(name)) if context.version.takes_hostname(name) => {
            out.open("query");
            out.text("hostname", path);
            out.close();
        }
        (Action::Registry, Some(_)) => {
            out.open("reg_key");
            out.text("path", path);
            out.close();
        }
        _ => {}
    }
}
