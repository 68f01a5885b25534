//! The lists that no document describes. They are asked in ways of their own: what an operator would have to write down.

use serde_json::Value;

use super::lists::members;
use super::{Request, Stage};
use crate::simulator::private::write_remediation;
use crate::simulator::reply::Reply;
use crate::simulator::requests::{Body, Endpoint};
use crate::simulator::stats::Logged;

impl Stage {
    /// A page of threats: its number and size stand in a member of their own, with which threats are wanted.
    pub(super) fn threats_of_tab(
        &self,
        organization: u16,
        request: &Request<'_>,
        logged: &mut Logged,
    ) -> Result<Reply, Reply> {
        let asked: Value = serde_json::from_slice(request.body).map_err(|_| Reply::binding_failed())?;
        let paging = &asked["paging"];
        let (Some(page), Some(size), Some(all)) =
            (paging["number"].as_u64(), paging["rows"].as_u64(), asked["withChildren"].as_bool())
        else {
            return Err(Reply::binding_failed());
        };
        if asked["state"] != "All" || asked["organizationId"].as_str() != request.organization {
            return Err(self.error(400, "Invalid filter", request.number));
        }
        (logged.page, logged.size) = (page, size);
        let listed = self.private_threats((!(all && organization == 0)).then_some(organization));
        let silent = self.silent(Endpoint::PrivateThreats, all);
        let listed: Vec<_> = listed.into_iter().filter(|one| !silent.contains(&one.organization)).collect();
        let body = Body { page_number: Some(page), page_size: Some(size), ..Body::default() };
        self.whole(listed.len(), &body, logged, request.number, |index, out| {
            listed[index].write(&self.world, out)
        })
    }

    /// All remediations in one answer.
    pub(super) fn remediations_of_tab(
        &self,
        organization: u16,
        request: &Request<'_>,
        logged: &mut Logged,
    ) -> Result<Reply, Reply> {
        let asked = members(request);
        let all = asked.get("includeChildren").map(String::as_str);
        if asked.get("kind").map(String::as_str) != Some("endpoint") || !matches!(all, Some("true" | "false"))
        {
            return Err(self.error(400, "Invalid filter", request.number));
        }
        let one = (!(all == Some("true") && organization == 0)).then_some(organization);
        let listed = self.private_remediations(one);
        let body =
            Body { page_number: Some(1), page_size: Some(listed.len().max(1) as u64), ..Body::default() };
        (logged.page, logged.size) = (1, listed.len() as u64);
        self.whole(listed.len(), &body, logged, request.number, |index, out| {
            let (organization, one) = &listed[index];
            write_remediation(&self.world, *organization, one, out);
        })
    }
}
