//! Kafka: exactly once where the brokers keep transactions, at least once elsewhere.
//!
//! A batch is one transaction: its records, and one record with all positions of the sink in a compacted topic. Either
//! readers of committed records see both, or neither. After a crash the positions at Kafka say what was delivered,
//! whatever the store had heard of it (`kafka/state.rs` says when they are believed). The transactional id stands in the
//! state, so a copy of the state fences its original and never writes beside it. Without transactions an idempotent
//! producer writes in order and without repeats while it lives; a crash between writing and confirming repeats a batch.
//!
//! Every error ends the `Session`; the next one begins with what Kafka has. librdkafka blocks, so it runs on threads of
//! its own; a future that is dropped tells it to give up, and what it left half done is aborted by the next session.

mod bearer;
mod context;
mod error;
pub mod look;
mod patience;
mod positions;
mod session;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

pub use error::Trouble;
pub use settings::{
    Compression, KafkaConfig, Key, Mechanism, Proof, Sasl, Tls, Transactional, check_property,
};
pub use topic::{TopicError, TopicTemplate};

use crate::clock::Clock;
use crate::format::Format;
use crate::model::Positions;
use crate::sink::{Batch, Refusal, SinkState};
use patience::Patience;
use session::{Opening, Session};
use settings::Secrets;
use state::{Judgement, Saved, Told};

/// What every transactional id begins with: one rule lets in all sinks.
const ID_PREFIX: &str = "lockstep-";
/// How long reaching the brokers and reading the positions may take.
const OPENING: Duration = Duration::from_secs(60);
/// How long writing and committing a batch may take; longer than librdkafka itself tries.
const WRITING: Duration = Duration::from_secs(50);

/// How long aborting what an error left open may take.
const RESTING: Duration = Duration::from_secs(10);

/// Where tests stop the program, in the order in which a batch meets them.
pub const FAULT_POINTS: &[&str] = &["kafka.commit.before", "kafka.commit.after"];

/// Writes records to topics.
#[derive(Debug)]
pub struct KafkaSink {
    name: String,
    config: KafkaConfig,
    format: Format,
    batch_bytes: u64,
    clock: Clock,
    session: Option<Arc<Session>>,
    /// As it is to be saved; none before the first [`KafkaSink::recover`].
    saved: Option<Saved>,
    /// The state of this session is safe: a sink that crashes before its first batch begins anew.
    is_saved: bool,
    /// What Kafka has once the transaction in hand is committed.
    positions: Positions,
    /// A transaction is open.
    open: bool,
    /// What Kafka has, without transactions, of records that are not committed yet.
    taken: HashSet<Uuid>,
    /// The records of the batch written last.
    written: Vec<Uuid>,
    notices: Vec<String>,
    /// What it promises has been said.
    promised: bool,
}

/// What opening a session came to.
struct Opened {
    session: Arc<Session>,
    saved: Saved,
    /// None where those of the store count.
    positions: Option<Positions>,
    notice: Option<String>,
}

impl KafkaSink {
    pub(crate) fn new(
        name: &str,
        config: KafkaConfig,
        format: Format,
        batch_bytes: u64,
        clock: Clock,
    ) -> Self {
        Self {
            name: name.to_owned(),
            config,
            format,
            batch_bytes,
            clock,
            session: None,
            saved: None,
            is_saved: false,
            positions: Positions::new(),
            open: false,
            taken: HashSet::new(),
            written: Vec::new(),
            notices: Vec::new(),
            promised: false,
        }
    }

    /// Begins a session. Answers the positions that Kafka has, where it has any. `ours`: what the store has.
    pub(crate) async fn recover(
        &mut self,
        saved: &SinkState,
        ours: &Positions,
    ) -> Result<Option<Positions>, Trouble> {
        let former = self.session.take();
        (self.open, self.is_saved) = (false, false);
        let secrets = self.config.secrets().await?;
        let saved = Saved::read(&saved.0)?;
        let begin = Begin {
            name: self.name.clone(),
            config: self.config.clone(),
            format: self.format,
            batch_bytes: self.batch_bytes,
            secrets,
            clock: self.clock.clone(),
            fresh: hex(self.clock.bytes()),
        };
        let opened = blocking("opening a session", OPENING, move |patience| {
            drop(former);
            begin.session(saved, patience)
        });
        let Opened { session, saved, positions, notice } = opened.await?;
        self.promise(saved.transactional);
        self.notices.extend(notice);
        (self.session, self.saved) = (Some(session), Some(saved));
        self.positions = positions.clone().unwrap_or_else(|| ours.clone());
        Ok(positions)
    }

    fn promise(&mut self, transactional: bool) {
        if !transactional && !self.promised {
            self.notices.push(
                "this sink delivers at least once, without transactions: after a crash a batch may come twice, with the \
                 same uid in every record"
                    .to_owned(),
            );
        }
        self.promised = true;
    }

    /// The topics of the batch must exist; its token must be safe before it is written.
    pub(crate) async fn prepare(&mut self, batch: &Batch) -> Result<Option<SinkState>, Trouble> {
        let (session, batch) = (self.session()?, batch.clone());
        blocking("looking at topics", OPENING, move |patience| session.know_topics(&batch, patience)).await?;
        let token = hex(self.clock.bytes());
        let saved = self.saved.as_mut().expect("recovered before");
        if saved.transactional {
            saved.writing = Some(token);
        } else if self.is_saved {
            return Ok(None);
        }
        self.is_saved = true;
        Ok(Some(SinkState(saved.bytes())))
    }

    /// Writes the batch into a transaction that stays open, where there are transactions. Elsewhere nothing takes back
    /// what was written, so it is remembered until the batch is committed: where it is held for the sake of what was
    /// refused, only the rest is written again.
    pub(crate) async fn write(&mut self, batch: &Batch) -> Result<Vec<Refusal>, Trouble> {
        let (session, whole) = (self.session()?, batch.clone());
        let transactional = self.saved.as_ref().is_some_and(|saved| saved.transactional);
        self.open = transactional;
        let places = batch.records.iter().enumerate();
        let there =
            places.filter(|(_, record)| self.taken.contains(&record.uid)).map(|(place, _)| place).collect();
        let written = blocking("writing records", WRITING, move |patience| {
            if transactional {
                session.begin()?;
            }
            session.write(&whole, there, patience)
        });
        let refused = written.await?;
        if !transactional {
            self.written = batch.records.iter().map(|record| record.uid).collect();
            self.taken.extend(&self.written);
            for refusal in &refused {
                self.taken.remove(&batch.records[refusal.record].uid);
            }
        }
        Ok(refused)
    }

    /// Makes the transaction count, with the positions in it.
    pub(crate) async fn commit(&mut self, positions: &Positions) -> Result<SinkState, Trouble> {
        let session = self.session()?;
        for (lane, number) in positions {
            let known = self.positions.entry(*lane).or_default();
            *known = (*known).max(*number);
        }
        let saved = self.saved.as_mut().expect("recovered before");
        // Where nothing was prepared there is nothing but positions to write: they may keep the token of the last
        // batch, and where there was none, the store's word is enough.
        let token = if self.open { saved.writing.clone() } else { saved.written.clone() };
        if let Some(token) = token.filter(|_| saved.transactional) {
            let told = Told::new(token.clone(), &self.positions);
            let open = std::mem::replace(&mut self.open, false);
            let committed = blocking("committing a transaction", WRITING, move |patience| {
                if !open {
                    session.begin()?;
                }
                session.commit(&told, patience)
            });
            let offset = committed.await?;
            (saved.written, saved.writing) = (Some(token), None);
            saved.offset = offset.or(saved.offset);
        }
        for uid in self.written.drain(..) {
            self.taken.remove(&uid);
        }
        Ok(SinkState(saved.bytes()))
    }

    /// Ends the transaction that is open, if one is: as long as it is, readers of committed records wait.
    pub(crate) async fn rest(&mut self) {
        let Some(session) = self.session.take_if(|_| self.open) else { return };
        self.open = false;
        let abort = move |patience: &Patience| session.abort(patience);
        if let Err(error) = blocking("aborting a transaction", RESTING, abort).await {
            tracing::debug!(%error, "the next session aborts what was left open");
        }
    }

    pub(crate) fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn session(&self) -> Result<Arc<Session>, Trouble> {
        self.session.clone().ok_or(Trouble::Abandoned { doing: "a session that was never opened" })
    }
}

/// What a session begins with.
struct Begin {
    name: String,
    config: KafkaConfig,
    format: Format,
    batch_bytes: u64,
    secrets: Secrets,
    clock: Clock,
    /// For an id, should there be none yet.
    fresh: String,
}

impl Begin {
    fn session(self, saved: Option<Saved>, patience: &Patience) -> Result<Opened, Trouble> {
        let configured = match self.config.transactional {
            Transactional::Auto => saved.as_ref().map(|saved| saved.transactional),
            Transactional::Always => Some(true),
            Transactional::Never => Some(false),
        };
        let mut notice = None;
        // Another answer than the one that was kept is another beginning: what was written under the old one no
        // longer counts.
        let kept = saved.filter(|saved| {
            let same = configured.is_none_or(|configured| configured == saved.transactional);
            if !same {
                notice = Some(format!(
                    "this sink was set from {} to {}: it goes on from what the state says, and may repeat its last batch",
                    promise(saved.transactional),
                    promise(!saved.transactional)
                ));
            }
            same
        });
        let first = kept.is_none();
        let saved = kept.unwrap_or_else(|| Saved::new(self.fresh.clone(), configured.unwrap_or(true)));
        if !saved.transactional {
            return self.without_transactions(saved, notice, patience);
        }
        let session = Session::open(self.opening(Some(&saved.id)), patience)?;
        // Looked at before anything is taken over: a copy of the state that has nothing to say leaves the original in
        // peace.
        if saved.written.is_some() {
            self.judge(&saved, session.positions(saved.offset, false, patience)?.as_ref())?;
        }
        let able = match session.take_over(patience) {
            Ok(()) if first => session.probe(patience),
            other => other,
        };
        match able {
            Ok(()) => {}
            Err(Trouble::NoTransactions { why, .. }) if configured.is_none() => {
                drop(session);
                let notice = format!(
                    "the brokers keep no transactions ({why}), so this sink will do without from now on"
                );
                let saved = Saved::new(saved.id, false);
                return self.without_transactions(saved, Some(notice), patience);
            }
            Err(trouble) => return Err(trouble),
        }
        let found = session.positions(saved.offset, true, patience)?;
        let positions = self.judge(&saved, found.as_ref())?;
        let mut saved = saved;
        if let Some(told) = found.filter(|_| positions.is_some()) {
            // From here on no earlier session can commit any more.
            (saved.written, saved.writing) = (Some(told.token), None);
        }
        Ok(Opened { session, saved, positions, notice })
    }

    fn without_transactions(
        &self,
        saved: Saved,
        notice: Option<String>,
        patience: &Patience,
    ) -> Result<Opened, Trouble> {
        let session = Session::open(self.opening(None), patience)?;
        Ok(Opened { session, saved, positions: None, notice })
    }

    /// The positions that count, or none where those of the store do.
    fn judge(&self, saved: &Saved, found: Option<&Told>) -> Result<Option<Positions>, Trouble> {
        let topic = self.config.positions_topic.clone();
        let is_accepted = |word: &String| self.config.accept_lost_positions.as_ref() == Some(word);
        match saved.judge(found) {
            Judgement::Theirs(positions) => Ok(Some(positions)),
            Judgement::None => Ok(None),
            Judgement::Lost(word) | Judgement::Foreign(word) if is_accepted(&word) => Ok(None),
            Judgement::Lost(word) => Err(Trouble::PositionsLost { topic, word }),
            Judgement::Foreign(word) => Err(Trouble::PositionsForeign { topic, word }),
        }
    }

    fn opening(&self, id: Option<&str>) -> Opening {
        Opening {
            sink: self.name.clone(),
            config: self.config.clone(),
            format: self.format,
            secrets: self.secrets.clone(),
            clock: self.clock.clone(),
            batch_bytes: self.batch_bytes,
            transactional_id: id.map(|id| format!("{ID_PREFIX}{}-{id}", self.name)),
        }
    }
}

fn promise(transactional: bool) -> &'static str {
    if transactional { "exactly once" } else { "at least once" }
}

/// Runs what blocks on a thread of its own, for so long at most. Whoever drops the future ends it soon.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    longest: Duration,
    work: impl FnOnce(&Patience) -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let (patience, _give_up) = Patience::new(longest);
    match tokio::task::spawn_blocking(move || work(&patience)).await {
        Ok(done) => done,
        Err(error) => Err(Trouble::Failed { doing, why: error.to_string() }),
    }
}

fn hex(bytes: [u8; 8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
