//! System audit: what administrators and API users did. `POST SystemAudit/SystemAuditGetByParameters`
//! (contract section 4.1).
//!
//! Oddities: `systemAuditId` is null in some live rows, the user stands in `username` or `emailAddress`,
//! `details` is an object, text or null.

mod read;

use serde_json::{Value, json};

use crate::model::{Entry, Kind};
use crate::normalise::{fields, text, time};
use crate::portal::{Endpoint, Reader};
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Query, Rejected, RowKey, Shape, Source, request_time};
use crate::sources::{content, id, organization};

/// The members of a row that tell rows apart.
const MEMBERS: [&str; 12] = [
    "systemAuditId",
    "organizationName",
    "organizationId",
    "dateTime",
    "userId",
    "username",
    "emailAddress",
    "action",
    "effectiveAction",
    "ipAddress",
    "details",
    "systemAuditObjectTypeId",
];

pub struct SystemAudit;

impl Source for SystemAudit {
    fn name(&self) -> &'static str {
        "system_audit"
    }

    fn shape(&self) -> Shape {
        Shape::Window {
            splits: &["Create", "Delete", "Logon", "Logoff", "Modify", "Read"],
            has_imported: false,
        }
    }

    fn kind(&self) -> Kind {
        Kind::Event
    }

    fn permission(&self) -> &'static str {
        "View System Audit"
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::SystemAuditByParameters)
    }

    fn body(&self, query: &Query) -> Value {
        let (from, to) = query.span.unwrap_or_default();
        let mut body = json!({
            "startDate": request_time(from),
            "endDate": request_time(to),
            "pageNumber": query.page,
            "pageSize": query.size,
            "viewChildOrganizations": query.scope.is_tree(),
        });
        if let Some(split) = query.split {
            body["actions"] = json!([split]);
        }
        body
    }

    fn names(&self) -> &'static Names {
        static NAMES: Names = read::NAMES;
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        let row = include_str!("system_audit/example.json");
        let of = |action: &str, page: &str| {
            row.replace(r#""action": "Modify""#, &format!(r#""action": "{action}""#))
                .replace(r#""page": "Computers""#, &format!(r#""page": "{page}""#))
        };
        // Older notes show the details as text.
        let mut plain: Value = serde_json::from_str(row).expect("the example is JSON");
        plain["details"] = json!("Policy was created");
        vec![
            of("Modify", "Computers"),
            of("Logon", "Login"),
            of("Modify", "Administrators"),
            of("Modify", "Application Control Policies"),
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

    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        let picked = fields(row, &MEMBERS)?;
        let [vendor_id, owner_name, owner, at, ..] = picked;
        let vendor_id = id(vendor_id);
        let at = time(at);
        Ok(RowKey {
            organization: organization(owner),
            organization_name: text(owner_name),
            content: if vendor_id.is_none() { content(row, at, &picked[2..]) } else { [0; 16] },
            vendor_id,
            at,
            imported: None,
            reader: reader(&picked),
            computer: None,
            host: None,
            user: None,
            facts: None,
            rated: false,
        })
    }
}

/// Who wrote a `Read` row: the user stands in one member or the other (contract section 4.1).
fn reader(picked: &[Option<&str>; MEMBERS.len()]) -> Option<Reader> {
    let [.., username, email, action, _, address, _, _] = *picked;
    let is_read = text(action).is_some_and(|action| action.eq_ignore_ascii_case("read"));
    let user = text(username).filter(|name| !name.is_empty()).or_else(|| text(email)).filter(|_| is_read)?;
    Some(Reader { user: user.into_owned(), address: text(address).unwrap_or_default().into_owned() })
}
