//! The words that every other module shares: organizations, lanes, entries and the uid.
//!
//! Nothing here knows the vendor's spelling, a sink or the store.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

use foldhash::fast::RandomState;
use rmp_serde::decode;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Microseconds since 1970-01-01T00:00:00Z, on the portal's time unless said otherwise.
pub type Micros = i64;
/// Whole seconds since 1970-01-01T00:00:00Z; the bounds of coverage are whole seconds.
pub type Seconds = i64;

/// Microseconds in a second.
pub const SECOND: Micros = 1_000_000;

/// A ThreatLocker tenant, always lower-case (contract section 1.4: compare case-insensitively).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct OrganizationId(Arc<str>);

impl OrganizationId {
    /// Takes an id in any case and keeps it in lower case.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_ascii_lowercase().into())
    }

    /// The id of rows that name no organization.
    pub fn none() -> Self {
        Self("".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for OrganizationId {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl fmt::Display for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The row id of a connection in the store.
pub type ConnectionId = i64;

/// An ordered sequence of entries of one connection with a purpose. All lanes of a connection draw
/// their numbers from one counter, so a number names an entry and is a point in history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// What happened just now.
    Live,
    /// Older time that was not covered yet, late rows, repaired gaps.
    Backfill,
    /// What one sink alone gets: dead letters that it tries again, and what was collected for it once more.
    Refill,
}

impl Lane {
    /// Every lane, in the order of delivery.
    pub const ALL: [Lane; 3] = [Lane::Live, Lane::Backfill, Lane::Refill];

    /// The lane's key in the store; never changes once released.
    pub fn code(self) -> i64 {
        match self {
            Lane::Live => 0,
            Lane::Backfill => 1,
            Lane::Refill => 2,
        }
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.code() == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Live => "live",
            Lane::Backfill => "backfill",
            Lane::Refill => "refill",
        }
    }
}

/// Rows, by 128 bits that are as good as chance.
pub type RowIds = HashSet<u128, RandomState>;

/// The last number confirmed in each lane.
pub type Positions = std::collections::BTreeMap<(ConnectionId, Lane), i64>;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Event,
    Device,
    State,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Event, Self::Device, Self::State];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Device => "device",
            Kind::State => "state",
        }
    }
}

/// Why an entry exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    New,
    Changed,
    Removed,
    Restated,
}

impl Change {
    pub const ALL: [Self; 4] = [Self::New, Self::Changed, Self::Removed, Self::Restated];

    pub fn as_str(self) -> &'static str {
        match self {
            Change::New => "new",
            Change::Changed => "changed",
            Change::Removed => "removed",
            Change::Restated => "restated",
        }
    }
}

/// One new or changed row in the outbox, without its lane, source and collection time, which it
/// shares with its [`Chunk`].
///
/// Stored as named MessagePack fields: adding an optional field keeps old entries readable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Place in the connection's history.
    #[serde(rename = "n")]
    pub number: i64,
    #[serde(rename = "u")]
    pub uid: Uuid,
    #[serde(rename = "k")]
    pub kind: Kind,
    #[serde(rename = "c")]
    pub change: Change,
    /// The row's own organization; empty when the row names none.
    #[serde(rename = "o", borrow)]
    pub organization: &'a str,
    /// The vendor's id, absent for rows without one.
    #[serde(rename = "v", borrow, default)]
    pub vendor_id: Option<&'a str>,
    /// When it happened, as far as the row says so.
    #[serde(rename = "t", default)]
    pub time: Option<Micros>,
    /// The vendor's bytes: one JSON object, valid UTF-8.
    #[serde(rename = "r", borrow)]
    pub row: &'a str,
    /// The row before a change or removal, for snapshot sources.
    #[serde(rename = "p", borrow, default)]
    pub previous: Option<&'a str>,
}

/// What of an entry a sink refused before, and is to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retried {
    /// The one record that it refused; all of them where there is none.
    pub record: Option<Uuid>,
}

/// Bytes of an entry beside its rows, and of what is known besides it, usually.
const BESIDE_A_ROW: usize = 256;

/// Consecutive entries of one lane that were committed together.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub connection: ConnectionId,
    pub lane: Lane,
    /// Name of the source, as in [`crate::source::SOURCES`].
    pub source: String,
    /// First and last number inside.
    pub first: i64,
    pub last: i64,
    /// When the rows were collected, on the portal's time.
    pub collected: Micros,
    /// Set where a sink refused its entries before.
    pub retried: Option<Retried>,
    /// MessagePack of `Vec<Entry>` and of what was known besides, not compressed any more.
    pub body: Vec<u8>,
}

impl Chunk {
    /// The entries inside, borrowing from the body.
    pub fn entries(&self) -> Result<Vec<Entry<'_>>, decode::Error> {
        rmp_serde::from_slice(&self.body)
    }

    /// The entries inside and what was known besides them when they were stored.
    pub fn entries_and_known<'a, K>(&'a self) -> Result<(Vec<Entry<'a>>, K), decode::Error>
    where
        K: Deserialize<'a> + Default,
    {
        let mut body = rmp_serde::Deserializer::from_read_ref(&self.body);
        let entries = Vec::deserialize(&mut body)?;
        match K::deserialize(&mut body) {
            // Of a version that knew nothing besides.
            Err(decode::Error::InvalidMarkerRead(_)) if self.has_only_entries() => {
                Ok((entries, K::default()))
            }
            known => Ok((entries, known?)),
        }
    }

    /// Whether nothing follows the entries, not even a part of something.
    fn has_only_entries(&self) -> bool {
        let mut body = rmp_serde::Deserializer::new(Cursor::new(&self.body));
        IgnoredAny::deserialize(&mut body).is_ok() && body.position() == self.body.len() as u64
    }

    /// Encodes entries, and what is known besides them, as a chunk's body.
    pub fn encode(entries: &[Entry<'_>], known: &impl Serialize) -> Vec<u8> {
        const WHY: &str = "entries hold only text, numbers and ids";
        let rows: usize =
            entries.iter().map(|entry| entry.row.len() + entry.previous.map_or(0, str::len)).sum();
        let mut body = Vec::with_capacity(rows + entries.len() * BESIDE_A_ROW);
        rmp_serde::encode::write_named(&mut body, entries).expect(WHY);
        rmp_serde::encode::write_named(&mut body, known).expect(WHY);
        body
    }
}

/// The namespace of every uid. ◆ Never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6c6f_636b_7374_5570_8000_7468_7265_6174);

/// The stable id of a record: UUIDv5 over the row's organization, source, vendor key, record kind
/// and occurrence, each part length-prefixed. GUIDs count in lower case (contract section 1.4); opaque
/// ids as they are, since two of them may differ in case alone. ◆ Neither site, instance, scope, format nor route
/// take part, so the same row has the same uid however it was reached.
pub fn uid(organization: &str, source: &str, vendor_key: &str, kind: &str, occurrence: &str) -> Uuid {
    let parts = [organization, source, vendor_key, kind, occurrence];
    let mut name = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        name.extend_from_slice(&length.to_be_bytes());
        name.extend_from_slice(folded(part).as_bytes());
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

/// ◆ What names a row within its organization and source: the vendor's id and, where a source has parts,
/// the part, since ids may repeat across them (contract section 14, row 12).
pub fn vendor_key(part: u8, vendor_id: &str) -> String {
    let id = folded(vendor_id);
    if part == 0 { id.into_owned() } else { format!("{part}/{id}") }
}

/// A GUID in lower case; any other text as it is.
pub fn folded(id: &str) -> Cow<'_, str> {
    if is_guid(id) && id.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(id.to_ascii_lowercase())
    } else {
        Cow::Borrowed(id)
    }
}

/// Whether the text has a GUID's shape: five groups of hexadecimal digits.
pub fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::enrichment::{Enrichment, Known, LastUser, UserOrigin};

    const GUID: &str = "96984898-302D-5316-8d10-2c1ac39af9e4";

    #[test]
    fn a_uid_depends_on_every_part_and_its_place() {
        let base = uid("org", "computers", "ab", "device", "0");
        assert_ne!(base, uid("orgc", "omputers", "ab", "device", "0"));
        assert_ne!(base, uid("org", "computers", "ab", "device", "1"));
        assert_ne!(base, uid("org", "computers", "ab", "event", "0"));
        assert_ne!(base, uid("org", "computers", "AB", "device", "0"), "opaque ids keep their case");
    }

    #[test]
    fn guids_are_the_same_in_any_case() {
        assert_eq!(uid("o", "s", GUID, "k", ""), uid("o", "s", &GUID.to_uppercase(), "k", ""));
    }

    #[test]
    fn a_chunk_of_a_version_that_knew_nothing_besides_is_read_and_half_of_one_is_not() {
        let row = Entry {
            number: 1,
            uid: Uuid::nil(),
            kind: Kind::Event,
            change: Change::New,
            organization: "5d1",
            vendor_id: None,
            time: None,
            row: "{}",
            previous: None,
        };
        let user = LastUser { name: "a", origin: UserOrigin::Computer, time: Some(7) };
        let besides = Enrichment { user: Some(user), ..Enrichment::default() };
        let chunk = |body: &[u8]| Chunk {
            connection: 1,
            lane: Lane::Live,
            source: "unified_audit".to_owned(),
            first: 1,
            last: 1,
            collected: 0,
            retried: None,
            body: body.to_vec(),
        };
        let whole = Chunk::encode(std::slice::from_ref(&row), &Known::new([besides].into_iter()));
        let old = rmp_serde::to_vec_named(&[&row]).unwrap();
        for (body, wanted) in [(&whole[..], besides), (&old, Enrichment::default())] {
            let chunk = chunk(body);
            let (entries, known) = chunk.entries_and_known::<Known<'_>>().unwrap();
            assert_eq!((entries.len(), entries[0].row, known.of(0)), (1, "{}", wanted));
        }
        let half = chunk(&whole[..whole.len() - 1]);
        assert!(half.entries_and_known::<Known<'_>>().is_err());
    }

    /// A stranger's implementation of UUIDv5 over the same bytes gave this value.
    #[test]
    fn a_uid_never_changes() {
        assert_eq!(
            uid("org", "computers", "id", "device", "0").to_string(),
            "6b80a763-dd55-5a6d-af22-4ab68bee3157"
        );
    }
}
