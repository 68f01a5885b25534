//! Computers: every device with an agent. `POST Computer/ComputerGetByAllParameters` (contract section 2.1).
//!
//! Asked in the order of the installation date, which hardly moves, unlike the check-in, which moves
//! while one walks.

mod read;

use serde_json::{Value, json};

use crate::model::{Entry, Kind};
use crate::normalise::{fields, text, time};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Query, Rejected, RowKey, Shape, Source};
use crate::sources::{id, organization};

pub struct Computers;

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

    fn endpoint(&self) -> Endpoint {
        Endpoint::ComputersByParameters
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
        let [vendor_id, owner, owner_name, owner_alias, checkin] = fields(
            row,
            &["computerId", "organizationId", "organization", "organizationName", "lastCheckin"],
        )?;
        let vendor_id = id(vendor_id).ok_or_else(|| Rejected("a computer without computerId".to_owned()))?;
        Ok(RowKey {
            organization: organization(owner),
            organization_name: text(owner_name).or_else(|| text(owner_alias)),
            vendor_id: Some(vendor_id),
            content: [0; 16],
            at: time(checkin),
            imported: None,
            reader: None,
        })
    }
}
