//! The checked configuration: everything that a user can set, in types that cannot hold nonsense.
//!
//! [`Config::load`] reads the layers (defaults, file, `conf.d/*.yaml` beside it, environment
//! `LOCKSTEP__SECTION__KEY`) and reports *all* mistakes together, each with its path and a suggestion.
//! It touches no network. The defaults stand in `config/defaults.yaml` beside this module and nowhere
//! else; `config/lockstep.yaml` at the root of the repository explains every option. Relative paths are
//! relative to the working directory. Secrets are only named here ([`SecretSource`](crate::credentials::SecretSource)), never shown.

mod connection;
mod effective;
mod folder;
mod layers;
mod load;
mod mistake;
mod private;
mod reader;
mod reference;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Value, ValueKind};
use bytesize::ByteSize;

pub use connection::{Access, AuthKey, Connection, Http, Organizations, Rate, TokenExpiry};
pub use folder::BrokenSite;
pub use layers::Environment;
pub use load::{Load, loads};
pub use mistake::Mistake;
pub use reader::{human, human_size};
pub use reference::reference;
pub use source::{SOURCE_NAMES, SourceConfig};
pub use watch::{Origin, Stamp};

use layers::{Layers, Table};
use mistake::Mistakes;
use reader::{Section, found};

use crate::sink::SinkConfig;

/// The built-in defaults as YAML, as `lockstep config --defaults` prints them.
pub const DEFAULTS: &str = include_str!("config/defaults.yaml");

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// No two with the same site; at least one unless there is a folder of connections.
    pub connections: Vec<Connection>,
    /// Folders of sites that are wrong, by name.
    pub broken: Vec<BrokenSite>,
    /// Where the folders of connections are.
    pub folder: Option<PathBuf>,
    pub state: State,
    /// At least one, no two with the same name.
    pub sinks: Vec<SinkConfig>,
    pub server: Server,
    /// Bytes that pages, queues and batches may hold together.
    pub memory: u64,
    pub outbox: Outbox,
    pub dead_letters: DeadLetters,
    pub log: Log,
    /// How long the page in hand may still take after SIGTERM.
    pub shutdown_grace: Duration,
    effective: Effective,
}

/// Bounds of which the newest hold in every part of a running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub outbox: Outbox,
    pub dead_letters: DeadLetters,
    pub shutdown_grace: Duration,
}

/// Where the durable state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub dir: PathBuf,
}

/// What the program listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Health and metrics; `None` for `off`. Port 0 takes any free port.
    pub ops: Option<SocketAddr>,
}

/// Bounds of what is collected and not everywhere delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// Collecting pauses or a sink is detached when the outbox holds this many bytes.
    pub limit_bytes: u64,
    /// Delivered entries stay this long while there is room.
    pub keep: Duration,
}

/// Bounds of what could not be read or delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    pub limit_bytes: u64,
    pub keep: Duration,
}

/// What goes to the log on stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: tracing::Level,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{} is not valid YAML: {reason}", path.display())]
    Syntax { path: PathBuf, reason: String },
    #[error("environment variable {name} names no setting: \"{path}\" is not a path of keys")]
    Variable { name: String, path: String },
    #[error("{}", list(path, mistakes))]
    Mistakes { path: PathBuf, mistakes: Vec<Mistake> },
}

fn list(path: &Path, mistakes: &[Mistake]) -> String {
    let count = if mistakes.len() == 1 { "1 mistake" } else { &format!("{} mistakes", mistakes.len()) };
    let lines: Vec<String> = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
    format!("{} has {count}:{}", path.display(), lines.concat())
}

impl Config {
    /// Reads and checks a configuration file with everything that is laid over it.
    ///
    /// # Errors
    /// [`ConfigError::Mistakes`] with every mistake at once, unless a file cannot be read at all.
    pub fn load(file: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let layers = layers::read(file, environment)?;
        let mistakes = Mistakes::default();
        let config = check(&layers, file, environment, &mistakes);
        let mistakes = mistakes.into_vec();
        match config {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(ConfigError::Mistakes { path: file.to_owned(), mistakes }),
        }
    }

    /// The state directory that a configuration names, also where the rest of it is wrong; to reach the
    /// program that runs on it.
    pub fn state_dir(file: &Path, environment: &Environment) -> Option<PathBuf> {
        let layers = layers::read(file, environment).ok()?;
        let whole = layers::merged(layers.defaults, layers.given);
        let mistakes = Mistakes::default();
        let state = Section::root(&whole, &mistakes).section("state")?;
        state.required("dir")
    }

    pub fn limits(&self) -> Limits {
        let (outbox, dead_letters) = (self.outbox.clone(), self.dead_letters.clone());
        Limits { outbox, dead_letters, shutdown_grace: self.shutdown_grace }
    }

    /// Every site, those included whose folder is wrong.
    pub fn sites(&self) -> impl Iterator<Item = &str> {
        let connections = self.connections.iter().map(|connection| connection.site.as_str());
        connections.chain(self.broken.iter().map(|broken| broken.site.as_str()))
    }

    /// The configuration in force as YAML, defaults and all layers merged; secrets only by where they
    /// come from. A comment behind each value names the layer that set it.
    pub fn effective(&self) -> String {
        let folder = self.effective.folder.as_ref().map(|dir| format!("# with the folders in {dir}\n"));
        let broken = self.broken.iter().map(|broken| format!("# {broken}\n"));
        let settings = effective::yaml(&self.effective.settings, &self.effective.main);
        folder.into_iter().chain(broken).chain([settings]).collect()
    }
}

/// The merged settings that were checked.
#[derive(Clone)]
struct Effective {
    settings: Table,
    /// The main file, which is the layer of every value that names none.
    main: String,
    /// The folder of connections and the layer that names it.
    folder: Option<String>,
}

impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// Reads the merged layers; `None` only where a mistake is noted.
fn check(layers: &Layers, file: &Path, environment: &Environment, mistakes: &Mistakes) -> Option<Config> {
    let whole = layers::merged(layers.defaults.clone(), layers.given.clone());
    let top = Section::root(&whole, mistakes);

    let (templates, sink_templates) =
        (entries(&layers.defaults, "connections"), entries(&layers.defaults, "sinks"));
    let common = source::common(&top, &layers.defaults, mistakes);
    let (place, given) = connections(&layers.given, mistakes);
    let mut reader = connection::Reader::new(templates.first()?, &common, environment);
    for (index, own) in &given {
        reader.entry(format!("connections[{index}]"), own, mistakes);
    }
    let read = |place: &Folders| match folder::read(&place.dir) {
        Ok(folders) => folders,
        Err(error) => {
            let text = format!("cannot read the folder {}: {error}", place.dir.display());
            mistakes.add("connections.dir", text, place.origin.as_deref());
            Vec::new()
        }
    };
    let folders = place.as_ref().map(read).unwrap_or_default();
    let broken = folders.into_iter().filter_map(|folder| reader.folder(folder)).collect();
    let connection::Reader { mut connections, trees: connection_trees, .. } = reader;
    load::stretch(&mut connections);
    let sinks = layers.given.get("sinks");
    let given = list_of(sinks, "sinks", ("- { name: out, type: stdout }", 1), mistakes);
    let (sinks, sink_trees) = {
        let sites: Vec<&str> = connections.iter().map(|connection| connection.site.as_str()).collect();
        // A folder may bring sites later.
        let sites = place.is_none().then_some(&sites[..]);
        sink::check_all(&given, &sink_templates, sites, environment, mistakes)
    };
    for list in ["connections", "sinks"] {
        top.value(list);
    }

    let state = top.section("state").and_then(state);
    let server = top.section("server").and_then(server);
    let outbox = top.section("outbox").and_then(|section| {
        let (limit_bytes, keep) = bounded_store(section)?;
        Some(Outbox { limit_bytes, keep })
    });
    let dead_letters = top.section("dead_letters").and_then(|section| {
        let (limit_bytes, keep) = bounded_store(section)?;
        Some(DeadLetters { limit_bytes, keep })
    });
    let log = top.section("log").and_then(log);
    let memory = top.size("memory", ByteSize::mib(32), ByteSize::gib(64));
    let shutdown_grace = top.duration("shutdown_grace", Duration::ZERO, Duration::from_secs(300));
    top.close();

    let mut effective = whole.clone();
    for (key, trees) in [("connections", connection_trees), ("sinks", sink_trees)] {
        effective.insert(key.to_owned(), Value::new(None, ValueKind::Array(trees)));
    }
    let main = file.display().to_string();
    let layer = |place: &Folders| place.origin.clone().unwrap_or_else(|| main.clone());
    let shown = place.as_ref().map(|place| format!("{}  # {}", place.dir.display(), layer(place)));
    Some(Config {
        connections,
        broken,
        folder: place.map(|place| place.dir),
        state: state?,
        sinks,
        server: server?,
        memory: memory?,
        outbox: outbox?,
        dead_letters: dead_letters?,
        log: log?,
        shutdown_grace: shutdown_grace?,
        effective: Effective { settings: effective, main, folder: shown },
    })
}

fn state(section: Section<'_>) -> Option<State> {
    let dir = section.required("dir");
    section.close();
    Some(State { dir: dir? })
}

fn server(section: Section<'_>) -> Option<Server> {
    let off = section.is_word("ops", "off");
    let ops = if off { None } else { Some(section.required("ops")) };
    section.not_yet(&["console"]);
    section.close();
    Some(Server { ops: ops.map_or(Some(None), |ops| ops.map(Some))? })
}

fn bounded_store(section: Section<'_>) -> Option<(u64, Duration)> {
    let limit = section.size("limit", ByteSize::mib(1), ByteSize::tib(64));
    let keep = section.duration("keep", Duration::ZERO, days(3650));
    section.close();
    Some((limit?, keep?))
}

fn log(section: Section<'_>) -> Option<Log> {
    let level = section.word("level", &["error", "warn", "info", "debug", "trace"], &[]);
    let json = section.required("json");
    section.close();
    Some(Log { level: level?.parse().expect("every known level is one of tracing's"), json: json? })
}

/// The tables of a list in the defaults.
fn entries(table: &Table, list: &str) -> Vec<Table> {
    match table.get(list).map(|value| &value.kind) {
        Some(ValueKind::Array(values)) => {
            values.iter().filter_map(|value| value.clone().into_table().ok()).collect()
        }
        _ => Vec::new(),
    }
}

/// The folder of connections, and the layer that names it.
struct Folders {
    dir: PathBuf,
    origin: Option<String>,
}

/// The folder of connections, and the entries of the list.
fn connections(given: &Table, mistakes: &Mistakes) -> (Option<Folders>, Vec<(usize, Table)>) {
    const EXAMPLE: &str = "- { site: acme, instance: g, token: { file: … } }";
    let value = given.get("connections");
    let Some(ValueKind::Table(table)) = value.map(|value| &value.kind) else {
        return (None, list_of(value, "connections", (EXAMPLE, 1), mistakes));
    };
    let before = mistakes.count();
    let section = Section::at("connections".to_owned(), table, mistakes);
    let dir: Option<PathBuf> = section.optional("dir");
    section.value("list");
    section.unknown(|_| {
        "unknown key; connections are a list, each entry with a leading dash, or `{ dir: FOLDER }` with a folder \
         for each site"
            .to_owned()
    });
    let least = usize::from(dir.is_none() && mistakes.count() == before);
    let list = list_of(table.get("list"), "connections", (EXAMPLE, least), mistakes);
    let origin = table.get("dir").and_then(Value::origin).map(str::to_owned);
    (dir.map(|dir| Folders { dir, origin }), list)
}

/// The entries that stand in a list of the configuration, with an example of one; fewer than `least` are a
/// mistake.
fn list_of(
    value: Option<&Value>,
    list: &str,
    (example, least): (&str, usize),
    mistakes: &Mistakes,
) -> Vec<(usize, Table)> {
    let origin = value.and_then(Value::origin);
    let entries = match value.map(|value| &value.kind) {
        Some(ValueKind::Array(entries)) if !entries.is_empty() => entries,
        None | Some(ValueKind::Nil | ValueKind::Array(_)) => {
            if least > 0 {
                mistakes.add(list, format!("at least one is needed, such as\n      {example}"), origin);
            }
            return Vec::new();
        }
        Some(_) if origin.is_some_and(|origin| origin.starts_with("environment")) => {
            mistakes.add(list, "a list cannot be set by the environment; write it into a file", origin);
            return Vec::new();
        }
        Some(other) => {
            mistakes.add(
                list,
                format!("expected a list, each entry with a leading dash, found {}", found(other)),
                origin,
            );
            return Vec::new();
        }
    };
    let mut tables = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match &entry.kind {
            ValueKind::Table(table) => tables.push((index, table.clone())),
            other => {
                let text = format!(
                    "expected a section with keys of its own, such as\n      {example}\n    found {}",
                    found(other)
                );
                mistakes.add(format!("{list}[{index}]"), text, entry.origin());
            }
        }
    }
    tables
}

fn is_word(value: &Value, word: &str) -> bool {
    // YAML 1.1 readers take a bare `off` for false.
    matches!(&value.kind, ValueKind::String(text) if text == word)
        || (word == "off" && value.kind == ValueKind::Boolean(false))
}

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}
