//! Which file a record belongs to: the path template and the names made from it.

use std::fmt::{self, Write};
use std::path::PathBuf;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::pack::Compression;
use crate::model::Kind;
use crate::sink::Record;

/// Longest name that one value may give, in bytes; a file system takes 255 for a whole component.
const LONGEST_VALUE: usize = 80;
const KNOWN: [(&str, Part); 6] = [
    ("site", Part::Site),
    ("org_id", Part::OrganizationId),
    ("org_slug", Part::OrganizationSlug),
    ("source", Part::Source),
    ("kind", Part::Kind),
    ("date", Part::Date),
];

/// A path with `{site} {org_id} {org_slug} {source} {kind} {date}` in it, checked.
///
/// What stands before the first placeholder's component is the operator's own and may lead anywhere; from
/// there on nothing leaves that directory. `{date}` is the UTC day of collection, as `YYYY-MM-DD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    parts: Vec<Part>,
    /// What the file names end in, dot included, if the template says so: `.ndjson`.
    extension: String,
    compression: Compression,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Site,
    OrganizationId,
    OrganizationSlug,
    Source,
    Kind,
    Date,
}

/// What is wrong with a path template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "unknown placeholder {{{0}}}; known: {{site}} {{org_id}} {{org_slug}} {{source}} {{kind}} {{date}}"
    )]
    Unknown(String),
    #[error("a brace stands alone; placeholders are written {{site}}")]
    Brace,
    #[error("names no file")]
    NoFile,
    #[error("\"..\" after a placeholder could lead anywhere")]
    Escapes,
    #[error("ends in \".part\", which marks files that are being written")]
    Part,
    #[error("holds a control character")]
    Control,
    #[error(
        "ends in {ending}, so its files are to be packed: write `compression: {wanted}`, or another ending"
    )]
    Packed { ending: &'static str, wanted: &'static str },
}

/// The files of one rendered path, whatever their sequence number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct FileName {
    /// Path up to the extension.
    stem: String,
    extension: String,
}

impl PathTemplate {
    /// Reads a template as written in the configuration. Names of packed files end in `.gz` or `.zst`, whether
    /// the template says so or not.
    pub fn parse(text: &str, compression: Compression) -> Result<Self, TemplateError> {
        let ending = Compression::of(text);
        if ending != Compression::None && ending != compression {
            return Err(TemplateError::Packed { ending: ending.suffix(), wanted: ending.as_str() });
        }
        let template = Self::plain(text.strip_suffix(compression.suffix()).unwrap_or(text))?;
        let text = template.text + compression.suffix();
        Ok(Self { text, compression, ..template })
    }

    /// As it is before packing.
    fn plain(text: &str) -> Result<Self, TemplateError> {
        if text.chars().any(char::is_control) {
            return Err(TemplateError::Control);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(TemplateError::Brace)?;
            if before.contains('}') {
                return Err(TemplateError::Brace);
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let known = KNOWN.iter().find(|(known, _)| *known == name);
            parts.push(known.ok_or_else(|| TemplateError::Unknown(name.to_owned()))?.1.clone());
            rest = after;
        }
        if rest.contains('}') {
            return Err(TemplateError::Brace);
        }
        let name = text.rsplit('/').next().unwrap_or_default();
        if matches!(name, "" | "." | "..") {
            return Err(TemplateError::NoFile);
        }
        if let Some((_, varying)) = text.split_once('{')
            && varying.split('/').skip(1).any(|component| component == "..")
        {
            return Err(TemplateError::Escapes);
        }
        let extension = match rest.rsplit('/').next().unwrap_or_default().rsplit_once('.') {
            // A name that is nothing but a dot and an ending is a stem.
            Some((before, ending)) if name.len() > ending.len() + 1 && !ending.is_empty() => {
                debug_assert!(rest.ends_with(ending) && rest.len() > before.len());
                format!(".{ending}")
            }
            _ => String::new(),
        };
        if extension == ".part" {
            return Err(TemplateError::Part);
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts, extension, compression: Compression::None })
    }

    /// How the files are packed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// True when the path tells days apart.
    pub(super) fn has_date(&self) -> bool {
        self.parts.contains(&Part::Date)
    }

    /// All that a name can be made of: records with the same key have the same name.
    pub(super) fn key(record: &Record) -> (&str, &str, &str, &str, Kind, NaiveDate) {
        let Record { site, organization, slug, source, kind, day, .. } = record;
        (site, organization.as_str(), slug, source, *kind, *day)
    }

    pub(super) fn render(&self, record: &Record) -> FileName {
        let mut path = String::with_capacity(self.text.len() + 64);
        for part in &self.parts {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Site => path.push_str(&safe(&record.site)),
                Part::OrganizationId => path.push_str(&safe(record.organization.as_str())),
                Part::OrganizationSlug => path.push_str(&safe(&record.slug)),
                Part::Source => path.push_str(&safe(&record.source)),
                Part::Kind => path.push_str(record.kind.as_str()),
                Part::Date => write!(path, "{}", record.day).expect("text takes every write"),
            }
        }
        FileName::new(path, &self.extension, self.compression)
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FileName {
    fn new(path: String, extension: &str, compression: Compression) -> Self {
        let mut stem = path.strip_suffix(extension).unwrap_or(&path).to_owned();
        // `acme.1` would be taken for the second file of `acme`, and `acme.part` for its unfinished one.
        let name = stem.rsplit('/').next().unwrap_or_default();
        if let Some((_, last)) = name.rsplit_once('.')
            && (last == "part" || last.bytes().all(|byte| byte.is_ascii_digit()))
        {
            stem.push('+');
        }
        Self { stem, extension: [extension, compression.suffix()].concat() }
    }

    /// How the file is packed. A sink may still have files from before its compression was changed.
    pub(super) fn compression(&self) -> Compression {
        Compression::of(&self.extension)
    }

    /// `x.ndjson`, `x.1.ndjson`, `x.2.ndjson` ...
    pub(super) fn closed(&self, sequence: u32) -> PathBuf {
        format!("{}{}", self.numbered(sequence), self.extension).into()
    }

    /// The closed name with `.part` behind it.
    pub(super) fn part(&self, sequence: u32) -> PathBuf {
        format!("{}{}.part", self.numbered(sequence), self.extension).into()
    }

    /// Where bytes go that are not ours to deliver: without the extension, so that a reader of `*.ndjson*`
    /// does not see them.
    pub(super) fn surplus(&self, sequence: u32, number: u32) -> PathBuf {
        format!("{}.surplus-{number}", self.numbered(sequence)).into()
    }

    /// The file by which an operator says that lost records are known to be lost.
    pub(super) fn marker(&self, sequence: u32) -> PathBuf {
        format!("{}.accept-loss", self.numbered(sequence)).into()
    }

    fn numbered(&self, sequence: u32) -> String {
        if sequence == 0 { self.stem.clone() } else { format!("{}.{sequence}", self.stem) }
    }
}

/// A value as part of a file name. Letters and digits of any script, `-`, `_`, `.`, `@` and single spaces stay.
/// A value that had to be altered ends in `+` and a hash, which no unaltered value can, so two different
/// values never give one name.
fn safe(value: &str) -> String {
    if value.is_empty() {
        return "+none".to_owned();
    }
    let mut name: String =
        value.chars().map(|c| if c.is_alphanumeric() || "-_.@ ".contains(c) { c } else { '_' }).collect();
    if name.starts_with(['.', ' ', '-']) {
        name.replace_range(..1, "_");
    }
    if name.ends_with([' ', '.']) {
        name.pop();
        name.push('_');
    }
    while name.len() > LONGEST_VALUE {
        name.pop();
    }
    if name != value {
        name.push('+');
        name.push_str(blake3::hash(value.as_bytes()).to_hex().get(..8).expect("a hash is longer"));
    }
    name
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::NaiveDate;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::model::{Kind, Lane, OrganizationId};

    fn record(site: &str, slug: &str) -> Record {
        Record {
            bytes: 0..0,
            connection: 1,
            lane: Lane::Live,
            number: 1,
            uid: Uuid::nil(),
            kind: Kind::Event,
            time: 0,
            host: None,
            day: NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(),
            site: site.into(),
            source: "unified_audit".into(),
            organization: OrganizationId::new("0A1b"),
            slug: Arc::from(slug),
            device: None,
        }
    }

    fn plain(template: &str) -> PathTemplate {
        PathTemplate::parse(template, Compression::None).unwrap()
    }

    fn closed(template: &str, site: &str, sequence: u32) -> String {
        let name = plain(template).render(&record(site, "s"));
        name.closed(sequence).to_str().unwrap().to_owned()
    }

    #[test]
    fn every_placeholder_is_filled_and_later_files_are_numbered_before_the_extension() {
        let template = "out/{site}/{org_id}/{org_slug}/{source}-{kind}-{date}.ndjson";
        assert_eq!(closed(template, "acme", 0), "out/acme/0a1b/s/unified_audit-event-2026-11-22.ndjson");
        assert_eq!(closed(template, "acme", 2), "out/acme/0a1b/s/unified_audit-event-2026-11-22.2.ndjson");
        let name = plain("out/{site}.ndjson").render(&record("acme", ""));
        assert_eq!(name.part(1).to_str().unwrap(), "out/acme.1.ndjson.part");
        assert_eq!(name.surplus(1, 3).to_str().unwrap(), "out/acme.1.surplus-3");
    }

    #[test]
    fn the_extension_comes_from_the_template_and_never_from_a_value() {
        assert_eq!(closed("out/{site}", "acme.example", 1), "out/acme.example.1");
        assert_eq!(closed("out.d/{site}/all", "acme", 1), "out.d/acme/all.1");
        assert_eq!(closed("out/{site}.log.bak", "acme", 1), "out/acme.log.1.bak");
        assert_eq!(closed("out/.{site}", "acme", 1), "out/.acme.1");
        assert_eq!(closed("out/{site}/.hidden", "acme", 1), "out/acme/.hidden.1");
    }

    #[test]
    fn packed_files_end_in_what_they_are_once_and_later_ones_are_numbered_before_both_endings() {
        let names = |text: &str, compression| {
            let template = PathTemplate::parse(text, compression).unwrap();
            assert_eq!(PathTemplate::parse(&template.to_string(), compression).unwrap(), template);
            [0, 1].map(|number| {
                template.render(&record("acme", "")).closed(number).to_str().unwrap().to_owned()
            })
        };
        for text in ["out/{site}.ndjson", "out/{site}.ndjson.gz"] {
            assert_eq!(names(text, Compression::Gzip), ["out/acme.ndjson.gz", "out/acme.1.ndjson.gz"]);
        }
        for text in ["out/{site}", "out/{site}.zst"] {
            assert_eq!(names(text, Compression::Zstd), ["out/acme.zst", "out/acme.1.zst"]);
        }
    }

    #[test]
    fn a_name_that_says_packed_otherwise_than_the_file_is_a_mistake() {
        for (text, compression, wanted) in [
            ("out/{site}.gz", Compression::None, "gzip"),
            ("out/{site}.ndjson.zst", Compression::Gzip, "zstd"),
        ] {
            let error = PathTemplate::parse(text, compression).unwrap_err().to_string();
            assert!(error.contains(&format!("`compression: {wanted}`")), "{error}");
        }
    }

    #[test]
    fn mistakes_in_a_template_are_named() {
        let error = |text| PathTemplate::parse(text, Compression::None).unwrap_err();
        assert_eq!(error("out/{sit}.ndjson"), TemplateError::Unknown("sit".into()));
        assert!(error("{x}").to_string().contains("{site} {org_id} {org_slug} {source} {kind} {date}"));
        for text in ["out/{site", "out/site}", "{a{site}", "{site}}"] {
            assert!(matches!(error(text), TemplateError::Brace | TemplateError::Unknown(_)), "{text}");
        }
        for text in ["", "out/", "out/{site}/", "..", "out/."] {
            assert_eq!(error(text), TemplateError::NoFile, "{text}");
        }
        assert_eq!(error("out/{site}/../x"), TemplateError::Escapes);
        assert_eq!(error("out/{site}.part"), TemplateError::Part);
        assert_eq!(error("out/\n{site}"), TemplateError::Control);
        plain("../out/{site}.ndjson");
    }

    #[test]
    fn a_site_named_like_the_second_file_of_another_has_files_of_its_own() {
        assert_ne!(closed("{site}.ndjson", "acme", 1), closed("{site}.ndjson", "acme.1", 0));
        assert_ne!(closed("{site}", "acme", 1), closed("{site}", "acme.1", 0));
        let part = plain("{site}").render(&record("acme", "")).part(0);
        assert_ne!(part.to_str().unwrap(), closed("{site}", "acme.part", 0));
    }

    #[test]
    fn a_value_that_is_empty_or_all_dots_still_names_a_file() {
        assert_eq!(safe(""), "+none");
        assert_eq!(safe("Zürich 東京"), "Zürich 東京");
        for odd in [".", "..", "../../etc", "/", "a/b", "a\0b", "a\nb", ".hidden", "-rf", " ", "x ", "+none"]
        {
            let name = safe(odd);
            assert!(
                name.contains('+') && !name.contains('/') && !name.starts_with(['.', '-', ' ']),
                "{odd:?}: {name}"
            );
        }
    }

    fn any_value() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[a/_]{1,2}", 1 => "[a.1]{1,4}", 1 => "[ab./+_-]{0,4}", 1 => ".{0,6}", 1 => "[é東/]{0,60}", 1 => "(a|b|/){75,90}"]
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_directory_and_no_two_values_share_a_file(
            one in any_value(), other in any_value(), first in 0u32..3, second in 0u32..3,
        ) {
            for (template, compression) in [
                ("out/{site}", Compression::None),
                ("out/{site}.ndjson", Compression::None),
                ("out/{site}/x.ndjson", Compression::None),
                ("out/{site}", Compression::Gzip),
            ] {
                let template = PathTemplate::parse(template, compression).unwrap();
                let (a, b) = (template.render(&record(&one, "")), template.render(&record(&other, "")));
                let depth = template.text.split('/').count();
                let path = a.closed(first);
                prop_assert_eq!(path.components().count(), depth, "{:?}", path);
                prop_assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
                prop_assert!(path.file_name().unwrap().len() < 255);
                if one != other {
                    for path in [a.closed(first), a.part(first)] {
                        prop_assert_ne!(&path, &b.closed(second));
                        prop_assert_ne!(&path, &b.part(second));
                    }
                }
            }
        }
    }
}
