//! A device as it is now, and what became different on it.

use super::event::Severity;
use super::row::{Field, Flag, Integer};
use crate::model::{Change, Micros};

/// A device. What is absent, the row does not say.
#[derive(Debug)]
pub struct Device<'a> {
    /// Why there is a record of it.
    pub change: Change,
    /// What the record tells of, where it is not the device as it is now.
    pub checkin: Option<Checkin<'a>>,
    /// Whether it has an agent.
    pub is_managed: bool,
    pub id: Option<Field<'a>>,
    pub hostname: Option<Field<'a>>,
    /// The name under which it is shown.
    pub name: Option<Field<'a>>,
    pub platform: Option<Platform<'a>>,
    /// The vendor's text, such as "Windows 11 Pro".
    pub os: Option<Field<'a>>,
    pub organization: Option<Field<'a>>,
    pub organization_name: Option<Field<'a>>,
    pub group_id: Option<Field<'a>>,
    pub group: Option<Field<'a>>,
    /// From where it last spoke to the portal; of a device without an agent its own.
    pub address: Option<Field<'a>>,
    /// Its own addresses, as a JSON list of texts.
    pub local_addresses: Option<Field<'a>>,
    pub serial: Option<Field<'a>>,
    /// Six pairs of hexadecimal digits.
    pub mac: Option<Field<'a>>,
    pub last_seen: Option<Time<'a>>,
    pub first_seen: Option<Time<'a>>,
    pub agent_version: Option<Field<'a>>,
    pub service_version: Option<Field<'a>>,
    /// How strictly the agent guards it, and what the row says of that: what is off, until when, what is learned.
    pub mode: Option<Field<'a>>,
    pub mode_facts: [Option<Field<'a>>; 22],
    /// Who was last logged in.
    pub user: Option<Field<'a>>,
}

/// A moment at which a device spoke to the portal.
#[derive(Debug)]
pub struct Checkin<'a> {
    pub id: Option<Field<'a>>,
    pub time: Option<Field<'a>>,
    /// The id of the computer that was asked about.
    pub computer_id: Option<&'a str>,
}

/// A time of the row.
#[derive(Clone, Copy, Debug)]
pub struct Time<'a> {
    pub at: Micros,
    pub field: Field<'a>,
}

/// The vendor's number for an operating system.
#[derive(Clone, Copy, Debug)]
pub struct Platform<'a> {
    pub family: Family,
    pub field: Integer<'a>,
}

/// A family of operating systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Windows,
    MacOs,
    Linux,
    Other,
}

/// What became different on a device, found by comparing its row with the one before.
#[derive(Debug)]
pub struct DeviceChange<'a> {
    pub id: Option<Field<'a>>,
    pub hostname: Option<Field<'a>>,
    pub name: Option<Field<'a>>,
    pub organization: Option<Field<'a>>,
    /// Whether it has an agent.
    pub is_managed: bool,
    /// Of a device without an agent.
    pub address: Option<Field<'a>>,
    pub what: Difference<'a>,
}

/// One thing that became different.
#[derive(Clone, Copy, Debug)]
pub enum Difference<'a> {
    /// The portal lists it, and did not before.
    Added,
    /// The portal lists it no more.
    Removed,
    /// How strictly it is guarded.
    Mode { before: Option<Field<'a>>, after: Option<Field<'a>> },
    /// A protection or restriction went on or off.
    Switch { what: Switch, before: Option<Flag<'a>>, after: Flag<'a> },
    /// Something that is set for its agent, by the members that tell of it.
    Setting { what: Setting, members: [Compared<'a>; Setting::MEMBERS] },
}

/// A member of a row, as it was and as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared<'a> {
    pub name: &'a str,
    pub before: Option<Field<'a>>,
    pub after: Option<Field<'a>>,
}

impl Difference<'_> {
    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match self {
            Difference::Switch { what: Switch::TamperProtection, after, .. } if after.value => Severity::High,
            _ => Severity::Informational,
        }
    }
}

/// What can be on or off on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Cut off from the network.
    Isolation,
    /// Nothing may run.
    Lockdown,
    /// What runs is learned, not judged.
    Learning,
    /// The agent guards itself.
    TamperProtection,
}

/// What can be set for the agent of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// By which proxy it speaks to the portal.
    Proxy,
    Options,
}

impl Setting {
    /// Members that tell of one at most.
    pub const MEMBERS: usize = 4;

    /// Part of the record's uid; never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Options => "options",
        }
    }
}

impl Switch {
    pub const ALL: [Self; 4] = [Self::Isolation, Self::Lockdown, Self::Learning, Self::TamperProtection];

    /// Part of the record's uid; never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Isolation => "isolation",
            Self::Lockdown => "lockdown",
            Self::Learning => "learning",
            Self::TamperProtection => "tamper_protection",
        }
    }
}
