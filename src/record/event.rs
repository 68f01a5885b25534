//! Something that happened once: on a device, as an agent saw it, or in the portal, as an administrator did it.

use super::device::{Platform, Time};
use super::row::{Field, Integer, Slots};

/// One event. What is absent, the row does not say.
#[derive(Debug)]
pub struct Event<'a> {
    pub action: Action,
    /// The vendor's word for the action.
    pub action_name: Option<Field<'a>>,
    /// The vendor's id of the event.
    pub id: Option<Field<'a>>,
    /// The vendor's text of the time at which it happened.
    pub time: Option<Field<'a>>,
    /// When the portal had it from the agent.
    pub received: Option<Time<'a>>,
    /// The id of the organization in which it happened.
    pub organization: Option<Field<'a>>,
    /// The organization's name.
    pub organization_name: Option<Field<'a>>,
    pub outcome: Outcome<'a>,
    pub severity: Severity,
    /// The fields by which the severity was judged.
    pub severity_from: Slots,
    pub host: Host<'a>,
    pub actor: Actor<'a>,
    pub subject: Subject<'a>,
    pub policy: Policy<'a>,
    pub application: Application<'a>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A program was started.
    Launch,
    /// A program got more rights.
    Elevate,
    /// A script ran.
    Script,
    File(FileAction),
    /// The same with a file on a storage device.
    Storage(FileAction),
    /// A file was found when the agent looked for what is there.
    Baseline,
    Network,
    Dns,
    Web,
    Registry,
    Configuration,
    Logon,
    Logoff,
    /// An account of the portal, or what it may do.
    Account(Edit),
    /// A policy.
    Policy(Edit),
    /// Anything else that was asked of the portal.
    Api(Edit),
    /// A kind of row that this version does not know.
    Other,
}

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAction {
    Read,
    Write,
    Move,
    Delete,
}

/// What was done to something that the portal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    Create,
    Read,
    Update,
    Delete,
    Other,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// What the policy said.
    pub verdict: Verdict,
    /// Whether it took place after all: in monitor mode what is denied is permitted.
    pub permitted: Option<bool>,
    /// The fields by which this was judged.
    pub from: Slots,
    /// The vendor's number for the verdict.
    pub code: Option<Field<'a>>,
    /// The vendor's words: what the policy said, and what was really done.
    pub verdict_name: Option<Field<'a>>,
    pub effect_name: Option<Field<'a>>,
}

/// What a policy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Permit,
    Deny,
    /// Stopped by the fence around a program that may run.
    Ringfenced,
    /// None, or one that this version does not know.
    Other,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Unknown,
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// Every one that is known, the least first.
    pub const KNOWN: [Self; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Its word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// The device on which it happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host<'a> {
    pub id: Option<Field<'a>>,
    pub name: Option<Field<'a>>,
    pub platform: Option<Platform<'a>>,
}

/// Who or what did it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Actor<'a> {
    /// `DOMAIN\user`, `user`, `AzureAD\First Last` or an e-mail address.
    pub user: Option<Field<'a>>,
    pub user_id: Option<Field<'a>>,
    pub email: Option<Field<'a>>,
    /// Where the person sat.
    pub address: Option<Field<'a>>,
    /// The program that did it; on a start, the one that started the other.
    pub process: Process<'a>,
    /// The program that started that one.
    pub parent: Process<'a>,
}

/// A running program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process<'a> {
    pub id: Option<Integer<'a>>,
    pub name: Option<Field<'a>>,
    /// Path of its file.
    pub path: Option<Field<'a>>,
    /// What else the row says of it.
    pub facts: [Option<Field<'a>>; 2],
}

/// To what it was done. Which of these are meant follows from the action.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The path of a file or registry key, a command line, a connection, a domain, an address on the web: the
    /// vendor has one field for all.
    pub path: Option<Field<'a>>,
    /// On a start: the id and name of the new process.
    pub process: Process<'a>,
    /// Bytes.
    pub size: Option<Integer<'a>>,
    /// 64 hexadecimal digits.
    pub sha256: Option<Field<'a>>,
    /// The vendor's own hash, in hexadecimal digits.
    pub hash: Option<Field<'a>>,
    /// What else the row says of a file: who wrote it, who signed it, what others think of it.
    pub file_facts: [Option<Field<'a>>; 20],
    /// The text of a script, or what else the vendor keeps of the event.
    pub content: Option<Field<'a>>,
    /// The kind and serial number of a storage device.
    pub storage: Option<Field<'a>>,
    pub serial: Option<Field<'a>>,
    pub source_address: Option<Field<'a>>,
    pub destination_address: Option<Field<'a>>,
    /// From 0 to 65,535.
    pub destination_port: Option<Integer<'a>>,
    /// What an administrator changed: its id, the portal's page and function, and a sentence.
    pub object_id: Option<Field<'a>>,
    /// The vendor's number for the kind of object.
    pub object_type: Option<Field<'a>>,
    pub page: Option<Field<'a>>,
    pub function: Option<Field<'a>>,
    pub details: Option<Field<'a>>,
    /// What the administrator noted on it.
    pub notes: Option<Field<'a>>,
}

/// The policy that said so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy<'a> {
    pub id: Option<Field<'a>>,
    pub name: Option<Field<'a>>,
    /// The group of computers at which it stands.
    pub group: Option<Field<'a>>,
    /// What else the row says of it.
    pub facts: [Option<Field<'a>>; 14],
}

/// The vendor's name for the program to which a file belongs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Application<'a> {
    pub id: Option<Field<'a>>,
    pub name: Option<Field<'a>>,
}
