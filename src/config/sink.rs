//! What can be set for each sink.

mod http;
mod kafka;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Value, ValueKind};
use bytesize::ByteSize;
use secrecy::ExposeSecret;

use super::connection::secret;
use super::days;
use super::layers::{Environment, Table, merged};
use super::mistake::Mistakes;
use super::reader::{Section, found, one_of};
use crate::credentials::{SecretSource, read_secret_now};
use crate::deliver::inventory::Shape;
use crate::format::Format;
use crate::formats::ocsf::Version;
use crate::model::Kind;
use crate::record::event::Severity;
use crate::redact::Redact;
use crate::redact::class::{Class, Classes, How};
use crate::redact::pseudonym::LEAST_KEY;
use crate::select::Select;
use crate::sink::{SinkConfig, SinkKind};
use crate::sinks::file::{Compression, PathTemplate};
use crate::sinks::kafka::KafkaConfig;
use crate::source::SOURCES;

/// The kinds of sink of this version.
pub(super) const KINDS: [&str; 7] =
    ["elasticsearch", "file", "http", "kafka", "opensearch", "splunk_hec", "stdout"];

/// Checks every sink, which may name only these `sites`, unless nobody knows which there will be; also gives the merged settings of each, for `config --effective`.
pub(super) fn check_all(
    given: &[(usize, Table)],
    templates: &[Table],
    sites: Option<&[&str]>,
    environment: &Environment,
    mistakes: &Mistakes,
) -> (Vec<SinkConfig>, Vec<Value>) {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut targets: BTreeMap<PathBuf, String> = BTreeMap::new();
    let (mut sinks, mut trees) = (Vec::<(usize, SinkConfig)>::new(), Vec::new());
    for (index, own) in given {
        let path = format!("sinks[{index}]");
        let of_type = |table: &&Table| {
            table.get("type").map(|kind| &kind.kind) == own.get("type").map(|kind| &kind.kind)
        };
        let template = templates.iter().find(of_type).cloned().unwrap_or_default();
        let tree = merged(template, own.clone());
        let section = Section::at(path.clone(), &tree, mistakes);
        let name: Option<String> = section.named("name", "a short label for this sink, such as `name: out`");
        if let Some(earlier) = name.as_ref().and_then(|name| names.insert(name.to_lowercase(), path)) {
            section
                .mistake("name", format!("is the same as in {earlier}; every sink needs a name of its own"));
        }
        if let Some(sink) = check(&section, name, own, environment) {
            let nowhere = |site: &&String| sites.is_some_and(|sites| !sites.contains(&site.as_str()));
            if let Some(site) = sink.select.sites.iter().find(nowhere) {
                let text = format!("there is no site {site}; this sink would get nothing of it");
                section.mistake("select.sites", text);
            }
            let (key, target) = match &sink.kind {
                SinkKind::File { path, .. } => ("path", place(Path::new(&path.to_string()))),
                SinkKind::Http(settings) => {
                    let clash = |(_, earlier): &&(usize, SinkConfig)| match &earlier.kind {
                        SinkKind::Http(other) => {
                            http::clash((settings, other), (&sink.select, &earlier.select), sites)
                        }
                        _ => None,
                    };
                    if let Some(((key, how), (earlier, _))) =
                        sinks.iter().find_map(|one| Some((clash(&one)?, one)))
                    {
                        let text = format!("{how} sinks[{earlier}]; each sink needs its own");
                        section.mistake(key, text);
                    }
                    // Judged above.
                    ("url", PathBuf::from(format!("http {index}")))
                }
                SinkKind::Kafka(kafka) => ("topics", topics(kafka)),
                SinkKind::Stdout => ("type", PathBuf::new()),
            };
            if let Some(earlier) = targets.insert(target, format!("sinks[{index}]")) {
                section
                    .mistake(key, format!("writes to the same place as {earlier}; each sink needs its own"));
            }
            for list in sink.kind.inventory() {
                if let Some(earlier) = targets.insert(place(list), format!("sinks[{index}]")) {
                    let text = format!("{} is where {earlier} writes already", list.display());
                    section.mistake("inventory", text);
                }
            }
            sinks.push((*index, sink));
        }
        trees.push(Value::new(None, ValueKind::Table(tree)));
    }
    (sinks.into_iter().map(|(_, sink)| sink).collect(), trees)
}

/// Where a Kafka sink writes, in one word.
fn topics(kafka: &KafkaConfig) -> PathBuf {
    let KafkaConfig { brokers, events, devices, .. } = kafka;
    let mut brokers = brokers.clone();
    brokers.sort_unstable();
    format!("kafka {} {events} {devices}", brokers.join(",")).into()
}

/// Where a path template leads, however it is spelled: absolute, and through links as far as it exists.
fn place(template: &Path) -> PathBuf {
    let whole = std::path::absolute(template).unwrap_or_else(|_| template.to_owned());
    let real = whole.ancestors().find_map(|folder| {
        let beyond = whole.strip_prefix(folder).expect("an ancestor of it");
        Some(folder.canonicalize().ok()?.join(beyond))
    });
    real.unwrap_or(whole)
}

fn check(
    section: &Section<'_>,
    name: Option<String>,
    given: &Table,
    environment: &Environment,
) -> Option<SinkConfig> {
    // The other keys depend on the type: without it they are not looked at.
    let kind = section.word("type", &KINDS, &[])?;
    let format = format(section, given);
    let redact = redact(section, environment);
    let select = select(section, format);
    let from_now = section.word("from", &["retained", "now"], &[]).map(|from| from == "now");
    let max_per_day = match section.value("max_per_day") {
        Some(_) => section.size("max_per_day", ByteSize::mib(1), ByteSize::pib(1)).map(Some),
        None => {
            section.takes("max_per_day", || "size from 1MiB to 1PiB".to_owned());
            Some(None)
        }
    };
    let kind = match kind {
        "file" => file(section),
        "elasticsearch" | "http" | "opensearch" | "splunk_hec" => http::read(kind, section, environment),
        "kafka" => kafka::kafka(section, environment, format),
        _ => Some(SinkKind::Stdout),
    };
    section.close();
    let format_by_default = !["format", "version"].iter().any(|key| given.contains_key(*key));
    Some(SinkConfig {
        name: name?,
        format: format?,
        format_by_default,
        redact: redact?,
        select: select?,
        from_now: from_now?,
        max_per_day: max_per_day?,
        kind: kind?,
    })
}

/// What records look like; `version` and `raw` belong to the formats that are not the raw one.
fn format(section: &Section<'_>, given: &Table) -> Option<Format> {
    let format = section.word("format", &["raw", "ocsf", "ecs"], &[]);
    let versions = Version::ALL.map(Version::as_str);
    let version = match section.value("version").map(|value| &value.kind) {
        // Without quotes YAML takes it for a number.
        Some(ValueKind::Float(number)) => section.known("version", &number.to_string(), &versions, &[]),
        _ => section.word("version", &versions, &[]),
    };
    let row = section.required("raw")?;
    let format = format?;
    if format != "ocsf" && given.get("version").is_some_and(|value| value.kind != ValueKind::Nil) {
        return section.refuse(
            "version",
            format!("does nothing with `format: {format}`: it is a release of ocsf; remove it"),
        );
    }
    if format == "raw" && row {
        return section
            .refuse("raw", "does nothing with `format: raw`, which is the vendor's row; remove it");
    }
    Some(match format {
        "ocsf" => Format::Ocsf { version: version?.parse().expect("one of its words"), row },
        "ecs" => Format::Ecs { row },
        _ => Format::Raw,
    })
}

/// What the sink wants of everything.
fn select(section: &Section<'_>, format: Option<Format>) -> Option<Select> {
    let inner = section.section("select")?;
    let kinds = inner.words("kinds", &Kind::ALL.map(Kind::as_str));
    let sources = inner.words("sources", &SOURCES.map(|source| source.name()));
    let sites = inner.required::<Vec<String>>("sites");
    let organizations = inner.required::<Vec<String>>("organizations");
    let severities = Severity::KNOWN.map(Severity::as_str);
    inner.takes("severity", || one_of(&severities));
    let least: Option<Option<Severity>> = match inner.value("severity") {
        None => Some(None),
        Some(_) => inner
            .word("severity", &severities, &[])
            .map(|word| Severity::KNOWN.into_iter().find(|severity| severity.as_str() == word)),
    };
    inner.close();
    if format == Some(Format::Raw) && least.flatten().is_some() {
        return inner.refuse(
            "severity",
            "cannot be told with `format: raw`, which reads no row; choose another format, or remove it",
        );
    }
    let kinds =
        kinds?.into_iter().filter_map(|word| Kind::ALL.into_iter().find(|kind| kind.as_str() == word));
    Some(Select {
        kinds: kinds.collect(),
        sources: sources?,
        sites: sites?,
        organizations: organizations?.iter().map(|name| name.trim().to_ascii_lowercase()).collect(),
        severity: least?,
    })
}

/// What the sink is spared: a list of classes, or a section that says how for each.
fn redact(section: &Section<'_>, environment: &Environment) -> Option<Option<Redact>> {
    const HOW: [&str; 2] = ["pseudonym", "remove"];
    let known = Class::ALL.map(Class::as_str);
    section.takes("redact", || {
        format!("a list of {}; or a section with {} for each", one_of(&known), one_of(&HOW))
    });
    let mut classes = Classes::default();
    let mut right = true;
    match section.value("redact").map(|value| &value.kind) {
        None => {}
        Some(ValueKind::Array(words)) => {
            for word in words {
                let word = word.clone().into_string().unwrap_or_default();
                match section.known("redact", &word, &known, &[]).and_then(class) {
                    Some(class) => classes.set(class, How::Pseudonym),
                    None => right = false,
                }
            }
        }
        Some(ValueKind::Table(_)) => {
            let inner = section.section("redact")?;
            for class in Class::ALL.into_iter().filter(|class| inner.value(class.as_str()).is_some()) {
                match inner.word(class.as_str(), &HOW, &[]) {
                    Some("remove") => classes.set(class, How::Remove),
                    Some(_) => classes.set(class, How::Pseudonym),
                    None => right = false,
                }
            }
            inner.close();
        }
        Some(other) => {
            let text = "expected a list such as [user, ip], or a section such as { user: remove }, found ";
            section.mistake("redact", [text, &found(other)].concat());
            right = false;
        }
    }
    let key = redact_key(section, &classes, environment);
    right.then_some(())?;
    if classes.is_empty() && section.value("redact_key").is_some() {
        return section.refuse(
            "redact_key",
            "is given, but `redact` names nothing, so the sink would get everything as it is; write what it is to be \
             spared, such as `redact: [user, ip]`, or leave `redact_key` out",
        );
    }
    let key = key?;
    Some((!classes.is_empty()).then_some(Redact { classes, key }))
}

fn class(name: &str) -> Option<Class> {
    Class::ALL.into_iter().find(|class| class.as_str() == name)
}

/// The key of pseudonyms, which they need.
fn redact_key(
    section: &Section<'_>,
    classes: &Classes,
    environment: &Environment,
) -> Option<Option<SecretSource>> {
    section.takes("redact_key", || "`{ file: PATH }` or `{ env: VARIABLE }`".to_owned());
    if section.value("redact_key").is_none() {
        return match classes.any_pseudonym() {
            false => Some(None),
            true => section.refuse(
                "redact_key",
                "is missing; pseudonyms need a key: write `{ file: /run/secrets/NAME }`, with a file of at least 16 \
                 random characters (`openssl rand -hex 32`), or `remove` for each class of `redact`",
            ),
        };
    }
    let source = secret(section, "redact_key", environment)?;
    let length = match read_secret_now(&source) {
        Ok(key) => key.expose_secret().len(),
        Err(error) => return section.refuse("redact_key", error.to_string()),
    };
    if length < LEAST_KEY {
        return section.refuse(
            "redact_key",
            format!(
                "the key in {source} has {length} bytes and can be guessed; write at least {LEAST_KEY} random ones, \
                 such as `openssl rand -hex 32` prints"
            ),
        );
    }
    Some(Some(source))
}

/// Where the list of all computers goes.
fn inventory(section: &Section<'_>) -> Option<Vec<PathBuf>> {
    let endings = Shape::ENDINGS.join(" or ");
    section.takes("inventory", || format!("a path that ends in {endings}, or a list of such"));
    if section.value("inventory").is_none() {
        return Some(Vec::new());
    }
    let paths = section.optional::<Vec<String>>("inventory")?;
    let wrong = |path: &&String| Shape::of(Path::new(path.as_str())).is_none() || path.contains(['{', '}']);
    if let Some(path) = paths.iter().find(wrong) {
        let text = format!(
            "{path} does not say how: it is one file for all sites, without placeholders, that ends in {endings}"
        );
        return section.refuse("inventory", text);
    }
    Some(paths.into_iter().map(PathBuf::from).collect())
}

fn file(section: &Section<'_>) -> Option<SinkKind> {
    let path: Option<String> = section.named("path", "`path: \"out/{site}/{source}-{date}.ndjson\"`");
    let compression = section.word("compression", &Compression::ALL.map(Compression::as_str), &[]);
    let compression =
        compression.and_then(|word| Compression::ALL.into_iter().find(|kind| kind.as_str() == word));
    let path =
        path.zip(compression).and_then(|(path, compression)| match PathTemplate::parse(&path, compression) {
            Ok(template) => Some(template),
            Err(mistake) => section.refuse("path", mistake.to_string()),
        });
    let rotate = section.section("rotate")?;
    let size = rotate.size("size", ByteSize::kib(1), ByteSize::tib(1));
    let age = rotate.duration("age", Duration::from_secs(1), days(365));
    rotate.close();
    let inventory = inventory(section);
    Some(SinkKind::File { path: path?, rotate_size: size?, rotate_age: age?, inventory: inventory? })
}
