//! The portal's answer to a window query, as a pure function of rows, query, moment and dialect.
//!
//! The HTTP side and the in-memory property tests both stand on it. Rows are ordered by the dialect's
//! axis, so a request costs what its range holds and not what the portal holds.

use super::dialect::{BeyondDepth, Dialect, Order};
use super::dice::mix;
use crate::model::Micros;

/// What a row says, as far as its writer needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Content {
    /// Written from this number; rows without an id that share it, time and organization are equal.
    Generated(u64),
    /// The `Read` row of a request to the endpoint of this number (contract section 4.1).
    Own(u8),
    /// Bytes served as they are, by their place in the world's list.
    Raw(u32),
}

/// One row that the portal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Absent for rows whose id is null (contract section 4.1).
    pub id: Option<u64>,
    pub content: Content,
    /// `dateTime`, by the agent's clock: may be late or in the future.
    pub at: Micros,
    /// `dateTimeImported`, by the portal's clock.
    pub imported: Micros,
    /// The first moment at which it can be listed.
    pub listed_from: Micros,
    /// The first moment at which it can be listed no more.
    pub deleted_at: Option<Micros>,
    /// Index of the organization; 0 is the parent.
    pub organization: u16,
    /// Index of the action type, below 32.
    pub action: u8,
    /// `sourceTableId`.
    pub table: u8,
    pub threat: Threat,
}

/// What the portal thinks of the file of a row (contract section 6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Threat {
    /// Listed where only known threats are asked for.
    pub known: bool,
    /// Whether engines rated it (`engineRatings`).
    pub ratings: bool,
    /// `threatSeverityLevel`, and from when on the row says so.
    pub level: Option<(&'static str, Micros)>,
}

impl Threat {
    /// The level that the row says at this moment.
    pub fn level(&self, now: Micros) -> Option<&'static str> {
        self.level.filter(|(_, from)| *from <= now).map(|(level, _)| level)
    }

    /// Whether the row is a threat at this moment, for either reason.
    pub fn is_one(&self, now: Micros) -> bool {
        self.known || self.level(now).is_some()
    }
}

/// Whose rows are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The parent with the child flag: everything.
    Tree,
    /// One organization without the child flag.
    Organization(u16),
}

/// A request for one page of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    pub from: Micros,
    pub to: Micros,
    /// Starts at 1.
    pub page: u64,
    pub size: u64,
    pub scope: Scope,
    /// Bit n: rows of action type n are wanted.
    pub actions: u32,
    /// `sortDescending`.
    pub descending: bool,
    pub table: u8,
    /// `showKnownThreatsOnly`.
    pub known_threats: bool,
    /// `showTotalCount`.
    pub with_total: bool,
}

impl Query {
    /// Page one of 500 rows of the whole tree in an interval.
    pub fn window(from: Micros, to: Micros) -> Self {
        Self {
            from,
            to,
            page: 1,
            size: 500,
            scope: Scope::Tree,
            actions: u32::MAX,
            descending: true,
            table: 1,
            known_threats: false,
            with_total: true,
        }
    }
}

/// When a request is answered, and what is wrong with the portal then.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment<'a> {
    pub now: Micros,
    /// Number of the request; the seed of what differs from request to request.
    pub request: u64,
    /// Organizations of which the portal shows nothing at the moment.
    pub silent: &'a [u16],
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Indices into the rows, in the order of the page.
    pub rows: Vec<usize>,
    /// What the answer says of the total; absent where the dialect says nothing.
    pub total: Option<u64>,
    /// Differs from the size asked for where the dialect clamps it.
    pub page_size_used: u64,
}

/// An answer that is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub message: &'static str,
}

impl Refusal {
    /// The portal's usual opaque fault (contract section 8.2).
    pub const OPAQUE: Self = Self { status: 500, message: "A problem occurred with the request" };
}

/// Answers one request. `rows` must be ordered by `dialect.axis` ([`super::listing::Listing`] keeps
/// them so).
///
/// # Errors
/// Refuses an oversize page, a page beyond the depth and a parent alone, where the dialect does.
pub fn answer(
    rows: &[Row],
    query: &Query,
    dialect: &Dialect,
    moment: &Moment<'_>,
) -> Result<Answer, Refusal> {
    let size = dialect.page_size(query.size)?;
    if dialect.parent_alone_fails && query.scope == Scope::Organization(0) {
        return Err(Refusal::OPAQUE);
    }
    let page = if dialect.ignores_page_number { 1 } else { query.page.max(1) };
    let too_deep = dialect.depth_limit.is_some_and(|limit| page.saturating_mul(size) > limit.max(size));
    if too_deep && dialect.beyond_depth == BeyondDepth::Error {
        return Err(Refusal::OPAQUE);
    }

    let mut listed = matching(rows, query, dialect, moment);
    let total = if query.with_total { dialect.total(listed.len() as u64, moment.request) } else { None };
    let skip = usize::try_from((page - 1).saturating_mul(size)).unwrap_or(usize::MAX);
    if too_deep || skip >= listed.len() {
        return Ok(Answer { rows: Vec::new(), total, page_size_used: size });
    }
    arrange(&mut listed, rows, query, dialect, moment.request);
    listed.drain(..skip);
    listed.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    Ok(Answer { rows: listed, total, page_size_used: size })
}

/// The rows of the query's range and filters that the portal lists now, ascending on the axis.
fn matching(rows: &[Row], query: &Query, dialect: &Dialect, moment: &Moment<'_>) -> Vec<usize> {
    let axis = dialect.axis;
    let before_start = |row: &Row| {
        if dialect.start_inclusive { axis.of(row) < query.from } else { axis.of(row) <= query.from }
    };
    let before_end = |row: &Row| {
        if dialect.end_inclusive { axis.of(row) <= query.to } else { axis.of(row) < query.to }
    };
    let start = rows.partition_point(before_start);
    let end = rows.partition_point(before_end).max(start);
    let wanted = |row: &Row| {
        row.table == query.table
            && (row.threat.known || !query.known_threats)
            && query.actions & (1 << (row.action & 31)) != 0
            && (query.scope == Scope::Tree || query.scope == Scope::Organization(row.organization))
            && !moment.silent.contains(&row.organization)
            && dialect.lists(row, moment.now)
    };
    (start..end).filter(|&index| wanted(&rows[index])).collect()
}

/// Puts ascending rows into the order in which the dialect lists them.
fn arrange(listed: &mut [usize], rows: &[Row], query: &Query, dialect: &Dialect, request: u64) {
    let order = match (dialect.honours_sort, query.descending) {
        (false, _) => dialect.order,
        (true, true) => Order::Descending,
        (true, false) => Order::Ascending,
    };
    match order {
        Order::Ascending => {}
        Order::Descending => listed.reverse(),
        Order::Arbitrary => {
            listed.sort_by_key(|&index| (mix(rows[index].id.unwrap_or(0)), rows[index].content));
            return;
        }
    }
    if dialect.shuffles_ties {
        let same = |a: &usize, b: &usize| dialect.axis.of(&rows[*a]) == dialect.axis.of(&rows[*b]);
        for ties in listed.chunk_by_mut(same).filter(|ties| ties.len() > 1) {
            ties.sort_by_cached_key(|&index| mix(request ^ mix(index as u64)));
        }
    }
}

#[cfg(test)]
mod tests;
