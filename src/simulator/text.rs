//! JSON written straight into bytes, and the vendor's spelling of ids and dates.

use std::fmt::{Display, Write};

use chrono::{Datelike, Timelike};
use uuid::Uuid;

use super::clock::date;
use super::dice::mix;
use crate::model::Micros;

/// The all-zero GUID: "none" (contract section 1.4).
pub const NO_GUID: &str = "00000000-0000-0000-0000-000000000000";

/// Writes the members of one JSON object. Texts must be escaped already: all that the simulator
/// writes are its own constants.
pub struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Object<'a> {
    pub fn start(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, first: true }
    }

    pub fn end(self) {
        self.out.push('}');
    }

    /// A member whose value is JSON already.
    pub fn value(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.name(name);
        self.print(format_args!("{value}"));
        self
    }

    pub fn text(&mut self, name: &str, text: impl Display) -> &mut Self {
        self.name(name);
        self.print(format_args!("\"{text}\""));
        self
    }

    /// A text, or null where there is none.
    pub fn maybe(&mut self, name: &str, text: Option<impl Display>) -> &mut Self {
        match text {
            Some(text) => self.text(name, text),
            None => self.value(name, "null"),
        }
    }

    pub fn time(&mut self, name: &str, at: Micros, spelling: Spelling) -> &mut Self {
        self.name(name);
        self.out.push('"');
        write_time(self.out, at, spelling);
        self.out.push('"');
        self
    }

    /// Members that are JSON already, without braces.
    pub fn members(&mut self, members: &str) -> &mut Self {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out.push_str(members);
        self
    }

    fn name(&mut self, name: &str) {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
    }

    fn print(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.out.write_fmt(arguments).expect("writing into a string does not fail");
    }
}

/// The forms in which the portal writes a date (contract section 1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As many digits as needed, and `Z`.
    Short,
    /// Seven digits (.NET ticks) and `Z`.
    Ticks,
    /// Six digits and no zone.
    NoZone,
}

impl Spelling {
    /// One of the forms, by any number.
    pub fn any(number: u64) -> Self {
        match number % 8 {
            0..4 => Self::Short,
            4..7 => Self::Ticks,
            _ => Self::NoZone,
        }
    }
}

/// Writes a date; every spelling keeps the microsecond.
pub fn write_time(out: &mut String, at: Micros, spelling: Spelling) {
    let time = date(at);
    let micros = time.nanosecond() / 1_000;
    let written = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
    .and_then(|()| match spelling {
        Spelling::Short if micros == 0 => out.write_char('Z'),
        Spelling::Short if micros.is_multiple_of(1_000) => write!(out, ".{:03}Z", micros / 1_000),
        Spelling::Short => write!(out, ".{micros:06}Z"),
        Spelling::Ticks => write!(out, ".{micros:06}0Z"),
        Spelling::NoZone => write!(out, ".{micros:06}"),
    });
    written.expect("writing into a string does not fail");
}

/// A GUID that is different for every number below 2^48 of one purpose.
pub fn guid(seed: u64, purpose: u64, number: u64) -> Uuid {
    const NODE: u64 = (1 << 48) - 1;
    let high = mix(seed ^ mix(purpose ^ mix(number)));
    let node = number.wrapping_mul(0x5851_f42d_4c95_7f2d) & NODE;
    let low = (mix(high) & !NODE) | node;
    uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn guids_differ_for_every_number() {
        let all: HashSet<_> = (0..100_000).map(|number| guid(7, 1, number)).collect();
        assert_eq!(all.len(), 100_000);
    }

    #[test]
    fn every_spelling_keeps_the_microsecond() {
        for at in [1_767_225_600_000_000, 1_767_225_600_120_000, 1_767_225_600_123_456] {
            for spelling in [Spelling::Short, Spelling::Ticks, Spelling::NoZone] {
                let mut text = String::new();
                write_time(&mut text, at, spelling);
                let zoned = if text.ends_with('Z') { text } else { text + "Z" };
                assert_eq!(chrono::DateTime::parse_from_rfc3339(&zoned).unwrap().timestamp_micros(), at);
            }
        }
    }
}
