//! Which action becomes which class, in which version (`schemas.md`, sections 1 and 2).

use super::Version;
use crate::record::event::{Action, Edit, FileAction};

/// A class of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Base,
    File,
    Process,
    Script,
    Peripheral,
    RegistryKey,
    Account,
    Authentication,
    Entity,
    Finding,
    Network,
    Http,
    Dns,
    Inventory,
    ConfigState,
    Api,
    Remediation,
}

/// What the schema says of a class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) uid: i64,
    pub(super) name: &'static str,
    pub(super) category: i64,
    pub(super) category_name: &'static str,
    /// What it takes of the profiles, by version.
    profiles: [Profiles; 3],
}

impl Class {
    /// The schema's own numbers and names.
    pub(super) fn facts(self) -> Facts {
        match self {
            Class::Base => in_category(0, 0, "Base Event", [Plain, HostAndControl, HostAndControl]),
            Class::File => in_category(1, 1001, "File System Activity", [Control; 3]),
            Class::Process => in_category(1, 1007, "Process Activity", [Control; 3]),
            Class::Script => in_category(1, 1009, "Script Activity", [Control; 3]),
            Class::Peripheral => in_category(1, 1010, "Peripheral Activity", [Control; 3]),
            Class::RegistryKey => in_category(1, 201_001, "Registry Key Activity", [Control; 3]),
            Class::Finding => in_category(2, 2004, "Detection Finding", [Control; 3]),
            Class::Account => in_category(3, 3001, "Account Change", [Plain; 3]),
            Class::Authentication => in_category(3, 3002, "Authentication", [Plain; 3]),
            Class::Entity => in_category(3, 3004, "Entity Management", [Host, Plain, Plain]),
            Class::Network => in_category(4, 4001, "Network Activity", [HostAndControl; 3]),
            Class::Http => in_category(4, 4002, "HTTP Activity", [HostAndControl; 3]),
            Class::Dns => in_category(4, 4003, "DNS Activity", [HostAndControl; 3]),
            Class::Inventory => in_category(5, 5001, "Device Inventory Info", [Plain; 3]),
            Class::ConfigState => {
                in_category(5, 5019, "Device Config State Change", [Plain, Control, Control])
            }
            Class::Api => in_category(6, 6003, "API Activity", [Plain; 3]),
            Class::Remediation => in_category(7, 7001, "Remediation Activity", [Host; 3]),
        }
    }

    /// The profiles that an event of it declares.
    pub(super) fn profiles(self, version: Version) -> Profiles {
        self.facts().profiles[version as usize]
    }
}

fn in_category(category: i64, uid: i64, name: &'static str, profiles: [Profiles; 3]) -> Facts {
    let category_name = match category {
        1 => "System Activity",
        2 => "Findings",
        3 => "Identity & Access Management",
        4 => "Network Activity",
        5 => "Discovery",
        6 => "Application Activity",
        7 => "Remediation",
        _ => "Uncategorized",
    };
    Facts { uid, name, category, category_name, profiles }
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

/// A class and what happened in its terms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    pub(super) class: Class,
    pub(super) activity: i64,
    pub(super) activity_name: &'static str,
}

const fn to(class: Class, activity: i64, activity_name: &'static str) -> Mapping {
    Mapping { class, activity, activity_name }
}

/// A threat that the portal found.
pub(super) const FINDING: Mapping = to(Class::Finding, 1, "Create");
/// One that was told before.
pub(super) const FINDING_AGAIN: Mapping = to(Class::Finding, 2, "Update");

/// The class of an action, and the activity. `permitted`: it was not stopped.
///
/// Registry rows do not say whether a key or a value is meant, nor what was done: they name a path that is to
/// be changed, so all are changes of a key. Before 1.5 a record of the web needs the answer's code, which no
/// row tells: there it is network activity with an address.
pub(super) fn of(action: Action, version: Version, permitted: bool) -> Mapping {
    match action {
        Action::Launch => to(Class::Process, 1, "Launch"),
        Action::Elevate => to(Class::Process, 5, "Set User ID"),
        Action::Script if version < Version::V1_5 => to(Class::Process, 1, "Launch"),
        Action::Script => to(Class::Script, 1, "Execute"),

        Action::Storage(_) if version >= Version::V1_8 => to(Class::Peripheral, 99, "Other"),
        Action::File(what) | Action::Storage(what) => match what {
            FileAction::Read => to(Class::File, 2, "Read"),
            FileAction::Write => to(Class::File, 3, "Update"),
            FileAction::Move => to(Class::File, 5, "Rename"),
            FileAction::Delete => to(Class::File, 4, "Delete"),
        },
        Action::Baseline => to(Class::File, 99, "Other"),
        Action::Registry => to(Class::RegistryKey, 3, "Modify"),

        Action::Web if version >= Version::V1_5 => to(Class::Http, 0, "Unknown"),
        Action::Network | Action::Web if permitted => to(Class::Network, 1, "Open"),
        Action::Network | Action::Web => to(Class::Network, 5, "Refuse"),
        Action::Dns => to(Class::Dns, 1, "Query"),

        Action::Configuration => to(Class::ConfigState, 1, "Log"),

        Action::Logon => to(Class::Authentication, 1, "Logon"),
        Action::Logoff => to(Class::Authentication, 2, "Logoff"),
        Action::Account(Edit::Create) => to(Class::Account, 1, "Create"),
        Action::Account(Edit::Delete) => to(Class::Account, 6, "Delete"),
        Action::Account(_) => to(Class::Account, 99, "Other"),
        Action::Policy(Edit::Create) => to(Class::Entity, 1, "Create"),
        Action::Policy(Edit::Read) => to(Class::Entity, 2, "Read"),
        Action::Policy(Edit::Update) => to(Class::Entity, 3, "Update"),
        Action::Policy(Edit::Delete) => to(Class::Entity, 4, "Delete"),
        Action::Policy(Edit::Other) => to(Class::Entity, 99, "Other"),
        Action::Api(Edit::Create) => to(Class::Api, 1, "Create"),
        Action::Api(Edit::Read) => to(Class::Api, 2, "Read"),
        Action::Api(Edit::Update) => to(Class::Api, 3, "Update"),
        Action::Api(Edit::Delete) => to(Class::Api, 4, "Delete"),
        Action::Api(Edit::Other) => to(Class::Api, 99, "Other"),

        Action::Other => to(Class::Base, 99, "Other"),
    }
}
