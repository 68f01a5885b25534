//! Computers: every device with an agent. `POST Computer/ComputerGetByAllParameters` (contract section 2.1).
//!
//! Asked in the order of the installation date, which hardly moves, unlike the check-in, which moves
//! while one walks.

mod read;

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::model::{Entry, Kind};
use crate::normalise::{fields, text, time};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::enrichment::{Facts, LONGEST_NAME, is_person};
use crate::record::row::{Names, Row};
use crate::source::{Query, Rejected, RowKey, Shape, Source};
use crate::sources::{id, organization};

pub struct Computers;

/// What keys a row and is kept of its device. The last four may hold the last user. Contract section 2.4: all but
/// the first of these are in no public document, and cost nothing to accept.
const FIELDS: [&str; 15] = [
    "computerId",
    "organizationId",
    "organization",
    "organizationName",
    "lastCheckin",
    "computerName",
    "hostname",
    "operatingSystem",
    "group",
    "groupName",
    "mode",
    "username",
    "lastLoggedInUser",
    "loggedInUser",
    "lastUser",
];

impl Source for Computers {
    fn name(&self) -> &'static str {
        "computers"
    }

    /// Volatile fields: contract section 11.
    fn shape(&self) -> Shape {
        Shape::Snapshot {
            volatile: &[
                "lastCheckin",
                "lastCheckinIPAddress",
                "fullCheckinDateTime",
                "fullCheckinIPAddress",
                "fullCheckinMemoryUsage",
                "denyCountOneDay",
                "denyCountThreeDays",
                "denyCountSevenDays",
                "totalRows",
                "progressBarLearning",
            ],
        }
    }

    fn kind(&self) -> Kind {
        Kind::Device
    }

    fn permission(&self) -> &'static str {
        "View Computers"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::ComputersByParameters)
    }

    fn body(&self, query: &Query) -> Value {
        json!({
            "pageNumber": query.page,
            "pageSize": query.size,
            "orderBy": "computerinstalldate",
            "isAscending": true,
            "searchText": "",
            "childOrganizations": query.scope.is_tree(),
            "showLastCheckIn": true,
            "showDeleted": query.deleted,
            "isExport": false,
        })
    }

    fn lists_deleted(&self) -> bool {
        true
    }

    /// `at` is the last check-in. A row without `computerId` cannot be followed over time.
    fn names(&self) -> &'static Names {
        static NAMES: Names = read::NAMES;
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        vec![include_str!("computers/example.json").to_owned()]
    }

    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    ) {
        read::read(entry, row, previous, emit);
    }

    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        let [
            vendor_id,
            owner,
            owner_name,
            owner_alias,
            checkin,
            name,
            hostname,
            os,
            group,
            group_alias,
            mode,
            users @ ..,
        ] = fields(row, &FIELDS)?;
        let owned = |value| text(value).filter(|name| name.len() <= LONGEST_NAME).map(Cow::into_owned);
        let facts = Facts {
            name: owned(name).or_else(|| owned(hostname)),
            host: owned(hostname).or_else(|| owned(name)).map(|host| host.to_lowercase()),
            os: owned(os),
            group: owned(group).or_else(|| owned(group_alias)),
            organization: owned(owner_name).or_else(|| owned(owner_alias)),
            mode: owned(mode),
        };
        let vendor_id = id(vendor_id).ok_or_else(|| Rejected("a computer without computerId".to_owned()))?;
        Ok(RowKey {
            organization: organization(owner),
            organization_name: text(owner_name).or_else(|| text(owner_alias)),
            computer: Some(vendor_id.clone()),
            host: None,
            vendor_id: Some(vendor_id),
            content: [0; 16],
            at: time(checkin),
            imported: None,
            reader: None,
            user: users.into_iter().filter_map(text).find(|name| is_person(name)),
            facts: Some(Box::new(facts)),
            rated: false,
        })
    }
}
