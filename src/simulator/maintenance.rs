//! The maintenances of computers (contract section 6.3): whatever was done to one leaves a row in its history.

use serde::Serialize;
use uuid::Uuid;

use super::computers::{Computer, State};
use super::dice::mix;
use super::text::{Object, Spelling, guid};
use super::world::purpose;
use crate::model::{Micros, SECOND};

/// One maintenance, as it is at some moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Maintenance {
    pub computer_id: Uuid,
    /// None in some rows.
    pub id: Option<Uuid>,
    pub type_id: u8,
    pub start: Micros,
    /// When it ended; none while it lasts.
    pub end: Option<Micros>,
    /// Nobody ended it: its time had come, which its row told from the start.
    pub planned: bool,
    number: u64,
}

const NAMES: [(u8, &str); 5] =
    [(1, "Monitor Only"), (2, "Installation"), (3, "Learning"), (14, "Isolation"), (15, "Lockdown")];

/// What of a state is a maintenance.
fn lasting(state: &State) -> impl Iterator<Item = u8> {
    let mode = match state.mode {
        "MonitorOnly" => Some(1),
        "Installation" => Some(2),
        "Learning" => Some(3),
        _ => None,
    };
    mode.into_iter().chain(state.isolated.then_some(14)).chain(state.locked.then_some(15))
}

impl Computer {
    /// Every maintenance that began until `now`, the newest first.
    pub fn maintenances(&self, seed: u64, now: Micros) -> Vec<Maintenance> {
        let mut all: Vec<Maintenance> = Vec::new();
        for (at, state) in self.history(now) {
            let wanted: Vec<u8> = lasting(&state).collect();
            for open in all.iter_mut().filter(|one| one.end.is_none() && !wanted.contains(&one.type_id)) {
                open.end = Some(at);
            }
            for type_id in wanted {
                if all.iter().any(|one| one.end.is_none() && one.type_id == type_id) {
                    continue;
                }
                let number = mix(self.number ^ mix(all.len() as u64));
                let id = guid(seed, purpose::MAINTENANCE, self.number * 4_096 + all.len() as u64);
                all.push(Maintenance {
                    computer_id: self.id,
                    id: (!number.is_multiple_of(7)).then_some(id),
                    type_id,
                    start: at,
                    end: None,
                    planned: false,
                    number,
                });
            }
        }
        for one in &mut all {
            one.planned = one.number.is_multiple_of(5) && one.end.is_some();
        }
        all.reverse();
        all
    }
}

impl Maintenance {
    /// The row.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    pub(super) fn write(&self, out: &mut String) {
        let name = NAMES.iter().find(|(type_id, _)| *type_id == self.type_id).map(|(_, name)| *name);
        let mut object = Object::start(out);
        object.maybe("maintenanceModeId", self.id);
        if self.number.is_multiple_of(2) {
            object.text("computerId", self.computer_id);
        }
        object.value("maintenanceTypeId", self.type_id).maybe("displayName", name);
        object.time("startDateTime", self.start, Spelling::any(self.number));
        match (self.end, self.number % 3) {
            (Some(end), _) => drop(object.time("endDateTime", end, Spelling::any(self.number >> 3))),
            (None, 0) => drop(object.value("endDateTime", "null")),
            (None, 1) => drop(object.text("endDateTime", "0001-01-01T00:00:00")),
            // It is to end long after any maintenance of the played world does.
            (None, _) => drop(object.time("endDateTime", self.start + 30 * 86_400 * SECOND, Spelling::Short)),
        }
        object.maybe("addedBy", (!self.number.is_multiple_of(4)).then_some("admin@example.com"));
        let ended_by = self.end.filter(|_| !self.planned).map(|_| "zoë@example.com");
        object.maybe("endedBy", ended_by);
        object.end();
    }
}
