//! Check-ins of computers: when the agent of each spoke to the portal, from where and as what. `POST
//! ComputerCheckin/ComputerCheckinGetByParameters` (contract section 2.3).
//!
//! The portal has no list for all computers, so each is asked, once in a while. Heartbeats are left out: they come every
//! minute and tell nothing that the list of computers does not. Ids go beyond 2^53, and times may be of the year 1.

mod read;

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::model::{Entry, Kind, OrganizationId, folded};
use crate::normalise::{fields, fingerprint, time};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Query, Rejected, RowKey, Shape, Source};
use crate::sources::id;

pub struct ComputerCheckins;

impl Source for ComputerCheckins {
    fn name(&self) -> &'static str {
        "computer_checkins"
    }

    /// No sign: every computer checks in all the time.
    fn shape(&self) -> Shape {
        Shape::PerComputer { signs: &[], quiet: "" }
    }

    fn kind(&self) -> Kind {
        Kind::Event
    }

    fn are_moments(&self) -> bool {
        true
    }

    fn permission(&self) -> &'static str {
        "Allow View Checkin History"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::CheckinsByComputer)
    }

    fn body(&self, query: &Query) -> Value {
        json!({
            "computerId": query.computer.as_deref(),
            "pageNumber": query.page,
            "pageSize": query.size,
            "hideHeartbeat": true,
            "showTotalCount": true,
        })
    }

    fn names(&self) -> &'static Names {
        static NAMES: Names = read::NAMES;
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        vec![include_str!("computer_checkins/example.json").to_owned()]
    }

    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        _previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    ) {
        emit(read::read(entry, row));
    }

    /// A row without an id is named by all that it says.
    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        let [vendor_id, at] = fields(row, &["computerCheckinId", "dateTime"])?;
        let vendor_id = match id(vendor_id) {
            Some(id) => folded(&id).into_owned(),
            None => format!("#{:032x}", u128::from_be_bytes(fingerprint(row, &[])?)),
        };
        let vendor_id = Some(Cow::Owned(vendor_id));
        Ok(RowKey { vendor_id, at: time(at), ..RowKey::nobody(OrganizationId::none()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<(String, Option<i64>)> {
        let path = format!("{}/tests/it/fixtures/portal/computer_checkins.json", env!("CARGO_MANIFEST_DIR"));
        let rows: Vec<Box<serde_json::value::RawValue>> =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        rows.iter()
            .map(|row| {
                let key = ComputerCheckins.key(row.get(), 0).unwrap();
                (key.vendor_id.unwrap().into_owned(), key.at)
            })
            .collect()
    }

    #[test]
    fn ids_beyond_what_a_float_holds_stay_apart_and_the_year_1_is_no_time() {
        let keys = keys();
        let ids: Vec<_> = keys.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["9007199254740993", "9007199254740992", "17"]);
        let times: Vec<_> = keys.iter().map(|(_, at)| at.is_some()).collect();
        assert_eq!(times, [true, true, false]);
    }

    #[test]
    fn a_row_without_an_id_goes_by_what_it_says() {
        let id = |row: &str| ComputerCheckins.key(row, 0).unwrap().vendor_id.unwrap().into_owned();
        let one = id(r#"{"computerCheckinId":0,"ipAddress":"192.0.2.1"}"#);
        assert_eq!(one, id(r#"{"ipAddress":"192.0.2.1","computerCheckinId":0,"tlVersion":null}"#));
        assert_ne!(one, id(r#"{"computerCheckinId":0,"ipAddress":"192.0.2.2"}"#));
    }
}
