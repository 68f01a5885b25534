//! What the record of one computer says (contract section 2.2), and what comparing it with the one before says.

use uuid::Uuid;

use crate::model::{Change, Entry, Kind};
use crate::record::device::{Compared, Device, DeviceChange, Difference, Setting};
use crate::record::row::{Field, Names, Row, Slot};
use crate::record::{About, Record, Repeats};

/// The members of the request that writes them.
pub(super) const NAMES: Names = Names::new(&[
    "computerId",
    "computerGroupId",
    "name",
    "useProxyServer",
    "proxyServerOption",
    "proxyUrlEntry",
    "proxyURL",
    "options",
]);

/// The slot of a name, found when the program is built.
macro_rules! slot {
    ($name:literal) => {
        const { NAMES.slot($name) }
    };
}

/// What is set, and the members that tell of it.
const SETTINGS: [(Setting, &[Slot]); 2] = [
    (
        Setting::Proxy,
        &[slot!("useProxyServer"), slot!("proxyServerOption"), slot!("proxyUrlEntry"), slot!("proxyURL")],
    ),
    (Setting::Options, &[slot!("options")]),
];

pub(super) fn read<'a>(
    entry: &Entry<'a>,
    row: &'a Row<'a>,
    previous: Option<&'a Row<'a>>,
    emit: &mut dyn FnMut(Record<'a>),
) {
    let device = device(entry, row);
    let (id, name) = (device.id, device.name);
    emit(Record {
        uid: entry.uid,
        kind: Kind::Device,
        // A device is as it is when it is collected.
        time: None,
        row,
        keeps_rest: true,
        repeats: Repeats::default(),
        about: About::Device(Box::new(device)),
    });
    let Some(previous) = previous.filter(|_| entry.change == Change::Changed) else { return };
    for (what, slots) in SETTINGS {
        let mut members = [Compared::default(); Setting::MEMBERS];
        for (member, slot) in members.iter_mut().zip(slots) {
            *member = Compared { name: row.name(*slot), before: previous.get(*slot), after: row.get(*slot) };
        }
        if members.iter().all(|member| member.before.map(Field::raw) == member.after.map(Field::raw)) {
            continue;
        }
        emit(Record {
            uid: Uuid::new_v5(&entry.uid, what.as_str().as_bytes()),
            kind: Kind::Event,
            time: None,
            row,
            keeps_rest: false,
            repeats: Repeats::default(),
            about: About::Change(Box::new(DeviceChange {
                id,
                hostname: None,
                name,
                organization: None,
                is_managed: true,
                address: None,
                what: Difference::Setting { what, members },
            })),
        });
    }
}

fn device<'a>(entry: &Entry<'a>, row: &'a Row<'a>) -> Device<'a> {
    Device {
        change: entry.change,
        checkin: None,
        is_managed: true,
        id: row.id(slot!("computerId")),
        hostname: None,
        name: row.text(slot!("name")),
        platform: None,
        os: None,
        organization: None,
        organization_name: None,
        group_id: row.id(slot!("computerGroupId")),
        group: None,
        address: None,
        local_addresses: None,
        serial: None,
        mac: None,
        last_seen: None,
        first_seen: None,
        agent_version: None,
        service_version: None,
        mode: None,
        mode_facts: [None; 22],
        user: None,
    }
}
