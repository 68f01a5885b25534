//! `lockstep explain`: where each field of a record comes from.
//!
//! Nothing here knows the mapping: the encoders are asked to tell what they write and why.

mod fields;

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::Value;
use uuid::Uuid;

use super::table::Table;
use super::{Usage, out};
use crate::format::{Format, Origin};
use crate::formats::ocsf::Version;
use crate::formats::out::trace::{TraceOut, Traced};
use crate::model::{Change, Entry, Lane};
use crate::normalise::parse_time;
use crate::record::enrichment::{Enrichment, KnownDevice, LastUser, UserOrigin};
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
};

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
    /// The kind of row: unified_audit, system_audit or computers.
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
        let (row, known) = match self.row {
            Some(path) => (own_row(&read(&path)?)?, Enrichment::default()),
            None => (source.examples().swap_remove(0), KNOWN),
        };
        let format = match self.format.as_str() {
            "ecs" => Format::Ecs { row: false },
            _ => Format::Ocsf { version: self.version, row: false },
        };
        let records = trace(format, source, &row, None, known).map_err(|error| Usage(error.to_string()))?;
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

/// The row itself, also out of a record that carries it: in the raw format, or where a sink has `raw: true`.
fn own_row(text: &str) -> Result<String, Usage> {
    let row: Value =
        serde_json::from_str(text).map_err(|error| Usage(format!("the row is no JSON: {error}")))?;
    let carried = [&row["raw_data"], &row["event"]["original"]].into_iter().find_map(Value::as_str);
    match (row.get("row").filter(|_| row.get("lane").is_some()), carried) {
        (Some(inner), _) => Ok(inner.to_string()),
        (None, Some(carried)) => Ok(carried.to_owned()),
        (None, None) => Ok(text.to_owned()),
    }
}

/// What the format writes for a row of the source, as if it had just been collected.
fn trace(
    format: Format,
    source: &dyn Source,
    row: &str,
    previous: Option<&str>,
    known: Enrichment<'_>,
) -> Result<Vec<TraceOut>, crate::format::FormatError> {
    let value: Value = serde_json::from_str(row).unwrap_or_default();
    let entry = Entry {
        number: 1,
        uid: Uuid::nil(),
        kind: source.kind(),
        change: if previous.is_some() { Change::Changed } else { Change::New },
        organization: "",
        vendor_id: None,
        time: value["dateTime"].as_str().and_then(parse_time),
        row,
        previous,
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
