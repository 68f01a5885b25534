//! Objects that several classes have.

use super::common::UNKNOWN;
use super::{Context, Version};
use crate::formats::out::{From, Out, Value};
use crate::record::device::{Family, Platform};
use crate::record::enrichment::LastUser;
use crate::record::event::{Actor, Application, Event, Host, Outcome, Policy, Process, Subject, Verdict};
use crate::record::path::{base_name, domain_and_user, is_email, program};
use crate::record::row::Field;
use crate::sources::approval_requests::matching;

/// Who a user is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct User<'a> {
    pub(super) name: Option<Field<'a>>,
    pub(super) id: Option<Field<'a>>,
    pub(super) email: Option<Field<'a>>,
    /// Id and name of the organization in which the user acted.
    pub(super) organization: [Option<Field<'a>>; 2],
}

/// A user, if anything is known of it.
pub(super) fn user(out: &mut impl Out, key: &str, user: User<'_>) {
    let name = user.name;
    out.open(key);
    if let Some(name) = name {
        match domain_and_user(name.inner()) {
            Some((domain, short)) => {
                out.part("name", short, name, "what stands behind the domain");
                out.part("domain", domain, name, "what stands before the backslash");
                out.text("uid_alt", Some(name));
            }
            None => out.text("name", Some(name)),
        }
    }
    out.text("uid", user.id);
    if name.is_some() || user.id.is_some() {
        out.text("email_addr", user.email.filter(|email| is_email(email.inner())));
        let [id, name] = user.organization;
        out.open("org");
        out.text("name", name);
        out.text("uid", id);
        out.close();
    }
    out.close();
}

/// A user of whom the enrichment tells.
pub(super) fn last_user(out: &mut impl Out, key: &str, user: &LastUser<'_>) {
    const RULE: From = From::fixed("the last logged-in user at that time, where known");
    out.open(key);
    match user.name.split_once('\\').filter(|(domain, name)| !domain.is_empty() && !name.is_empty()) {
        Some((domain, name)) => {
            out.put("name", Value::Text(name), RULE);
            out.put("domain", Value::Text(domain), RULE);
            out.put("uid_alt", Value::Text(user.name), RULE);
        }
        None => out.put("name", Value::Text(user.name), RULE),
    }
    out.close();
}

/// What is known of the device and its user besides the row and has no property of its own.
pub(super) fn enrichments(out: &mut impl Out, context: &Context<'_>) {
    let known = &context.known;
    out.open_list("enrichments");
    if let Some(mode) = known.device.and_then(|device| device.mode) {
        const RULE: From = From::fixed("the device's mode as listed before it was collected, where known");
        out.open("");
        out.word("name", "device.mode", "of the enrichment");
        out.put("value", Value::Text(mode), RULE);
        out.open("data");
        out.put("mode", Value::Text(mode), RULE);
        out.close();
        out.word("provider", "lockstep", "of the enrichment");
        out.close();
    }
    if let Some(replaced) = &known.replaces {
        const RULE: From =
            From::fixed("the device of a report that goes on as this one, and its last record");
        out.open("");
        out.word("name", "device.replaces", "of the enrichment");
        out.put("value", Value::Text(replaced.id), RULE);
        out.open("data");
        out.put("id", Value::Text(replaced.id), RULE);
        out.put("uid", Value::Escaped(replaced.uid.hyphenated().encode_lower(&mut [0; 36])), RULE);
        out.close();
        out.word("provider", "lockstep", "of the enrichment");
        out.close();
    }
    matching_applications(out, context);
    if let Some(user) = &known.user {
        const RULE: From = From::fixed("where the last user is known from, and since when");
        out.open("");
        out.word("name", "device.owner", "of the enrichment");
        out.put("value", Value::Text(user.name), RULE);
        out.open("data");
        out.put("origin", Value::Escaped(user.origin.as_str()), RULE);
        if let Some(time) = user.time {
            out.put("time", Value::Integer(time.div_euclid(1_000)), RULE);
        }
        out.close();
        out.word("provider", "lockstep", "of the enrichment");
        out.close();
    }
    out.close_list();
}

/// Each application that matches what a request for approval is about.
fn matching_applications(out: &mut impl Out, context: &Context<'_>) {
    const RULE: From = From::fixed("each application that the portal says matches, where it was asked");
    for application in context.known.matching.iter().flat_map(|matching| matching.each()) {
        let name = matching::name(application.get());
        out.open("");
        out.word("name", "matching_application", "of the enrichment");
        out.put("value", Value::Text(name.as_deref().unwrap_or(UNKNOWN)), RULE);
        out.put("data", Value::Json(application.get()), RULE);
        out.word("type", "application", "of the enrichment");
        out.word("provider", "ThreatLocker", "of the enrichment");
        out.close();
    }
}

/// The device on which something happened.
pub(super) fn device(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    host(out, context, event.host, [event.organization, event.organization_name], |_| {});
}

/// The same of a host. `more` writes what else is known of it.
pub(super) fn host<O: Out>(
    out: &mut O,
    context: &Context<'_>,
    host: Host<'_>,
    [organization, organization_name]: [Option<Field<'_>>; 2],
    more: impl FnOnce(&mut O),
) {
    let Host { id, name, platform } = host;
    let known = context.known.device.unwrap_or_default();
    out.open("device");
    out.text("uid", id);
    host_name(out, context.version, name);
    let is_named = name.is_some_and(|name| !context.version.takes_hostname(name));
    match known.name.filter(|_| !is_named) {
        Some(name) => out.put(
            "name",
            Value::Text(name),
            From::fixed("the device's name as listed before it was collected, where known"),
        ),
        None if id.is_none() && name.is_none() => out.word("name", UNKNOWN, "where the row names no device"),
        None => {}
    }
    unknown_type(out);
    os(out, platform, None, known.os);
    out.open("org");
    match organization_name {
        Some(name) => out.text("name", Some(name)),
        None => {
            if let Some(name) = known.organization {
                out.put("name", Value::Text(name), From::fixed("the device's organization, where known"));
            }
        }
    }
    out.text("uid", organization);
    out.close();
    group_and_owner(out, context);
    more(out);
    out.close();
}

/// What a device that changed is known by, besides its names.
pub(super) fn known_device(out: &mut impl Out, context: &Context<'_>) {
    let known = context.known.device.unwrap_or_default();
    os(out, None, None, known.os);
    if let Some(name) = known.organization {
        out.open("org");
        out.put("name", Value::Text(name), From::fixed("the device's organization, where known"));
        out.close();
    }
    group_and_owner(out, context);
}

fn group_and_owner(out: &mut impl Out, context: &Context<'_>) {
    if let Some(group) = context.known.device.and_then(|device| device.group) {
        out.open_list("groups");
        out.open("");
        out.put(
            "name",
            Value::Text(group),
            From::fixed("the device's group as listed before it was collected, where known"),
        );
        out.close();
        out.close_list();
    }
    if let Some(user) = &context.known.user {
        last_user(out, "owner", user);
    }
}

/// The kind of machine, which no row tells.
pub(super) fn unknown_type(out: &mut impl Out) {
    out.fixed("type_id", 0, "no row tells the kind of machine");
    out.word("type", "Unknown", "no row tells the kind of machine");
}

/// A host's name; what the version takes for none becomes a plain name.
pub(super) fn host_name(out: &mut impl Out, version: Version, name: Option<Field<'_>>) {
    let Some(name) = name else { return };
    match version.takes_hostname(name) {
        true => out.text("hostname", Some(name)),
        false => out.text("name", Some(name)),
    }
}

/// The operating system: the row's text, else what is known, else its family alone.
pub(super) fn os(
    out: &mut impl Out,
    platform: Option<Platform<'_>>,
    text: Option<Field<'_>>,
    known: Option<&str>,
) {
    let family = platform.map(|platform| match platform.family {
        Family::Windows => (100, "Windows"),
        Family::MacOs => (300, "macOS"),
        Family::Linux => (200, "Linux"),
        Family::Other => (99, "Other"),
    });
    let of_family = platform.map_or(From::fixed("unknown where the row does not say"), |platform| {
        From::derived(platform.field.field.slot(), "its family of systems")
    });
    out.open("os");
    match (text, known, family) {
        (Some(text), ..) => out.text("name", Some(text)),
        (None, Some(known), _) => {
            out.put(
                "name",
                Value::Text(known),
                From::fixed("the device's system as listed before it was collected, where known"),
            );
        }
        (None, None, Some((_, caption))) => out.put("name", Value::Escaped(caption), of_family),
        (None, None, None) => {
            out.close();
            return;
        }
    }
    let (id, caption) = family.unwrap_or((0, "Unknown"));
    out.put("type_id", Value::Integer(id), of_family);
    out.put("type", Value::Escaped(caption), of_family);
    out.close();
}

/// Who or what did it. `own_file` writes what more is known of the file of the process that did it.
pub(super) fn actor<O: Out>(
    out: &mut O,
    context: &Context<'_>,
    actor: &Actor<'_>,
    command: Option<Field<'_>>,
    own_file: impl FnOnce(&mut O),
) {
    let process = &actor.process;
    out.open("actor");
    user(out, "user", User { name: actor.user, ..User::default() });
    match (process.id, process.path.or(process.name)) {
        (Some(_), _) => {
            out.open("process");
            process_members(out, context, process, command, own_file);
            if actor.parent.id.is_some() {
                out.open("parent_process");
                process_members(out, context, &actor.parent, None, |_| {});
                out.close();
            }
            out.close();
        }
        (None, Some(name)) => out.text("app_name", Some(name)),
        (None, None) if actor.user.is_none() && actor.user_id.is_none() => {
            out.word("app_name", UNKNOWN, "where the row names neither a user nor a process");
        }
        (None, None) => {}
    }
    out.close();
}

/// A process that has an id, and its file.
fn process_members<O: Out>(
    out: &mut O,
    context: &Context<'_>,
    process: &Process<'_>,
    command: Option<Field<'_>>,
    own_file: impl FnOnce(&mut O),
) {
    out.integer("pid", process.id);
    let file = process.path.map(|path| program(path.inner()).unwrap_or(path.inner()));
    match (process.name, process.path.zip(file)) {
        (Some(name), _) => out.text("name", Some(name)),
        (None, Some((path, file))) => file_name(out, path, file),
        (None, None) => {}
    }
    // A path with arguments behind it is a command line, too.
    let is_line = process.path.zip(file).filter(|(path, file)| command.is_none() && path.inner() != *file);
    out.text("cmd_line", command.or(is_line.map(|(path, _)| path)));
    if let Some((path, file)) = process.path.zip(file) {
        out.open("file");
        file_name(out, path, file);
        match is_line {
            Some(_) => out.part("path", file, path, "without its arguments"),
            None => out.text("path", Some(path)),
        }
        out.fixed("type_id", 1, "a process runs a regular file");
        out.word("type", "Regular File", "a process runs a regular file");
        own_file(out);
        out.close();
    }
    facts(out, context, "xattributes", &process.facts);
}

/// The record's uid, for a process that the row gives no id: the schema wants one.
pub(super) fn own_uid(out: &mut impl Out, context: &Context<'_>) {
    let uid = &mut [0; 36];
    let uid = context.record.uid.hyphenated().encode_lower(uid);
    out.word("uid", uid, "the record's uid, where the row gives the process no id");
}

/// The process that was started.
pub(super) fn started(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let Subject { path, process, .. } = event.subject;
    out.open("process");
    match process.id {
        Some(id) => out.integer("pid", Some(id)),
        None => own_uid(out, context),
    }
    let line = path.and_then(|path| program(path.inner()).map(|program| (path, program)));
    let file = line.map_or(path.map(Field::inner), |(_, program)| Some(program));
    match (process.name, path, file) {
        (Some(name), ..) => out.text("name", Some(name)),
        (None, Some(path), Some(file)) => {
            out.part("name", base_name(file), path, "the file's name, without its folder and arguments");
        }
        _ => {}
    }
    if let Some((path, _)) = line {
        out.text("cmd_line", Some(path));
    }
    subject_file(out, context, event, 1);
    facts(out, context, "xattributes", &process.facts);
    out.close();
}

/// The process that was started, where its file is told elsewhere.
pub(super) fn started_by_line(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let Subject { path, process, .. } = event.subject;
    let line = path.filter(|path| program(path.inner()).is_some());
    if process.id.is_none() && process.name.is_none() && line.is_none() {
        return;
    }
    out.open("process");
    match process.id {
        Some(id) => out.integer("pid", Some(id)),
        None => own_uid(out, context),
    }
    out.text("name", process.name);
    out.text("cmd_line", line);
    facts(out, context, "xattributes", &process.facts);
    out.close();
}

/// The file that the event is about. `kind`: 1 where it is known to be a regular file, else 0.
pub(super) fn subject_file(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>, kind: i64) {
    let path = event.subject.path;
    out.open("file");
    match path.map(|path| (path, program(path.inner()).filter(|_| kind == 1))) {
        Some((path, Some(program))) => {
            file_name(out, path, program);
            out.part("path", program, path, "without its arguments");
        }
        Some((path, None)) => {
            file_name(out, path, path.inner());
            out.text("path", Some(path));
        }
        None => out.word("name", UNKNOWN, "where the row names no file"),
    }
    out.fixed("type_id", kind, "a regular file where it was started, else unknown");
    out.word("type", if kind == 1 { "Regular File" } else { "Unknown" }, "caption of type_id");
    file_members(out, context, &event.subject, &event.application);
    out.close();
}

/// What is known of the file besides its path.
pub(super) fn file_members(
    out: &mut impl Out,
    context: &Context<'_>,
    subject: &Subject<'_>,
    application: &Application<'_>,
) {
    out.integer("size", subject.size);
    hashes(out, subject);
    if context.version >= Version::V1_5 {
        product(out, application);
    }
    facts(out, context, "xattributes", &subject.file_facts);
}

fn file_name(out: &mut impl Out, path: Field<'_>, file: &str) {
    out.part("name", base_name(file), path, "what stands behind the last separator");
}

/// The hashes of the file that the event is about.
pub(super) fn hashes(out: &mut impl Out, subject: &Subject<'_>) {
    out.open_list("hashes");
    for (hash, id, algorithm) in [(subject.sha256, 3, "SHA-256"), (subject.hash, 99, "ThreatLocker")] {
        if let Some(hash) = hash {
            out.open("");
            out.fixed("algorithm_id", id, "by the field");
            out.word("algorithm", algorithm, "by the field");
            out.text("value", Some(hash));
            out.close();
        }
    }
    out.close_list();
}

/// The vendor's name for the program to which the file belongs.
fn product(out: &mut impl Out, application: &Application<'_>) {
    out.open("product");
    out.text("name", application.name);
    out.text("uid", application.id);
    out.close();
}

/// Action, disposition and policy of the profile `security_control`.
pub(super) fn control(out: &mut impl Out, context: &Context<'_>, outcome: &Outcome<'_>, policy: &Policy<'_>) {
    let (action, action_name) = match outcome.permitted {
        Some(true) => (1, "Allowed"),
        Some(false) => (2, "Denied"),
        None => (0, "Unknown"),
    };
    let (disposition, disposition_name) = match (outcome.verdict, outcome.permitted) {
        (Verdict::Ringfenced, _) => (7, "Custom Action"),
        (_, Some(true)) => (1, "Allowed"),
        (_, Some(false)) => (2, "Blocked"),
        (_, None) => (0, "Unknown"),
    };
    let by_effect =
        From::derived(outcome.from, "what was really done: in monitor mode what is denied is allowed");
    let by_verdict = From::derived(outcome.from, "Custom Action where ringfenced, else what was really done");
    out.put("action_id", Value::Integer(action), by_effect);
    out.put("action", Value::Escaped(action_name), by_effect);
    out.put("disposition_id", Value::Integer(disposition), by_verdict);
    out.put("disposition", Value::Escaped(disposition_name), by_verdict);
    out.open_list("authorizations");
    out.open("");
    out.text("decision", outcome.verdict_name);
    if context.version < Version::V1_5 {
        write_policy(out, context, policy);
    }
    out.close();
    out.close_list();
    if context.version >= Version::V1_5 {
        write_policy(out, context, policy);
    }
}

/// An object without a shape of its own: fields under the vendor's names.
pub(super) fn facts(out: &mut impl Out, context: &Context<'_>, key: &str, facts: &[Option<Field<'_>>]) {
    out.open(key);
    facts_in(out, context, facts.iter().flatten());
    out.close();
}

/// The same in an object that is open.
pub(super) fn facts_in<'a>(
    out: &mut impl Out,
    context: &Context<'_>,
    facts: impl Iterator<Item = &'a Field<'a>>,
) {
    for fact in facts {
        out.put(context.name_of(*fact), Value::Json(fact.raw()), From::field_if(*fact, "verbatim"));
    }
}

/// The policy that said so; the schema wants its name or id.
pub(super) fn write_policy(out: &mut impl Out, context: &Context<'_>, policy: &Policy<'_>) {
    if policy.id.is_none() && policy.name.is_none() {
        return;
    }
    out.open("policy");
    out.text("name", policy.name);
    out.text("uid", policy.id);
    out.open("group");
    out.text("name", policy.group);
    out.close();
    if context.version >= Version::V1_5 {
        facts(out, context, "data", &policy.facts);
    }
    out.close();
}
