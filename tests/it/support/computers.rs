//! What the output says of computers, and what the portal says.

use std::collections::{BTreeMap, BTreeSet};

use lockstep::simulator::truth::TruthComputer;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::output::{Difference, Record};

/// The things of a computer that change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Face {
    removed: bool,
    mode: String,
    username: Option<String>,
    minor: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    mode: String,
    /// As the truth has it: as it stands in JSON.
    #[serde(borrow)]
    username: Option<&'a RawValue>,
    version_minor: i64,
}

impl Face {
    fn of(record: &Record) -> Self {
        let row = record.row.as_deref().expect("rows of computers are kept");
        let row: Row<'_> = serde_json::from_str(row).expect("a computer has the members of the contract");
        let username = row.username.map(RawValue::get).filter(|text| *text != "null");
        Self {
            removed: record.change == "removed",
            mode: row.mode,
            username: username.map(|text| text.trim_matches('"').to_owned()),
            minor: row.version_minor,
        }
    }

    fn true_one(state: &TruthComputer) -> Self {
        Self {
            removed: state.removed,
            mode: state.mode.to_owned(),
            username: state.username.map(str::to_owned),
            minor: state.version_minor,
        }
    }
}

/// Lost: computers whose last record is not how the portal has them. Doubled: records that say again what
/// the one before said. Invented: states, or removals, that the portal never had.
pub(crate) fn compare(records: &[Record], history: &[TruthComputer]) -> Difference {
    let mut truth: BTreeMap<&str, Vec<Face>> = BTreeMap::new();
    for state in history {
        truth.entry(&state.computer_id).or_default().push(Face::true_one(state));
    }
    let mut told: BTreeMap<&str, Vec<(u64, Face)>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.source == "computers") {
        let id = record.vendor_id.as_deref().expect("a computer has an id");
        told.entry(id).or_default().push((record.number, Face::of(record)));
    }
    let mut difference = Difference { owed: truth.len(), ..Difference::default() };
    for (id, states) in &truth {
        let now = states.last().expect("a computer has a state");
        let last = told.get(id).and_then(|told| told.iter().max());
        let right = match last {
            // One that came and went unseen is not owed.
            None => now.removed,
            Some((_, face)) if now.removed => face.removed,
            Some((_, face)) => face == now,
        };
        difference.lost += usize::from(!right);
    }
    for (id, faces) in &mut told {
        faces.sort();
        difference.delivered += faces.len();
        difference.doubled += faces.windows(2).filter(|pair| pair[0].1 == pair[1].1).count();
        let known: BTreeSet<&Face> = truth.get(id).into_iter().flatten().collect();
        // A removal is told with the row as it was last seen.
        let removed = known.iter().any(|face| face.removed);
        difference.invented += faces
            .iter()
            .filter(|(_, face)| if face.removed { !removed } else { !known.contains(face) })
            .count();
    }
    difference
}
