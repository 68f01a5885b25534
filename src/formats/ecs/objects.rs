//! Objects that several kinds of records have.

use super::Context;
use super::front::date;
use super::rest::is_last_user;
use crate::formats::out::{From, Out, Value};
use crate::formats::rfc3339;
use crate::record::device::{Family, Platform, Time};
use crate::record::event::Process;
use crate::record::path::{base_name, domain_and_user, program};
use crate::record::row::{Field, is_address};

/// A device, as far as the row tells of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Host<'a> {
    pub(super) id: Option<Field<'a>>,
    /// The id of the computer that was asked about.
    pub(super) asked: Option<&'a str>,
    pub(super) hostname: Option<Field<'a>>,
    pub(super) name: Option<Field<'a>>,
    pub(super) platform: Option<Platform<'a>>,
    pub(super) os: Option<Field<'a>>,
    /// A JSON list of texts.
    pub(super) addresses: Option<Field<'a>>,
    /// The only one that is known.
    pub(super) address: Option<Field<'a>>,
}

pub(super) fn host(out: &mut impl Out, context: &Context<'_>, host: &Host<'_>) {
    let known = context.known.device.unwrap_or_default();
    out.open("host");
    match (host.id, host.asked) {
        (None, Some(id)) => {
            let rule = "the computer that was asked about, where the row names none";
            out.put("id", Value::Text(id), From::fixed(rule));
        }
        (id, _) => out.text("id", id),
    }
    out.text("hostname", host.hostname);
    match (host.name, known.name, host.hostname) {
        (Some(name), ..) => out.text("name", Some(name)),
        (None, Some(name), _) => {
            out.put(
                "name",
                Value::Text(name),
                From::fixed("the device's name as listed before it was collected, where known"),
            );
        }
        (None, None, Some(name)) => out.part("name", name.inner(), name, "where no other name is known"),
        (None, None, None) => {}
    }
    out.open_list("ip");
    if let Some((field, addresses)) = addresses(host.addresses) {
        for address in addresses {
            out.put("", Value::Text(address), From::field_if(field, "each address, if all are addresses"));
        }
    }
    out.text("", host.address);
    out.close_list();
    out.open("os");
    if let Some(Platform { family, field }) = host.platform {
        let from = From::derived(field.field.slot(), "its family of systems");
        let words = match family {
            Family::Windows => Some(("windows", "Windows")),
            Family::MacOs => Some(("macos", "macOS")),
            Family::Linux => Some(("linux", "Linux")),
            Family::Other => None,
        };
        if let Some((kind, name)) = words {
            out.put("type", Value::Escaped(kind), from);
            out.put("name", Value::Escaped(name), from);
        }
    }
    match (host.os, known.os) {
        (Some(os), _) => out.text("full", Some(os)),
        (None, Some(os)) => {
            out.put(
                "full",
                Value::Text(os),
                From::fixed("the device's system as listed before it was collected, where known"),
            );
        }
        (None, None) => {}
    }
    out.close();
    out.close();
}

/// The texts of a JSON list, if all of them are addresses.
pub(super) fn addresses(list: Option<Field<'_>>) -> Option<(Field<'_>, Vec<&str>)> {
    let field = list?;
    let addresses = serde_json::from_str::<Vec<&str>>(field.raw()).ok()?;
    addresses.iter().all(|address| is_address(address)).then_some((field, addresses))
}

/// The organization in which it happened.
pub(super) fn organization(
    out: &mut impl Out,
    context: &Context<'_>,
    id: Option<Field<'_>>,
    name: Option<Field<'_>>,
) {
    out.open("organization");
    out.text("id", id);
    match (name, context.known.device.and_then(|device| device.organization)) {
        (Some(name), _) => out.text("name", Some(name)),
        (None, Some(name)) => {
            out.put("name", Value::Text(name), From::fixed("the device's organization, where known"));
        }
        (None, None) => {}
    }
    out.close();
}

/// Who a user is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct User<'a> {
    pub(super) name: Option<Field<'a>>,
    pub(super) id: Option<Field<'a>>,
    pub(super) email: Option<Field<'a>>,
    /// The id of the account that was changed.
    pub(super) target: Option<Field<'a>>,
}

/// A user. The whole of a name with a domain stands in `related.user`.
pub(super) fn user(out: &mut impl Out, user: &User<'_>) {
    out.open("user");
    if let Some(name) = user.name {
        match domain_and_user(name.inner()) {
            Some((domain, short)) => {
                out.part("name", short, name, "what stands behind the domain");
                out.part("domain", domain, name, "what stands before the backslash");
            }
            None => out.text("name", Some(name)),
        }
    }
    out.text("id", user.id);
    out.text("email", user.email);
    out.open("target");
    out.text("id", user.target);
    out.close();
    out.close();
}

/// The name of a user of whom the enrichment tells, and the domain.
pub(super) fn user_name(out: &mut impl Out, name: &str, from: From) {
    match name.split_once('\\').filter(|(domain, user)| !domain.is_empty() && !user.is_empty()) {
        Some((domain, user)) => {
            out.put("name", Value::Text(user), from);
            out.put("domain", Value::Text(domain), from);
        }
        None => out.put("name", Value::Text(name), from),
    }
}

/// Members of a running program.
///
/// `command`: its command line, where it is known besides its path.
pub(super) fn process(out: &mut impl Out, process: &Process<'_>, command: Option<Field<'_>>) {
    out.integer("pid", process.id);
    let Some(command) = command else { return name_and_file(out, process.name, process.path) };
    match (process.name, process.path) {
        (Some(name), _) => out.text("name", Some(name)),
        (None, Some(path)) => file_name(out, path, program(path.inner()).unwrap_or(path.inner())),
        (None, None) => {}
    }
    out.text("executable", process.path);
    out.text("command_line", Some(command));
}

/// Members of a program that was started by this command line or path.
pub(super) fn started(out: &mut impl Out, process: &Process<'_>, line: Option<Field<'_>>) {
    out.integer("pid", process.id);
    name_and_file(out, process.name, line);
}

/// The name of a program, and its file out of a path or command line.
fn name_and_file(out: &mut impl Out, name: Option<Field<'_>>, line: Option<Field<'_>>) {
    let program = line.and_then(|line| program(line.inner()));
    let file = program.or(line.map(Field::inner));
    match (name, line, file) {
        (Some(name), ..) => out.text("name", Some(name)),
        (None, Some(line), Some(file)) => file_name(out, line, file),
        _ => {}
    }
    match (line, program) {
        (Some(line), Some(program)) => {
            out.part("executable", program, line, "without its arguments");
            out.text("command_line", Some(line));
        }
        _ => out.text("executable", line),
    }
}

pub(super) fn file_name(out: &mut impl Out, path: Field<'_>, file: &str) {
    out.part("name", base_name(file), path, "what stands behind the last separator");
}

pub(super) fn hash(out: &mut impl Out, sha256: Option<Field<'_>>) {
    out.open("hash");
    out.text("sha256", sha256);
    out.close();
}

/// A value that also stands elsewhere in the record.
pub(super) type Named<'v> = Option<(Value<'v>, From)>;

/// The text of a field that also stands elsewhere.
pub(super) fn again(field: Option<Field<'_>>) -> Named<'_> {
    field.map(|field| (Value::Escaped(field.inner()), From::derived(field.slot(), "also stands elsewhere")))
}

/// A list of values of one kind that stand in the record, each once.
pub(super) fn related(out: &mut impl Out, key: &str, values: &[Named<'_>]) {
    out.open_list(key);
    for (place, (value, from)) in
        values.iter().enumerate().filter_map(|(place, value)| Some((place, (*value)?)))
    {
        if !values[..place].iter().flatten().any(|(earlier, _)| text(*earlier) == text(value)) {
            out.put("", value, from);
        }
    }
    out.close_list();
}

/// A name of which the enrichment tells.
pub(super) fn known(name: Option<&str>) -> Named<'_> {
    name.map(|name| (Value::Text(name), From::fixed("also stands elsewhere")))
}

/// The last logged-in user for `related.user`, whole and without its domain, where it is not the row's own.
pub(super) fn known_user<'a>(context: &Context<'a>, own: Option<Field<'_>>) -> [Named<'a>; 2] {
    let user = context.known.user.filter(|_| !is_last_user(context, own));
    let Some(name) = user.map(|user| user.name) else { return [None, None] };
    let short = name.split_once('\\').filter(|(domain, user)| !domain.is_empty() && !user.is_empty());
    [known(short.map(|(_, short)| short)), known(Some(name))]
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Json(text) | Value::Escaped(text) | Value::Text(text) => Some(text),
        Value::Integer(_) | Value::Boolean(_) => None,
    }
}

/// A user's name for `related.user`, whole and without its domain.
pub(super) fn related_user<'a>(name: Option<Field<'a>>) -> [Named<'a>; 2] {
    let Some(name) = name else { return [None, None] };
    let short = domain_and_user(name.inner()).map(|(_, short)| {
        (Value::Escaped(short), From::derived(name.slot(), "what stands behind the domain"))
    });
    [short, Some((Value::Escaped(name.inner()), From::field(name)))]
}

/// A time of the row, as a date.
pub(super) fn seen(out: &mut impl Out, key: &str, time: Option<Time<'_>>) {
    if let Some(time) = time {
        date(out, key, &rfc3339(time.at), From::derived(time.field.slot(), "in UTC"));
    }
}
