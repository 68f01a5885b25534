//! What can be set for each sink.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Value, ValueKind};
use bytesize::ByteSize;

use super::days;
use super::layers::{Table, merged};
use super::mistake::Mistakes;
use super::reader::Section;
use crate::format::Format;
use crate::formats::ocsf::Version;
use crate::sink::{SinkConfig, SinkKind};
use crate::sinks::file::PathTemplate;

/// The kinds of sink of this version.
const KINDS: [&str; 2] = ["file", "stdout"];
/// Kinds of the design that are not built yet.
const LATER: [&str; 5] = ["kafka", "splunk_hec", "elasticsearch", "opensearch", "http"];

/// Checks every sink; also gives the merged settings of each, for `config --effective`.
pub(super) fn check_all(
    given: &[(usize, Table)],
    templates: &[Table],
    mistakes: &Mistakes,
) -> (Vec<SinkConfig>, Vec<Value>) {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut targets: BTreeMap<PathBuf, String> = BTreeMap::new();
    let (mut sinks, mut trees) = (Vec::new(), Vec::new());
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
        let format_by_default = !["format", "version"].iter().any(|key| own.contains_key(*key));
        if let Some(sink) = check(&section, name, format_by_default) {
            let (key, target) = match &sink.kind {
                SinkKind::File { path, .. } => ("path", place(Path::new(&path.to_string()))),
                SinkKind::Stdout => ("type", PathBuf::new()),
            };
            if let Some(earlier) = targets.insert(target, format!("sinks[{index}]")) {
                section
                    .mistake(key, format!("writes to the same place as {earlier}; each sink needs its own"));
            }
            sinks.push(sink);
        }
        trees.push(Value::new(None, ValueKind::Table(tree)));
    }
    (sinks, trees)
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

fn check(section: &Section<'_>, name: Option<String>, format_by_default: bool) -> Option<SinkConfig> {
    // The other keys depend on the type: without it they are not looked at.
    let kind = section.word("type", &KINDS, &LATER)?;
    let format = format(section);
    section.not_yet(&["max_per_day"]);
    let kind = match kind {
        "file" => file(section),
        _ => Some(SinkKind::Stdout),
    };
    section.close();
    Some(SinkConfig { name: name?, format: format?, format_by_default, kind: kind? })
}

/// What records look like; `version` and `raw` belong to the formats that are not the raw one.
fn format(section: &Section<'_>) -> Option<Format> {
    let format = section.word("format", &["raw", "ocsf", "ecs"], &[]);
    let version = section.word("version", &Version::ALL.map(Version::as_str), &[]);
    let row = section.required("raw")?;
    Some(match format? {
        "ocsf" => Format::Ocsf { version: version?.parse().expect("one of its words"), row },
        "ecs" => Format::Ecs { row },
        _ => Format::Raw,
    })
}

fn file(section: &Section<'_>) -> Option<SinkKind> {
    let path: Option<String> = section.named("path", "`path: \"out/{site}/{source}-{date}.ndjson\"`");
    let path = path.and_then(|path| match PathTemplate::parse(&path) {
        Ok(template) => Some(template),
        Err(mistake) => section.refuse("path", mistake.to_string()),
    });
    let rotate = section.section("rotate")?;
    let size = rotate.size("size", ByteSize::kib(1), ByteSize::tib(1));
    let age = rotate.duration("age", Duration::from_secs(1), days(365));
    rotate.close();
    Some(SinkKind::File { path: path?, rotate_size: size?, rotate_age: age? })
}
