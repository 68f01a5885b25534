use serde_json::json;

use super::*;
use crate::model::{Change, OrganizationId};
use crate::record::About;
use crate::record::event::Severity;
use crate::source::Scope;

const ORGANIZATION: &str = "fc10e3e6-afe0-5c22-92a6-b597e759321e";

fn fixtures() -> Vec<String> {
    let rows: Vec<Value> =
        serde_json::from_str(include_str!("../../../tests/it/fixtures/portal/policies.json")).unwrap();
    rows.iter().map(Value::to_string).collect()
}

#[test]
fn the_list_is_asked_with_every_member_and_with_children_only_for_a_tree() {
    let own = OrganizationId::new(ORGANIZATION);
    for (scope, has_children) in [(Scope::Tree(own.clone()), true), (Scope::Organization(own), false)] {
        let query = Query::whole(scope, 3, 250);
        let wanted = json!({
            "filter": "", "pageNumber": 3, "pageSize": 250,
            "computerGroupId": "00000000-0000-0000-0000-000000000000", "osType": 0, "searchText": "",
            "activeOnly": false, "showAllPolicies": true, "childOrganizations": has_children,
        });
        assert_eq!(Policies.body(&query), wanted);
    }
}

#[test]
fn rows_in_either_form_are_keyed_and_odd_ones_are_told() {
    for row in fixtures() {
        let key = Policies.key(&row, 0).unwrap();
        assert_eq!((key.organization.as_str(), key.vendor_id.unwrap().len()), (ORGANIZATION, 36), "{row}");
    }
    let key = Policies.key(r#"{"POLICYID":"A","organizationId":null}"#, 0).unwrap();
    assert!(key.vendor_id.as_deref() == Some("A") && key.organization.is_none());
    for odd in ["{}", "[]", "null", "42", r#"{"policyId":"00000000-0000-0000-0000-000000000000"}"#] {
        assert!(Policies.key(odd, 0).is_err(), "{odd}");
    }
}

#[test]
fn two_forms_of_a_policy_agree_unless_both_tell_something_else_of_one_thing() {
    let list = json!({
        "policyId": "p", "name": "Deny", "isEnabled": true, "policyActionId": 2, "endDate": "2026-02-01T00:00:00",
        "users": ["A"], "totalRows": 4, "organizationId": ORGANIZATION.to_uppercase(), "comments": null,
    });
    let alone = json!({
        "policyId": "p", "policyName": "Deny", "status": 1, "monitorMode": 1, "endDate": "2026-02-01T00:00:00.000Z",
        "users": ["a"], "comments": "x", "organizationId": ORGANIZATION,
    });
    let agrees = |change: &[(&str, Value)]| {
        let mut other = alone.clone();
        change.iter().for_each(|(name, value)| other[*name] = value.clone());
        let (list, other) = (list.to_string(), other.to_string());
        [Policies.agree(&list, &other), Policies.agree(&other, &list)]
    };
    assert_eq!(agrees(&[]), [Agreement::Less; 2], "each says something that the other does not");
    assert_eq!(agrees(&[("policyActionId", json!("2"))]), [Agreement::Less, Agreement::Same]);
    for (name, value) in [
        ("policyName", json!("Permit")),
        ("status", json!(0)),
        ("policyActionId", json!(1)),
        ("endDate", json!("2026-02-02T00:00:00Z")),
        ("users", json!(["b"])),
    ] {
        assert_eq!(agrees(&[(name, value)]), [Agreement::Differ; 2], "{name}");
    }
}

#[test]
fn a_row_lacks_details_when_it_says_not_what_the_policy_does() {
    for (row, lacks) in [
        (json!({ "policyId": "p", "policyActionId": 1 }), false),
        (json!({ "policyId": "p", "PolicyAction": "Permit" }), false),
        (json!({ "policyId": "p", "policyActionId": null, "policyAction": "" }), true),
        (json!({ "policyId": "p" }), true),
    ] {
        assert_eq!(lacks_details(&row.to_string()), lacks, "{row}");
    }
}

/// The severity and the members that differ, of a policy that became another.
fn told(change: Change, before: &Value, after: &Value) -> (Severity, Vec<String>) {
    let (before, after) = (before.to_string(), after.to_string());
    let read = |text| Row::read(Policies.names(), text, usize::MAX).unwrap();
    let (old, new) = (read(&before), read(&after));
    let entry = Entry {
        number: 1,
        uid: uuid::Uuid::nil(),
        kind: Kind::State,
        change,
        organization: ORGANIZATION,
        vendor_id: Some("p"),
        time: None,
        row: &after,
        previous: Some(&before),
    };
    let mut found = None;
    Policies.read(&entry, &new, Some(&old), &mut |record| {
        let About::Entity(entity) = &record.about else { panic!("{record:?}") };
        let names = entity.differences.iter().map(|member| member.name.to_owned()).collect();
        found = Some((entity.severity, names));
    });
    found.unwrap()
}

#[test]
fn what_differs_is_named_and_what_moves_by_itself_is_not() {
    let before = json!({
        "policyId": "p", "name": "a", "endDate": null, "orderBy": 1, "lastMatchDateTime": "x", "totalRows": 3,
        "gone": 1, "same": [1], "odd": 1,
    });
    let after = json!({
        "policyId": "p", "name": "b", "endDate": "2026-02-01T00:00:00", "orderBy": 2, "lastMatchDateTime": "y",
        "totalRows": 4, "same": [1], "odd": 2, "come": {},
    });
    let (_, names) = told(Change::Changed, &before, &after);
    assert_eq!(names, ["name", "endDate", "come", "odd", "gone"]);
    assert_eq!(told(Change::New, &before, &after).1, Vec::<String>::new());
}

#[test]
fn a_guard_that_becomes_weaker_is_medium_or_low_and_anything_else_informational() {
    use Severity::{Informational, Low, Medium};
    let deny = json!({ "policyActionId": 2, "isEnabled": true, "monitorMode": 1, "ringfence": false });
    let with = |base: &Value, change: &[(&str, Value)]| {
        let mut other = base.clone();
        change.iter().for_each(|(name, value)| other[*name] = value.clone());
        other
    };
    let fenced = with(&deny, &[("policyActionId", json!(6)), ("ringfence", json!(true))]);
    let permit = with(&deny, &[("policyActionId", json!(1))]);
    let off = |policy: &Value| with(policy, &[("isEnabled", json!(false))]);
    let monitor = with(&deny, &[("monitorMode", json!(2))]);
    let inherit = with(&deny, &[("monitorMode", json!(0))]);
    let words = json!({ "policyAction": "Deny with Option to Request", "status": 1, "monitorMode": "1" });
    let cases = [
        (&deny, &permit, Medium),
        (&deny, &fenced, Medium),
        (&fenced, &permit, Medium),
        (&fenced, &with(&fenced, &[("ringfence", json!(false))]), Medium),
        (&deny, &monitor, Medium),
        (&inherit, &monitor, Medium),
        (&deny, &inherit, Low),
        (&deny, &off(&deny), Medium),
        (&off(&permit), &permit, Low),
        (&permit, &off(&permit), Informational),
        (&permit, &deny, Informational),
        (&monitor, &deny, Informational),
        (&off(&deny), &off(&permit), Informational),
        (&deny, &with(&deny, &[("name", json!("another"))]), Informational),
        (&words, &with(&words, &[("status", json!(0))]), Medium),
        (&words, &with(&words, &[("policyAction", json!("Permit"))]), Medium),
    ];
    for (before, after, wanted) in cases {
        assert_eq!(told(Change::Changed, before, after).0, wanted, "{before} to {after}");
    }
    assert_eq!(told(Change::Removed, &deny, &deny).0, Medium);
    assert_eq!(told(Change::Removed, &off(&deny), &off(&deny)).0, Informational);
    assert_eq!(told(Change::New, &permit, &permit).0, Informational);
}
