//! Which topic a record belongs to: the template and the names made from it.

use std::fmt;

use crate::model::Kind;
use crate::sink::Record;

/// The longest name of a topic, in bytes.
const LONGEST: usize = 249;
/// The longest name that one value may give.
const LONGEST_VALUE: usize = 64;
const KNOWN: [(&str, Part); 5] = [
    ("site", Part::Site),
    ("org_id", Part::OrganizationId),
    ("org_slug", Part::OrganizationSlug),
    ("kind", Part::Kind),
    ("source", Part::Source),
];

/// A topic's name with `{site} {org_id} {org_slug} {kind} {source}` in it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Site,
    OrganizationId,
    OrganizationSlug,
    Kind,
    Source,
}

/// What is wrong with the name of a topic.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("unknown placeholder {{{0}}}; known: {{site}} {{org_id}} {{org_slug}} {{kind}} {{source}}")]
    Unknown(String),
    #[error("a brace stands alone; placeholders are written {{site}}")]
    Brace,
    #[error("a topic is called by letters, digits, \".\", \"_\" and \"-\", at most 249 of them")]
    Name,
}

impl TopicTemplate {
    /// Reads a template as written in the configuration.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(TopicError::Brace)?;
            parts.push(Part::Text(before.to_owned()));
            let known = KNOWN.iter().find(|(known, _)| *known == name);
            parts.push(known.ok_or_else(|| TopicError::Unknown(name.to_owned()))?.1.clone());
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        for part in &parts {
            match part {
                Part::Text(text) if text.contains('}') => return Err(TopicError::Brace),
                Part::Text(text) if !text.chars().all(is_allowed) => return Err(TopicError::Name),
                _ => {}
            }
        }
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        if parts.is_empty() || text.len() > LONGEST || matches!(text, "." | "..") {
            return Err(TopicError::Name);
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The name, where it is the same for every record.
    pub fn fixed(&self) -> Option<&str> {
        self.parts.iter().all(|part| matches!(part, Part::Text(_))).then_some(&self.text)
    }

    pub(super) fn render(&self, record: &Record) -> String {
        let mut name = String::with_capacity(self.text.len() + 32);
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Site => name.push_str(&safe(&record.site)),
                Part::OrganizationId => name.push_str(&safe(record.organization.as_str())),
                Part::OrganizationSlug => name.push_str(&safe(&record.slug)),
                Part::Kind => name.push_str(record.kind.as_str()),
                Part::Source => name.push_str(&safe(&record.source)),
            }
        }
        if name.len() > LONGEST || matches!(name.as_str(), "." | "..") {
            altered(&name, LONGEST)
        } else {
            name
        }
    }

    /// The topics of these sites and sources, as far as they can be told without any record: where an organization
    /// stands in the name, none.
    pub fn foreseen<'a>(
        &self,
        places: impl Iterator<Item = (&'a str, &'a str)>,
        kind: Kind,
    ) -> Option<Vec<String>> {
        if self.parts.iter().any(|part| matches!(part, Part::OrganizationId | Part::OrganizationSlug)) {
            return None;
        }
        let name = |(site, source): (&str, &str)| -> String {
            let part = |part: &Part| match part {
                Part::Text(text) => text.clone(),
                Part::Site => safe(site),
                Part::Source => safe(source),
                _ => kind.as_str().to_owned(),
            };
            self.parts.iter().map(part).collect()
        };
        let mut names: Vec<String> = places.map(name).collect();
        names.sort();
        names.dedup();
        Some(names)
    }
}

impl fmt::Display for TopicTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether it may stand in the name of a topic.
fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

/// A value as part of a topic's name. One that had to be altered ends in a hash, so that two values never meet in
/// one topic.
fn safe(value: &str) -> String {
    if value.is_empty() {
        return "none".to_owned();
    }
    if value.len() <= LONGEST_VALUE && value.chars().all(is_allowed) {
        return value.to_owned();
    }
    altered(value, LONGEST_VALUE)
}

fn altered(value: &str, longest: usize) -> String {
    let hash = blake3::hash(value.as_bytes()).to_hex();
    let allowed = |character: char| if is_allowed(character) { character } else { '_' };
    let start: String = value.chars().map(allowed).take(longest - 9).collect();
    format!("{start}-{}", hash.get(..8).expect("a hash is longer"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sinks::kafka::tests::record;

    #[test]
    fn placeholders_are_filled_in_and_mistakes_named() {
        let template = TopicTemplate::parse("tl.{site}.{org_slug}.{kind}-{source}").unwrap();
        assert_eq!(template.render(&record(7)), "tl.acme.north.event-unified_audit");
        assert_eq!(template.fixed(), None);
        assert_eq!(TopicTemplate::parse("a{b}"), Err(TopicError::Unknown("b".into())));
        for (text, error) in
            [("a{", TopicError::Brace), ("a}b", TopicError::Brace), ("a b", TopicError::Name)]
        {
            assert_eq!(TopicTemplate::parse(text), Err(error));
        }
        assert_eq!(TopicTemplate::parse("").unwrap_err(), TopicError::Name);
    }

    #[test]
    fn what_can_be_foreseen_names_each_topic_once() {
        let places = || [("a", "computers"), ("a", "system_audit"), ("b", "computers")].into_iter();
        let topics = |text: &str| TopicTemplate::parse(text).unwrap().foreseen(places(), Kind::Event);
        assert_eq!(topics("x").unwrap(), ["x"]);
        assert_eq!(topics("x-{site}-{kind}").unwrap(), ["x-a-event", "x-b-event"]);
        assert_eq!(topics("{org_id}"), None);
    }

    proptest! {
        #[test]
        fn any_value_gives_a_name_that_kafka_takes_and_different_values_different_ones(one in ".{0,300}", other in ".{0,300}") {
            let (first, second) = (safe(&one), safe(&other));
            prop_assert!(!first.is_empty() && first.len() <= LONGEST_VALUE && first.chars().all(is_allowed));
            prop_assert!(one == other || first != second || one.is_empty() || other.is_empty());
        }
    }
}
