//! What the simulated portal holds: organizations, computers and the rows of both audits.
//!
//! A world depends on nothing but its options and on what is done to it; which moments it is asked at
//! changes nothing. Rows are small structs; their JSON is written when they are served ([`super::rows`]).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::{Content, Row, Threat};
use super::approvals::Requests;
use super::computers::Fleet;
use super::dialect::{Axis, DAY};
use super::dice::Dice;
use super::listing::Listing;
use super::online_devices::OnlineDevices;
use super::policies::Policies;
use super::story::Story;
use super::text::guid;
use crate::model::{Micros, SECOND};

/// A source that is asked by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    UnifiedAudit,
    SystemAudit,
    /// Of the unified audit, the rows that are threats.
    Threats,
}

/// How a world is made and how it goes on.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    pub seed: u64,
    /// The portal's time at which the world begins to be watched; the backlog lies before it.
    pub start: Micros,
    /// Parent and children together; at least 1.
    pub organizations: u16,
    /// One child in so many has nine tenths of all rows; 0 where every child has as many as the next.
    pub one_busy_in: u16,
    pub computers: u32,
    /// Unified-audit rows a day, of all organizations.
    pub rows_per_day: i64,
    /// System-audit rows a day, the requests' own not counted.
    pub audit_rows_per_day: i64,
    /// Changes of modes, users and versions, additions and removals a day.
    pub computer_changes_per_day: i64,
    /// Policies at the beginning, and their changes, additions and removals a day.
    pub policies: u32,
    pub policy_changes_per_day: i64,
    /// Devices without an agent at the beginning, and how often a day they come, go or change.
    pub online_devices: u32,
    pub online_device_changes_per_day: i64,
    /// Organizations that come, go or get another name a day.
    pub organization_changes_per_day: i64,
    /// Requests for approval from the sixty days before the start, and a day from then on.
    pub approvals: u32,
    pub approvals_per_day: i64,
    pub backlog_hours: i64,
    /// Rows go on coming after the start.
    pub live: bool,
    /// Share of rows that reach the portal late, and by how many days at most.
    pub late_share: f64,
    pub late_days: i64,
    /// Share of rows dated up to three days after they reach the portal.
    pub future_share: f64,
    /// Agents' clocks are wrong by up to this.
    pub skew_seconds: i64,
    /// Share of rows that stand in another source table than 1.
    pub other_table_share: f64,
    /// Share of unified-audit rows that are threats: known ones with or without a level, and others with one.
    pub threat_share: f64,
    /// Share of the levels that come hours after their row.
    pub late_level_share: f64,
    /// Share of unified-audit rows of odd shapes (contract section 15): long lines, cloud rows, missing members.
    pub odd_share: f64,
    /// Share of system-audit rows whose id is null.
    pub no_id_share: f64,
    /// Each request writes a `Read` row into the system audit (contract section 4.1, LC).
    pub own_noise: bool,
    /// Unified-audit rows come without the members that never vary: some 1.2 kB rather than 2.6.
    pub short_rows: bool,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            start: 1_772_366_400 * SECOND,
            organizations: 3,
            one_busy_in: 0,
            computers: 20,
            rows_per_day: 10_000,
            audit_rows_per_day: 200,
            computer_changes_per_day: 40,
            policies: 24,
            policy_changes_per_day: 12,
            online_devices: 0,
            online_device_changes_per_day: 0,
            organization_changes_per_day: 0,
            approvals: 60,
            approvals_per_day: 24,
            backlog_hours: 24,
            live: true,
            late_share: 0.15,
            late_days: 25,
            future_share: 0.0,
            skew_seconds: 20,
            other_table_share: 0.0,
            threat_share: 0.004,
            late_level_share: 0.0,
            odd_share: 0.01,
            no_id_share: 0.02,
            own_noise: true,
            short_rows: false,
        }
    }
}

/// A tenant.
#[derive(Clone, Debug)]
pub struct Organization {
    pub id: Uuid,
    /// As it stands in JSON, escapes included; rows of other things go on saying this one.
    pub name: String,
    pub added: Micros,
    pub story: Story<Standing>,
}

/// What of an organization changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// As it stands in JSON, escapes included.
    pub name: String,
    pub removed: bool,
}

impl Organization {
    fn new(seed: u64, index: usize, added: Micros) -> Self {
        let (name, round) = (NAMES[index % NAMES.len()], index / NAMES.len());
        let name = if round == 0 { name.to_owned() } else { format!("{name} {}", round + 1) };
        let story = Story::new(added, Standing { name: name.clone(), removed: false });
        Self { id: guid(seed, purpose::ORGANIZATION, index as u64), name, added, story }
    }
}

/// Numbers of rows that are put in by hand start here; generated rows count from the epoch.
const OWN_NUMBERS: u64 = 1 << 40;

/// The purposes that ids and dice are drawn for.
pub mod purpose {
    pub const ORGANIZATION: u64 = 1;
    pub const COMPUTER: u64 = 2;
    pub const UNIFIED_ROW: u64 = 3;
    pub const AUDIT_ROW: u64 = 4;
    pub const POLICY: u64 = 5;
    pub const GROUP: u64 = 6;
    pub const LOGGER: u64 = 7;
    pub const LIVE_UNIFIED: u64 = 8;
    pub const LIVE_AUDIT: u64 = 9;
    pub const LIVE_COMPUTER: u64 = 10;
    pub const TOKEN: u64 = 11;
    pub const PERSON: u64 = 12;
    pub const FAULT: u64 = 13;
    pub const MAINTENANCE: u64 = 14;
    pub const THREAT: u64 = 15;
    pub const POLICIES: u64 = 16;
    pub const LIVE_POLICY: u64 = 17;
    pub const LIVE_ORGANIZATION: u64 = 18;
    pub const APPROVAL: u64 = 20;
    pub const LIVE_APPROVAL: u64 = 21;
    pub const REPORT: u64 = 40;
    pub const LIVE_ONLINE_DEVICE: u64 = 41;
    pub const PRIVATE: u64 = 42;
    pub const APPLICATION: u64 = 43;
}

const NAMES: [&str; 6] = [
    "Example MSP",
    "Bäckerei Müßig GmbH",
    "Zahnarztpraxis Łukasz & Söhne",
    "歯科 東京 🦷",
    "Example \\\"Quoted\\\" Ltd",
    "Contoso Sample",
];

/// Everything that the portal holds.
pub struct World {
    pub options: WorldOptions,
    pub organizations: Vec<Organization>,
    pub fleet: Fleet,
    pub policies: Policies,
    pub online: OnlineDevices,
    pub approvals: Requests,
    unified: Listing,
    audit: Listing,
    raw: Vec<Bytes>,
    next_id: u64,
    /// The latest moment that the world was advanced to.
    now: Micros,
    /// Rows of whole seconds before this exist.
    pub(super) generated_until: i64,
}

impl World {
    /// A world with its backlog.
    pub fn new(options: WorldOptions) -> Self {
        let organizations: Vec<_> = (0..usize::from(options.organizations.max(1)))
            .map(|index| {
                let added = options.start - (400 - Micros::try_from(index % 300).unwrap_or(0)) * DAY;
                Organization::new(options.seed, index, added)
            })
            .collect();
        let beginning = options.start - options.backlog_hours * 3_600 * SECOND;
        let fleet = Fleet::new(&options, organizations.len(), beginning);
        let policies = Policies::new(&options, organizations.len(), beginning);
        let online = OnlineDevices::new(&options, organizations.len(), beginning);
        let approvals = Requests::new(options.seed, organizations.len(), beginning, options.approvals);
        let mut world = Self {
            organizations,
            fleet,
            policies,
            online,
            approvals,
            unified: Listing::new(Axis::Event),
            audit: Listing::new(Axis::Event),
            raw: Vec::new(),
            next_id: OWN_NUMBERS,
            now: beginning,
            generated_until: beginning.div_euclid(SECOND),
            options,
        };
        world.generate(world.options.start);
        world.now = world.options.start;
        world
    }

    /// Lets the portal's time reach `now`: everything due until then exists afterwards. Time that
    /// goes back changes nothing.
    pub fn advance(&mut self, now: Micros) {
        self.now = now;
        if self.options.live {
            self.generate(now);
        }
    }

    pub fn now(&self) -> Micros {
        self.now
    }

    /// The rows of a source, ordered by the axis last set.
    pub fn rows(&self, source: Source) -> &[Row] {
        self.listing(source).rows()
    }

    /// Orders both audits by the axis of a dialect.
    pub fn set_axis(&mut self, axis: Axis) {
        self.unified.set_axis(axis);
        self.audit.set_axis(axis);
    }

    /// The bytes of [`Content::Raw`].
    pub fn raw(&self, index: u32) -> &Bytes {
        &self.raw[index as usize]
    }

    /// The index of an organization, by its id in any case.
    pub fn organization(&self, id: &str) -> Option<u16> {
        let id = Uuid::try_parse(id.trim()).ok()?;
        let index = self.organizations.iter().position(|organization| organization.id == id)?;
        u16::try_from(index).ok()
    }

    /// What an organization is called now; nothing before it came and after it went.
    pub fn standing(&self, organization: &Organization) -> Option<Standing> {
        organization.story.at(self.now).filter(|standing| !standing.removed).cloned()
    }

    /// Adds an organization below the parent and answers its index.
    pub fn add_organization(&mut self, added: Micros) -> u16 {
        let index = self.organizations.len();
        self.organizations.push(Organization::new(self.options.seed, index, added));
        u16::try_from(index).expect("fewer organizations than 2^16")
    }

    /// Lets one thing happen to the organizations: another comes, one gets another name, or one that came goes. What
    /// was there from the start stays, since other things belong to it.
    pub(super) fn change_organizations(&mut self, at: Micros, mut dice: Dice) {
        let kind = dice.index(6);
        if kind == 0 && self.organizations.len() < 2_000 {
            self.add_organization(at);
            return;
        }
        let index = dice.index(self.organizations.len());
        let number = dice.below(9);
        let from_the_start = usize::from(self.options.organizations);
        self.organizations[index].story.change(at, |standing| match kind {
            1 if index >= from_the_start => standing.removed = true,
            _ => {
                let plain = standing.name.split(" (").next().unwrap_or_default();
                standing.name = format!("{plain} ({number})");
            }
        });
    }

    /// A new number for a row.
    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Puts rows into a source as they are.
    pub fn insert(&mut self, source: Source, rows: impl IntoIterator<Item = Row>) {
        self.listing_mut(source).insert(rows);
    }

    /// Puts one row with a new id into a source, listed from now on: late when `at` lies in the past.
    pub fn add_row(&mut self, source: Source, organization: u16, at: Micros, imported: Micros) -> u64 {
        let id = self.next_id();
        let row = self.fresh_row(organization, at, imported, Some(id), id);
        self.insert(source, [row]);
        id
    }

    /// Says of a row that it is a threat, or another one than before, from now on.
    pub fn judge(&mut self, id: u64, known: bool, level: Option<&'static str>) {
        let level = level.map(|level| (level, self.now));
        self.unified.judge(id, Threat { known, ratings: false, level });
    }

    /// Puts equal rows without an id into the system audit.
    pub fn add_equal_rows(&mut self, organization: u16, at: Micros, copies: usize) {
        let text = self.next_id();
        let row = self.fresh_row(organization, at, at, None, text);
        self.insert(Source::SystemAudit, std::iter::repeat_n(row, copies));
    }

    /// Puts `rows` rows into the minute after `at`, listed from now on.
    pub fn burst(&mut self, source: Source, organization: u16, at: Micros, rows: u32) {
        let mut dice = Dice::new(self.options.seed, purpose::FAULT, self.next_id);
        let batch: Vec<_> = (0..rows)
            .map(|_| {
                let id = self.next_id();
                let at = at + dice.below(60 * SECOND);
                self.fresh_row(organization, at, at, Some(id), id)
            })
            .collect();
        self.insert(source, batch);
    }

    /// Serves these bytes as a row of a source, whatever they are, from now on.
    pub fn inject_raw(&mut self, source: Source, organization: u16, at: Micros, bytes: impl Into<Bytes>) {
        let index = u32::try_from(self.raw.len()).expect("fewer raw rows than 2^32");
        self.raw.push(bytes.into());
        let row = Row { content: Content::Raw(index), ..self.fresh_row(organization, at, at, None, 0) };
        self.insert(source, [row]);
    }

    /// Writes the rows that a source has, once and for all, so that serving them costs no more than copying.
    pub fn write_ahead(&mut self, source: Source) {
        let mut bytes = Vec::new();
        let ends: Vec<usize> = self
            .rows(source)
            .iter()
            .map(|row| {
                self.write_row(source, row, &mut bytes);
                bytes.len()
            })
            .collect();
        let bytes = Bytes::from(bytes);
        let first = u32::try_from(self.raw.len()).expect("fewer raw rows than 2^32");
        let starts = std::iter::once(0).chain(ends.iter().copied());
        self.raw.extend(starts.zip(&ends).map(|(start, end)| bytes.slice(start..*end)));
        self.listing_mut(source).replace_contents((first..).map(Content::Raw));
    }

    /// Writes the `Read` row of a request (contract section 4.1, LC).
    pub(super) fn note_request(&mut self, organization: u16, endpoint: u8) {
        let id = self.next_id();
        let own = self.fresh_row(organization, self.now, self.now, Some(id), id);
        let row = Row { content: Content::Own(endpoint), action: super::rows::AUDIT_READ, ..own };
        self.insert(Source::SystemAudit, [row]);
    }

    /// Ends the listing of the chosen rows of a source and says how many there were.
    pub fn delete(&mut self, source: Source, chosen: impl Fn(&Row) -> bool) -> usize {
        let now = self.now;
        self.listing_mut(source).delete(now, chosen)
    }

    /// Ends the listing of a row by its place.
    pub(super) fn delete_at(&mut self, source: Source, index: usize) {
        let now = self.now;
        self.listing_mut(source).delete_at(index, now);
    }

    fn fresh_row(&self, organization: u16, at: Micros, imported: Micros, id: Option<u64>, text: u64) -> Row {
        Row {
            id,
            content: Content::Generated(text),
            at,
            imported,
            listed_from: self.now,
            deleted_at: None,
            organization: organization.min(u16::try_from(self.organizations.len()).unwrap_or(u16::MAX) - 1),
            action: 0,
            table: 1,
            threat: Threat::default(),
        }
    }

    fn listing(&self, source: Source) -> &Listing {
        match source {
            Source::UnifiedAudit | Source::Threats => &self.unified,
            Source::SystemAudit => &self.audit,
        }
    }

    fn listing_mut(&mut self, source: Source) -> &mut Listing {
        match source {
            Source::UnifiedAudit | Source::Threats => &mut self.unified,
            Source::SystemAudit => &mut self.audit,
        }
    }
}
