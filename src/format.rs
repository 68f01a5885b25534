//! From an entry of the outbox to the bytes that a sink writes.
//!
//! A format is a pure function of the entry, of what its chunk says of it and of what was known at the time: two
//! sinks, or a replay, give the same bytes. It knows neither sinks nor the store.

use std::fmt;
use std::sync::Arc;

use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::formats::ocsf::{self, Version};
use crate::formats::out::Out;
use crate::formats::out::json::JsonOut;
use crate::formats::out::trace::TraceOut;
use crate::formats::{ecs, raw, rfc3339};
use crate::model::{Entry, Kind, Lane, Micros, folded};
use crate::record::approval::Step;
use crate::record::device::Difference;
use crate::record::enrichment::Enrichment;
use crate::record::event::{Action, Severity};
use crate::record::row::{Row, tidy};
use crate::record::{About, Record};
use crate::source;

/// The shape of what a sink receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The vendor's row in an envelope, one JSON line an entry.
    Raw,
    /// OCSF of a version.
    Ocsf {
        version: Version,
        /// Also carry the vendor's row, in `raw_data`.
        row: bool,
    },
    /// The Elastic Common Schema.
    Ecs {
        /// Also carry the vendor's row, in `event.original`.
        row: bool,
    },
}

/// What every entry of a chunk shares.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub site: &'a str,
    pub source: &'a str,
    pub lane: Lane,
    /// When the rows were collected, on the portal's time.
    pub collected: Micros,
}

/// One record that was appended: what a sink may route it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Where it ends, its line feed included.
    pub end: usize,
    pub uid: Uuid,
    pub kind: Kind,
    /// Of an event that was read; the raw format reads none.
    pub severity: Option<Severity>,
    /// When it happened, as far as the row says so.
    pub time: Option<Micros>,
    /// The name of the device that it is about; the raw format reads none.
    pub host: Option<Arc<str>>,
    /// The vendor's id of the computer that it is about, or on which it happened, folded; the raw format reads none.
    pub device: Option<Box<str>>,
    /// Of a kind of row that this version does not know (`unmapped_action_type`).
    pub unknown: bool,
}

/// Leaves of the records that were appended to `out` from `start` on those that are wanted.
pub(crate) fn retain(
    start: usize,
    out: &mut Vec<u8>,
    records: &mut Vec<Encoded>,
    wanted: impl Fn(&Encoded) -> bool,
) {
    let (mut begin, mut end) = (start, start);
    records.retain_mut(|record| {
        let bytes = begin..record.end;
        begin = record.end;
        let wanted = wanted(record);
        if wanted {
            let length = bytes.len();
            out.copy_within(bytes, end);
            end += length;
            record.end = end;
        }
        wanted
    });
    out.truncate(end);
}

/// What the records of one entry share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) origin: Origin<'a>,
    pub(crate) known: Enrichment<'a>,
    /// The vendor's row, where it is to be carried.
    pub(crate) row: Option<&'a str>,
}

/// Why an entry has no encoding; it becomes a dead letter of the sink.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("the {what} is no JSON: {reason}")]
    NotJson { what: &'static str, reason: String },
    #[error("the time of collection ({0} microseconds since 1970) cannot be written as a date")]
    Collected(Micros),
    #[error("this version reads no rows of the source {0}; start the one that collected them")]
    Source(String),
}

impl Format {
    /// What is pinned in the state at first start, and shown; never changes once released.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Ocsf { version: Version::V1_3, .. } => "ocsf 1.3",
            Format::Ocsf { version: Version::V1_5, .. } => "ocsf 1.5",
            Format::Ocsf { version: Version::V1_8, .. } => "ocsf 1.8",
            Format::Ecs { .. } => "ecs",
        }
    }

    /// Every format of a name as it is pinned; `row`: also carry the vendor's row.
    pub fn named(name: &str, row: bool) -> Option<Self> {
        let ocsf = Version::ALL.into_iter().map(|version| Format::Ocsf { version, row });
        ocsf.chain([Format::Raw, Format::Ecs { row }]).find(|format| format.as_str() == name)
    }

    /// Whether records also carry the vendor's row.
    pub fn carries_row(self) -> bool {
        matches!(self, Format::Ocsf { row: true, .. } | Format::Ecs { row: true })
    }

    /// Appends the entry's records to `out`, each ended by a line feed, and says of each what it is. On an error
    /// both are as they were.
    pub fn encode(
        self,
        origin: Origin<'_>,
        entry: &Entry<'_>,
        known: Enrichment<'_>,
        out: &mut Vec<u8>,
        records: &mut Vec<Encoded>,
    ) -> Result<(), FormatError> {
        let before = (out.len(), records.len());
        let result = match self {
            Format::Raw => raw::encode(origin, entry, known, out).map(|()| {
                let (end, uid, kind, time) = (out.len(), entry.uid, entry.kind, entry.time);
                let (severity, host, device) = (None, None, None);
                records.push(Encoded { end, uid, kind, severity, time, host, device, unknown: false });
            }),
            _ => self.read(origin, entry, known, |record, context| {
                let mut json = JsonOut::start(out);
                self.write(&mut json, context, record);
                json.finish();
                records.push(encoded(record, out.len()));
            }),
        };
        if result.is_err() {
            out.truncate(before.0);
            records.truncate(before.1);
        }
        result
    }

    /// What [`Format::encode`] writes for the entry, member by member, and why; of the raw format nothing, since it
    /// reads nothing.
    pub fn trace(
        self,
        origin: Origin<'_>,
        entry: &Entry<'_>,
        known: Enrichment<'_>,
    ) -> Result<Vec<TraceOut>, FormatError> {
        let mut traced = Vec::new();
        self.read(origin, entry, known, |record, context| {
            let mut out = TraceOut::default();
            self.write(&mut out, context, record);
            traced.push(out);
        })?;
        Ok(traced)
    }

    /// Writes the members of one record.
    fn write(self, out: &mut impl Out, context: &Context<'_>, record: &Record<'_>) {
        match self {
            Format::Raw => {}
            Format::Ocsf { version, .. } => ocsf::write(out, version, context, record),
            Format::Ecs { .. } => ecs::write(out, context, record),
        }
    }

    /// Reads the records of an entry.
    fn read(
        self,
        origin: Origin<'_>,
        entry: &Entry<'_>,
        known: Enrichment<'_>,
        mut each: impl FnMut(&Record<'_>, &Context<'_>),
    ) -> Result<(), FormatError> {
        let longest = match self {
            Format::Ocsf { version, .. } => version.longest_text(),
            Format::Raw | Format::Ecs { .. } => usize::MAX,
        };
        if matches!(self, Format::Ecs { .. }) && rfc3339(origin.collected).is_none() {
            return Err(FormatError::Collected(origin.collected));
        }
        let source =
            source::by_name(origin.source).ok_or_else(|| FormatError::Source(origin.source.to_owned()))?;
        let text = tidy(entry.row);
        let row = Row::read(source.names(), &text, longest).map_err(|error| not_json("row", &error))?;
        let former = entry.previous.map(tidy);
        let former = former.as_deref().map(|text| Row::read(source.names(), text, longest)).transpose();
        let former = former.map_err(|error| not_json("previous row", &error))?;
        let context = Context { origin, known, row: self.carries_row().then_some(&text) };
        source.read(entry, &row, former.as_ref(), &mut |record| {
            // What goes on under another id was not added.
            let is_added =
                matches!(&record.about, About::Change(change) if matches!(change.what, Difference::Added));
            if !(is_added && known.replaces.is_some()) {
                each(&record, &context);
            }
        });
        Ok(())
    }
}

fn encoded(record: &Record<'_>, end: usize) -> Encoded {
    let (severity, unknown) = match &record.about {
        About::Event(event) => (Some(event.severity), event.action == Action::Other),
        About::Finding(finding) => (Some(finding.event.severity), false),
        About::Change(change) => (Some(change.what.severity()), false),
        About::Approval(request) => (Some(request.step.severity()), request.step == Step::Other),
        About::Remediation(remediation) => (Some(remediation.severity()), false),
        About::Entity(entity) => (Some(entity.severity), false),
        About::Device(_) | About::Row(_) => (None, false),
    };
    let (host, device) = match &record.about {
        About::Event(event) => (event.host.name, event.host.id),
        About::Finding(finding) => (finding.event.host.name, finding.event.host.id),
        About::Device(device) => (device.hostname, device.id),
        About::Change(change) => (change.hostname, change.id),
        About::Approval(request) => (request.host.name, request.host.id),
        About::Remediation(_) => (None, None),
        About::Entity(_) => (None, None),
        About::Row(_) => (None, None),
    };
    let host = host.map(|host| host.text().into());
    let device = match &record.about {
        About::Remediation(remediation) => remediation.computer_id.map(|id| folded(id).into()),
        _ => device.map(|id| folded(&id.text()).into()),
    };
    Encoded { end, uid: record.uid, kind: record.kind, severity, time: record.time, host, device, unknown }
}

/// One row that is no JSON would make its line, and for some readers the file, unreadable.
pub(crate) fn check(what: &'static str, json: &str) -> Result<(), FormatError> {
    serde_json::from_str::<IgnoredAny>(json).map(drop).map_err(|error| not_json(what, &error))
}

pub(crate) fn not_json(what: &'static str, error: &serde_json::Error) -> FormatError {
    FormatError::NotJson { what, reason: error.to_string() }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
