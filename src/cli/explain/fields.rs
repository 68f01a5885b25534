//! The page docs/fields.md: every field of every source and where it goes, as the encoders tell it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Given, class_of, from, known, trace};
use crate::format::Format;
use crate::formats::ocsf::Version;
use crate::formats::out::trace::TraceOut;
use crate::model::{Change, Kind};
use crate::record::enrichment::{Enrichment, Matching};
use crate::source::{SOURCES, Shape, Source};

const HEAD: &str = "\
# Fields

Where each field of the portal's rows goes. `lockstep explain --source unified_audit` shows the same of an example,
and of a row of your own where its file is named. This page is made by the program (`lockstep explain --page`); a test keeps it current.

A field without a place of its own stands in `unmapped` (ECS: `threatlocker`), verbatim. So does, whatever is said here, a value that does
not fit its place: an address that is none, a port that is no number, a text that is too long for the version. Null is
as if it were not there. Of the same rows, in the raw format, nothing is changed at all.

Where places depend on the class of the record (ECS: its categories), the class stands behind them. Of other versions, only places that
1.5 has not are named.
";

/// Where one field goes: places, each with the classes in which that is so.
type Places = BTreeMap<String, BTreeSet<String>>;

/// What the examples of a source tell in one format.
struct Told {
    /// By name of the field.
    fields: BTreeMap<&'static str, Places>,
    /// Members that no field of the row gives, with how they are made.
    own: BTreeMap<(String, &'static str), BTreeSet<String>>,
    classes: BTreeSet<String>,
}

/// The whole page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for source in SOURCES {
        let told = Version::ALL.map(|version| tell(source, Format::Ocsf { version, row: false }));
        let ecs = tell(source, Format::Ecs { row: false });
        page +=
            &format!("\n## {}\n\n| field | OCSF 1.5 | elsewhere | ECS |\n|---|---|---|---|\n", source.name());
        let [older, usual, newer] = &told;
        for name in source.names().all() {
            let known = usual.fields.get(name);
            let mut others = Vec::new();
            for (version, told) in [(Version::V1_3, older), (Version::V1_8, newer)] {
                let new = told.fields.get(name).into_iter().flatten();
                let new = new.filter(|(place, _)| known.is_none_or(|known| !known.contains_key(*place)));
                others.extend(new.map(|(place, classes)| {
                    format!("{version}: {place}{}", in_classes(classes, &told.classes))
                }));
            }
            let [known, others] = [places(known, &usual.classes), others.join("<br>")];
            let ecs = places(ecs.fields.get(name), &ecs.classes);
            page += &format!("| `{name}` | {known} | {others} | {ecs} |\n");
        }
        for (format, told) in [("OCSF 1.5", usual), ("ECS", &ecs)] {
            page += &format!("\nNot from a field of the row, in {format}:\n\n| member | how |\n|---|---|\n");
            for ((path, rule), classes) in &told.own {
                page += &format!("| `{path}`{} | {rule} |\n", in_classes(classes, &told.classes));
            }
        }
    }
    page
}

fn tell(source: &dyn Source, format: Format) -> Told {
    let mut told = Told { fields: BTreeMap::new(), own: BTreeMap::new(), classes: BTreeSet::new() };
    for row in source.examples() {
        let previous = row.replace("\"mode\": \"Secure\"", "\"mode\": \"Learning\"").replace("false", "true");
        let is_compared = matches!(source.shape(), Shape::Snapshot { .. }) || source.kind() == Kind::Device;
        let known = known(source);
        // Nothing is known, and of what was asked nothing was found.
        let matching = known.matching.map(|_| Matching { applications: "[]", more: 0 });
        let none = Enrichment { matching, ..Enrichment::default() };
        for previous in [None, is_compared.then_some(previous)] {
            let change = if previous.is_some() { Change::Changed } else { Change::New };
            let given = Given { row: row.clone(), previous, change };
            for known in [none, known] {
                let records = trace(format, source, &given, known);
                for record in records.expect("the examples are JSON") {
                    note(&mut told, source, &record);
                }
            }
        }
    }
    told
}

fn note(told: &mut Told, source: &dyn Source, record: &TraceOut) {
    let class = class_of(record);
    told.classes.insert(class.clone());
    for member in &record.members {
        let path = without_places(&member.path);
        let names = from(source, member);
        if names.is_empty() {
            told.own.entry((path.clone(), member.rule)).or_default().insert(class.clone());
        }
        for name in names {
            let place = match path.as_str() {
                "" => member.rule.to_owned(),
                _ if matches!(member.rule, "as it is" | "verbatim") => format!("`{path}`"),
                _ => format!("`{path}` ({})", member.rule),
            };
            told.fields.entry(name).or_default().entry(place).or_default().insert(class.clone());
        }
    }
}

/// `device.groups[0].name` as `device.groups[].name`.
fn without_places(path: &str) -> String {
    path.chars()
        .scan(false, |inside, letter| {
            *inside = letter == '[' || *inside && letter != ']';
            Some((*inside && letter != '[', letter))
        })
        .filter(|(skip, _)| !skip)
        .map(|(_, letter)| letter)
        .collect()
}

fn places(places: Option<&Places>, all: &BTreeSet<String>) -> String {
    let Some(places) = places else { return "nowhere".to_owned() };
    let told = places.iter().map(|(place, classes)| format!("{place}{}", in_classes(classes, all)));
    told.collect::<Vec<_>>().join("<br>")
}

/// In which classes, unless in all.
fn in_classes(classes: &BTreeSet<String>, all: &BTreeSet<String>) -> String {
    let list = |classes: Vec<&String>| classes.into_iter().cloned().collect::<Vec<_>>().join(", ");
    let others: Vec<_> = all.difference(classes).collect();
    match others.len() {
        0 => String::new(),
        1..=3 if classes.len() > 3 => format!(": all but {}", list(others)),
        _ => format!(": {}", list(classes.iter().collect())),
    }
}
