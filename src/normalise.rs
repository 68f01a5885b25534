//! Reading single values of vendor rows: fields by name, text of any type, times of every form.
//!
//! Nothing here fails on an odd value; a value that cannot be read is absent, and the raw row keeps it.

mod members;

use std::borrow::Cow;
use std::ops::Range;

use chrono::{NaiveDate, NaiveTime};
use serde::de::Error as _;

pub use self::members::NoObject;
use self::members::{Members, plain};
use crate::model::{Micros, SECOND, folded};

/// Takes the JSON text of the named fields of a JSON object without reading the others, and reads no further than
/// the last of them: the row is known to be JSON. Names match exactly or, since the vendor's casing varies, in any
/// case. A repeated key counts once, the first.
///
/// # Errors
/// What is no object.
pub fn fields<'a, const N: usize>(row: &'a str, names: &[&str; N]) -> Result<[Option<&'a str>; N], NoObject> {
    let (mut picked, mut missing) = ([None; N], N);
    for member in Members::of(row)? {
        let (key, value) = member?;
        let key = plain(key);
        let place = names.iter().position(|name| name.eq_ignore_ascii_case(&key));
        if let Some(place) = place.filter(|place| picked[*place].is_none()) {
            picked[place] = Some(value);
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    Ok(picked)
}

/// The text of a string, number or boolean; `None` for null, an empty string, an object or an array.
/// A string that is no Unicode (a lone surrogate) gives its escaped form, so that it still tells rows apart.
pub fn text(value: Option<&str>) -> Option<Cow<'_, str>> {
    let raw = value?;
    match raw.as_bytes().first()? {
        b'"' => {
            let inner = raw.get(1..raw.len() - 1)?;
            let text = if inner.contains('\\') {
                serde_json::from_str::<String>(raw).map_or(Cow::Borrowed(inner), Cow::Owned)
            } else {
                Cow::Borrowed(inner)
            };
            (!text.is_empty()).then_some(text)
        }
        b'n' | b'{' | b'[' => None,
        _ => Some(Cow::Borrowed(raw)),
    }
}

/// A time in any form of contract section 1.5; `None` when unset (year 1) or no time.
pub fn time(value: Option<&str>) -> Option<Micros> {
    parse_time(&text(value)?)
}

/// Date, `T` or space, time, any number of fraction digits (cut to microseconds), optional `Z` or
/// offset; without a zone it is UTC; year 1 means unset (contract section 1.5).
///
/// ```
/// use lockstep::normalise::parse_time;
/// assert_eq!(parse_time("1970-01-01T00:00:01.5Z"), Some(1_500_000));
/// assert_eq!(parse_time("1970-01-01 01:00:00+01:00"), Some(0));
/// assert_eq!(parse_time("0001-01-01T00:00:00"), None);
/// ```
pub fn parse_time(text: &str) -> Option<Micros> {
    let text = text.trim();
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let [year, month, day] = numbers(date, b'-', [0..4, 5..7, 8..10])?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let mut rest = rest.strip_prefix(['T', 't', ' '])?;
    let [hour, minute, second] = numbers(rest.get(..8)?, b':', [0..2, 3..5, 6..8])?;
    // A leap second counts as the one before.
    let clock = NaiveTime::from_hms_opt(hour, minute, if second == 60 { 59 } else { second })?;
    rest = rest.get(8..)?;
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        for place in 0..6 {
            let digit = fraction.as_bytes().get(place).filter(|_| place < digits).map_or(0, |b| b - b'0');
            micros = micros * 10 + i64::from(digit);
        }
        rest = fraction.get(digits..)?;
    }
    if date == NaiveDate::from_ymd_opt(1, 1, 1)? {
        return None;
    }
    let seconds = date.and_time(clock).and_utc().timestamp() - offset(rest.trim())?;
    seconds.checked_mul(SECOND)?.checked_add(micros)
}

/// Three numbers of fixed width with a separator between them.
fn numbers(text: &str, separator: u8, places: [Range<usize>; 3]) -> Option<[u32; 3]> {
    let bytes = text.as_bytes();
    let separated =
        bytes.get(places[0].end) == Some(&separator) && bytes.get(places[1].end) == Some(&separator);
    let number = |place: &Range<usize>| {
        bytes.get(place.clone())?.iter().try_fold(0, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
        })
    };
    separated.then_some([number(&places[0])?, number(&places[1])?, number(&places[2])?])
}

/// Seconds east of UTC: empty, `Z`, `±hh:mm`, `±hhmm` or `±hh`.
fn offset(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: Vec<i64> = zone
        .get(1..)?
        .bytes()
        .filter(|byte| *byte != b':')
        .map(|byte| byte.is_ascii_digit().then(|| i64::from(byte - b'0')))
        .collect::<Option<_>>()?;
    let (hours, minutes) = match digits[..] {
        [a, b] => (a * 10 + b, 0),
        [a, b, c, d] => (a * 10 + b, c * 10 + d),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// The vendor's all-zero GUID means "none" (contract section 1.4).
pub fn is_zero_guid(text: &str) -> bool {
    text == "00000000-0000-0000-0000-000000000000"
}

/// What a row is known by when it is compared with its former self: every member but the volatile
/// ones, in the order of the names, without nulls, since a portal version may add members (contract
/// section 1.4) that mean nothing yet. Texts in the shape of a GUID count in any case, as everywhere.
///
/// What this leaves out may change with a version of the program: a fingerprint is compared with one that the
/// same program made.
pub fn fingerprint(row: &str, volatile: &[&str]) -> Result<[u8; 16], serde_json::Error> {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&lossy(row))?;
    let is_volatile = |key: &str| {
        let plain = match key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            true => Cow::Borrowed(key),
            // Reports head their columns with words: "Last Check-in".
            false => Cow::Owned(key.chars().filter(|letter| letter.is_alphanumeric()).collect()),
        };
        volatile.iter().any(|name| name.eq_ignore_ascii_case(&plain))
    };
    object.retain(|key, value| !value.is_null() && !is_volatile(key));
    object.values_mut().for_each(fold_guids);
    let canonical = serde_json::to_vec(&object).map_err(serde_json::Error::custom)?;
    Ok(digest(&[&canonical]))
}

/// A hash of the named members alone: equal where all of them say the same, whatever the casing of GUIDs, the form of
/// times and the spelling of nothing.
pub fn fingerprint_of(row: &str, names: &[&str]) -> Result<[u8; 16], NoObject> {
    let mut said = Vec::with_capacity(names.len());
    for name in names {
        let [value] = fields(row, &[*name])?;
        let text = text(value).unwrap_or_default();
        let text = text.trim();
        said.push(match parse_time(text) {
            Some(at) => at.to_string(),
            None if is_zero_guid(text) || text.starts_with(UNSET) => String::new(),
            None => folded(text).into_owned(),
        });
    }
    Ok(digest(&said.iter().map(String::as_bytes).collect::<Vec<_>>()))
}

/// The date of times that are not set (contract section 1.5).
const UNSET: &str = "0001-01-01";

fn fold_guids(value: &mut serde_json::Value) {
    use serde_json::Value::{Array, Object, String};
    match value {
        String(text) => {
            if let Cow::Owned(folded) = folded(text) {
                *text = folded;
            }
        }
        Array(values) => values.iter_mut().for_each(fold_guids),
        Object(members) => members.values_mut().for_each(fold_guids),
        _ => {}
    }
}

/// Lone surrogates have no place in a Rust string: for comparing, their escapes become plain text.
fn lossy(row: &str) -> Cow<'_, str> {
    if serde_json::from_str::<IgnoredText>(row).is_ok() {
        Cow::Borrowed(row)
    } else {
        Cow::Owned(row.replace("\\u", "u"))
    }
}

struct IgnoredText;

impl<'de> serde::Deserialize<'de> for IgnoredText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(|_| IgnoredText)
    }
}

/// The first 16 bytes of a BLAKE3 hash over the parts, each with its length.
pub fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    first
}

#[cfg(test)]
mod tests;
