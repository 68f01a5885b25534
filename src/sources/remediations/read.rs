//! What a row of a computer's maintenances says (contract section 6.3).

use crate::model::{Change, Entry, Kind};
use crate::record::remediation::{Measure, Moment, Remediation};
use crate::record::row::{Field, Names, Row};
use crate::record::{About, Record, Repeats};

pub(super) const NAMES: Names = Names::new(&[
    "maintenanceModeId",
    "computerId",
    "maintenanceTypeId",
    "displayName",
    "startDateTime",
    "endDateTime",
    "addedBy",
    "endedBy",
]);

/// The slot of a name, found when the program is built.
macro_rules! slot {
    ($name:literal) => {
        const { NAMES.slot($name) }
    };
}

/// The entry's vendor id is that of the computer and of the maintenance, and its time when it was collected: by that
/// time it had ended or not.
pub(super) fn read<'a>(entry: &Entry<'a>, row: &'a Row<'a>, previous: Option<&'a Row<'a>>) -> Record<'a> {
    let key = entry.vendor_id.unwrap_or_default();
    let computer = key.split_once('/').map(|(computer, _)| computer).filter(|id| !id.is_empty());
    read_of(entry, row, previous, computer)
}

/// The same of a row that is listed with those of all computers: what it does not say of its computer is not known.
pub(in crate::sources) fn read_listed<'a>(
    entry: &Entry<'a>,
    row: &'a Row<'a>,
    previous: Option<&'a Row<'a>>,
) -> Record<'a> {
    read_of(entry, row, previous, None)
}

/// `asked`: the computer that was asked about.
fn read_of<'a>(
    entry: &Entry<'a>,
    row: &'a Row<'a>,
    previous: Option<&'a Row<'a>>,
    asked: Option<&'a str>,
) -> Record<'a> {
    let code = row.integer(slot!("maintenanceTypeId"));
    let key = entry.vendor_id.unwrap_or_default();
    let moment = moment(entry, row, previous);
    let (start, end) = (row.time(slot!("startDateTime")), row.time(slot!("endDateTime")));
    let at = match moment {
        Moment::Begun => start.map(|start| start.at),
        Moment::Ended => end.map(|end| end.at).filter(|end| entry.time.is_none_or(|now| *end <= now)),
        Moment::Altered => None,
    };
    let remediation = Remediation {
        moment,
        measure: measure(code.map(|code| code.value)),
        code,
        name: row.text(slot!("displayName")),
        id: row.id(slot!("maintenanceModeId")),
        key,
        computer: row.id(slot!("computerId")),
        computer_id: asked,
        organization: entry.organization,
        start,
        end,
        begun_by: row.text(slot!("addedBy")),
        ended_by: row.text(slot!("endedBy")),
    };
    Record {
        uid: entry.uid,
        kind: Kind::Event,
        time: at.or(entry.time),
        row,
        keeps_rest: true,
        repeats: Repeats::default(),
        about: About::Remediation(Box::new(remediation)),
    }
}

/// What an entry tells: collecting makes one for the beginning, one for the end, and one for whatever else changes.
fn moment(entry: &Entry<'_>, row: &Row<'_>, previous: Option<&Row<'_>>) -> Moment {
    if entry.change == Change::New {
        return Moment::Begun;
    }
    let end = |row: &Row<'_>| row.time(slot!("endDateTime")).map(|end| end.at);
    let by = |row: &Row<'_>| row.text(slot!("endedBy")).map(|by| by.text().trim().to_owned());
    let by = |row: &Row<'_>| by(row).filter(|by| !by.is_empty());
    let has_ended = by(row).is_some() || end(row).zip(entry.time).is_some_and(|(end, now)| end <= now);
    let altered = |before: &Row<'_>| {
        // What is as it was ended by the passing of time.
        let same_end = end(before) == end(row) && by(before) == by(row);
        same_end
            && NAMES.all().iter().any(|name| {
                let slot = row.names().slot(name);
                before.get(slot).map(Field::raw) != row.get(slot).map(Field::raw)
            })
    };
    match has_ended && !previous.is_some_and(altered) {
        true => Moment::Ended,
        false => Moment::Altered,
    }
}

/// The vendor's numbers (contract section 6.3).
fn measure(code: Option<i64>) -> Measure {
    match code {
        Some(1) => Measure::MonitorOnly,
        Some(2 | 19) => Measure::Installation,
        Some(3) => Measure::Learning,
        Some(4) => Measure::Elevation,
        Some(6) => Measure::TamperProtectionDisabled,
        Some(14) => Measure::Isolation,
        Some(15) => Measure::Lockdown,
        Some(16) => Measure::DetectAlertsDisabled,
        Some(17) => Measure::NetworkControlMonitorOnly,
        Some(18) => Measure::StorageControlMonitorOnly,
        _ => Measure::Other,
    }
}
