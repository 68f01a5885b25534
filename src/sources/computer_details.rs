//! What is set for the agent of each computer beside what the list tells: its proxy and its options. `GET
//! Computer/ComputerGetForEditById` (contract section 2.2).
//!
//! The portal answers the record that its own page edits, of one computer at a time, and documents its members by the
//! request that writes them alone. So each computer is asked about when it is new or when what an administrator sets
//! for it changed, and once in a while. A proxy's address may hold a password.

mod read;

use std::borrow::Cow;

use serde_json::Value;

use crate::model::{Entry, Kind, Micros, OrganizationId};
use crate::normalise::{digest, fingerprint};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Lasting, Query, Rejected, RowKey, Shape, Source};
use crate::sources::query_string;

pub struct ComputerDetails;

/// Key in the configuration.
pub const NAME: &str = "computer_details";

/// What changes by itself, if the record tells it at all: contract section 11 says so of the list.
const VOLATILE: [&str; 10] = [
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
];

impl Source for ComputerDetails {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Signs: what an administrator sets, of contract section 2.1. Each computer has an id, so a new one is due at once.
    fn shape(&self) -> Shape {
        Shape::PerComputer {
            signs: &[
                "computerId",
                "computerName",
                "computerGroupId",
                "threatLockerVersion",
                "targetThreatLockerVersion",
                "isInheritFromGroup",
                "isTamperProtectionDisabled",
                "hasComputerPassword",
            ],
            quiet: "",
        }
    }

    fn kind(&self) -> Kind {
        Kind::Device
    }

    /// The record stands on the page of computers; no source names a permission of its own (contract section 1.8).
    fn permission(&self) -> &'static str {
        "View Computers"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::ComputerById)
    }

    fn body(&self, _query: &Query) -> Value {
        Value::Null
    }

    fn query_string(&self, query: &Query) -> String {
        query_string(&[("computerId", query.computer.as_deref().unwrap_or_default())])
    }

    fn names(&self) -> &'static Names {
        static NAMES: Names = read::NAMES;
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        vec![include_str!("computer_details/example.json").to_owned()]
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

    /// There is one record of each computer, whose id stands before this one.
    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        crate::normalise::fields(row, &[])?;
        let vendor_id = Some(Cow::Borrowed("details"));
        Ok(RowKey { vendor_id, ..RowKey::nobody(OrganizationId::none()) })
    }

    /// It never ends, and whatever it tells counts.
    fn lasting(&self, row: &str, _now: Micros) -> Lasting {
        let print = fingerprint(row, &VOLATILE).unwrap_or_else(|_| digest(&[row.as_bytes()]));
        Lasting { print, ..Lasting::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_order_or_a_check_in_is_no_change_and_a_proxy_or_a_member_nobody_knows_is() {
        let print = |row: &str| ComputerDetails.lasting(row, 0).print;
        let row = print(r#"{"name":"ws-1","useProxyServer":false,"options":["a"],"lastCheckin":"x"}"#);
        assert_eq!(row, print(r#"{"options":["a"],"name":"ws-1","useProxyServer":false,"lastCheckin":"y"}"#));
        assert_ne!(row, print(r#"{"name":"ws-1","useProxyServer":true,"options":["a"]}"#));
        assert_ne!(row, print(r#"{"name":"ws-1","useProxyServer":false,"options":["a"],"later":1}"#));
    }

    #[test]
    fn what_is_no_object_is_rejected() {
        assert!(ComputerDetails.key("[]", 0).is_err());
        assert_eq!(ComputerDetails.key("{}", 0).unwrap().vendor_id.unwrap(), "details");
    }
}
