//! Goes through the members of an object that is known to be JSON, without reading what it passes.
//!
//! Every row was checked when its page came; looking for a few of its members is no reason to check it again.
//! Text that is no JSON gives members that mean nothing, or an error, and never a panic.

use std::borrow::Cow;

use memchr::memchr2;

/// Why text has no members.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a JSON object")]
pub struct NoObject;

/// The members of an object, in order: each key without its quotes and with its escapes, and the JSON text of its
/// value. After an error there are no more.
#[derive(Debug)]
pub(super) struct Members<'a> {
    rest: &'a str,
    begun: bool,
}

impl<'a> Members<'a> {
    /// # Errors
    /// What does not begin like an object.
    pub(super) fn of(object: &'a str) -> Result<Self, NoObject> {
        let rest = trimmed(object).strip_prefix('{').ok_or(NoObject)?;
        Ok(Self { rest: trimmed(rest), begun: false })
    }

    fn member(&mut self) -> Option<(&'a str, &'a str)> {
        let key_end = string_end(self.rest)?;
        let key = self.rest.get(1..key_end - 1)?;
        let value = trimmed(trimmed(self.rest.get(key_end..)?).strip_prefix(':')?);
        let value_end = value_end(value)?;
        let (value, rest) = value.split_at_checked(value_end)?;
        self.rest = trimmed(rest);
        Some((key, value))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<(&'a str, &'a str), NoObject>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.rest.starts_with('}') {
            return None;
        }
        let rest = if self.begun { self.rest.strip_prefix(',').map(trimmed) } else { Some(self.rest) };
        self.begun = true;
        let member = rest.and_then(|rest| {
            self.rest = rest;
            self.member()
        });
        if member.is_none() {
            self.rest = "";
        }
        Some(member.ok_or(NoObject))
    }
}

/// A key as it reads, without escapes; one that is no Unicode has none of our names.
pub(super) fn plain(key: &str) -> Cow<'_, str> {
    if !key.contains('\\') {
        return Cow::Borrowed(key);
    }
    serde_json::from_str(&format!("\"{key}\"")).map_or(Cow::Borrowed(key), Cow::Owned)
}

fn trimmed(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\r', '\n'])
}

/// The place after the string with which the text begins.
fn string_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The place after the value with which the text begins.
fn value_end(text: &str) -> Option<usize> {
    match text.as_bytes().first()? {
        b'"' => string_end(text),
        b'{' | b'[' => nested_end(text),
        _ => {
            let end = text
                .bytes()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'));
            end.filter(|end| *end > 0)
        }
    }
}

/// The place after the object or list with which the text begins.
fn nested_end(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_u32, 0);
    loop {
        match text.as_bytes().get(at)? {
            b'"' => {
                at += string_end(text.get(at..)?)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}
