//! Policies of application control. `POST Policy/PolicyGetByParameters` (contract section 6.2), which the vendor's
//! own document of the interface does not have; what is asked where a portal has it not, or where its rows say too
//! little, is in `collect/listing/policies.rs`.

pub mod read;

use serde_json::{Value, json};

use crate::model::{Entry, Kind};
use crate::normalise::{fields, parse_time, text};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Agreement, Query, Rejected, RowKey, Shape, Source};
use crate::sources::{id, organization};

pub struct Policies;

/// Members that are the same by several names, and members of which two rows of different shapes must not tell
/// different things.
const SAME: [&[&str]; 20] = [
    &["name", "policyName"],
    &["description"],
    &["comments"],
    &["computerGroupId"],
    &["appliesTo", "appliesToName", "groupName"],
    &["policyActionId"],
    &["policyAction"],
    &["isEnabled", "status"],
    &["monitorMode"],
    &["ringfence"],
    &["osType"],
    &["applicationId"],
    &["applicationIdList"],
    &["users"],
    &["userGroups"],
    &["allUserGroups"],
    &["elevationStatus"],
    &["killRunningProcesses"],
    &["neverExpires"],
    &["endDate"],
];

impl Source for Policies {
    fn name(&self) -> &'static str {
        "policies"
    }

    /// Volatile fields: contract section 11.
    fn shape(&self) -> Shape {
        Shape::Snapshot { volatile: &read::VOLATILE }
    }

    fn kind(&self) -> Kind {
        Kind::State
    }

    fn permission(&self) -> &'static str {
        "View Application Control Policies"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::PoliciesByParameters)
    }

    /// Every member that several clients send. Three more are named by one client alone (`isEnabled`, `status` and
    /// `utcOffset`): they would narrow the list in a way that nobody describes.
    fn body(&self, query: &Query) -> Value {
        json!({
            "filter": "",
            "pageNumber": query.page,
            "pageSize": query.size,
            "computerGroupId": uuid::Uuid::nil(),
            "osType": 0,
            "searchText": "",
            "activeOnly": false,
            "showAllPolicies": true,
            "childOrganizations": query.scope.is_tree(),
        })
    }

    fn agree(&self, row: &str, known: &str) -> Agreement {
        let mut agreement = Agreement::Same;
        for names in SAME {
            match (told(row, names), told(known, names)) {
                (Some(row), Some(known)) if row != known => return Agreement::Differ,
                (None, Some(_)) => agreement = Agreement::Less,
                _ => {}
            }
        }
        agreement
    }

    fn names(&self) -> &'static Names {
        static NAMES: Names = read::NAMES;
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        vec![include_str!("policies/example.json").to_owned()]
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

    /// The only time of a row, `lastMatchDateTime`, is not one of a change.
    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        let [vendor_id, owner, owner_name] =
            fields(row, &["policyId", "organizationId", "organizationName"])?;
        let vendor_id = id(vendor_id).ok_or_else(|| Rejected("a policy without policyId".to_owned()))?;
        Ok(RowKey {
            organization_name: text(owner_name),
            vendor_id: Some(vendor_id),
            ..RowKey::nobody(organization(owner))
        })
    }
}

/// Whether a row of the list says too little of its policy: not what the policy does (contract section 6.2).
pub fn lacks_details(row: &str) -> bool {
    let told = fields(row, &["policyActionId", "policyAction"]);
    told.is_ok_and(|told| told.into_iter().all(|value| text(value).is_none()))
}

/// What a row tells by the first of these names that it has, in a form in which equal things are equal.
fn told(row: &str, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let [value] = fields(row, &[name]).ok()?;
        let raw = value?;
        if raw.starts_with(['[', '{']) {
            let value: Value = serde_json::from_str(raw).ok()?;
            return Some(value.to_string().to_lowercase());
        }
        let text = text(value)?;
        Some(match &*text {
            "true" => "1".to_owned(),
            "false" => "0".to_owned(),
            text => parse_time(text).map_or_else(|| text.to_lowercase(), |at| at.to_string()),
        })
    })
}

#[cfg(test)]
mod tests;
