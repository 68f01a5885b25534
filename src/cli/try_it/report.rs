//! What a portal was found to be.

use serde::Serialize;

use crate::cli::doctor::Tried;
use crate::model::OrganizationId;
use crate::source::{Source, by_name};

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

impl Report {
    /// How many of the answers are not what collecting needs.
    pub(super) fn wrong(&self) -> usize {
        // Of unmanaged devices nothing is collected unless it is asked for, and few portals have them.
        let is_usual = |tried: &&Tried| by_name(tried.source).is_none_or(Source::is_managed);
        let sources = self.sources.iter().filter(is_usual).filter(|source| !source.readable).count();
        let kept_out = !self.token_accepted || self.trouble.is_some();
        usize::from(kept_out) + usize::from(self.children_trouble.is_some()) + sources
    }
}
