//! Remediations as the portal's own tab of them lists them, from an endpoint that the vendor does not publish (contract
//! section 6.3): an operator who has seen it names it.
//!
//! The members of a row are read where they are called as in the history of maintenances; all others are delivered as they
//! are. [`Private`](crate::source::Private) says what a row is called.

use serde_json::Value;

use crate::model::{Entry, Kind, Micros, folded};
use crate::normalise::{digest, fields, text, time};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Lasting, Query, Rejected, RowKey, Shape, Source};
use crate::sources::remediations::{self, Remediations};
use crate::sources::{id, organization};

pub struct PrivateRemediations;

impl Source for PrivateRemediations {
    fn name(&self) -> &'static str {
        "private_remediations"
    }

    fn shape(&self) -> Shape {
        Shape::Snapshot { volatile: &[] }
    }

    fn kind(&self) -> Kind {
        Kind::Event
    }

    fn is_told_once(&self) -> bool {
        true
    }

    fn permission(&self) -> &'static str {
        "View ThreatLocker remediations"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        None
    }

    fn body(&self, _query: &Query) -> Value {
        Value::Null
    }

    fn names(&self) -> &'static Names {
        Remediations.names()
    }

    fn examples(&self) -> Vec<String> {
        vec![include_str!("private_remediations/example.json").to_owned()]
    }

    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    ) {
        emit(remediations::read_listed(entry, row, previous));
    }

    /// What the operator's names say of it, the listing adds. A row without an id that names its computer and when it began is
    /// known by these.
    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        const FIELDS: [&str; 5] =
            ["organizationId", "organizationName", "computerId", "startDateTime", "maintenanceTypeId"];
        let [owner, owner_name, computer, start, kind] = fields(row, &FIELDS)?;
        let (computer, at) = (id(computer), time(start));
        let content = match (&computer, at) {
            (Some(computer), Some(at)) => {
                let kind = text(kind).unwrap_or_default();
                digest(&[folded(computer).as_bytes(), kind.as_bytes(), &at.to_be_bytes()])
            }
            _ => [0; 16],
        };
        Ok(RowKey {
            organization_name: text(owner_name),
            content,
            computer,
            at,
            ..RowKey::nobody(organization(owner))
        })
    }

    fn lasting(&self, row: &str, now: Micros) -> Lasting {
        Remediations.lasting(row, now)
    }
}
