//! What a row of a computer's check-ins says (contract section 2.3).

use crate::model::{Entry, Kind};
use crate::record::device::{Checkin, Device};
use crate::record::row::{Names, Row};
use crate::record::{About, Record, Repeats};

pub(super) const NAMES: Names = Names::new(&[
    "computerCheckinId",
    "organizationId",
    "computerId",
    "dateTime",
    "memoryUsage",
    "memoryUsageUnit",
    "ipAddress",
    "driverStatus",
    "tlVersion",
    "coreCount",
    "operatingSystem",
    "localIPAddresses",
]);

/// The slot of a name, found when the program is built.
macro_rules! slot {
    ($name:literal) => {
        const { NAMES.slot($name) }
    };
}

/// The entry's vendor id is that of the computer that was asked about and of the check-in.
pub(super) fn read<'a>(entry: &Entry<'a>, row: &'a Row<'a>) -> Record<'a> {
    let asked = entry.vendor_id.and_then(|key| key.split_once('/')).map(|(computer, _)| computer);
    let seen = row.time(slot!("dateTime"));
    let device = Device {
        change: entry.change,
        checkin: Some(Checkin {
            id: row.id(slot!("computerCheckinId")),
            time: seen.map(|seen| seen.field),
            computer_id: asked.filter(|id| !id.is_empty()),
        }),
        is_managed: true,
        id: row.id(slot!("computerId")),
        hostname: None,
        name: None,
        platform: None,
        os: row.text(slot!("operatingSystem")),
        organization: row.id(slot!("organizationId")),
        organization_name: None,
        group_id: None,
        group: None,
        address: row.address(slot!("ipAddress")),
        local_addresses: row.get(slot!("localIPAddresses")),
        serial: None,
        mac: None,
        last_seen: seen,
        first_seen: None,
        agent_version: row.text(slot!("tlVersion")),
        service_version: None,
        mode: None,
        mode_facts: [None; 22],
        user: None,
    };
    Record {
        uid: entry.uid,
        kind: Kind::Event,
        time: entry.time,
        row,
        keeps_rest: true,
        repeats: Repeats::default(),
        about: About::Device(Box::new(device)),
    }
}
