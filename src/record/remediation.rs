//! A maintenance of a device: what was begun, ended or put off on it by somebody, isolation above all.

use super::device::Time;
use super::event::Severity;
use super::row::{Field, Integer};

/// One moment of one maintenance. What is absent, the row does not say.
#[derive(Debug)]
pub struct Remediation<'a> {
    pub moment: Moment,
    pub measure: Measure,
    /// The vendor's number of the measure.
    pub code: Option<Integer<'a>>,
    /// The vendor's name of the measure.
    pub name: Option<Field<'a>>,
    /// The vendor's id of the maintenance.
    pub id: Option<Field<'a>>,
    /// What names the maintenance among all of its organization, whether the row has an id or not.
    pub key: &'a str,
    /// The vendor's id of the computer: its member of the row, if it has one, and the id that was asked for.
    pub computer: Option<Field<'a>>,
    pub computer_id: Option<&'a str>,
    /// The id of the computer's organization.
    pub organization: &'a str,
    pub start: Option<Time<'a>>,
    /// When it ended, or is to end.
    pub end: Option<Time<'a>>,
    /// Who began it, and who ended it.
    pub begun_by: Option<Field<'a>>,
    pub ended_by: Option<Field<'a>>,
}

impl<'a> Remediation<'a> {
    /// Who did what this moment tells of.
    pub fn by(&self) -> Option<Field<'a>> {
        match self.moment {
            Moment::Begun | Moment::Altered => self.begun_by,
            Moment::Ended => self.ended_by,
        }
    }

    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match (self.moment, self.measure) {
            (Moment::Ended, _) => Severity::Informational,
            (_, Measure::TamperProtectionDisabled) => Severity::High,
            (_, Measure::Isolation | Measure::Lockdown | Measure::DetectAlertsDisabled) => Severity::Medium,
            _ => Severity::Low,
        }
    }
}

/// What of a maintenance is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Begun,
    /// It goes on, and something of it is different, such as when it is to end.
    Altered,
    Ended,
}

/// What is done to the device (contract section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    MonitorOnly,
    Installation,
    Learning,
    Elevation,
    TamperProtectionDisabled,
    /// Cut off from the network.
    Isolation,
    /// Nothing may run.
    Lockdown,
    DetectAlertsDisabled,
    NetworkControlMonitorOnly,
    StorageControlMonitorOnly,
    /// One that this version does not know.
    Other,
}

impl Measure {
    /// Whether it guards the device more than usual, instead of less.
    pub fn is_remedy(self) -> bool {
        matches!(self, Self::Isolation | Self::Lockdown)
    }

    /// Our word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MonitorOnly => "monitor-only",
            Self::Installation => "installation",
            Self::Learning => "learning",
            Self::Elevation => "elevation",
            Self::TamperProtectionDisabled => "tamper-protection-disabled",
            Self::Isolation => "isolation",
            Self::Lockdown => "lockdown",
            Self::DetectAlertsDisabled => "detect-alerts-disabled",
            Self::NetworkControlMonitorOnly => "network-control-monitor-only",
            Self::StorageControlMonitorOnly => "storage-control-monitor-only",
            Self::Other => "maintenance",
        }
    }
}
