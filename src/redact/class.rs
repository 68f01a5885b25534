//! What can be redacted: the classes of contract section 10 with their fields, and what names nobody.

use crate::sources::unified_audit::ACTION_TYPES;

/// A class of personal or secret data (contract section 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Keys and signatures, and addresses of proxies, which may hold a password.
    Secret,
    /// Paths, command lines and free text, in which secrets may stand.
    CommandLine,
    /// Persons.
    User,
    /// Names and ids of computers.
    Device,
    /// Network addresses.
    Ip,
    /// Names of network destinations.
    Domain,
    /// What tells a customer.
    Organization,
    /// Rows of reports, of which every column counts as personal.
    Report,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Equal values become equal pseudonyms, which only the key's owner can make.
    Pseudonym,
    /// The member is left out; inside of other text `[removed]` stands for it.
    Remove,
}

impl Class {
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Ip,
        Self::Device,
        Self::CommandLine,
        Self::Domain,
        Self::Organization,
        Self::Secret,
        Self::Report,
    ];

    /// As in the configuration; never changes once released.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::CommandLine => "command_line",
            Self::User => "user",
            Self::Device => "device",
            Self::Ip => "ip",
            Self::Domain => "domain",
            Self::Organization => "organization",
            Self::Report => "report",
        }
    }

    /// What a pseudonym begins with that has no shape of its own.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::CommandLine => "text",
            Self::User => "user",
            Self::Device => "host",
            Self::Ip => "ip",
            Self::Domain => "domain",
            Self::Organization => "organization",
            Self::Report => "value",
        }
    }

    /// Its fields, as the contract spells them; found in any casing and at any depth.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Secret => &[
                "signature",
                "authKey",
                "installKey",
                "proxyURL",
                "proxyUrlEntry",
                "hasComputerPassword",
                "token",
            ],
            Self::CommandLine => &[
                "fullPath",
                "data",
                "notes",
                "details",
                "json",
                "path",
                "processName",
                "comments",
                "description",
                "tlInstructions",
            ],
            Self::User => &[
                "username",
                "emailAddress",
                "userId",
                "requestor",
                "requestorEmailAddress",
                "requestorReason",
                "approvedBy",
                "addedBy",
                "endedBy",
                "assigneeUserId",
                "assigneeUsername",
                "assigneeFirstName",
                "assigneeLastname",
                "retrievedAssigneeUsername",
                "linkedMfaUser",
                "ticketApprovalManager",
                "installedBy",
                "lastLoggedInUser",
                "loggedInUser",
                "lastUser",
                "users",
                "userGroups",
            ],
            Self::Device => &["hostname", "computerName", "computerId", "serialNumber", "macAddress"],
            Self::Ip => &[
                "ipAddress",
                "lastCheckinIPAddress",
                "lastCheckinLocalIPAddresses",
                "fullCheckinIPAddress",
                "localIPAddresses",
                "sourceIPAddress",
                "destinationIPAddress",
                "destinationIP",
            ],
            Self::Domain => &["DomainName"],
            Self::Organization => &[
                "organization",
                "organizationName",
                "displayName",
                "parentName",
                "domains",
                "billingMethod",
                "products",
                "computerCount",
                "activeCount",
            ],
            Self::Report => &[],
        }
    }
}

/// Sources whose rows name what they tell of, and how they call it; elsewhere these are names of other things.
pub(super) const NAMES: [(&str, Class, &[&str]); 2] = [
    ("organizations", Class::Organization, &["name", "label"]),
    ("computer_details", Class::Device, &["name"]),
];

/// Which classes are redacted, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes([Option<How>; Class::ALL.len()]);

impl Classes {
    pub fn set(&mut self, class: Class, how: How) {
        self.0[class as usize] = Some(how);
    }

    pub fn how(&self, class: Class) -> Option<How> {
        self.0[class as usize]
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Whether a key is needed.
    pub fn any_pseudonym(&self) -> bool {
        self.0.contains(&Some(How::Pseudonym))
    }

    /// The class of a member that is to be redacted.
    pub(super) fn of(&self, key: &str) -> Option<Class> {
        let plain: String;
        let key = match key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            true => key,
            // Reports head their columns with words: "User Name".
            false => {
                plain = key.chars().filter(char::is_ascii_alphanumeric).collect();
                &plain
            }
        };
        let is = |class: &Class| {
            class.fields().iter().any(|field| field.eq_ignore_ascii_case(key))
                || *class == Class::User
                    && key.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("assignee"))
        };
        Class::ALL.into_iter().filter(|class| self.how(*class).is_some()).find(is)
    }
}

/// Accounts of systems, which name no person.
const ACCOUNTS: [&str; 7] =
    ["system", "local service", "network service", "root", "daemon", "nobody", "anonymous logon"];
/// Domains of such accounts.
const DOMAINS: [&str; 5] =
    ["nt authority", "nt service", "window manager", "font driver host", "iis apppool"];
/// The organization of applications that are ThreatLocker's own.
pub(super) const MAKER: &str = "master";
/// Profiles that are nobody's own.
const PROFILES: [&str; 6] = ["public", "default", "default user", "all users", "shared", "defaultuser0"];

/// Whether a folded name is that of a system's account.
pub(super) fn is_account(name: &str) -> bool {
    match name.rsplit_once('\\') {
        Some((domain, _)) => DOMAINS.contains(&domain),
        None => ACCOUNTS.contains(&name),
    }
}

/// Whether a folded name of a profile is nobody's.
pub(super) fn is_nobodys(profile: &str) -> bool {
    PROFILES.contains(&profile) || is_account(profile) || profile.starts_with(['%', '$'])
}

/// Other words that the portal itself writes, beside the types of actions (contract sections 2.1, 4.1, 5.3).
const WORDS: [&str; 19] = [
    "create",
    "logon",
    "logoff",
    "modify",
    "permit",
    "permitted",
    "deny",
    "denied",
    "deny with option to request",
    "install mode",
    "missing core files",
    "ringfenced",
    "any deny",
    "secure",
    "learning",
    "installation",
    "monitoronly",
    "severe",
    "warning",
];

/// Whether a folded text is a word of the portal: what happened stays readable even where somebody is called
/// `read`.
pub(super) fn is_word(text: &str) -> bool {
    WORDS.contains(&text) || ACTION_TYPES.contains(&text)
}
