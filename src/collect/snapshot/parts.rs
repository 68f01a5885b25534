//! A snapshot that the portal lists in parts only, from one to another of which a row moves: no list of all is there
//! to be walked (contract section 7.1).
//!
//! What is pending is read to its end at every poll. What is settled is listed from what was done last downwards, and
//! read until a page tells nothing new; at once, where a row left the pending ones. A sweep reads every part to its
//! end. That a row is gone is only concluded from sweeps of all parts, since it may be in the one that could not be
//! read, or have moved to one that was read before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::{Asking, Seen, SnapshotStream, Unfinished, WALKS, is_deleted, save_notes};
use crate::collect::{CollectError, Listing};
use crate::coverage::walk::RowId;
use crate::model::{Micros, RowIds};
use crate::portal::{PortalError, Remedy, SAFE_PAGE_SIZE};
use crate::source::Parts;
use crate::store::WriterDb;

/// Rows beyond which a portal need not list anything (contract section 1.6).
const DEPTH: u64 = 10_000;

/// How the parts are asked. Times are the portal's.
#[derive(Clone, Copy, Debug)]
pub struct PartsSettings {
    pub parts: &'static Parts,
    /// Between two looks at all but the pending ones.
    pub settled_every: Micros,
    /// Between two readings of all parts to their ends.
    pub sweep: Micros,
    /// What was settled so long before the first start gives no entry.
    pub backfill: Micros,
    /// The portal is asked which applications match what is told.
    pub matching: bool,
}

/// What is remembered of the parts; a member of [`super::SnapshotNotes`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartsNotes {
    /// When collecting began.
    pub start: Option<Micros>,
    /// When all but the pending ones were last looked at, and when all were last read to their ends.
    pub settled: Micros,
    pub swept: Micros,
    /// Parts that were ever listed.
    pub answered: BTreeSet<u8>,
    /// Parts that the portal refuses while it lists others.
    pub skipped: BTreeSet<u8>,
    /// Parts whose last reading told anything new and did not come to its end: what lies below is not known.
    pub broken_off: BTreeSet<u8>,
    /// How many rows the portal counted in each part when it was last read.
    pub totals: BTreeMap<u8, u64>,
}

impl PartsNotes {
    /// Notes, with a page, that its part was read in part.
    pub(super) fn read(&mut self, part: u8, news: u64) {
        if part != 0 && news > 0 {
            self.broken_off.insert(part);
        }
    }
}

/// What a stream saw since it was loaded.
#[derive(Debug, Default)]
pub struct Memory {
    /// Whether all parts were looked at.
    looked: bool,
    /// What was pending at the last poll that could tell.
    pending: Option<RowIds>,
    /// When what had left the pending ones was last looked for everywhere.
    searched: Micros,
    /// The portal's count in its last answer.
    pub(super) total: Option<u64>,
    /// That was of a report that shows a span of time.
    pub(super) dated: bool,
    /// How often on end such a report was refused for an earlier span.
    pub(super) refusals: u32,
    /// How the portal answers what it is asked beside the list.
    pub asking: Asking,
}

/// One poll.
#[derive(Default)]
struct Round {
    listed: HashMap<u128, bool>,
    asked: usize,
    refused: Vec<(u8, Box<PortalError>)>,
    unfinished: Option<Unfinished>,
    /// Why a part could not be read that is not refused; the others were read all the same.
    failed: Option<Box<PortalError>>,
    /// Some part is longer than the portal lists.
    too_deep: bool,
}

impl Round {
    /// Whether the portal refused all that was asked, which is no matter of one part.
    fn is_refused(&self) -> bool {
        self.refused.len() == self.asked
    }

    /// Whether every part was read to its end.
    fn is_complete(&self) -> bool {
        self.refused.is_empty() && self.has_ended()
    }

    /// Whether every part was read to its end that the portal does not refuse.
    fn has_ended(&self) -> bool {
        self.failed.is_none() && self.unfinished.is_none() && !self.too_deep && !self.is_refused()
    }
}

/// How a part is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToTheEnd,
    /// Until a page tells nothing new.
    Newest,
}

impl<L: Listing> SnapshotStream<L> {
    /// Reads what is due of the parts. Answers how many entries that made.
    pub(super) async fn poll_parts(&mut self, settings: PartsSettings) -> Result<u64, CollectError> {
        let (before, now) = (self.notes.rows, self.listing.now());
        self.notes.parts.start.get_or_insert(now);
        self.memory.asking.begin_poll(now);
        let mut round = Round::default();
        if now - self.notes.parts.swept >= settings.sweep {
            self.sweep(settings, &mut round).await?;
        } else {
            self.look(settings, &mut round).await?;
        }
        self.finish(settings.parts, round).await?;
        Ok(self.notes.rows - before)
    }

    /// The time before which what is settled in a part is past.
    pub(super) fn history(&self, part: u8) -> Option<Micros> {
        if let Some(private) = &self.settings.filter.private {
            let backfill = Micros::try_from(private.backfill.as_micros()).unwrap_or(Micros::MAX);
            return Some(self.notes.began?.saturating_sub(backfill));
        }
        let settings = self.settings.parts.filter(|settings| settings.parts.settled.contains(&part))?;
        Some(self.notes.parts.start? - settings.backfill)
    }

    /// Whether a part was read as deep as a portal lists anything.
    pub(super) fn is_deep(&self, page: u32) -> bool {
        self.settings.parts.is_some()
            && page > 1
            && u64::from(page).saturating_mul(self.settings.page_size.into()) >= DEPTH
    }

    /// The pending ones and, where it is time or one of them is pending no more, all others.
    async fn look(&mut self, settings: PartsSettings, round: &mut Round) -> Result<(), CollectError> {
        let (parts, now) = (settings.parts, self.listing.now());
        let pending = self.ask(parts.pending, Way::ToTheEnd, round).await?;
        let left: Vec<u128> = match (&self.memory.pending, &pending) {
            (Some(before), Some(pending)) => before.difference(pending).copied().collect(),
            _ => Vec::new(),
        };
        let is_due = !self.memory.looked || now - self.notes.parts.settled >= settings.settled_every;
        if is_due || !left.is_empty() {
            let others: Vec<u8> =
                parts.all.iter().copied().filter(|part| self.is_wanted(parts, *part)).collect();
            for part in &others {
                let way = if parts.settled.contains(part) { Way::Newest } else { Way::ToTheEnd };
                self.ask(*part, way, round).await?;
            }
            let is_lost = left.iter().any(|id| !round.listed.contains_key(id));
            if is_lost && now - self.memory.searched >= settings.settled_every {
                self.memory.searched = now;
                for part in others.iter().filter(|part| parts.settled.contains(part)) {
                    self.ask(*part, Way::ToTheEnd, round).await?;
                }
            }
            if !round.is_refused() && round.failed.is_none() {
                self.notes.parts.settled = now;
                self.memory.looked = true;
            }
        }
        if let Some(pending) = pending {
            self.memory.pending = Some(pending);
        }
        Ok(())
    }

    /// A part that never answered is asked again with the next sweep only.
    fn is_wanted(&self, parts: &Parts, part: u8) -> bool {
        let notes = &self.notes.parts;
        part != parts.pending && (!notes.skipped.contains(&part) || notes.answered.contains(&part))
    }

    /// Reads every part to its end. What none of them lists may have moved from one that was read late to one that was
    /// read early: then all are read once more, the other way round.
    async fn sweep(&mut self, settings: PartsSettings, round: &mut Round) -> Result<(), CollectError> {
        let (parts, now) = (settings.parts, self.listing.now());
        let mut pending = None;
        for part in parts.all {
            let listed = self.ask(*part, Way::ToTheEnd, round).await?;
            pending = pending.or(listed.filter(|_| *part == parts.pending));
        }
        if round.is_complete() && self.leaves_out(round).await? {
            for part in parts.all.iter().rev() {
                self.ask(*part, Way::ToTheEnd, round).await?;
            }
        }
        if round.is_complete() {
            let seen = Seen { listed: std::mem::take(&mut round.listed), ..Seen::default() };
            self.conclude(seen).await?;
        } else if round.has_ended() && round.listed.is_empty() {
            let refused = round.refused.iter().map(|(part, _)| *part).collect();
            self.doubt(parts, refused).await?;
        }
        self.memory.pending = pending.or(self.memory.pending.take());
        if round.is_refused() || round.failed.is_some() {
            return Ok(());
        }
        self.memory.looked = true;
        self.notes.parts.settled = now;
        // What would not hold still is read again sooner than a day later.
        self.notes.parts.swept = match round.unfinished {
            Some(Unfinished::Walk(_)) => now - (settings.sweep - settings.settled_every).max(0),
            _ => now,
        };
        Ok(())
    }

    /// Nothing is listed any more, and not all of it can be read.
    async fn doubt(&mut self, parts: &'static Parts, refused: BTreeSet<u8>) -> Result<(), CollectError> {
        let (page, mut notes) = (self.page_now(), self.notes.clone());
        let doubt = move |db: &WriterDb| {
            page.doubt(db, parts, &refused)?;
            page.note_unknown(db, &mut notes)?;
            save_notes(db, page.settings.stream, &notes)?;
            Ok(notes)
        };
        self.notes = self.store.write(doubt).await?;
        Ok(())
    }

    /// What is held as unknown and is listed again is known, whether or not every part can be read.
    async fn note_returned(&mut self) -> Result<(), CollectError> {
        if self.notes.unknown.is_empty() {
            return Ok(());
        }
        let (page, mut notes) = (self.page_now(), self.notes.clone());
        let note = move |db: &WriterDb| page.note_unknown(db, &mut notes).map(|()| notes);
        self.notes = self.store.write(note).await?;
        Ok(())
    }

    async fn leaves_out(&self, round: &Round) -> Result<bool, CollectError> {
        let (page, listed) = (self.page_now(), round.listed.clone());
        Ok(self.store.write(move |db| page.leaves_out(db, &listed)).await?)
    }

    /// Reads one part. Answers what it lists, where that is certain.
    async fn ask(&mut self, part: u8, way: Way, round: &mut Round) -> Result<Option<RowIds>, CollectError> {
        round.asked += 1;
        let read = match way {
            Way::ToTheEnd => self.read_to_the_end(part).await,
            Way::Newest => self.newest(part).await,
        };
        let listed = match read {
            Err(CollectError::Refused(error)) => {
                round.refused.push((part, error));
                return Ok(None);
            }
            // The pending ones are read first: where they are listed, neither the token nor the portal is at fault.
            Err(CollectError::Portal(error)) if round.asked > 1 => match error.remedy() {
                Remedy::MissingRole(_) => {
                    round.refused.push((part, error));
                    return Ok(None);
                }
                Remedy::Retry { after: None } => {
                    round.failed.get_or_insert(error);
                    return Ok(None);
                }
                _ => return Err(CollectError::Portal(error)),
            },
            read => read?,
        };
        self.answered(part);
        match listed {
            Ok(listed) => {
                let ids = listed.keys().copied().collect();
                round.listed.extend(listed);
                self.notes.parts.broken_off.remove(&part);
                Ok(Some(ids))
            }
            // All that the portal lists of it was read.
            Err(Unfinished::TooDeep) => {
                round.too_deep = true;
                self.notes.parts.broken_off.remove(&part);
                Ok(None)
            }
            Err(why) => {
                round.unfinished = Some(why);
                Ok(None)
            }
        }
    }

    async fn read_to_the_end(
        &mut self,
        part: u8,
    ) -> Result<Result<HashMap<u128, bool>, Unfinished>, CollectError> {
        let mut walked = Err(Unfinished::Unreadable(0));
        for _ in 0..WALKS {
            walked = self.walk(part, false, None).await?.map(|seen| seen.listed);
            if matches!(walked, Ok(_) | Err(Unfinished::TooDeep)) {
                break;
            }
        }
        self.note_total(part);
        Ok(walked)
    }

    /// Reads a part from what was done last downwards, until a page tells nothing new. Where that does not explain what
    /// the portal counts, or its rows are not in that order, the part is read to its end.
    async fn newest(&mut self, part: u8) -> Result<Result<HashMap<u128, bool>, Unfinished>, CollectError> {
        if self.notes.parts.broken_off.contains(&part) {
            return self.read_to_the_end(part).await;
        }
        let (mut listed, mut news, mut seen) = (HashMap::new(), 0, 0);
        let (mut total, mut last) = (None, None);
        for page in 1.. {
            let answer = match self.list(part, page, false, None).await {
                Err(CollectError::PageTooLarge(_)) if self.settings.page_size > SAFE_PAGE_SIZE => {
                    return self.read_to_the_end(part).await;
                }
                Err(CollectError::Refused(_)) if self.is_deep(page) => return Ok(Err(Unfinished::TooDeep)),
                answer => answer?,
            };
            self.memory.total = answer.total;
            let rows = (answer.rows.len() + answer.undecodable.len()) as u64;
            let moved = page > 1 && answer.total != total;
            let is_ordered = self.is_ordered(&answer.rows, &mut last);
            for row in &answer.rows {
                if let RowId::Vendor(id) = row.id {
                    listed.insert(id, is_deleted(row));
                }
            }
            let applied = self.apply(part, answer.rows, answer.undecodable, answer.reservation).await?;
            (news, seen, total) = (news + applied.news, seen + rows, answer.total);
            if moved || !is_ordered {
                return self.read_to_the_end(part).await;
            }
            if rows == 0 || applied.news == 0 || total.is_some_and(|total| seen >= total) {
                break;
            }
        }
        let explained = self.notes.parts.totals.get(&part).map(|known| known + news);
        if total.zip(explained).is_some_and(|(total, explained)| total != explained) {
            return self.read_to_the_end(part).await;
        }
        self.note_total(part);
        Ok(Ok(listed))
    }

    /// Whether rows stand in the order in which they are asked for, from the last one on.
    fn is_ordered(&self, rows: &[crate::collect::ListedRow], last: &mut Option<Micros>) -> bool {
        let Some(settings) = self.settings.parts else { return true };
        rows.iter().filter_map(|row| settings.parts.acted(&row.body)).all(|acted| {
            let before = last.replace(acted);
            before.is_none_or(|before| acted <= before)
        })
    }

    fn note_total(&mut self, part: u8) {
        match self.memory.total {
            Some(total) => self.notes.parts.totals.insert(part, total),
            None => self.notes.parts.totals.remove(&part),
        };
    }

    fn answered(&mut self, part: u8) {
        if self.notes.parts.skipped.remove(&part) {
            tracing::info!(status = part, "the portal lists this status again");
        }
        self.notes.parts.answered.insert(part);
    }

    /// Says what the poll came to and saves it.
    async fn finish(&mut self, parts: &Parts, mut round: Round) -> Result<(), CollectError> {
        self.note_returned().await?;
        let all_refused = round.is_refused();
        let mut pending_refused = round.failed.take();
        for (part, error) in round.refused.drain(..) {
            if part == parts.pending || all_refused {
                pending_refused.get_or_insert(error);
            } else if self.notes.parts.skipped.insert(part) {
                tracing::warn!(
                    status = part,
                    %error,
                    "the portal refuses this status and lists others: it is skipped, and asked again with the next sweep"
                );
            }
        }
        self.notes.unproven = match (&pending_refused, &round.unfinished) {
            (Some(error), _) => Some(error.to_string()),
            (None, Some(why)) => Some(why.to_string()),
            (None, None) => {
                self.notes.complete = Some(self.listing.now());
                None
            }
        };
        self.save().await?;
        match (pending_refused, round.unfinished) {
            (Some(error), _) => Err(CollectError::from(*error)),
            // Told by the dead letters.
            (None, None | Some(Unfinished::Unreadable(_))) => Ok(()),
            (None, Some(why)) => Err(CollectError::Incomplete(why.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
