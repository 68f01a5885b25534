//! What is particular to the classes of events.

use super::class::{self, Class, Mapping, Profiles};
use super::common::{self, Front, UNKNOWN};
use super::{Context, Version, objects};
use crate::formats::out::{From, Out, Value};
use crate::record::event::{Action, Application, Event, Severity, Subject};
use crate::record::path::{program, web_host};
use crate::record::row::{Field, Slots};

pub(super) fn write(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let permitted = event.outcome.permitted != Some(false);
    let mut mapping = class::of(event.action, context.version, permitted);
    if event.action == Action::Other && event.action_name.is_none() {
        mapping = Mapping { activity: 0, activity_name: "Unknown", ..mapping };
    }
    let profiles = mapping.class.profiles(context.version);
    let from = event.action_name.map_or_else(Slots::default, |name| name.slot().into());
    let front = Front {
        mapping,
        profiles,
        activity_name: event.action_name,
        from: if mapping.class == Class::Network { from | event.outcome.from } else { from },
        severity: event.severity,
        severity_from: event.severity_from,
        id: event.id,
        time: event.time,
        organization: event.organization,
        code: event.action_name,
    };
    common::write_front(out, context, &front);
    let outcome = &event.outcome;
    common::write_status(out, outcome);
    if profiles.has_control() {
        objects::control(out, context, outcome, &event.policy);
    }
    write_subject(out, context, event, mapping.class);
    objects::enrichments(out, context);
    match event.action {
        // Nothing of a row that is not understood is said to be told.
        Action::Other => common::write_unmapped(out, context, Slots::default()),
        _ => common::write_rest(out, context),
    }
}

/// A row that is kept as it is; nothing of it is said to be told.
pub(super) fn write_row(out: &mut impl Out, context: &Context<'_>, report: Option<&str>) {
    let front = Front {
        mapping: Mapping { class: Class::Base, activity: 0, activity_name: "Unknown" },
        profiles: Profiles::None,
        activity_name: None,
        from: Slots::default(),
        severity: Severity::Informational,
        severity_from: Slots::default(),
        id: None,
        time: None,
        organization: None,
        code: None,
    };
    common::write_front(out, context, &front);
    if let Some(report) = report {
        out.put("message", Value::Text(report), From::fixed("the report that shows the row"));
    }
    common::write_rest(out, context);
}

/// Who did it, where, and to what.
fn write_subject(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>, class: Class) {
    let subject = &event.subject;
    match class {
        Class::Process if event.action == Action::Script => {
            script_as_process(out, context, event);
            objects::device(out, context, event);
        }
        Class::Process => {
            objects::actor(out, context, &event.actor, None, |_| {});
            objects::device(out, context, event);
            objects::started(out, context, event);
        }
        Class::Script => script(out, context, event),
        Class::File => {
            actor_and_device(out, context, event);
            objects::subject_file(out, context, event, 0);
        }
        Class::Peripheral => {
            actor_and_device(out, context, event);
            out.open("peripheral_device");
            out.text("name", subject.storage);
            out.text("serial_number", subject.serial);
            out.close();
        }
        Class::RegistryKey => {
            only_file_and_device(out, context, event, &event.application);
            out.open("reg_key");
            or_unknown(out, "path", subject.path);
            out.close();
        }
        Class::Network => network(out, context, event),
        Class::Http => web(out, context, event),
        Class::Dns => dns(out, context, event),
        Class::ConfigState => {
            only_file_and_device(out, context, event, &event.application);
            out.text("message", subject.path);
        }
        Class::Account => account(out, event),
        Class::Authentication => authentication(out, event),
        Class::Entity => policy(out, event),
        Class::Api => api(out, event),
        Class::Base if context.version >= Version::V1_5 => actor_and_device(out, context, event),
        // No event becomes an inventory, a finding or a maintenance.
        Class::Base | Class::Inventory | Class::Finding | Class::Remediation => {}
    }
}

fn actor_and_device(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    objects::actor(out, context, &event.actor, None, |_| {});
    objects::device(out, context, event);
}

/// Where the only file of which the row tells is that of the process that acts (contract section 5.2): connections,
/// names, keys and settings have neither a hash nor a certificate.
fn only_file_and_device(
    out: &mut impl Out,
    context: &Context<'_>,
    event: &Event<'_>,
    application: &Application<'_>,
) {
    only_file(out, context, event, application);
    objects::device(out, context, event);
}

/// The process that acts, with its file.
pub(super) fn only_file(
    out: &mut impl Out,
    context: &Context<'_>,
    event: &Event<'_>,
    application: &Application<'_>,
) {
    objects::actor(out, context, &event.actor, None, |out| {
        objects::file_members(out, context, &event.subject, application);
    });
}

/// The same where the application's name stands in `app_name`.
fn connecting_and_device(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    only_file_and_device(out, context, event, &Application { name: None, ..event.application });
}

/// A member on which the schema insists.
fn or_unknown(out: &mut impl Out, key: &str, field: Option<Field<'_>>) {
    match field {
        Some(field) => out.text(key, Some(field)),
        None => out.word(key, UNKNOWN, "where the row does not say"),
    }
}

/// The command line of the process that runs the script, where the row has one besides the script.
fn script_line<'a>(subject: &Subject<'a>) -> Option<Field<'a>> {
    let path = subject.path?;
    (subject.content.is_some() && program(path.inner()).is_some()).then_some(path)
}

fn script(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    objects::device(out, context, event);
    script_and_actor(out, context, event);
}

pub(super) fn script_and_actor(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let subject = &event.subject;
    let line = script_line(subject).filter(|_| event.actor.process.id.is_some());
    objects::actor(out, context, &event.actor, line, |_| {});
    out.open("script");
    out.fixed("type_id", 2, "the vendor tells of PowerShell alone");
    out.word("type", "PowerShell", "the vendor tells of PowerShell alone");
    out.open("script_content");
    or_unknown(out, "value", subject.content.or(subject.path));
    out.close();
    if subject.content.is_some() && line.is_none() && subject.path.is_some() {
        objects::subject_file(out, context, event, 1);
    } else {
        objects::hashes(out, subject);
    }
    out.close();
}

/// Before there was a class for scripts: the process that runs it.
pub(super) fn script_as_process(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let process = &event.actor.process;
    let person = objects::User { name: event.actor.user, ..objects::User::default() };
    out.open("actor");
    match (person.name, process.path) {
        (None, None) => out.word("app_name", UNKNOWN, "where the row names neither a user nor a process"),
        (_, path) => {
            objects::user(out, "user", person);
            out.text("app_name", path);
        }
    }
    out.close();
    out.open("process");
    match process.id {
        Some(id) => out.integer("pid", Some(id)),
        None => objects::own_uid(out, context),
    }
    out.text("name", process.name);
    out.text("cmd_line", event.subject.content.or(event.subject.path));
    if event.subject.path.is_some() {
        objects::subject_file(out, context, event, 1);
    }
    objects::facts(out, context, "xattributes", &process.facts);
    out.close();
}

/// Address and port at the other end.
pub(super) fn destination(out: &mut impl Out, event: &Event<'_>, web: Option<(&str, Field<'_>)>) {
    out.text("ip", event.subject.destination_address);
    out.integer("port", event.subject.destination_port);
    if let Some((host, url)) = web {
        out.part("hostname", host, url, "the host of the address");
    }
}

pub(super) fn source(out: &mut impl Out, event: &Event<'_>) {
    out.open("src_endpoint");
    out.text("ip", event.subject.source_address);
    out.close();
}

/// The device itself as the near end, where the schema insists on one end.
fn near_end(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    out.open("src_endpoint");
    match (event.host.id, event.host.name) {
        (None, None) => out.word("name", UNKNOWN, "where the row names no device"),
        (id, name) => {
            out.text("uid", id);
            objects::host_name(out, context.version, name);
        }
    }
    out.close();
}

fn network(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let subject = &event.subject;
    let is_web = event.action == Action::Web;
    let host = subject.path.filter(|_| is_web).and_then(|url| Some((web_host(url.inner())?, url)));
    connecting_and_device(out, context, event);
    source(out, event);
    out.open("dst_endpoint");
    destination(out, event, host);
    if subject.destination_address.is_none() && host.is_none() {
        match subject.path.filter(|_| !is_web) {
            Some(path) => out.text("name", Some(path)),
            None => out.word("name", UNKNOWN, "where the row does not say"),
        }
    }
    out.close();
    if is_web {
        url(out, subject.path);
    } else if subject.destination_address.is_some() {
        out.text("message", subject.path);
    }
    out.text("app_name", event.application.name);
}

pub(super) fn url(out: &mut impl Out, path: Option<Field<'_>>) {
    out.open("url");
    or_unknown(out, "url_string", path);
    if let Some((host, url)) = path.and_then(|url| Some((web_host(url.inner())?, url))) {
        out.part("hostname", host, url, "the host of the address");
    }
    out.close();
}

fn web(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let host = event.subject.path.and_then(|url| Some((web_host(url.inner())?, url)));
    connecting_and_device(out, context, event);
    source(out, event);
    out.open("dst_endpoint");
    if host.is_some() || event.subject.destination_address.is_some() {
        destination(out, event, host);
    }
    out.close();
    out.open("http_request");
    url(out, event.subject.path);
    out.close();
    out.text("app_name", event.application.name);
}

fn dns(out: &mut impl Out, context: &Context<'_>, event: &Event<'_>) {
    let subject = &event.subject;
    connecting_and_device(out, context, event);
    match (subject.source_address, subject.destination_address) {
        (None, None) => near_end(out, context, event),
        (_, to) => {
            source(out, event);
            if to.is_some() {
                out.open("dst_endpoint");
                destination(out, event, None);
                out.close();
            }
        }
    }
    match subject.path.filter(|name| context.version.takes_hostname(*name)) {
        Some(name) => {
            out.open("query");
            out.text("hostname", Some(name));
            out.close();
        }
        None => out.text("message", subject.path),
    }
    out.text("app_name", event.application.name);
}

/// The administrator who did it. `page`: that of the portal, where the class has no other place for it.
fn administrator(out: &mut impl Out, event: &Event<'_>, page: Option<Field<'_>>) {
    let user = person(event);
    out.open("actor");
    objects::user(out, "user", user);
    if user.name.is_none() && user.id.is_none() {
        out.word("app_name", UNKNOWN, "where the row names no user");
    }
    out.text("invoked_by", page);
    out.close();
}

/// From where it was done.
fn from_where(out: &mut impl Out, event: &Event<'_>) {
    out.open("src_endpoint");
    out.text("ip", event.actor.address);
    out.close();
}

fn person<'a>(event: &Event<'a>) -> objects::User<'a> {
    let organization = [event.organization, event.organization_name];
    objects::User { name: event.actor.user, id: event.actor.user_id, email: event.actor.email, organization }
}

fn authentication(out: &mut impl Out, event: &Event<'_>) {
    let user = person(event);
    match user.name.is_some() || user.id.is_some() {
        true => objects::user(out, "user", user),
        false => unknown_user(out),
    }
    out.open("actor");
    out.text("invoked_by", event.subject.page);
    out.close();
    out.open("service");
    out.word("name", "ThreatLocker Portal", "of the product");
    out.close();
    from_where(out, event);
    out.text("message", event.subject.details);
}

fn unknown_user(out: &mut impl Out) {
    out.open("user");
    out.word("name", UNKNOWN, "where the row does not say");
    out.close();
}

fn account(out: &mut impl Out, event: &Event<'_>) {
    administrator(out, event, event.subject.page);
    match event.subject.object_id {
        Some(id) => {
            out.open("user");
            out.text("uid", Some(id));
            out.close();
        }
        None => unknown_user(out),
    }
    from_where(out, event);
    out.text("message", event.subject.details);
}

fn policy(out: &mut impl Out, event: &Event<'_>) {
    administrator(out, event, event.subject.page);
    out.open("entity");
    match event.subject.object_id {
        Some(id) => out.text("uid", Some(id)),
        None => out.word("name", UNKNOWN, "where the row does not say"),
    }
    out.fixed("type_id", 5, "by the page and function");
    out.word("type", "Policy", "by the page and function");
    out.close();
    out.text("comment", event.subject.notes);
    from_where(out, event);
    out.text("message", event.subject.details);
}

fn api(out: &mut impl Out, event: &Event<'_>) {
    let subject = &event.subject;
    administrator(out, event, None);
    out.open("api");
    or_unknown(out, "operation", subject.function.or(event.action_name));
    out.open("service");
    out.text("name", subject.page);
    out.close();
    out.close();
    out.open("src_endpoint");
    match event.actor.address {
        Some(address) => out.text("ip", Some(address)),
        None => out.word("name", UNKNOWN, "where the row does not say"),
    }
    out.close();
    if let Some(id) = subject.object_id {
        out.open_list("resources");
        out.open("");
        out.text("uid", Some(id));
        out.text("type", subject.object_type);
        out.close();
        out.close_list();
    }
    out.text("message", subject.details);
}
