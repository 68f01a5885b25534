//! Whether every value of a row can be found again in its record.

use serde_json::Value;

/// What of the row cannot be found: the path of each value, and the value.
pub(super) fn lost(row: &Value, record: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    leaves(record, &mut texts);
    let members = row.as_object().unwrap().iter();
    members
        .filter(|(name, value)| !is_found(name, value, record, &texts))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect()
}

/// A value is found under its own name somewhere in the record, or, if it is a text or number, as a value anywhere.
fn is_found(name: &str, value: &Value, record: &Value, texts: &[String]) -> bool {
    match value {
        Value::Null => true,
        _ if stands_under(name, value, record) => true,
        Value::String(text) => !text.is_empty() && texts.contains(text),
        Value::Number(number) => texts.contains(&number.to_string()),
        Value::Bool(_) => false,
        Value::Array(items) => {
            !items.is_empty() && items.iter().all(|item| is_found("", item, record, texts))
        }
        Value::Object(members) => {
            !members.is_empty()
                && members
                    .iter()
                    .all(|(member, item)| is_found(&format!("{name}.{member}"), item, record, texts))
        }
    }
}

/// Under its name, or under the last part of a name with dots.
fn stands_under(name: &str, value: &Value, record: &Value) -> bool {
    let is_name = |key: &str| {
        key.eq_ignore_ascii_case(name)
            || name.rsplit_once('.').is_some_and(|(_, last)| key.eq_ignore_ascii_case(last))
    };
    match record {
        Value::Object(members) => members
            .iter()
            .any(|(key, member)| (is_name(key) && member == value) || stands_under(name, value, member)),
        Value::Array(items) => items.iter().any(|item| stands_under(name, value, item)),
        _ => false,
    }
}

fn leaves(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.values().for_each(|member| leaves(member, texts)),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, texts)),
        Value::String(text) => texts.push(text.clone()),
        Value::Number(number) => texts.push(number.to_string()),
        Value::Bool(_) | Value::Null => {}
    }
}
