//! How a source is asked that the vendor does not publish.

use std::time::Duration;

use ::config::{Value as Setting, ValueKind};
use serde_json::{Map, Value};

use super::layers::Table;
use super::reader::{Section, found};
use crate::portal::PrivatePath;
use crate::source::{MARKS, Private, unknown_mark};

const VERBS: [&str; 2] = ["post", "get"];

/// What the section of a source says; nothing where it is off and names no path.
pub(super) fn read(
    section: &Section<'_>,
    enabled: Option<bool>,
    backfill: Duration,
) -> Option<Option<Private>> {
    let verb = verb(section);
    let body = body(section);
    let name = |key| match section.optional::<String>(key) {
        None if section.value(key).is_some() => None,
        name => Some(name),
    };
    let (id, time) = (name("id"), name("time"));
    section.takes("changes", || "a list of names of members".to_owned());
    let changes: Option<Vec<String>> = section.required("changes");
    section.takes("path", || "a path below `/portalapi/` that reads".to_owned());
    let Some(path) = section.optional::<String>("path") else {
        if enabled == Some(true) && section.value("path").is_none() {
            let text = "is missing; write the path below /portalapi/ that the portal's own page asks, or set `enabled: false`";
            return section.refuse("path", text);
        }
        return (enabled == Some(false)).then_some(None);
    };
    let (verb, body) = (verb?, body?);
    let path = match PrivatePath::new(&path, verb == "get") {
        Ok(path) => path,
        Err(why) => return section.refuse("path", why),
    };
    if path.is_get() && body.values().any(|value| value.is_object() || value.is_array()) {
        return section
            .refuse("body", "stands in the query with `verb: GET`, so each member must be a plain value");
    }
    Some(Some(Private { path, body, id: id?, time: time?, changes: changes?, backfill }))
}

fn verb(section: &Section<'_>) -> Option<&'static str> {
    section.takes("verb", || "`POST` or `GET`".to_owned());
    let verb: String = section.required("verb")?;
    let known = VERBS.into_iter().find(|known| known.eq_ignore_ascii_case(&verb));
    known.or_else(|| section.refuse("verb", format!("must be POST or GET, found {verb:?}")))
}

/// A section, or the same as a JSON text, since variables of the environment are in small letters.
fn body(section: &Section<'_>) -> Option<Map<String, Value>> {
    let marks = MARKS.map(|mark| format!("`\"{mark}\"`")).join(", ");
    section.takes("body", || format!("a section, or a JSON text, with {marks} for values"));
    let body = match section.value("body").map(|value| &value.kind) {
        None => Map::new(),
        Some(ValueKind::Table(table)) => members(table),
        Some(ValueKind::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Object(members)) => members,
            _ => return section.refuse("body", "expected a section or the text of a JSON object"),
        },
        Some(other) => {
            let text = format!("expected a section or the text of a JSON object, found {}", found(other));
            return section.refuse("body", text);
        }
    };
    match body.values().find_map(unknown_mark) {
        Some(mark) => {
            section.refuse("body", format!("{mark:?} stands for nothing; known here: {}", MARKS.join(", ")))
        }
        None => Some(body),
    }
}

fn members(table: &Table) -> Map<String, Value> {
    table.iter().map(|(name, setting)| (name.clone(), value(setting))).collect()
}

fn value(setting: &Setting) -> Value {
    match &setting.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(value) => (*value).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::U64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::String(text) => text.as_str().into(),
        ValueKind::Table(table) => members(table).into(),
        ValueKind::Array(values) => values.iter().map(value).collect(),
        // Numbers beyond those of JSON.
        other => other.to_string().into(),
    }
}
