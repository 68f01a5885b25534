use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::normalise::fingerprint;
use crate::source::Scope;

fn named(name: &str, address: Option<&str>, print: u8) -> Named {
    let organization = OrganizationId::new("o");
    Named { organization, name: name.to_owned(), address: address.map(str::to_owned), print: [print; 16] }
}

fn key(row: &Value) -> Result<String, String> {
    let row = row.to_string();
    let key = OnlineDevices.key(&row, 0).map_err(|Rejected(reason)| reason)?;
    Ok(key.vendor_id.unwrap().into_owned())
}

#[test]
fn a_page_is_asked_by_the_members_of_its_address() {
    let query = Query::whole(Scope::Tree(OrganizationId::new("o")), 3, 25);
    let asked = "pageNumber=3&pageSize=25&orderBy=HostName&isAscending=true";
    assert_eq!(OnlineDevices.query_string(&query), asked);
}

#[test]
fn a_row_goes_by_its_name_else_by_its_address_and_is_nothing_without_both() {
    let rows: Vec<Value> =
        serde_json::from_str(include_str!("../../../tests/it/fixtures/portal/online_devices.json")).unwrap();
    let ids: Vec<_> = rows.iter().map(|row| key(row).unwrap()).collect();
    assert_eq!(ids, ["drucker-eg", "unbekannt-🖨", "198.51.100.201"]);
    assert_eq!(key(&json!({ "COMPUTERNAME": "  NAS ", "hostname": "nas.example.com" })).unwrap(), "nas");
    assert_eq!(
        key(&json!({ "computerName": " ", "hostname": "nas.example.com" })).unwrap(),
        "nas.example.com"
    );
    assert_eq!(key(&json!({ "computerName": {}, "ipAddress": " FE80::1 " })).unwrap(), "fe80::1");
    for nothing in
        [json!({}), json!({ "computerName": " ", "ipAddress": null, "macAddress": "x" }), json!([])]
    {
        assert!(key(&nothing).is_err(), "{nothing}");
    }
    let text = rows[0].to_string();
    let key = OnlineDevices.key(&text, 0).unwrap();
    assert!(key.organization.is_none() && key.at.is_some());
    assert!(key.computer.is_none() && key.host.is_none() && key.user.is_none() && key.facts.is_none());
    assert_eq!(OnlineDevices.key(&rows[1].to_string(), 0).unwrap().at, None, "year 1");
}

#[test]
fn when_it_was_seen_last_is_no_change() {
    let print = |row: Value| fingerprint(&row.to_string(), &VOLATILE).unwrap();
    let row = |seen: &str, address: &str| {
        print(json!({ "computerName": "a", "lastCheckin": seen, "ipAddress": address }))
    };
    assert_eq!(row("2026-03-01T10:00:00Z", "192.0.2.1"), row("2026-03-01T11:00:00Z", "192.0.2.1"));
    assert_ne!(row("2026-03-01T10:00:00Z", "192.0.2.1"), row("2026-03-01T10:00:00Z", "192.0.2.2"));
}

#[test]
fn a_name_that_is_listed_twice_goes_with_its_address() {
    let rows = [
        named("a", Some("192.0.2.1"), 1),
        named("b", Some("192.0.2.2"), 2),
        named("a", Some("192.0.2.3"), 3),
        named("a", None, 4),
        named("a", Some("192.0.2.3"), 5),
        Named { organization: OrganizationId::new("p"), ..named("a", Some("192.0.2.9"), 6) },
        named("192.0.2.7", Some("192.0.2.7"), 7),
        named("192.0.2.7", Some("192.0.2.7"), 8),
    ];
    let wanted = ["a/192.0.2.1", "b", "a/192.0.2.3", "a", "a/192.0.2.3#2", "a", "192.0.2.7", "192.0.2.7#2"];
    assert_eq!(ids(&rows), wanted);
}

proptest! {
    #[test]
    fn rows_go_by_the_same_ids_in_any_order_and_no_two_by_one(
        seed in prop::collection::hash_set((0..2_u8, "[ab/#]{1,3}", prop::option::of("[a1]"), 0..4_u8), 0..12),
        turned in any::<prop::sample::Index>(),
    ) {
        let row = |(organization, name, address, print): &(u8, String, Option<String>, u8)| Named {
            organization: OrganizationId::new(&organization.to_string()),
            ..named(name, address.as_deref(), *print)
        };
        let rows: Vec<Named> = seed.iter().map(row).collect();
        let found = ids(&rows);
        let all: HashSet<_> = rows.iter().map(|row| &row.organization).zip(&found).collect();
        prop_assert_eq!(all.len(), rows.len());
        let mut others = rows.clone();
        if !others.is_empty() {
            let by = turned.index(others.len());
            others.rotate_left(by);
        }
        for (row, id) in others.iter().zip(ids(&others)) {
            let place = rows.iter().position(|one| one == row).unwrap();
            prop_assert_eq!(&found[place], &id);
        }
    }
}
