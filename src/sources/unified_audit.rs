//! Unified audit: what agents saw and did. `POST ActionLog/ActionLogGetByParametersV2` (contract section 5).
//!
//! Oddities: omitting `paramsFieldsDto`, `groupBys` or the flags gives 500 on some tenants, omitting dates
//! gives 417, `exportMode` gives CSV, `actionLogId` is 0 in every row of the new search.

pub(super) mod read;

use serde_json::{Value, json};

use crate::model::{Entry, Kind};
use crate::normalise::{fields, text, time};
use crate::portal::Endpoint;
use crate::record::Record;
use crate::record::row::{Names, Row};
use crate::source::{Query, Rejected, RowKey, Shape, Source, request_time};
use crate::sources::threats::Threats;
use crate::sources::{content, id, organization};

pub struct UnifiedAudit;

/// The table of the action log (`sourceTableId`).
pub(super) const ACTION_LOG: u8 = 1;

pub(super) static NAMES: Names = read::NAMES;

/// The action types of contract section 5.3.
pub const ACTION_TYPES: [&str; 15] = [
    "execute",
    "install",
    "network",
    "registry",
    "read",
    "write",
    "move",
    "delete",
    "baseline",
    "powershell",
    "elevate",
    "configuration",
    "dns",
    "newprocess",
    "web",
];

/// What tells rows without an id apart.
const UNCHANGING: [&str; 13] = [
    "organizationId",
    "dateTime",
    "dateTimeImported",
    "computerId",
    "hostname",
    "username",
    "actionType",
    "actionId",
    "fullPath",
    "processPath",
    "processId",
    "hash",
    "policyId",
];

impl Source for UnifiedAudit {
    fn name(&self) -> &'static str {
        "unified_audit"
    }

    fn shape(&self) -> Shape {
        Shape::Window { splits: &ACTION_TYPES, has_imported: true }
    }

    fn kind(&self) -> Kind {
        Kind::Event
    }

    fn permission(&self) -> &'static str {
        "View Unified Audit"
    }

    fn part(&self) -> u8 {
        ACTION_LOG
    }

    fn also(&self) -> Option<&'static dyn Source> {
        Some(&Threats)
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(Endpoint::ActionLogByParameters)
    }

    fn body(&self, query: &Query) -> Value {
        body(query)
    }

    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn examples(&self) -> Vec<String> {
        examples()
    }

    fn read<'a>(
        &self,
        entry: &Entry<'a>,
        row: &'a Row<'a>,
        _previous: Option<&'a Row<'a>>,
        emit: &mut dyn FnMut(Record<'a>),
    ) {
        let (event, repeats) = read::read(row);
        emit(Record::event(entry, row, event, repeats));
    }

    fn key<'a>(&self, row: &'a str, _part: u8) -> Result<RowKey<'a>, Rejected> {
        key(row)
    }
}

/// Whether a text is a level of threat; portals have many ways to say "none".
fn is_level(text: &str) -> bool {
    let none = ["", "0", "none", "null", "false"];
    !none.iter().any(|word| word.eq_ignore_ascii_case(text.trim()))
}

/// The request body of contract section 5.1.
pub(super) fn body(query: &Query) -> Value {
    let (from, to) = query.span.unwrap_or_default();
    let mut body = json!({
        "startDate": request_time(from),
        "endDate": request_time(to),
        "pageNumber": query.page,
        "pageSize": query.size,
        "paramsFieldsDto": [],
        "groupBys": [],
        "exportMode": false,
        "showTotalCount": true,
        "showChildOrganizations": query.scope.is_tree(),
        "onlyTrueDenies": false,
        "simulateDeny": false,
        "sourceTableId": query.part,
    });
    match query.split {
        Some(split) => body["actionTypes"] = json!([split]),
        None if !query.filter.action_types.is_empty() => {
            body["actionTypes"] = json!(query.filter.action_types);
        }
        None => {}
    }
    if let Some(action) = query.filter.action_id {
        body["actionId"] = json!(action);
    }
    body
}

/// A row for each action type.
pub(super) fn examples() -> Vec<String> {
    let row = include_str!("unified_audit/example.json");
    let started = r"c:\\users\\a.muster\\downloads\\rechnung.exe --quiet";
    let of_type = |action: &str| {
        let path = match action {
            "network" => "198.51.100.21:51544 -> 192.0.2.250:443",
            "dns" => "www.example.com",
            "web" => "https://www.example.com/",
            "registry" => r"HKLM\\SOFTWARE\\Example",
            "configuration" => "Inbox rule created",
            "read" | "write" | "move" | "delete" | "baseline" => r"c:\\data\\report.docx",
            _ => started,
        };
        let action = format!(r#""actionType": "{action}""#);
        row.replace(r#""actionType": "execute""#, &action).replace(started, path)
    };
    let mut examples: Vec<String> = ACTION_TYPES.iter().map(|action| of_type(action)).collect();
    examples.push(of_type("read").replace(r#""deviceType": """#, r#""deviceType": "USB""#));
    examples
}

/// What names a row of the action log, whichever query listed it.
pub(super) fn key(row: &str) -> Result<RowKey<'_>, Rejected> {
    let [vendor_id, owner_name, owner, at, imported, computer, user, level] = fields(
        row,
        &[
            "eActionLogId",
            "organizationName",
            "organizationId",
            "dateTime",
            "dateTimeImported",
            "computerId",
            "username",
            "threatSeverityLevel",
        ],
    )?;
    let vendor_id = id(vendor_id);
    let at = time(at);
    let content = match vendor_id {
        Some(_) => [0; 16],
        None => content(row, at, &fields(row, &UNCHANGING)?),
    };
    let computer = id(computer);
    let host = match computer {
        Some(_) => None,
        None => text(fields(row, &["hostname"])?[0]),
    };
    Ok(RowKey {
        organization: organization(owner),
        organization_name: text(owner_name),
        content,
        vendor_id,
        at,
        imported: time(imported),
        reader: None,
        computer,
        host,
        user: text(user),
        facts: None,
        rated: text(level).is_some_and(|level| is_level(&level)),
    })
}
