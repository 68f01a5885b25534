//! What a row of the policies says (contract section 6.2), and what comparing it with the one before says.

use crate::model::{Change, Entry, Kind};
use crate::record::entity::{Entity, EntityKind, differences};
use crate::record::event::Severity;
use crate::record::row::{Names, Row, Slot, Slots};
use crate::record::{About, Record, Repeats};

/// Every member of contract section 6.2, with the other names that occur.
pub(super) const NAMES: Names = Names::new(&[
    "policyId",
    "name",
    "policyName",
    "description",
    "comments",
    "organizationId",
    "organizationName",
    "computerGroupId",
    "appliesTo",
    "appliesToName",
    "groupName",
    "policyActionId",
    "policyAction",
    "isEnabled",
    "status",
    "monitorMode",
    "ringfence",
    "osType",
    "orderBy",
    "applicationSelection",
    "applicationId",
    "applicationIdList",
    "applicationList",
    "users",
    "userGroups",
    "allUserGroups",
    "elevationStatus",
    "policyScheduleStatus",
    "logAction",
    "notifyOnMatch",
    "notifyOnRequest",
    "killRunningProcesses",
    "neverExpires",
    "endDate",
    "lastMatchDateTime",
    "totalRows",
]);

/// What changes by itself (contract section 11).
pub(super) const VOLATILE: [&str; 3] = ["lastMatchDateTime", "totalRows", "orderBy"];

/// The slot of a name, found when the program is built.
macro_rules! slot {
    ($name:literal) => {
        const { NAMES.slot($name) }
    };
}

/// What a row says of a policy beside its names, its organization and its group.
const FACTS: [Slot; 23] = [
    slot!("comments"),
    slot!("policyActionId"),
    slot!("policyAction"),
    slot!("isEnabled"),
    slot!("status"),
    slot!("monitorMode"),
    slot!("ringfence"),
    slot!("osType"),
    slot!("applicationSelection"),
    slot!("applicationId"),
    slot!("applicationIdList"),
    slot!("applicationList"),
    slot!("users"),
    slot!("userGroups"),
    slot!("allUserGroups"),
    slot!("elevationStatus"),
    slot!("policyScheduleStatus"),
    slot!("logAction"),
    slot!("notifyOnMatch"),
    slot!("notifyOnRequest"),
    slot!("killRunningProcesses"),
    slot!("neverExpires"),
    slot!("endDate"),
];

pub(super) fn read<'a>(
    entry: &Entry<'a>,
    row: &'a Row<'a>,
    previous: Option<&'a Row<'a>>,
    emit: &mut dyn FnMut(Record<'a>),
) {
    let first = |slots: &[Slot]| slots.iter().find_map(|slot| row.text(*slot));
    let (name, group) = (
        first(&[slot!("name"), slot!("policyName")]),
        first(&[slot!("appliesToName"), slot!("appliesTo"), slot!("groupName")]),
    );
    let changed = previous.filter(|_| entry.change == Change::Changed);
    let severity = match entry.change {
        Change::Changed => changed.map_or(Severity::Informational, |before| loss(before, row)),
        Change::Removed if Guard::of(row).stops() => Severity::Medium,
        _ => Severity::Informational,
    };
    let repeats = Repeats::of([
        (row.text(slot!("policyName")), name),
        (row.text(slot!("appliesTo")), group),
        (row.text(slot!("groupName")), group),
        (None, None),
    ]);
    emit(Record {
        uid: entry.uid,
        kind: if entry.change == Change::Restated { Kind::State } else { Kind::Event },
        time: None,
        row,
        keeps_rest: true,
        repeats,
        about: About::Entity(Box::new(Entity {
            kind: EntityKind::Policy,
            change: entry.change,
            id: row.id(slot!("policyId")),
            name,
            description: row.text(slot!("description")),
            organization: row.id(slot!("organizationId")),
            organization_name: row.text(slot!("organizationName")),
            group,
            group_id: row.id(slot!("computerGroupId")),
            facts: &FACTS,
            severity,
            severity_from: judged(),
            differences: changed.map(|before| differences(before, row, &VOLATILE)).unwrap_or_default(),
        })),
    });
}

/// The fields by which [`loss`] judges.
fn judged() -> Slots {
    [
        slot!("policyActionId"),
        slot!("policyAction"),
        slot!("isEnabled"),
        slot!("status"),
        slot!("monitorMode"),
        slot!("ringfence"),
    ]
    .into_iter()
    .fold(Slots::NONE, |slots, slot| slots | slot.into())
}

/// How a policy guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Guard {
    is_on: Option<bool>,
    action: Option<Verdict>,
    monitor: Option<i64>,
}

/// What a policy does, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Permit,
    Fenced,
    Deny,
}

/// Numbers of `monitorMode` (contract section 6.2).
const SECURED: i64 = 1;
const MONITOR: i64 = 2;

impl Guard {
    fn of(row: &Row<'_>) -> Self {
        let number = |slot| row.integer(slot).map(|number| number.value);
        let flag = |slot| row.flag(slot).map(|flag| flag.value);
        let action = match number(slot!("policyActionId")) {
            Some(1) => Some(Verdict::Permit),
            Some(2 | 3) => Some(Verdict::Deny),
            Some(6) => Some(Verdict::Fenced),
            Some(_) => None,
            None => row.text(slot!("policyAction")).and_then(|words| {
                let words = words.text().to_lowercase();
                match words {
                    _ if words.starts_with("deny") => Some(Verdict::Deny),
                    _ if words.contains("ringfence") => Some(Verdict::Fenced),
                    _ if words.starts_with("permit") => Some(Verdict::Permit),
                    _ => None,
                }
            }),
        };
        let action = match (action, flag(slot!("ringfence"))) {
            (Some(Verdict::Permit), Some(true)) => Some(Verdict::Fenced),
            (Some(Verdict::Fenced), Some(false)) => Some(Verdict::Permit),
            (action, _) => action,
        };
        Self {
            is_on: flag(slot!("isEnabled")).or_else(|| number(slot!("status")).map(|status| status == 1)),
            action,
            monitor: number(slot!("monitorMode")),
        }
    }

    /// Whether it is in force and stops something.
    fn stops(self) -> bool {
        self.is_on != Some(false) && self.action == Some(Verdict::Deny)
    }
}

/// What a change takes away: medium where a guard that was in force is weaker or off (a deny became a permit, a fence
/// is gone, monitor mode began, a deny was switched off), low where more is permitted than before by other means (a
/// permit was switched on, secured became "as its group says"). A policy that is off before and after guards nothing.
fn loss(before: &Row<'_>, after: &Row<'_>) -> Severity {
    let (before, after) = (Guard::of(before), Guard::of(after));
    if before.is_on == Some(false) && after.is_on == Some(false) {
        return Severity::Informational;
    }
    let weaker = before.action.zip(after.action).is_some_and(|(before, after)| after < before);
    let monitored = after.monitor == Some(MONITOR) && before.monitor.is_some_and(|mode| mode != MONITOR);
    let was_deny_and_is_off = before.stops() && after.is_on == Some(false);
    let was_off = before.is_on == Some(false) && after.is_on == Some(true);
    let permits = matches!(after.action, Some(Verdict::Permit | Verdict::Fenced));
    let loosened = before.monitor == Some(SECURED) && after.monitor == Some(0);
    match () {
        () if was_deny_and_is_off => Severity::Medium,
        () if after.is_on == Some(false) => Severity::Informational,
        () if weaker || monitored => Severity::Medium,
        () if (was_off && permits) || loosened => Severity::Low,
        () => Severity::Informational,
    }
}
