//! What is unknown of the real portal, as switches: each field is one way in which portals may differ.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::answer::{Refusal, Row};
use super::dice::mix;
use crate::model::{Micros, SECOND};

/// Microseconds in a day.
pub const DAY: Micros = 86_400 * SECOND;

/// The column that the date filter and the order work on (contract section 5.5: no source says which).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// `dateTime`: the agent's time.
    #[default]
    Event,
    /// `dateTimeImported`: the portal's time.
    Imported,
}

impl Axis {
    pub fn of(self, row: &Row) -> Micros {
        match self {
            Axis::Event => row.at,
            Axis::Imported => row.imported,
        }
    }
}

/// How many rows the portal says there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Totals {
    #[default]
    Exact,
    /// Never more than this, as search back ends do.
    Capped(u64),
    /// So many more than are listed, wherever anything is listed.
    OverBy(u64),
    Absent,
    /// Left out in this share (percent) of the answers.
    SometimesAbsent(u8),
}

/// The order in which rows are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    Descending,
    Ascending,
    /// The same for every request, and without relation to time.
    Arbitrary,
}

/// What lies behind the depth limit (contract section 8.3: "error or nothing").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeyondDepth {
    #[default]
    Error,
    Empty,
}

/// What a page size above the limit gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oversize {
    /// Status 400 (contract section 1.6, VI).
    #[default]
    Refused,
    /// Silently the limit (BB).
    Clamped,
}

/// Where the paging facts stand in an answer (contract section 1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pagination {
    /// JSON in the header `pagination`.
    #[default]
    Json,
    /// `firstItem`, `lastItem`, `totalItems`, `totalPages` as headers of their own.
    Separate,
    None,
}

/// How "nothing found" is written (contract section 1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyAnswer {
    #[default]
    List,
    Null,
    ZeroBytes,
}

/// What a request without `ManagedOrganizationId` gets (contract section 1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoOrganization {
    /// The rows of the token's own organization.
    #[default]
    Own,
    /// `200` and nothing.
    Empty,
}

/// A text that names no dialect.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no dialect: give one of {names}, or a JSON object with some of its fields", names = Dialect::NAMES.join(", "))]
pub struct UnknownDialect(String);

impl std::str::FromStr for Dialect {
    type Err = UnknownDialect;

    /// Reads a name or a JSON object.
    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        let unknown = || UnknownDialect(text.to_owned());
        Self::named(text).or_else(|| serde_json::from_str(text).ok()).ok_or_else(unknown)
    }
}

/// One way of being the portal. The default is the plain portal: event time, both ends inside, exact
/// totals in the `pagination` header, newest first, 10,000 rows deep, pages up to 1,000 rows, a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dialect {
    pub axis: Axis,
    pub start_inclusive: bool,
    pub end_inclusive: bool,
    pub totals: Totals,
    pub order: Order,
    /// `sortDescending` is honoured; else `order` always holds.
    pub honours_sort: bool,
    /// Rows of the same time come in another order at each request.
    pub shuffles_ties: bool,
    /// Page × size beyond this lists nothing more.
    pub depth_limit: Option<u64>,
    pub beyond_depth: BeyondDepth,
    pub max_page_size: u64,
    pub oversize: Oversize,
    pub pagination: Pagination,
    /// Answers page one whatever page is asked.
    pub ignores_page_number: bool,
    /// Rows older than this, in days on `retention_axis`, are listed no more.
    pub retention_days: Option<u16>,
    pub retention_axis: Axis,
    /// The unified audit of a parent organization without the child flag gives 500 (contract section 1.7).
    pub parent_alone_fails: bool,
    /// The unified audit without `groupBys`, `exportMode`, `showTotalCount`, `showChildOrganizations`,
    /// `onlyTrueDenies`, `simulateDeny` or `sourceTableId` gives 500 (contract section 8.3).
    pub strict_fields: bool,
    /// Values of `statusId` that the portal refuses with 500 (contract section 7.1).
    pub refused_statuses: Vec<u8>,
    pub empty: EmptyAnswer,
    pub no_organization: NoOrganization,
    /// The status of an unknown or revoked token: 403 (LC) or 440 (WYRE).
    pub revoked_status: u16,
    /// Bodies are compressed for clients that accept it.
    pub gzip: bool,
    /// Only the older path of the maintenances is there, which has no pages (contract section 6.3).
    pub unpaged_maintenance: bool,
    /// The check-ins of a computer are listed from the oldest on; no document tells.
    pub oldest_checkins_first: bool,
    /// The list of policies is refused with this status (contract section 6.2: 404, 400 or 500).
    pub refuses_policies: Option<u16>,
    /// Rows of policies say nothing of what the policy does.
    pub sparse_policies: bool,
    /// Rows of policies have `policyName` and `status` in place of `name` and `isEnabled`.
    pub names_policies_otherwise: bool,
    /// The list of children names the parent, too.
    pub lists_own_organization: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            axis: Axis::Event,
            start_inclusive: true,
            end_inclusive: true,
            totals: Totals::Exact,
            order: Order::Descending,
            honours_sort: false,
            shuffles_ties: false,
            depth_limit: Some(10_000),
            beyond_depth: BeyondDepth::Error,
            max_page_size: 1_000,
            oversize: Oversize::Refused,
            pagination: Pagination::Json,
            ignores_page_number: false,
            retention_days: Some(30),
            retention_axis: Axis::Event,
            parent_alone_fails: false,
            strict_fields: false,
            refused_statuses: Vec::new(),
            empty: EmptyAnswer::List,
            no_organization: NoOrganization::Own,
            revoked_status: 403,
            gzip: false,
            unpaged_maintenance: false,
            oldest_checkins_first: false,
            refuses_policies: None,
            sparse_policies: false,
            names_policies_otherwise: false,
            lists_own_organization: false,
        }
    }
}

impl Dialect {
    /// The dialects that have a name, for command lines.
    pub const NAMES: [&'static str; 6] = ["plain", "imported", "strict", "no-totals", "capped", "wild"];

    /// A dialect of [`Self::NAMES`].
    pub fn named(name: &str) -> Option<Self> {
        let plain = Self::default();
        Some(match name {
            "plain" => plain,
            "imported" => Self { axis: Axis::Imported, retention_axis: Axis::Imported, ..plain },
            "strict" => Self {
                parent_alone_fails: true,
                strict_fields: true,
                no_organization: NoOrganization::Empty,
                revoked_status: 440,
                ..plain
            },
            "no-totals" => Self { totals: Totals::Absent, pagination: Pagination::None, ..plain },
            "capped" => Self {
                totals: Totals::Capped(10_000),
                beyond_depth: BeyondDepth::Empty,
                oversize: Oversize::Clamped,
                max_page_size: 500,
                ..plain
            },
            "wild" => Self {
                end_inclusive: false,
                totals: Totals::SometimesAbsent(20),
                shuffles_ties: true,
                pagination: Pagination::Separate,
                empty: EmptyAnswer::ZeroBytes,
                gzip: true,
                ..plain
            },
            _ => return None,
        })
    }

    /// Any dialect, for rows by the hundred: pages and depths are small, so ask for no more than
    /// `max_page_size` at once. The rarest faults of a server come seldom, so that
    /// most dialects can be walked to an end.
    pub fn random(rng: &mut impl Rng) -> Self {
        let one_in = |rng: &mut dyn rand::RngCore, n: u32| rng.random_range(0..n) == 0;
        let axis = if rng.random() { Axis::Event } else { Axis::Imported };
        Self {
            axis,
            start_inclusive: !one_in(rng, 3),
            end_inclusive: rng.random(),
            totals: match rng.random_range(0..8) {
                0..4 => Totals::Exact,
                4 => Totals::Capped(rng.random_range(5..200)),
                5 => Totals::OverBy(rng.random_range(1..4)),
                6 => Totals::Absent,
                _ => Totals::SometimesAbsent(rng.random_range(5..60)),
            },
            order: match rng.random_range(0..6) {
                0..3 => Order::Descending,
                3..5 => Order::Ascending,
                _ => Order::Arbitrary,
            },
            honours_sort: rng.random(),
            shuffles_ties: one_in(rng, 3),
            depth_limit: (!one_in(rng, 6)).then(|| rng.random_range(20..200)),
            beyond_depth: if rng.random() { BeyondDepth::Error } else { BeyondDepth::Empty },
            max_page_size: rng.random_range(3..60),
            oversize: if one_in(rng, 4) { Oversize::Refused } else { Oversize::Clamped },
            pagination: match rng.random_range(0..6) {
                0..4 => Pagination::Json,
                4 => Pagination::Separate,
                _ => Pagination::None,
            },
            ignores_page_number: one_in(rng, 40),
            retention_days: (!one_in(rng, 3)).then(|| rng.random_range(3..40)),
            retention_axis: if one_in(rng, 3) { Axis::Imported } else { axis },
            parent_alone_fails: one_in(rng, 4),
            strict_fields: one_in(rng, 4),
            refused_statuses: Vec::new(),
            empty: match rng.random_range(0..3) {
                0 => EmptyAnswer::List,
                1 => EmptyAnswer::Null,
                _ => EmptyAnswer::ZeroBytes,
            },
            no_organization: if rng.random() { NoOrganization::Own } else { NoOrganization::Empty },
            revoked_status: if rng.random() { 403 } else { 440 },
            gzip: one_in(rng, 3),
            unpaged_maintenance: one_in(rng, 3),
            oldest_checkins_first: one_in(rng, 3),
            ..Self::default()
        }
    }

    /// The page size really used for a size asked for (0 is the vendor's default of 25).
    ///
    /// # Errors
    /// Refuses an oversize where the dialect does.
    pub fn page_size(&self, asked: u64) -> Result<u64, Refusal> {
        match (asked, self.oversize) {
            (0, _) => Ok(25.min(self.max_page_size)),
            (size, _) if size <= self.max_page_size => Ok(size),
            (_, Oversize::Clamped) => Ok(self.max_page_size),
            (_, Oversize::Refused) => Err(Refusal { status: 400, message: "Invalid page size" }),
        }
    }

    /// The total that an answer to this request carries, of so many listed rows.
    pub fn total(&self, listed: u64, request: u64) -> Option<u64> {
        if self.pagination == Pagination::None {
            return None;
        }
        match self.totals {
            Totals::Exact => Some(listed),
            Totals::Capped(cap) => Some(listed.min(cap)),
            Totals::OverBy(extra) => Some(if listed == 0 { 0 } else { listed + extra }),
            Totals::Absent => None,
            Totals::SometimesAbsent(percent) => (mix(request) % 100 >= u64::from(percent)).then_some(listed),
        }
    }

    /// Whether the portal lists a row at this moment, to a request whose range holds it.
    pub fn lists(&self, row: &Row, now: Micros) -> bool {
        row.listed_from <= now
            && row.deleted_at.is_none_or(|deleted| deleted > now)
            && !self.expired(row, now)
    }

    /// Whether a row is older than the retention.
    pub fn expired(&self, row: &Row, now: Micros) -> bool {
        self.retention_days
            .is_some_and(|days| self.retention_axis.of(row) < now.saturating_sub(Micros::from(days) * DAY))
    }
}
