//! Which applications match what a request for approval is about: `POST Application/ApplicationGetMatchingList`.
//!
//! UNVERIFIED. How it is asked stands in the vendor's OpenAPI (`ApplicationMatchParameterDto`), and what an application
//! says (`ApplicationOnlineDto`). What the answer is made of stands there not: a public integration, in use in May 2026, is
//! answered with an object that has a list `matchingApplications`, and fills the question from the request's row as it is
//! done here. Where `organizationName` is `master`, it is one of ThreatLocker's own, built-in applications.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::ApprovalRequests;
use super::status::{ESCALATED_BY_CUSTOMER, ESCALATED_FROM_CYBER_HEROES, PENDING};
use crate::model::{Micros, SECOND};
use crate::normalise::{fields, text};
use crate::record::enrichment::Matched;
use crate::record::row::{Field, Row, Slot, tidy};
use crate::source::{Rejected, Source};

/// What `enrich` calls it.
pub const WORD: &str = "matching_application";

/// What an operator can do where a role is missing: no page of the vendor names the permission.
pub const PERMISSION: &str = "which permission it needs is not documented: compare the role of the API user with that of somebody who sees \
     matching applications in the portal, or set `enrich: []`";

/// Applications that are kept of one answer, and bytes of one of them; of the others it is said how many.
const MOST: usize = 20;
const LONGEST: usize = 4 << 10;

/// A request that was decided longer ago is not asked about: a first start finds thousands of them.
const YOUNG: Micros = 24 * 3_600 * SECOND;

/// `requestTypeId` of requests for applications (contract section 7.1).
const APPLICATION: i64 = 1;
/// `osType` of Windows, where the row tells none.
const WINDOWS: i64 = 1;

macro_rules! slot {
    ($name:literal) => {
        const { super::read::NAMES.slot($name) }
    };
}

/// The body that asks about a request: one for an application, of which the row says a hash or a path, and that is
/// pending or was decided within a day.
pub fn question(row: &str, now: Micros) -> Option<Value> {
    let tidied = tidy(row);
    let row = Row::read(ApprovalRequests.names(), &tidied, usize::MAX).ok()?;
    let number = |slot| row.integer(slot).map(|number| number.value);
    if number(slot!("requestTypeId")).is_some_and(|kind| kind != APPLICATION) || !is_of_now(&row, now) {
        return None;
    }
    let either = |one: Slot, other: Slot| row.text(one).or_else(|| row.text(other)).map(Field::text);
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        body.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("hash", either(slot!("threatLockerActionDto.hash"), slot!("hash")).map(Value::from));
    put("sha256", row.text(slot!("threatLockerActionDto.sha256")).map(|hash| Value::from(hash.text())));
    put("path", either(slot!("threatLockerActionDto.fullPath"), slot!("path")).map(Value::from));
    if body.is_empty() {
        return None;
    }
    let mut put = |name: &str, value: Option<Value>| {
        body.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("processPath", row.text(slot!("threatLockerActionDto.processName")).map(|path| path.text().into()));
    put("certs", row.get(slot!("threatLockerActionDto.certs")).and_then(certificates));
    put("createdBys", row.get(slot!("threatLockerActionDto.installedBy")).and_then(texts));
    put("osType", Some(number(slot!("threatLockerActionDto.osType")).unwrap_or(WINDOWS).into()));
    Some(Value::Object(body))
}

fn is_of_now(row: &Row<'_>, now: Micros) -> bool {
    let status = row.integer(slot!("statusId")).map(|status| status.value);
    let open = [PENDING, ESCALATED_FROM_CYBER_HEROES, ESCALATED_BY_CUSTOMER];
    if status.is_some_and(|status| open.into_iter().any(|open| i64::from(open) == status)) {
        return true;
    }
    let decided = row.time(slot!("actionDate")).or_else(|| row.time(slot!("dateTime")));
    decided.is_some_and(|decided| now - decided.at <= YOUNG)
}

/// The certificates of a file with what the question takes of them, their keys in any case (contract section 7.1).
fn certificates(field: Field<'_>) -> Option<Value> {
    let listed: Vec<Map<String, Value>> = serde_json::from_str(field.raw()).ok()?;
    let taken = |certificate: Map<String, Value>| {
        let member = |name: &str| {
            let mut members = certificate.iter();
            members.find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null())
        };
        let named = ["sha", "subject", "validCert"].into_iter();
        named.filter_map(|name| Some((name.to_owned(), member(name)?.1.clone()))).collect::<Map<_, _>>()
    };
    let taken: Vec<Value> =
        listed.into_iter().map(taken).filter(|one| !one.is_empty()).map(Value::Object).collect();
    (!taken.is_empty()).then_some(Value::Array(taken))
}

/// A list of texts, also where it is but one.
fn texts(field: Field<'_>) -> Option<Value> {
    let listed = match serde_json::from_str(field.raw()).ok()? {
        Value::Array(listed) => listed,
        one => vec![one],
    };
    let texts: Vec<Value> =
        listed.into_iter().filter(|one| one.as_str().is_some_and(|text| !text.is_empty())).collect();
    (!texts.is_empty()).then_some(Value::Array(texts))
}

/// Reads an answer: the object of the integration, a bare list, or a list under `data`, since the vendor leaves it open.
///
/// # Errors
/// Whatever else it is: nothing is concluded from it.
pub fn read(answer: &[u8]) -> Result<Matched, Rejected> {
    let rejected = |why: &str| Rejected(why.to_owned());
    let answer = std::str::from_utf8(answer).map_err(|error| Rejected(error.to_string()))?;
    let answer = tidy(answer.trim_start_matches('\u{feff}'));
    let whole: &RawValue = serde_json::from_str(&answer)?;
    let listed = match whole.get().as_bytes().first() {
        Some(b'[') => list(whole.get())?,
        Some(b'{') => {
            let [matching, data, has] =
                fields(whole.get(), &["matchingApplications", "data", "hasMatching"])?;
            let there = |value: &&str| *value != "null";
            let listed = matching.filter(there).or(data.filter(there)).map(list).transpose()?;
            match (listed, has) {
                (Some(listed), Some("true")) if listed.is_empty() => {
                    return Err(rejected("it says that something matches, and not what"));
                }
                (Some(listed), _) => listed,
                (None, Some("false")) => Vec::new(),
                (None, _) => return Err(rejected("an object without a list of applications")),
            }
        }
        _ => return Err(rejected("neither a list nor an object")),
    };
    if listed.iter().any(|one| name(one.get()).is_none()) {
        return Err(rejected("a list of something else than applications"));
    }
    let kept: Vec<&str> =
        listed.iter().map(|one| one.get()).filter(|one| one.len() <= LONGEST).take(MOST).collect();
    let more = u32::try_from(listed.len() - kept.len()).unwrap_or(u32::MAX);
    Ok(Matched { applications: format!("[{}]", kept.join(",")), more })
}

fn list(text: &str) -> Result<Vec<&RawValue>, Rejected> {
    serde_json::from_str(text)
        .map_err(|_| Rejected("what should be a list of applications is none".to_owned()))
}

/// What an application is called, else its id.
pub fn name(application: &str) -> Option<Cow<'_, str>> {
    let members = fields(application, &["applicationName", "name", "applicationId"]).ok()?;
    members.into_iter().find_map(text)
}

#[cfg(test)]
mod tests;
