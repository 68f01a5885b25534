//! What stands in the output files, and what the portal says should.
//!
//! Rows are told apart by their bytes: a row that was changed on its way is both lost and invented. Equal
//! rows count as often as the portal lists them.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use lockstep::model::Micros;
use lockstep::simulator::stats::Logged;
use lockstep::simulator::truth::TruthRow;
use serde::Deserialize;
use serde_json::value::RawValue;

/// BLAKE3 of a row's bytes.
pub(crate) type RowHash = [u8; 32];

/// One line of an output file.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) uid: String,
    pub(crate) source: String,
    pub(crate) change: String,
    pub(crate) vendor_id: Option<String>,
    pub(crate) number: u64,
    pub(crate) hash: RowHash,
    /// Kept for computers only.
    pub(crate) row: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    uid: String,
    source: String,
    change: String,
    vendor_id: Option<String>,
    number: u64,
    #[serde(borrow)]
    row: &'a RawValue,
}

/// All files below a folder, by name.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder of the test can be read").path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every line of every file below a folder. A line that is no record fails the test.
pub(crate) fn records(folder: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    for file in files(folder) {
        let text = std::fs::read(&file).expect("an output file can be read");
        let text = std::str::from_utf8(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for (number, line) in text.lines().enumerate() {
            let line: Line<'_> = serde_json::from_str(line).unwrap_or_else(|error| {
                let start: String = line.chars().take(200).collect();
                panic!("{} line {}: {error}: {start}", file.display(), number + 1)
            });
            records.push(Record {
                hash: *blake3::hash(line.row.get().as_bytes()).as_bytes(),
                row: (line.source == "computers").then(|| line.row.get().to_owned()),
                uid: line.uid,
                source: line.source,
                change: line.change,
                vendor_id: line.vendor_id,
                number: line.number,
            });
        }
    }
    records
}

/// How many rows of each bytes.
pub(crate) type Counts = HashMap<RowHash, usize>;

/// Counts the rows of a source in the output.
pub(crate) fn counted(records: &[Record], source: &str) -> Counts {
    let mut counts = Counts::new();
    for record in records.iter().filter(|record| record.source == source) {
        *counts.entry(record.hash).or_default() += 1;
    }
    counts
}

/// Counts rows of the truth.
pub(crate) fn true_counts<'a>(rows: impl IntoIterator<Item = &'a TruthRow>) -> Counts {
    let mut counts = Counts::new();
    for row in rows {
        let hash = blake3::Hash::from_hex(&row.hash).expect("the truth writes BLAKE3 as hex");
        *counts.entry(*hash.as_bytes()).or_default() += 1;
    }
    counts
}

/// How the output differs from the portal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Rows in the output.
    pub(crate) delivered: usize,
    /// Rows that had to be there.
    pub(crate) owed: usize,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) invented: usize,
}

impl Difference {
    /// Compares what was delivered with what had to be and with all that the portal ever listed.
    pub(crate) fn between(delivered: &Counts, owed: &Counts, ever: &Counts) -> Self {
        let over = |a: &Counts, b: &Counts| -> usize {
            a.iter().map(|(hash, count)| count.saturating_sub(b.get(hash).copied().unwrap_or(0))).sum()
        };
        let known: Counts = delivered
            .iter()
            .filter(|(hash, _)| ever.contains_key(*hash))
            .map(|(hash, count)| (*hash, *count))
            .collect();
        Self {
            delivered: delivered.values().sum(),
            owed: owed.values().sum(),
            lost: over(owed, delivered),
            doubled: over(&known, ever),
            invented: delivered.values().sum::<usize>() - known.values().sum::<usize>(),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        (self.lost, self.doubled, self.invented) == (0, 0, 0)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivered, owed, lost, doubled, invented } = self;
        write!(f, "delivered {delivered} of {owed} owed: lost {lost} doubled {doubled} invented {invented}")
    }
}

/// A time as the truth writes it.
pub(crate) fn micros(text: &str) -> Micros {
    chrono::DateTime::parse_from_rfc3339(text).expect("the truth writes RFC 3339").timestamp_micros()
}

/// Requests as lines to read.
pub(crate) fn requests(asked: &[Logged]) -> String {
    let time = |at: Option<Micros>| at.and_then(chrono::DateTime::from_timestamp_micros);
    let line = |one: &Logged| {
        let (from, to) = (time(one.from), time(one.to));
        format!(
            "{} {:?} {from:?} to {to:?} page {} of {} answered {} with {} of {:?}\n",
            one.number, one.endpoint, one.page, one.size, one.status, one.rows, one.total
        )
    };
    asked.iter().map(line).collect()
}
