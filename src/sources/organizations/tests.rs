use serde_json::json;

use super::*;

#[test]
fn an_organization_belongs_to_itself_under_the_name_that_people_are_shown() {
    let rows: Vec<Value> =
        serde_json::from_str(include_str!("../../../tests/it/fixtures/portal/child_organizations.json"))
            .unwrap();
    let mut names = Vec::new();
    for row in rows.iter().chain([&json!({"label": "Example MSP", "value": uuid::Uuid::from_u128(7)})]) {
        let row = row.to_string();
        let key = Organizations.key(&row, 0).unwrap();
        assert_eq!(key.organization.as_str(), key.vendor_id.unwrap().to_lowercase());
        names.push(key.organization_name.unwrap().into_owned());
    }
    let wanted = [
        "Bäckerei Müßig GmbH",
        "Zahnarztpraxis Łukasz & Söhne",
        "Empty Tenant",
        "歯科 東京 🦷",
        "Example MSP",
    ];
    assert_eq!(names, wanted);
    for odd in ["{}", "[]", r#"{"name":"x"}"#, r#"{"organizationId":"00000000-0000-0000-0000-000000000000"}"#]
    {
        assert!(Organizations.key(odd, 0).is_err(), "{odd}");
    }
}

#[test]
fn the_row_of_the_drop_down_list_agrees_with_that_of_the_list_of_children_unless_the_name_is_another() {
    let child = json!({ "organizationId": "a", "name": "acme", "displayName": "Acme Ltd" }).to_string();
    let label = |label: &str| json!({ "label": label, "value": "a" }).to_string();
    assert_eq!(Organizations.agree(&child, &label("Acme Ltd")), Agreement::Same);
    assert_eq!(Organizations.agree(&label("acme "), &child), Agreement::Less);
    assert_eq!(Organizations.agree(&child, &label("Acme Inc")), Agreement::Differ);
    assert_eq!(Organizations.agree(&child, &label("")), Agreement::Differ);
}
