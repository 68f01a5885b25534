//! Remediations: isolation, lockdown and the other maintenances of computers, as the history of each computer lists
//! them. `GET MaintenanceMode/MaintenanceModeGetByComputerIdV2` (contract section 6.3); older portals know it
//! without `V2` and without pages.
//!
//! The portal has no list for all computers, so each is asked, and only where its row changed, or once in a
//! while. Rows may have no id, no computer, and dates of the year 1 for what is not set.

mod read;

use std::borrow::Cow;

use serde_json::Value;

use crate::model::{Entry, Kind, Micros, OrganizationId, folded};
use crate::normalise::{digest, fields, text, time};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Lasting, Query, Rejected, RowKey, Shape, Source};
use crate::sources::{content, id, query_string};

pub(super) use self::read::read_listed;

pub struct Remediations;

impl Source for Remediations {
    fn name(&self) -> &'static str {
        "remediations"
    }

    /// Signs: contract section 2.1.
    fn shape(&self) -> Shape {
        Shape::PerComputer {
            signs: &[
                "maintenanceTypeId",
                "maintenanceEndDate",
                "activeMaintenanceModes",
                "isTamperProtectionDisabled",
                "isOpsAlertsDisabled",
                "isElevated",
                "isIsolated",
                "isIsolationMode",
                "isLockedOut",
                "isLockDownMode",
                "appControlLearningModeActive",
                "mode",
            ],
            quiet: "Secure",
        }
    }

    fn kind(&self) -> Kind {
        Kind::Event
    }

    /// The history stands on the computer's page; no source names a permission of its own (contract section 1.8).
    fn permission(&self) -> &'static str {
        "View Computers"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::MaintenanceByComputer)
    }

    fn older_endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::MaintenanceByComputerUnpaged)
    }

    fn body(&self, _query: &Query) -> Value {
        Value::Null
    }

    fn query_string(&self, query: &Query) -> String {
        let computer = query.computer.as_deref().unwrap_or_default();
        let (page, size) = (query.page.to_string(), query.size.to_string());
        query_string(&[("computerId", computer), ("pageNumber", &page), ("pageSize", &size)])
    }

    fn names(&self) -> &'static Names {
        static NAMES: Names = read::NAMES;
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        vec![include_str!("remediations/example.json").to_owned()]
    }

    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    ) {
        emit(read::read(entry, row, previous));
    }

    /// A row is named by its id and when it began, since ids may come again (contract section 6.3, PP); one without an
    /// id by what it is.
    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        let [vendor_id, kind, start] =
            fields(row, &["maintenanceModeId", "maintenanceTypeId", "startDateTime"])?;
        let at = time(start);
        let name = id(vendor_id).map(|id| folded(&id).into_owned());
        let vendor_id = match (name, at) {
            (name, Some(at)) => {
                let name = name.map_or_else(|| text(kind).unwrap_or_default(), Cow::Owned);
                format!("{name}@{at}")
            }
            (Some(id), None) => id,
            (None, None) => {
                let content = u128::from_be_bytes(content(row, None, &[]));
                format!("{}#{content:032x}", text(kind).unwrap_or_default())
            }
        };
        let vendor_id = Cow::Owned(vendor_id);
        Ok(RowKey { vendor_id: Some(vendor_id), at, ..RowKey::nobody(OrganizationId::none()) })
    }

    /// A member that nobody knows yet, another order of them or another spelling of a time is no change.
    fn lasting(&self, row: &str, now: Micros) -> Lasting {
        const MEMBERS: [&str; 6] =
            ["startDateTime", "endDateTime", "endedBy", "addedBy", "maintenanceTypeId", "displayName"];
        let Ok(members) = fields(row, &MEMBERS) else { return Lasting::default() };
        let [start, end, ended_by, ..] = members;
        let (from, to) = (time(start), time(end));
        let by = text(ended_by).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        let moments = [from, to].map(|at| at.map_or_else(String::new, |at| at.to_string()));
        let mut said: Vec<&[u8]> = moments.iter().map(String::as_bytes).collect();
        said.push(by.as_deref().unwrap_or_default().as_bytes());
        let others: Vec<_> = members[3..].iter().map(|value| text(*value).unwrap_or_default()).collect();
        said.extend(others.iter().map(|value| value.as_bytes()));
        let has_ended = by.is_some() || to.is_some_and(|to| to <= now);
        Lasting { from, to, has_ended, print: digest(&said) }
    }
}

#[cfg(test)]
mod tests;
