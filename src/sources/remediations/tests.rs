use serde_json::json;

use crate::model::{Change, Entry, Kind, Micros, SECOND};
use crate::normalise::parse_time;
use crate::record::About;
use crate::record::event::Severity;
use crate::record::remediation::{Measure, Moment, Remediation};
use crate::record::row::Row;
use crate::source::{Query, Scope, Source, by_name};

fn source() -> &'static dyn Source {
    by_name("remediations").unwrap()
}

fn at(text: &str) -> Micros {
    parse_time(text).unwrap()
}

/// What a reader makes of a row collected at noon of the second of March.
fn read<T>(
    change: Change,
    row: &str,
    previous: Option<&str>,
    look: impl Fn(&Remediation<'_>, Option<Micros>) -> T,
) -> T {
    let entry = Entry {
        number: 1,
        uid: uuid::Uuid::nil(),
        kind: Kind::Event,
        change,
        organization: "org",
        vendor_id: Some("computer/id"),
        time: Some(at("2026-03-02T12:00:00Z")),
        row,
        previous,
    };
    let row = Row::read(source().names(), row, usize::MAX).unwrap();
    let previous = previous.map(|text| Row::read(source().names(), text, usize::MAX).unwrap());
    let mut seen = None;
    source().read(&entry, &row, previous.as_ref(), &mut |record| {
        let About::Remediation(remediation) = &record.about else { panic!("another record") };
        seen = Some(look(remediation, record.time));
    });
    seen.unwrap()
}

#[test]
fn a_row_is_named_by_its_id_or_by_what_it_is_and_when_it_began() {
    let key =
        |row: serde_json::Value| source().key(&row.to_string(), 0).unwrap().vendor_id.unwrap().into_owned();
    assert_eq!(key(json!({ "maintenanceModeId": "M1", "maintenanceTypeId": 3 })), "M1");
    let start = "2026-03-01T00:00:00.1Z";
    // One id, and the times at which two of them began.
    for start in [start, "2026-03-02T00:00:00Z"] {
        let twice = json!({ "maintenanceModeId": "M1", "maintenanceTypeId": 3, "startDateTime": start });
        assert_eq!(key(twice), format!("M1@{}", at(start)));
    }
    let named = key(json!({ "maintenanceModeId": null, "maintenanceTypeId": 3, "startDateTime": start }));
    assert_eq!(named, format!("3@{}", at(start)));
    let nothing = key(json!({ "maintenanceTypeId": 99, "startDateTime": "0001-01-01T00:00:00" }));
    assert!(nothing.starts_with("99#"), "{nothing}");
    assert_ne!(nothing, key(json!({ "maintenanceTypeId": 99, "startDateTime": null })));
}

#[test]
fn what_has_ended_says_who_ended_it_or_a_time_that_has_come() {
    let now = at("2026-03-02T12:00:00Z");
    let ended = |end: serde_json::Value, by: serde_json::Value| {
        source().lasting(&json!({ "endDateTime": end, "endedBy": by }).to_string(), now).has_ended
    };
    assert!(ended(json!("2026-03-02T12:00:00Z"), json!(null)));
    assert!(ended(json!("2026-03-02T11:00:00"), json!("")));
    assert!(ended(json!("2027-01-01T00:00:00Z"), json!("zoe")));
    assert!(!ended(json!("2026-03-02T12:00:01Z"), json!(" ")));
    assert!(!ended(json!("0001-01-01T00:00:00"), json!(null)));
    assert!(!ended(json!("soon"), json!(null)));
}

#[test]
fn each_moment_has_its_time_its_person_and_its_weight() {
    let row = |end: &str, by: &str| {
        format!(
            r#"{{"maintenanceTypeId":14,"startDateTime":"2026-03-01T09:30:00Z","endDateTime":{end},"addedBy":"ada","endedBy":{by}}}"#
        )
    };
    let seen = |one: &Remediation<'_>, time: Option<Micros>| {
        let by = one.by().map(|by| by.inner().to_owned());
        (one.moment, by, time, one.severity(), one.computer_id.unwrap().to_owned())
    };
    let lasting = row("null", "null");
    let begun = read(Change::New, &lasting, None, seen);
    let computer = || "computer".to_owned();
    let (ada, bob) = (Some("ada".to_owned()), Some("bob".to_owned()));
    let start = Some(at("2026-03-01T09:30:00Z"));
    assert_eq!(begun, (Moment::Begun, ada.clone(), start, Severity::Medium, computer()));
    let over = row(r#""2026-03-02T10:00:00Z""#, r#""bob""#);
    let end = Some(at("2026-03-02T10:00:00Z"));
    let ended = read(Change::Changed, &over, Some(&lasting), seen);
    assert_eq!(ended, (Moment::Ended, bob, end, Severity::Informational, computer()));
    let longer = row(r#""2026-03-09T10:00:00Z""#, "null");
    let noon = Some(at("2026-03-02T12:00:00Z"));
    let altered = read(Change::Changed, &longer, Some(&lasting), seen);
    assert_eq!(altered, (Moment::Altered, ada, noon, Severity::Medium, computer()));
    // Its time has come, and nothing else is different.
    let by_itself = row(r#""2026-03-02T11:59:59Z""#, "null");
    assert_eq!(read(Change::Changed, &by_itself, Some(&by_itself), |one, _| one.moment), Moment::Ended);
    // It was over before; now it has another name.
    let renamed = over.replace("14", "15");
    assert_eq!(read(Change::Changed, &renamed, Some(&over), |one, _| one.moment), Moment::Altered);
}

#[test]
fn the_vendors_numbers_are_known_and_another_is_other() {
    let measure = |code: i64| {
        read(Change::New, &format!(r#"{{"maintenanceTypeId":{code}}}"#), None, |one, _| one.measure)
    };
    let known = [1, 2, 3, 4, 6, 14, 15, 16, 17, 18, 19].map(measure);
    assert!(!known.contains(&Measure::Other), "{known:?}");
    assert_eq!((measure(8), measure(99)), (Measure::Other, Measure::Other));
}

#[test]
fn the_computer_stands_in_the_address_and_cannot_add_to_it() {
    let scope = Scope::Organization(crate::model::OrganizationId::new("org"));
    let query = Query { computer: Some("a b&pageSize=9".into()), ..Query::whole(scope, 2, 50) };
    let request = query.request(source(), std::time::Duration::from_micros(SECOND.unsigned_abs()));
    assert_eq!(request.query, "computerId=a+b%26pageSize%3D9&pageNumber=2&pageSize=50");
    assert!(request.body.is_empty() && request.organization.unwrap().as_str() == "org");
}
