//! ECS, the Elastic Common Schema: one nested object a record, in the field names of release 9.
//!
//! An index refuses a whole document for one value of a wrong shape, so a value stands under one of the schema's
//! names only if it has that field's shape; all else of the row stands under `threatlocker`.
//!
//! `ecs/class.rs` says which action has which category and type, as a table; `front.rs` writes what all records
//! share, `objects.rs` what several do, `event.rs`, `device.rs` and `entity.rs` the rest, `rest.rs` what the schema has no
//! name for.

mod approval;
mod class;
mod device;
mod entity;
mod event;
mod front;
mod objects;
mod remediation;
mod rest;

use super::out::Out;
use crate::format::{self, Origin};
use crate::record::enrichment::Enrichment;
use crate::record::row::Field;
use crate::record::{About, Record};

/// What is the same for every object of a record.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
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

/// Writes the members of one record. The time of collection must be one that RFC 3339 can say.
pub(crate) fn write(out: &mut impl Out, context: &format::Context<'_>, record: &Record<'_>) {
    let format::Context { origin, known, row: raw } = *context;
    let context = &Context { origin, known, raw, record };
    match &record.about {
        About::Event(event) => event::write(out, context, event),
        About::Finding(finding) => event::write_finding(out, context, finding),
        About::Device(device) => device::write(out, context, device),
        About::Change(change) => device::write_change(out, context, change),
        About::Approval(request) => approval::write(out, context, request),
        About::Remediation(remediation) => remediation::write(out, context, remediation),
        About::Entity(entity) => entity::write(out, context, entity),
        About::Row(report) => event::write_row(out, context, *report),
    }
}
