//! What a row says as a finding: the event that the unified audit reads, and how bad it is.

use uuid::Uuid;

use crate::model::{Change, Entry, Kind, uid, vendor_key};
use crate::record::event::Severity;
use crate::record::finding::Finding;
use crate::record::row::{Row, Slot, Slots};
use crate::record::{About, Record};
use crate::sources::unified_audit::read::{NAMES, read as read_event};

const LEVEL: Slot = NAMES.slot("threatSeverityLevel");
const RATINGS: Slot = NAMES.slot("engineRatings");
const NOTES: Slot = NAMES.slot("notes");

/// Values of `sourceTableId` (contract section 5.1).
const TABLES: std::ops::RangeInclusive<u8> = 1..=4;

pub(in crate::sources) fn read<'a>(entry: &Entry<'a>, row: &'a Row<'a>) -> Record<'a> {
    let (mut event, repeats) = read_event(row);
    let level = row.text(LEVEL);
    let ratings = row.get(RATINGS);
    // What others think of the file is evidence of its own.
    for fact in &mut event.subject.file_facts {
        *fact = fact.filter(|fact| fact.slot() != RATINGS);
    }
    (event.severity, event.severity_from) = match level {
        Some(level) => (severity(level.inner()), level.slot().into()),
        None => (Severity::Unknown, Slots::NONE),
    };
    let is_update = entry.change == Change::Changed;
    let finding =
        Finding { event, level, ratings, notes: row.text(NOTES), tells_of: audited(entry), is_update };
    Record {
        uid: entry.uid,
        kind: Kind::Event,
        time: entry.time,
        row,
        keeps_rest: true,
        repeats,
        about: About::Finding(Box::new(finding)),
    }
}

/// The portal's two levels (contract section 6.1). "Warning" stands below "Severe", which leaves room between.
fn severity(level: &str) -> Severity {
    match level.trim() {
        word if word.eq_ignore_ascii_case("severe") => Severity::Critical,
        word if word.eq_ignore_ascii_case("warning") => Severity::Medium,
        _ => Severity::Unknown,
    }
}

/// The uid that the same row has as an event of the unified audit. An entry does not tell its table; its own uid does.
fn audited(entry: &Entry<'_>) -> Option<Uuid> {
    let id = entry.vendor_id?;
    let under = |source, key: &str| uid(entry.organization, source, key, Kind::Event.as_str(), "0");
    let key = TABLES.map(|table| vendor_key(table, id)).find(|key| under(super::NAME, key) == entry.uid)?;
    Some(under("unified_audit", &key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: Uuid, vendor_id: Option<&'static str>) -> Entry<'static> {
        Entry {
            number: 1,
            uid,
            kind: Kind::Event,
            change: Change::New,
            organization: "own",
            vendor_id,
            time: None,
            row: "{}",
            previous: None,
        }
    }

    #[test]
    fn a_finding_names_the_event_of_its_own_table() {
        for table in TABLES {
            let key = vendor_key(table, "a");
            let finding = uid("own", "threats", &key, "event", "0");
            let event = uid("own", "unified_audit", &key, "event", "0");
            assert_eq!(audited(&entry(finding, Some("a"))), Some(event), "{table}");
            assert_eq!(audited(&entry(finding, None)), None, "a row without an id");
        }
        assert_eq!(audited(&entry(Uuid::nil(), Some("a"))), None, "an entry of another making");
    }
}
