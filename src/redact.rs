//! Keeps what is personal or secret from a sink: values of chosen classes become pseudonyms or are left out.
//!
//! A pure function of the entry, what is known besides, and the key; it stands before the formats, which know
//! nothing of it and so can leak nothing. First the values of the classes' fields are gathered, from the row, the
//! row before, what is known besides, and from JSON and base64 inside of texts; then the fields are replaced, and
//! every occurrence of a gathered value in any other text. A member [`KEY_ID`] of the row tells the key.
//!
//! `docs/privacy.md` says what each class covers and what is not covered.

mod address;
pub mod class;
pub mod pseudonym;
mod text;
mod tree;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::credentials::{CredentialError, SecretSource, read_secret};
use crate::format::{FormatError, not_json};
use crate::model::{Entry, Kind};
use crate::normalise::{is_zero_guid, parse_time};
use crate::record::enrichment::{Enrichment, KnownDevice, LastUser, Matching, Replaced};
use crate::record::row::tidy;
use crate::source::{self, SOURCES, Source, by_name};
use class::{Class, Classes, How, MAKER, NAMES, is_account, is_word};
use pseudonym::{Key, LEAST_KEY, SEPARATORS, is_email, mac_address, written};
use text::{Needles, Shape, folded, profiles};
use tree::Node;

/// The member of a redacted row that tells the key of its pseudonyms.
pub const KEY_ID: &str = "lockstepRedactionKey";
/// What stands for a removed value inside of other text.
const REMOVED: &str = "[removed]";

/// What a sink is to be spared, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redact {
    pub classes: Classes,
    /// Where the key is; pseudonyms need one.
    pub key: Option<SecretSource>,
}

/// In words, for people.
impl fmt::Display for Redact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |how| {
            let named = Class::ALL.into_iter().filter(|class| self.classes.how(*class) == Some(how));
            named.map(Class::as_str).collect::<Vec<_>>().join(", ")
        };
        let (replaced, removed) = (named(How::Pseudonym), named(How::Remove));
        if let Some(key) = self.key.as_ref().filter(|_| !replaced.is_empty()) {
            write!(f, "{replaced} as pseudonyms with the key in {key}")?;
            f.write_str(if removed.is_empty() { "" } else { "; " })?;
        }
        if removed.is_empty() { Ok(()) } else { write!(f, "{removed} left out") }
    }
}

/// A key that cannot be had. Nothing is delivered without it.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    #[error("pseudonyms need the key that redact_key names: {0}")]
    Key(#[from] CredentialError),
    #[error(
        "the key that redact_key names in {0} is shorter than {LEAST_KEY} bytes, so it can be guessed; write a longer one"
    )]
    Short(SecretSource),
}

impl Redact {
    /// Reads the key as it is now.
    pub async fn ready(&self) -> Result<Redaction, RedactError> {
        let key = match self.key.as_ref().filter(|_| self.classes.any_pseudonym()) {
            None => None,
            Some(source) => {
                let secret = read_secret(source).await?;
                let key = Key::new(secret.expose_secret().as_bytes());
                Some(key.ok_or_else(|| RedactError::Short(source.clone()))?)
            }
        };
        Ok(Redaction { classes: self.classes, key })
    }
}

/// Ready to redact.
#[derive(Clone)]
pub struct Redaction {
    pub classes: Classes,
    /// Without one every value is removed.
    pub key: Option<Key>,
}

/// An entry and what is known besides, without what was redacted.
#[derive(Debug)]
pub struct Redacted {
    row: String,
    previous: Option<String>,
    vendor_id: Option<String>,
    device: Option<[Option<String>; 5]>,
    user: Option<String>,
    replaces: Option<String>,
    matching: Option<String>,
}

impl Redacted {
    pub fn entry<'a>(&'a self, original: &Entry<'a>) -> Entry<'a> {
        Entry {
            vendor_id: self.vendor_id.as_deref(),
            row: &self.row,
            previous: self.previous.as_deref(),
            ..original.clone()
        }
    }

    pub fn known<'a>(&'a self, original: &Enrichment<'a>) -> Enrichment<'a> {
        let device = self.device.as_ref().map(|facts| {
            let [name, os, group, organization, mode] = facts.each_ref().map(Option::as_deref);
            KnownDevice { name, os, group, organization, mode }
        });
        let user = self.user.as_deref().zip(original.user);
        let replaced = self.replaces.as_deref().zip(original.replaces);
        let matching = self.matching.as_deref().zip(original.matching);
        Enrichment {
            device,
            user: user.map(|(name, user)| LastUser { name, ..user }),
            replaces: replaced.map(|(id, replaced)| Replaced { id, ..replaced }),
            matching: matching.map(|(applications, matching)| Matching { applications, ..matching }),
        }
    }
}

impl Redaction {
    /// The entry and what is known besides, redacted.
    ///
    /// # Errors
    /// A row that is no JSON.
    pub fn apply(
        &self,
        source: &str,
        entry: &Entry<'_>,
        known: &Enrichment<'_>,
    ) -> Result<Redacted, FormatError> {
        let mut row = Node::read(&tidy(entry.row)).map_err(|error| not_json("row", &error))?;
        let previous = entry.previous.map(|row| Node::read(&tidy(row)));
        let mut previous = previous.transpose().map_err(|error| not_json("previous row", &error))?;
        let matching = known.matching.map(|matching| Node::read(matching.applications));
        let mut matching = matching.transpose().map_err(|error| not_json("matching applications", &error))?;
        let whole = Some(Class::Report).filter(|class| source == "reports" && self.how(*class).is_some());

        let named = NAMES.into_iter().find(|(of, ..)| *of == source);
        let named = named.map(|(_, class, names)| (class, names));
        let mut pass = Pass { redaction: self, named, needles: Needles::default(), is_applications: false };
        pass.gather(&row, whole);
        if let Some(previous) = &previous {
            pass.gather(previous, whole);
        }
        if let Some(matching) = &matching {
            pass.is_applications = true;
            pass.gather(matching, None);
            pass.is_applications = false;
        }
        let device = known.device.unwrap_or_default();
        for (value, class) in [
            (known.user.map(|user| user.name), Class::User),
            (device.name, Class::Device),
            (device.organization, Class::Organization),
            (computer_asked(source, entry), Class::Device),
        ] {
            if let Some(value) = value.filter(|_| self.how(class).is_some()) {
                pass.gather_value(value, class);
            }
        }

        pass.redact(&mut row, whole);
        if let (Node::Object(members), Some(key)) = (&mut row, &self.key) {
            members.push((KEY_ID.to_owned(), Node::Text(key.id().to_owned())));
        }
        if let Some(previous) = &mut previous {
            pass.redact(previous, whole);
        }
        if let Some(matching) = &mut matching {
            pass.is_applications = true;
            pass.redact(matching, None);
            pass.is_applications = false;
        }
        let fact = |value: Option<&str>, class| value.and_then(|value| pass.fact(value, class));
        Ok(Redacted {
            row: row.to_string(),
            previous: previous.map(|previous| previous.to_string()),
            vendor_id: fact(entry.vendor_id, (entry.kind == Kind::Device).then_some(Class::Device)),
            device: known.device.map(|device| {
                [
                    fact(device.name, Some(Class::Device)),
                    fact(device.os, None),
                    fact(device.group, None),
                    fact(device.organization, Some(Class::Organization)),
                    fact(device.mode, None),
                ]
            }),
            user: fact(known.user.map(|user| user.name), Some(Class::User)),
            replaces: fact(known.replaces.map(|replaced| replaced.id), Some(Class::Device)),
            matching: matching.map(|matching| matching.to_string()),
        })
    }

    fn how(&self, class: Class) -> Option<How> {
        self.classes.how(class)
    }

    /// What stands for a value; none where it is left out.
    fn stand_in(&self, class: Class, value: &str) -> Option<String> {
        let key = self.key.as_ref().filter(|_| self.how(class) == Some(How::Pseudonym))?;
        Some(key.pseudonym(class, value))
    }

    /// What stands for a value inside of other text.
    fn replacement(&self, class: Class, value: &str) -> String {
        self.stand_in(class, value).unwrap_or_else(|| REMOVED.to_owned())
    }
}

/// The computer that was asked about, which the row itself need not name.
fn computer_asked<'a>(source: &str, entry: &Entry<'a>) -> Option<&'a str> {
    let per_computer = |one: &&dyn Source| matches!(one.shape(), source::Shape::PerComputer { .. });
    by_name(source).filter(per_computer)?;
    Some(entry.vendor_id?.split_once('/')?.0)
}

/// One entry in hand.
struct Pass<'r> {
    redaction: &'r Redaction,
    /// Members that name something in this source alone, and of which class that is.
    named: Option<(Class, &'static [&'static str])>,
    needles: Needles,
    /// What is in hand are applications, of which ThreatLocker's own name it as their organization.
    is_applications: bool,
}

impl Pass<'_> {
    /// The class of a member: its own, or that of what it is part of. `details` is free text, or an object whose
    /// members have classes of their own.
    ///
    /// `called` is a member that its object gives another name.
    fn class_of(
        &self,
        key: &str,
        node: &Node,
        called: Option<&Called>,
        of_whole: Option<Class>,
    ) -> Option<Class> {
        let other = called.filter(|called| key.eq_ignore_ascii_case(called.member));
        let named = self.named.filter(|(class, names)| {
            self.redaction.how(*class).is_some() && names.iter().any(|name| name.eq_ignore_ascii_case(key))
        });
        let named = named.map(|(class, _)| class);
        let class = of_whole
            .or(named)
            .or_else(|| self.redaction.classes.of(other.map_or(key, |called| &called.name)));
        let has_own =
            of_whole.is_none() && matches!(node, Node::Object(_)) && key.eq_ignore_ascii_case("details");
        class.filter(|_| !has_own)
    }

    fn gather(&mut self, node: &Node, class: Option<Class>) {
        match node {
            Node::Object(members) => {
                let called = called(members);
                for (key, node) in members {
                    let class = self.class_of(key, node, called.as_ref(), class);
                    self.gather_mail(key, node);
                    self.gather(node, class);
                    self.gather_profiles(key);
                }
            }
            Node::List(nodes) => nodes.iter().for_each(|node| self.gather(node, class)),
            Node::Plain(raw) => {
                // Counts of computers stand in every text.
                let number = class.filter(|class| *class != Class::Organization && is_number(raw));
                if let Some(class) = number {
                    self.gather_value(raw, class);
                }
            }
            Node::Text(text) => {
                self.gather_profiles(text);
                if let Some(class) = class {
                    self.gather_value(text, class);
                }
            }
            Node::Packed(text, _, inner) => {
                if let Some(class) = class {
                    self.gather_value(text, class);
                }
                let has_own = matches!(**inner, Node::Object(_) | Node::List(_));
                self.gather(inner, class.filter(|_| !has_own));
            }
        }
    }

    /// Rows of the cloud have the address of a person for a host.
    fn gather_mail(&mut self, key: &str, node: &Node) {
        if let Node::Text(text) = node
            && key.eq_ignore_ascii_case("hostname")
            && self.redaction.how(Class::User).is_some()
        {
            let ends = |letter: char| letter.is_whitespace() || ",;<>()[]\"'".contains(letter);
            text.split(ends)
                .filter(|word| is_email(word))
                .for_each(|word| self.gather_value(word, Class::User));
        }
    }

    fn gather_profiles(&mut self, text: &str) {
        if self.redaction.how(Class::User).is_some() {
            for name in profiles(text).into_iter().filter_map(|place| text.get(place)) {
                self.add(name, Class::User);
            }
        }
    }

    /// Whether a value says that there is none, or names an account of the system or ThreatLocker itself.
    fn names_nothing(&self, value: &str, class: Class) -> bool {
        value.is_empty()
            || is_zero_guid(value)
            || class == Class::User && is_account(&folded(value))
            || self.is_applications && class == Class::Organization && value.eq_ignore_ascii_case(MAKER)
    }

    /// A value of a class, and what of it names the same thing elsewhere.
    fn gather_value(&mut self, value: &str, class: Class) {
        let value = value.trim();
        if self.names_nothing(value, class) {
            return;
        }
        self.add(value, class);
        let part = match class {
            Class::User => value
                .rsplit_once('\\')
                .map(|(_, user)| user)
                .or_else(|| value.split_once('@').map(|(user, _)| user)),
            // A machine goes by its full name and by the short one.
            Class::Device => value
                .split_once('.')
                .map(|(name, _)| name)
                .filter(|name| !name.bytes().all(|byte| byte.is_ascii_digit())),
            _ => None,
        };
        if let Some(part) = part.filter(|part| !self.names_nothing(part, class)) {
            self.add(part, class);
        }
        for (form, same) in forms(value) {
            let redaction = self.redaction;
            self.needles.add(&form, || redaction.replacement(class, &same));
        }
    }

    fn add(&mut self, value: &str, class: Class) {
        let redaction = self.redaction;
        self.needles.add(value, || redaction.replacement(class, value));
    }

    /// Replaces what is to be redacted; says what became of the node.
    fn redact(&self, node: &mut Node, class: Option<Class>) -> Became {
        match node {
            Node::Object(members) => {
                let (mut changed, called) = (false, called(members));
                members.retain_mut(|(key, node)| {
                    let class = self.class_of(key, node, called.as_ref(), class);
                    let became = self.redact(node, class);
                    let other = self.other_key(key);
                    changed |= became != Became::Same || other.is_some();
                    *key = other.unwrap_or_else(|| std::mem::take(key));
                    became != Became::Gone
                });
                Became::changed(changed)
            }
            Node::List(nodes) => {
                let mut changed = false;
                nodes.retain_mut(|node| {
                    let became = self.redact(node, class);
                    changed |= became != Became::Same;
                    became != Became::Gone
                });
                Became::changed(changed)
            }
            Node::Plain(raw) if raw == "null" => Became::Same,
            Node::Plain(raw) => match class {
                Some(_) if !is_number(raw) => Became::Gone,
                None => self.needles.stand_in(raw).map(str::to_owned).map_or(Became::Same, |other| {
                    *node = Node::Text(other);
                    Became::Other
                }),
                Some(_) => self.leaf(&raw.clone(), class, node),
            },
            Node::Packed(text, packing, inner) if class.is_none() => {
                if self.redact(inner, None) != Became::Same {
                    *text = Node::pack(*packing, inner);
                    return Became::Other;
                }
                self.leaf(&text.clone(), None, node)
            }
            Node::Text(text) | Node::Packed(text, ..) => {
                let text = std::mem::take(text);
                let became = self.leaf(&text, class, node);
                if let (Became::Same, Node::Text(place) | Node::Packed(place, ..)) = (became, node) {
                    *place = text;
                }
                became
            }
        }
    }

    fn leaf(&self, text: &str, class: Option<Class>, node: &mut Node) -> Became {
        match self.text(text, class) {
            Ok(None) => Became::Same,
            Ok(Some(other)) => {
                *node = Node::Text(other);
                Became::Other
            }
            Err(LeftOut) => Became::Gone,
        }
    }

    /// What a text becomes; none where it stays.
    fn text(&self, text: &str, class: Option<Class>) -> Result<Option<String>, LeftOut> {
        let value = text.trim();
        if let Some(class) = class {
            if self.names_nothing(value, class) {
                return Ok(None);
            }
            let many = |value: &str| {
                class == Class::Ip
                    && value.contains(BETWEEN)
                    && value.split(BETWEEN).all(|part| part.is_empty() || part.parse::<IpAddr>().is_ok())
            };
            return match self.redaction.stand_in(class, value) {
                Some(_) if many(value) => Ok(self.searched(value)),
                Some(stand_in) => Ok(Some(stand_in)),
                None => Err(LeftOut),
            };
        }
        let text_folded = folded(value);
        if is_word(&text_folded) {
            return Ok(None);
        }
        if let Some(stand_in) = self.needles.stand_in(value) {
            return Ok(Some(stand_in.to_owned()));
        }
        Ok(if holds_no_name(value) { None } else { self.searched(text) })
    }

    /// A text with stand-ins for all values in it; none where there are none.
    fn searched(&self, text: &str) -> Option<String> {
        self.needles.replace(text, |shape| {
            let (class, value) = match shape {
                Shape::Profile(name) => (Class::User, Cow::Borrowed(name)),
                Shape::Address(address) => (Class::Ip, address.to_string().into()),
            };
            self.redaction.how(class).map(|_| self.redaction.replacement(class, &value))
        })
    }

    /// Another name for a member whose name holds a value; names that are known stay.
    fn other_key(&self, key: &str) -> Option<String> {
        let other = self.searched(key)?;
        let same = |name: &&str| name.eq_ignore_ascii_case(key);
        let names = SOURCES.iter().flat_map(|source| source.names().all());
        let mut names = names.map(|name| name.rsplit_once('.').map_or(*name, |(_, member)| member));
        let is_known =
            names.any(|name| same(&name)) || Class::ALL.iter().flat_map(|class| class.fields()).any(same);
        (!is_known).then_some(other)
    }

    /// What is known besides, or the vendor's id.
    fn fact(&self, value: &str, class: Option<Class>) -> Option<String> {
        let class = class.filter(|class| self.redaction.how(*class).is_some());
        match self.text(value, class) {
            Ok(other) => Some(other.unwrap_or_else(|| value.to_owned())),
            Err(LeftOut) => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Became {
    Same,
    Other,
    /// It is to be left out by whoever holds it.
    Gone,
}

impl Became {
    fn changed(changed: bool) -> Self {
        if changed { Self::Other } else { Self::Same }
    }
}

/// A value that is to be removed.
struct LeftOut;

/// A member that counts as one of another name.
struct Called {
    member: &'static str,
    name: String,
}

/// Of `{"key": "username", "value": "x"}` the member `value` is a `username`, and so is `u` of a
/// `threatLockerItem`, which has short names for all (contract section 5.2).
fn called(members: &[(String, Node)]) -> Option<Called> {
    let has =
        |name: &str| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, node)| node);
    if has("u").is_some() && ["d", "pid", "pn", "at", "aid", "a"].into_iter().any(|name| has(name).is_some())
    {
        return Some(Called { member: "u", name: "username".to_owned() });
    }
    has("value")?;
    match has("key").or_else(|| has("name"))? {
        Node::Text(name) | Node::Packed(name, ..) => Some(Called { member: "value", name: name.clone() }),
        _ => None,
    }
}

fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// What stands between several addresses in one text.
const BETWEEN: [char; 3] = [',', ';', ' '];

/// Other ways to write what a value holds, each with the one that its pseudonym is made from.
fn forms(value: &str) -> Vec<(String, String)> {
    if value.len() == 36
        && let Ok(id) = Uuid::try_parse(value)
    {
        return vec![(id.simple().to_string(), value.to_owned())];
    }
    if let Some((digits, _)) = mac_address(value) {
        let others = SEPARATORS.iter().chain(&[""]);
        return others.map(|between| (written(&digits, between), value.to_owned())).collect();
    }
    let mut forms = Vec::new();
    for part in value.split(BETWEEN) {
        let host = part.split(['/', '%']).next().unwrap_or_default();
        let socket = || host.parse::<SocketAddr>().ok().map(|socket| socket.ip());
        if let Some(address) = host.parse::<IpAddr>().ok().or_else(socket) {
            let canonical = address.to_canonical().to_string();
            let long = match address {
                IpAddr::V4(_) => canonical.clone(),
                IpAddr::V6(address) => address.segments().map(|part| format!("{part:04x}")).join(":"),
            };
            let short = address.to_string();
            forms.extend([host.to_owned(), short, long, canonical].map(|form| (form, address.to_string())));
        }
    }
    forms
}

/// Whether a text is an id, a time or a hash as a whole, in which a short value can stand only by chance.
fn holds_no_name(text: &str) -> bool {
    let is_hash = text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash || text.len() == 36 && Uuid::try_parse(text).is_ok() || parse_time(text).is_some()
}
