//! What a row says in our own words: the model between the sources, which read rows, and the formats, which
//! encode records. It knows neither the vendor's names nor those of any schema.
//!
//! Everything borrows from the row. A value that cannot be read is absent here and stays in the row, of which
//! the formats keep all that they have not told.

pub mod approval;
pub mod device;
pub mod enrichment;
pub mod entity;
pub mod event;
pub mod finding;
pub mod path;
pub mod remediation;
pub mod row;
pub mod vendor_fields;

use uuid::Uuid;

use crate::model::{Entry, Kind, Micros};
use approval::Approval;
use device::{Device, DeviceChange};
use entity::Entity;
use event::Event;
use finding::Finding;
use remediation::Remediation;
use row::{Field, Row};

/// One thing that an entry tells. Most entries give one, a changed computer several.
#[derive(Debug)]
pub struct Record<'a> {
    /// The entry's uid, or made from it for what follows from comparing.
    pub uid: Uuid,
    pub kind: Kind,
    /// When it happened, as far as the row says so.
    pub time: Option<Micros>,
    /// The row that the record is read from.
    pub row: &'a Row<'a>,
    /// Whether the record keeps what remains of the row; of several records of an entry one does.
    pub keeps_rest: bool,
    /// Fields that say the same as another: they count as told when the other is.
    pub repeats: Repeats<'a>,
    pub about: About<'a>,
}

/// Pairs of a field and the one whose text it repeats.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeats<'a>([Option<(Field<'a>, Field<'a>)>; 4]);

impl<'a> Repeats<'a> {
    /// Keeps those pairs that do say the same.
    pub fn of(pairs: [(Option<Field<'a>>, Option<Field<'a>>); 4]) -> Self {
        Self(pairs.map(|(one, other)| one.zip(other).filter(|(one, other)| one.repeats(*other))))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Field<'a>, Field<'a>)> + '_ {
        self.0.iter().copied().flatten()
    }
}

impl<'a> Record<'a> {
    /// The record of an entry that tells of one event.
    pub fn event(entry: &Entry<'a>, row: &'a Row<'a>, event: Event<'a>, repeats: Repeats<'a>) -> Self {
        Self {
            uid: entry.uid,
            kind: Kind::Event,
            time: entry.time,
            row,
            keeps_rest: true,
            repeats,
            about: About::Event(Box::new(event)),
        }
    }
}

/// What a record is about.
#[derive(Debug)]
pub enum About<'a> {
    /// Something that happened once.
    Event(Box<Event<'a>>),
    /// A threat that was found.
    Finding(Box<Finding<'a>>),
    /// A device as it is now.
    Device(Box<Device<'a>>),
    /// What became different on a device.
    Change(Box<DeviceChange<'a>>),
    /// A step in the life of a request for approval.
    Approval(Box<Approval<'a>>),
    /// One moment of a maintenance of a device.
    Remediation(Box<Remediation<'a>>),
    /// Something else that the portal keeps, and what became different about it.
    Entity(Box<Entity<'a>>),
    /// A row of which is known only that it is there, and the report that shows it.
    Row(Option<&'a str>),
}
