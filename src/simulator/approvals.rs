//! Requests for approval that are opened, handed on and decided, and their rows (contract section 7.1).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use uuid::Uuid;

use super::dialect::DAY;
use super::dice::{Dice, mix};
use super::text::{NO_GUID, Object, Spelling, guid};
use super::world::{Organization, purpose};
use crate::model::{Micros, SECOND};

/// What of a request changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub status: u8,
    pub action: Option<Micros>,
    pub approved_by: &'static str,
    /// The number of a person.
    pub assignee: Option<u64>,
    pub escalated: Option<Micros>,
    pub assigned: Option<Micros>,
    pub removed: bool,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// To another `statusId`; a decision has its time and who made it.
    Status(u8),
    Assign(u64),
    /// The portal keeps it no more.
    Remove,
}

/// A request and its history.
#[derive(Clone, Debug)]
pub struct Request {
    pub number: u64,
    pub id: Uuid,
    pub organization: u16,
    pub opened: Micros,
    /// By time; several changes of one moment keep their order.
    changes: BTreeMap<(Micros, u32), Patch>,
}

/// Statuses that decide (contract section 7.1), and those that hand a request on.
const DECIDED: [u8; 5] = [4, 6, 10, 12, 16];
const KNOWN: [u8; 8] = [1, 4, 6, 10, 12, 13, 16, 17];
const ADMINISTRATORS: [&str; 3] = ["admin@example.com", "b.tester@example.com", "Zoë Žukauskaitė"];
const REASONS: [&str; 5] = [
    "Bitte freigeben – brauche ich für die Präsentation 🙏",
    "please, it is urgent!",
    "need it\nfor the audit",
    "",
    "test",
];

impl Request {
    /// Adds a change, which may lie in the past or the future.
    pub fn patch(&mut self, at: Micros, patch: Patch) {
        let place = self.changes.range((at, 0)..=(at, u32::MAX)).next_back().map_or(0, |((_, n), _)| n + 1);
        self.changes.insert((at, place), patch);
    }

    /// What it is at a moment; nothing before it was opened.
    pub fn state(&self, now: Micros) -> Option<State> {
        self.history(now).pop().map(|(_, state)| state)
    }

    /// Every state that a reader could have seen until `now`, with the moment it began.
    pub fn history(&self, now: Micros) -> Vec<(Micros, State)> {
        if self.opened > now {
            return Vec::new();
        }
        let mut state = State {
            status: 1,
            action: None,
            approved_by: "",
            assignee: None,
            escalated: None,
            assigned: None,
            removed: false,
        };
        let mut history = vec![(self.opened, state.clone())];
        for ((at, _), patch) in self.changes.range((self.opened, 0)..=(now, u32::MAX)) {
            match *patch {
                Patch::Status(status) => {
                    let decided = DECIDED.contains(&status);
                    state.status = status;
                    state.action = decided.then_some(*at);
                    let who = ADMINISTRATORS[usize::try_from(self.number % 3).unwrap_or(0)];
                    state.approved_by = if decided && status != 6 { who } else { "" };
                    state.escalated = matches!(status, 13 | 17).then_some(*at).or(state.escalated);
                }
                Patch::Assign(person) => (state.assignee, state.assigned) = (Some(person), Some(*at)),
                Patch::Remove => state.removed = true,
            }
            match history.last_mut() {
                Some(last) if last.0 == *at => last.1 = state.clone(),
                _ => history.push((*at, state.clone())),
            }
            if state.removed {
                break;
            }
        }
        history
    }

    /// The vendor's hash of what was stopped, where the row has one.
    pub fn hash(&self) -> Option<String> {
        let halves = (mix(self.number), mix(!self.number));
        (!self.number.is_multiple_of(4)).then(|| format!("{:016x}{:016x}", halves.0, halves.1))
    }

    /// The id of a person to whom requests are assigned.
    pub fn person(seed: u64, number: u64) -> Uuid {
        guid(seed, purpose::PERSON, 1_000 + number)
    }

    /// Appends its row at a moment.
    pub fn write(&self, organization: &Organization, now: Micros, seed: u64, out: &mut String) {
        let Some(state) = self.state(now) else { return };
        let spelling = Spelling::any(self.number);
        let path = r"c:\\users\\a.muster\\downloads\\setup.exe";
        let reason = REASONS[usize::try_from(self.number % 5).unwrap_or(0)];
        // Live rows have it in base64, as it is in others.
        let reason = match self.number % 4 {
            0 => reason.replace('\n', "\\n"),
            _ => BASE64_STANDARD.encode(reason),
        };
        let computer = guid(seed, purpose::COMPUTER, self.number % 20);
        let mut object = Object::start(out);
        object.value("statusIdEscalatedToMSP", 13).value("statusIdEscalatedByCustomer", 17);
        object.text("masterOrganizationId", NO_GUID).text("approvedBy", state.approved_by);
        object.text("approvalRequestId", self.id).time("dateTime", self.opened, spelling);
        object.text("path", path).maybe("hash", self.hash());
        object
            .text("username", r"EXAMPLE\\a.muster")
            .text("hostname", format_args!("WS-{:05}", self.number % 20));
        object.value("statusId", state.status).value("requestTypeId", 1 + self.number % 3);
        object.text("computerId", computer).text("organizationName", &organization.name);
        object.text(
            "json",
            match self.number % 3 {
                0 => "",
                1 => r#"{\"FullPath\": \"c:\\\\setup.exe\", \"ActionType\": \"execute\"}"#,
                _ => r#"{\"FullPath\":\"c:\\\\temp\\\\trunc"#,
            },
        );
        object.maybe("requestor", (!self.number.is_multiple_of(7)).then_some("Anna Muster"));
        object.text("requestorReason", reason);
        object.maybe(
            "requestorEmailAddress",
            (!self.number.is_multiple_of(7)).then_some("a.muster@example.com"),
        );
        object.text("comments", "").text("organizationId", organization.id);
        match state.action {
            Some(action) => object.time("actionDate", action, Spelling::any(self.number + 3)),
            None if self.number.is_multiple_of(2) => object.value("actionDate", "null"),
            None => object.text("actionDate", "0001-01-01T00:00:00"),
        };
        object.members(
            r#""multiLevelApprovalRequestId":null,"approvalNumber":0,"tempPolicyId":null,"policyId":null"#,
        );
        object.text("ipAddress", "192.0.2.17").value("isAssigned", state.assignee.is_some());
        object.maybe("assigneeUserId", state.assignee.map(|person| Self::person(seed, person)));
        object.text("assigneeUsername", if state.assignee.is_some() { ADMINISTRATORS[0] } else { "" });
        self.write_action(&mut object);
        object.members(r#""notes":"","signature":"c2ln","tlInstructions":"","isEscalatedByCyberHero":false"#);
        object.members(r#""isEscalatedByCustomer":false,"linkedMfaUser":null,"serialNumber":"EX0001SN""#);
        self.write_timer(&mut object, &state, now);
        // A member that means nothing and moves.
        object.value("count", now.div_euclid(SECOND) % 7);
        object.end();
    }

    /// The action that was stopped: keys as live rows have them, or as the vendor's document.
    fn write_action(&self, object: &mut Object<'_>) {
        let live = concat!(
            r#"{"fullPath":"c:\\users\\a.muster\\downloads\\setup.exe","policyId":"","actionId":3,"actionType":"execute","#,
            r#""serialNumber":"","size":734208,"processId":8124,"osType":1,"domainName":"","certs":[]}"#
        );
        let document = concat!(
            r#"{"fullpath":"c:\\users\\a.muster\\downloads\\setup.exe","policyid":"","actionid":3,"actionType":"execute","#,
            r#""SerialNumber":"","size":734208,"processId":8124,"osType":1,"DomainName":null,"certs":null}"#
        );
        object.value(
            "threatLockerActionDto",
            match self.number % 5 {
                0 => "null",
                1 | 2 => live,
                _ => document,
            },
        );
    }

    fn write_timer(&self, object: &mut Object<'_>, state: &State, now: Micros) {
        let mut timer = String::new();
        let mut dates = Object::start(&mut timer);
        dates.text("approvalRequestId", self.id).time("requestDate", self.opened, Spelling::Ticks);
        for (name, at) in [
            ("assignedDate", state.assigned),
            ("escalatedDate", state.escalated),
            ("returnedDate", None),
            ("reassignedDate", None),
            ("actionedDate", state.action),
        ] {
            match at {
                Some(at) => dates.time(name, at, Spelling::Ticks),
                None => dates.text(name, "0001-01-01T00:00:00"),
            };
        }
        dates.value("totalTimeInSeconds", (state.action.unwrap_or(now) - self.opened).div_euclid(SECOND));
        dates.end();
        object.value("approvalRequestTimerDto", timer);
    }
}

/// The applications that match a file of this hash, each whether it is one of ThreatLocker's own: none for a third of
/// them, and for what has none.
pub fn applications(hash: Option<&str>) -> &'static [(&'static str, bool)] {
    const KNOWN: [(&str, bool); 2] =
        [("Beispiel-Werkzeug \u{2013} \u{fc}", false), ("Example Tool (Built-In)", true)];
    let count = hash.map_or(0, |hash| hash.bytes().map(usize::from).sum::<usize>() % 3);
    &KNOWN[KNOWN.len() - count..]
}

/// All requests, the removed ones too.
#[derive(Clone, Debug)]
pub struct Requests {
    pub requests: Vec<Request>,
    seed: u64,
    organizations: u16,
}

impl Requests {
    /// So many from the sixty days before.
    pub(super) fn new(seed: u64, organizations: usize, beginning: Micros, count: u32) -> Self {
        let organizations = u16::try_from(organizations).unwrap_or(u16::MAX);
        let mut requests = Self { requests: Vec::new(), seed, organizations };
        for number in 0..i64::from(count) {
            let opened = beginning - 60 * DAY + number * 60 * DAY / i64::from(count.max(1));
            requests.live(opened, Dice::new(seed, purpose::APPROVAL, u64::try_from(number).unwrap_or(0)));
        }
        requests
    }

    /// Opens a request and answers its index.
    pub fn open(&mut self, organization: u16, opened: Micros) -> usize {
        let number = self.requests.len() as u64;
        let id = guid(self.seed, purpose::APPROVAL, number);
        self.requests.push(Request { number, id, organization, opened, changes: BTreeMap::new() });
        self.requests.len() - 1
    }

    /// Opens a request and lets it live one of the usual lives.
    pub(super) fn live(&mut self, opened: Micros, mut dice: Dice) {
        // A parent has none of its own (contract section 8.3).
        let children = i64::from(self.organizations.saturating_sub(1));
        let organization =
            if children == 0 { 0 } else { 1 + u16::try_from(dice.below(children)).unwrap_or(0) };
        let index = self.open(organization, opened);
        let mut at = opened;
        let mut later = |dice: &mut Dice, most: i64| {
            at += (20 + dice.below(most)) * SECOND;
            at
        };
        let request = &mut self.requests[index];
        match dice.index(10) {
            0..3 => request.patch(later(&mut dice, 20_000), Patch::Status(4)),
            3 => request.patch(later(&mut dice, 20_000), Patch::Status(10)),
            4 => request.patch(later(&mut dice, 40), Patch::Status(16)),
            5 => {
                request.patch(later(&mut dice, 3_000), Patch::Assign(dice.roll() % 3));
                request.patch(later(&mut dice, 9_000), Patch::Status(12));
            }
            6 => {
                request.patch(later(&mut dice, 3_000), Patch::Status(13));
                request.patch(later(&mut dice, 9_000), Patch::Status(4));
            }
            7 => request.patch(later(&mut dice, 20_000), Patch::Status(6)),
            8 => {
                request.patch(later(&mut dice, 3_000), Patch::Status(4));
                request.patch(later(&mut dice, 9_000), Patch::Status(1));
                request.patch(later(&mut dice, 9_000), Patch::Status(10));
            }
            _ => {}
        }
    }

    /// The requests of a status at a moment, in an order of the portal; none for a status that it does not know.
    pub fn listed(
        &self,
        now: Micros,
        organization: Option<u16>,
        status: u8,
        (by_action, ascending): (bool, bool),
    ) -> Option<Vec<&Request>> {
        let mut listed: Vec<_> = self
            .requests
            .iter()
            .filter(|request| organization.is_none_or(|wanted| wanted == request.organization))
            .filter_map(|request| Some((request, request.state(now)?)))
            .filter(|(_, state)| state.status == status && !state.removed)
            .collect();
        if listed.is_empty() && !KNOWN.contains(&status) {
            return None;
        }
        // What has no such time stands below all that have; ties in any fixed order.
        let key = |(request, state): &(&Request, State)| {
            (if by_action { state.action } else { Some(request.opened) }, mix(request.number))
        };
        listed.sort_by_key(key);
        if !ascending {
            listed.reverse();
        }
        Some(listed.into_iter().map(|(request, _)| request).collect())
    }
}
