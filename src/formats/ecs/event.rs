//! What is particular to events.

use super::class;
use super::front::{self, Front, Name};
use super::objects::{self, Host, User, again};
use super::{Context, rest};
use crate::formats::out::{From, Out, Value};
use crate::record::event::{Action, Event, Severity, Subject};
use crate::record::finding::Finding;
use crate::record::path::{is_hostname, program, web_host};
use crate::record::row::{Field, Slots};

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    write_as(out, context, event, None);
}

/// The event by which a threat was found, as an alert.
pub(super) fn write_finding(out: &mut impl Out, context: &Context<'_>, finding: &Finding<'_>) {
    write_as(out, context, &finding.event, Some(finding));
}

fn write_as(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>, finding: Option<&Finding<'_>>) {
    let is_portal = is_portal(event.action);
    front::write(
        out,
        context,
        &Front {
            kind: if finding.is_some() { "alert" } else { "event" },
            class: if finding.is_some() { class::FINDING } else { class::of(event.action) },
            from: if finding.is_some() { Slots::NONE } else { class_from(event) },
            action: Name::Field(event.action_name),
            outcome: Some(&event.outcome),
            severity: event.severity,
            severity_from: event.severity_from,
            time: event.time,
            received: event.received,
            observer: if is_portal { "portal" } else { "agent" },
        },
    );
    objects::organization(out, context, event.organization, event.organization_name);
    let host = Host {
        id: event.host.id,
        hostname: event.host.name,
        platform: event.host.platform,
        ..Host::default()
    };
    objects::host(out, context, &host);
    let target = event.subject.object_id.filter(|_| matches!(event.action, Action::Account(_)));
    let actor = &event.actor;
    objects::user(out, &User { name: actor.user, id: actor.user_id, email: actor.email, target });
    write_processes(out, event);
    write_subject(out, event);
    write_policy(out, event);
    write_related(out, context, event);

    out.open("threatlocker");
    out.open("device");
    rest::known_group(out, context);
    rest::known_mode(out, context);
    out.close();
    rest::last_user(out, context, actor.user);
    if let Some(event) = finding.and_then(|finding| finding.tells_of) {
        let mut uid = [0; 36];
        let uid = event.hyphenated().encode_lower(&mut uid);
        out.open("related_event");
        out.word("id", uid, "the id of the same row in the unified audit");
        out.close();
    }
    match event.action {
        // Nothing of a row that is not understood is said to be told.
        Action::Other if finding.is_none() => rest::all_but(out, context, Slots::NONE),
        _ => rest::remainder(out, context),
    }
    out.close();
}

/// A row that is kept as it is; nothing of it is said to be told.
pub(super) fn write_row(out: &mut impl Out, context: &Context<'_>, report: Option<&str>) {
    let front = Front {
        kind: "event",
        class: class::ROW,
        from: Slots::NONE,
        action: Name::Ours("report-row"),
        outcome: None,
        severity: Severity::Informational,
        severity_from: Slots::NONE,
        time: None,
        received: None,
        observer: "portal",
    };
    front::write(out, context, &front);
    if let Some(report) = report {
        out.put("message", Value::Text(report), From::fixed("the report that shows the row"));
    }
    out.open("threatlocker");
    rest::remainder(out, context);
    out.close();
}

/// Whether an administrator did it in the portal.
fn is_portal(action: Action) -> bool {
    use Action::{Account, Api, Logoff, Logon, Policy};
    matches!(action, Logon | Logoff | Account(_) | Policy(_) | Api(_))
}

/// The fields by which the class was chosen.
fn class_from(event: &Event<'_>) -> Slots {
    let about = [event.subject.page, event.subject.function];
    let about = about.into_iter().filter(|_| is_portal(event.action));
    let fields = about.chain([event.action_name]).flatten();
    fields.fold(Slots::NONE, |slots, field| slots | field.slot().into())
}

/// On a start the new process below the one that started it, else the one that acts.
fn write_processes(out: &mut impl Out, event: &Event<'_>) {
    let (actor, subject) = (&event.actor, &event.subject);
    out.open("process");
    let parent = match event.action {
        Action::Launch | Action::Elevate => {
            objects::started(out, &subject.process, subject.path);
            objects::hash(out, subject.sha256);
            &actor.process
        }
        _ => {
            objects::process(out, &actor.process, script_line(event));
            &actor.parent
        }
    };
    out.open("parent");
    objects::process(out, parent, None);
    out.close();
    out.close();
}

/// The command line of the process that runs a script.
fn script_line<'a>(event: &Event<'a>) -> Option<Field<'a>> {
    let path = event.subject.path.filter(|_| event.action == Action::Script)?;
    program(path.inner()).is_some().then_some(path)
}

/// To what it was done.
fn write_subject(out: &mut impl Out, event: &Event<'_>) {
    let subject = &event.subject;
    match event.action {
        Action::Script if script_line(event).is_none() => file(out, subject),
        Action::File(_) | Action::Storage(_) | Action::Baseline => file(out, subject),
        Action::Registry => registry(out, subject.path),
        Action::Network => {
            ends(out, subject, None);
            out.text("message", subject.path);
        }
        Action::Dns => {
            ends(out, subject, None);
            out.open("dns");
            out.open("question");
            out.text("name", subject.path);
            out.close();
            out.close();
        }
        Action::Web => {
            ends(out, subject, subject.path.and_then(domain));
            url(out, subject.path);
        }
        Action::Configuration => out.text("message", subject.path),
        Action::Logon | Action::Logoff | Action::Account(_) | Action::Policy(_) | Action::Api(_) => {
            out.open("source");
            out.text("ip", event.actor.address);
            out.close();
            out.text("message", subject.details);
        }
        Action::Launch | Action::Elevate | Action::Script | Action::Other => {}
    }
}

fn file(out: &mut impl Out, subject: &Subject<'_>) {
    out.open("file");
    if let Some(path) = subject.path {
        objects::file_name(out, path, path.inner());
    }
    out.text("path", subject.path);
    out.integer("size", subject.size);
    objects::hash(out, subject.sha256);
    out.close();
}

/// Hives of the registry, and how the schema calls them.
const HIVES: [(&str, &str); 5] = [
    ("HKEY_LOCAL_MACHINE", "HKLM"),
    ("HKEY_CURRENT_USER", "HKCU"),
    ("HKEY_CLASSES_ROOT", "HKCR"),
    ("HKEY_USERS", "HKU"),
    ("HKEY_CURRENT_CONFIG", "HKCC"),
];

fn registry(out: &mut impl Out, path: Option<Field<'_>>) {
    let Some(path) = path else { return };
    out.open("registry");
    out.text("path", Some(path));
    let hive = path.inner().split('\\').next().unwrap_or_default();
    let known =
        |(long, short): &&(&str, &str)| [long, short].iter().any(|name| name.eq_ignore_ascii_case(hive));
    if let Some((_, short)) = HIVES.iter().find(known) {
        out.part("hive", short, path, "the hive at the front of the path, in short");
    }
    out.close();
}

/// The two ends of a connection.
fn ends(out: &mut impl Out, subject: &Subject<'_>, domain: Option<(&str, Field<'_>)>) {
    out.open("source");
    out.text("ip", subject.source_address);
    out.close();
    out.open("destination");
    out.text("ip", subject.destination_address);
    out.integer("port", subject.destination_port);
    if let Some((domain, url)) = domain {
        out.part("domain", domain, url, "the host of the address");
    }
    out.close();
}

/// The host of an address on the web.
fn domain(url: Field<'_>) -> Option<(&str, Field<'_>)> {
    Some((web_host(url.inner())?, url))
}

fn url(out: &mut impl Out, path: Option<Field<'_>>) {
    let Some(path) = path else { return };
    out.open("url");
    match path.inner().split_once("://") {
        Some((scheme, _))
            if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !scheme.is_empty() =>
        {
            out.text("full", Some(path));
            out.part("scheme", scheme, path, "what stands before ://");
        }
        _ => out.text("original", Some(path)),
    }
    if let Some((domain, _)) = domain(path) {
        out.part("domain", domain, path, "the host of the address");
    }
    out.close();
}

/// The policy that said so.
fn write_policy(out: &mut impl Out, event: &Event<'_>) {
    out.open("rule");
    out.text("id", event.policy.id);
    out.text("name", event.policy.name);
    out.text("ruleset", event.policy.group);
    out.close();
}

/// Names by which an analyst finds every record of one user, host, address or file.
fn write_related(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let Event { actor, subject, host, .. } = event;
    let [short, whole] = objects::related_user(actor.user);
    let named = |(host, field): (_, Field<'_>)| {
        (Value::Escaped(host), From::derived(field.slot(), "also stands elsewhere"))
    };
    let asked = subject.path.and_then(|path| match event.action {
        Action::Dns if is_hostname(path.inner()) => again(Some(path)),
        Action::Web => domain(path).map(named),
        _ => None,
    });
    let [known_short, known_whole] = objects::known_user(context, actor.user);
    let known = objects::known(context.known.device.and_then(|device| device.name));
    let addresses = [subject.source_address, subject.destination_address, actor.address];
    out.open("related");
    objects::related(out, "user", &[short, whole, again(actor.email), known_short, known_whole]);
    objects::related(out, "hosts", &[again(host.name), known, asked]);
    objects::related(out, "ip", &addresses.map(again));
    objects::related(out, "hash", &[again(subject.sha256), again(subject.hash)]);
    out.close();
}
