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

/// Any JSON value, with brackets, quotes and escapes in its texts.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        r#"[\[\]{},:"\\ ]*"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(r#"[a-zA-Z{}"\\é]{0,4}"#, inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_members_of_any_object_are_those_that_a_parser_finds(
        object in prop::collection::vec((r#"[a-zA-Z{}"\\é]{0,4}"#, any_json()), 0..6), pretty in any::<bool>()) {
        let object: serde_json::Map<_, _> = object.into_iter().collect();
        let json = match pretty {
            true => serde_json::to_string_pretty(&object).unwrap(),
            false => serde_json::to_string(&object).unwrap(),
        };
        let found: Vec<(String, serde_json::Value)> = Members::of(&json)
            .unwrap()
            .map(|member| member.map(|(key, value)| (plain(key).into_owned(), serde_json::from_str(value).unwrap())).unwrap())
            .collect();
        let expected: Vec<_> = serde_json::from_str::<serde_json::Map<_, _>>(&json).unwrap().into_iter().collect();
        prop_assert_eq!(found.into_iter().collect::<std::collections::BTreeMap<_, _>>(), expected.into_iter().collect());
        for cut in (0..json.len()).filter_map(|cut| json.get(..cut)) {
            if let Ok(members) = Members::of(cut) {
                prop_assert!(members.count() <= cut.len());
            }
        }
    }

    #[test]
    fn text_that_is_no_json_panics_nobody_and_ends(text in r#"[{}\[\]:,"\\ a1é]{0,40}"#) {
        if let Ok(members) = Members::of(&format!("{{{text}")) {
            prop_assert!(members.count() <= text.len() + 1);
        }
    }
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
