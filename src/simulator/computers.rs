//! Computers whose mode, user and version change, and their rows (contract section 2.1).

use std::collections::BTreeMap;

use uuid::Uuid;

use super::dialect::DAY;
use super::dice::{Dice, mix};
use super::text::{Object, Spelling, guid};
use super::world::{Organization, WorldOptions, purpose};
use crate::model::{Micros, SECOND};

/// The things of a computer that change and that a collector should notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub mode: &'static str,
    /// As it stands in JSON.
    pub user: Option<&'static str>,
    pub minor: i64,
    pub removed: bool,
    pub isolated: bool,
    pub locked: bool,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    Mode(&'static str),
    User(Option<&'static str>),
    Version(i64),
    Removed(bool),
    Isolated(bool),
    Locked(bool),
}

/// A computer and its history.
#[derive(Clone, Debug)]
pub struct Computer {
    pub number: u64,
    pub id: Uuid,
    pub name: String,
    pub organization: u16,
    pub os_type: u8,
    pub added: Micros,
    first: State,
    /// By time; several changes of one moment keep their order.
    changes: BTreeMap<(Micros, u32), Patch>,
}

const MODES: [&str; 4] = ["Secure", "Learning", "MonitorOnly", "Installation"];
const USERS: [Option<&str>; 6] = [
    Some(r"EXAMPLE\\a.muster"),
    Some(r"EXAMPLE\\b.tester"),
    Some(r"AzureAD\\Zoë Žukauskaitė"),
    Some("d.sample"),
    Some(""),
    None,
];

impl Computer {
    fn new(seed: u64, number: u64, organization: u16, added: Micros) -> Self {
        let mut dice = Dice::new(seed, purpose::COMPUTER, number);
        let prefix = dice.pick(&["WS", "SRV", "NB", "Zoë’s MacBook – 東京"]);
        Self {
            number,
            id: guid(seed, purpose::COMPUTER, number),
            name: format!("{prefix}-{number:05}"),
            organization,
            os_type: dice.pick(&[1, 1, 1, 1, 2, 3, 7]),
            added,
            first: State {
                mode: if dice.chance(0.8) { MODES[0] } else { MODES[1] },
                user: dice.pick(&USERS),
                minor: 10 + dice.below(3),
                removed: false,
                isolated: false,
                locked: false,
            },
            changes: BTreeMap::new(),
        }
    }

    /// Adds a change, which may lie in the past or the future.
    pub fn patch(&mut self, at: Micros, patch: Patch) {
        let place = self.changes.range((at, 0)..=(at, u32::MAX)).next_back().map_or(0, |((_, n), _)| n + 1);
        self.changes.insert((at, place), patch);
    }

    /// What it is at a moment; nothing before it was added.
    pub fn state(&self, now: Micros) -> Option<State> {
        let changes = self.changes.range(..=(now, u32::MAX));
        (self.added <= now).then(|| {
            let mut state = self.first.clone();
            changes.for_each(|(_, patch)| state.apply(*patch));
            state
        })
    }

    /// Every state that a reader could have seen until `now`, with the moment it began. What happens to a
    /// removed computer cannot be seen.
    pub fn history(&self, now: Micros) -> Vec<(Micros, State)> {
        let Some(mut state) = self.state(self.added) else { return Vec::new() };
        if self.added > now {
            return Vec::new();
        }
        let mut history = vec![(self.added, state.clone())];
        for ((at, _), patch) in self.changes.range((self.added, 0)..=(now, u32::MAX)) {
            state.apply(*patch);
            match history.last_mut() {
                Some(last) if last.0 == *at => last.1 = state.clone(),
                Some(last) if last.1 == state || (last.1.removed && state.removed) => {}
                _ => history.push((*at, state.clone())),
            }
        }
        history
    }

    pub(super) fn group(&self) -> usize {
        usize::try_from(self.number % 4).expect("below 4")
    }

    /// Computers that check in do so every minute, a few are switched off for good.
    fn last_checkin(&self, now: Micros) -> Micros {
        let phase = i64::try_from(mix(self.number) % 60).expect("below 60") * SECOND;
        let until = if mix(self.number ^ 0xff).is_multiple_of(20) { self.added + 20 * DAY } else { now };
        let until = until.min(now) - phase;
        until - until.rem_euclid(60 * SECOND) + phase
    }

    /// Appends the computer's row at a moment; `total` is what `totalRows` says.
    pub fn write(&self, organization: &Organization, now: Micros, total: usize, seed: u64, out: &mut String) {
        let Some(state) = self.state(now) else { return };
        let checkin = self.last_checkin(now);
        let learning = state.mode == "Learning";
        let denied = mix(self.number ^ u64::try_from(now / (3_600 * SECOND)).unwrap_or(0)) % 9;
        let mut object = Object::start(out);
        object.text("action", state.mode).value("application", "null").value("appliesToType", 3);
        object.text("computerGroupId", guid(seed, purpose::GROUP, self.group() as u64));
        object.text("computerId", self.id).time("dateAdded", self.added, Spelling::NoZone);
        object.maybe("driverStatusString", (self.os_type != 3).then_some("Active"));
        object.text("group", ["Workstations", "Servers", "macOS 全体", "Linux Servers"][self.group()]);
        object.text("hostname", &self.name).time("lastCheckin", checkin, Spelling::any(self.number));
        object.text("lastCheckinIPAddress", format_args!("192.0.2.{}", self.number % 250));
        object.text("computerName", &self.name);
        object.text(
            "operatingSystem",
            match self.os_type {
                1 => "Windows 11 Pro",
                2 => "macOS 15.3.1 (24D70)",
                3 => "Ubuntu 24.04.1 LTS",
                _ => "Red Hat Enterprise Linux 6",
            },
        );
        object.text("organization", &organization.name).text("organizationId", organization.id);
        object.value("osType", self.os_type).text("threatLockerVersion", format_args!("9.{}.4", state.minor));
        object.text("threatLockerVersionId", guid(seed, purpose::GROUP, 100 + state.minor.unsigned_abs()));
        object.members(r#""newThreatLockerVersion":"","uploadBaseFile":false,"restartComputerNeeded":false"#);
        object.text("serviceVersion", format_args!("9.{}.4.2210", state.minor)).value("shouldRestart", false);
        object.text("serialNumber", format_args!("EX{:06}SN", self.number));
        let maintenance = match (state.isolated, state.locked, learning) {
            (true, ..) => 14,
            (_, true, _) => 15,
            (_, _, true) => 3,
            _ => 0,
        };
        object.value("maintenanceTypeId", maintenance);
        object.members(r#""isTamperProtectionDisabled":false,"isLearningMoreThanFourDays":false"#);
        object.text("mode", state.mode).value("versionMajor", 9).value("versionMinor", state.minor);
        object.members(concat!(
            r#""isLockDownMode":false,"isOpsAlertsDisabled":false,"isIsolationMode":false,"#,
            r#""isLearningModeMoreThanSeven":false,"isLearningModeLongerThanFiveYears":false,"#,
            r#""maintenanceEndDate":null,"ipOperatingSystem":null,"hasComputerPassword":false,"#,
            r#""hasAtLeastOneCheckin":true,"hasInstalationAtLeastSevenDaysAgo":true,"isReadyToSecure":false,"#,
            r#""isNeededReview":false,"hasZeroDeniesFourDays":true"#
        ));
        object.value("progressBarLearning", if learning { 42.5 } else { 0.0 });
        object.value("lastCheckinLocalIPAddresses", format_args!(r#"["198.51.100.{}"]"#, self.number % 250));
        object.value("denyCountOneDay", denied).value("denyCountThreeDays", denied + 2);
        object.value("denyCountSevenDays", denied + 5).value("totalRows", total);
        object.members(r#""isInheritFromGroup":true,"hasUnknownVersion":false"#);
        object.value("isIsolated", state.isolated).value("isLockedOut", state.locked);
        object.members(r#""hasConfigManagerProduct":true,"maintenenceBannerIds":[]"#);
        object.text("targetThreatLockerVersion", format_args!("9.{}.4", state.minor));
        object.value("isDeleted", state.removed).maybe("username", state.user);
        object.time("fullCheckinDateTime", checkin, Spelling::Ticks);
        object.text("fullCheckinMemoryUsage", format_args!("{}.5 MB", 100 + denied));
        object.text("fullCheckinIPAddress", format_args!("192.0.2.{}", self.number % 250));
        object.value("isElevated", false).value("appControlLearningModeActive", learning);
        object.members(concat!(
            r#""activeMaintenanceModes":[],"maintenanceTicketRequiredParameter":null,"maintenanceCapabilities":"#,
            r#"{"applicationControl":true,"networkControl":true,"storageControl":true,"elevation":true,"#,
            r#""tamper":true,"detect":true}"#
        ));
        object.end();
    }
}

impl State {
    fn apply(&mut self, patch: Patch) {
        match patch {
            Patch::Mode(mode) => self.mode = mode,
            Patch::User(user) => self.user = user,
            Patch::Version(minor) => self.minor = minor,
            Patch::Removed(removed) => self.removed = removed,
            Patch::Isolated(isolated) => self.isolated = isolated,
            Patch::Locked(locked) => self.locked = locked,
        }
    }
}

/// All computers, the removed ones too.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub computers: Vec<Computer>,
    seed: u64,
    organizations: usize,
    /// The computers there from the start, by organization: events name only these, so that an event
    /// says the same whatever happens to the fleet.
    working: Vec<Vec<usize>>,
}

impl Fleet {
    pub(super) fn new(options: &WorldOptions, organizations: usize, beginning: Micros) -> Self {
        let mut fleet = Self {
            computers: Vec::new(),
            seed: options.seed,
            organizations,
            working: vec![Vec::new(); organizations],
        };
        for number in 0..options.computers {
            let added = beginning - (30 + Micros::from(number % 200)) * DAY;
            let organization = fleet.place(u64::from(number));
            let index = fleet.add(organization, added);
            fleet.working[usize::from(organization)].push(index);
        }
        fleet
    }

    /// Adds a computer and answers its index.
    pub fn add(&mut self, organization: u16, added: Micros) -> usize {
        let number = self.computers.len() as u64;
        self.computers.push(Computer::new(self.seed, number, organization, added));
        self.computers.len() - 1
    }

    /// A computer that an event of an organization can have happened on.
    pub(super) fn working_in(&self, organization: u16, dice: &mut Dice) -> Option<&Computer> {
        let working = self.working.get(usize::from(organization))?;
        let index = dice.index(working.len());
        working.get(index).map(|&index| &self.computers[index])
    }

    /// Lets one thing happen to the fleet.
    pub(super) fn change(&mut self, at: Micros, mut dice: Dice) {
        let kind = dice.index(20);
        if kind == 0 || self.computers.is_empty() {
            self.add(self.place(dice.roll()), at);
            return;
        }
        let index = dice.index(self.computers.len());
        let computer = &mut self.computers[index];
        match kind {
            1 => computer.patch(at, Patch::Removed(true)),
            2 => computer.patch(at, Patch::Version(10 + dice.below(6))),
            3..8 => computer.patch(at, Patch::User(dice.pick(&USERS))),
            8 => {
                let (begun, ended) = match dice.chance(0.6) {
                    true => (Patch::Isolated(true), Patch::Isolated(false)),
                    false => (Patch::Locked(true), Patch::Locked(false)),
                };
                computer.patch(at, begun);
                computer.patch(at + (600 + dice.below(7_200)) * SECOND, ended);
            }
            _ => {
                // Back to where it was, so that equal states come more than once.
                let mode = computer.state(at).map_or(MODES[0], |state| state.mode);
                computer.patch(at, Patch::Mode(dice.pick(&MODES)));
                computer.patch(at + (600 + dice.below(7_200)) * SECOND, Patch::Mode(mode));
            }
        }
    }

    /// The computers that the portal knows at a moment, by name.
    pub fn listed(&self, now: Micros, organization: Option<u16>, with_removed: bool) -> Vec<&Computer> {
        let mut listed: Vec<_> = self
            .computers
            .iter()
            .filter(|computer| organization.is_none_or(|wanted| wanted == computer.organization))
            .filter(|computer| computer.state(now).is_some_and(|state| with_removed || !state.removed))
            .collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed
    }

    fn place(&self, number: u64) -> u16 {
        u16::try_from(mix(number) % self.organizations as u64).expect("fewer organizations than 2^16")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computer_goes_back_to_the_state_it_had() {
        let mut computer = Computer::new(1, 1, 0, 0);
        computer.patch(10, Patch::Mode("Installation"));
        computer.patch(20, Patch::Mode(computer.first.mode));
        computer.patch(30, Patch::Removed(true));
        computer.patch(40, Patch::Mode("Installation"));
        computer.patch(50, Patch::Removed(false));
        let history = computer.history(100);
        assert_eq!(history.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 10, 20, 30, 50]);
        assert_eq!(history[0].1, history[2].1);
        assert!(computer.state(30).unwrap().removed);
        assert!(computer.state(-1).is_none());
    }
}
