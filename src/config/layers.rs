//! The layers of a configuration, lowest first: defaults, file, `conf.d/*.yaml` beside it, environment.
//!
//! Tables are merged key by key and an empty value changes nothing. The lists `connections` and `sinks`
//! of all files are joined, so that a file in `conf.d` can add a connection and none can drop another's.
//! A plain list of connections is short for `connections: { list: … }`, beside which `dir` may stand.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use ::config::{File, FileFormat, FileSourceString, Map, Source, Value, ValueKind};

use super::ConfigError;

/// Table of settings, in the order of the file.
pub(super) type Table = Map<String, Value>;

/// Prefix of the variables that are settings: `LOCKSTEP__STATE__DIR` is `state.dir`.
const PREFIX: &str = "LOCKSTEP__";

/// The layer of a value that nobody set.
pub(super) const DEFAULT: &str = "default";

/// The environment as the configuration sees it; nothing else reads it.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's own. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self(std::env::vars_os().filter_map(text).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The merged settings, not checked yet.
pub(super) struct Layers {
    /// What every option is when nobody says anything.
    pub(super) defaults: Table,
    /// What the files and the environment say, without the defaults.
    pub(super) given: Table,
}

/// Reads and merges every layer.
pub(super) fn read(file: &Path, environment: &Environment) -> Result<Layers, ConfigError> {
    let mut given = Table::new();
    for (path, main) in files(file)? {
        let text = read_text(&path).map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
        let mut table = parse(&text)
            .map_err(|reason| ConfigError::Syntax { path: path.clone(), reason: reason.to_string() })?;
        if !main {
            table = named(table, &path.display().to_string());
        }
        list_in_full(&mut table);
        join(&given, &mut table, "sinks");
        if let (Some(ValueKind::Table(before)), Some(Value { kind: ValueKind::Table(more), .. })) =
            (given.get("connections").map(|value| &value.kind), table.get_mut("connections"))
        {
            join(before, more, "list");
        }
        given = merged(given, table);
    }
    let variables = from_environment(environment)?;
    Ok(Layers { defaults: defaults(), given: merged(given, variables) })
}

/// Puts the entries of a list that stand already before those that a further file brings.
fn join(given: &Table, table: &mut Table, list: &str) {
    if let (Some(ValueKind::Array(before)), Some(Value { kind: ValueKind::Array(more), .. })) =
        (given.get(list).map(|value| &value.kind), table.get_mut(list))
    {
        more.splice(0..0, before.iter().cloned());
    }
}

fn list_in_full(table: &mut Table) {
    if let Some(value) = table.get_mut("connections")
        && matches!(value.kind, ValueKind::Array(_))
    {
        let list = value.clone();
        value.kind = ValueKind::Table([("list".to_owned(), list)].into_iter().collect());
    }
}

/// A file above this is no configuration.
const LONGEST: u64 = 8 << 20;

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, "larger than 8 MiB"));
    }
    // Editors on Windows put it there.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The settings in one file, or why there are none.
pub(super) fn read_table(path: &Path) -> Result<Table, String> {
    let text = read_text(path).map_err(|error| format!("cannot be read: {error}"))?;
    parse(&text).map_err(|reason| format!("is not valid YAML: {reason}"))
}

/// The built-in defaults as settings.
pub(super) fn defaults() -> Table {
    named(parse(super::DEFAULTS).expect("a test reads the defaults"), DEFAULT)
}

/// `over` laid on `base`: tables key by key, everything else replaced, empty values without effect.
pub(super) fn merged(mut base: Table, over: Table) -> Table {
    for (key, value) in over {
        let value = match (base.get(&key).map(|value| &value.kind), value.kind.clone()) {
            (_, ValueKind::Nil) if base.contains_key(&key) => continue,
            (Some(ValueKind::Table(below)), ValueKind::Table(above)) => {
                Value::new(value.origin().map(str::to_owned).as_ref(), merged(below.clone(), above))
            }
            _ => value,
        };
        base.insert(key, value);
    }
    base
}

/// The main file, then `conf.d/*.yaml` beside it by name; true for the main file.
pub(super) fn files(file: &Path) -> Result<Vec<(PathBuf, bool)>, ConfigError> {
    let mut found = vec![(file.to_owned(), true)];
    let folder = file.with_file_name("conf.d");
    if !folder.is_dir() {
        return Ok(found);
    }
    let unreadable = |error| ConfigError::Unreadable { path: folder.clone(), error };
    let mut more = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            more.push((path, false));
        }
    }
    more.sort();
    found.extend(more);
    Ok(found)
}

pub(super) fn parse(text: &str) -> Result<Table, ::config::ConfigError> {
    File::<FileSourceString, FileFormat>::from_str(text, FileFormat::Yaml).collect()
}

/// The same settings, each knowing the layer that it came from.
pub(super) fn named(table: Table, origin: &str) -> Table {
    table.into_iter().map(|(key, value)| (key, named_value(value, &origin.to_owned()))).collect()
}

fn named_value(value: Value, origin: &String) -> Value {
    let kind = match value.kind {
        ValueKind::Table(table) => ValueKind::Table(named(table, origin)),
        ValueKind::Array(entries) => {
            ValueKind::Array(entries.into_iter().map(|entry| named_value(entry, origin)).collect())
        }
        other => other,
    };
    Value::new(Some(origin), kind)
}

fn from_environment(environment: &Environment) -> Result<Table, ConfigError> {
    let mut found = Table::new();
    for (name, value) in &environment.0 {
        let Some(path) = name.strip_prefix(PREFIX) else { continue };
        let variables = [(name.clone(), value.clone())].into_iter().collect();
        let layer = ::config::Environment::with_prefix("LOCKSTEP")
            .prefix_separator("__")
            .separator("__")
            .source(Some(variables));
        let table = ::config::Config::builder()
            .add_source(layer)
            .build()
            .and_then(|built| built.cache.into_table())
            .map_err(|_| ConfigError::Variable { name: name.clone(), path: path.to_lowercase() })?;
        found = merged(found, named(table, &format!("environment variable {name}")));
    }
    Ok(found)
}
