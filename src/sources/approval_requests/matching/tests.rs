use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::normalise::parse_time;

const NOW: &str = "2026-03-01T10:40:00Z";

fn now() -> Micros {
    parse_time(NOW).unwrap()
}

fn example() -> Value {
    serde_json::from_str(&ApprovalRequests.examples()[0]).unwrap()
}

fn asked(row: &Value) -> Option<Value> {
    question(&row.to_string(), now())
}

#[test]
fn the_question_is_filled_from_the_row_and_what_the_row_does_not_say_is_left_out() {
    insta::assert_snapshot!(asked(&example()).unwrap(), @r#"{"certs":[{"sha":"06298432e8066b29e2223bcc23aa9504b56ae508","subject":"CN=Example Software","validCert":true}],"createdBys":["EXAMPLE\\a.muster"],"hash":"5cb7e380d019de63c643aef55b8534d0","osType":1,"path":"c:\\users\\a.muster\\downloads\\example_setup.exe","processPath":"c:\\windows\\explorer.exe","sha256":"3c417b7ea567c3115deebed7319de56c4d008e6990b0d45ed5cfa53d4c5d37fa"}"#);
    let bare = json!({ "statusId": 1, "path": "/opt/tool", "hash": null, "threatLockerActionDto": null });
    assert_eq!(asked(&bare), Some(json!({ "path": "/opt/tool", "osType": 1 })));
    let otherwise = json!({
        "statusId": 1,
        "hash": "ab",
        "threatLockerActionDto": {
            "FULLPATH": "c:\\a", "OsType": 2, "Certs": [{ "SHA": "1", "Subject": null }, {}], "InstalledBy": "me", "sha256": "",
        },
    });
    let wanted = json!({ "hash": "ab", "path": "c:\\a", "certs": [{ "sha": "1" }], "createdBys": ["me"], "osType": 2 });
    assert_eq!(asked(&otherwise), Some(wanted));
}

#[test]
fn only_what_is_about_a_program_and_pending_or_decided_within_a_day_is_asked_about() {
    let of = |members: Value| {
        let mut row = json!({ "statusId": 1, "path": "c:\\a", "dateTime": "2020-01-01T00:00:00Z" });
        row.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        asked(&row).is_some()
    };
    for status in [1, 13, 17] {
        assert!(of(json!({ "statusId": status })), "{status}");
    }
    for status in [4, 6, 10, 12, 16, 99] {
        let decided = |at: &str| of(json!({ "statusId": status, "actionDate": at }));
        assert!(decided("2026-02-28T10:40:00Z") && !decided("2026-02-28T10:39:59Z"), "{status}");
        assert!(!of(json!({ "statusId": status })), "{status}");
    }
    assert!(of(json!({ "requestTypeId": 1 })) && of(json!({ "requestTypeId": null })));
    assert!(!of(json!({ "requestTypeId": 2 })) && !of(json!({ "requestTypeId": 3 })));
    assert!(!of(json!({ "path": "" })) && !of(json!({ "path": null })));
}

#[test]
fn an_answer_is_read_in_each_form_and_kept_as_it_came() {
    let application = r#"{ "applicationId": "c2",  "name":"Ä", "isMaintained":true}"#;
    for form in [
        format!(r#"{{"hasMatching":true,"matchingApplications":[{application}]}}"#),
        format!(r#"{{"hasMatching":true,"MatchingApplications":[{application}]}}"#),
        format!(r#"{{"data": [ {application} ], "matchingApplications": null}}"#),
        format!("\u{feff}[{application}]"),
    ] {
        let matched = read(form.as_bytes()).unwrap();
        assert_eq!((matched.applications, matched.more), (format!("[{application}]"), 0), "{form}");
    }
    let lines = read(b"[{\"name\":\n\"\\ud800\"}]").unwrap().applications;
    assert_eq!(lines, r#"[{"name": "\\ud800"}]"#);
}

#[test]
fn nothing_that_matches_is_an_answer_and_what_is_not_understood_is_none() {
    for none in [
        "[]",
        r#"{"hasMatching":false}"#,
        r#"{"hasMatching":false,"matchingApplications":[]}"#,
        r#"{"data":[]}"#,
    ] {
        assert_eq!(read(none.as_bytes()).unwrap().applications, "[]", "{none}");
    }
    for strange in [
        "",
        "null",
        "true",
        "{}",
        "{",
        r#"{"hasMatching":true}"#,
        r#"{"hasMatching":true,"matchingApplications":[]}"#,
        r#"{"matchingApplications":{"name":"a"}}"#,
        r#"{"data":7}"#,
        r#"["a"]"#,
        "[null]",
        "[{}]",
        r#"[{"computerName":"WS-1"}]"#,
        r#"[{"name":""}]"#,
    ] {
        assert!(read(strange.as_bytes()).is_err(), "{strange}");
    }
    assert!(read(b"\xc3\x28").is_err());
}

#[test]
fn of_many_applications_and_of_a_huge_one_it_is_said_how_many_there_are() {
    let many: Vec<Value> = (0..25).map(|number| json!({ "name": number.to_string() })).collect();
    let matched = read(Value::from(many).to_string().as_bytes()).unwrap();
    let kept: Vec<Value> = serde_json::from_str(&matched.applications).unwrap();
    assert_eq!((kept.len(), matched.more), (MOST, 5));
    let huge = json!([{ "name": "x".repeat(LONGEST) }, { "name": "a" }]);
    let matched = read(huge.to_string().as_bytes()).unwrap();
    assert_eq!((matched.applications.as_str(), matched.more), (r#"[{"name":"a"}]"#, 1));
}

proptest! {
    #[test]
    fn what_was_read_is_a_list_in_one_line_of_at_most_so_many(answer in proptest::collection::vec(any::<u8>(), 0..200), text in ".*", count in 0..40_usize) {
        drop(read(&answer));
        let pretty = serde_json::to_string_pretty(&json!({ "matchingApplications": vec![json!({ "name": format!("a{text}") }); count] })).unwrap();
        let matched = read(pretty.as_bytes()).unwrap();
        prop_assert!(!matched.applications.contains(['\n', '\r']));
        let kept: Vec<Value> = serde_json::from_str(&matched.applications).unwrap();
        prop_assert!(kept.len() <= MOST && kept.len() + matched.more as usize == count);
    }

    #[test]
    fn no_row_makes_it_panic(row in ".*", certs in ".*") {
        drop(question(&row, now()));
        let row = format!(r#"{{"statusId":1,"path":"a","threatLockerActionDto":{{"certs":{certs},"installedBy":{certs}}}}}"#);
        drop(question(&row, now()));
    }
}
