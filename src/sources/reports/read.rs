//! What a row of a report says: the columns of computers by their headings (contract section 3.3), and nothing of any
//! other row but that it is there.

use uuid::Uuid;

use crate::model::{Change, Entry, Kind, is_guid};
use crate::record::device::{Device, DeviceChange, Difference, Time};
use crate::record::enrichment::is_person;
use crate::record::row::{Field, Names, Row, Slot};
use crate::record::{About, Record, Repeats};

/// Every heading that is known, in letters and digits.
pub(super) const NAMES: Names = Names::headings(&[
    "computerid",
    "id",
    "deviceid",
    "hostname",
    "computername",
    "computer",
    "name",
    "devicename",
    "organizationname",
    "organization",
    "organizationid",
    "groupname",
    "group",
    "computergroup",
    "computergroupname",
    "operatingsystem",
    "os",
    "osname",
    "lastcheckin",
    "lastcheckindate",
    "lastcheckindatetime",
    "lastseen",
    "lastcheckinipaddress",
    "ipaddress",
    "publicip",
    "lastip",
    "threatlockerversion",
    "version",
    "agentversion",
    "username",
    "lastuser",
    "lastloggedinuser",
    "user",
    "serialnumber",
    "serial",
    "mode",
    "status",
    "computermode",
    "installdate",
    "dateadded",
    "dateinstalled",
]);

/// Columns that do not count as a change; found by letters and digits, as all headings are.
pub(super) const VOLATILE: [&str; 12] = [
    "lastcheckin",
    "lastcheckindate",
    "lastcheckindatetime",
    "lastseen",
    "lastcheckinipaddress",
    "ipaddress",
    "publicip",
    "lastip",
    "denycount",
    "denycountoneday",
    "denycountthreedays",
    "denycountsevendays",
];

/// The slot of a name, found when the program is built.
macro_rules! slots {
    ($($name:literal),+) => {
        [$(const { NAMES.slot($name) }),+]
    };
}

/// What the columns of a computer say; of several of one meaning the first that says something.
pub(super) struct Said<'a> {
    pub(super) id: Option<Field<'a>>,
    pub(super) hostname: Option<Field<'a>>,
    /// Where it has two names.
    pub(super) name: Option<Field<'a>>,
    pub(super) organization: Option<Field<'a>>,
    pub(super) organization_name: Option<Field<'a>>,
    pub(super) group: Option<Field<'a>>,
    pub(super) os: Option<Field<'a>>,
    pub(super) last_seen: Option<Time<'a>>,
    pub(super) address: Option<Field<'a>>,
    pub(super) agent_version: Option<Field<'a>>,
    pub(super) user: Option<Field<'a>>,
    pub(super) serial: Option<Field<'a>>,
    pub(super) mode: Option<Field<'a>>,
    pub(super) first_seen: Option<Time<'a>>,
}

impl<'a> Said<'a> {
    pub(super) fn of(row: &Row<'a>) -> Self {
        let texts = |slots: &[Slot]| slots.iter().filter_map(|slot| row.text(*slot)).collect::<Vec<_>>();
        let first = |slots: &[Slot]| slots.iter().find_map(|slot| row.text(*slot));
        let time = |slots: &[Slot]| slots.iter().find_map(|slot| row.time(*slot));
        let names = texts(&slots!["hostname", "computername", "computer", "name", "devicename"]);
        let organizations = texts(&slots!["organizationname", "organization", "organizationid"]);
        Self {
            id: slots!["computerid", "id", "deviceid"].into_iter().find_map(|slot| row.id(slot)),
            hostname: names.first().copied(),
            name: names.get(1).copied(),
            organization: organizations.iter().copied().find(|text| is_guid(text.inner())),
            organization_name: organizations.iter().copied().find(|text| !is_guid(text.inner())),
            group: first(&slots!["groupname", "group", "computergroup", "computergroupname"]),
            os: first(&slots!["operatingsystem", "os", "osname"]),
            last_seen: time(&slots!["lastcheckin", "lastcheckindate", "lastcheckindatetime", "lastseen"]),
            address: slots!["lastcheckinipaddress", "ipaddress", "publicip", "lastip"]
                .into_iter()
                .find_map(|slot| row.address(slot)),
            agent_version: first(&slots!["threatlockerversion", "version", "agentversion"]),
            user: texts(&slots!["username", "lastuser", "lastloggedinuser", "user"])
                .into_iter()
                .find(|user| is_person(&user.text())),
            serial: first(&slots!["serialnumber", "serial"]),
            mode: first(&slots!["mode", "status", "computermode"]),
            first_seen: time(&slots!["installdate", "dateadded", "dateinstalled"]),
        }
    }
}

/// The report that shows a row, out of what the row goes by; see [`row_id`].
fn report_of(id: &str) -> Option<&str> {
    id.rsplit_once('#').map(|(report, _)| report)
}

/// What a row without an id goes by: its report, all that it says, and its place among its equals.
pub fn row_id(report: &str, content: [u8; 16], place: u32) -> String {
    format!("{report}#{:032x}/{place}", u128::from_be_bytes(content))
}

pub(super) fn read<'a>(
    entry: &Entry<'a>,
    row: &'a Row<'a>,
    previous: Option<&'a Row<'a>>,
    emit: &mut dyn FnMut(Record<'a>),
) {
    if entry.kind != Kind::Device {
        emit(Record {
            uid: entry.uid,
            kind: Kind::Event,
            time: None,
            row,
            keeps_rest: true,
            repeats: Repeats::default(),
            about: About::Row(entry.vendor_id.and_then(report_of)),
        });
        return;
    }
    let said = Said::of(row);
    let Said { id, hostname, name, organization, mode, .. } = said;
    emit(Record {
        uid: entry.uid,
        kind: Kind::Device,
        time: None,
        row,
        keeps_rest: true,
        repeats: Repeats::of([(name, hostname), (None, None), (None, None), (None, None)]),
        about: About::Device(Box::new(device(entry, said))),
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
            let (before, after) = (Said::of(previous).mode, mode);
            if before.map(Field::inner) != after.map(Field::inner) {
                change("mode", Difference::Mode { before, after });
            }
        }
        (Change::Changed | Change::Restated, _) => {}
    }
}

fn device<'a>(entry: &Entry<'a>, said: Said<'a>) -> Device<'a> {
    Device {
        change: entry.change,
        checkin: None,
        is_managed: true,
        id: said.id,
        hostname: said.hostname,
        name: said.name,
        platform: None,
        os: said.os,
        organization: said.organization,
        organization_name: said.organization_name,
        group_id: None,
        group: said.group,
        address: said.address,
        local_addresses: None,
        serial: said.serial,
        mac: None,
        last_seen: said.last_seen,
        first_seen: said.first_seen,
        agent_version: said.agent_version,
        service_version: None,
        mode: said.mode,
        mode_facts: [None; 22],
        user: said.user,
    }
}
