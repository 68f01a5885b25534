//! Which index a record belongs to, from the record alone, so that it is the same whenever it is sent again.

use std::fmt::{self, Write};

use crate::sink::Record;

/// Longest name of an index, in bytes.
const LONGEST: usize = 255;
const KNOWN: [(&str, Part, usize); 6] = [
    ("site", Part::Site, 73),
    ("org_id", Part::OrganizationId, 73),
    ("org_slug", Part::OrganizationSlug, 73),
    ("kind", Part::Kind, 6),
    ("source", Part::Source, 73),
    ("date", Part::Date, 10),
];
/// Longest name that one value may give, before the hash of one that was altered.
const LONGEST_VALUE: usize = 64;

/// The name of an index with `{site} {org_id} {org_slug} {kind} {source} {date}` in it, checked. `{date}` is the UTC
/// day of collection, as `YYYY-MM-DD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Site,
    OrganizationId,
    OrganizationSlug,
    Source,
    Kind,
    Date,
}

/// What is wrong with a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "unknown placeholder {{{0}}}; known: {{site}} {{org_id}} {{org_slug}} {{kind}} {{source}} {{date}}"
    )]
    Unknown(String),
    #[error("a brace stands alone; placeholders are written {{date}}")]
    Brace,
    #[error("must begin with a lower-case letter or a digit")]
    Begin,
    #[error(
        "holds {0:?}, which no index may have in its name: lower-case letters, digits, \".\", \"_\" and \"-\" will do"
    )]
    Letter(char),
    #[error("could become longer than the 255 bytes of an index's name; leave a placeholder out")]
    TooLong,
}

impl IndexTemplate {
    /// Reads a template as written in the configuration.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut longest, mut rest) = (Vec::new(), 0, text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(TemplateError::Brace)?;
            parts.push(Part::Text(plain(before)?));
            let known = KNOWN.iter().find(|(known, ..)| *known == name);
            let (_, part, length) = known.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            longest += before.len() + length;
            parts.push(part.clone());
            rest = after;
        }
        parts.push(Part::Text(plain(rest)?));
        if longest + rest.len() > LONGEST {
            return Err(TemplateError::TooLong);
        }
        match text.chars().next() {
            Some(first) if first.is_ascii_lowercase() || first.is_ascii_digit() => {}
            _ => return Err(TemplateError::Begin),
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// True when the name tells days apart.
    pub fn has_date(&self) -> bool {
        self.parts.contains(&Part::Date)
    }

    /// Appends the name for a record, which needs no escaping in JSON.
    pub(super) fn render(&self, record: &Record, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Site => value(&record.site, out),
                Part::OrganizationId => value(record.organization.as_str(), out),
                Part::OrganizationSlug => value(&record.slug, out),
                Part::Source => value(&record.source, out),
                Part::Kind => out.push_str(record.kind.as_str()),
                Part::Date => write!(out, "{}", record.day).expect("text takes every write"),
            }
        }
    }
}

fn plain(text: &str) -> Result<String, TemplateError> {
    match text.chars().find(|letter| !fits(*letter)) {
        Some('}') => Err(TemplateError::Brace),
        Some(letter) => Err(TemplateError::Letter(letter)),
        None => Ok(text.to_owned()),
    }
}

pub(super) fn fits(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '.' | '_' | '-')
}

/// A value as a part of a name, in lower case. One that had to be altered otherwise ends in a hash, so that two
/// values never share an index that would not share it in lower case.
pub(super) fn value(value: &str, out: &mut String) {
    if value.is_empty() {
        out.push_str("none");
        return;
    }
    let lower = value.to_lowercase();
    let mut name: String = lower.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect();
    name.truncate(LONGEST_VALUE);
    out.push_str(&name);
    if name != lower {
        out.push('-');
        out.push_str(blake3::hash(lower.as_bytes()).to_hex().get(..8).expect("a hash is longer"));
    }
}

impl fmt::Display for IndexTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(text: &str) -> String {
        let mut name = String::new();
        value(text, &mut name);
        name
    }

    #[test]
    fn a_template_says_what_is_wrong_with_it() {
        for (text, wrong) in [
            ("x-{sit}", TemplateError::Unknown("sit".into())),
            ("x-{date", TemplateError::Brace),
            ("x-}date", TemplateError::Brace),
            ("{site}-x", TemplateError::Begin),
            ("-x", TemplateError::Begin),
            ("", TemplateError::Begin),
            ("x-Y", TemplateError::Letter('Y')),
            ("a b", TemplateError::Letter(' ')),
            ("x{site}{org_id}{org_slug}{source}", TemplateError::TooLong),
        ] {
            assert_eq!(IndexTemplate::parse(text), Err(wrong), "{text:?}");
        }
        let template = IndexTemplate::parse("threatlocker-{kind}s-{date}").unwrap();
        assert!(template.has_date() && !IndexTemplate::parse("x-{site}").unwrap().has_date());
        assert_eq!(template.to_string(), "threatlocker-{kind}s-{date}");
    }

    #[test]
    fn two_values_share_an_index_only_when_they_differ_in_case_alone() {
        assert_eq!(named("Acme.North"), "acme.north");
        assert_eq!(named(""), "none");
        assert_ne!(named("a b"), named("a_b"));
        assert_ne!(named("a b"), named("a*b"));
        assert_ne!(named(&"a".repeat(65)), named(&"a".repeat(66)));
    }

    proptest! {
        #[test]
        fn any_value_gives_a_name_that_an_index_may_have(text in any::<String>()) {
            let name = named(&text);
            prop_assert!(name.chars().all(fits) && (1..=73).contains(&name.len()), "{}", name);
        }
    }
}
