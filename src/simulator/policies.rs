//! Policies that are added, edited, switched off and removed, and their rows (contract section 6.2).

use uuid::Uuid;

use super::dialect::{DAY, Dialect};
use super::dice::{Dice, mix};
use super::story::Story;
use super::text::{Object, Spelling, guid};
use super::world::{Organization, WorldOptions, purpose};
use crate::model::{Micros, SECOND};

/// The things of a policy that change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub name: String,
    /// `policyActionId`: 1 permit, 2 deny, 3 deny with request, 6 permit with ringfence.
    pub action: u8,
    pub enabled: bool,
    /// `monitorMode`: 0 inherit, 1 secured, 2 monitor.
    pub monitor: u8,
    pub removed: bool,
}

/// A policy and its history.
#[derive(Clone, Debug)]
pub struct Policy {
    pub number: u64,
    pub id: Uuid,
    pub organization: u16,
    pub added: Micros,
    pub story: Story<State>,
}

/// How the portal writes one: as a row of the list, or alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Row,
    Alone,
}

const ACTIONS: [u8; 4] = [1, 2, 3, 6];
const GROUPS: [&str; 4] = ["Workstations", "Servers", "macOS 全体", "Linux Servers"];

impl Policy {
    fn new(seed: u64, number: u64, organization: u16, added: Micros) -> Self {
        let mut dice = Dice::new(seed, purpose::POLICIES, number);
        let program = dice.pick(&["Firefox", "Office", "Größe ≤ 5 MB", r#"\"Quoted\" tool"#, "PowerShell"]);
        let state = State {
            name: format!("{program} – {number}"),
            action: dice.pick(&ACTIONS),
            enabled: !dice.chance(0.1),
            monitor: dice.pick(&[0, 1, 1, 2]),
            removed: false,
        };
        let story = Story::new(added, state);
        Self { number, id: guid(seed, purpose::POLICIES, number), organization, added, story }
    }

    fn group(&self) -> usize {
        usize::try_from(self.number % 4).expect("below 4")
    }

    /// Appends the policy as it is at a moment. A policy matches something every few minutes, which is no change.
    #[expect(clippy::too_many_arguments, reason = "what a row says besides the policy, each once")]
    pub fn write(
        &self,
        form: Form,
        dialect: &Dialect,
        now: Micros,
        total: usize,
        seed: u64,
        owner: &Organization,
        out: &mut String,
    ) {
        let Some(state) = self.story.at(now) else { return };
        let matched = now - now.rem_euclid(300 * SECOND);
        let words = match state.action {
            1 => "Permit",
            2 => "Deny",
            3 => "Deny with Option to Request",
            _ => "Permit with Ringfence",
        };
        // A row of the list may be in either of two forms, and may say little (contract section 6.2).
        let other = form == Form::Row && dialect.names_policies_otherwise;
        let sparse = form == Form::Row && dialect.sparse_policies;
        let mut object = Object::start(out);
        object.text("policyId", self.id).text(if other { "policyName" } else { "name" }, &state.name);
        object.text("organizationId", owner.id);
        object.text("computerGroupId", guid(seed, purpose::GROUP, self.group() as u64));
        object.text(if other { "groupName" } else { "appliesToName" }, GROUPS[self.group()]);
        if other {
            object.value("status", u8::from(state.enabled));
        } else {
            object.value("isEnabled", state.enabled);
        }
        if !sparse {
            object.value("policyActionId", state.action).text("policyAction", words);
            object.value("monitorMode", state.monitor).value("ringfence", state.action == 6);
            object.text("description", "").value("comments", "null").value("osType", 1);
            object.members(r#""applicationSelection":1,"applicationIdList":null,"applicationList":null"#);
            object.members(r#""users":[],"userGroups":[],"allUserGroups":true,"elevationStatus":0"#);
            object.members(r#""logAction":true,"notifyOnMatch":false,"notifyOnRequest":false"#);
            object.members(r#""killRunningProcesses":false,"neverExpires":true,"endDate":null"#);
        }
        if form == Form::Alone {
            object.members(r#""policyScheduleStatus":0,"ringfencePolicies":[]"#);
        } else {
            object.value("orderBy", self.number * 10 + u64::from(state.enabled)).value("totalRows", total);
        }
        object.time("lastMatchDateTime", matched, Spelling::any(self.number));
        object.end();
    }
}

/// All policies, the removed ones too.
#[derive(Clone, Debug)]
pub struct Policies {
    pub policies: Vec<Policy>,
    seed: u64,
    organizations: usize,
}

impl Policies {
    pub(super) fn new(options: &WorldOptions, organizations: usize, beginning: Micros) -> Self {
        let mut all = Self { policies: Vec::new(), seed: options.seed, organizations };
        for number in 0..options.policies {
            let organization = all.place(u64::from(number));
            all.add(organization, beginning - (10 + Micros::from(number % 90)) * DAY);
        }
        all
    }

    /// Adds a policy and answers its index.
    pub fn add(&mut self, organization: u16, added: Micros) -> usize {
        let number = self.policies.len() as u64;
        self.policies.push(Policy::new(self.seed, number, organization, added));
        self.policies.len() - 1
    }

    /// Lets one thing happen to them.
    pub(super) fn change(&mut self, at: Micros, mut dice: Dice) {
        let kind = dice.index(12);
        if kind == 0 || self.policies.is_empty() {
            self.add(self.place(dice.roll()), at);
            return;
        }
        let index = dice.index(self.policies.len());
        self.policies[index].story.change(at, |state| match kind {
            1 => state.removed = true,
            2..5 => state.enabled = !state.enabled,
            5..7 => {
                state.name = format!("{} ({})", state.name.split(" (").next().unwrap_or(""), dice.below(9))
            }
            7..9 => state.monitor = dice.pick(&[0, 1, 2]),
            _ => state.action = dice.pick(&ACTIONS),
        });
    }

    /// The policies that the portal has at a moment, in the order of the list.
    pub fn listed(&self, now: Micros, organization: Option<u16>) -> Vec<&Policy> {
        let is_there = |policy: &&Policy| policy.story.at(now).is_some_and(|state| !state.removed);
        let wanted = |policy: &&Policy| organization.is_none_or(|wanted| wanted == policy.organization);
        self.policies.iter().filter(wanted).filter(is_there).collect()
    }

    fn place(&self, number: u64) -> u16 {
        u16::try_from(mix(number ^ 0x5eed) % self.organizations as u64)
            .expect("fewer organizations than 2^16")
    }
}
