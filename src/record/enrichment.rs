//! What is known besides the row, as of the entry's number: the device's last state and its last user.
//!
//! Collecting notes what rows tell of computers ([`Sighting`]), and stores with each entry what was known of its
//! own ([`Known`]), in the transaction that numbers it.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::model::Micros;

/// What an entry's records may be completed with. The row's own word always comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Enrichment<'a> {
    /// The device on which it happened, as it last was.
    pub device: Option<KnownDevice<'a>>,
    /// Who was last logged in to it.
    pub user: Option<LastUser<'a>>,
    /// The device of a report that goes on as this one.
    pub replaces: Option<Replaced<'a>>,
    /// The applications that match a request for approval, where the portal was asked.
    pub matching: Option<Matching<'a>>,
}

/// Which applications the portal says match what a request for approval is about; none is an answer, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matching<'a> {
    /// A JSON list of objects, as the portal sent them, in one line.
    #[serde(rename = "a", borrow)]
    pub applications: &'a str,
    /// How many it named beside these.
    #[serde(rename = "m", default)]
    pub more: u32,
}

impl<'a> Matching<'a> {
    /// Each application's JSON object.
    pub fn each(&self) -> Vec<&'a RawValue> {
        serde_json::from_str(self.applications).unwrap_or_default()
    }
}

/// The same, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    pub applications: String,
    pub more: u32,
}

impl Matched {
    /// The same, borrowed.
    pub fn known(&self) -> Matching<'_> {
        Matching { applications: &self.applications, more: self.more }
    }
}

/// A device of a report, which the computers list under an id of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replaced<'a> {
    /// What it went by: `vendor_id` of its records.
    #[serde(rename = "i", borrow)]
    pub id: &'a str,
    /// The uid of the record that told it last, restatements aside.
    #[serde(rename = "u")]
    pub uid: Uuid,
}

/// A device as it last was before the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownDevice<'a> {
    #[serde(rename = "n", borrow)]
    pub name: Option<&'a str>,
    /// The vendor's text of its operating system.
    #[serde(rename = "s")]
    pub os: Option<&'a str>,
    #[serde(rename = "g")]
    pub group: Option<&'a str>,
    #[serde(rename = "o")]
    pub organization: Option<&'a str>,
    /// The vendor's word for its mode.
    #[serde(rename = "m")]
    pub mode: Option<&'a str>,
}

/// A last logged-in user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LastUser<'a> {
    /// As the vendor writes it: `DOMAIN\user`, `user`, `AzureAD\First Last`.
    #[serde(rename = "n")]
    pub name: &'a str,
    #[serde(rename = "o")]
    pub origin: UserOrigin,
    /// Since when it is known.
    #[serde(rename = "t")]
    pub time: Option<Micros>,
}

/// Where a last user comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserOrigin {
    /// The computer's own row.
    Computer,
    /// The newest unified-audit row of the computer with a person's name.
    UnifiedAudit,
    /// A column of a report.
    Report,
}

impl UserOrigin {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Computer => "computers",
            Self::UnifiedAudit => "unified_audit",
            Self::Report => "reports",
        }
    }

    /// The origin's key in the store; never changes once released.
    pub fn code(self) -> i64 {
        match self {
            Self::Computer => 0,
            Self::UnifiedAudit => 1,
            Self::Report => 2,
        }
    }
}

/// The most bytes of a name that is kept of a device, so that what is kept is bounded: a longer one is none.
pub const LONGEST_NAME: usize = 1_024;

/// A device's facts, kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub name: Option<String>,
    /// In lower case: by this a row is matched that has no id of its computer.
    pub host: Option<String>,
    pub os: Option<String>,
    pub group: Option<String>,
    pub organization: Option<String>,
    pub mode: Option<String>,
}

impl Facts {
    /// The same, with what another says of what this does not.
    pub fn completed_by(&self, other: &Facts) -> Facts {
        let or = |one: &Option<String>, other: &Option<String>| one.clone().or_else(|| other.clone());
        Facts {
            name: or(&self.name, &other.name),
            host: or(&self.host, &other.host),
            os: or(&self.os, &other.os),
            group: or(&self.group, &other.group),
            organization: or(&self.organization, &other.organization),
            mode: or(&self.mode, &other.mode),
        }
    }

    /// The same, borrowed; none where nothing is known.
    pub fn known(&self) -> Option<KnownDevice<'_>> {
        let known = KnownDevice {
            name: self.name.as_deref(),
            os: self.os.as_deref(),
            group: self.group.as_deref(),
            organization: self.organization.as_deref(),
            mode: self.mode.as_deref(),
        };
        (known != KnownDevice::default()).then_some(known)
    }
}

/// How a row names its computer, within its organization.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Computer {
    /// The vendor's id, as [`crate::model::folded`] makes it.
    Id(String),
    /// The host's name in lower case, of a row without an id.
    Host(String),
}

/// What a row tells of a computer, beside what it is about.
#[derive(Debug, PartialEq, Eq)]
pub struct Sighting {
    pub computer: Computer,
    /// A person's name.
    pub user: Option<String>,
    /// All that is kept of it, from a row that tells it.
    pub facts: Option<Box<Facts>>,
}

/// Accounts that are nobody, whatever domain stands before them.
const SERVICES: [&str; 29] = [
    "system",
    "système",
    "localsystem",
    "local system",
    "local service",
    "service local",
    "lokaler dienst",
    "network service",
    "service réseau",
    "netzwerkdienst",
    "anonymous logon",
    "everyone",
    "defaultuser0",
    "root",
    "daemon",
    "nobody",
    "www-data",
    "sshd",
    "gdm",
    // In place of a name.
    "-",
    "none",
    "(none)",
    "null",
    "n/a",
    "unknown",
    "(unknown)",
    "s-1-5-18",
    "s-1-5-19",
    "s-1-5-20",
];
/// Domains in which nobody is a person: of services, of application pools, of what draws the desktop. The first
/// is translated by Windows.
const SERVICE_DOMAINS: [&str; 11] = [
    "nt authority",
    "nt-autorität",
    "autorite nt",
    "autorité nt",
    "builtin",
    "nt service",
    "nt virtual machine",
    "font driver host",
    "window manager",
    "iis apppool",
    "iusr",
];

/// Whether a user's name is a person's, as far as a name tells: no account of the system or a service, no
/// machine (`NAME$`), no daemon of macOS (`_name`), nothing that draws the desktop (`DWM-1`, `UMFD-0`).
pub fn is_person(name: &str) -> bool {
    let name = name.trim().to_lowercase();
    let (domain, name) = match name.as_str() {
        "n/a" => ("", "n/a"),
        name => name.rsplit_once(['\\', '/']).unwrap_or(("", name)),
    };
    let numbered = |prefix: &str| {
        let number = name.strip_prefix(prefix);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    !(name.is_empty()
        || name.starts_with('_')
        || name.ends_with('$')
        || numbered("dwm-")
        || numbered("umfd-")
        || SERVICES.contains(&name)
        || SERVICE_DOMAINS.contains(&domain)
        || (domain.is_empty() && SERVICE_DOMAINS.contains(&name)))
}

/// What is known besides the rows of a chunk, each thing once.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Known<'a> {
    #[serde(rename = "d", borrow)]
    devices: Vec<KnownDevice<'a>>,
    #[serde(rename = "u", borrow)]
    users: Vec<LastUser<'a>>,
    /// For each entry the device and the user, counted from 1; 0 for none. Empty where nothing is known.
    #[serde(rename = "e")]
    entries: Vec<(u32, u32)>,
    /// What few entries replace, by their places.
    #[serde(rename = "r", borrow, default, skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<(u32, Replaced<'a>)>,
    /// What applications match few entries, by their places.
    #[serde(rename = "m", borrow, default, skip_serializing_if = "Vec::is_empty")]
    matching: Vec<(u32, Matching<'a>)>,
}

impl<'a> Known<'a> {
    /// What is known with each entry, in their order.
    pub fn new(entries: impl Iterator<Item = Enrichment<'a>>) -> Self {
        let (mut devices, mut users) = (Places::default(), Places::default());
        let mut known = Self::default();
        for (number, Enrichment { device, user, replaces, matching }) in (0..).zip(entries) {
            known.replaced.extend(replaces.map(|replaced| (number, replaced)));
            known.matching.extend(matching.map(|matching| (number, matching)));
            let device = device.map_or(0, |device| place(&mut devices, &mut known.devices, device));
            let user = user.map_or(0, |user| place(&mut users, &mut known.users, user));
            known.entries.push((device, user));
        }
        if known.devices.is_empty() && known.users.is_empty() {
            known.entries.clear();
        }
        known
    }

    /// What is known with the entry at this place of its chunk.
    pub fn of(&self, place: usize) -> Enrichment<'a> {
        let (device, user) = self.entries.get(place).copied().unwrap_or_default();
        Enrichment {
            device: counted(&self.devices, device),
            user: counted(&self.users, user),
            replaces: at(&self.replaced, place),
            matching: at(&self.matching, place),
        }
    }
}

/// The place of each thing in its list, counted from 1.
type Places<T> = HashMap<T, u32, RandomState>;

/// The place of a thing in its list, counted from 1.
fn place<T: Copy + Eq + Hash>(places: &mut Places<T>, list: &mut Vec<T>, thing: T) -> u32 {
    *places.entry(thing).or_insert_with(|| {
        list.push(thing);
        u32::try_from(list.len()).expect("a page is smaller")
    })
}

/// What few entries have, at the place of one.
fn at<T: Copy>(list: &[(u32, T)], place: usize) -> Option<T> {
    list.iter().find(|(number, _)| usize::try_from(*number) == Ok(place)).map(|(_, thing)| *thing)
}

fn counted<T: Copy>(list: &[T], place: u32) -> Option<T> {
    list.get(usize::try_from(place).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_entries_know_is_kept_once() {
        let user = LastUser { name: "a", origin: UserOrigin::Computer, time: None };
        let device = KnownDevice { mode: Some("Secure"), ..KnownDevice::default() };
        let replaced = Replaced { id: "host:a", uid: Uuid::from_u128(1) };
        let matching = Matching { applications: r#"[{"name":"a"}]"#, more: 2 };
        let entries = [
            Enrichment { device: Some(device), user: Some(user), ..Enrichment::default() },
            Enrichment::default(),
            Enrichment {
                device: Some(KnownDevice { mode: Some("Learning"), ..device }),
                ..Enrichment::default()
            },
            Enrichment {
                device: Some(device),
                user: Some(user),
                replaces: Some(replaced),
                matching: Some(matching),
            },
        ];
        let known = Known::new(entries.into_iter());
        assert_eq!((known.devices.len(), known.users.len()), (2, 1));
        assert_eq!([0, 1, 2, 3].map(|place| known.of(place)), entries);
        assert!(Known::new([Enrichment::default(); 9].into_iter()).entries.is_empty());
    }

    #[test]
    fn services_and_machines_are_no_persons() {
        for service in [
            "",
            " ",
            "NT AUTHORITY\\SYSTEM",
            "NT-AUTORITÄT\\SYSTEM",
            "nt authority\\Local Service",
            "Autorite NT\\Système",
            "SYSTEM",
            "LOCAL SERVICE",
            "Network Service",
            "root",
            "_windowserver",
            "DWM-1",
            "Window Manager\\DWM-12",
            "UMFD-0",
            "Font Driver Host\\UMFD-1",
            "ACME\\PC-17$",
            "IIS APPPOOL\\DefaultAppPool",
            "NT SERVICE\\MSSQLSERVER",
            "ACME\\",
            "NT AUTHORITY/SYSTEM",
            "AUTORITÉ NT\\SYSTÈME",
            "BUILTIN\\Administrators",
            "S-1-5-18",
            "N/A",
            "-",
            "Unknown",
            "IUSR",
        ] {
            assert!(!is_person(service), "{service}");
        }
        for person in
            ["alice", "ACME\\alice", "AzureAD\\Ada Lovelace", "rooter", "DWM-x", "UMFD-", "sys", "日本"]
        {
            assert!(is_person(person), "{person}");
        }
    }
}
