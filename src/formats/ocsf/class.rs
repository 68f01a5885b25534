//! Which action becomes which class, in which version (`schemas.md`, sections 1 and 2).

use super::Version;
use crate::record::event::{Action, Edit, FileAction};

/// A class of the schema.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) uid: i64,
    pub(super) name: &'static str,
    pub(super) category: i64,
    pub(super) category_name: &'static str,
    /// What it takes of the profiles, by version.
    pub(super) profiles: [Profiles; 3],
}

/// The profiles that a record may declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profiles {
    None,
    /// `host`: device and actor in classes that have none of their own.
    Host,
    /// `security_control`: action, disposition, policy.
    Control,
    HostAndControl,
}

impl Profiles {
    pub(super) fn json(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Host => Some(r#"["host"]"#),
            Self::Control => Some(r#"["security_control"]"#),
            Self::HostAndControl => Some(r#"["host","security_control"]"#),
        }
    }

    pub(super) fn has_control(self) -> bool {
        matches!(self, Self::Control | Self::HostAndControl)
    }
}

use Profiles::{Control, Host, HostAndControl, None as Plain};

const fn class(
    uid: i64,
    name: &'static str,
    category: i64,
    category_name: &'static str,
    profiles: [Profiles; 3],
) -> Class {
    Class { uid, name, category, category_name, profiles }
}

const SYSTEM: &str = "System Activity";
const ACCESS: &str = "Identity & Access Management";
const NETWORKING: &str = "Network Activity";
const DISCOVERY: &str = "Discovery";

pub(super) static BASE: Class =
    class(0, "Base Event", 0, "Uncategorized", [Plain, HostAndControl, HostAndControl]);
pub(super) static FILE: Class = class(1001, "File System Activity", 1, SYSTEM, [Control; 3]);
pub(super) static PROCESS: Class = class(1007, "Process Activity", 1, SYSTEM, [Control; 3]);
pub(super) static SCRIPT: Class = class(1009, "Script Activity", 1, SYSTEM, [Control; 3]);
pub(super) static PERIPHERAL: Class = class(1010, "Peripheral Activity", 1, SYSTEM, [Control; 3]);
pub(super) static REGISTRY: Class = class(201_001, "Registry Key Activity", 1, SYSTEM, [Control; 3]);
pub(super) static ACCOUNT: Class = class(3001, "Account Change", 3, ACCESS, [Plain; 3]);
pub(super) static AUTHENTICATION: Class = class(3002, "Authentication", 3, ACCESS, [Plain; 3]);
pub(super) static ENTITY: Class = class(3004, "Entity Management", 3, ACCESS, [Host, Plain, Plain]);
pub(super) static NETWORK: Class = class(4001, "Network Activity", 4, NETWORKING, [HostAndControl; 3]);
pub(super) static HTTP: Class = class(4002, "HTTP Activity", 4, NETWORKING, [HostAndControl; 3]);
pub(super) static DNS: Class = class(4003, "DNS Activity", 4, NETWORKING, [HostAndControl; 3]);
pub(super) static INVENTORY: Class = class(5001, "Device Inventory Info", 5, DISCOVERY, [Plain; 3]);
pub(super) static CONFIG_STATE: Class =
    class(5019, "Device Config State Change", 5, DISCOVERY, [Plain, Control, Control]);
pub(super) static API: Class = class(6003, "API Activity", 6, "Application Activity", [Plain; 3]);

/// A class and what happened in its terms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    pub(super) class: &'static Class,
    pub(super) activity: i64,
    pub(super) activity_name: &'static str,
}

const fn to(class: &'static Class, activity: i64, activity_name: &'static str) -> Mapping {
    Mapping { class, activity, activity_name }
}

/// The class of an action, and the activity. `permitted`: it was not stopped.
///
/// Registry rows do not say whether a key or a value is meant, nor what was done: they name a path that is to
/// be changed, so all are changes of a key. Before 1.5 a record of the web needs the answer's code, which no
/// row tells: there it is network activity with an address.
pub(super) fn of(action: Action, version: Version, permitted: bool) -> Mapping {
    match action {
        Action::Launch => to(&PROCESS, 1, "Launch"),
        Action::Elevate => to(&PROCESS, 5, "Set User ID"),
        Action::Script if version < Version::V1_5 => to(&PROCESS, 1, "Launch"),
        Action::Script => to(&SCRIPT, 1, "Execute"),

        Action::Storage(_) if version >= Version::V1_8 => to(&PERIPHERAL, 99, "Other"),
        Action::File(what) | Action::Storage(what) => match what {
            FileAction::Read => to(&FILE, 2, "Read"),
            FileAction::Write => to(&FILE, 3, "Update"),
            FileAction::Move => to(&FILE, 5, "Rename"),
            FileAction::Delete => to(&FILE, 4, "Delete"),
        },
        Action::Baseline => to(&FILE, 99, "Other"),
        Action::Registry => to(&REGISTRY, 3, "Modify"),

        Action::Web if version >= Version::V1_5 => to(&HTTP, 0, "Unknown"),
        Action::Network | Action::Web if permitted => to(&NETWORK, 1, "Open"),
        Action::Network | Action::Web => to(&NETWORK, 5, "Refuse"),
        Action::Dns => to(&DNS, 1, "Query"),

        Action::Configuration => to(&CONFIG_STATE, 1, "Log"),

        Action::Logon => to(&AUTHENTICATION, 1, "Logon"),
        Action::Logoff => to(&AUTHENTICATION, 2, "Logoff"),
        Action::Account(Edit::Create) => to(&ACCOUNT, 1, "Create"),
        Action::Account(Edit::Delete) => to(&ACCOUNT, 6, "Delete"),
        Action::Account(_) => to(&ACCOUNT, 99, "Other"),
        Action::Policy(Edit::Create) => to(&ENTITY, 1, "Create"),
        Action::Policy(Edit::Read) => to(&ENTITY, 2, "Read"),
        Action::Policy(Edit::Update) => to(&ENTITY, 3, "Update"),
        Action::Policy(Edit::Delete) => to(&ENTITY, 4, "Delete"),
        Action::Policy(Edit::Other) => to(&ENTITY, 99, "Other"),
        Action::Api(Edit::Create) => to(&API, 1, "Create"),
        Action::Api(Edit::Read) => to(&API, 2, "Read"),
        Action::Api(Edit::Update) => to(&API, 3, "Update"),
        Action::Api(Edit::Delete) => to(&API, 4, "Delete"),
        Action::Api(Edit::Other) => to(&API, 99, "Other"),

        Action::Other => to(&BASE, 99, "Other"),
    }
}

impl Mapping {
    /// The profiles that a record of it may declare.
    pub(super) fn profiles(&self, version: Version) -> Profiles {
        self.class.profiles[version as usize]
    }
}
