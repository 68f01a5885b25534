//! What the file sink must find again after a crash.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::template::FileName;
use crate::sink::{SinkError, SinkState};

const VERSION: u8 = 1;

/// The files that the sink has, and what it is about to do to them.
///
/// Saved as compressed MessagePack: paths repeat each other, and there may be thousands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    version: u8,
    /// The largest batch that may be half written, in bytes: how much longer than known a file may be.
    pub(super) batch: u64,
    /// Every name ever written, but for those that `forgotten` tells of.
    pub(super) names: BTreeMap<FileName, Name>,
    /// Names last used on this day or before may be missing in `names`.
    forgotten: Option<NaiveDate>,
    /// Closing renames that may or may not have happened.
    pub(super) closing: Vec<Closing>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Name {
    /// Number of the open file, or of the next one. Lower ones are closed.
    pub(super) sequence: u32,
    /// Newest day of collection written.
    pub(super) day: NaiveDate,
    pub(super) open: Option<Open>,
}

/// A file being written, under its `.part` name. Entered with length 0 before it is created.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    /// Bytes delivered and safe.
    pub(super) length: u64,
    /// When it was entered, in seconds since 1970 of our clock.
    opened: i64,
}

/// A recorded intent: the `.part` file of this name and number gets its closed name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Closing {
    pub(super) name: FileName,
    pub(super) sequence: u32,
    pub(super) length: u64,
}

impl State {
    pub(super) fn new(batch: u64) -> Self {
        Self { version: VERSION, batch, names: BTreeMap::new(), forgotten: None, closing: Vec::new() }
    }

    /// Reads a saved state; an empty one is a first start.
    pub(super) fn load(saved: &SinkState, batch: u64) -> Result<Self, SinkError> {
        if saved.0.is_empty() {
            return Ok(Self::new(batch));
        }
        let unreadable = |error: &dyn std::error::Error| SinkError::State(error.to_string());
        let bytes = zstd::decode_all(saved.0.as_slice()).map_err(|error| unreadable(&error))?;
        let state: Self = rmp_serde::from_slice(&bytes).map_err(|error| unreadable(&error))?;
        if state.version != VERSION {
            return Err(SinkError::State(format!("version {}", state.version)));
        }
        Ok(state)
    }

    pub(super) fn save(&self) -> SinkState {
        let bytes = rmp_serde::to_vec_named(self).expect("a state holds only text, numbers and days");
        SinkState(zstd::encode_all(bytes.as_slice(), 1).expect("memory takes every write"))
    }

    /// True when a name that is not listed was surely never written.
    pub(super) fn remembers(&self, day: NaiveDate) -> bool {
        self.forgotten.is_none_or(|forgotten| day > forgotten)
    }

    /// Intends to close the open file of a name and moves on to the next number.
    pub(super) fn close(&mut self, name: &FileName) {
        let Some(known) = self.names.get_mut(name) else { return };
        if let Some(open) = known.open.take() {
            self.closing.push(Closing { name: name.clone(), sequence: known.sequence, length: open.length });
            known.sequence += 1;
        }
    }

    /// Intends to close the files that are due. Empty ones were never written and wait for their records.
    pub(super) fn close_due(&mut self, now: DateTime<Utc>, size: u64, age: Duration) {
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let due = |open: &Open| {
            // A clock set back makes a file as old as one forgotten: closing early does no harm.
            open.length > 0 && (open.length >= size || (now.timestamp() - open.opened).abs() >= age)
        };
        let names: Vec<FileName> = self
            .names
            .iter()
            .filter(|(_, known)| known.open.as_ref().is_some_and(due))
            .map(|(name, _)| name.clone())
            .collect();
        names.iter().for_each(|name| self.close(name));
    }

    /// Intends to close the oldest files beyond `most`, but none that `needed` names.
    pub(super) fn close_beyond(&mut self, most: usize, needed: impl Fn(&FileName) -> bool) {
        let open = self.names.values().filter(|known| known.open.is_some()).count();
        let surplus = open.saturating_sub(most);
        if surplus == 0 {
            return;
        }
        let mut oldest: Vec<(NaiveDate, i64, FileName)> = self
            .names
            .iter()
            .filter_map(|(name, known)| {
                let open = known.open.as_ref().filter(|open| open.length > 0)?;
                (!needed(name)).then(|| (known.day, open.opened, name.clone()))
            })
            .collect();
        oldest.sort();
        for (_, _, name) in oldest.iter().take(surplus) {
            self.close(name);
        }
    }

    /// Forgets names beyond `most` that nothing is open under, oldest first. Where the path does not tell days
    /// apart (`has_date`) any day may come again.
    pub(super) fn forget_beyond(&mut self, most: usize, has_date: bool) {
        let surplus = self.names.len().saturating_sub(most);
        if surplus == 0 {
            return;
        }
        let mut idle: Vec<(NaiveDate, FileName)> = self
            .names
            .iter()
            .filter(|(name, known)| {
                known.open.is_none() && !self.closing.iter().any(|closing| closing.name == **name)
            })
            .map(|(name, known)| (known.day, name.clone()))
            .collect();
        idle.sort();
        for (day, name) in idle.into_iter().take(surplus) {
            self.names.remove(&name);
            let until = if has_date { day } else { NaiveDate::MAX };
            self.forgotten = self.forgotten.max(Some(until));
        }
    }
}

impl Open {
    pub(super) fn new(now: DateTime<Utc>) -> Self {
        Self { length: 0, opened: now.timestamp() }
    }
}
