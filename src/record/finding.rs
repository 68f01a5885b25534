//! A threat that the portal found.

use uuid::Uuid;

use super::event::Event;
use super::row::Field;

/// One finding, with the event by which it was found. What is absent, the row does not say.
#[derive(Debug)]
pub struct Finding<'a> {
    /// What happened, to what and by whom; its severity is that of the threat.
    pub event: Event<'a>,
    /// The portal's word for the severity.
    pub level: Option<Field<'a>>,
    /// What engines think of the file: JSON of any shape.
    pub ratings: Option<Field<'a>>,
    /// What the portal notes on it.
    pub notes: Option<Field<'a>>,
    /// The uid of the same row's event, as the unified audit gives it.
    pub tells_of: Option<Uuid>,
    /// It was told before, and something of it is different.
    pub is_update: bool,
}
