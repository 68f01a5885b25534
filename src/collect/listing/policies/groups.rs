//! Which policies the groups of computers name: `GET ComputerGroup/ComputerGroupGetGroupAndComputer` (contract
//! section 6.2), a tree of drop-down entries.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::{CollectError, PortalListing};
use super::refused_with;
use crate::model::{OrganizationId, folded, is_guid};
use crate::normalise::is_zero_guid;
use crate::portal::Endpoint;
use crate::source::Scope;

/// Policies that are asked one by one at most: at the usual pace a quarter of an hour.
const MOST: usize = 5_000;
/// Organizations that are tried for one policy, besides the token's own.
const MOST_OWNERS: usize = 3;

/// Every member of the request (contract section 6.2): policies of the organization, and nothing else.
const QUERY: &str = "ComputerGroupId=00000000-0000-0000-0000-000000000000&OSType=0&IncludeGlobal=true\
&IncludeAllPolicies=true&IncludeOrganizations=false&IncludeAllComputers=false&IncludeParentGroups=false\
&IncludeLoggedInObjects=false&IncludeDnsServers=false&IncludeIngestors=false&PortalModuleTypeId=0\
&IncludeAccessDevices=false&IncludeRemovedComputers=false";

/// What the groups name.
pub(super) struct Found {
    /// Each policy's id, and the organizations that may have it, the likeliest first.
    pub(super) policies: Vec<(String, Vec<OrganizationId>)>,
    /// Why there may be more.
    pub(super) partial: Option<String>,
}

/// Asks every organization of the scope for its groups.
///
/// # Errors
/// Those of the portal; a refusal only where it is the organization's that is asked.
pub(super) async fn find(listing: &PortalListing, scope: &Scope) -> Result<Found, CollectError> {
    let own = scope.organization();
    let mut organizations = vec![own.clone()];
    let mut found = Found { policies: Vec::new(), partial: None };
    if scope.is_tree() {
        match listing.portal.child_organizations(own).await {
            Ok(children) => {
                organizations.extend(children.into_iter().map(|one| one.id).filter(|id| id != own));
            }
            Err(error) => found.partial = Some(format!("the organizations below are not known: {error}")),
        }
    }
    let mut places: HashMap<String, usize> = HashMap::new();
    for organization in &organizations {
        let request = listing.get(Endpoint::GroupsAndComputers, organization, QUERY.to_owned());
        let page = match listing.ask(&request).await {
            Ok(page) => page,
            Err(error) if organization != own && refused_with(&error).is_some() => {
                found.partial.get_or_insert(format!("the groups of {organization} are not known: {error}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        for row in page.rows() {
            let Ok(entry) = serde_json::from_str::<Entry>(row) else { continue };
            entry.policies(0, &mut |id| {
                let place = places.get(&*folded(id)).copied();
                let place = place.or_else(|| {
                    if found.policies.len() == MOST {
                        let why = format!("more than {MOST} policies cannot be asked one by one");
                        found.partial.get_or_insert(why);
                        return None;
                    }
                    found.policies.push((folded(id).into_owned(), Vec::new()));
                    places.insert(folded(id).into_owned(), found.policies.len() - 1);
                    Some(found.policies.len() - 1)
                });
                if let Some((_, owners)) = place.map(|place| &mut found.policies[place])
                    && owners.len() < MOST_OWNERS
                    && !owners.contains(organization)
                {
                    owners.push(organization.clone());
                }
            });
        }
    }
    for (_, owners) in &mut found.policies {
        if !owners.contains(own) {
            owners.push(own.clone());
        }
    }
    Ok(found)
}

/// An entry of the tree; everything may be anything.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    value: Value,
    #[serde(default, rename = "entityType")]
    entity_type: Value,
    #[serde(default)]
    items: Value,
}

/// A tree deeper than this goes round in circles.
const DEEPEST: u32 = 8;

impl Entry {
    /// Hands on the ids of the policies in it. What an entry is says its type, where that is a word; else one without
    /// entries of its own, inside of another, may be a policy: whether it is shows when it is asked.
    fn policies(&self, depth: u32, each: &mut impl FnMut(&str)) {
        let word = self.entity_type.as_str().map(str::to_lowercase).filter(|word| !is_number(word));
        let is_policy = word.as_deref().map(|word| word.contains("policy"));
        let inner = self.items.as_array().map(Vec::as_slice).unwrap_or_default();
        if is_policy == Some(true) || (is_policy.is_none() && inner.is_empty() && depth > 0) {
            let id = self.value.as_str().map(str::trim).filter(|id| is_guid(id) && !is_zero_guid(id));
            id.into_iter().for_each(&mut *each);
        }
        if depth < DEEPEST {
            for entry in inner.iter().filter_map(|entry| Entry::deserialize(entry).ok()) {
                entry.policies(depth + 1, each);
            }
        }
    }
}

fn is_number(word: &str) -> bool {
    word.trim().parse::<i64>().is_ok() || word.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_names_policies_and_what_may_be_one_and_no_groups_or_computers() {
        let id = |number: u128| uuid::Uuid::from_u128(number).to_string();
        let tree = serde_json::json!([
            { "label": "Workstations", "value": id(1), "items": [
                { "label": "Permit Firefox", "value": id(2), "entityType": "Policy" },
                { "label": "WS-1", "value": id(3), "entityType": "Computer" },
                { "label": "says nothing", "value": id(4).to_uppercase() },
                { "label": "a number", "value": id(5), "entityType": 7, "items": null },
                { "label": "inner", "value": id(6), "items": [{ "value": id(7), "entityType": "applicationPolicy" }] },
                { "label": "none", "value": id(0), "entityType": "Policy" },
                { "label": "no id", "value": 12, "entityType": "Policy" },
                { "label": "-" }, 42, null,
            ] },
            { "label": "an empty group", "value": id(8), "items": [] },
            { "label": "on top", "value": id(9), "entityType": "policy" },
        ]);
        let mut named = Vec::new();
        for entry in tree.as_array().unwrap() {
            let entry = Entry::deserialize(entry).unwrap();
            entry.policies(0, &mut |id| named.push(id.to_lowercase()));
        }
        assert_eq!(named, [2, 4, 5, 7, 9].map(id));
    }
}
