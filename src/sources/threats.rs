//! Threats: rows of the unified audit that tell of files known to be bad, and rows with a level of severity.
//!
//! No public endpoint lists the portal's tab of threats (contract section 6.1). These rows are asked of the
//! unified audit with `showKnownThreatsOnly`; those that the unified audit lists with a severity are entered
//! with its pages ([`Source::also`]), under the same key. So a row is one finding, whichever query lists it first.

mod read;

pub(super) use self::read::read;
use serde_json::{Value, json};

use crate::model::{Entry, Kind};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Query, Rejected, RowKey, Shape, Source};
use crate::sources::unified_audit::{self, ACTION_LOG, ACTION_TYPES};

pub struct Threats;

/// Key in the configuration.
const NAME: &str = "threats";

impl Source for Threats {
    fn name(&self) -> &'static str {
        NAME
    }

    fn shape(&self) -> Shape {
        Shape::Window { splits: &ACTION_TYPES, has_imported: true }
    }

    fn kind(&self) -> Kind {
        Kind::Event
    }

    /// That of the endpoint that is asked; "View ThreatLocker threats" is one of the tab (contract section 1.8).
    fn permission(&self) -> &'static str {
        "View Unified Audit"
    }

    fn part(&self) -> u8 {
        ACTION_LOG
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::ActionLogByParameters)
    }

    fn body(&self, query: &Query) -> Value {
        let mut body = unified_audit::body(query);
        body["showKnownThreatsOnly"] = json!(true);
        body
    }

    fn names(&self) -> &'static Names {
        &unified_audit::NAMES
    }

    fn examples(&self) -> Vec<String> {
        unified_audit::examples()
    }

    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        _previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    ) {
        emit(read(entry, row));
    }

    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        unified_audit::key(row)
    }
}
