//! A vendor's row, read once: known fields to numbered slots, everything else kept as it is.
//!
//! A value is a [`Field`]: the JSON text that the vendor sent and the slot from which it came. Encoders say
//! for everything that they write from which slots it comes, and what was written from no slot is what
//! remains of the row. So nothing of a row can be lost unseen. Reading fails only on what is no JSON object.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::BitOr;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::device::Time;
use crate::normalise::{is_zero_guid, parse_time};

/// The most fields that a source may know by name.
const MOST: usize = 128;
/// Size of the look-up table, a power of two well above [`MOST`].
const TABLE: usize = 512;
/// No slot, in the look-up table.
const NONE: u8 = u8::MAX;

/// The place of a field in its source's list of names.
pub type Slot = u8;

/// A set of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots(u128);

impl Slots {
    pub const NONE: Self = Self(0);

    pub fn contains(self, slot: Slot) -> bool {
        self.0 >> slot & 1 == 1
    }
}

impl From<Slot> for Slots {
    fn from(slot: Slot) -> Self {
        Self(1 << slot)
    }
}

impl BitOr for Slots {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The names of the fields that a source knows, in the order in which the portal usually writes them.
///
/// A name with a dot is a member of the nested object before the dot; one field of a source may be nested.
#[derive(Debug)]
pub struct Names {
    names: &'static [&'static str],
    table: [u8; TABLE],
    /// The slot of the nested object.
    nested: Option<Slot>,
    /// Names are headings of columns: letters and digits alone tell them apart.
    headings: bool,
}

impl Names {
    /// Names in small letters of columns that people head as they like: `lastcheckin` is "Last Check-in", too
    /// (contract section 3.3). A row keeps its own headings.
    pub const fn headings(names: &'static [&'static str]) -> Self {
        Self { headings: true, ..Self::new(names) }
    }

    /// Builds the look-up table; more than 128 names, or a member before its object, do not compile.
    #[expect(clippy::cast_possible_truncation, reason = "there are at most 128 names")]
    pub const fn new(names: &'static [&'static str]) -> Self {
        assert!(names.len() <= MOST);
        let (mut table, mut nested, mut slot) = ([NONE; TABLE], None, 0);
        while slot < names.len() {
            let name = names[slot].as_bytes();
            let mut at = hash(name);
            while table[at] != NONE {
                at = (at + 1) % TABLE;
            }
            table[at] = slot as u8;
            if let Some(dot) = find_dot(name) {
                let mut object = 0;
                while !same(names[object].as_bytes(), name, dot) {
                    object += 1;
                }
                assert!(object < slot);
                nested = Some(object as u8);
            }
            slot += 1;
        }
        Self { names, table, nested, headings: false }
    }

    /// Whether the names are headings of columns.
    pub fn are_headings(&self) -> bool {
        self.headings
    }

    /// The slot of a name; made for constants, where a name that is not in the list does not compile.
    #[expect(clippy::cast_possible_truncation, reason = "there are at most 128 names")]
    pub const fn slot(&self, name: &str) -> Slot {
        let mut slot = 0;
        while !same(self.names[slot].as_bytes(), name.as_bytes(), name.len()) {
            slot += 1;
        }
        slot as u8
    }

    /// Every name, by slot.
    pub fn all(&self) -> &'static [&'static str] {
        self.names
    }

    /// The slot of the object whose members have names with a dot.
    pub fn nested(&self) -> Option<Slot> {
        self.nested
    }

    /// The slot of a vendor's key in any casing, since the portal's varies (contract section 5.3).
    pub(super) fn find(&self, key: &[u8]) -> Option<Slot> {
        if self.headings && !key.iter().all(u8::is_ascii_alphanumeric) {
            let marks = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
            let plain: Vec<u8> = key.iter().copied().filter(marks).collect();
            return if plain.is_empty() { None } else { self.look_up(&plain) };
        }
        self.look_up(key)
    }

    fn look_up(&self, key: &[u8]) -> Option<Slot> {
        let mut at = hash(key);
        while self.table[at] != NONE {
            let slot = self.table[at];
            if self.names[usize::from(slot)].as_bytes().eq_ignore_ascii_case(key) {
                return Some(slot);
            }
            at = (at + 1) % TABLE;
        }
        None
    }
}

/// Cheap, the same for every casing, and different enough for the names of one source.
const fn hash(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let mixed = length * 31
        + folded(name, 0) * 7
        + folded(name, length / 2) * 61
        + folded(name, length / 3) * 17
        + folded(name, length - 1) * 131;
    mixed % TABLE
}

const fn folded(name: &[u8], place: usize) -> usize {
    (name[place] | 0x20) as usize
}

const fn find_dot(name: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < name.len() {
        if name[at] == b'.' {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Whether `a` is the first `length` bytes of `b`.
const fn same(a: &[u8], b: &[u8], length: usize) -> bool {
    if a.len() != length {
        return false;
    }
    let mut at = 0;
    while at < length {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// One value of a row.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    raw: &'a str,
    slot: Slot,
}

impl<'a> Field<'a> {
    /// The vendor's JSON text.
    pub fn raw(self) -> &'a str {
        self.raw
    }

    pub fn slot(self) -> Slot {
        self.slot
    }

    /// The JSON text without the quotes of a string: escapes are still in it.
    pub fn inner(self) -> &'a str {
        self.raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(self.raw)
    }

    /// The text of a string or number, without escapes.
    pub fn text(self) -> Cow<'a, str> {
        let inner = self.inner();
        if !inner.contains('\\') {
            return Cow::Borrowed(inner);
        }
        serde_json::from_str::<String>(self.raw).map_or(Cow::Borrowed(inner), Cow::Owned)
    }

    /// Whether both say the same text in the same spelling, as portals that fill two fields with one value do.
    pub fn repeats(self, other: Field<'_>) -> bool {
        self.inner() == other.inner()
    }
}

/// A whole number, and the field that says so in these very digits.
#[derive(Clone, Copy, Debug)]
pub struct Integer<'a> {
    pub value: i64,
    pub field: Field<'a>,
}

/// Yes or no, and the field that says so.
#[derive(Clone, Copy, Debug)]
pub struct Flag<'a> {
    pub value: bool,
    pub field: Field<'a>,
}

/// A row, every value in its place. Nulls are as if they were not there.
#[derive(Debug)]
pub struct Row<'a> {
    names: &'static Names,
    /// By slot; empty where there is none.
    values: [&'a str; MOST],
    rest: Vec<Rest<'a>>,
    /// How the row heads the columns that are known; empty where names are no headings.
    headings: Vec<(Slot, Cow<'a, str>)>,
    /// The most characters of a text; a longer one is read as none.
    longest: usize,
}

/// A value that the source does not know by name.
#[derive(Debug)]
pub struct Rest<'a> {
    /// JSON text of the key without quotes, escapes still in it; a key that comes again has its count behind `#`, and
    /// so has one that is empty.
    pub key: Cow<'a, str>,
    pub raw: &'a str,
}

impl<'a> Row<'a> {
    /// Reads a JSON object that has gone through [`tidy`]. Texts of more than `longest` characters, which the
    /// format cannot take, are not read as texts, and remain.
    ///
    /// # Errors
    /// What is no JSON object.
    pub fn read(names: &'static Names, json: &'a str, longest: usize) -> Result<Self, serde_json::Error> {
        let mut row = Self { names, values: [""; MOST], rest: Vec::new(), headings: Vec::new(), longest };
        let mut reader = serde_json::Deserializer::from_str(json);
        reader.deserialize_map(Members { row: &mut row, object: None })?;
        reader.end()?;
        if let Some(object) = names.nested {
            row.read_nested(object)?;
        }
        Ok(row)
    }

    fn read_nested(&mut self, object: Slot) -> Result<(), serde_json::Error> {
        let raw = self.values[usize::from(object)];
        if raw.starts_with('{') {
            let mut reader = serde_json::Deserializer::from_str(raw);
            let members = reader.deserialize_map(Members { row: self, object: Some(object) })?;
            if members > 0 {
                self.values[usize::from(object)] = "";
            }
        }
        Ok(())
    }

    fn put(&mut self, slot: Option<Slot>, key: Cow<'a, str>, raw: &'a str) {
        match slot {
            _ if raw == "null" => {}
            Some(slot) if self.values[usize::from(slot)].is_empty() => {
                self.values[usize::from(slot)] = raw;
                if self.names.headings {
                    self.headings.push((slot, key));
                }
            }
            _ => {
                let before = self.rest.iter().filter(|rest| spelled(&rest.key, &key)).count();
                // Two columns of one meaning may be headed otherwise.
                let again = slot.is_some_and(|slot| !self.names.headings || spelled(self.name(slot), &key));
                let count = before + usize::from(again);
                // A member without a name can stand in no list of members by name.
                let stays = count == 0 && !key.is_empty();
                let key = if stays { key } else { Cow::Owned(format!("{key}#{}", count + 1)) };
                self.rest.push(Rest { key, raw });
            }
        }
    }

    /// How the row calls the value in a slot: JSON text without quotes, escapes still in it.
    pub fn name(&self, slot: Slot) -> &str {
        let own = self.headings.iter().find(|(known, _)| *known == slot);
        own.map_or(self.names.names[usize::from(slot)], |(_, heading)| heading)
    }

    /// The names of this row's slots.
    pub fn names(&self) -> &'static Names {
        self.names
    }

    /// The value in a slot.
    pub fn get(&self, slot: Slot) -> Option<Field<'a>> {
        let raw = self.values[usize::from(slot)];
        (!raw.is_empty()).then_some(Field { raw, slot })
    }

    /// A text that says something: a string that is not empty, or a number.
    pub fn text(&self, slot: Slot) -> Option<Field<'a>> {
        let field = self.get(slot)?;
        match field.raw.as_bytes()[0] {
            b'"' if field.raw.len() <= 2 => None,
            b'"' if field.raw.len() > self.longest && field.text().chars().count() > self.longest => None,
            b'"' | b'-' | b'0'..=b'9' => Some(field),
            _ => None,
        }
    }

    /// A text that names something: not the zero GUID, 0 or blank, which stand for "none" (contract section 1.4).
    pub fn id(&self, slot: Slot) -> Option<Field<'a>> {
        self.text(slot)
            .filter(|field| !is_zero_guid(field.inner()) && !matches!(field.inner().trim(), "" | "0"))
    }

    /// A whole number not below 0, as a number or as text, in the only spelling that gives the same digits again.
    pub fn integer(&self, slot: Slot) -> Option<Integer<'a>> {
        let field = self.text(slot)?;
        let digits = field.inner();
        let canonical = digits == "0" || !digits.starts_with('0');
        if !canonical || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Integer { value: digits.parse().ok()?, field })
    }

    /// `true` or `false`.
    pub fn flag(&self, slot: Slot) -> Option<Flag<'a>> {
        let field = self.get(slot)?;
        match field.raw {
            "true" => Some(Flag { value: true, field }),
            "false" => Some(Flag { value: false, field }),
            _ => None,
        }
    }

    /// A text that is a time.
    pub fn time(&self, slot: Slot) -> Option<Time<'a>> {
        let field = self.text(slot)?;
        Some(Time { at: parse_time(&field.text())?, field })
    }

    /// A text that is an IP address.
    pub fn address(&self, slot: Slot) -> Option<Field<'a>> {
        self.text(slot).filter(|field| is_address(field.inner()))
    }

    /// Everything that has a value and is not among `used`: known fields by slot, then what is not known.
    pub fn unused(&self, used: Slots) -> impl Iterator<Item = Field<'a>> + use<'_, 'a> {
        let filled = self.names.names.len();
        let all = self.values[..filled].iter().zip(0..).filter(|(raw, _)| !raw.is_empty());
        all.map(|(&raw, slot)| Field { raw, slot }).filter(move |field| !used.contains(field.slot))
    }

    /// What the source does not know by name.
    pub fn rest(&self) -> &[Rest<'a>] {
        &self.rest
    }
}

/// Whether a text is an IP address that the OCSF schema takes, too: at most 40 characters.
pub fn is_address(text: &str) -> bool {
    text.len() <= 40 && text.parse::<IpAddr>().is_ok()
}

/// Whether a key in the rest is this key, with or without a count.
fn spelled(known: &str, key: &str) -> bool {
    known.strip_prefix(key).is_some_and(|count| count.is_empty() || count.starts_with('#'))
}

/// Makes a row fit to be copied from: no line breaks between tokens, and no escapes that are no Unicode. Half of
/// a surrogate pair alone, for which most readers would refuse the whole record, becomes the text of its escape.
pub fn tidy(row: &str) -> Cow<'_, str> {
    let broken = row.as_bytes().contains(&b'\n') || row.as_bytes().contains(&b'\r');
    let escaped = row.contains("\\ud") || row.contains("\\uD");
    match (broken, escaped) {
        (false, false) => Cow::Borrowed(row),
        // A JSON string holds no raw line break, so every one here stands between tokens.
        (true, false) => Cow::Owned(row.replace(['\n', '\r'], " ")),
        _ => Cow::Owned(paired(&row.replace(['\n', '\r'], " "))),
    }
}

/// Doubles the backslash of every surrogate that is not half of a pair.
fn paired(row: &str) -> String {
    let mut out = String::with_capacity(row.len() + 8);
    let mut rest = row;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let length = match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
            (Some(Half::High), Some(Half::Low)) => 12,
            (Some(_), _) => {
                out.push('\\');
                6
            }
            (None, _) => 2,
        };
        let (escape, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
        out.push_str(escape);
        rest = after;
    }
    out + rest
}

#[derive(PartialEq)]
enum Half {
    High,
    Low,
}

/// The half of a surrogate pair whose escape begins the text.
fn surrogate(text: &str) -> Option<Half> {
    let code = u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()?;
    match code {
        0xd800..=0xdbff => Some(Half::High),
        0xdc00..=0xdfff => Some(Half::Low),
        _ => None,
    }
}

struct Members<'r, 'a> {
    row: &'r mut Row<'a>,
    /// The nested object whose members these are.
    object: Option<Slot>,
}

impl<'a> Visitor<'a> for Members<'_, 'a> {
    /// How many there were.
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<usize, A::Error> {
        let (mut expected, mut members) = (0, 0);
        while let Some(key) = map.next_key::<&RawValue>()? {
            let value = map.next_value::<&RawValue>()?.get();
            members += 1;
            let key = key.get();
            let key = key.get(1..key.len() - 1).unwrap_or(key);
            match self.object {
                None => {
                    // Rows come with their members in one order, most often that of the list of names.
                    let usual = self.row.names.names.get(expected) == Some(&key);
                    let slot =
                        if usual { u8::try_from(expected).ok() } else { self.row.names.find(key.as_bytes()) };
                    expected = slot.map_or(expected, usize::from) + 1;
                    self.row.put(slot, Cow::Borrowed(key), value);
                }
                Some(object) => {
                    let name = format!("{}.{key}", self.row.names.names[usize::from(object)]);
                    self.row.put(self.row.names.find(name.as_bytes()), Cow::Owned(name), value);
                }
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = Names::new(&["id", "name", "port", "details", "details.page"]);

    fn read(json: &str) -> Row<'_> {
        static KNOWN: Names = NAMES;
        Row::read(&KNOWN, json, usize::MAX).unwrap()
    }

    fn left(row: &Row<'_>, told: Slots) -> Vec<String> {
        let known = row
            .unused(told)
            .map(|field| format!("{}={}", NAMES.all()[usize::from(field.slot())], field.raw()));
        known.chain(row.rest().iter().map(|rest| format!("{}={}", rest.key, rest.raw))).collect()
    }

    #[test]
    fn a_name_is_found_in_any_order_and_casing() {
        let row = read(r#"{"PORT":1,"Name":"n","id":"i"}"#);
        let raw = |name| row.get(NAMES.slot(name)).map(Field::raw);
        assert_eq!([raw("id"), raw("name"), raw("port")], [Some("\"i\""), Some("\"n\""), Some("1")]);
    }

    #[test]
    fn what_comes_twice_or_is_not_known_remains() {
        let row = read(r#"{"id":1,"ID":2,"x":[3],"id":4,"x":5,"name":null}"#);
        assert_eq!(left(&row, Slots::NONE), ["id=1", "ID#2=2", "x=[3]", "id#2=4", "x#2=5"]);
        assert_eq!(left(&row, NAMES.slot("id").into()), ["ID#2=2", "x=[3]", "id#2=4", "x#2=5"]);
    }

    #[test]
    fn a_member_without_a_name_gets_one() {
        assert_eq!(left(&read(r#"{"":1,"id":2,"":3}"#), Slots::NONE), ["id=2", "#1=1", "#2=3"]);
    }

    #[test]
    fn members_of_the_nested_object_are_fields_and_anything_else_stays_whole() {
        let row = read(r#"{"details":{"Page":"p","other":1}}"#);
        assert_eq!(left(&row, Slots::NONE), [r#"details.page="p""#, "details.other=1"]);
        for whole in [r#"{"details":{}}"#, r#"{"details":"text"}"#, r#"{"details":[{"page":1}]}"#] {
            assert_eq!(left(&read(whole), Slots::NONE).len(), 1, "{whole}");
        }
    }

    #[test]
    fn only_a_number_that_is_written_as_we_would_write_it_is_a_number() {
        let port = |value: &str| {
            let json = format!(r#"{{"port":{value}}}"#);
            read(&json).integer(NAMES.slot("port")).map(|port| port.value)
        };
        for (value, wanted) in [("443", 443), ("\"443\"", 443), ("0", 0)] {
            assert_eq!(port(value), Some(wanted));
        }
        for value in
            ["-1", "1.0", "1e3", "\"0443\"", "\" 443\"", "\"\"", "true", "[443]", "99999999999999999999"]
        {
            assert_eq!(port(value), None, "{value}");
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_no_text_and_remains() {
        static KNOWN: Names = NAMES;
        let long = format!(r#"{{"name":"{}","id":"{}"}}"#, "ä".repeat(8), "\\n".repeat(5));
        let row = Row::read(&KNOWN, &long, 7).unwrap();
        assert!(row.text(NAMES.slot("name")).is_none());
        assert!(row.text(NAMES.slot("id")).is_some(), "five characters in ten bytes");
        assert_eq!(left(&row, Slots::NONE).len(), 2);
    }

    #[test]
    fn half_a_surrogate_pair_becomes_text_and_a_whole_one_stays() {
        for (row, tidied) in [
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d""#, r#""\\ud83d""#),
            (r#""\uDE00\ud83d""#, r#""\\uDE00\\ud83d""#),
            (r#""c:\\udemy""#, r#""c:\\udemy""#),
            (r#""\\\ud800\"""#, r#""\\\\ud800\"""#),
            ("[\n1,\r\n2]", "[ 1,  2]"),
        ] {
            assert_eq!(tidy(row), tidied);
        }
    }

    #[test]
    fn columns_are_found_by_letters_and_digits_and_keep_their_headings() {
        static KNOWN: Names = Names::headings(&["lastcheckin", "hostname"]);
        let json =
            r#"{"Last Check-in":"1","HOST_NAME":"a","Hostname":"b","Hostname":"c","Zoë":true,"—":1,"":2}"#;
        let row = Row::read(&KNOWN, json, usize::MAX).unwrap();
        let known: Vec<_> =
            row.unused(Slots::NONE).map(|field| (row.name(field.slot()), field.inner())).collect();
        assert_eq!(known, [("Last Check-in", "1"), ("HOST_NAME", "a")]);
        let rest: Vec<_> = row.rest().iter().map(|rest| (&*rest.key, rest.raw)).collect();
        let wanted =
            [("Hostname", r#""b""#), ("Hostname#2", r#""c""#), ("Zoë", "true"), ("—", "1"), ("#1", "2")];
        assert_eq!(rest, wanted);
    }
}
