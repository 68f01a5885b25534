//! The ledger of a stream, kept in the store.

mod also;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rusqlite::Connection;

pub use self::also::Also;
use super::window::{Commit, EXPECTED_GAPS, Ledger, Notes, RowCommit, Silent};
use crate::clock::Clock;
use crate::model::{
    Change, ConnectionId, Entry, Kind, Lane, Micros, OrganizationId, RowIds, SECOND, Seconds,
};
use crate::record::enrichment::Enrichment;
use crate::store::backfill::Again;
use crate::store::devices::{self, Told};
use crate::store::outbox::NewEntry;
use crate::store::refill::{self, Shared};
use crate::store::seen::{ListedBy, SeenRow};
use crate::store::{
    Store, StoreError, WriterDb, backfill, connections, dead_letters, outbox, owed, seen, streams, withheld,
};

const HOUR: Micros = 3_600 * SECOND;
/// Hours with rows, of 24, from which rows are usual.
const USUAL_HOURS: u64 = 20;
/// The shortest gap between rows of a whole stream that means anything.
const SHORTEST_GAP: Micros = 60 * SECOND;
/// The shortest silence of one organization that means anything.
const SHORTEST_SILENCE: Micros = 900 * SECOND;
/// The short key of no organization.
const NO_ORGANIZATION: i64 = -1;
/// Steps of packing behind one commit at most: what is left waits for the next one.
const PACKING_STEPS: u32 = 4;

/// One stream of one connection in the store.
#[derive(Clone)]
pub struct StreamLedger {
    pub store: Store,
    pub clock: Clock,
    pub connection: ConnectionId,
    pub epoch: i64,
    pub source: &'static str,
    pub kind: Kind,
    pub stream: i64,
    pub set: i64,
    /// The one organization that the stream asks for; absent for a tree.
    pub organization: Option<OrganizationId>,
    pub packing: Packing,
    /// Where rated rows are entered, too.
    pub also: Option<Box<Also>>,
}

/// How far a stream's seen rows are packed, as far as this life of the program knows.
#[derive(Clone, Debug, Default)]
pub struct Packing {
    /// All before was packed, but for what came since.
    before: Arc<AtomicI64>,
    /// Rows from before that came since.
    late: Arc<AtomicU64>,
}

impl StreamLedger {
    /// The short key of the stream's organization; the rows of a tree are those of all.
    fn organization_key(&self, db: &Connection) -> Result<Option<i64>, StoreError> {
        let now = self.clock.now().timestamp_micros();
        self.organization
            .as_ref()
            .map(|organization| connections::organization(db, self.connection, organization, None, now))
            .transpose()
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Self, &Connection, Option<i64>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = self.clone();
        if self.organization.is_none() {
            return self.store.read(move |db| job(&this, db, None)).await;
        }
        // The organization may have to be entered first.
        self.store
            .write(move |db| {
                let key = this.organization_key(db)?;
                job(&this, db, key)
            })
            .await
    }

    fn write_commit(&self, db: &WriterDb, commit: Commit) -> Result<u64, StoreError> {
        let stored = self.clock.now().timestamp_micros();
        connections::set_clock(db, self.connection, commit.collected, stored)?;
        if commit.swap_axis {
            seen::swap_axis(db, self.set)?;
        }
        let entered = self.enter(db, &commit, stored, ListedBy::TheSet)?;
        self.refill(db, &commit)?;
        if let Some(also) = &self.also {
            also.enter(db, &commit, stored)?;
        }
        for (uid, body, reason) in &commit.dead {
            dead_letters::insert(
                db,
                &dead_letters::NewDeadLetter {
                    sink: None,
                    connection: self.connection,
                    source: self.source,
                    organization_id: None,
                    number: None,
                    uid: Some(*uid),
                    vendor_id: None,
                    reason,
                    stored,
                    body,
                    entry: None,
                },
            )?;
        }
        if let Some((range, intervals)) = &commit.intervals {
            streams::replace_intervals(db, self.stream, *range, intervals)?;
        }
        if let Some(notes) = commit.notes {
            let notes = Notes { rows: notes.rows + entered, ..notes };
            let notes = serde_json::to_string(&notes).expect("notes hold only numbers and text");
            streams::set_notes(db, self.stream, &notes)?;
        }
        if let Some(asked) = commit.taken_up {
            backfill::taken_up(db, self.stream, asked)?;
        }
        if let Some((asked, reached)) = &commit.walked_again {
            backfill::walked_again(db, self.stream, asked, *reached)?;
        }
        Ok(entered)
    }

    /// Remembers the rows of a page and makes entries of the new ones. Answers how many.
    fn enter(
        &self,
        db: &WriterDb,
        commit: &Commit,
        stored: Micros,
        listed_by: ListedBy,
    ) -> Result<u64, StoreError> {
        let fresh = self.new_rows(db, &commit.rows, commit.collected, listed_by)?;
        let told: Vec<Option<Told>> = fresh.iter().map(|row| told(row, commit.collected)).collect();
        let known = devices::note_seen(db, &told, commit.collected)?;
        let entries: Vec<NewEntry<'_>> =
            fresh.iter().enumerate().map(|(place, (row, _))| self.entry(row, known.of(place))).collect();
        if !entries.is_empty() {
            let lane = commit.lane.unwrap_or(Lane::Backfill);
            outbox::append(
                db,
                self.connection,
                self.epoch,
                lane,
                self.source,
                commit.collected,
                stored,
                &entries,
            )?;
        }
        Ok(entries.len() as u64)
    }

    /// Enters the rows that a sink once let go, for that sink alone.
    fn refill(&self, db: &WriterDb, commit: &Commit) -> Result<(), StoreError> {
        if commit.rows.is_empty() {
            return Ok(());
        }
        let mut released: BTreeMap<(String, Micros), Vec<&RowCommit>> = BTreeMap::new();
        for sink in owed::asked(db, self.connection, self.source)? {
            for row in &commit.rows {
                let collected = owed::release(db, &sink, self.connection, self.source, row.uid)?;
                if let Some(collected) = collected {
                    released.entry((sink.clone(), collected)).or_default().push(row);
                }
            }
        }
        for ((sink, collected), rows) in released {
            let mut seen = Vec::with_capacity(rows.len());
            for row in &rows {
                let key = connections::organization(db, self.connection, &row.organization, None, collected)?;
                seen.push(told(&(row, key), commit.collected));
            }
            let known = devices::note_seen(db, &seen, commit.collected)?;
            let entries: Vec<(Entry<'_>, Enrichment<'_>)> = rows
                .iter()
                .enumerate()
                .map(|(place, row)| (self.entry(row, Enrichment::default()).numbered(0), known.of(place)))
                .collect();
            let (connection, source) = (self.connection, self.source);
            let shared = Shared { sink: &sink, connection, source, collected, retried: None };
            refill::append(db, &shared, &entries)?;
        }
        Ok(())
    }

    /// Remembers the rows and answers those that become entries, with the short keys of their organizations.
    fn new_rows<'r>(
        &self,
        db: &WriterDb,
        rows: &'r [RowCommit],
        now: Micros,
        listed_by: ListedBy,
    ) -> Result<Vec<(&'r RowCommit, i64)>, StoreError> {
        let mut organizations: HashMap<&OrganizationId, i64> = HashMap::new();
        let mut seen_rows = Vec::with_capacity(rows.len());
        for row in rows {
            let organization = match organizations.get(&row.organization) {
                Some(known) => *known,
                None => {
                    let name = row.organization_name.as_deref();
                    let key = connections::organization(db, self.connection, &row.organization, name, now)?;
                    organizations.insert(&row.organization, key);
                    key
                }
            };
            seen_rows.push(SeenRow { uid: row.uid, at: row.at, other: row.other, organization });
        }
        let mut hours: BTreeMap<(i64, i64), (u64, Micros)> = BTreeMap::new();
        let (mut fresh, mut fresh_rows) = (Vec::new(), Vec::new());
        let new = seen::insert(db, self.set, &seen_rows, listed_by)?;
        for ((row, seen_row), new) in rows.iter().zip(seen_rows).zip(new) {
            if new {
                let happened = row.time.unwrap_or(row.at);
                let hour = hours
                    .entry((seen_row.organization, happened.div_euclid(HOUR)))
                    .or_insert((0, Micros::MIN));
                *hour = (hour.0 + 1, hour.1.max(happened));
            } else if !(row.owed && withheld::release(db, self.set, row.uid)?) {
                continue;
            }
            if !row.enter {
                let time = row.other.map_or(row.at, |other| row.at.max(other));
                withheld::add(db, self.set, row.uid, time)?;
                continue;
            }
            fresh.push(row);
            fresh_rows.push(seen_row);
        }
        // What the stream's own query may never list must not make its silence unusual.
        let hours = Some(hours).filter(|_| listed_by == ListedBy::TheSet);
        for ((organization, hour), (rows, last_at)) in hours.into_iter().flatten() {
            seen::add_hour(db, self.set, organization, hour, rows, last_at)?;
        }
        let mut elsewhere = vec![false; fresh.len()];
        let siblings = match fresh.is_empty() {
            true => Vec::new(),
            false => seen::siblings(db, self.source, self.set)?,
        };
        for (sibling, connection) in siblings {
            // Short keys of organizations hold within a connection.
            let known = match connection == self.connection {
                true => seen::known(db, sibling, &fresh_rows)?,
                false => match rekeyed(db, connection, &fresh_rows, &fresh)? {
                    Some(rows) => seen::known(db, sibling, &rows)?,
                    None => continue,
                },
            };
            for ((row, known), elsewhere) in fresh_rows.iter().zip(known).zip(&mut elsewhere) {
                *elsewhere |= known && !withheld::holds(db, sibling, row.uid)?;
            }
        }
        let organizations = fresh_rows.iter().map(|row| row.organization);
        let fresh = fresh.into_iter().zip(organizations).zip(elsewhere);
        Ok(fresh.filter(|(_, elsewhere)| !elsewhere).map(|(row, _)| row).collect())
    }

    /// Packs seen rows whose hour closed long enough ago: once an hour, and sooner where many old rows come.
    async fn pack(&self, now: Micros, came: &[Micros]) -> Result<(), StoreError> {
        let (set, before) = (self.set, seen::packed_before(now));
        let Packing { before: packed, late } = &self.packing;
        let old = came.iter().filter(|at| **at < before).count() as u64;
        let waiting = late.fetch_add(old, Ordering::Relaxed) + old;
        if packed.load(Ordering::Relaxed) == before && waiting < seen::PACKED_ROWS {
            return Ok(());
        }
        for _ in 0..PACKING_STEPS {
            if self.store.write(move |db| seen::pack(db, set, before)).await? < seen::PACKED_ROWS {
                packed.store(before, Ordering::Relaxed);
                late.store(0, Ordering::Relaxed);
                break;
            }
        }
        Ok(())
    }

    fn entry<'r>(&self, row: &'r RowCommit, known: Enrichment<'r>) -> NewEntry<'r> {
        NewEntry {
            uid: row.uid,
            kind: self.kind,
            change: Change::New,
            organization: row.organization.as_str(),
            vendor_id: row.vendor_id.as_deref(),
            time: row.time,
            row: std::str::from_utf8(&row.body).expect("a listed row is checked text"),
            previous: None,
            known,
        }
    }
}

/// Seen rows with the short keys that another connection has for their organizations; nothing where it has none of them.
fn rekeyed(
    db: &Connection,
    connection: ConnectionId,
    seen: &[SeenRow],
    rows: &[&RowCommit],
) -> Result<Option<Vec<SeenRow>>, StoreError> {
    let mut keys: HashMap<&OrganizationId, i64> = HashMap::new();
    for row in rows {
        if !keys.contains_key(&row.organization) {
            let known = connections::known_organization(db, connection, &row.organization)?;
            keys.insert(&row.organization, known.map_or(NO_ORGANIZATION, |known| known.key));
        }
    }
    if keys.values().all(|key| *key == NO_ORGANIZATION) {
        return Ok(None);
    }
    let rekeyed =
        |(seen, row): (&SeenRow, &&RowCommit)| SeenRow { organization: keys[&row.organization], ..*seen };
    Ok(Some(seen.iter().zip(rows).map(rekeyed).collect()))
}

/// What a row tells of a computer, where it names one. Without a time of its own, or with one that is yet to come,
/// it counts as of now: a clock that is years ahead names no last user for years.
fn told(&(row, organization): &(&RowCommit, i64), now: Micros) -> Option<Told> {
    let sighting = Arc::clone(row.sighting.as_ref()?);
    Some(Told { organization, at: row.time.map_or(now, |time| time.min(now)), sighting })
}

impl Ledger for StreamLedger {
    async fn commit(&self, commit: Commit) -> Result<u64, StoreError> {
        let this = self.clone();
        let (now, came) = (commit.collected, commit.rows.iter().map(|row| row.at).collect::<Vec<_>>());
        let entered = self.store.write(move |db| this.write_commit(db, commit)).await?;
        self.pack(now, &came).await?;
        Ok(entered)
    }

    async fn asked_back(&self) -> Result<Option<(Seconds, Seconds)>, StoreError> {
        let stream = self.stream;
        self.store.read(move |db| backfill::asked(db, stream)).await
    }

    async fn asked_again(&self) -> Result<Option<Again>, StoreError> {
        let stream = self.stream;
        self.store
            .read(move |db| {
                for asked in backfill::asked_again(db, stream)? {
                    if !owed::is_backed_up(db, &asked.sink)? {
                        return Ok(Some(asked));
                    }
                }
                Ok(None)
            })
            .await
    }

    async fn held(&self, from: Micros, to: Micros) -> Result<u64, StoreError> {
        self.read(move |this, db, organization| seen::held(db, this.set, organization, from, to)).await
    }

    async fn gone(&self, from: Micros, to: Micros, listed: RowIds) -> Result<u64, StoreError> {
        let this = self.clone();
        self.store
            .write(move |db| {
                let organization = this.organization_key(db)?;
                seen::set_gone(db, this.set, organization, (from, to), &listed)
            })
            .await
    }

    async fn left_out(&self, at: Micros, listed: RowIds) -> Result<bool, StoreError> {
        self.read(move |this, db, organization| {
            seen::any_unlisted(db, this.set, organization, (at, at + 1), &listed)
        })
        .await
    }

    async fn unusual_silence(&self, since: Micros, until: Micros) -> Result<Option<Micros>, StoreError> {
        self.read(move |this, db, organization| {
            let Some((hours, rows, last_at)) = seen::rhythm(db, this.set, organization, since)? else {
                return Ok(None);
            };
            let unusual = hours >= USUAL_HOURS && until - last_at > expected(rows).max(SHORTEST_GAP);
            Ok(unusual.then_some(last_at))
        })
        .await
    }

    async fn no_checkins(&self, from: Micros, to: Micros) -> Result<bool, StoreError> {
        self.read(move |this, db, organization| {
            seen::no_checkins(db, this.connection, organization, from, to)
        })
        .await
    }

    async fn silent(&self, now: Micros) -> Result<Vec<Silent>, StoreError> {
        self.read(move |this, db, _| {
            let rhythms = seen::rhythms(db, this.set, now)?;
            Ok(rhythms
                .into_iter()
                .filter(|rhythm| is_silent(rhythm, now))
                .map(|rhythm| Silent {
                    organization: OrganizationId::new(&rhythm.organization_id),
                    since: rhythm.last_at,
                })
                .collect())
        })
        .await
    }

    async fn organizations(&self) -> Result<Vec<OrganizationId>, StoreError> {
        let connection = self.connection;
        self.store.read(move |db| connections::organizations(db, connection)).await
    }

    async fn held_of(
        &self,
        organization: &OrganizationId,
        from: Micros,
        to: Micros,
    ) -> Result<u64, StoreError> {
        let (connection, set, organization) = (self.connection, self.set, organization.clone());
        self.store
            .read(move |db| match connections::known_organization(db, connection, &organization)? {
                Some(known) => seen::held(db, set, Some(known.key), from, to),
                None => Ok(0),
            })
            .await
    }

    async fn unknown(&self, rows: Vec<RowCommit>) -> Result<Vec<RowCommit>, StoreError> {
        let (connection, set) = (self.connection, self.set);
        // Young rows are found by the writer alone.
        self.store
            .write(move |db| {
                let mut keys: HashMap<&OrganizationId, i64> = HashMap::new();
                let mut seen_rows = Vec::with_capacity(rows.len());
                for row in &rows {
                    let organization = match keys.get(&row.organization) {
                        Some(key) => *key,
                        None => {
                            let known = connections::known_organization(db, connection, &row.organization)?;
                            let key = known.map_or(NO_ORGANIZATION, |known| known.key);
                            keys.insert(&row.organization, key);
                            key
                        }
                    };
                    seen_rows.push(SeenRow { uid: row.uid, at: row.at, other: row.other, organization });
                }
                let known = seen::known(db, set, &seen_rows)?;
                Ok(rows.into_iter().zip(known).filter(|(_, known)| !known).map(|(row, _)| row).collect())
            })
            .await
    }

    async fn newest_organization(&self) -> Result<Option<Micros>, StoreError> {
        let connection = self.connection;
        self.store.read(move |db| connections::newest_organization(db, connection)).await
    }

    async fn prune(&self, before: Micros, gone_only: bool) -> Result<u64, StoreError> {
        let set = self.set;
        let mut pruned = 0;
        loop {
            let some = self.store.write(move |db| seen::prune(db, set, before, gone_only)).await?;
            pruned += some;
            if some == 0 {
                let (connection, source) = (self.connection, self.source);
                let forget = move |db: &WriterDb| {
                    withheld::prune(db, set, before)?;
                    owed::expire(db, connection, source, before)
                };
                for (sink, entries) in self.store.write(forget).await? {
                    tracing::warn!(
                        sink,
                        entries,
                        "the portal keeps no longer what this sink let go: the entries are lost to it"
                    );
                }
                return Ok(pruned);
            }
        }
    }
}

/// How long a silence may last where so many rows a day are usual.
fn expected(rows: u64) -> Micros {
    24 * HOUR / Micros::try_from(rows.max(1)).unwrap_or(Micros::MAX) * EXPECTED_GAPS
}

/// Whether an organization lists nothing for longer than its rhythm explains, with no witness: a walk
/// that listed its computers since, none of which checked in.
fn is_silent(rhythm: &seen::Rhythm, now: Micros) -> bool {
    let silence = now - rhythm.last_at;
    let witnessed = rhythm.last_listed.is_some_and(|listed| listed >= rhythm.last_at + SHORTEST_SILENCE)
        && rhythm.last_checkin.is_none_or(|checkin| checkin < rhythm.last_at);
    rhythm.hours >= USUAL_HOURS && silence > expected(rhythm.rows).max(SHORTEST_SILENCE) && !witnessed
}

#[cfg(test)]
mod tests;
