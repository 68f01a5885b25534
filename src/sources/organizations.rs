//! Organizations that a token reaches. `POST Organization/OrganizationGetChildOrganizationsByParameters` (contract
//! section 7.2). The list may leave out the token's own: `collect/listing/organizations.rs` adds it.

pub mod read;

use serde_json::{Value, json};

use crate::model::{Entry, Kind};
use crate::normalise::{fields, text};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Agreement, Query, Rejected, RowKey, Shape, Source};
use crate::sources::{id, organization};

pub struct Organizations;

/// The names of an organization, the one that people are shown first; the last is that of the drop-down list.
const NAMES: [&str; 3] = ["displayName", "name", "label"];

impl Source for Organizations {
    fn name(&self) -> &'static str {
        "organizations"
    }

    /// Volatile fields: contract section 11.
    fn shape(&self) -> Shape {
        Shape::Snapshot { volatile: &read::VOLATILE }
    }

    fn kind(&self) -> Kind {
        Kind::State
    }

    fn permission(&self) -> &'static str {
        "View Organizations"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::ChildOrganizations)
    }

    /// Always whole trees, with both flags: without the second one the list is empty.
    fn body(&self, query: &Query) -> Value {
        json!({
            "pageNumber": query.page,
            "pageSize": query.size,
            "searchText": "",
            "orderBy": "name",
            "isAscending": true,
            "includeAllChildren": true,
            "childOrganizations": true,
        })
    }

    /// The drop-down list has one name, the list of children two and more beside.
    fn agree(&self, row: &str, known: &str) -> Agreement {
        let names = |row: &str| {
            let names = fields(row, &NAMES).unwrap_or_default();
            names.map(|name| text(name).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()))
        };
        let (names, known) = (names(row), names(known));
        let is_same = names.iter().flatten().any(|name| known.iter().flatten().any(|known| name == known));
        match (is_same, names[2].is_some()) {
            (false, _) => Agreement::Differ,
            (true, false) => Agreement::Same,
            (true, true) => Agreement::Less,
        }
    }

    fn names(&self) -> &'static Names {
        static NAMES: Names = read::NAMES;
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        vec![
            include_str!("organizations/example.json").to_owned(),
            r#"{"label":"Example MSP","value":"0c3d1e3a-53a1-5c52-9d2d-6a0f1bb0c8a4"}"#.to_owned(),
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

    /// An organization belongs to itself.
    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        let [by_id, by_value, names @ ..] =
            fields(row, &["organizationId", "value", NAMES[0], NAMES[1], NAMES[2]])?;
        let own = if id(by_id).is_some() { by_id } else { by_value };
        let vendor_id =
            id(own).ok_or_else(|| Rejected("an organization without organizationId".to_owned()))?;
        Ok(RowKey {
            organization_name: names.into_iter().filter_map(text).find(|name| !name.trim().is_empty()),
            vendor_id: Some(vendor_id),
            ..RowKey::nobody(organization(own))
        })
    }
}

#[cfg(test)]
mod tests;
