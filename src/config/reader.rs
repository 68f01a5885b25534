//! Reads a tree of settings into checked values and notes every mistake on the way, instead of stopping
//! at the first.
//!
//! A [`Section`] learns which keys exist from what it is asked for, so the keys that are left at
//! [`Section::close`] are unknown. A reading that returns `None` has noted its mistake.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::config::{Value, ValueKind};
use bytesize::ByteSize;
use chrono::NaiveDate;

use super::layers::Table;
use super::mistake::{Mistakes, suggestion};

/// A value that one setting can hold.
pub(super) trait Setting: Sized {
    /// What stands there when it is right: `a duration such as 60s`.
    const EXPECTED: &'static str;
    /// The same in a word or two.
    const NAME: &'static str;
    fn read(kind: &ValueKind) -> Option<Self>;
}

/// A table of settings that is being read.
pub(super) struct Section<'a> {
    path: String,
    values: &'a Table,
    asked: RefCell<Vec<&'static str>>,
    mistakes: &'a Mistakes,
}

impl<'a> Section<'a> {
    pub(super) fn root(values: &'a Table, mistakes: &'a Mistakes) -> Self {
        Self::at(String::new(), values, mistakes)
    }

    pub(super) fn at(path: String, values: &'a Table, mistakes: &'a Mistakes) -> Self {
        Self { path, values, asked: RefCell::default(), mistakes }
    }

    /// The path of a key in here, or of this section itself for an empty key.
    pub(super) fn path(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    /// Notes a mistake of a key in here.
    pub(super) fn mistake(&self, key: &str, text: impl Into<String>) {
        let origin = self.values.get(key).and_then(Value::origin);
        self.mistakes.add(self.path(key), text, origin);
    }

    /// Notes a mistake of a key in here; there is no value.
    pub(super) fn refuse<T>(&self, key: &str, text: impl Into<String>) -> Option<T> {
        self.mistake(key, text);
        None
    }

    /// The settings in here as they stand.
    pub(super) fn values(&self) -> &'a Table {
        self.values
    }

    /// The same place with other values.
    pub(super) fn over<'b>(&self, values: &'b Table) -> Section<'b>
    where
        'a: 'b,
    {
        Section::at(self.path.clone(), values, self.mistakes)
    }

    /// The value of a key, if something stands there.
    pub(super) fn value(&self, key: &'static str) -> Option<&'a Value> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.values.get(key).filter(|value| value.kind != ValueKind::Nil)
    }

    /// Tells the reference what a key in here takes.
    pub(super) fn takes(&self, key: &'static str, what: impl FnOnce() -> String) {
        self.mistakes.note(|| self.path(key), what);
    }

    /// Whether a key that may also hold this word holds it.
    pub(super) fn is_word(&self, key: &'static str, word: &str) -> bool {
        self.takes(key, || format!("or `{word}`"));
        self.value(key).is_some_and(|value| super::is_word(value, word))
    }

    /// A setting that may be left out.
    pub(super) fn optional<T: Setting>(&self, key: &'static str) -> Option<T> {
        self.takes(key, || T::NAME.to_owned());
        self.read(key)
    }

    fn read<T: Setting>(&self, key: &'static str) -> Option<T> {
        let value = self.value(key)?;
        let read = T::read(&value.kind);
        if read.is_none() {
            self.mistake(key, format!("expected {}, found {}", T::EXPECTED, found(&value.kind)));
        }
        read
    }

    /// A setting that must be there.
    pub(super) fn required<T: Setting>(&self, key: &'static str) -> Option<T> {
        self.takes(key, || T::NAME.to_owned());
        if self.value(key).is_none() {
            self.mistake(key, format!("is missing; expected {}", T::EXPECTED));
            return None;
        }
        self.optional(key)
    }

    /// A setting between two bounds, which `show` turns into text.
    pub(super) fn within<T: Setting + PartialOrd>(
        &self,
        key: &'static str,
        (least, most): (T, T),
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        self.takes(key, || format!("{} from {} to {}", T::NAME, show(&least), show(&most)));
        let value = self.required::<T>(key)?;
        if value < least || value > most {
            let text = format!("must be from {} to {}, found {}", show(&least), show(&most), show(&value));
            self.mistake(key, text);
            return None;
        }
        Some(value)
    }

    /// A duration between two bounds.
    pub(super) fn duration(&self, key: &'static str, least: Duration, most: Duration) -> Option<Duration> {
        self.within(key, (least, most), |length| human(*length))
    }

    /// A size in bytes between two bounds.
    pub(super) fn size(&self, key: &'static str, least: ByteSize, most: ByteSize) -> Option<u64> {
        self.within(key, (least, most), |size| human_size(size.0)).map(|size| size.0)
    }

    /// A number between two bounds.
    pub(super) fn number<T>(&self, key: &'static str, least: T, most: T) -> Option<T>
    where
        T: Setting + PartialOrd + Display,
    {
        self.within(key, (least, most), T::to_string)
    }

    /// A setting that must be there, with an example for whoever left it out.
    pub(super) fn named<T: Setting>(&self, key: &'static str, example: &str) -> Option<T> {
        self.takes(key, || T::NAME.to_owned());
        if self.value(key).is_none() {
            return self.refuse(key, format!("is missing; write {example}"));
        }
        self.optional(key)
    }

    /// One of the known words; `later` are words that are known but not built yet.
    pub(super) fn word(
        &self,
        key: &'static str,
        known: &[&'static str],
        later: &[&str],
    ) -> Option<&'static str> {
        self.takes(key, || one_of(known));
        if self.value(key).is_none() {
            return self.refuse(key, format!("is missing; known here: {}", known.join(", ")));
        }
        let word: String = self.read(key)?;
        self.known(key, &word, known, later)
    }

    /// A list of known words, in any case.
    pub(super) fn words(&self, key: &'static str, known: &[&'static str]) -> Option<Vec<&'static str>> {
        self.takes(key, || format!("a list of {}", one_of(known)));
        let words: Vec<String> = self.required(key)?;
        words.iter().map(|word| self.known(key, &word.to_lowercase(), known, &[])).collect()
    }

    /// The known word that `word` is, or a mistake at `key`.
    pub(super) fn known(
        &self,
        key: &str,
        word: &str,
        known: &[&'static str],
        later: &[&str],
    ) -> Option<&'static str> {
        if let Some(word) = known.iter().find(|candidate| **candidate == word) {
            return Some(word);
        }
        if later.contains(&word) {
            self.mistake(
                key,
                format!("\"{word}\" is not built yet in this version; known here: {}", known.join(", ")),
            );
        } else {
            self.mistake(
                key,
                format!("unknown {}; {}", quoted(word), suggestion(word, known.iter().copied())),
            );
        }
        None
    }

    /// A table in here; an absent one is empty.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let table = match self.value(key).map(|value| &value.kind) {
            None => &EMPTY,
            Some(ValueKind::Table(table)) => table,
            Some(other) => {
                self.mistake(key, format!("expected a section with keys of its own, found {}", found(other)));
                return None;
            }
        };
        Some(Section::at(self.path(key), table, self.mistakes))
    }

    /// Keys that belong to a later version: said so instead of "unknown".
    pub(super) fn not_yet(&self, keys: &[&'static str]) {
        for key in keys.iter().filter(|key| self.values.contains_key(**key)) {
            self.value(key);
            self.mistake(key, "is not built yet in this version; remove it");
        }
    }

    /// Every key that nobody asked for is a mistake.
    pub(super) fn close(&self) {
        let asked = self.asked.borrow();
        self.unknown(|key| format!("unknown key; {}", suggestion(key, asked.iter().copied())));
    }

    /// As [`Section::close`], with a text of one's own.
    pub(super) fn unknown(&self, text: impl Fn(&str) -> String) {
        let asked = self.asked.borrow();
        for key in self.values.keys().filter(|key| !asked.contains(&key.as_str())) {
            self.mistake(key, text(key));
        }
    }
}

/// Words in quotes for the reference.
pub(super) fn one_of(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

static EMPTY: std::sync::LazyLock<Table> = std::sync::LazyLock::new(Table::new);

/// What stands there instead, short, and never a text long enough to be a secret.
pub(super) fn found(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Table(_) => "a section with keys of its own".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// The text in quotes, or only its length when it could be a secret.
pub(super) fn quoted(text: &str) -> String {
    match text.chars().count() {
        0..=30 => format!("{text:?}"),
        length => format!("a text of {length} characters"),
    }
}

/// A duration as it is written in a configuration, without blanks: `1h30m`, `30d`, `1d12h`, `200ms`.
pub fn human(length: Duration) -> String {
    let mut text = String::new();
    let mut rest = length.as_millis();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
        if rest >= unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A size as it is written in a configuration: `256MiB`.
pub fn human_size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string().replace(' ', "").replace(".0", "")
}

impl Setting for bool {
    const NAME: &'static str = "true or false";
    const EXPECTED: &'static str = "true or false";
    fn read(kind: &ValueKind) -> Option<Self> {
        match kind {
            ValueKind::Boolean(value) => Some(*value),
            ValueKind::String(text) => text.to_lowercase().parse().ok(),
            _ => None,
        }
    }
}

impl Setting for u32 {
    const NAME: &'static str = "number";
    const EXPECTED: &'static str = "a whole number";
    fn read(kind: &ValueKind) -> Option<Self> {
        match kind {
            ValueKind::I64(value) => (*value).try_into().ok(),
            ValueKind::String(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl Setting for f64 {
    const NAME: &'static str = "number";
    const EXPECTED: &'static str = "a number";
    fn read(kind: &ValueKind) -> Option<Self> {
        match kind {
            ValueKind::Float(value) => Some(*value),
            ValueKind::I64(value) => i32::try_from(*value).ok().map(f64::from),
            ValueKind::String(text) => text.parse().ok(),
            _ => None,
        }
        .filter(|value: &f64| value.is_finite())
    }
}

impl Setting for String {
    const NAME: &'static str = "text";
    const EXPECTED: &'static str = "a text (in quotes if it looks like a number)";
    fn read(kind: &ValueKind) -> Option<Self> {
        match kind {
            ValueKind::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            _ => None,
        }
    }
}

impl Setting for PathBuf {
    const NAME: &'static str = "path";
    const EXPECTED: &'static str = "a path";
    fn read(kind: &ValueKind) -> Option<Self> {
        String::read(kind).map(PathBuf::from)
    }
}

impl Setting for Duration {
    const NAME: &'static str = "duration";
    const EXPECTED: &'static str = "a duration with its unit such as 200ms, 60s, 1h30m or 30d";
    fn read(kind: &ValueKind) -> Option<Self> {
        String::read(kind).and_then(|text| humantime::parse_duration(&text).ok())
    }
}

impl Setting for ByteSize {
    const NAME: &'static str = "size";
    const EXPECTED: &'static str = "a size with its unit such as 512KiB, 256MiB or 8GiB";
    fn read(kind: &ValueKind) -> Option<Self> {
        let text = String::read(kind)?;
        // A bare number is refused: whoever forgets a unit rarely means bytes.
        if text.ends_with(|last: char| last.is_ascii_digit()) { None } else { text.parse().ok() }
    }
}

impl Setting for SocketAddr {
    const NAME: &'static str = "address and port";
    const EXPECTED: &'static str = "an address and a port such as 127.0.0.1:9650 (port 0 takes any free one)";
    fn read(kind: &ValueKind) -> Option<Self> {
        String::read(kind)?.parse().ok()
    }
}

/// A list of words, which the environment gives as one text with commas.
impl Setting for Vec<String> {
    const NAME: &'static str = "list";
    const EXPECTED: &'static str = "a list such as [a, b]";
    fn read(kind: &ValueKind) -> Option<Self> {
        match kind {
            ValueKind::Array(entries) => entries.iter().map(|entry| scalar(&entry.kind)).collect(),
            ValueKind::String(text) => Some(text.split(',').map(|word| word.trim().to_owned()).collect()),
            _ => None,
        }
    }
}

/// A text, or a number as text.
pub(super) fn scalar(kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::I64(number) => Some(number.to_string()),
        other => String::read(other),
    }
}

impl Setting for NaiveDate {
    const NAME: &'static str = "date";
    const EXPECTED: &'static str = "a date such as 2027-03-01";
    fn read(kind: &ValueKind) -> Option<Self> {
        String::read(kind)?.parse().ok()
    }
}
