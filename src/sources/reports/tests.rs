use serde_json::json;

use super::*;

#[test]
fn a_report_is_the_same_by_each_way_to_write_its_name() {
    for name in [
        "All Computers - Including Child Organizations",
        "All Computers – Including Child Organizations",
        "all-computers — including_child  organizations",
        " ALL COMPUTERS INCLUDING CHILD ORGANIZATIONS ",
    ] {
        assert_eq!(normalised(name), "all computers including child organizations", "{name}");
    }
    assert_eq!(normalised("All-Computers"), "all computers");
    assert_ne!(normalised("All-Computers"), normalised("AllComputers"), "blanks count");
}

#[test]
fn the_reports_are_found_in_groups_and_beside_them_whatever_else_stands_there() {
    let list = include_str!("../../../tests/it/fixtures/portal/reports_list.json");
    let groups: Vec<Value> = serde_json::from_str(list).unwrap();
    let all: Vec<Listed> = groups.iter().flat_map(|group| listed(&group.to_string())).collect();
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    let wanted = [
        "All-Computers",
        "All Computers – Including Child Organizations",
        "Applications Containing Same Hash",
        "Denies by Day",
        "Policy Usage",
    ];
    assert_eq!(names, wanted);
    assert_eq!(all.iter().filter(|one| one.takes_dates).count(), 2);
    let flat = listed(r#"{"ReportId":"r","Name":"N","DateOption":"true"}"#);
    assert_eq!(flat, [Listed { id: "r".to_owned(), name: "N".to_owned(), takes_dates: true }]);
    for none in
        ["null", "7", "[]", r#"{"name":"without an id"}"#, r#"{"reports":null}"#, r#"{"reports":[null,1]}"#]
    {
        assert_eq!(listed(none), [], "{none}");
    }
}

#[test]
fn a_run_names_every_member_of_the_table() {
    let report = Report { names: Vec::new(), is_computers: true, span: Duration::from_secs(3_600) };
    let found = Listed { id: "r".to_owned(), name: "N".to_owned(), takes_dates: false };
    let wanted = json!({
        "reportId": "r", "startDate": "1970-01-01T01:00:00Z", "endDate": "1970-01-01T02:00:00Z", "data": "",
        "offsetInMinutes": 0, "id": "00000000-0000-0000-0000-000000000000", "includeChildOrganizations": true,
        "options": [],
    });
    assert_eq!(run(&found, true, report.newest(7_200 * SECOND + 5)), wanted);
}

#[test]
fn one_organization_alone_is_not_asked_for_with_its_children() {
    let report = Report {
        names: ALL_COMPUTERS.map(str::to_owned).to_vec(),
        is_computers: true,
        span: Duration::from_secs(1),
    };
    assert_eq!(report.wanted(true), ALL_COMPUTERS);
    assert_eq!(report.wanted(false), [ALL_COMPUTERS[1], ALL_COMPUTERS[0]]);
    assert_eq!(format!("report={}", report.key()), COMPUTERS_QUERY);
}

/// The rows of the reports in the fixtures.
fn rows() -> Vec<String> {
    let rows: Vec<Value> =
        serde_json::from_str(include_str!("../../../tests/it/fixtures/portal/reports.json")).unwrap();
    rows.iter().map(Value::to_string).collect()
}

fn key(row: &str, part: u8) -> RowKey<'_> {
    Reports.key(row, part).unwrap()
}

#[test]
fn a_computer_goes_by_its_id_else_by_its_host_and_other_rows_by_all_that_they_say() {
    let rows = rows();
    let first = key(&rows[0], COMPUTERS);
    assert_eq!(first.vendor_id.as_deref(), Some("96984898-302d-5316-8d10-2c1ac39af9e4"));
    assert_eq!(first.organization_name.as_deref(), Some("Bäckerei Müßig GmbH"));
    assert_eq!(first.at, Some(1_772_366_287_437_000));
    let odd = key(&rows[1], COMPUTERS);
    assert_eq!((odd.at, odd.facts.unwrap().os.as_deref()), (None, Some("macOS 15.3.1 (24D70)")));
    let without_id = key(&rows[4], COMPUTERS);
    assert_eq!(without_id.vendor_id.as_deref(), Some("host:srv-file"));
    assert_eq!(without_id.user.as_deref(), Some(r"BAECKEREI\svc-backup"));
    assert_eq!(without_id.facts.unwrap().host.as_deref(), Some("srv-file"));
    assert!(Reports.key(r#"{"Mode":"Secure"}"#, COMPUTERS).is_err(), "what nothing names");
    assert!(Reports.key("[1]", ROWS).is_err());
    let id = |row: &str| key(row, ROWS).content;
    assert_eq!(
        id(r#"{"Day":"1","Count of Denies":7}"#),
        id(r#"{"Count of Denies":7, "Day":"1","Nothing":null}"#)
    );
    assert_ne!(id(r#"{"Last Seen":"1"}"#), id(r#"{"Last Seen":"2"}"#), "nothing of such a row is volatile");
}

#[test]
fn a_check_in_alone_is_no_change_of_a_computer_however_its_column_is_headed() {
    let Shape::Snapshot { volatile } = Reports.shape() else { panic!("it is asked as a whole") };
    let print = |row: &str| fingerprint(row, volatile).unwrap();
    let row = r#"{"Computer Id":"c","Last Check-in":"1","Mode":"Secure"}"#;
    assert_eq!(print(row), print(&row.replace(r#""1""#, r#""2""#)));
    assert_ne!(print(row), print(&row.replace("Secure", "Learning")));
}
