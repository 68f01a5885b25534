//! Threats as the portal's own tab of them lists them, from an endpoint that the vendor does not publish (contract section
//! 6.1, point 3): an operator who has seen it names it.
//!
//! The members of a row are read where they are called as in the unified audit; all others are delivered as they are.
//! [`Private`](crate::source::Private) says what a row is called.

use serde_json::Value;

use crate::model::{Entry, Kind};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Query, Rejected, RowKey, Shape, Source};
use crate::sources::{threats, unified_audit};

pub struct PrivateThreats;

impl Source for PrivateThreats {
    fn name(&self) -> &'static str {
        "private_threats"
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
        "View ThreatLocker threats"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        None
    }

    fn body(&self, _query: &Query) -> Value {
        Value::Null
    }

    fn names(&self) -> &'static Names {
        &unified_audit::NAMES
    }

    fn examples(&self) -> Vec<String> {
        vec![include_str!("private_threats/example.json").to_owned()]
    }

    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        _previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    ) {
        emit(threats::read(entry, row));
    }

    /// What the operator's names say of it, the listing adds. Whom such a row names need not be a computer's user.
    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        let key = unified_audit::key(row)?;
        Ok(RowKey { vendor_id: None, content: [0; 16], user: None, rated: false, ..key })
    }
}
