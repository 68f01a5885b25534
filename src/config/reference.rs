//! The reference of every option: what reads it says what it takes, `defaults.yaml` what it is when nobody
//! says anything, and `config/lockstep.yaml` what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ::config::{Value, ValueKind};

use super::layers::{self, Environment, Layers, Table};
use super::mistake::Mistakes;
use super::sink::KINDS;
use super::{check, effective};

/// The example that explains every option.
const EXAMPLE: &str = include_str!("../../config/lockstep.yaml");

const INTRODUCTION: &str = "\
# Configuration

Every option, with what it takes and what it is when nobody says anything. This page is made by
`lockstep config --reference` from the program itself, and a test holds it current. `config/lockstep.yaml` is the same
as a file to start from.

The layers, each over the one before: the defaults, the file given with `-c`, the files in `conf.d` beside it by name, and
environment variables such as `LOCKSTEP__STATE__DIR`. The lists `connections` and `sinks` of all files are joined;
variables cannot reach into lists. An unknown key is a mistake. `lockstep check -c FILE` names every mistake at once,
`lockstep config --effective -c FILE` shows what is in force and which layer set it.

Durations have a unit (`200ms`, `60s`, `1h30m`, `30d`), and sizes too (`512KiB`, `256MiB`, `8GiB`). Relative paths are
relative to the working directory. Secrets never stand in a configuration, only where they come from.
";

/// The whole page, as Markdown.
pub fn reference() -> String {
    let (defaults, takes, meanings) = (layers::defaults(), takes(), meanings(EXAMPLE));
    let mut page = Page { takes, meanings, out: INTRODUCTION.to_owned() };
    let (sections, single): (Vec<_>, Vec<_>) = defaults
        .iter()
        .partition(|(_, value)| matches!(value.kind, ValueKind::Table(_) | ValueKind::Array(_)));
    for (key, value) in sections {
        page.section(key, value);
    }
    page.out.push_str("\n## At the top level\n");
    page.head();
    for (key, value) in single {
        page.row(key, key, value);
    }
    page.out
}

struct Page {
    /// By the path of an option.
    takes: BTreeMap<String, String>,
    meanings: Meanings,
    out: String,
}

impl Page {
    fn section(&mut self, key: &str, value: &Value) {
        let meaning = self.meanings.get(key).cloned().unwrap_or_default();
        self.out.push_str(&format!("\n## {key}\n\n{meaning}\n"));
        self.head();
        match &value.kind {
            ValueKind::Array(entries) => {
                let mut shown = BTreeSet::new();
                for entry in entries.iter().filter_map(|entry| entry.clone().into_table().ok()) {
                    self.rows(&fresh(entry, key, &mut shown), key, "");
                }
            }
            ValueKind::Table(table) => self.rows(table, key, ""),
            _ => {}
        }
    }

    fn head(&mut self) {
        self.out.push_str("\n| option | takes | default | meaning |\n|---|---|---|---|\n");
    }

    /// `path` from the top, `name` from the section.
    fn rows(&mut self, table: &Table, path: &str, name: &str) {
        for (key, value) in table {
            let path = format!("{path}.{key}");
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            match &value.kind {
                ValueKind::Table(inner) => {
                    if let Some(meaning) = self.meanings.get(&path) {
                        let meaning = cell(meaning);
                        self.out.push_str(&format!("| `{name}` | a section | | {meaning} |\n"));
                    }
                    self.rows(inner, &path, &name);
                }
                _ => self.row(&path, &name, value),
            }
        }
    }

    fn row(&mut self, path: &str, name: &str, value: &Value) {
        let takes = cell(self.takes.get(path).map_or("", String::as_str));
        let default = match &value.kind {
            ValueKind::Nil => "none".to_owned(),
            ValueKind::String(text) => format!("`{text}`"),
            kind => format!("`{}`", effective::inline(kind)),
        };
        let meaning = cell(self.meaning(path));
        self.out.push_str(&format!("| `{name}` | {takes} | {default} | {meaning} |\n"));
    }

    /// What is said of an option, else of its first namesake in the same section: sources explain each key once. An
    /// option of an inner section is explained by that section.
    fn meaning(&self, path: &str) -> &str {
        let section = path.split('.').next().unwrap_or_default();
        let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
        let is_namesake = |other: &str| {
            other.starts_with(section) && other.rsplit_once('.').is_some_and(|(_, last)| last == key)
        };
        let namesake = || self.meanings.0.iter().find(|(other, _)| is_namesake(other));
        let meaning = self.meanings.get(path).or_else(|| namesake().map(|(_, meaning)| meaning));
        match meaning {
            Some(meaning) => meaning,
            None if self.meanings.get(above).is_some() && above.contains('.') => "see above",
            None => "",
        }
    }
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace("\n\n", " ").replace('|', "\\|")
}

/// What each option takes, as those say who read it: they are let loose on settings in which nothing is set.
fn takes() -> BTreeMap<String, String> {
    let entry = |settings: &[(&str, &str)]| {
        let text = |text: &str| Value::new(None, ValueKind::String(text.to_owned()));
        let table = settings.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
        Value::new(None, ValueKind::Table(table))
    };
    let list = |entries| Value::new(None, ValueKind::Array(entries));
    let given = [
        ("connections".to_owned(), list(vec![entry(&[])])),
        ("sinks".to_owned(), list(KINDS.iter().map(|kind| entry(&[("type", kind)])).collect())),
    ];
    let layers = Layers { defaults: layers::defaults(), given: given.into_iter().collect() };
    let mistakes = Mistakes::taking_notes();
    check(&layers, Path::new(""), &Environment::default(), &mistakes);
    let mut takes: BTreeMap<String, String> = BTreeMap::new();
    let mut notes = mistakes.into_notes();
    // A word that stands for itself comes after what is usual.
    notes.sort_by_key(|(_, what)| what.starts_with("or "));
    for (path, what) in notes {
        let path: String =
            path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
        let told = takes.entry(path).or_default();
        // Who reads a setting closely says more than the type alone, and says it first.
        if !told.contains(&what) {
            *told += if told.is_empty() { "" } else { " " };
            *told += &what;
        }
    }
    takes
}

/// What of an entry of a list was not shown with one before, sections within it taken apart.
fn fresh(entry: Table, path: &str, shown: &mut BTreeSet<String>) -> Table {
    let mut fresh = Table::new();
    for (key, value) in entry {
        let path = format!("{path}.{key}");
        match value.kind {
            ValueKind::Table(inner) => {
                let inner = self::fresh(inner, &path, shown);
                if !inner.is_empty() {
                    fresh.insert(key, Value::new(None, ValueKind::Table(inner)));
                }
            }
            _ if shown.insert(path) => drop(fresh.insert(key, value)),
            _ => {}
        }
    }
    fresh
}

/// The sentences that stand before each setting of an example, by its path and in the order of the example.
struct Meanings(Vec<(String, String)>);

impl Meanings {
    fn get(&self, path: &str) -> Option<&String> {
        self.0.iter().find(|(other, _)| other == path).map(|(_, meaning)| meaning)
    }
}

fn meanings(example: &str) -> Meanings {
    let mut meanings = Meanings(Vec::new());
    let mut pending = String::new();
    let mut above: Vec<(usize, &str)> = Vec::new();
    for line in example.lines() {
        match Line::read(line) {
            Line::Empty => pending.clear(),
            Line::Paragraph => pending.push_str("\n\n"),
            Line::Sentence(text) => {
                if !pending.is_empty() && !pending.ends_with('\n') {
                    pending.push(' ');
                }
                pending.push_str(text);
            }
            Line::Setting { column, key } => {
                above.retain(|(other, _)| *other < column);
                above.push((column, key));
                let path: Vec<&str> = above.iter().map(|(_, key)| *key).collect();
                let (path, meaning) = (path.join("."), std::mem::take(&mut pending));
                if !meaning.is_empty() && meanings.get(&path).is_none() {
                    meanings.0.push((path, meaning));
                }
            }
        }
    }
    meanings
}

/// A line of an example, in which settings may be commented out.
enum Line<'a> {
    Empty,
    /// A comment without words.
    Paragraph,
    Sentence(&'a str),
    Setting {
        /// Where the key stands, or would stand if it were not commented out.
        column: usize,
        key: &'a str,
    },
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Self {
        let text = line.trim_start();
        let mut column = line.len() - text.len();
        if text.is_empty() {
            return Line::Empty;
        }
        let inner = text.strip_prefix('#').map(|inner| inner.strip_prefix(' ').unwrap_or(inner));
        let mut setting = inner.map_or(text, str::trim_start);
        column += inner.map_or(0, |inner| inner.len() - setting.len());
        if let Some(entry) = setting.strip_prefix("- ") {
            (setting, column) = (entry, column + 2);
        }
        let key = setting.split(':').next().unwrap_or_default();
        let is_key =
            !key.is_empty() && key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
        match setting.strip_prefix("# ") {
            Some(sentence) => Line::Sentence(sentence),
            None if setting.is_empty() => Line::Paragraph,
            None if is_key && setting.contains(':') => Line::Setting { column, key },
            None => Line::Sentence(setting),
        }
    }
}
