//! A request for approval: somebody was stopped and asks that it be allowed.

use std::borrow::Cow;

use super::device::Time;
use super::event::{Host, Policy, Severity};
use super::row::{Field, Integer, Slots};

/// One step in the life of a request. What is absent, the row does not say.
#[derive(Debug)]
pub struct Approval<'a> {
    pub step: Step,
    /// The fields by which the step was judged.
    pub step_from: Slots,
    pub id: Option<Field<'a>>,
    /// When the step was taken, as far as the row says so.
    pub time: Option<Time<'a>>,
    /// The vendor's number for the state of the request.
    pub status: Option<Field<'a>>,
    /// The vendor's number for what is asked for: a program, a storage device, more rights.
    pub kind: Option<Field<'a>>,
    pub organization: Option<Field<'a>>,
    pub organization_name: Option<Field<'a>>,
    pub host: Host<'a>,
    /// Where the device stood.
    pub address: Option<Field<'a>>,
    pub serial: Option<Field<'a>>,
    /// Who took the step.
    pub actor: Person<'a>,
    /// Who was stopped, else who asks.
    pub user: Person<'a>,
    /// Who is to decide.
    pub assignee: Person<'a>,
    pub reason: Option<Reason<'a>>,
    /// What was stopped: a path.
    pub path: Option<Field<'a>>,
    /// The vendor's own hash of it, and 64 hexadecimal digits.
    pub hash: Option<Field<'a>>,
    pub sha256: Option<Field<'a>>,
    /// Bytes.
    pub size: Option<Integer<'a>>,
    /// What else the row says of it.
    pub facts: Vec<Field<'a>>,
    /// The policy that allows it from now on.
    pub policy: Policy<'a>,
    /// What was said to it.
    pub comments: Option<Field<'a>>,
    /// For a decision: from when until when it took.
    pub took: Option<Took<'a>>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Somebody asked.
    Opened,
    /// It is somebody's to decide, or somebody else's.
    Assigned,
    /// It was handed on to those who decide harder ones.
    Escalated,
    /// It was handed back by them.
    Returned,
    Approved,
    /// Whoever asked may allow it himself, and did.
    SelfApproved,
    Rejected,
    /// It is not learned.
    NotLearned,
    /// It was decided, and is open again.
    Reopened,
    /// Something about a decision became different, not the decision.
    Updated,
    /// The portal lists it no more.
    Removed,
    /// It is in a state that this version does not know.
    Other,
}

impl Step {
    /// Part of the record's uid; never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Assigned => "assigned",
            Self::Escalated => "escalated",
            Self::Returned => "returned",
            Self::Approved => "approved",
            Self::SelfApproved => "self_approved",
            Self::Rejected => "rejected",
            Self::NotLearned => "not_learned",
            Self::Reopened => "reopened",
            Self::Updated => "updated",
            Self::Removed => "removed",
            Self::Other => "other",
        }
    }

    /// Whether it allows what was asked for; none where it decides nothing.
    pub fn permits(self) -> Option<bool> {
        match self {
            Self::Approved | Self::SelfApproved => Some(true),
            Self::Rejected => Some(false),
            _ => None,
        }
    }

    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Self::Other => Severity::Unknown,
            _ => Severity::Informational,
        }
    }

    /// Whether a request is decided by it.
    pub fn decides(self) -> bool {
        self.permits().is_some() || self == Self::NotLearned
    }
}

/// A person of the row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Person<'a> {
    pub name: Option<Field<'a>>,
    pub id: Option<Field<'a>>,
    pub email: Option<Field<'a>>,
}

/// Why it was asked for.
#[derive(Debug)]
pub struct Reason<'a> {
    pub field: Field<'a>,
    /// The text, where the field has it in base64.
    pub decoded: Option<Cow<'a, str>>,
}

/// From the request to its decision, never backwards.
#[derive(Clone, Copy, Debug)]
pub struct Took<'a> {
    pub from: Time<'a>,
    pub to: Time<'a>,
}

impl Took<'_> {
    /// Whole seconds.
    pub fn seconds(&self) -> i64 {
        (self.to.at - self.from.at).div_euclid(crate::model::SECOND)
    }
}
