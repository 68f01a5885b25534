//! What a row of the organizations says (contract section 7.2), and what comparing it with the one before says.

use crate::model::{Change, Entry, Kind};
use crate::record::entity::{Entity, EntityKind, differences};
use crate::record::event::Severity;
use crate::record::row::{Names, Row, Slot, Slots};
use crate::record::{About, Record, Repeats};

/// Every member of contract section 7.2; the last two are those of the drop-down list.
pub(super) const NAMES: Names = Names::new(&[
    "organizationId",
    "name",
    "displayName",
    "parentName",
    "dateAdded",
    "computerCount",
    "activeCount",
    "billingMethod",
    "businessClassification",
    "businessClassificationName",
    "domains",
    "products",
    "computerDenyCountDtos",
    "label",
    "value",
]);

/// What changes by itself (contract section 11).
pub(super) const VOLATILE: [&str; 3] = ["computerCount", "activeCount", "computerDenyCountDtos"];

/// The slot of a name, found when the program is built.
macro_rules! slot {
    ($name:literal) => {
        const { NAMES.slot($name) }
    };
}

/// What a row says of an organization beside its id and its names.
const FACTS: [Slot; 11] = [
    slot!("name"),
    slot!("parentName"),
    slot!("dateAdded"),
    slot!("billingMethod"),
    slot!("businessClassification"),
    slot!("businessClassificationName"),
    slot!("domains"),
    slot!("products"),
    slot!("computerCount"),
    slot!("activeCount"),
    slot!("computerDenyCountDtos"),
];

pub(super) fn read<'a>(
    entry: &Entry<'a>,
    row: &'a Row<'a>,
    previous: Option<&'a Row<'a>>,
    emit: &mut dyn FnMut(Record<'a>),
) {
    let first = |slots: &[Slot]| {
        slots.iter().find_map(|slot| row.text(*slot).filter(|text| !text.inner().trim().is_empty()))
    };
    let id = row.id(slot!("organizationId")).or_else(|| row.id(slot!("value")));
    let name = first(&[slot!("displayName"), slot!("name"), slot!("label")]);
    let changed = previous.filter(|_| entry.change == Change::Changed);
    emit(Record {
        uid: entry.uid,
        kind: if entry.change == Change::Restated { Kind::State } else { Kind::Event },
        time: None,
        row,
        keeps_rest: true,
        repeats: Repeats::of([
            (row.text(slot!("name")), name),
            (row.text(slot!("label")), name),
            (None, None),
            (None, None),
        ]),
        about: About::Entity(Box::new(Entity {
            kind: EntityKind::Organization,
            change: entry.change,
            id,
            name,
            description: None,
            organization: id,
            organization_name: name,
            group: None,
            group_id: None,
            facts: &FACTS,
            severity: Severity::Informational,
            severity_from: Slots::NONE,
            differences: changed.map(|before| differences(before, row, &VOLATILE)).unwrap_or_default(),
        })),
    });
}
