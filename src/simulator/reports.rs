//! Reports as the contract describes them (sections 3.1 to 3.3): their list, and the rows of each under headings of its
//! own. The columns are invented, as nobody has published any.

use serde::Deserialize;

use super::computers::Computer;
use super::text::{Object, Spelling, guid};
use super::world::{Organization, World, purpose};
use crate::model::{Micros, SECOND};

/// In which of the ways that clients are warned of the portal tells its reports.
#[derive(Clone, Debug, Default)]
pub struct ReportManners {
    /// The list of reports has no groups.
    pub flat: bool,
    /// Rows come as a bare list, without columns.
    pub bare: bool,
    /// No column tells the computer's id.
    pub without_ids: bool,
    /// One more column.
    pub extra_column: Option<&'static str>,
    /// Characters in a column that is there for its size.
    pub padding: usize,
    /// Nothing is shown of any computer.
    pub empty: bool,
    /// The reports of all computers are not there.
    pub without_computers: bool,
}

/// A door for keys instead of tokens (contract section 3.4), which nobody has seen: the same reports elsewhere.
#[derive(Clone, Debug)]
pub struct KeyDoor {
    /// The header that carries the key, in small letters.
    pub header: &'static str,
    /// What stands before the paths of the reports, in small letters.
    pub path: &'static str,
    pub key: String,
}

/// The reports there are: group, name, and whether dates, text or an id are to be given.
pub const REPORTS: [(&str, &str, [bool; 3]); 5] = [
    ("Computers", "All-Computers", [false; 3]),
    ("Computers", "All Computers – Including Child Organizations", [false; 3]),
    ("Applications", "Applications Containing Same Hash", [false, true, false]),
    ("Übersicht", "Denies by Day", [true, false, false]),
    ("Computers", "Nothing at All", [false; 3]),
];

/// The members of a request (contract section 3.2).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunBody {
    pub report_id: Option<String>,
    pub start_date: Option<String>,
    pub end_date: Option<String>,
    pub data: Option<String>,
    pub offset_in_minutes: Option<i32>,
    pub id: Option<String>,
    pub include_child_organizations: Option<bool>,
    pub options: Option<serde_json::Value>,
}

impl RunBody {
    /// What of the table is missing.
    pub fn missing(&self) -> Vec<&'static str> {
        let members = [
            ("reportId", self.report_id.is_some()),
            ("startDate", self.start_date.is_some()),
            ("endDate", self.end_date.is_some()),
            ("data", self.data.is_some()),
            ("offsetInMinutes", self.offset_in_minutes == Some(0)),
            ("id", self.id.is_some()),
            ("includeChildOrganizations", self.include_child_organizations.is_some()),
        ];
        members.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect()
    }
}

/// The id of a report, by its place in [`REPORTS`].
pub fn id(world: &World, place: usize) -> uuid::Uuid {
    guid(world.options.seed, purpose::REPORT, place as u64)
}

/// Writes one entry of the list.
pub(super) fn write_entry(world: &World, place: usize, out: &mut String) {
    let (_, name, [dates, data, by_id]) = REPORTS[place];
    let mut object = Object::start(out);
    object.text("reportId", id(world, place)).text("name", name).maybe("description", None::<&str>);
    object
        .value("dateOption", dates)
        .value("dataOption", data)
        .maybe("dataOptionName", data.then_some("Hash"));
    object.value("guidOption", by_id).maybe("guidOptionName", None::<&str>);
    object.end();
}

/// Writes a computer under the headings of a report; false where it is not there.
pub(super) fn write_computer(
    computer: &Computer,
    organization: &Organization,
    now: Micros,
    manners: &ReportManners,
    out: &mut String,
) -> bool {
    let Some(state) = computer.state(now).filter(|state| !state.removed) else { return false };
    let mut object = Object::start(out);
    if !manners.without_ids {
        object.text("Computer Id", computer.id);
    }
    object.text("Hostname", &computer.name).text("Organization Name", &organization.name);
    object.maybe("Group Name", (!computer.number.is_multiple_of(9)).then_some("Workstations"));
    object.text("Operating System", if computer.os_type == 1 { "Windows 11 Pro" } else { "Other" });
    match computer.number % 5 {
        0 => object.text("Last Check-in", "3/1/2026 11:57 AM"),
        1 => object.value("Last Check-in", "null"),
        _ => object.time("Last Check-in", now - 60 * SECOND, Spelling::NoZone),
    };
    if !computer.number.is_multiple_of(7) {
        object.text("IP Address", format_args!("192.0.2.{}", computer.number % 250));
    }
    object.text("ThreatLocker Version", format_args!("9.{}.4", state.minor)).maybe("Last User", state.user);
    object.text("Mode", state.mode).text(r#"Notiz; mit \"Sonderzeichen\""#, "=1+1");
    if let Some(column) = manners.extra_column {
        object.value(column, true);
    }
    if manners.padding > 0 {
        object.text("Padding", "x".repeat(manners.padding));
    }
    object.end();
    true
}
