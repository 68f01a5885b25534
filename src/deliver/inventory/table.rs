//! The shape of the list: the same columns as CSV, for people and spreadsheets, and as JSON lines, for programs.

use std::borrow::Cow;
use std::path::Path;

use serde::Serialize;
use serde::ser::SerializeMap;

use super::device::Device;

/// What a file's name says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Csv,
    Ndjson,
}

/// The columns, in their order; they are never renamed, and new ones come last.
pub(super) const COLUMNS: [&str; 11] = [
    "id",
    "serial",
    "host",
    "os",
    "last_user",
    "last_user_since",
    "last_seen",
    "mode",
    "site",
    "organization",
    "presence",
];

impl Shape {
    /// The endings that a name may have.
    pub const ENDINGS: [&str; 2] = [".csv", ".ndjson"];

    /// By the ending of a name; none for any other.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "csv" => Some(Self::Csv),
            "ndjson" => Some(Self::Ndjson),
            _ => None,
        }
    }

    /// What stands before the first device.
    pub(super) fn head(self) -> Vec<u8> {
        let mut out = Vec::new();
        if self == Self::Csv {
            csv_line(COLUMNS.into_iter(), &mut out);
        }
        out
    }

    pub(super) fn line(self, device: &Device, out: &mut Vec<u8>) {
        let values = device.values();
        match self {
            Self::Csv => csv_line(values.into_iter().map(Option::unwrap_or_default), out),
            Self::Ndjson => {
                serde_json::to_writer(&mut *out, &Members(values)).expect("memory takes every write");
                out.push(b'\n');
            }
        }
    }
}

struct Members<'a>([Option<&'a str>; COLUMNS.len()]);

impl Serialize for Members<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(COLUMNS.len()))?;
        for (column, value) in COLUMNS.iter().zip(self.0) {
            map.serialize_entry(column, &value)?;
        }
        map.end()
    }
}

/// A line after RFC 4180.
fn csv_line<'a>(values: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    for (place, value) in values.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let value = harmless(value);
        let odd = |letter: char| matches!(letter, ',' | '"') || letter.is_control();
        if value.contains(odd) || value.starts_with(' ') || value.ends_with(' ') {
            out.push(b'"');
            out.extend_from_slice(value.replace('"', "\"\"").as_bytes());
            out.push(b'"');
        } else {
            out.extend_from_slice(value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A value that no spreadsheet takes for a formula: whoever names a computer would else run one at the reader's.
fn harmless(value: &str) -> Cow<'_, str> {
    let first = value.trim_start_matches(' ').chars().next();
    let begins =
        |letter| matches!(letter, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '\t' | '\r' | '\n');
    match first.is_some_and(begins) {
        true => Cow::Owned(["'", value].concat()),
        false => Cow::Borrowed(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(values: &[&str]) -> String {
        let mut out = Vec::new();
        csv_line(values.iter().copied(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_spreadsheet_would_run_is_marked_as_text_and_nothing_else_is_touched() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "＝1", "\r=1"] {
            let line = csv(&[formula]);
            assert!(line.trim_start_matches('"').starts_with('\''), "{line:?}");
        }
        assert_eq!(csv(&["a-b", "x=1", "WS-0001", "", "a@b"]), "a-b,x=1,WS-0001,,a@b\r\n");
    }

    #[test]
    fn a_value_with_commas_quotes_or_lines_stays_one_value() {
        assert_eq!(
            csv(&["a,b", "say \"x\"", "two\nlines", " x "]),
            "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",\" x \"\r\n"
        );
    }
}
