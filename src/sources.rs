//! One file a source.

pub mod approval_requests;
pub mod computer_checkins;
pub mod computer_details;
pub mod computers;
pub mod online_devices;
pub mod organizations;
pub mod policies;
pub mod private_remediations;
pub mod private_threats;
pub mod remediations;
pub mod reports;
pub mod system_audit;
pub mod threats;
pub mod unified_audit;

use std::borrow::Cow;

use crate::model::{Micros, OrganizationId};
use crate::normalise::{digest, is_zero_guid, text};
use crate::record::device::{Family, Platform};
use crate::record::row::{Row, Slot};

/// A row's organization; the zero GUID means none.
fn organization(value: Option<&str>) -> OrganizationId {
    text(value)
        .filter(|id| !is_zero_guid(id))
        .map_or_else(OrganizationId::none, |id| OrganizationId::new(&id))
}

/// An id that can tell rows apart: text that is not the zero GUID, and not the number 0, which stands in ids that
/// the portal does not fill (contract section 5.2).
pub(crate) fn id(value: Option<&str>) -> Option<Cow<'_, str>> {
    text(value).filter(|id| !is_zero_guid(id) && !matches!(id.trim(), "" | "0"))
}

/// The query string of these members.
pub(crate) fn query_string(members: &[(&str, &str)]) -> String {
    let mut url = reqwest::Url::parse("http://portal/").expect("the address is a constant");
    url.query_pairs_mut().extend_pairs(members);
    url.query().unwrap_or_default().to_owned()
}

/// The number of an operating system (contract section 2.1).
fn platform<'a>(row: &Row<'a>, slot: Slot) -> Option<Platform<'a>> {
    let field = row.integer(slot)?;
    let family = match field.value {
        1 | 5 => Family::Windows,
        2 => Family::MacOs,
        3 | 7 => Family::Linux,
        0 => return None,
        _ => Family::Other,
    };
    Some(Platform { family, field })
}

/// The hash of a row's unchanging values as the vendor wrote them. Of a row without a time it is not known
/// which values those are, so all of it counts.
fn content(row: &str, at: Option<Micros>, values: &[Option<&str>]) -> [u8; 16] {
    if at.is_none() {
        return digest(&[row.as_bytes()]);
    }
    let mut parts = [&b""[..]; 16];
    let parts = &mut parts[..values.len()];
    for (part, value) in parts.iter_mut().zip(values) {
        *part = value.map_or(&b"null"[..], str::as_bytes);
    }
    digest(parts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::record::enrichment::LONGEST_NAME;
    use crate::source::{SOURCES, by_name};

    #[test]
    fn an_id_that_the_portal_did_not_fill_tells_no_rows_apart() {
        // What has no id of its own is named by what it says.
        for source in SOURCES.into_iter().filter(|one| {
            one.endpoint().is_some()
                && !["remediations", "online_devices", "computer_checkins", "computer_details"]
                    .contains(&one.name())
        }) {
            let key = |id: serde_json::Value| {
                let row = json!({
                    "eActionLogId": id, "systemAuditId": id, "computerId": id, "organizationId": id, "policyId": id, "approvalRequestId": id, "dateTime": "2026-03-01T12:00:00Z",
                });
                // Of a report, only computers have ids.
                let part = u8::from(source.name() != "reports");
                source
                    .key(&row.to_string(), part)
                    .ok()
                    .and_then(|key| key.vendor_id.map(|id| id.into_owned()))
            };
            for none in [json!("0"), json!(0), json!(" "), json!(""), json!(null), json!(uuid::Uuid::nil())] {
                assert_eq!(key(none.clone()), None, "{} {none}", source.name());
            }
            for some in ["1", "00", "opaque==", "a2e2e158-86f0-49a1-ab86-30c3d8829690"] {
                assert_eq!(key(json!(some)).as_deref(), Some(some), "{}", source.name());
            }
        }
    }

    #[test]
    fn a_row_is_a_threat_where_the_portal_says_how_severe_and_not_where_it_says_none() {
        for name in ["unified_audit", "threats"] {
            let source = by_name(name).unwrap();
            let is_rated = |level: serde_json::Value| {
                source.key(&json!({ "ThreatSeverityLevel": level }).to_string(), 1).unwrap().rated
            };
            for none in [json!(null), json!(""), json!(" "), json!("None"), json!(0), json!(false), json!([])]
            {
                assert!(!is_rated(none.clone()), "{name} {none}");
            }
            for level in [json!("Severe"), json!("warning"), json!("of a later portal"), json!(2)] {
                assert!(is_rated(level.clone()), "{name} {level}");
            }
            assert!(!source.key(r#"{"eActionLogId":"a"}"#, 1).unwrap().rated);
        }
    }

    #[test]
    fn a_row_names_its_computer_and_user_and_one_of_the_computers_all_that_is_kept_of_it() {
        let row = json!({
            "computerId": "A2E2E158-86F0-49A1-AB86-30C3D8829690", "approvalRequestId": "r", "username": "ACME\\alice", "computerName": "",
            "hostname": "WS-1", "operatingSystem": "Windows 11 Pro", "groupName": "Workstations",
            "organizationName": "Acme", "mode": "Secure", "organizationId": "o", "policyId": "p",
        });
        let row = row.to_string();
        // What the vendor does not publish names computers as the published ones do, and nobody as their users.
        for source in SOURCES.into_iter().filter(|source| source.endpoint().is_none()) {
            let key = source.key(&row, 1).unwrap();
            let named = (key.vendor_id.as_deref(), key.computer.as_deref(), key.user.as_deref());
            assert_eq!(named, (None, Some("A2E2E158-86F0-49A1-AB86-30C3D8829690"), None));
        }
        for source in SOURCES.into_iter().filter(|source| source.endpoint().is_some()) {
            let key = source.key(&row, 1).unwrap();
            let (computer, user) = (key.computer.as_deref(), key.user.as_deref());
            if !["unified_audit", "threats", "computers", "approval_requests"].contains(&source.name()) {
                assert_eq!((computer, user), (None, None));
                continue;
            }
            assert_eq!(computer, Some("A2E2E158-86F0-49A1-AB86-30C3D8829690"));
            // Who asks need not be the computer's user.
            let named = (source.name() != "approval_requests").then_some("ACME\\alice");
            assert_eq!(user, named);
            assert_eq!(key.host, None, "the id is enough");
            let Some(facts) = key.facts else { continue };
            assert_eq!(facts.host.as_deref(), Some("ws-1"));
            let facts = facts.known().unwrap();
            assert_eq!(
                (source.name(), facts.name, facts.os),
                ("computers", Some("WS-1"), Some("Windows 11 Pro"))
            );
            assert_eq!((facts.group, facts.organization), (Some("Workstations"), Some("Acme")));
            assert_eq!(facts.mode, Some("Secure"));
        }
        let computers = by_name("computers").unwrap();
        for (length, is_kept) in [(LONGEST_NAME, true), (LONGEST_NAME + 1, false)] {
            let row = json!({ "computerId": "c", "mode": "x".repeat(length) }).to_string();
            let facts = computers.key(&row, 1).unwrap().facts.unwrap();
            assert_eq!(facts.mode.is_some(), is_kept, "{length}");
        }
        let row =
            r#"{"computerId":"00000000-0000-0000-0000-000000000000","hostname":"WS-1","username":"alice"}"#;
        let key = by_name("unified_audit").unwrap().key(row, 1).unwrap();
        assert_eq!((key.computer.as_deref(), key.host.as_deref()), (None, Some("WS-1")), "where it is not");
    }
}
