//! Finds the rows in an answer without reading them.
//!
//! An answer is a bare list, one of a few envelopes around a list, or nothing (contract section 1.4). A row
//! that is no JSON does not cost its neighbours: when serde refuses the whole, a splitter that only knows
//! strings and brackets finds the elements, and each is judged alone.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

/// Names under which some clients found the list inside an object (contract section 1.4).
pub(super) const ENVELOPES: [&str; 10] =
    ["data", "items", "pageItems", "value", "result", "results", "records", "logs", "groups", "rows"];

/// Members that make an object an error and never a page (contract section 8.1).
const ERROR_MARKS: [&str; 4] = ["StatusCode", "statusCode", "Message", "message"];

/// Rows of a page; ten times the largest page size anybody uses. It bounds the index of a hostile answer.
const MOST_ROWS: usize = 100_000;

/// Where the elements of a list stand in a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) rows: Vec<(usize, usize)>,
    pub(crate) undecodable: Vec<(Range<usize>, String)>,
}

/// Why a body holds no list.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Unreadable {
    #[error("an error object instead of a list")]
    ErrorObject,
    #[error("{0}")]
    Broken(String),
}

/// Finds the rows of an answer. Nothing at all, `null` and `[]` have none.
pub(crate) fn layout(body: &[u8]) -> Result<Layout, Unreadable> {
    let start = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let whole = trimmed(body, start..body.len());
    match &body[whole.clone()] {
        b"" | b"null" => Ok(Layout::default()),
        [b'[', ..] => list(body, whole),
        [b'{', ..] => enveloped(body, whole),
        _ => Err(broken("neither a list nor an object")),
    }
}

/// Members of which an error object has one and a record none (contract section 8.1).
const SURE_ERROR_MARKS: [&str; 3] = ["StatusCode", "statusCode", "LoggerId"];

/// Finds the one record that an answer is: an object, bare or in an envelope, or a list of it.
pub(crate) fn single(body: &[u8]) -> Result<Layout, Unreadable> {
    let start = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let whole = trimmed(body, start..body.len());
    if body.get(whole.start) != Some(&b'{') {
        return layout(body);
    }
    let members: Vec<_> =
        elements(body, whole.clone())?.into_iter().filter_map(|range| member(body, range)).collect();
    let has = |name: &str| members.iter().any(|(key, _)| *key == name.as_bytes());
    if SURE_ERROR_MARKS.iter().any(|mark| has(mark)) {
        return Err(Unreadable::ErrorObject);
    }
    let inner = members.iter().find(|(key, value)| {
        matches!(*key, b"data" | b"result" | b"value") && body[value.start] == b'{' && members.len() <= 3
    });
    list_of_one(body, inner.map_or(whole, |(_, value)| value.clone()))
}

fn list_of_one(body: &[u8], row: Range<usize>) -> Result<Layout, Unreadable> {
    let text = std::str::from_utf8(&body[row.clone()]).map_err(|error| broken(&error.to_string()))?;
    serde_json::from_str::<&RawValue>(text).map_err(|error| broken(&error.to_string()))?;
    Ok(Layout { rows: vec![(row.start, row.end)], undecodable: Vec::new() })
}

fn enveloped(body: &[u8], whole: Range<usize>) -> Result<Layout, Unreadable> {
    let members: Vec<_> =
        elements(body, whole)?.into_iter().filter_map(|range| member(body, range)).collect();
    let present = |name: &str| {
        let found =
            members.iter().find(|(key, value)| *key == name.as_bytes() && &body[value.clone()] != b"null");
        found.map(|(_, value)| value.clone())
    };
    if ERROR_MARKS.iter().any(|mark| present(mark).is_some()) {
        return Err(Unreadable::ErrorObject);
    }
    let mut found = ENVELOPES.iter().filter_map(|name| Some((*name, present(name)?)));
    let list_or_other = found.clone().find(|(_, value)| body[value.start] == b'[').or_else(|| found.next());
    match list_or_other {
        Some((_, value)) if body[value.start] == b'[' => list(body, value),
        // Nothing is concluded from what may hold rows in a form that nobody knows.
        Some((name, _)) => Err(broken(&format!("what \"{name}\" holds is none"))),
        None if members.iter().any(|(key, _)| ENVELOPES.iter().any(|name| *key == name.as_bytes())) => {
            Ok(Layout::default())
        }
        None => Err(broken("an object without a list inside")),
    }
}

/// Splits `"key": value`.
fn member(body: &[u8], range: Range<usize>) -> Option<(&[u8], Range<usize>)> {
    let key_end = string_end(body, range.start).filter(|&end| end < range.end)?;
    let colon = trimmed(body, key_end..range.end);
    let value = match body.get(colon.start) {
        Some(b':') => trimmed(body, colon.start + 1..colon.end),
        _ => return None,
    };
    (!value.is_empty()).then(|| (&body[range.start + 1..key_end - 1], value))
}

fn list(body: &[u8], range: Range<usize>) -> Result<Layout, Unreadable> {
    if let Ok(Some(rows)) = quick(&body[range.clone()], range.start) {
        return Ok(Layout { rows, undecodable: Vec::new() });
    }
    let mut layout = Layout::default();
    for element in elements(body, range)? {
        let judged = std::str::from_utf8(&body[element.clone()])
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_str::<&RawValue>(text).map_err(|error| error.to_string()));
        match judged {
            Ok(_) => layout.rows.push((element.start, element.end)),
            Err(reason) => layout.undecodable.push((element, reason)),
        }
    }
    Ok(layout)
}

/// The rows of a list that is JSON throughout; `None` when there are too many.
fn quick(list: &[u8], offset: usize) -> Result<Option<Vec<(usize, usize)>>, serde_json::Error> {
    struct Rows(usize);
    impl<'de> Visitor<'de> for Rows {
        type Value = Option<Vec<(usize, usize)>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of rows")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut rows = Vec::new();
            while let Some(row) = list.next_element::<&RawValue>()? {
                let start = row.get().as_ptr().addr() - self.0;
                rows.push((start, start + row.get().len()));
                if rows.len() > MOST_ROWS {
                    return Ok(None);
                }
            }
            Ok(Some(rows))
        }
    }
    let mut json = serde_json::Deserializer::from_slice(list);
    // A row borrows from `list`, so its address tells its place; `offset` is where `list` starts in the body.
    let rows = json.deserialize_seq(Rows(list.as_ptr().addr().wrapping_sub(offset)))?;
    json.end()?;
    Ok(rows)
}

/// The elements of the list or object that fills `range`, split at the commas outside of strings and brackets.
fn elements(body: &[u8], range: Range<usize>) -> Result<Vec<Range<usize>>, Unreadable> {
    let closing = if body[range.start] == b'[' { b']' } else { b'}' };
    let mut found = Vec::new();
    let (mut depth, mut from, mut at) = (0u32, range.start + 1, range.start + 1);
    loop {
        let byte = match body[..range.end].get(at) {
            Some(byte) => *byte,
            None => return Err(broken("cut off before its end")),
        };
        let done = match byte {
            b'"' => {
                at = string_end(&body[..range.end], at).ok_or_else(|| broken("cut off inside a text"))?;
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                false
            }
            b']' | b'}' if depth > 0 => {
                depth -= 1;
                false
            }
            b']' | b'}' if byte == closing => true,
            b']' | b'}' => return Err(broken("brackets that do not match")),
            _ => false,
        };
        if done || (byte == b',' && depth == 0) {
            let element = trimmed(body, from..at);
            match (element.is_empty(), done && found.is_empty()) {
                (true, true) => {}
                (true, false) => return Err(broken("an empty place in a list")),
                (false, _) => found.push(element),
            }
            if found.len() > MOST_ROWS {
                return Err(broken("more rows than a page can have"));
            }
            from = at + 1;
        }
        at += 1;
        if done {
            return match at == range.end {
                true => Ok(found),
                false => Err(broken("something after its end")),
            };
        }
    }
}

/// The place after the string that starts at `start`.
fn string_end(body: &[u8], start: usize) -> Option<usize> {
    if body.get(start) != Some(&b'"') {
        return None;
    }
    let mut at = start + 1;
    loop {
        match body.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn trimmed(body: &[u8], range: Range<usize>) -> Range<usize> {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let inside = &body[range.clone()];
    let start = range.start + inside.iter().take_while(|byte| space(byte)).count();
    let end = range.end - body[start..range.end].iter().rev().take_while(|byte| space(byte)).count();
    start..end
}

pub(super) fn broken(reason: &str) -> Unreadable {
    Unreadable::Broken(format!("not a list: {reason}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn rows(body: &[u8]) -> Vec<String> {
        let layout = layout(body).unwrap();
        layout
            .rows
            .iter()
            .map(|&(start, end)| String::from_utf8(body[start..end].to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn every_form_of_nothing_has_no_rows() {
        for body in [
            "",
            " \r\n",
            "null",
            " null ",
            "[]",
            "[ ]",
            "\u{feff}[]",
            "\u{feff}",
            r#"{"data":null}"#,
            r#"{"data":[]}"#,
        ] {
            assert_eq!(layout(body.as_bytes()), Ok(Layout::default()), "{body:?}");
        }
    }

    #[test]
    fn a_list_is_found_bare_and_in_envelopes() {
        let expected = [r#"{"a": "]"}"#, "2"];
        for body in [
            r#"[{"a": "]"} , 2]"#,
            "\u{feff} [\n{\"a\": \"]\"},2 ]\n",
            r#"{"action":"x{","data":[{"a": "]"},2]}"#,
            r#"{"total":2,"items" : [ {"a": "]"},2 ], "more":{"data":[3]}}"#,
        ] {
            assert_eq!(rows(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn one_record_is_found_bare_in_an_envelope_or_as_a_list_and_an_error_is_none() {
        let found = |body: &str| {
            let layout = single(body.as_bytes()).unwrap();
            layout
                .rows
                .iter()
                .map(|&(start, end)| body.get(start..end).unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let record = r#"{"policyId":"p","message":"a word","data":{"a":1},"value":"v"}"#;
        assert_eq!(found(record), [record]);
        assert_eq!(found(" [{\"a\":1}] "), [r#"{"a":1}"#]);
        assert_eq!(found(r#"{"action":"x","data":{"policyId":"p"}}"#), [r#"{"policyId":"p"}"#]);
        for nothing in ["", "null", "[]"] {
            assert_eq!(found(nothing), Vec::<String>::new());
        }
        for error in [r#"{"LoggerId":"x","Message":"no"}"#, r#"{"StatusCode":500}"#, r#"{"statusCode":500}"#]
        {
            assert_eq!(single(error.as_bytes()), Err(Unreadable::ErrorObject), "{error}");
        }
        for broken in ["{", "42", r#"{"a":}"#] {
            assert!(matches!(single(broken.as_bytes()), Err(Unreadable::Broken(_))), "{broken}");
        }
    }

    #[test]
    fn an_object_with_a_status_or_message_is_never_a_page() {
        for body in [
            r#"{"StatusCode": 500, "Message": "A problem"}"#,
            r#"{"message":"x","data":[1]}"#,
            r#"{"LoggerId":"x","Message":"y"}"#,
        ] {
            assert_eq!(layout(body.as_bytes()), Err(Unreadable::ErrorObject), "{body}");
        }
        assert_eq!(rows(br#"{"message":null,"data":[1]}"#), ["1"]);
    }

    #[test]
    fn an_envelope_with_anything_but_a_list_is_no_proof_that_there_is_nothing() {
        for inside in [r#"{"rows":[]}"#, "{}", "\"\"", "0", "false"] {
            let body = format!(r#"{{"total":0,"data":{inside},"items":null}}"#);
            let expected = "not a list: what \"data\" holds is none".to_owned();
            assert_eq!(layout(body.as_bytes()), Err(Unreadable::Broken(expected)), "{body}");
        }
        assert_eq!(rows(br#"{"result":true,"data":[1]}"#), ["1"], "a word beside the list");
    }

    #[test]
    fn a_row_that_is_no_json_leaves_its_neighbours_alone() {
        for (bad, body) in [
            (&b"{\"a\":\"\xff\"}"[..], &b"[{\"n\":1}, {\"a\":\"\xff\"},{\"n\":2}]"[..]),
            (b"{\"a\":\"\x01\n\"}", b"[{\"n\":1},{\"a\":\"\x01\n\"} ,{\"n\":2}]"),
            (b"{\"a\":nope}", b"{\"data\":[{\"n\":1},{\"a\":nope},{\"n\":2}]}"),
        ] {
            let layout = layout(body).unwrap();
            assert_eq!(rows(body), [r#"{"n":1}"#, r#"{"n":2}"#]);
            assert_eq!(layout.undecodable.len(), 1);
            assert_eq!(&body[layout.undecodable[0].0.clone()], bad);
        }
    }

    #[test]
    fn a_lone_surrogate_is_a_row_as_the_vendor_wrote_it() {
        assert_eq!(rows(br#"[{"a":"\ud800"}]"#), [r#"{"a":"\ud800"}"#]);
    }

    #[test]
    fn a_cut_body_is_no_page() {
        let whole = br#"[{"a":"x\"]"},{"b":[1,2]}]"#;
        for cut in 1..whole.len() {
            assert!(matches!(layout(&whole[..cut]), Err(Unreadable::Broken(_))), "cut at {cut}");
        }
        for body in ["[1,]", "[,1]", "[1]]", "[1][2]", "[1}", "<html>", "7", "\"x\"", "{}", r#"{"a":[1]}"#] {
            assert!(layout(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_page_of_countless_rows_is_refused() {
        let body = format!("[{}1]", "1,".repeat(MOST_ROWS));
        assert!(layout(body.as_bytes()).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            r#"[\[\]{},:"\\]*"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::hash_map(".{0,6}", inner, 0..5).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(layout(&body));
        }

        #[test]
        fn no_json_like_bytes_make_it_panic(body in r#"[\[\]{},:"\\a1 \xff]{0,60}"#) {
            drop(layout(body.as_bytes()));
        }

        #[test]
        fn the_splitter_agrees_with_serde(list in proptest::collection::vec(any_json(), 0..8), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) }.unwrap();
            let split: Vec<_> = elements(text.as_bytes(), 0..text.len()).unwrap();
            let split: Vec<_> = split.into_iter().map(|range| (range.start, range.end)).collect();
            prop_assert_eq!(&split, &quick(text.as_bytes(), 0).unwrap().unwrap());
            let read: Vec<Value> = split.iter().map(|&(start, end)| serde_json::from_slice(&text.as_bytes()[start..end]).unwrap()).collect();
            prop_assert_eq!(read, list);
        }

        #[test]
        fn one_spoilt_row_spoils_only_itself(list in proptest::collection::vec(any_json(), 1..6), place in any::<prop::sample::Index>()) {
            let spoilt = place.index(list.len());
            let mut body = b"[".to_vec();
            for (number, row) in list.iter().enumerate() {
                if number > 0 { body.push(b','); }
                if number == spoilt { body.extend_from_slice(b"{\"x\":\"\xc3\x28\"}"); } else { body.extend(serde_json::to_vec(row).unwrap()); }
            }
            body.push(b']');
            let layout = layout(&body).unwrap();
            prop_assert_eq!((layout.rows.len(), layout.undecodable.len()), (list.len() - 1, 1));
        }
    }
}
