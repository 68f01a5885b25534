//! Which action has which category and type. The schema says which types a category takes; `allowed` and `denied`
//! are types of networks and of APIs only, so elsewhere `event.outcome` alone says what was denied.

use crate::model::Change;
use crate::record::approval::Step;
use crate::record::device::Difference;
use crate::record::event::{Action, Edit, FileAction};
use crate::record::remediation::Moment;

/// `event.category` and `event.type`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    pub(super) categories: &'static [&'static str],
    pub(super) types: &'static [&'static str],
    /// Whether a verdict is a type of it, too.
    pub(super) takes_verdict: bool,
}

const fn to(categories: &'static [&'static str], types: &'static [&'static str]) -> Class {
    Class { categories, types, takes_verdict: false }
}

const fn judged(categories: &'static [&'static str], types: &'static [&'static str]) -> Class {
    Class { categories, types, takes_verdict: true }
}

/// A device as it is.
pub(super) const DEVICE: Class = to(&["host"], &["info"]);

/// A threat that the portal found.
pub(super) const FINDING: Class = to(&["malware"], &["info"]);
/// A row of which nothing is known.
pub(super) const ROW: Class = to(&[], &[]);

/// The class of an action; of an unknown one nothing is said.
pub(super) fn of(action: Action) -> Class {
    match action {
        Action::Launch | Action::Script => to(&["process"], &["start"]),
        Action::Elevate => to(&["process"], &["change"]),

        Action::File(what) | Action::Storage(what) => match what {
            FileAction::Read => to(&["file"], &["access"]),
            FileAction::Write | FileAction::Move => to(&["file"], &["change"]),
            FileAction::Delete => to(&["file"], &["deletion"]),
        },
        Action::Baseline => to(&["file"], &["info"]),
        Action::Registry => to(&["registry"], &["change"]),

        Action::Network => judged(&["network"], &["connection"]),
        Action::Dns => judged(&["network"], &["protocol"]),
        Action::Web => judged(&["network", "web"], &["access"]),

        Action::Configuration => to(&["configuration"], &["change"]),

        Action::Logon => to(&["authentication"], &["start"]),
        Action::Logoff => to(&["authentication"], &["end"]),
        Action::Account(edit) => match edit {
            Edit::Create => to(&["iam"], &["user", "creation"]),
            Edit::Update => to(&["iam"], &["user", "change"]),
            Edit::Delete => to(&["iam"], &["user", "deletion"]),
            Edit::Read | Edit::Other => to(&["iam"], &["user", "info"]),
        },
        Action::Policy(edit) => match edit {
            Edit::Create => to(&["configuration"], &["creation"]),
            Edit::Read => to(&["configuration"], &["access"]),
            Edit::Update => to(&["configuration"], &["change"]),
            Edit::Delete => to(&["configuration"], &["deletion"]),
            Edit::Other => to(&["configuration"], &["info"]),
        },
        Action::Api(edit) => match edit {
            Edit::Create => judged(&["api"], &["creation"]),
            Edit::Read => judged(&["api"], &["access"]),
            Edit::Update => judged(&["api"], &["change"]),
            Edit::Delete => judged(&["api"], &["deletion"]),
            Edit::Other => judged(&["api"], &["info"]),
        },

        Action::Other => to(&[], &[]),
    }
}

/// The class of a moment of a maintenance.
pub(super) fn of_maintenance(moment: Moment) -> Class {
    match moment {
        Moment::Begun => to(&["configuration", "host"], &["change", "start"]),
        Moment::Altered => to(&["configuration", "host"], &["change"]),
        Moment::Ended => to(&["configuration", "host"], &["change", "end"]),
    }
}

/// The class of something that the portal keeps, by what became of it.
pub(super) fn of_entity(change: Change) -> Class {
    match change {
        Change::New => to(&["configuration"], &["creation"]),
        Change::Changed => to(&["configuration"], &["change"]),
        Change::Removed => to(&["configuration"], &["deletion"]),
        Change::Restated => to(&["configuration"], &["info"]),
    }
}

/// The class of a step in the life of a request for approval.
pub(super) fn of_approval(step: Step) -> Class {
    match step {
        Step::Opened => to(&["configuration"], &["creation"]),
        Step::Removed => to(&["configuration"], &["deletion"]),
        Step::Other => to(&[], &[]),
        _ => to(&["configuration"], &["change"]),
    }
}

/// The class of a change of a device.
pub(super) fn of_change(what: &Difference<'_>) -> Class {
    match what {
        Difference::Added => to(&["configuration"], &["creation"]),
        Difference::Removed => to(&["configuration"], &["deletion"]),
        Difference::Mode { .. } | Difference::Switch { .. } | Difference::Setting { .. } => {
            to(&["configuration", "host"], &["change"])
        }
    }
}
