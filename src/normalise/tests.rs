use proptest::prelude::*;

use super::*;

#[test]
fn fields_are_found_in_any_case_and_the_first_of_a_name_counts() {
    let row = r#"{"ID":"a","more":{"id":"no"},"id":"b","Time":1}"#;
    let [id, time, none] = fields(row, &["id", "time", "none"]).unwrap();
    assert_eq!((text(id).as_deref(), text(time).as_deref(), text(none)), (Some("a"), Some("1"), None));
    let [id] = fields(row, &["id"]).unwrap();
    assert_eq!(text(id).as_deref(), Some("a"));
}

#[test]
fn what_is_no_object_has_no_fields() {
    for row in ["42", "\"id\"", "null", "[]", "[{\"id\":1}]"] {
        assert!(fields(row, &["id"]).is_err(), "{row}");
    }
    assert!(fields("{}", &["id"]).unwrap()[0].is_none());
}

#[test]
fn times_that_are_none_are_none() {
    for text in [
        "",
        "2026-13-01T00:00:00",
        "2026-01-01T24:00:00",
        "2026-1-011T00:00:00",
        "2026-01-01T00:00:0x",
        "2026-01-01",
    ] {
        assert_eq!(parse_time(text), None, "{text}");
    }
    assert_eq!(parse_time("2016-12-31T23:59:60Z"), parse_time("2016-12-31T23:59:59Z"));
}

proptest! {
    #[test]
    fn every_time_is_read_as_it_was_written(at in -60_000_000_000_000_000..250_000_000_000_000_000_i64) {
        let time = chrono::DateTime::from_timestamp_micros(at).unwrap();
        for form in ["%Y-%m-%dT%H:%M:%S%.6fZ", "%Y-%m-%d %H:%M:%S%.6f", "%Y-%m-%dT%H:%M:%S%.6f0+00:00"] {
            let text = time.format(form).to_string();
            prop_assert_eq!(parse_time(&text), Some(at), "{}", text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,30}", digits in "[0-9:T.+-]{0,30}") {
        for text in [text, digits] {
            prop_assert!(parse_time(&text).is_none() || text.len() >= 19, "{}", text);
        }
    }
}
