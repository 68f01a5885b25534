//! What a stream tells the store, and what it asks of it.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::Notes;
use crate::coverage::Interval;
use crate::model::{Lane, Micros, OrganizationId, RowIds, Seconds};
use crate::record::enrichment::Sighting;
use crate::store::StoreError;
use crate::store::backfill::Again;

/// A silence of so many expected gaps means something. Of rows that come by chance one gap in 400 is as
/// long; three gaps, as the design had it, would be one in 20 and cry wolf at every other poll.
pub const EXPECTED_GAPS: Micros = 6;
/// One row on its way into the store.
#[derive(Clone, Debug)]
pub struct RowCommit {
    pub uid: Uuid,
    pub organization: OrganizationId,
    pub organization_name: Option<String>,
    pub vendor_id: Option<String>,
    /// When it happened, as the row says.
    pub time: Option<Micros>,
    /// Its time on the axis that the portal filters by.
    pub at: Micros,
    /// Its time on the other axis.
    pub other: Option<Micros>,
    /// Whether it becomes an entry if it is new; else it is only counted, and withheld.
    pub enter: bool,
    /// Whether it becomes an entry also where it was withheld before.
    pub owed: bool,
    /// What it tells of a computer.
    pub sighting: Option<Arc<Sighting>>,
    /// Its uid as a row of the source to which rated rows belong, too.
    pub also: Option<Uuid>,
    pub body: Bytes,
}

/// What stands or falls together.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    pub lane: Option<Lane>,
    /// The portal's time.
    pub collected: Micros,
    pub rows: Vec<RowCommit>,
    /// Rows that nobody can read: an id made from their bytes, the bytes and why.
    pub dead: Vec<(Uuid, Bytes, String)>,
    /// Files every row held so far by its other time first: the portal turned out to filter by that.
    pub swap_axis: bool,
    /// A range of the coverage and what stands in it now.
    pub intervals: Option<((Seconds, Seconds), Vec<Interval>)>,
    pub notes: Option<Notes>,
    /// What an operator asked for and the notes and intervals now owe.
    pub taken_up: Option<(Seconds, Seconds)>,
    /// Covered time that was to be walked again, and how far down from its end it was.
    pub walked_again: Option<(Again, Seconds)>,
}

/// An organization that lists nothing although its rows are usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    pub organization: OrganizationId,
    /// Its newest row.
    pub since: Micros,
}

/// What the store knows for one stream. Ranges are `[from, to)` on the portal's axis.
pub trait Ledger: Send + Sync {
    /// Stores rows not seen before as entries, and the rest of the commit, in one transaction.
    /// Answers how many rows became entries.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Time that an operator asks for and that was not taken up yet.
    fn asked_back(&self) -> impl Future<Output = Result<Option<(Seconds, Seconds)>, StoreError>> + Send;
    /// Covered time that is to be walked again, for what sinks are owed of it.
    fn asked_again(&self) -> impl Future<Output = Result<Option<Again>, StoreError>> + Send;
    /// Rows held and not gone.
    fn held(&self, from: Micros, to: Micros) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Marks held rows in the range that are not among `listed` as gone; answers how many.
    fn gone(
        &self,
        from: Micros,
        to: Micros,
        listed: RowIds,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Whether a held row at exactly this time is missing from `listed`.
    fn left_out(&self, at: Micros, listed: RowIds) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Whether silence from `since` to `until` is unusual: there were rows in at least 20 of the 24 hours
    /// before, and the newest of them is more than [`EXPECTED_GAPS`] expected gaps, and a minute, old.
    /// Answers that newest row's time.
    fn unusual_silence(
        &self,
        since: Micros,
        until: Micros,
    ) -> impl Future<Output = Result<Option<Micros>, StoreError>> + Send;
    /// Whether no computer of the scope checked in since `from`, seen by a walk after `to`.
    fn no_checkins(&self, from: Micros, to: Micros) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Organizations whose rows are usual and that list nothing for [`EXPECTED_GAPS`] expected gaps and 15
    /// minutes.
    fn silent(&self, now: Micros) -> impl Future<Output = Result<Vec<Silent>, StoreError>> + Send;
    /// The organizations below the scope, as far as they are known, and its own.
    fn organizations(&self) -> impl Future<Output = Result<Vec<OrganizationId>, StoreError>> + Send;
    /// Rows of one organization held and not gone.
    fn held_of(
        &self,
        organization: &OrganizationId,
        from: Micros,
        to: Micros,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Those rows that were never seen.
    fn unknown(
        &self,
        rows: Vec<RowCommit>,
    ) -> impl Future<Output = Result<Vec<RowCommit>, StoreError>> + Send;
    /// When the newest of the connection's organizations was first seen.
    fn newest_organization(&self) -> impl Future<Output = Result<Option<Micros>, StoreError>> + Send;
    /// Forgets rows with both times before `before`; `gone_only` spares what the portal still lists.
    fn prune(&self, before: Micros, gone_only: bool) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
