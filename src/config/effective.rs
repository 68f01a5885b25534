//! Writes settings as YAML, in the order they have, each with the layer that set it as a comment behind it.

use ::config::{Value, ValueKind};

use super::layers::Table;

/// Column of the comments; a longer line has its comment two blanks behind it.
const COMMENTS: usize = 48;

/// The settings as block-style YAML. `main` is the layer of what names none.
pub(super) fn yaml(table: &Table, main: &str) -> String {
    let mut page = Page { main, out: String::new() };
    page.table(table, 0, "");
    page.out
}

struct Page<'a> {
    main: &'a str,
    out: String,
}

impl Page<'_> {
    /// The first line of the table begins with `dash` instead of blanks.
    fn table(&mut self, table: &Table, depth: usize, dash: &str) {
        let mut dash = Some(dash).filter(|dash| !dash.is_empty());
        for (key, value) in table.iter().filter(|(_, value)| value.kind != ValueKind::Nil) {
            let start = match dash.take() {
                Some(dash) => format!("{:indent$}{dash}{key}:", "", indent = depth * 2 - dash.len()),
                None => format!("{:indent$}{key}:", "", indent = depth * 2),
            };
            match &value.kind {
                ValueKind::Table(inner) if !inner.is_empty() => {
                    self.out.push_str(&format!("{start}\n"));
                    self.table(inner, depth + 1, "");
                }
                ValueKind::Array(entries)
                    if entries.iter().any(|entry| matches!(entry.kind, ValueKind::Table(_))) =>
                {
                    self.out.push_str(&format!("{start}\n"));
                    entries.iter().for_each(|entry| self.entry(entry, depth + 1));
                }
                other => self.line(&format!("{start} {}", inline(other)), value.origin()),
            }
        }
    }

    fn entry(&mut self, entry: &Value, depth: usize) {
        match &entry.kind {
            ValueKind::Table(table) => self.table(table, depth + 1, "- "),
            other => {
                let line = format!("{:indent$}- {}", "", inline(other), indent = depth * 2);
                self.line(&line, entry.origin());
            }
        }
    }

    fn line(&mut self, text: &str, origin: Option<&str>) {
        // A path may hold anything, and a comment ends with its line.
        let layer = origin.unwrap_or(self.main).replace(char::is_control, " ");
        self.out.push_str(&format!("{text:<width$}  # {layer}\n", width = COMMENTS));
    }
}

/// A value on one line.
pub(super) fn inline(kind: &ValueKind) -> String {
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
