//! Something that the portal keeps, such as a policy or an organization, and what became different about it.

use super::event::Severity;
use super::row::{Field, Row, Slot, Slots};
use crate::model::Change;

/// One thing that the portal keeps. What is absent, the row does not say.
#[derive(Debug)]
pub struct Entity<'a> {
    pub kind: EntityKind,
    /// Why there is a record of it.
    pub change: Change,
    pub id: Option<Field<'a>>,
    pub name: Option<Field<'a>>,
    pub description: Option<Field<'a>>,
    /// The id of the organization that has it, and that one's name.
    pub organization: Option<Field<'a>>,
    pub organization_name: Option<Field<'a>>,
    /// Of a policy, the group of computers at which it stands.
    pub group: Option<Field<'a>>,
    pub group_id: Option<Field<'a>>,
    /// What else the row says of it: every one of these members.
    pub facts: &'static [Slot],
    pub severity: Severity,
    /// The fields by which the severity was judged.
    pub severity_from: Slots,
    /// Of a change, what became different.
    pub differences: Vec<Member<'a>>,
}

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntityKind {
    Policy,
    Organization,
}

/// A member that differs from the row before.
#[derive(Debug)]
pub struct Member<'a> {
    /// The vendor's name of it, as JSON text without quotes.
    pub name: &'a str,
    /// Its JSON text then and now; none where the row did not have it.
    pub before: Option<&'a str>,
    pub after: Option<&'a str>,
}

/// The members in which two rows of one thing differ, but for those that change by themselves.
pub fn differences<'a>(before: &'a Row<'a>, after: &'a Row<'a>, volatile: &[&str]) -> Vec<Member<'a>> {
    let names = after.names().all();
    let counts = |name: &str| !volatile.iter().any(|one| one.eq_ignore_ascii_case(name));
    let known = names
        .iter()
        .zip(0..)
        .filter(|(name, _)| counts(name))
        .map(|(name, slot)| (*name, before.get(slot).map(Field::raw), after.get(slot).map(Field::raw)));
    let find =
        |row: &'a Row<'a>, key: &str| row.rest().iter().find(|rest| rest.key == key).map(|rest| rest.raw);
    let now = after.rest().iter().map(|rest| (&*rest.key, find(before, &rest.key), Some(rest.raw)));
    let gone = before.rest().iter().filter(|rest| find(after, &rest.key).is_none());
    let gone = gone.map(|rest| (&*rest.key, Some(rest.raw), None));
    known
        .chain(now)
        .chain(gone)
        .filter(|(_, before, after)| before != after)
        .map(|(name, before, after)| Member { name, before, after })
        .collect()
}
