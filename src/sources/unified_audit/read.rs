//! What a row of the unified audit says (contract section 5.2).
//!
//! Which process is which: the portal shows `processPath` as the parent of what is started, so there it is who
//! acts, and `processId` and `processName` are of the new process. In every other row all three are of who acts.

use crate::record::Repeats;
use crate::record::event::{
    Action, Actor, Application, Event, FileAction, Host, Outcome, Policy, Process, Severity, Subject, Verdict,
};
use crate::record::path::is_hash;
use crate::record::row::{Field, Names, Row, Slot, Slots};
use crate::sources::platform;

/// Every member of contract section 5.2, in the order of the portal.
pub(in crate::sources) const NAMES: Names = Names::new(&[
    "actionLogId",
    "eActionLogId",
    "organizationId",
    "computerId",
    "dateTime",
    "dateTimeImported",
    "organizationName",
    "hostname",
    "username",
    "fullPath",
    "policyName",
    "actionType",
    "actionTypeId",
    "actionId",
    "action",
    "isMonitorMode",
    "monitorMode",
    "learningModeEndDate",
    "policyId",
    "policyLocation",
    "policyOrganizationId",
    "processId",
    "processPath",
    "hash",
    "createdByProcess",
    "data",
    "remotePresence",
    "remotePresenceText",
    "remotePresenceThreatLockerDetected",
    "deviceType",
    "cert",
    "certs",
    "certExists",
    "certificates",
    "certText",
    "organizationParents",
    "applicationOrganizationId",
    "applicationIsBuiltIn",
    "applicationId",
    "applicationName",
    "notes",
    "serialNumber",
    "encryption",
    "size",
    "sha256Hash",
    "policyExists",
    "policyEnabled",
    "storagePolicyExists",
    "nacPolicyExists",
    "secureNetworkPolicyExists",
    "twPolicyExists",
    "webControlPolicyExists",
    "optionToRequest",
    "allowPermitVendorButton",
    "effectiveAction",
    "encryptionStatus",
    "reportMissing",
    "virusTotalCheckName",
    "virusTotalCheckArgument",
    "osType",
    "isExtension",
    "edgeStoreUrl",
    "chromeStoreUrl",
    "firefoxStoreUrl",
    "actionLogCreatedByProcesses",
    "totalCount",
    "lastSortValue",
    "networkDirection",
    "sourceIPAddress",
    "destinationIPAddress",
    "groupByCount",
    "destinationPort",
    "batchId",
    "isProtectedProcess",
    "memoryBytes",
    "processName",
    "parentProcessId",
    "parentProcessName",
    "hasViewComputerPermission",
    "allowFileUpload",
    "canViewOnSystemLookup",
    "systemLookupUrl",
    "hasPolicyData",
    "threatLockerItem",
    "integrationTypeId",
    "isCloudLog",
    "isCloudActionType",
    "threatSeverityLevel",
    "engineRatings",
    "isVirusTotalUnavailable",
    "deleteFileRequestSent",
    "isAccessDevice",
]);

/// Values of `actionType`, in any casing, and what they mean; the names are [`super::ACTION_TYPES`].
const ACTIONS: [(&str, Action); 15] = [
    ("execute", Action::Launch),
    ("newprocess", Action::Launch),
    ("install", Action::Launch),
    ("elevate", Action::Elevate),
    ("powershell", Action::Script),
    ("read", Action::File(FileAction::Read)),
    ("write", Action::File(FileAction::Write)),
    ("move", Action::File(FileAction::Move)),
    ("delete", Action::File(FileAction::Delete)),
    ("baseline", Action::Baseline),
    ("network", Action::Network),
    ("dns", Action::Dns),
    ("web", Action::Web),
    ("registry", Action::Registry),
    ("configuration", Action::Configuration),
];

/// The slot of a name, found when the program is built.
macro_rules! slot {
    ($name:literal) => {
        const { NAMES.slot($name) }
    };
}

/// The event, and which of its fields repeat others.
pub(in crate::sources) fn read<'a>(row: &'a Row<'a>) -> (Event<'a>, Repeats<'a>) {
    let storage = row.text(slot!("deviceType"));
    let action_name = row.text(slot!("actionType"));
    let action = action(action_name, storage);
    let outcome = outcome(row);
    let (severity, severity_from) = severity(row, &outcome);
    let organization = row.id(slot!("organizationId"));
    let sha256 = row.text(slot!("sha256Hash")).filter(|hash| is_hash(hash.inner(), 64..=64));
    let (actor, started) = processes(row, action);
    let application_owner = another(row, slot!("applicationOrganizationId"), organization);
    let event = Event {
        action,
        action_name,
        id: row.id(slot!("eActionLogId")),
        time: row.text(slot!("dateTime")),
        received: row.time(slot!("dateTimeImported")),
        organization,
        organization_name: row.text(slot!("organizationName")),
        outcome,
        severity,
        severity_from,
        host: Host {
            id: row.id(slot!("computerId")),
            name: row.text(slot!("hostname")),
            platform: platform(row, slot!("osType")),
        },
        actor,
        subject: Subject {
            path: row.text(slot!("fullPath")),
            process: started,
            size: row.integer(slot!("size")),
            sha256,
            hash: row.text(slot!("hash")).filter(|hash| is_hash(hash.inner(), 16..=64)),
            file_facts: [
                row.get(slot!("createdByProcess")),
                row.get(slot!("actionLogCreatedByProcesses")),
                row.get(slot!("cert")),
                row.get(slot!("certs")),
                row.get(slot!("certExists")),
                row.get(slot!("certificates")),
                row.get(slot!("certText")),
                row.get(slot!("isExtension")),
                row.get(slot!("edgeStoreUrl")),
                row.get(slot!("chromeStoreUrl")),
                row.get(slot!("firefoxStoreUrl")),
                row.get(slot!("virusTotalCheckName")),
                row.get(slot!("isVirusTotalUnavailable")),
                row.get(slot!("engineRatings")),
                row.get(slot!("canViewOnSystemLookup")),
                row.get(slot!("systemLookupUrl")),
                row.get(slot!("allowFileUpload")),
                row.get(slot!("deleteFileRequestSent")),
                row.get(slot!("applicationIsBuiltIn")),
                application_owner,
            ],
            content: row.text(slot!("data")),
            storage,
            serial: row.text(slot!("serialNumber")),
            source_address: row.address(slot!("sourceIPAddress")),
            destination_address: row.address(slot!("destinationIPAddress")),
            destination_port: row
                .integer(slot!("destinationPort"))
                .filter(|port| port.value <= i64::from(u16::MAX)),
            ..Subject::default()
        },
        policy: policy(row, organization),
        application: Application {
            id: row.id(slot!("applicationId")),
            name: row.text(slot!("applicationName")),
        },
    };
    let repeats = Repeats::of([
        (row.text(slot!("virusTotalCheckArgument")), sha256),
        (row.text(slot!("policyOrganizationId")), organization),
        (row.text(slot!("applicationOrganizationId")), organization),
        (row.text(slot!("fullPath")), row.text(slot!("data"))),
    ]);
    (event, repeats)
}

/// An organization, unless it is the row's own.
fn another<'a>(row: &Row<'a>, slot: Slot, own: Option<Field<'a>>) -> Option<Field<'a>> {
    row.get(slot).filter(|one| own.is_none_or(|own| !one.repeats(own)))
}

fn action(name: Option<Field<'_>>, storage: Option<Field<'_>>) -> Action {
    let Some(name) = name else { return Action::Other };
    let known = ACTIONS.iter().find(|(word, _)| word.eq_ignore_ascii_case(name.inner()));
    match known.map_or(Action::Other, |(_, action)| *action) {
        Action::File(what) if storage.is_some() => Action::Storage(what),
        action => action,
    }
}

/// Who acts, and what was started.
fn processes<'a>(row: &Row<'a>, action: Action) -> (Actor<'a>, Process<'a>) {
    let of = |id, name| Process {
        id: row.integer(id).filter(|id| id.value > 0),
        name: row.text(name),
        path: None,
        facts: [None, None],
    };
    let own = Process {
        facts: [slot!("isProtectedProcess"), slot!("memoryBytes")].map(|slot| row.get(slot)),
        ..of(slot!("processId"), slot!("processName"))
    };
    let parent = of(slot!("parentProcessId"), slot!("parentProcessName"));
    let path = row.text(slot!("processPath"));
    let actor = Actor { user: row.text(slot!("username")), ..Actor::default() };
    match action {
        Action::Launch | Action::Elevate => (Actor { process: Process { path, ..parent }, ..actor }, own),
        _ => (Actor { process: Process { path, ..own }, parent, ..actor }, Process::default()),
    }
}

fn policy<'a>(row: &Row<'a>, organization: Option<Field<'a>>) -> Policy<'a> {
    Policy {
        id: row.id(slot!("policyId")),
        name: row.text(slot!("policyName")),
        group: row.text(slot!("policyLocation")),
        facts: [
            row.get(slot!("isMonitorMode")),
            row.get(slot!("monitorMode")),
            row.get(slot!("learningModeEndDate")),
            row.get(slot!("policyExists")),
            row.get(slot!("policyEnabled")),
            row.get(slot!("hasPolicyData")),
            row.get(slot!("storagePolicyExists")),
            row.get(slot!("nacPolicyExists")),
            row.get(slot!("secureNetworkPolicyExists")),
            row.get(slot!("twPolicyExists")),
            row.get(slot!("webControlPolicyExists")),
            row.get(slot!("optionToRequest")),
            row.get(slot!("allowPermitVendorButton")),
            another(row, slot!("policyOrganizationId"), organization),
        ],
    }
}

/// `actionId` says what the policy said, else the words do (contract section 5.3); `effectiveAction` says what
/// was really done, else monitor mode permits all.
fn outcome<'a>(row: &Row<'a>) -> Outcome<'a> {
    let code = row.integer(slot!("actionId"));
    let verdict_name = row.text(slot!("action"));
    let effect_name = row.text(slot!("effectiveAction"));
    let monitor = row.flag(slot!("isMonitorMode"));
    let verdict = match code.map(|code| code.value) {
        Some(1 | 4) => Verdict::Permit,
        Some(2 | 3 | 7 | 99) => Verdict::Deny,
        Some(6) => Verdict::Ringfenced,
        _ => verdict_name.map_or(Verdict::Other, verdict_of),
    };
    let effect = effect_name.map_or(Verdict::Other, verdict_of);
    let permitted = match (effect, verdict) {
        (Verdict::Permit, _) => Some(true),
        (Verdict::Deny | Verdict::Ringfenced, _) => Some(false),
        (Verdict::Other, Verdict::Permit) => Some(true),
        (Verdict::Other, Verdict::Deny | Verdict::Ringfenced) => {
            Some(monitor.is_some_and(|monitor| monitor.value))
        }
        (Verdict::Other, Verdict::Other) => None,
    };
    let from = [slot!("actionId"), slot!("action"), slot!("effectiveAction"), slot!("isMonitorMode")];
    let from = from.into_iter().fold(Slots::default(), |all, slot| all | slot.into());
    let code = code.map(|code| code.field);
    Outcome { verdict, permitted, from, code, verdict_name, effect_name }
}

/// The portal's words: "Permit", "Deny", "Deny with option to request", "Ringfenced".
fn verdict_of(name: Field<'_>) -> Verdict {
    let begins =
        |word: &str| name.inner().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    match () {
        () if begins("permit") => Verdict::Permit,
        () if begins("den") => Verdict::Deny,
        () if begins("ringfence") => Verdict::Ringfenced,
        () => Verdict::Other,
    }
}

/// By the verdict and, above that, by the threat level.
fn severity(row: &Row<'_>, outcome: &Outcome<'_>) -> (Severity, Slots) {
    let by_verdict = match (outcome.verdict, outcome.permitted) {
        (Verdict::Ringfenced, _) => Severity::High,
        (Verdict::Deny, Some(true)) => Severity::Low,
        (Verdict::Deny, _) | (_, Some(false)) => Severity::Medium,
        (Verdict::Permit, _) | (Verdict::Other, Some(true)) => Severity::Informational,
        (Verdict::Other, None) => Severity::Unknown,
    };
    let Some(threat) = row.text(slot!("threatSeverityLevel")) else { return (by_verdict, outcome.from) };
    let by_threat = match threat.inner() {
        word if word.eq_ignore_ascii_case("severe") => Severity::Critical,
        word if word.eq_ignore_ascii_case("warning") => Severity::Medium,
        _ => Severity::Unknown,
    };
    (by_verdict.max(by_threat), outcome.from | threat.slot().into())
}
