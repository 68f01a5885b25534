//! Devices without an agent that were seen on the network. `GET OnlineDevices/OnlineDevicesGetByParameters` (contract
//! section 2.3).
//!
//! The vendor documents no member of a row: those that are read are guessed, and so is what a row is. It has no id,
//! and goes by its name, else by its address; [`ids`] tells rows of one name apart. Nothing else is known of such a
//! device, and nothing of it is told of computers: [`Source::is_managed`].

mod read;

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use crate::model::{Entry, Kind, OrganizationId};
use crate::normalise::{fields, text, time};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Query, Rejected, RowKey, Shape, Source};
use crate::sources::{organization, query_string};

pub struct OnlineDevices;

/// What changes by itself: contract section 11 says so of computers.
pub const VOLATILE: [&str; 2] = ["lastCheckin", "totalRows"];

/// What tells the rows of one listing apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    pub organization: OrganizationId,
    /// As [`Source::key`] has it.
    pub name: String,
    /// In small letters.
    pub address: Option<String>,
    /// The fingerprint of the row.
    pub print: [u8; 16],
}

/// What the rows of one whole listing go by, whatever their order: the name alone, else, where a listing shows a name
/// more than once in an organization, the name with the address. So no row is ever taken for the change of another one
/// that stands beside it. Where that is not enough, rows are numbered.
pub fn ids(rows: &[Named]) -> Vec<String> {
    let mut named: HashMap<(&OrganizationId, &str), u32> = HashMap::new();
    for row in rows {
        *named.entry((&row.organization, &row.name)).or_default() += 1;
    }
    let mut sorted: Vec<usize> = (0..rows.len()).collect();
    sorted.sort_by_key(|place| &rows[*place]);
    let (mut ids, mut taken) = (vec![String::new(); rows.len()], HashMap::new());
    for place in sorted {
        let row = &rows[place];
        let is_alone = named[&(&row.organization, &*row.name)] == 1;
        let id = match row.address.as_ref().filter(|address| !is_alone && **address != row.name) {
            Some(address) => format!("{}/{address}", row.name),
            None => row.name.clone(),
        };
        let times = taken.entry((&row.organization, id.clone())).or_insert(0);
        *times += 1;
        ids[place] = if *times == 1 { id } else { format!("{id}#{times}") };
    }
    ids
}

/// The address that a row names, in small letters.
pub fn address(row: &str) -> Option<String> {
    let [address] = fields(row, &["ipAddress"]).ok()?;
    plain(text(address))
}

fn plain(text: Option<Cow<'_, str>>) -> Option<String> {
    text.map(|text| text.trim().to_lowercase()).filter(|text| !text.is_empty())
}

impl Source for OnlineDevices {
    fn name(&self) -> &'static str {
        "online_devices"
    }

    fn shape(&self) -> Shape {
        Shape::Snapshot { volatile: &VOLATILE }
    }

    fn kind(&self) -> Kind {
        Kind::Device
    }

    fn is_managed(&self) -> bool {
        false
    }

    /// The answer is often `null` (contract section 8.3).
    fn is_often_empty(&self) -> bool {
        true
    }

    /// The list stands on the page of computers; no source names a permission of its own (contract section 1.8).
    fn permission(&self) -> &'static str {
        "View Computers"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::OnlineDevices)
    }

    fn body(&self, _query: &Query) -> Value {
        Value::Null
    }

    fn query_string(&self, query: &Query) -> String {
        let (page, size) = (query.page.to_string(), query.size.to_string());
        query_string(&[
            ("pageNumber", &page),
            ("pageSize", &size),
            ("orderBy", "HostName"),
            ("isAscending", "true"),
        ])
    }

    fn names(&self) -> &'static Names {
        static NAMES: Names = read::NAMES;
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        vec![
            include_str!("online_devices/example.json").to_owned(),
            r#"{"hostName":"nas-2","ipAddress":"192.0.2.41"}"#.to_owned(),
        ]
    }

    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        _previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    ) {
        read::read(entry, row, emit);
    }

    /// `at` is the last check-in. The id is that of a row whose name no other row has: see [`ids`].
    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        const FIELDS: [&str; 6] =
            ["computerName", "hostName", "ipAddress", "organizationId", "organizationName", "lastCheckin"];
        let [name, hostname, address, owner, owner_name, checkin] = fields(row, &FIELDS)?;
        let id = [name, hostname, address].into_iter().find_map(|value| plain(text(value)));
        let id = id.ok_or_else(|| Rejected("a device without a name and an address".to_owned()))?;
        Ok(RowKey {
            organization_name: text(owner_name),
            vendor_id: Some(Cow::Owned(id)),
            at: time(checkin),
            ..RowKey::nobody(organization(owner))
        })
    }
}

#[cfg(test)]
mod tests;
