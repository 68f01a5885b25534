//! What the portal really holds, for proofs: never filtered by faults, never by the asker's rights.

use serde::Serialize;

use super::answer::{Content, Row, Threat};
use super::approvals::{Request, State as RequestState};
use super::computers::{Computer, State};
use super::dice::mix;
use super::stage::Stage;
use super::text::{Spelling, write_time};
use super::world::Source;
use crate::model::Micros;

/// One row of an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TruthRow {
    /// The vendor's id; null where the row has none or is raw bytes.
    pub id: Option<String>,
    pub organization_id: String,
    pub date_time: String,
    pub date_time_imported: String,
    pub table: u8,
    /// Whether the portal lists it now.
    pub listed: bool,
    pub deleted: bool,
    /// Gone by retention.
    pub expired: bool,
    /// A `Read` row of a request.
    pub own: bool,
    /// Bytes put in by hand, whatever they are.
    pub raw: bool,
    /// BLAKE3 of the bytes served.
    pub hash: String,
    /// The same of those that were served before the row had its level of severity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former: Option<String>,
    /// The row as served; bytes that are no UTF-8 are in `hex` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

/// A state of a computer, from a moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TruthComputer {
    pub computer_id: String,
    pub organization_id: String,
    pub since: String,
    pub removed: bool,
    pub mode: &'static str,
    pub username: Option<&'static str>,
    pub version_minor: i64,
    pub isolated: bool,
    pub locked: bool,
    /// The same for two states exactly if they do not differ in what changes a device.
    pub state: String,
}

/// A state of something else that is listed as a whole, from a moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TruthState {
    pub id: String,
    pub organization_id: String,
    pub since: String,
    pub removed: bool,
    /// What of it changes: of a policy `name`, `enabled`, `action` and `monitor`, of an organization its
    /// `name`, of a device without an agent `name`, `group` and `address`.
    pub shown: serde_json::Value,
}

/// A state of a request for approval, from a moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TruthRequest {
    pub approval_request_id: String,
    pub organization_id: String,
    pub since: Micros,
    pub opened: Micros,
    pub removed: bool,
    pub status_id: u8,
    pub action_date: Option<Micros>,
    pub approved_by: &'static str,
    pub assignee_user_id: Option<String>,
}

impl Stage {
    /// The policies listed now; with `history` every state that each ever had, the removed ones too.
    pub fn true_policies(&self, history: bool) -> Vec<TruthState> {
        let states = self.world.policies.policies.iter().flat_map(|policy| {
            let organization = &self.world.organizations[usize::from(policy.organization)];
            policy.story.until(self.world.now()).into_iter().map(move |(since, state)| TruthState {
                id: policy.id.to_string(),
                organization_id: organization.id.to_string(),
                since: spelt(since),
                removed: state.removed,
                shown: serde_json::json!({
                    "name": unescaped(&state.name), "enabled": state.enabled, "action": state.action,
                    "monitor": state.monitor,
                }),
            })
        });
        of_now_or_ever(states, history)
    }

    /// The devices without an agent listed now; with `history` every state that each ever had, the removed ones too.
    pub fn true_online_devices(&self, history: bool) -> Vec<TruthState> {
        let states = self.world.online.devices.iter().flat_map(|device| {
            let organization = &self.world.organizations[usize::from(device.organization)];
            device.story.until(self.world.now()).into_iter().map(|(since, state)| TruthState {
                id: device.id(&state),
                organization_id: organization.id.to_string(),
                since: spelt(since),
                removed: state.removed,
                shown: serde_json::json!({
                    "name": device.name.as_deref().map(unescaped), "group": device.group(&state),
                    "address": state.address,
                }),
            })
        });
        of_now_or_ever(states, history)
    }

    /// The organizations listed now, the parent among them; with `history` every state that each ever had.
    pub fn true_organizations(&self, history: bool) -> Vec<TruthState> {
        let states = self.world.organizations.iter().flat_map(|organization| {
            organization.story.until(self.world.now()).into_iter().map(|(since, standing)| TruthState {
                id: organization.id.to_string(),
                organization_id: organization.id.to_string(),
                since: spelt(since),
                removed: standing.removed,
                shown: serde_json::json!({ "name": unescaped(&standing.name) }),
            })
        });
        of_now_or_ever(states, history)
    }

    /// The requests as they are now; with `history` every state that each ever had.
    pub fn true_requests(&self, history: bool) -> Vec<TruthRequest> {
        let now = self.world.now();
        let all = self.world.approvals.requests.iter().flat_map(|request| {
            let states = request.history(now);
            let skip = if history { 0 } else { states.len().saturating_sub(1) };
            states.into_iter().skip(skip).map(move |state| (request, state))
        });
        all.map(|(request, (since, state))| self.true_request(request, since, &state)).collect()
    }

    fn true_request(&self, request: &Request, since: Micros, state: &RequestState) -> TruthRequest {
        let person = |number| Request::person(self.world.options.seed, number).to_string();
        TruthRequest {
            approval_request_id: request.id.to_string(),
            organization_id: self.world.organizations[usize::from(request.organization)].id.to_string(),
            since,
            opened: request.opened,
            removed: state.removed,
            status_id: state.status,
            action_date: state.action,
            approved_by: state.approved_by,
            assignee_user_id: state.assignee.map(person),
        }
    }

    /// The rows of a source that are listed now, or that ever were.
    pub fn true_rows(&self, source: Source, ever: bool) -> Vec<Row> {
        let now = self.world.now();
        let wanted = |row: &&Row| {
            let listed = if ever { row.listed_from <= now } else { self.dialect().lists(row, now) };
            listed && (source != Source::Threats || row.threat.is_one(now))
        };
        self.world.rows(source).iter().filter(wanted).copied().collect()
    }

    /// What is true of a row.
    pub fn truth(&self, source: Source, row: &Row, with_row: bool) -> TruthRow {
        let now = self.world.now();
        let mut bytes = Vec::new();
        self.world.write_row(source, row, &mut bytes);
        let former =
            row.threat.level.filter(|(_, from)| (row.listed_from + 1..=now).contains(from)).map(|_| {
                let mut bytes = Vec::new();
                let threat = Threat { level: None, ..row.threat };
                self.world.write_row(source, &Row { threat, ..*row }, &mut bytes);
                blake3::hash(&bytes).to_string()
            });
        let text = std::str::from_utf8(&bytes).ok();
        TruthRow {
            id: self.world.vendor_id(source, row),
            organization_id: self.world.organizations[usize::from(row.organization)].id.to_string(),
            date_time: spelt(row.at),
            date_time_imported: spelt(row.imported),
            table: row.table,
            listed: self.dialect().lists(row, now),
            deleted: row.deleted_at.is_some_and(|deleted| deleted <= now),
            expired: self.dialect().expired(row, now),
            own: matches!(row.content, Content::Own(_)),
            raw: matches!(row.content, Content::Raw(_)),
            hash: blake3::hash(&bytes).to_string(),
            former,
            row: text.filter(|_| with_row).map(str::to_owned),
            hex: (with_row && text.is_none())
                .then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// The computers listed now; with `history` every state that each ever had, the removed ones too.
    pub fn true_computers(&self, history: bool) -> Vec<TruthComputer> {
        let now = self.world.now();
        let fleet = &self.world.fleet;
        let all = fleet.computers.iter().flat_map(|computer| {
            let states = computer.history(now);
            let skip = if history { 0 } else { states.len().saturating_sub(1) };
            states.into_iter().skip(skip).map(move |state| (computer, state))
        });
        all.filter(|(_, (_, state))| history || !state.removed)
            .map(|(computer, (since, state))| self.true_computer(computer, since, &state))
            .collect()
    }

    fn true_computer(&self, computer: &Computer, since: Micros, state: &State) -> TruthComputer {
        let organization = &self.world.organizations[usize::from(computer.organization)];
        let key = format!("{:?}", (computer.number, state));
        TruthComputer {
            computer_id: computer.id.to_string(),
            organization_id: organization.id.to_string(),
            since: spelt(since),
            removed: state.removed,
            mode: state.mode,
            username: state.user,
            version_minor: state.minor,
            isolated: state.isolated,
            locked: state.locked,
            state: format!("{:016x}", key.bytes().fold(0, |sum, byte| mix(sum ^ u64::from(byte)))),
        }
    }
}

/// All states, or of each thing the last one, if it is there.
fn of_now_or_ever(states: impl Iterator<Item = TruthState>, history: bool) -> Vec<TruthState> {
    let mut told: Vec<TruthState> = Vec::new();
    for state in states {
        match told.last_mut() {
            Some(last) if !history && last.id == state.id => *last = state,
            _ => told.push(state),
        }
    }
    told.retain(|state| history || !state.removed);
    told
}

/// The text that a JSON string's inside stands for.
fn unescaped(inside: &str) -> String {
    serde_json::from_str(&format!("\"{inside}\"")).expect("names are written as they stand in JSON")
}

fn spelt(at: Micros) -> String {
    let mut text = String::new();
    write_time(&mut text, at, Spelling::Ticks);
    text
}
