//! What a row of a device without an agent says, as far as its members are known (contract section 2.3).

use uuid::Uuid;

use crate::model::{Change, Entry, Kind};
use crate::record::device::{Device, DeviceChange, Difference};
use crate::record::path::is_mac;
use crate::record::row::{Names, Row, Slot};
use crate::record::{About, Record, Repeats};

/// The four members that are guessed, then those that rows of computers have and that cost nothing to accept.
pub(super) const NAMES: Names = Names::new(&[
    "computerName",
    "computerGroupName",
    "lastCheckin",
    "ipAddress",
    "hostName",
    "macAddress",
    "operatingSystem",
    "organizationId",
    "organizationName",
    "totalRows",
]);

/// The slot of a name, found when the program is built.
macro_rules! slot {
    ($name:literal) => {
        const { NAMES.slot($name) }
    };
}

pub(super) fn read<'a>(entry: &Entry<'a>, row: &'a Row<'a>, emit: &mut dyn FnMut(Record<'a>)) {
    let device = device(entry, row);
    let Device { hostname, name, organization, address, .. } = device;
    emit(Record {
        uid: entry.uid,
        kind: Kind::Device,
        // A device is as it is when it is collected, not when it was seen last.
        time: None,
        row,
        keeps_rest: true,
        repeats: Repeats::of([(name, hostname), (None, None), (None, None), (None, None)]),
        about: About::Device(Box::new(device)),
    });
    let (name_of_change, what) = match entry.change {
        Change::New => ("added", Difference::Added),
        Change::Removed => ("removed", Difference::Removed),
        Change::Changed | Change::Restated => return,
    };
    emit(Record {
        uid: Uuid::new_v5(&entry.uid, name_of_change.as_bytes()),
        kind: Kind::Event,
        time: None,
        row,
        keeps_rest: false,
        repeats: Repeats::default(),
        about: About::Change(Box::new(DeviceChange {
            id: None,
            hostname,
            name,
            organization,
            is_managed: false,
            address,
            what,
        })),
    });
}

fn device<'a>(entry: &Entry<'a>, row: &'a Row<'a>) -> Device<'a> {
    let said = |slot: Slot| row.text(slot).filter(|text| !text.inner().trim().is_empty());
    let (name, hostname) = (said(slot!("computerName")), said(slot!("hostName")));
    let address = row.address(slot!("ipAddress"));
    Device {
        change: entry.change,
        checkin: None,
        is_managed: false,
        id: None,
        hostname: hostname.or(name),
        // What has no name is called by its address.
        name: if hostname.is_some() { name } else { address.filter(|_| name.is_none()) },
        platform: None,
        os: row.text(slot!("operatingSystem")),
        organization: row.id(slot!("organizationId")),
        organization_name: row.text(slot!("organizationName")),
        group_id: None,
        group: row.text(slot!("computerGroupName")),
        address,
        local_addresses: None,
        serial: None,
        mac: row.text(slot!("macAddress")).filter(|mac| is_mac(mac.inner())),
        last_seen: row.time(slot!("lastCheckin")),
        first_seen: None,
        agent_version: None,
        service_version: None,
        mode: None,
        mode_facts: [None; 22],
        user: None,
    }
}
