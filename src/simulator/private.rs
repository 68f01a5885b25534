//! What the portal's own pages list and no document describes (contract sections 6.1 and 6.3): threats and remediations, in
//! shapes that are invented.

use serde::Serialize;
use uuid::Uuid;

use super::answer::{Content, Row};
use super::maintenance::Maintenance;
use super::stage::Stage;
use super::text::{Object, Spelling, guid};
use super::world::{Source, World, purpose};
use crate::model::{Micros, SECOND};

/// How long a threat is active.
const ACTIVE: Micros = 6 * 3_600 * SECOND;

/// A threat as the tab lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Threat {
    /// None of some, whose rows never change.
    pub id: Option<Uuid>,
    pub organization: u16,
    pub raised: Micros,
    pub severity: Option<&'static str>,
    pub is_cleared: bool,
    number: u64,
}

impl Threat {
    fn of(world: &World, row: &Row) -> Option<Self> {
        let Content::Generated(number) = row.content else { return None };
        let id = guid(world.options.seed, purpose::PRIVATE, number);
        let has_id = !number.is_multiple_of(7);
        Some(Self {
            id: has_id.then_some(id),
            organization: row.organization,
            raised: row.listed_from,
            severity: row.threat.level.map(|(level, _)| level),
            is_cleared: has_id && world.now() >= row.listed_from + ACTIVE,
            number,
        })
    }

    /// The row. How often it was looked at moves all the time.
    pub fn text(&self, world: &World) -> String {
        let mut text = String::new();
        self.write(world, &mut text);
        text
    }

    pub(super) fn write(&self, world: &World, out: &mut String) {
        let mut object = Object::start(out);
        if let Some(id) = self.id {
            object.text(if self.number.is_multiple_of(2) { "threatId" } else { "ThreatID" }, id);
            object.text("state", if self.is_cleared { "Cleared" } else { "Active" });
            object.value("views", world.now() / (60 * SECOND) % 1_000);
        }
        // The parent's rows do not say whose they are.
        if self.organization > 0 {
            object.text("organizationId", world.organizations[usize::from(self.organization)].id);
        }
        object.time("raisedAt", self.raised, Spelling::any(self.number));
        object.maybe("threatSeverityLevel", self.severity).text("hostname", "WS-Zoë");
        object.text("fullPath", format_args!(r"c:\\users\\public\\mimikätz-{}.exe", self.number));
        object.end();
    }
}

impl Stage {
    /// The threats of an organization, or of all; the newest first. One in some without an id stands there twice.
    pub fn private_threats(&self, organization: Option<u16>) -> Vec<Threat> {
        let (world, now) = (&self.world, self.world.now());
        let is_one = |row: &&Row| row.threat.is_one(now) && self.dialect().lists(row, now);
        let rows = world.rows(Source::UnifiedAudit).iter().filter(is_one);
        let threats = rows.filter_map(|row| Threat::of(world, row));
        let wanted =
            threats.filter(|one| organization.is_none_or(|organization| one.organization == organization));
        let mut threats: Vec<Threat> = wanted
            .flat_map(|one| {
                let copies = if one.id.is_none() && one.number.is_multiple_of(21) { 2 } else { 1 };
                std::iter::repeat_n(one, copies)
            })
            .collect();
        threats.sort_by_key(|one| std::cmp::Reverse((one.raised, one.number)));
        threats
    }

    /// The remediations of all computers of an organization, or of all.
    pub fn private_remediations(&self, organization: Option<u16>) -> Vec<(u16, Maintenance)> {
        let (seed, now) = (self.world.options.seed, self.world.now());
        let computers = self.world.fleet.computers.iter();
        let wanted =
            computers.filter(|one| organization.is_none_or(|organization| one.organization == organization));
        let each = wanted
            .flat_map(|one| one.maintenances(seed, now).into_iter().map(|done| (one.organization, done)));
        each.filter(|(_, one)| matches!(one.type_id, 14 | 15)).collect()
    }
}

/// Appends the row of a remediation.
pub(super) fn write_remediation(world: &World, organization: u16, one: &Maintenance, out: &mut String) {
    let mut object = Object::start(out);
    object.maybe("remediationId", one.id);
    if organization > 0 {
        object.text("organizationId", world.organizations[usize::from(organization)].id);
    }
    object.text("computerId", one.computer_id).value("maintenanceTypeId", one.type_id);
    object.text("displayName", if one.type_id == 14 { "Isolation" } else { "Lockdown" });
    object.time("startDateTime", one.start, Spelling::Ticks);
    match one.end {
        Some(end) => drop(object.time("endDateTime", end, Spelling::NoZone)),
        None => drop(object.value("endDateTime", "null")),
    }
    object
        .text("addedBy", "ThreatLocker Detect: „Ransomware“")
        .maybe("endedBy", one.end.map(|_| "zoë@example.com"));
    object.text("incident", "INC-7");
    object.end();
}
