//! A row as a tree that can be changed: members keep their order and numbers their digits. JSON and base64 inside
//! of texts are part of the tree, and written again only where something in them changed.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What is nested more deeply is left out.
const DEEPEST: usize = 64;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Debug)]
pub(super) enum Node {
    /// A number, `true`, `false` or `null`, as it is written.
    Plain(String),
    Text(String),
    /// A text that is something else inside.
    Packed(String, Packing, Box<Node>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Packing {
    Json,
    Base64,
}

impl Node {
    /// Reads a JSON text that has gone through [`crate::record::row::tidy`].
    pub(super) fn read(json: &str) -> Result<Self, serde_json::Error> {
        Self::of(serde_json::from_str(json)?, DEEPEST)
    }

    fn of(raw: &RawValue, depth: usize) -> Result<Self, serde_json::Error> {
        let raw = raw.get();
        let mut reader = serde_json::Deserializer::from_str(raw);
        Ok(match raw.as_bytes().first() {
            Some(b'{' | b'[') if depth == 0 => Self::Plain("null".to_owned()),
            Some(b'{') => Self::Object(reader.deserialize_map(Inner(depth - 1))?),
            Some(b'[') => {
                let list: Vec<(String, Node)> = reader.deserialize_seq(Inner(depth - 1))?;
                Self::List(list.into_iter().map(|(_, node)| node).collect())
            }
            Some(b'"') => Self::text(serde_json::from_str(raw)?, depth),
            _ => Self::Plain(raw.to_owned()),
        })
    }

    fn text(text: String, depth: usize) -> Self {
        let start = text.trim_start();
        if depth > 0 && start.starts_with(['{', '[', '"']) {
            let inner = crate::record::row::tidy(&text);
            let inner = serde_json::from_str(&inner).and_then(|inner| Self::of(inner, depth - 1));
            if let Ok(inner) = inner {
                return Self::Packed(text, Packing::Json, Box::new(inner));
            }
        }
        if depth > 0 && text.len() >= 4 && !start.contains(|letter: char| !letter.is_ascii_graphic()) {
            let inner = BASE64.decode(&text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some(inner) = inner.filter(|inner| !inner.contains('\0')) {
                return Self::Packed(text, Packing::Base64, Box::new(Self::text(inner, depth - 1)));
            }
        }
        Self::Text(text)
    }

    /// Packs what was inside of a text again.
    pub(super) fn pack(packing: Packing, inner: &Node) -> String {
        match (packing, inner) {
            (Packing::Json, inner) => inner.to_string(),
            (Packing::Base64, Node::Text(text) | Node::Packed(text, ..)) => BASE64.encode(text),
            (Packing::Base64, inner) => BASE64.encode(inner.to_string()),
        }
    }
}

/// Writes JSON.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(raw) => f.write_str(raw),
            Self::Text(text) | Self::Packed(text, ..) => quoted(f, text),
            Self::List(nodes) => {
                f.write_str("[")?;
                for (place, node) in nodes.iter().enumerate() {
                    write!(f, "{}{node}", if place == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (place, (key, node)) in members.iter().enumerate() {
                    f.write_str(if place == 0 { "" } else { "," })?;
                    quoted(f, key)?;
                    write!(f, ":{node}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

/// Reads what is inside of a list or object; the members of a list have no name.
struct Inner(usize);

impl<'de> Visitor<'de> for Inner {
    type Value = Vec<(String, Node)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            members.push((key, Node::of(value, self.0).map_err(serde::de::Error::custom)?));
        }
        Ok(members)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(value) = seq.next_element::<&RawValue>()? {
            members.push((String::new(), Node::of(value, self.0).map_err(serde::de::Error::custom)?));
        }
        Ok(members)
    }
}
