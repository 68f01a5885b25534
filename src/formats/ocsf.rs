//! OCSF: one mapping for three versions of the schema, which are strict: a property that a class does not know
//! is an error. Where a class or property does not exist yet, the mapping takes the next best, or leaves the
//! value in `unmapped`; it never changes a version string.
//!
//! `ocsf/class.rs` says which action becomes which class, as a table; `common.rs` writes what all classes
//! share, `objects.rs` what several do, `event.rs`, `finding.rs`, `device.rs` and `entity.rs`
//! the rest of a record.

mod approval;
mod class;
mod common;
mod device;
mod entity;
mod event;
mod finding;
mod objects;
mod remediation;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::out::Out;
use crate::format::{self, Origin};
use crate::record::enrichment::Enrichment;
use crate::record::row::Field;
use crate::record::{About, Record, path};

/// A release of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Version {
    #[serde(rename = "1.3")]
    V1_3,
    #[serde(rename = "1.5")]
    V1_5,
    #[serde(rename = "1.8")]
    V1_8,
}

impl Version {
    pub const ALL: [Self; 3] = [Self::V1_3, Self::V1_5, Self::V1_8];

    /// As in the configuration; never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_3 => "1.3",
            Self::V1_5 => "1.5",
            Self::V1_8 => "1.8",
        }
    }

    /// As in `metadata.version`.
    fn full(self) -> &'static str {
        match self {
            Self::V1_3 => "1.3.0",
            Self::V1_5 => "1.5.0",
            Self::V1_8 => "1.8.0",
        }
    }

    /// The most characters of a text; 1.3 bounds them.
    pub(crate) fn longest_text(self) -> usize {
        match self {
            Self::V1_3 => 65_535,
            Self::V1_5 | Self::V1_8 => usize::MAX,
        }
    }

    /// Whether a text may stand where a host's name is wanted; 1.3 says exactly what that is. The portal also has
    /// addresses of users and free text there.
    fn takes_hostname(self, name: Field<'_>) -> bool {
        let plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.');
        match self {
            Self::V1_3 => path::is_hostname(name.inner()),
            Self::V1_5 | Self::V1_8 => name.inner().chars().all(plain),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| format!("unknown version \"{text}\" of ocsf; known: 1.3, 1.5, 1.8"))
    }
}

/// What is the same for every object of a record.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
    version: Version,
    origin: Origin<'a>,
    known: Enrichment<'a>,
    /// The vendor's row, where it is to be carried.
    raw: Option<&'a str>,
    record: &'a Record<'a>,
}

impl<'a> Context<'a> {
    /// The vendor's name of a field.
    fn name_of(&self, field: Field<'_>) -> &'a str {
        self.record.row.name(field.slot())
    }
}

/// Writes the members of one record.
pub(crate) fn write(
    out: &mut impl Out,
    version: Version,
    context: &format::Context<'_>,
    record: &Record<'_>,
) {
    let format::Context { origin, known, row: raw } = *context;
    let context = &Context { version, origin, known, raw, record };
    match &record.about {
        About::Event(event) => event::write(out, context, event),
        About::Finding(finding) => finding::write(out, context, finding),
        About::Device(device) => device::write(out, context, device),
        About::Change(change) => device::write_change(out, context, change),
        About::Approval(request) => approval::write(out, context, request),
        About::Remediation(remediation) => remediation::write(out, context, remediation),
        About::Entity(entity) => entity::write(out, context, entity),
        About::Row(report) => event::write_row(out, context, *report),
    }
}
