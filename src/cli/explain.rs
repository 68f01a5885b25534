//! `lockstep explain`: where each field of a record comes from.
//!
//! Nothing here knows the mapping: the encoders are asked to tell what they write and why.

mod fields;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::table::Table;
use super::{Usage, out};
use crate::format::{Format, Origin};
use crate::formats::ocsf::Version;
use crate::formats::out::trace::{TraceOut, Traced};
use crate::model::{Change, Entry, Lane};
use crate::record::enrichment::{Enrichment, KnownDevice, LastUser, Matching, UserOrigin};
use crate::record::row::{Row, tidy};
use crate::source::{SOURCES, Source, by_name};
pub use fields::page;

/// The values of an example that are not in its row.
const COLLECTED: i64 = 1_772_366_400_000_000;

/// What is known of the device of an example besides its row.
const KNOWN: Enrichment<'_> = Enrichment {
    device: Some(KnownDevice {
        name: Some("WS-0001"),
        os: Some("Windows 11 Pro"),
        group: Some("Workstations"),
        organization: Some("Example GmbH"),
        mode: Some("Secure"),
    }),
    user: Some(LastUser {
        name: "BAECKEREI\\b.tester",
        origin: UserOrigin::UnifiedAudit,
        time: Some(COLLECTED - 3_600_000_000),
    }),
    replaces: None,
    matching: None,
};

/// What is known of an example of a source besides its row.
fn known(source: &dyn Source) -> Enrichment<'static> {
    let applications = r#"[{"applicationId":"c20276a1-533e-5580-94ed-c60f57f0a459","applicationName":"Example Tool","organizationName":"master"}]"#;
    let matching = Matching { applications, more: 1 };
    let is_asked = source.name() == "approval_requests";
    Enrichment { matching: is_asked.then_some(matching), ..KNOWN }
}

/// Show where each field of a record comes from.
///
/// Reads a row of the portal, or a record that carries it (format `raw`, or `raw: true`), and prints for each field that comes out
/// from which fields of the row it was made, and how. Without a row, one with everything in it is shown, and what is
/// known of its device besides; of a row of your own nothing else is known.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep explain --source unified_audit
  lockstep explain --source computers --version 1.3 row.json
  lockstep explain --source unified_audit --format ecs
  tail -n 1 out/acme/system_audit-2026-03-01.ndjson | lockstep explain --source system_audit -")]
pub struct Explain {
    /// The kind of row, such as unified_audit, system_audit or computers.
    #[arg(long, required_unless_present = "page")]
    source: Option<String>,
    /// The format of the record.
    #[arg(long, default_value = "ocsf", value_parser = ["ocsf", "ecs"])]
    format: String,
    /// The release of ocsf: 1.3, 1.5 or 1.8.
    #[arg(long, default_value = "1.5")]
    version: Version,
    /// The page docs/fields.md, made from what the encoders tell.
    #[arg(long, hide = true)]
    page: bool,
    /// A file with one JSON object; `-` is standard input.
    row: Option<PathBuf>,
}

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.page {
            out::data(page())?;
            return Ok(());
        }
        let name = self.source.unwrap_or_default();
        let source = by_name(&name).ok_or_else(|| {
            let known: Vec<_> = SOURCES.iter().map(|source| source.name()).collect();
            Usage(format!("no source is called {name}; known: {}", known.join(", ")))
        })?;
        let (given, known) = match self.row {
            Some(path) => (Given::read(source, &read(&path)?)?, Enrichment::default()),
            None => (Given::new(source.examples().swap_remove(0)), known(source)),
        };
        let format = match self.format.as_str() {
            "ecs" => Format::Ecs { row: false },
            _ => Format::Ocsf { version: self.version, row: false },
        };
        let records = trace(format, source, &given, known).map_err(|error| Usage(error.to_string()))?;
        for record in &records {
            out::data(shown(source, record))?;
        }
        Ok(())
    }
}

fn read(path: &PathBuf) -> anyhow::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A row that is to be explained, and the one before it where it is known.
#[derive(Debug)]
struct Given {
    row: String,
    previous: Option<String>,
    change: Change,
}

impl Given {
    fn new(row: String) -> Self {
        Self { row, previous: None, change: Change::New }
    }

    /// The row itself, also out of a record that carries it: in the raw format, or where a sink has `raw: true`.
    fn read(source: &dyn Source, text: &str) -> Result<Self, Usage> {
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)
            .map_err(|error| Usage(format!("the row is no JSON object: {error}")))?;
        let values: Value =
            serde_json::from_str(text).map_err(|error| Usage(format!("the row is no JSON: {error}")))?;
        let carried = [&values["raw_data"], &values["event"]["original"]].into_iter().find_map(Value::as_str);
        let of = match values["event"]["dataset"].as_str() {
            Some(dataset) => dataset.strip_prefix("threatlocker."),
            None => values["source"].as_str().or(values["metadata"]["log_name"].as_str()),
        };
        let given = match (members.get("row").filter(|_| members.contains_key("lane")), carried) {
            (Some(row), _) => {
                let change = Change::ALL.into_iter().find(|change| values["change"] == change.as_str());
                let previous = members.get("previous").map(|previous| previous.get().to_owned());
                Self { row: row.get().to_owned(), previous, change: change.unwrap_or(Change::New) }
            }
            (None, Some(carried)) => Self::new(carried.to_owned()),
            (None, None) => {
                let given = Self::new(text.to_owned());
                return given.checked(source);
            }
        };
        match of.filter(|of| *of != source.name()) {
            Some(of) => Err(Usage(format!(
                "the record is of the source {of}, not of {}: explain it with --source {of}",
                source.name()
            ))),
            None => given.checked(source),
        }
    }

    /// Refuses what has no field of the source.
    fn checked(self, source: &dyn Source) -> Result<Self, Usage> {
        let names = source.names();
        let text = tidy(&self.row);
        let row = Row::read(names, &text, usize::MAX)
            .map_err(|error| Usage(format!("the row is no JSON object: {error}")))?;
        if names.all().iter().zip(0..).any(|(_, slot)| row.get(slot).is_some()) {
            return Ok(self);
        }
        Err(Usage(format!(
            "the object has no field of {}: give a row as the portal answers it, or a record that carries one \
             (format raw, or raw: true)",
            source.name()
        )))
    }
}

/// What the format writes for a row of the source, as if it had just been collected.
fn trace(
    format: Format,
    source: &dyn Source,
    given: &Given,
    known: Enrichment<'_>,
) -> Result<Vec<TraceOut>, crate::format::FormatError> {
    let key = source.key(&given.row, 1).ok();
    let organization = key.as_ref().map(|key| key.organization.to_string()).unwrap_or_default();
    let entry = Entry {
        number: 1,
        uid: Uuid::nil(),
        kind: source.kind(),
        change: given.change,
        organization: &organization,
        vendor_id: key.as_ref().and_then(|key| key.vendor_id.as_deref()),
        time: key.as_ref().and_then(|key| key.at),
        row: &given.row,
        previous: given.previous.as_deref(),
    };
    let origin = Origin { site: "acme", source: source.name(), lane: Lane::Live, collected: COLLECTED };
    format.trace(origin, &entry, known)
}

/// One record as a table.
fn shown(source: &dyn Source, record: &TraceOut) -> String {
    let mut table = Table::new(&["field", "value", "from", "how"]).indented();
    for member in record.members.iter().filter(|member| !member.path.is_empty()) {
        let value: String = member.value.chars().take(60).collect();
        let value = if value.len() < member.value.len() { value + "…" } else { value };
        table.row([member.path.clone(), value, from(source, member).join(", "), member.rule.to_owned()]);
    }
    format!("{}\n{table}\n", class_of(record))
}

/// The record's class, or its categories in a format without classes; in quotes no more.
fn class_of(record: &TraceOut) -> String {
    let is_class =
        |member: &&Traced| member.path == "class_name" || member.path.starts_with("event.category[");
    let classes = record.members.iter().filter(is_class);
    classes.map(|class| class.value.trim_matches('"').to_owned()).collect::<Vec<_>>().join(" and ")
}

/// The names of the fields that a member was made from.
fn from(source: &dyn Source, member: &Traced) -> Vec<&'static str> {
    let names = source.names().all().iter().zip(0..);
    names.filter(|(_, slot)| member.slots.contains(*slot)).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(source: &str, text: &str) -> String {
        Given::read(by_name(source).unwrap(), text).unwrap_err().0
    }

    #[test]
    fn a_record_of_a_changed_row_is_explained_as_that_change() {
        let source = by_name("computers").unwrap();
        let record = r#"{"source":"computers","change":"changed","lane":"live","row":{"computerId":"c","mode":"Learning"},
            "previous":{"computerId":"c","mode":"Secure"}}"#;
        let classes = |text: &str| -> Vec<String> {
            let given = Given::read(source, text).unwrap();
            let format = Format::Ocsf { version: Version::V1_5, row: false };
            trace(format, source, &given, Enrichment::default()).unwrap().iter().map(class_of).collect()
        };
        assert_eq!(classes(record), ["Device Inventory Info", "Device Config State Change"]);
        let removed = record.replace("changed", "removed");
        assert_eq!(classes(&removed), ["Device Inventory Info", "Entity Management"]);
    }

    #[test]
    fn a_time_is_found_in_whatever_casing_the_portal_writes() {
        let source = by_name("system_audit").unwrap();
        let given = Given::read(source, r#"{"DateTime":"2026-03-01T09:30:00Z","Action":"Logon"}"#).unwrap();
        let format = Format::Ocsf { version: Version::V1_5, row: false };
        let records = trace(format, source, &given, Enrichment::default()).unwrap();
        let time = records[0].members.iter().find(|member| member.path == "time").unwrap();
        assert_eq!(time.value, "1772357400000");
    }

    #[test]
    fn what_is_no_row_of_the_source_is_refused_and_told_what_it_is() {
        let raw = r#"{"source":"computers","lane":"live","row":{"computerId":"c"}}"#;
        assert!(refusal("unified_audit", raw).contains("--source computers"));
        let ocsf = r#"{"metadata":{"log_name":"system_audit"},"raw_data":"{\"action\":\"Read\"}"}"#;
        assert!(refusal("unified_audit", ocsf).contains("--source system_audit"));
        let ecs = r#"{"event":{"dataset":"threatlocker.computers","original":"{\"action\":\"x\"}"}}"#;
        assert!(refusal("unified_audit", ecs).contains("--source computers"));
        for text in [r#"{"foo":1}"#, "{}", r#"{"raw_data":"{\"foo\":1}"}"#] {
            assert!(refusal("unified_audit", text).contains("no field of unified_audit"), "{text}");
        }
        for text in ["[]", "7", "", "{"] {
            assert!(refusal("unified_audit", text).contains("no JSON object"), "{text}");
        }
    }
}
