//! Devices without an agent that are seen on networks and go away again, and their rows (contract section 2.3).

use super::dice::{Dice, mix};
use super::story::Story;
use super::text::{Object, Spelling};
use super::world::WorldOptions;
use crate::model::{Micros, SECOND};

/// The things of such a device that change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub group: Option<&'static str>,
    pub address: Option<String>,
    pub removed: bool,
}

/// A device and its history.
#[derive(Clone, Debug)]
pub struct OnlineDevice {
    number: u64,
    pub organization: u16,
    /// As it stands in JSON, escapes included; some have none.
    pub name: Option<String>,
    /// Another one beside it has the same name: these two stay as they are.
    pub is_twin: bool,
    pub story: Story<State>,
}

const GROUPS: [Option<&str>; 4] = [None, Some(""), Some("Büro"), Some("Lager")];

impl OnlineDevice {
    fn new(number: u64, organization: u16, seen: Micros) -> Self {
        // Of each ten one has no name, one shares its name with the one before, and one has no address.
        let (ten, unit) = (number / 10, number % 10);
        let name = match unit {
            1 => None,
            3 | 4 => Some(format!("DESKTOP-{ten:04}")),
            5 => Some(format!(r#"unbekannt-🖨 \"{ten}\""#)),
            6 => Some(format!(" nas-{ten} ")),
            _ => Some(format!("Drucker-EG-{number}")),
        };
        let address = format!("198.51.{}.{}", number / 250 % 250, number % 250 + 1);
        let address = (unit != 7).then_some(address);
        let group = GROUPS[usize::try_from(mix(number) % 4).expect("below 4")];
        let story = Story::new(seen, State { group, address, removed: false });
        Self { number, organization, name, is_twin: matches!(unit, 3 | 4), story }
    }

    /// What tells it from the others of its organization: its name, its address where it has none, both where another
    /// one has the same name.
    pub fn id(&self, state: &State) -> String {
        let address = state.address.clone().unwrap_or_default();
        let Some(name) = &self.name else { return address };
        let name: String = serde_json::from_str(&format!("\"{name}\"")).expect("as it stands in JSON");
        let name = name.trim().to_lowercase();
        if self.is_twin { format!("{name}/{address}") } else { name }
    }

    /// Appends the row as it is at a moment. When it was seen last moves all the time.
    pub fn write(&self, now: Micros, out: &mut String) {
        let Some(state) = self.story.at(now) else { return };
        let mut object = Object::start(out);
        object.maybe("computerName", self.name.as_ref());
        if !self.number.is_multiple_of(4) {
            object.maybe("computerGroupName", state.group);
        }
        match self.number % 9 {
            0 => object.text("lastCheckin", "0001-01-01T00:00:00"),
            1 => object.value("lastCheckin", "null"),
            _ => object.time("lastCheckin", now - now.rem_euclid(SECOND), Spelling::any(self.number)),
        };
        object.maybe("ipAddress", state.address.as_ref());
        object.end();
    }

    /// The group as its row has it.
    pub fn group<'s>(&self, state: &'s State) -> Option<&'s str> {
        state.group.filter(|_| !self.number.is_multiple_of(4))
    }
}

/// All devices, the removed ones too.
#[derive(Clone, Debug)]
pub struct OnlineDevices {
    pub devices: Vec<OnlineDevice>,
    organizations: usize,
}

impl OnlineDevices {
    pub(super) fn new(options: &WorldOptions, organizations: usize, beginning: Micros) -> Self {
        let mut all = Self { devices: Vec::new(), organizations };
        while all.devices.len() < options.online_devices as usize {
            all.add(beginning);
        }
        all
    }

    fn add(&mut self, seen: Micros) {
        let number = self.devices.len() as u64;
        // Those of one name in one organization.
        let place = mix((number / 10) ^ 0x0dd) % self.organizations as u64;
        let organization = u16::try_from(place).expect("fewer organizations than 2^16");
        self.devices.push(OnlineDevice::new(number, organization, seen));
        // Two of one name come together.
        if number % 10 == 3 {
            self.add(seen);
        }
    }

    /// Lets one thing happen to them.
    pub(super) fn change(&mut self, at: Micros, mut dice: Dice) {
        let kind = dice.index(8);
        if kind == 0 || self.devices.is_empty() {
            self.add(at);
            return;
        }
        let index = dice.index(self.devices.len());
        let device = &mut self.devices[index];
        if device.is_twin {
            return;
        }
        let is_named = device.name.is_some();
        let (group, address) = (dice.pick(&GROUPS), format!("203.0.113.{}", dice.below(250)));
        device.story.change(at, |state| match kind {
            1..4 => state.removed = !state.removed,
            4 | 5 if is_named => state.address = Some(address),
            _ => state.group = group,
        });
    }

    /// The devices that the portal shows for an organization at a moment, by their names.
    pub fn listed(&self, now: Micros, organization: u16) -> Vec<&OnlineDevice> {
        let is_there = |device: &&OnlineDevice| device.story.at(now).is_some_and(|state| !state.removed);
        let mut listed: Vec<_> =
            self.devices.iter().filter(|one| one.organization == organization).filter(is_there).collect();
        listed.sort_by_key(|device| (device.name.clone(), device.number));
        listed
    }
}
