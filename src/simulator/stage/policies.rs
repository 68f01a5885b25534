//! Policies: as a list, in the tree of computer groups, and one by one (contract section 6.2).

use uuid::Uuid;

use super::{Request, Stage};
use crate::simulator::policies::Form;
use crate::simulator::reply::Reply;
use crate::simulator::requests::{Body, Endpoint};
use crate::simulator::stats::Logged;
use crate::simulator::text::{Object, guid};
use crate::simulator::world::purpose;

impl Stage {
    /// A page of the list.
    pub(super) fn policies(
        &mut self,
        organization: u16,
        body: &Body,
        logged: &mut Logged,
        number: u64,
    ) -> Result<Reply, Reply> {
        if let Some(status) = self.dialect.refuses_policies {
            return Err(self.error(status, "A problem occurred with the request (scripted)", number));
        }
        // Without a filter, which may be empty, it fails (contract section 8.3).
        let Some(filter) = &body.filter else {
            return Err(self.error(500, "A problem occurred with the request", number));
        };
        let lacks = body.computer_group_id.is_none()
            || body.os_type.is_none()
            || body.active_only.is_none()
            || body.show_all_policies.is_none()
            || body.search_text.is_none();
        if lacks || !filter.is_empty() || body.os_type != Some(0) || body.active_only == Some(true) {
            self.stats.violation("the list of policies is asked without a member, or narrowed".to_owned());
        }
        let now = self.world.now();
        let scope = (!(body.child_organizations && organization == 0)).then_some(organization);
        let silent = self.silent(Endpoint::Policies, scope.is_none());
        let mut listed = self.world.policies.listed(now, scope);
        listed.retain(|policy| !silent.contains(&policy.organization));
        let (all, seed) = (listed.len(), self.world.options.seed);
        let write = |index: usize, out: &mut String| {
            let owner = &self.world.organizations[usize::from(listed[index].organization)];
            listed[index].write(Form::Row, &self.dialect, now, all, seed, owner, out);
        };
        self.whole(all, body, logged, number, write)
    }

    /// One policy, for its own organization only (RTM).
    pub(super) fn policy_by_id(&self, organization: u16, request: &Request<'_>) -> Result<Reply, Reply> {
        let asked = request.query.split('&').find_map(|pair| pair.strip_prefix("policyId="));
        let asked = asked.and_then(|id| Uuid::try_parse(id).ok());
        let now = self.world.now();
        let found = self.world.policies.listed(now, Some(organization));
        let Some(policy) = found.into_iter().find(|policy| Some(policy.id) == asked) else {
            return Err(self.error(400, "Unable to retrieve application policy", request.number));
        };
        let (owner, mut out) = (&self.world.organizations[usize::from(organization)], String::new());
        policy.write(Form::Alone, &self.dialect, now, 1, self.world.options.seed, owner, &mut out);
        Ok(Reply::json(out.into_bytes()))
    }

    /// The groups of an organization with what stands in them, as a drop-down tree.
    pub(super) fn groups(&mut self, organization: u16, request: &Request<'_>) -> Reply {
        let has = |pair: &str| request.query.split('&').any(|one| one.eq_ignore_ascii_case(pair));
        if !has("IncludeAllPolicies=true") {
            self.stats.violation("the groups are asked for something else than policies".to_owned());
        }
        let now = self.world.now();
        let seed = self.world.options.seed;
        let policies = self.world.policies.listed(now, Some(organization));
        let mut out = String::from("[");
        for group in 0..4 {
            if group > 0 {
                out.push(',');
            }
            let mut items = String::from("[");
            // Something else that stands in a group, as trees have it.
            let mut computer = Object::start(&mut items);
            let id = guid(seed, purpose::COMPUTER, group);
            computer.text("label", "WS").text("value", id).text("entityType", "Computer");
            computer.end();
            for policy in policies.iter().filter(|policy| policy.number % 4 == group) {
                items.push(',');
                let name = policy.story.at(now).map(|state| state.name.clone()).unwrap_or_default();
                let mut object = Object::start(&mut items);
                object.text("label", name).text("value", policy.id).text("entityType", "Policy");
                object.end();
            }
            items.push(']');
            let mut object = Object::start(&mut out);
            object.text("label", format_args!("Group {group}"));
            object.text("value", guid(seed, purpose::GROUP, group)).value("items", items);
            object.end();
        }
        out.push(']');
        Reply::json(out.into_bytes())
    }
}
