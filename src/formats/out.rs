//! What encoders write through: members of nested objects, each with where it comes from.
//!
//! An encoder is written once, over [`Out`]. [`json::JsonOut`] appends bytes and notes only which slots are
//! told; [`trace::TraceOut`] notes what `lockstep explain` shows. So the page about the fields cannot say other
//! than what the encoder does.

pub mod json;
pub mod trace;

use crate::record::row::{Field, Integer, Slots};

/// A value to be written.
#[derive(Clone, Copy, Debug)]
pub enum Value<'v> {
    /// JSON text, as it is.
    Json(&'v str),
    /// The inside of a JSON string: escaped already.
    Escaped(&'v str),
    /// Any text.
    Text(&'v str),
    Integer(i64),
    Boolean(bool),
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug)]
pub struct From {
    /// The fields that it was read from.
    pub slots: Slots,
    /// Whether their text can be found again in what is written, so that it need not stand in the rest.
    pub told: bool,
    /// How it was made of them, in words.
    pub rule: &'static str,
}

impl From {
    /// The text of one field.
    pub fn field(field: Field<'_>) -> Self {
        Self { slots: field.slot().into(), told: true, rule: "as it is" }
    }

    /// The text of one field, which stands here under a condition.
    pub fn field_if(field: Field<'_>, rule: &'static str) -> Self {
        Self { slots: field.slot().into(), told: true, rule }
    }

    /// Made of fields, whose text cannot be found in it.
    pub fn derived(slots: impl Into<Slots>, rule: &'static str) -> Self {
        Self { slots: slots.into(), told: false, rule }
    }

    /// The same in every record of its kind, or not from the row.
    pub const fn fixed(rule: &'static str) -> Self {
        Self { slots: Slots::NONE, told: false, rule }
    }
}

/// Takes the members of one record, in order. An object or list without members is not written.
pub trait Out {
    /// Begins an object under a key; with the key "" in a list.
    fn open(&mut self, key: &str);
    /// Ends the object.
    fn close(&mut self);
    /// Begins a list under a key.
    fn open_list(&mut self, key: &str);
    /// Ends the list.
    fn close_list(&mut self);
    /// Writes a member; with the key "" an element of a list. The key is JSON text without quotes.
    fn put(&mut self, key: &str, value: Value<'_>, from: From);
    /// Notes that the text of a field stands in the record, without writing it.
    fn tell(&mut self, field: Field<'_>, rule: &'static str);
    /// The slots whose text can be found in what was written.
    fn told(&self) -> Slots;

    /// Writes the text of a field as a string.
    fn text(&mut self, key: &str, field: Option<Field<'_>>) {
        if let Some(field) = field {
            self.put(key, Value::Escaped(field.inner()), From::field(field));
        }
    }

    /// Writes a part of a field's text, escapes and all, as a string.
    fn part(&mut self, key: &str, part: &str, of: Field<'_>, rule: &'static str) {
        self.put(key, Value::Escaped(part), From::derived(of.slot(), rule));
    }

    /// Writes a whole number.
    fn integer(&mut self, key: &str, number: Option<Integer<'_>>) {
        if let Some(number) = number {
            self.put(key, Value::Integer(number.value), From::field(number.field));
        }
    }

    /// Writes a number that is the same in every record of its kind.
    fn fixed(&mut self, key: &str, number: i64, rule: &'static str) {
        self.put(key, Value::Integer(number), From::fixed(rule));
    }

    /// Writes a word of ours.
    fn word(&mut self, key: &str, word: &str, rule: &'static str) {
        self.put(key, Value::Escaped(word), From::fixed(rule));
    }
}
