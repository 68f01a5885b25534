//! What a row of the requests for approval says (contract section 7.1).

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use uuid::Uuid;

use super::status::{
    ADDED_TO_APPLICATION, APPROVED, ESCALATED_BY_CUSTOMER, ESCALATED_FROM_CYBER_HEROES, NOT_LEARNED, PENDING,
    REJECTED, SELF_APPROVED,
};
use crate::model::{Change, Entry, Kind, Micros};
use crate::normalise::{fields, time};
use crate::record::approval::{Approval, Person, Reason, Step, Took};
use crate::record::event::{Host, Policy};
use crate::record::path::{is_email, is_hash};
use crate::record::row::{Field, Names, Row, Slot, Slots};
use crate::record::{About, Record, Repeats};
use crate::sources::platform;

/// Every member of contract section 7.1, in the order of the portal.
pub(super) const NAMES: Names = Names::new(&[
    "statusIdEscalatedToMSP",
    "statusIdEscalatedByCustomer",
    "masterOrganizationId",
    "approvedBy",
    "approvalRequestId",
    "dateTime",
    "path",
    "hash",
    "username",
    "hostname",
    "statusId",
    "requestTypeId",
    "computerId",
    "organizationName",
    "json",
    "ticketId",
    "requestor",
    "requestorReason",
    "requestorEmailAddress",
    "comments",
    "actionDate",
    "organizationId",
    "multiLevelApprovalRequestId",
    "approvalNumber",
    "approvedByTierLevel",
    "tempPolicyId",
    "policyId",
    "tempApplicationId",
    "applicationId",
    "multiLevelApprovalStatusId",
    "initialApprovalTierLevel",
    "approvalCount",
    "pendingTierLevel",
    "hasPendingApprovalRequest",
    "ipAddress",
    "isAssigned",
    "assigneeUserId",
    "threatLockerDataCenterId",
    "instanceName",
    "assigneeUsername",
    "assigneeFirstName",
    "assigneeLastname",
    "threatLockerActionDto",
    "threatLockerActionDto.fullPath",
    "threatLockerActionDto.policyId",
    "threatLockerActionDto.username",
    "threatLockerActionDto.actionId",
    "threatLockerActionDto.hash",
    "threatLockerActionDto.processName",
    "threatLockerActionDto.certs",
    "threatLockerActionDto.applicationId",
    "threatLockerActionDto.datetime",
    "threatLockerActionDto.logAction",
    "threatLockerActionDto.serialNumber",
    "threatLockerActionDto.deviceType",
    "threatLockerActionDto.actionType",
    "threatLockerActionDto.size",
    "threatLockerActionDto.processId",
    "threatLockerActionDto.ringFence",
    "threatLockerActionDto.policyName",
    "threatLockerActionDto.applicationName",
    "threatLockerActionDto.encryptionStatus",
    "threatLockerActionDto.installedBy",
    "threatLockerActionDto.monitorOnly",
    "threatLockerActionDto.notes",
    "threatLockerActionDto.sha256",
    "threatLockerActionDto.ringfencePolicyId",
    "threatLockerActionDto.remotePresence",
    "threatLockerActionDto.organizationId",
    "threatLockerActionDto.hostname",
    "threatLockerActionDto.computerId",
    "threatLockerActionDto.manufacturer",
    "threatLockerActionDto.osType",
    "threatLockerActionDto.destinationIP",
    "threatLockerActionDto.domainName",
    "threatLockerActionDto.organizationName",
    "notes",
    "signature",
    "tlInstructions",
    "suggestCustomRule",
    "authorizeForPermit",
    "portalApiUrl",
    "cyberHeroManagementConfigured",
    "maxTriggeredStartDate",
    "isEscalatedByCyberHero",
    "isEscalatedByCustomer",
    "ticketApprovalManager",
    "showMfaChallenge",
    "showMfaRegistration",
    "linkedMfaUser",
    "serialNumber",
    "approvalRequestTimerDto",
    "canRequestNewBuiltIn",
    "isAssigneeLoggedIntoMaster",
    "retrievedAssigneeUsername",
    "count",
]);

/// The slot of a name, found when the program is built.
macro_rules! slot {
    ($name:literal) => {
        const { NAMES.slot($name) }
    };
}

/// What the row says of the action that was stopped.
const FACTS: [Slot; 26] = [
    slot!("json"),
    slot!("threatLockerActionDto"),
    slot!("threatLockerActionDto.fullPath"),
    slot!("threatLockerActionDto.policyId"),
    slot!("threatLockerActionDto.policyName"),
    slot!("threatLockerActionDto.actionId"),
    slot!("threatLockerActionDto.actionType"),
    slot!("threatLockerActionDto.hash"),
    slot!("threatLockerActionDto.processName"),
    slot!("threatLockerActionDto.processId"),
    slot!("threatLockerActionDto.certs"),
    slot!("threatLockerActionDto.applicationId"),
    slot!("threatLockerActionDto.applicationName"),
    slot!("threatLockerActionDto.datetime"),
    slot!("threatLockerActionDto.serialNumber"),
    slot!("threatLockerActionDto.deviceType"),
    slot!("threatLockerActionDto.manufacturer"),
    slot!("threatLockerActionDto.encryptionStatus"),
    slot!("threatLockerActionDto.ringFence"),
    slot!("threatLockerActionDto.ringfencePolicyId"),
    slot!("threatLockerActionDto.installedBy"),
    slot!("threatLockerActionDto.monitorOnly"),
    slot!("threatLockerActionDto.logAction"),
    slot!("threatLockerActionDto.notes"),
    slot!("threatLockerActionDto.destinationIP"),
    slot!("threatLockerActionDto.domainName"),
];

/// The step that an entry tells is its main record. One that begins with a request that is past its opening tells
/// the opening, too.
pub(super) fn read<'a>(
    entry: &Entry<'a>,
    row: &'a Row<'a>,
    previous: Option<&'a Row<'a>>,
    emit: &mut dyn FnMut(Record<'a>),
) {
    let (main, further) = steps(entry.change, row, previous);
    let mut tell = |step: Step, is_main: bool| {
        let about = approval(row, step);
        let noticed = entry.time.filter(|_| previous.is_some());
        emit(Record {
            uid: if is_main { entry.uid } else { Uuid::new_v5(&entry.uid, step.as_str().as_bytes()) },
            kind: Kind::Event,
            time: about.time.map(|time| time.at).or_else(|| timed(row, step)).or(noticed),
            row,
            keeps_rest: is_main,
            repeats: Repeats::of([
                (row.text(slot!("threatLockerActionDto.fullPath")), about.path),
                (row.text(slot!("threatLockerActionDto.hash")), about.hash),
                (row.text(slot!("threatLockerActionDto.username")), row.text(slot!("username"))),
                (row.text(slot!("threatLockerActionDto.hostname")), about.host.name),
            ]),
            about: About::Approval(Box::new(about)),
        });
    };
    tell(main, true);
    if let Some(further) = further {
        tell(further, false);
    }
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Escalated,
    Decided(Step),
    Unknown,
}

fn state(row: &Row<'_>) -> State {
    let number = |slot| row.integer(slot).map(|number| number.value);
    let Some(status) = number(slot!("statusId")) else { return State::Unknown };
    let is = |known: u8| status == i64::from(known);
    let on = |slot| row.flag(slot).is_some_and(|flag| flag.value);
    match () {
        () if is(APPROVED) || is(ADDED_TO_APPLICATION) => State::Decided(Step::Approved),
        () if is(SELF_APPROVED) => State::Decided(Step::SelfApproved),
        () if is(REJECTED) => State::Decided(Step::Rejected),
        () if is(NOT_LEARNED) => State::Decided(Step::NotLearned),
        () if is(ESCALATED_FROM_CYBER_HEROES) || is(ESCALATED_BY_CUSTOMER) => State::Escalated,
        () if is(PENDING) => {
            match on(slot!("isEscalatedByCyberHero")) || on(slot!("isEscalatedByCustomer")) {
                true => State::Escalated,
                false => State::Pending,
            }
        }
        () => State::Unknown,
    }
}

fn steps(change: Change, row: &Row<'_>, previous: Option<&Row<'_>>) -> (Step, Option<Step>) {
    let assignee = |row: &Row<'_>| row.id(slot!("assigneeUserId")).map(|id| id.text().to_lowercase());
    let now = state(row);
    match (change, previous) {
        (Change::Removed, _) => (Step::Removed, None),
        (Change::Changed, Some(previous)) => {
            let before = state(previous);
            let assigned = assignee(row).filter(|id| Some(id) != assignee(previous).as_ref());
            let assigned = assigned.map(|_| Step::Assigned);
            match stepped(before, now) {
                Some(step) => (step, assigned),
                None => (assigned.unwrap_or(Step::Updated), None),
            }
        }
        _ => match stepped(State::Pending, now) {
            Some(step) => (step, Some(Step::Opened)),
            None => (Step::Opened, assignee(row).map(|_| Step::Assigned)),
        },
    }
}

/// The step from one state to another; none where they are the same.
fn stepped(before: State, now: State) -> Option<Step> {
    match (before, now) {
        (before, now) if before == now => None,
        (State::Escalated, State::Pending) => Some(Step::Returned),
        (State::Decided(_), State::Pending) => Some(Step::Reopened),
        (State::Unknown, State::Pending) => Some(Step::Updated),
        (_, State::Pending) => None,
        (_, State::Escalated) => Some(Step::Escalated),
        (_, State::Decided(step)) => Some(step),
        (_, State::Unknown) => Some(Step::Other),
    }
}

/// When a step was taken that has no member of its own: the portal keeps the times in one object.
fn timed(row: &Row<'_>, step: Step) -> Option<Micros> {
    let timer = row.get(slot!("approvalRequestTimerDto"))?.raw();
    let [assigned, reassigned, escalated, returned, actioned] =
        fields(timer, &["assignedDate", "reassignedDate", "escalatedDate", "returnedDate", "actionedDate"])
            .ok()?;
    match step {
        Step::Assigned => time(reassigned).or_else(|| time(assigned)),
        Step::Escalated => time(escalated),
        Step::Returned => time(returned),
        _ if step.decides() => time(actioned),
        _ => None,
    }
}

fn approval<'a>(row: &'a Row<'a>, step: Step) -> Approval<'a> {
    let (opened, acted) = (row.time(slot!("dateTime")), row.time(slot!("actionDate")));
    let status = row.text(slot!("statusId"));
    let organization_name = row.text(slot!("organizationName"));
    let username = Person { name: row.text(slot!("username")), ..Person::default() };
    let requestor = Person {
        name: row.text(slot!("requestor")).or_else(|| row.text(slot!("requestorEmailAddress"))),
        id: None,
        email: row.text(slot!("requestorEmailAddress")).filter(|email| is_email(email.inner())),
    };
    let either = |one: Person<'a>, other: Person<'a>| if one.name.is_some() { one } else { other };
    let approver = Person { name: row.text(slot!("approvedBy")), ..Person::default() };
    let decides = step.decides() || step == Step::Updated;
    Approval {
        step,
        step_from: [slot!("statusId"), slot!("assigneeUserId"), slot!("isEscalatedByCyberHero")]
            .into_iter()
            .fold(slot!("isEscalatedByCustomer").into(), |slots: Slots, slot| slots | slot.into()),
        id: row.id(slot!("approvalRequestId")),
        time: match step {
            Step::Opened => opened,
            _ if decides => acted,
            _ => None,
        },
        status,
        kind: row.text(slot!("requestTypeId")),
        organization: row.id(slot!("organizationId")),
        organization_name,
        host: Host {
            id: row.id(slot!("computerId")),
            name: row.text(slot!("hostname")),
            platform: platform(row, slot!("threatLockerActionDto.osType")),
        },
        address: row.address(slot!("ipAddress")),
        serial: row.text(slot!("serialNumber")),
        actor: match step {
            Step::Opened => either(requestor, username),
            Step::SelfApproved => either(approver, either(requestor, username)),
            _ if decides => approver,
            _ => Person::default(),
        },
        user: either(username, requestor),
        assignee: Person {
            name: row.text(slot!("assigneeUsername")),
            id: row.id(slot!("assigneeUserId")),
            email: None,
        },
        reason: row.text(slot!("requestorReason")).map(reason),
        path: row.text(slot!("path")).or_else(|| row.text(slot!("threatLockerActionDto.fullPath"))),
        hash: row.text(slot!("hash")).filter(|hash| is_hash(hash.inner(), 1..=128)),
        sha256: row.text(slot!("threatLockerActionDto.sha256")).filter(|hash| is_hash(hash.inner(), 64..=64)),
        size: row.integer(slot!("threatLockerActionDto.size")),
        facts: FACTS.iter().filter_map(|slot| row.get(*slot)).collect(),
        policy: Policy { id: row.id(slot!("policyId")), ..Policy::default() },
        comments: row.text(slot!("comments")),
        took: opened
            .zip(acted)
            .filter(|(from, to)| step.decides() && from.at <= to.at)
            .map(|(from, to)| Took { from, to }),
    }
}

/// The portal has the reason in base64; where it is none that holds text, it is as it stands.
fn reason(field: Field<'_>) -> Reason<'_> {
    let is_text = |text: &String| {
        !text.is_empty() && !text.contains(|letter: char| letter.is_control() && !letter.is_whitespace())
    };
    let bytes = BASE64_STANDARD.decode(field.text().trim()).ok();
    let decoded = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).filter(is_text);
    Reason { field, decoded: decoded.map(Cow::Owned) }
}

#[cfg(test)]
mod tests;
