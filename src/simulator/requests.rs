//! What a request asks for: the endpoints played and the members of their bodies.

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reports::KeyDoor;
use super::rows::{AUDIT_ACTIONS, UNIFIED_ACTIONS};
use crate::model::Micros;

/// The read paths that the simulator plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    UnifiedAudit,
    SystemAudit,
    Computers,
    ChildOrganizations,
    OrganizationsForMove,
    ApprovalCount,
    ApprovalRequests,
    Maintenance,
    MaintenanceUnpaged,
    Policies,
    PolicyById,
    Groups,
    ReportList,
    ReportRows,
    OnlineDevices,
    PrivateThreats,
    PrivateRemediations,
    Checkins,
    ComputerById,
    MatchingApplications,
}

impl Endpoint {
    pub const ALL: [Self; 20] = [
        Self::UnifiedAudit,
        Self::SystemAudit,
        Self::Computers,
        Self::ChildOrganizations,
        Self::OrganizationsForMove,
        Self::ApprovalCount,
        Self::ApprovalRequests,
        Self::Maintenance,
        Self::MaintenanceUnpaged,
        Self::Policies,
        Self::PolicyById,
        Self::Groups,
        Self::ReportList,
        Self::ReportRows,
        Self::OnlineDevices,
        Self::PrivateThreats,
        Self::PrivateRemediations,
        Self::Checkins,
        Self::ComputerById,
        Self::MatchingApplications,
    ];

    /// The verb and the path below `/portalapi/`, in lower case: the portal's routing ignores case
    /// (contract section 1.1).
    pub fn route(self) -> (&'static str, &'static str) {
        match self {
            Self::UnifiedAudit => ("POST", "actionlog/actionloggetbyparametersv2"),
            Self::SystemAudit => ("POST", "systemaudit/systemauditgetbyparameters"),
            Self::Computers => ("POST", "computer/computergetbyallparameters"),
            Self::ChildOrganizations => {
                ("POST", "organization/organizationgetchildorganizationsbyparameters")
            }
            Self::OrganizationsForMove => ("GET", "organization/organizationgetformovecomputers"),
            Self::ApprovalRequests => ("POST", "approvalrequest/approvalrequestgetbyparameters"),
            Self::ApprovalCount => ("GET", "approvalrequest/approvalrequestgetcount"),
            Self::Maintenance => ("GET", "maintenancemode/maintenancemodegetbycomputeridv2"),
            Self::MaintenanceUnpaged => ("GET", "maintenancemode/maintenancemodegetbycomputerid"),
            Self::Policies => ("POST", "policy/policygetbyparameters"),
            Self::PolicyById => ("GET", "policy/policygetbyid"),
            Self::Groups => ("GET", "computergroup/computergroupgetgroupandcomputer"),
            Self::ReportList => ("GET", "report/reportgetbyorganizationid"),
            Self::ReportRows => ("POST", "report/reportgetdynamicdata"),
            Self::OnlineDevices => ("GET", "onlinedevices/onlinedevicesgetbyparameters"),
            Self::Checkins => ("POST", "computercheckin/computercheckingetbyparameters"),
            Self::ComputerById => ("GET", "computer/computergetforeditbyid"),
            Self::MatchingApplications => ("POST", "application/applicationgetmatchinglist"),
            Self::PrivateThreats => ("POST", "threat/threatgetfortab"),
            Self::PrivateRemediations => ("GET", "incident/remediationgetlist"),
        }
    }

    /// The endpoint that a request names, if it is played.
    pub fn of(verb: &str, path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        let path = path.strip_prefix("/portalapi/")?;
        Self::ALL.into_iter().find(|endpoint| endpoint.route() == (verb, path))
    }

    /// The same behind a door for keys, where there are but reports.
    pub fn behind(door: &KeyDoor, verb: &str, path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        let path = path.strip_prefix(door.path)?.strip_prefix('/')?;
        let reports = [Self::ReportList, Self::ReportRows];
        reports.into_iter().find(|endpoint| endpoint.route() == (verb, path))
    }

    /// The permission that a role needs for it (contract section 1.8); that of the matching applications nobody tells.
    pub fn permission(self) -> &'static str {
        match self {
            Self::UnifiedAudit => "View Unified Audit",
            Self::SystemAudit => "View System Audit",
            Self::Computers
            | Self::Maintenance
            | Self::MaintenanceUnpaged
            | Self::OnlineDevices
            | Self::ComputerById => "View Computers",
            Self::ChildOrganizations | Self::OrganizationsForMove => "View Organizations",
            Self::ApprovalCount | Self::ApprovalRequests => "View Approvals",
            Self::MatchingApplications => "View Applications",
            Self::Policies | Self::PolicyById | Self::Groups => "View Application Control Policies",
            Self::ReportList | Self::ReportRows => "View Reports",
            Self::Checkins => "Allow View Checkin History",
            Self::PrivateThreats => "View ThreatLocker threats",
            Self::PrivateRemediations => "View ThreatLocker remediations",
        }
    }

    /// The endpoint's number in [`super::answer::Content::Own`].
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// The members of a request body that matter; others are ignored, as the portal does.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Body {
    pub page_number: Option<u64>,
    pub page_size: Option<u64>,
    pub start_date: Option<String>,
    pub end_date: Option<String>,
    pub child_organizations: bool,
    pub show_child_organizations: Option<bool>,
    pub view_child_organizations: bool,
    pub params_fields_dto: Option<Value>,
    pub group_bys: Option<Value>,
    pub export_mode: Option<bool>,
    pub show_total_count: Option<bool>,
    pub only_true_denies: Option<bool>,
    pub simulate_deny: Option<bool>,
    pub source_table_id: Option<u8>,
    pub sort_descending: Option<bool>,
    pub action_type: Option<String>,
    pub action_types: Option<Vec<String>>,
    pub action: Option<String>,
    pub actions: Option<Vec<String>>,
    pub is_ascending: Option<bool>,
    pub show_deleted: bool,
    pub action_id: Option<i64>,
    pub hostname: Option<String>,
    pub full_path: Option<String>,
    pub policy_id: Option<String>,
    pub show_known_threats_only: bool,
    pub skip_paging: bool,
    pub search_text: Option<String>,
    pub include_all_children: Option<bool>,
    pub filter: Option<String>,
    pub computer_group_id: Option<String>,
    pub os_type: Option<i64>,
    pub active_only: Option<bool>,
    pub show_all_policies: Option<bool>,
    pub status_id: Option<u8>,
    pub order_by: Option<String>,
    pub computer_id: Option<String>,
    pub hide_heartbeat: Option<bool>,
}

impl Body {
    /// The dates of a window, both there and in order.
    pub fn window(&self) -> Option<(Micros, Micros)> {
        let read = |text: &Option<String>| {
            DateTime::parse_from_rfc3339(text.as_deref()?).ok().map(|time| time.timestamp_micros())
        };
        let (from, to) = (read(&self.start_date)?, read(&self.end_date)?);
        (from <= to).then_some((from, to))
    }

    /// Whether members are missing without which the unified audit fails on some tenants (section 8.3).
    pub fn lacks_strict_fields(&self) -> bool {
        self.group_bys.is_none()
            || self.export_mode.is_none()
            || self.show_total_count.is_none()
            || self.show_child_organizations.is_none()
            || self.only_true_denies.is_none()
            || self.simulate_deny.is_none()
            || self.source_table_id.is_none()
    }

    /// The unified audit's action types that are wanted, as [`super::answer::Query::actions`].
    pub fn unified_actions(&self) -> u32 {
        chosen(&UNIFIED_ACTIONS, self.action_type.as_ref(), self.action_types.as_deref())
    }

    /// The system audit's actions that are wanted.
    pub fn audit_actions(&self) -> u32 {
        chosen(&AUDIT_ACTIONS, self.action.as_ref(), self.actions.as_deref())
    }

    /// A filter that the portal knows and the simulator does not play: whoever sends it would be misled.
    pub fn unplayed(&self) -> Option<&'static str> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if self.action_id.is_some() {
            Some("actionId")
        } else if given(&self.hostname) || given(&self.full_path) || given(&self.policy_id) {
            Some("hostname, fullPath or policyId")
        } else if self.skip_paging || given(&self.search_text) {
            Some("skipPaging or searchText")
        } else {
            None
        }
    }
}

/// The bits of the named actions; every bit where none is named.
fn chosen(known: &[&str], one: Option<&String>, several: Option<&[String]>) -> u32 {
    let named: Vec<&String> =
        one.into_iter().chain(several.unwrap_or_default()).filter(|name| !name.is_empty()).collect();
    if named.is_empty() {
        return u32::MAX;
    }
    let wanted = |known: &str| named.iter().any(|name| name.eq_ignore_ascii_case(known));
    (0..).zip(known).filter(|(_, known)| wanted(known)).map(|(bit, _)| 1 << bit).sum()
}
