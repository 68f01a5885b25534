//! What a row of the computers says (contract section 2.1), and what comparing it with the one before says.

use uuid::Uuid;

use crate::model::{Change, Entry, Kind};
use crate::record::device::{Device, DeviceChange, Difference, Switch};
use crate::record::enrichment::is_person;
use crate::record::path::is_mac;
use crate::record::row::{Field, Flag, Names, Row, Slot};
use crate::record::{About, Record, Repeats};
use crate::sources::platform;

/// Every member of contract section 2.1, in the order of the portal, with the other names that occur.
pub(super) const NAMES: Names = Names::new(&[
    "action",
    "application",
    "appliesToType",
    "computerGroupId",
    "computerId",
    "dateAdded",
    "driverStatusString",
    "group",
    "hostname",
    "lastCheckin",
    "lastCheckinIPAddress",
    "computerName",
    "operatingSystem",
    "organization",
    "organizationId",
    "osType",
    "threatLockerVersion",
    "threatLockerVersionId",
    "newThreatLockerVersion",
    "serviceVersion",
    "uploadBaseFile",
    "restartComputerNeeded",
    "shouldRestart",
    "serialNumber",
    "maintenanceTypeId",
    "isTamperProtectionDisabled",
    "isLearningMoreThanFourDays",
    "mode",
    "versionMajor",
    "versionMinor",
    "isLockDownMode",
    "isOpsAlertsDisabled",
    "isIsolationMode",
    "progressBarLearning",
    "isLearningModeMoreThanSeven",
    "isLearningModeLongerThanFiveYears",
    "maintenanceEndDate",
    "ipOperatingSystem",
    "hasComputerPassword",
    "hasAtLeastOneCheckin",
    "hasInstalationAtLeastSevenDaysAgo",
    "hasInstallationAtLeastSevenDaysAgo",
    "isReadyToSecure",
    "isNeededReview",
    "hasZeroDeniesFourDays",
    "lastCheckinLocalIPAddresses",
    "denyCountOneDay",
    "denyCountThreeDays",
    "denyCountSevenDays",
    "totalRows",
    "isInheritFromGroup",
    "hasUnknownVersion",
    "isIsolated",
    "isLockedOut",
    "hasConfigManagerProduct",
    "maintenenceBannerIds",
    "targetThreatLockerVersion",
    "isDeleted",
    "username",
    "fullCheckinDateTime",
    "fullCheckinMemoryUsage",
    "fullCheckinIPAddress",
    "isElevated",
    "activeMaintenanceModes",
    "appControlLearningModeActive",
    "maintenanceTicketRequiredParameter",
    "maintenanceCapabilities",
    "organizationName",
    "groupName",
    "dateCreated",
    "installDate",
    "startDateTime",
    "ipAddress",
    "macAddress",
    "isOnline",
    "lastLoggedInUser",
    "loggedInUser",
    "lastUser",
]);

/// The slot of a name, found when the program is built.
macro_rules! slot {
    ($name:literal) => {
        const { NAMES.slot($name) }
    };
}

/// The flags that say that a switch is on (contract section 6.3); more than one name for some.
const SWITCHES: [(Switch, &[Slot]); 4] = [
    (Switch::Isolation, &[slot!("isIsolated"), slot!("isIsolationMode")]),
    (Switch::Lockdown, &[slot!("isLockedOut"), slot!("isLockDownMode")]),
    (Switch::Learning, &[slot!("appControlLearningModeActive")]),
    (Switch::TamperProtection, &[slot!("isTamperProtectionDisabled")]),
];

pub(super) fn read<'a>(
    entry: &Entry<'a>,
    row: &'a Row<'a>,
    previous: Option<&'a Row<'a>>,
    emit: &mut dyn FnMut(Record<'a>),
) {
    let device = device(entry, row);
    let (id, hostname, name) = (device.id, device.hostname, device.name);
    let organization = device.organization;
    let repeats = Repeats::of([
        (row.text(slot!("computerName")), hostname),
        (row.text(slot!("fullCheckinIPAddress")), device.address),
        (row.text(slot!("targetThreatLockerVersion")), device.agent_version),
        (row.text(slot!("action")), row.text(slot!("mode"))),
    ]);
    emit(Record {
        uid: entry.uid,
        kind: Kind::Device,
        // A device is as it is when it is collected, not when it last spoke.
        time: None,
        row,
        keeps_rest: true,
        repeats,
        about: About::Device(Box::new(device)),
    });
    let mut change = |name_of_change: &str, what| {
        emit(Record {
            uid: Uuid::new_v5(&entry.uid, name_of_change.as_bytes()),
            kind: Kind::Event,
            time: None,
            row,
            keeps_rest: false,
            repeats: Repeats::default(),
            about: About::Change(Box::new(DeviceChange {
                id,
                hostname,
                name,
                organization,
                is_managed: true,
                address: None,
                what,
            })),
        });
    };
    match (entry.change, previous) {
        (Change::New, _) => change("added", Difference::Added),
        (Change::Removed, _) => change("removed", Difference::Removed),
        (Change::Changed, Some(previous)) => {
            let (before, after) = (previous.text(slot!("mode")), row.text(slot!("mode")));
            if before.map(Field::inner) != after.map(Field::inner) {
                change("mode", Difference::Mode { before, after });
            }
            for (what, slots) in SWITCHES {
                let (before, after) = (switched(previous, slots), switched(row, slots));
                if let Some(after) =
                    after.filter(|after| before.is_some_and(|before| before.value != after.value))
                {
                    change(what.as_str(), Difference::Switch { what, before, after });
                }
            }
        }
        (Change::Changed | Change::Restated, _) => {}
    }
}

/// The first flag that is set, else the first that is there.
fn switched<'a>(row: &Row<'a>, slots: &[Slot]) -> Option<Flag<'a>> {
    let flags = || slots.iter().filter_map(|slot| row.flag(*slot));
    flags().find(|flag| flag.value).or_else(|| flags().next())
}

fn device<'a>(entry: &Entry<'a>, row: &Row<'a>) -> Device<'a> {
    let first = |slots: &[Slot]| slots.iter().find_map(|slot| row.text(*slot));
    let time = |slots: &[Slot]| slots.iter().find_map(|slot| row.time(*slot));
    Device {
        change: entry.change,
        checkin: None,
        is_managed: true,
        id: row.id(slot!("computerId")),
        hostname: row.text(slot!("hostname")),
        name: row.text(slot!("computerName")),
        platform: platform(row, slot!("osType")),
        os: row.text(slot!("operatingSystem")),
        organization: row.id(slot!("organizationId")),
        organization_name: first(&[slot!("organization"), slot!("organizationName")]),
        group_id: row.id(slot!("computerGroupId")),
        group: first(&[slot!("group"), slot!("groupName")]),
        address: row.address(slot!("lastCheckinIPAddress")).or_else(|| row.address(slot!("ipAddress"))),
        local_addresses: row.get(slot!("lastCheckinLocalIPAddresses")),
        serial: row.text(slot!("serialNumber")),
        last_seen: time(&[slot!("lastCheckin")]),
        first_seen: time(&[slot!("dateAdded"), slot!("dateCreated"), slot!("installDate")]),
        mac: row.text(slot!("macAddress")).filter(|mac| is_mac(mac.inner())),
        agent_version: row.text(slot!("threatLockerVersion")),
        service_version: row.text(slot!("serviceVersion")),
        mode: row.text(slot!("mode")),
        mode_facts: [
            slot!("maintenanceTypeId"),
            slot!("maintenanceEndDate"),
            slot!("activeMaintenanceModes"),
            slot!("maintenanceCapabilities"),
            slot!("maintenanceTicketRequiredParameter"),
            slot!("isTamperProtectionDisabled"),
            slot!("isOpsAlertsDisabled"),
            slot!("isElevated"),
            slot!("isIsolated"),
            slot!("isIsolationMode"),
            slot!("isLockedOut"),
            slot!("isLockDownMode"),
            slot!("appControlLearningModeActive"),
            slot!("isLearningMoreThanFourDays"),
            slot!("isLearningModeMoreThanSeven"),
            slot!("isLearningModeLongerThanFiveYears"),
            slot!("progressBarLearning"),
            slot!("isReadyToSecure"),
            slot!("isInheritFromGroup"),
            slot!("application"),
            slot!("appliesToType"),
            slot!("driverStatusString"),
        ]
        .map(|slot| row.get(slot)),
        // Contract section 2.4: the other names are in no public document, and cost nothing to accept.
        user: [slot!("username"), slot!("lastLoggedInUser"), slot!("loggedInUser"), slot!("lastUser")]
            .into_iter()
            .filter_map(|slot| row.text(slot))
            .find(|name| is_person(&name.text())),
    }
}
