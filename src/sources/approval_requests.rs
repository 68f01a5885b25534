//! Requests for approval: who was stopped, asks that it be allowed, and what became of it.
//! `POST ApprovalRequest/ApprovalRequestGetByParameters` (contract section 7.1).
//!
//! There is no list of all: each is one of a `statusId`, from one to another of which a request moves.

pub mod matching;
mod read;

use serde_json::{Value, json};

use crate::model::{Entry, Kind};
use crate::normalise::{fields, text, time};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Parts, Query, Rejected, RowKey, Shape, Source};
use crate::sources::{id, organization};

pub struct ApprovalRequests;

/// Values of `statusId` (contract section 7.1).
mod status {
    pub(super) const PENDING: u8 = 1;
    pub(super) const APPROVED: u8 = 4;
    pub(super) const NOT_LEARNED: u8 = 6;
    pub(super) const REJECTED: u8 = 10;
    pub(super) const ADDED_TO_APPLICATION: u8 = 12;
    pub(super) const ESCALATED_FROM_CYBER_HEROES: u8 = 13;
    pub(super) const SELF_APPROVED: u8 = 16;
    pub(super) const ESCALATED_BY_CUSTOMER: u8 = 17;
}

use status::{
    ADDED_TO_APPLICATION, APPROVED, ESCALATED_BY_CUSTOMER, ESCALATED_FROM_CYBER_HEROES, NOT_LEARNED, PENDING,
    REJECTED, SELF_APPROVED,
};

static PARTS: Parts = Parts {
    all: &[
        PENDING,
        APPROVED,
        NOT_LEARNED,
        REJECTED,
        ADDED_TO_APPLICATION,
        ESCALATED_FROM_CYBER_HEROES,
        SELF_APPROVED,
        ESCALATED_BY_CUSTOMER,
    ],
    pending: PENDING,
    settled: &[APPROVED, NOT_LEARNED, REJECTED, ADDED_TO_APPLICATION, SELF_APPROVED],
    counts: &["statusId", "actionDate", "approvedBy", "assigneeUserId"],
    acted: "actionDate",
    part: "statusId",
};

/// Members that alter while nothing becomes of a request.
const VOLATILE: [&str; 6] = [
    "approvalRequestTimerDto",
    "count",
    "isAssigneeLoggedIntoMaster",
    "maxTriggeredStartDate",
    "retrievedAssigneeUsername",
    "signature",
];

impl Source for ApprovalRequests {
    fn name(&self) -> &'static str {
        "approval_requests"
    }

    /// What counts as a change stands in [`Source::parts`]; a row that cannot be read is known by all but these.
    fn shape(&self) -> Shape {
        Shape::Snapshot { volatile: &VOLATILE }
    }

    fn parts(&self) -> Option<&'static Parts> {
        Some(&PARTS)
    }

    fn kind(&self) -> Kind {
        Kind::Event
    }

    fn permission(&self) -> &'static str {
        "View Approvals"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::ApprovalRequestsByParameters)
    }

    fn body(&self, query: &Query) -> Value {
        let settled = PARTS.settled.contains(&query.part);
        json!({
            "statusId": query.part,
            "searchText": "",
            "userApprovalTierLevel": 0,
            "showCurrentTierOnly": false,
            "showChildOrganizations": query.scope.is_tree(),
            "requestTypeId": 0,
            "orderBy": if settled { "actiondate" } else { "datetime" },
            "isAscending": !settled,
            "actionType": null,
            "pageNumber": query.page,
            "pageSize": query.size,
        })
    }

    fn names(&self) -> &'static Names {
        static NAMES: Names = read::NAMES;
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        let approved = include_str!("approval_requests/example.json");
        let of = |status: u8| approved.replace(r#""statusId": 4"#, &format!(r#""statusId": {status}"#));
        // Where the action is no object, it stays whole.
        let mut plain: Value = serde_json::from_str(approved).expect("the example is JSON");
        plain["threatLockerActionDto"] = json!("blocked");
        vec![
            approved.to_owned(),
            of(PENDING),
            of(REJECTED),
            of(NOT_LEARNED),
            of(ESCALATED_FROM_CYBER_HEROES),
            of(SELF_APPROVED),
            plain.to_string(),
        ]
    }

    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    ) {
        read::read(entry, row, previous, emit);
    }

    /// `at` is when it was asked for. The user of a request need not be the computer's, so it tells of no user. A row
    /// without `approvalRequestId` cannot be followed over time.
    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        let [vendor_id, owner, owner_name, opened, computer, hostname] = fields(
            row,
            &[
                "approvalRequestId",
                "organizationId",
                "organizationName",
                "dateTime",
                "computerId",
                "hostname",
            ],
        )?;
        let vendor_id =
            id(vendor_id).ok_or_else(|| Rejected("a request without approvalRequestId".to_owned()))?;
        let computer = id(computer);
        Ok(RowKey {
            organization: organization(owner),
            organization_name: text(owner_name),
            vendor_id: Some(vendor_id),
            content: [0; 16],
            at: time(opened),
            imported: None,
            reader: None,
            host: text(hostname).filter(|_| computer.is_none()),
            computer,
            user: None,
            facts: None,
            rated: false,
        })
    }
}
