//! Writes settings as YAML, in the order they have.

use ::config::{Value, ValueKind};

use super::layers::Table;

/// The settings as block-style YAML.
pub(super) fn yaml(table: &Table) -> String {
    let mut out = String::new();
    write_table(table, 0, &mut out);
    out
}

fn write_table(table: &Table, depth: usize, out: &mut String) {
    for (key, value) in table.iter().filter(|(_, value)| value.kind != ValueKind::Nil) {
        out.push_str(&format!("{:indent$}{key}:", "", indent = depth * 2));
        match &value.kind {
            ValueKind::Table(inner) if !inner.is_empty() => {
                out.push('\n');
                write_table(inner, depth + 1, out);
            }
            ValueKind::Array(entries)
                if entries.iter().any(|entry| matches!(entry.kind, ValueKind::Table(_))) =>
            {
                out.push('\n');
                for entry in entries {
                    write_entry(entry, depth + 1, out);
                }
            }
            other => out.push_str(&format!(" {}\n", inline(other))),
        }
    }
}

/// An entry of a list: its first key follows the dash.
fn write_entry(entry: &Value, depth: usize, out: &mut String) {
    let mut text = String::new();
    match &entry.kind {
        ValueKind::Table(table) => write_table(table, depth + 1, &mut text),
        other => text.push_str(&format!("{:indent$}{}\n", "", inline(other), indent = depth * 2 + 2)),
    }
    let body = text.trim_start();
    out.push_str(&format!("{:indent$}- {body}", "", indent = depth * 2));
}

fn inline(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Nil => "null".to_owned(),
        ValueKind::String(text) if plain(text) => text.clone(),
        // A JSON text is a YAML double-quoted text.
        ValueKind::String(text) => serde_json::Value::from(text.as_str()).to_string(),
        ValueKind::Array(entries) => {
            let entries: Vec<String> = entries.iter().map(|entry| inline(&entry.kind)).collect();
            format!("[{}]", entries.join(", "))
        }
        ValueKind::Table(table) => {
            let pairs: Vec<String> =
                table.iter().map(|(key, value)| format!("{key}: {}", inline(&value.kind))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// True where the text means itself without quotes: a word, a path, or a number with a unit behind it.
fn plain(text: &str) -> bool {
    let word = text.starts_with(|first: char| first.is_ascii_alphabetic() || "./".contains(first))
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "./_-:@{}".contains(letter))
        && !text.ends_with(':')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n", "."]
            .contains(&text.to_lowercase().as_str());
    let (digits, unit) =
        text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let measured =
        !digits.is_empty() && ["ms", "s", "m", "h", "d", "KiB", "MiB", "GiB", "TiB"].contains(&unit);
    word || measured
}
