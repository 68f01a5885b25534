//! What a portal was found to be.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::OrganizationId;

/// All that was found out; absent is what could not be.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) base_url: String,
    /// Whether anything that speaks HTTP answered.
    pub(super) reached: bool,
    /// Whether the token was accepted.
    pub(super) token_accepted: bool,
    /// Why not, and what to do.
    pub(super) trouble: Option<String>,
    /// How far the portal's clock is ahead of ours.
    pub(super) clock_offset_seconds: Option<f64>,
    /// The token's own.
    pub(super) organization: Option<OrganizationId>,
    /// Those below it; absent where they are not listed.
    pub(super) children: Option<Vec<Child>>,
    /// Why they are not.
    pub(super) children_trouble: Option<String>,
    pub(super) sources: Vec<Tried>,
    /// Of all sources, as far as they could be counted.
    pub(super) rows_a_day: u64,
    pub(super) bytes_a_day: u64,
    /// The first backfill at the default rate, all sources one after the other.
    pub(super) backfill_minutes: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Child {
    pub(super) id: OrganizationId,
    pub(super) name: String,
}

/// One source.
#[derive(Debug, Serialize)]
pub(super) struct Tried {
    pub(super) source: &'static str,
    /// The portal permission that it needs.
    pub(super) permission: &'static str,
    pub(super) readable: bool,
    /// Why not, and what to do.
    pub(super) trouble: Option<String>,
    /// How many there are: rows of the last 24 hours, or things at all.
    pub(super) total: Option<u64>,
    /// How that is known.
    pub(super) counted: Counted,
    /// Whether the rows are asked for by time; else all of them at every poll, and changes are delivered.
    pub(super) by_time: bool,
    /// Mean of the rows looked at, as the portal sends them.
    pub(super) bytes_a_row: Option<f64>,
    pub(super) bytes_a_day: Option<u64>,
    /// Requests of the first backfill, or of one walk of all.
    pub(super) requests: Option<u64>,
    /// What those take at the default rate.
    pub(super) minutes: Option<f64>,
    /// Up to three, as the portal sends them.
    pub(super) rows: Vec<Box<RawValue>>,
}

/// How a total is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Counted {
    /// The portal says so.
    ByPortal,
    /// It does not, and so many were listed: there may be more.
    AtLeast,
    /// It does not, and all were listed.
    ByListing,
    Not,
}

impl Report {
    /// How many of the answers are not what collecting needs.
    pub(super) fn wrong(&self) -> usize {
        let sources = self.sources.iter().filter(|source| !source.readable).count();
        usize::from(!self.token_accepted) + usize::from(self.children_trouble.is_some()) + sources
    }
}
