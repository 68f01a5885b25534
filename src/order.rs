//! What an operator may order to be done to the state, whether a program runs on it or not ([`crate::control::give`]).

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::dead_letters::{self, Stays};
use crate::store::owed::{self, Asked};
use crate::store::replays::{self, Stretch, Wanted};

/// Something to be done, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Dead letters, by number, wait for their sinks again.
    Retry(Vec<i64>),
    /// Dead letters, by number, are forgotten.
    Drop(Vec<i64>),
    /// A sink delivers again what it had.
    Replay(Wanted),
    /// It does not, as far as it has not yet.
    GiveUpReplay { sink: String },
    /// What a sink let go is collected for it.
    Refill { sink: String },
    /// What a sink let go is wanted no more.
    Forget { sink: String },
}

/// What came of an [`Order`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// How much was done: letters, stretches, streams asked, entries forgotten.
    pub count: u64,
    /// Dead letters that stay what they are, and why.
    pub stay: Vec<(i64, String)>,
    /// Why nothing was done.
    pub not: Option<String>,
    /// What is replayed.
    pub stretches: Vec<Stretch>,
}

impl Order {
    /// Does it.
    pub fn carry_out(&self, db: &Connection) -> Result<Done, StoreError> {
        let mut done = Done::default();
        match self {
            Order::Retry(numbers) => {
                for number in numbers {
                    match dead_letters::retry(db, *number)? {
                        Ok(()) => done.count += 1,
                        Err(why) => done.stay.push((*number, told(why).to_owned())),
                    }
                }
            }
            Order::Drop(numbers) => {
                for number in numbers {
                    match dead_letters::drop_letter(db, *number)? {
                        true => done.count += 1,
                        false => done.stay.push((*number, told(Stays::Unknown).to_owned())),
                    }
                }
            }
            Order::Replay(wanted) => match replays::start(db, wanted)? {
                Some(stretches) => {
                    done.count = stretches.len() as u64;
                    done.stretches = stretches;
                }
                None => {
                    done.not = Some(format!(
                        "sink {0} has not delivered again all that was ordered before: wait for it, or give \
                         `lockstep replay --sink {0} --cancel`",
                        wanted.sink
                    ));
                }
            },
            Order::GiveUpReplay { sink } => done.count = u64::from(replays::give_up(db, sink)?),
            Order::Refill { sink } => match owed::ask(db, sink)? {
                Asked::Streams(streams) => done.count = streams,
                Asked::InDoubt => {
                    done.not = Some(format!(
                        "sink {sink} has not worked since it let that go: mend it first, `lockstep status` says what it \
                         waits for"
                    ));
                }
                Asked::Nobody => {
                    done.not = Some(format!(
                        "nothing reads what sink {sink} let go any more: its sites or sources are configured no more"
                    ));
                }
            },
            Order::Forget { sink } => done.count = owed::forget(db, sink)?,
        }
        Ok(done)
    }
}

/// Why a dead letter stays one, and what to do.
fn told(why: Stays) -> &'static str {
    match why {
        Stays::Unknown => "there is none of this number; `lockstep dead-letters list` shows which there are",
        Stays::NeverRead => {
            "its row could not be read when it was collected, so there is no entry to try again: once a version reads it, \
             `lockstep backfill` over its time collects it"
        }
        Stays::Bare => {
            "an older version of lockstep wrote it, which did not keep its entry; its bytes are all there is"
        }
        Stays::Unreadable => "this version cannot read its entry either",
        Stays::NoSink => "its sink is configured no more",
    }
}
