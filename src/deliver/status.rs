//! What a sink's worker tells of itself.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::inventory::InventoryStatus;
use crate::model::Lane;
use crate::store::outbox::PendingLane;
use crate::store::owed::Owed;

/// Notices kept for a reader of the status.
const MOST_NOTICES: usize = 20;

/// One sink, as its worker sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkStatus {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub format: String,
    pub state: SinkCondition,
    /// Since when it is in this state, on our clock.
    pub since: DateTime<Utc>,
    /// What went wrong last; stays until the next confirmation.
    pub last_error: Option<String>,
    /// Records and bytes confirmed since this process started.
    pub delivered_records: u64,
    pub delivered_bytes: u64,
    /// Confirmed records of kinds of rows that this version does not know, since this process started.
    #[serde(default)]
    pub unmapped_action_types: u64,
    /// Entries that became dead letters of this sink since this process started.
    pub dead_letters: u64,
    /// Lanes with something to deliver.
    pub pending: Vec<PendingStatus>,
    /// Their stored bytes.
    pub pending_bytes: u64,
    /// When the oldest entry not delivered was collected, on the portal's time.
    pub oldest_pending: Option<DateTime<Utc>>,
    /// When the sink last confirmed, on our clock.
    pub last_confirmed: Option<DateTime<Utc>>,
    /// Entries that it let go and nobody has collected for it yet.
    #[serde(default)]
    pub owed: Vec<Owed>,
    /// Entries that it is to deliver again, at most.
    #[serde(default)]
    pub replaying: u64,
    /// What it was given since midnight, UTC; none before it recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub today: Option<Today>,
    /// The list of all computers, where the sink has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<InventoryStatus>,
    /// What an operator should know, newest last.
    pub notices: VecDeque<Notice>,
}

/// What a sink was given on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Today {
    /// UTC, on our clock.
    pub day: NaiveDate,
    pub records: u64,
    /// As encoded, before packing.
    pub bytes: u64,
    /// From so many bytes on an operator is told.
    pub max_per_day: Option<u64>,
}

impl Today {
    /// The bound that the day of this moment is above.
    pub fn passed(&self, now: DateTime<Utc>) -> Option<u64> {
        self.max_per_day.filter(|max| self.day == now.date_naive() && self.bytes > *max)
    }
}

/// How a sink is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkCondition {
    Ok,
    /// It failed in a way that may pass, and is tried again.
    Retrying,
    /// An operator has to act; the error says how.
    Held,
    /// Its worker panicked, and nothing begins it anew.
    Broken,
    /// Its worker has ended.
    Stopped,
}

impl SinkCondition {
    pub const ALL: [Self; 5] = [Self::Ok, Self::Retrying, Self::Held, Self::Broken, Self::Stopped];

    /// As in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retrying => "retrying",
            Self::Held => "held",
            Self::Broken => "broken",
            Self::Stopped => "stopped",
        }
    }
}

/// One lane with entries above the sink's position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingStatus {
    pub site: String,
    pub lane: Lane,
    /// Compressed, as stored.
    pub bytes: u64,
    /// When its oldest entry was collected, on the portal's time.
    pub oldest: Option<DateTime<Utc>>,
}

/// Something that happened once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// On our clock.
    pub at: DateTime<Utc>,
    pub text: String,
}

impl SinkStatus {
    pub(crate) fn new(name: &str, kind: &str, format: &str, now: DateTime<Utc>) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            format: format.to_owned(),
            state: SinkCondition::Ok,
            since: now,
            last_error: None,
            delivered_records: 0,
            delivered_bytes: 0,
            unmapped_action_types: 0,
            dead_letters: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            oldest_pending: None,
            last_confirmed: None,
            owed: Vec::new(),
            replaying: 0,
            today: None,
            inventory: None,
            notices: VecDeque::new(),
        }
    }

    /// With what the state holds of it besides its lanes.
    pub(crate) fn with(
        mut self,
        owed: &mut BTreeMap<String, Vec<Owed>>,
        replays: &BTreeMap<String, u64>,
    ) -> Self {
        self.owed = owed.remove(&self.name).unwrap_or_default();
        self.replaying = replays.get(&self.name).copied().unwrap_or_default();
        self
    }

    pub(super) fn become_condition(&mut self, state: SinkCondition, now: DateTime<Utc>) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }

    pub(super) fn note(&mut self, text: String, now: DateTime<Utc>) {
        if self.notices.len() == MOST_NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(Notice { at: now, text });
    }

    pub(crate) fn set_pending(&mut self, lanes: &[PendingLane]) {
        self.pending = lanes
            .iter()
            .map(|lane| PendingStatus {
                site: lane.site.clone(),
                lane: lane.lane,
                bytes: lane.bytes,
                oldest: DateTime::from_timestamp_micros(lane.oldest),
            })
            .collect();
        self.pending_bytes = self.pending.iter().map(|lane| lane.bytes).sum();
        self.oldest_pending = self.pending.iter().filter_map(|lane| lane.oldest).min();
    }
}
