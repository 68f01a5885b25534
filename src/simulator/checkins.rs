//! The check-ins of computers (contract section 2.3): a full one every few hours, and heartbeats between them.

use uuid::Uuid;

use super::computers::Computer;
use super::dice::mix;
use super::text::{Object, Spelling};
use crate::model::{Micros, SECOND};

const HOUR: Micros = 3_600 * SECOND;
/// From one to the next, and how many of them are a full one.
const EVERY: Micros = HOUR;
const FULL_IN: i64 = 3;
/// How far back the portal knows.
const KEPT: Micros = 40 * 24 * HOUR;

/// One check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkin {
    /// Beyond 2^53, which a float does not hold.
    pub id: u64,
    /// None of some, which say that it was in the year 1.
    pub at: Option<Micros>,
    pub is_heartbeat: bool,
    number: u64,
}

impl Computer {
    /// The check-ins that are listed, the newest first. Some reach the portal hours after they were.
    pub fn checkins(&self, now: Micros) -> Vec<Checkin> {
        let phase = i64::try_from(mix(self.number ^ 0xc4ec) % 3_600).expect("below 3600") * SECOND;
        let first = (self.added.max(now - KEPT) - phase).div_euclid(EVERY) + 1;
        let last = (now - phase).div_euclid(EVERY);
        let made = (first..=last).map(|place| {
            let number = mix(self.number.wrapping_mul(1 << 32) ^ u64::try_from(place).unwrap_or_default());
            let at = place * EVERY + phase;
            let listed_from = if number % 11 == 3 { at + 5 * HOUR } else { at };
            let one = Checkin {
                id: (1 << 53) + 1 + (self.number << 24) + u64::try_from(place).unwrap_or_default(),
                at: (number % 61 != 7).then_some(at),
                is_heartbeat: place % FULL_IN != 0,
                number,
            };
            (listed_from, one)
        });
        let mut listed: Vec<Checkin> =
            made.filter(|(listed_from, _)| *listed_from <= now).map(|(_, one)| one).collect();
        listed.reverse();
        listed
    }
}

impl Checkin {
    pub(super) fn write(&self, computer: Uuid, owner: Uuid, out: &mut String) {
        let mut object = Object::start(out);
        object.value("computerCheckinId", self.id).text("organizationId", owner);
        // Some rows do not repeat what was asked for.
        if !self.number.is_multiple_of(5) {
            object.text("computerId", computer);
        }
        match self.at {
            Some(at) => object.time("dateTime", at, Spelling::any(self.number)),
            None => object.text("dateTime", "0001-01-01T00:00:00"),
        };
        if self.number.is_multiple_of(3) {
            object.members(r#""memoryUsage":0,"memoryUsageUnit":"","driverStatus":null,"tlVersion":null,"operatingSystem":null,"localIPAddresses":null"#);
        } else {
            object.members(r#""memoryUsage":142.5,"memoryUsageUnit":"MB","driverStatus":"Active","tlVersion":"9.11.4","coreCount":8,"operatingSystem":"Windows 11 Pro","localIPAddresses":["198.51.100.21"]"#);
        }
        object.text("ipAddress", "192.0.2.17");
        object.end();
    }
}
