//! The `raw` format: the vendor's row in an envelope, one JSON object a line.
//!
//! Keys, in this order: `uid`, `source`, `kind`, `change`, `site`, `organization_id`, `vendor_id`, `time`,
//! `collected`, `lane`, `number`, `row`, `previous` where a row came before, `replaces` (`vendor_id` and `uid`) where a
//! device of a report goes on as this one, and `matching_applications` (a list, and `more_matching_applications` where it is
//! cut short) where the portal was asked which match a request for approval. `organization_id`, `vendor_id` and `time` are
//! null when unknown. Times are RFC 3339 in UTC with microseconds. `row` and
//! `previous` are the vendor's bytes, except that line breaks between tokens are spaces.

use std::io::Write;

use super::rfc3339;
use crate::format::{FormatError, Origin, check};
use crate::model::Entry;
use crate::record::enrichment::Enrichment;

/// Appends one line to `out`; what was appended before an error is left for the caller to cut off.
pub(crate) fn encode(
    origin: Origin<'_>,
    entry: &Entry<'_>,
    known: Enrichment<'_>,
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    check("row", entry.row)?;
    if let Some(previous) = entry.previous {
        check("previous row", previous)?;
    }
    let collected = rfc3339(origin.collected).ok_or(FormatError::Collected(origin.collected))?;

    out.reserve(entry.row.len() + entry.previous.map_or(0, str::len) + 512);
    put(out, "{\"uid\":\"");
    put(out, entry.uid.hyphenated().encode_lower(&mut [0; 36]));
    put(out, "\",\"source\":");
    text(out, origin.source);
    put(out, ",\"kind\":");
    text(out, entry.kind.as_str());
    put(out, ",\"change\":");
    text(out, entry.change.as_str());
    put(out, ",\"site\":");
    text(out, origin.site);
    put(out, ",\"organization_id\":");
    optional_text(out, Some(entry.organization).filter(|organization| !organization.is_empty()));
    put(out, ",\"vendor_id\":");
    optional_text(out, entry.vendor_id);
    put(out, ",\"time\":");
    optional_text(out, entry.time.and_then(rfc3339).as_deref());
    put(out, ",\"collected\":");
    text(out, &collected);
    put(out, ",\"lane\":");
    text(out, origin.lane.as_str());
    write!(out, ",\"number\":{},\"row\":", entry.number).expect("a vector takes every write");
    verbatim(out, entry.row);
    if let Some(previous) = entry.previous {
        put(out, ",\"previous\":");
        verbatim(out, previous);
    }
    if let Some(replaced) = known.replaces {
        put(out, ",\"replaces\":{\"vendor_id\":");
        text(out, replaced.id);
        put(out, ",\"uid\":\"");
        put(out, replaced.uid.hyphenated().encode_lower(&mut [0; 36]));
        put(out, "\"}");
    }
    if let Some(matching) = known.matching {
        put(out, ",\"matching_applications\":");
        put(out, matching.applications);
        if matching.more > 0 {
            write!(out, ",\"more_matching_applications\":{}", matching.more)
                .expect("a vector takes every write");
        }
    }
    put(out, "}\n");
    Ok(())
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("text is always JSON, and a vector takes every write");
}

fn optional_text(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => text(out, value),
        None => put(out, "null"),
    }
}

/// A JSON string holds no raw line break, so every one here stands between tokens.
fn verbatim(out: &mut Vec<u8>, json: &str) {
    out.extend(json.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;
    use crate::format::Format;
    use crate::model::{Change, Kind, Lane};
    use crate::record::enrichment::Matching;

    const ORIGIN: Origin<'_> = Origin {
        site: "acme \"north\"",
        source: "computers",
        lane: Lane::Backfill,
        collected: 1_795_305_600_000_001,
    };

    fn entry<'a>(row: &'a str, previous: Option<&'a str>) -> Entry<'a> {
        Entry {
            number: 7,
            uid: Uuid::from_u128(1),
            kind: Kind::Device,
            change: Change::Changed,
            organization: "0a",
            vendor_id: Some("v"),
            time: Some(-1),
            row,
            previous,
        }
    }

    fn line(entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        encode(ORIGIN, entry, Enrichment::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_the_keys_in_order_and_the_rows_verbatim() {
        insta::assert_snapshot!(line(&entry(r#"{ "a" : 1.0, "b": "\ud800" }"#, Some("{}"))), @r#"{"uid":"00000000-0000-0000-0000-000000000001","source":"computers","kind":"device","change":"changed","site":"acme \"north\"","organization_id":"0a","vendor_id":"v","time":"1969-12-31T23:59:59.999999Z","collected":"2026-11-22T00:00:00.000001Z","lane":"backfill","number":7,"row":{ "a" : 1.0, "b": "\ud800" },"previous":{}}"#);
    }

    #[test]
    fn what_applications_match_stands_behind_the_row_and_an_empty_list_says_that_none_does() {
        let line = |matching| {
            let known = Enrichment { matching, ..Enrichment::default() };
            let mut out = Vec::new();
            encode(ORIGIN, &entry("{}", None), known, &mut out).unwrap();
            let line = String::from_utf8(out).unwrap();
            line.split_once(r#""row":{}"#).unwrap().1.to_owned()
        };
        let some = Matching { applications: r#"[{"name":"a"}]"#, more: 3 };
        let rest = ",\"matching_applications\":[{\"name\":\"a\"}],\"more_matching_applications\":3}\n";
        assert_eq!(line(Some(some)), rest);
        let none = Matching { applications: "[]", more: 0 };
        assert_eq!(line(Some(none)), ",\"matching_applications\":[]}\n");
        assert_eq!(line(None), "}\n");
    }

    #[test]
    fn what_is_unknown_is_null_and_a_row_without_a_former_one_has_no_previous() {
        let mut unknown = entry("{}", None);
        (unknown.organization, unknown.vendor_id, unknown.time) = ("", None, None);
        let value: Value = serde_json::from_str(&line(&unknown)).unwrap();
        assert_eq!(
            (&value["organization_id"], &value["vendor_id"], &value["time"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert!(value.get("previous").is_none());
    }

    #[test]
    fn a_time_that_no_date_can_say_is_null() {
        for time in [i64::MAX, i64::MIN, 253_402_300_800_000_000] {
            let mut far = entry("{}", None);
            far.time = Some(time);
            let value: Value = serde_json::from_str(&line(&far)).unwrap();
            assert_eq!(value["time"], Value::Null);
        }
    }

    #[test]
    fn a_row_that_is_no_json_is_refused_and_leaves_nothing_behind() {
        let (mut out, mut records) = (b"before".to_vec(), Vec::new());
        for row in ["", "{", "{}{}", "{\"a\":\"line\nbreak\"}"] {
            for entry in [entry(row, None), entry("{}", Some(row))] {
                let known = Enrichment::default();
                Format::Raw.encode(ORIGIN, &entry, known, &mut out, &mut records).unwrap_err();
            }
        }
        assert_eq!((out, records), (b"before".to_vec(), Vec::new()));
    }

    proptest! {
        #[test]
        fn any_row_in_any_layout_is_one_line_that_reads_back_the_same(
            text in ".*", key in "\\PC*", gap in "[ \n\r\t]*", number in any::<f64>(), site in ".*",
        ) {
            let pretty = serde_json::json!({ key: [text, number], "z": {} });
            let row = serde_json::to_string_pretty(&pretty).unwrap() + &gap;
            let mut out = Vec::new();
            let origin = Origin { site: &site, ..ORIGIN };
            encode(origin, &entry(&row, Some(&row)), Enrichment::default(), &mut out).unwrap();
            prop_assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
            prop_assert!(!out.contains(&b'\r'));
            let read: Value = serde_json::from_slice(&out).unwrap();
            let wanted: Value = serde_json::from_str(&row).unwrap();
            prop_assert_eq!(&read["row"], &wanted);
            prop_assert_eq!(&read["previous"], &wanted);
            prop_assert_eq!(read["site"].as_str().unwrap(), site);
        }
    }
}
