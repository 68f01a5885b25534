//! From the outbox to the sinks: read, encode, write, confirm; one worker a sink.
//!
//! Each worker goes its own pace over all lanes that hold something for its sink, so a slow or dead sink holds
//! up no other. One round: the lanes that are pending ([`outbox::pending`]), a batch of them (`assemble.rs`),
//! dead letters committed first, the state that the sink wants to be safe before it writes, the write, dead
//! letters for what the sink refuses, and last the sink's new state together with the positions. While a sink over the
//! network writes, the batch behind is put together. Whatever fails, the worker forgets that one and starts again from
//! what the store holds, as after a crash; [`crate::sink`] says what a sink makes of that.

mod assemble;
mod error;
pub mod inventory;
mod letters;
mod refusals;
mod room;
mod status;
#[cfg(test)]
mod tests;
mod today;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::epitaph::{Epitaph, REMEDY};
use crate::model::{Lane, Positions};
use crate::sink::{Remedy, Sink, SinkConfig, SinkState};
use crate::store::outbox;
use crate::store::replays::{self, Replay};
use crate::store::sink_days::{self, Given};
use crate::store::{Store, StoreError, WriterDb, sinks};
use assemble::Assembled;
pub use error::DeliverError;
use inventory::Inventory;
use letters::by_sink;
use refusals::Refusals;
use room::{FULL, SHORT};
pub use status::{Notice, PendingStatus, SinkCondition, SinkStatus, Today};
use today::day_number;
use work::{Assembler, Ready, Work};

/// How a worker behaves; the same for every sink unless its configuration says otherwise.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Encoded bytes of a batch; a single larger entry makes a batch of its own.
    pub batch_bytes: usize,
    /// First and longest pause after failures that may pass; the pause doubles in between.
    pub pause: (Duration, Duration),
    /// How often a held sink looks whether the operator has acted.
    pub look_again: Duration,
    /// How often a worker that nobody woke looks by itself.
    pub tick: Duration,
    /// How long the batch in hand may take once the worker is stopped, where the sink can be dropped.
    pub last_batch: Duration,
    /// Stored bytes of all dead letters from which on a sink is held rather than adding more.
    pub dead_letter_bytes: u64,
    /// Percent of the last 1,000 records (and at least 20) that may be refused before the sink is held; none
    /// for no limit.
    pub most_refused: Option<usize>,
    /// Stored bytes that the outbox may hold.
    pub outbox_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_bytes: 2 << 20,
            pause: (Duration::from_secs(1), Duration::from_secs(60)),
            look_again: Duration::from_secs(60),
            tick: Duration::from_secs(5),
            last_batch: Duration::from_secs(3),
            dead_letter_bytes: 1 << 30,
            most_refused: Some(5),
            outbox_bytes: u64::MAX,
        }
    }
}

/// The fault point between a confirmed batch and whatever comes next.
pub const FAULT_POINTS: &[&str] = &["deliver.confirm.after"];

/// Delivers to one sink.
pub struct Worker {
    name: String,
    assembler: Assembler,
    /// The next batch is put together while one is written: worth its memory where writing is waiting.
    looks_ahead: bool,
    /// The batch that comes after the one that was written last.
    ahead: Option<Ready>,
    /// Where the list of all computers stands.
    inventory: Vec<PathBuf>,
    max_per_day: Option<u64>,
    sink: Sink,
    /// The sink's state as the store holds it.
    saved: SinkState,
    recovered: bool,
    /// What the sink missed while it was not configured has been said.
    missed_said: bool,
    turn: usize,
    refusals: Refusals,
    store: Store,
    clock: Clock,
    settings: Settings,
    appended: watch::Receiver<()>,
    status: watch::Sender<SinkStatus>,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Delivered,
    /// Nothing is pending.
    Empty,
}

impl Worker {
    /// A worker for a sink that [`sinks::configure`] has entered, with the state it answered. `appended`
    /// changes when the store has new entries.
    pub fn new(
        config: &SinkConfig,
        saved: Vec<u8>,
        store: Store,
        clock: Clock,
        budget: Budget,
        settings: Settings,
        appended: watch::Receiver<()>,
    ) -> Self {
        let now = clock.now();
        let status = SinkStatus::new(&config.name, config.kind.as_str(), config.format.as_str(), now);
        let largest = usize::try_from(config.kind.largest_batch()).unwrap_or(usize::MAX);
        let settings = Settings { batch_bytes: settings.batch_bytes.min(largest), ..settings };
        let batch_bytes = u64::try_from(settings.batch_bytes).expect("memory is smaller");
        let assembler = Assembler {
            name: config.name.clone(),
            format: config.format,
            redact: config.redact.clone(),
            select: Arc::new(config.select.clone()),
            store: store.clone(),
            budget,
            batch_bytes: settings.batch_bytes,
        };
        Self {
            name: config.name.clone(),
            assembler,
            looks_ahead: config.kind.is_far(),
            ahead: None,
            inventory: config.kind.inventory().to_vec(),
            max_per_day: config.max_per_day,
            sink: Sink::new(config, batch_bytes, &clock),
            saved: SinkState(saved),
            recovered: false,
            missed_said: false,
            turn: 0,
            refusals: Refusals::default(),
            store,
            clock,
            settings,
            appended,
            status: watch::channel(status).0,
        }
    }

    /// What the log shows of it with every line; to be entered by whoever runs it.
    pub fn span(&self) -> tracing::Span {
        // A span below the level of the log would not be shown with the lines in it.
        tracing::error_span!("sink", sink = self.name)
    }

    /// What keeps the list of all computers beside the records, where the sink has one. It runs on its own.
    pub fn inventory(&self) -> Option<Inventory> {
        (!self.inventory.is_empty()).then(|| Inventory {
            paths: self.inventory.clone(),
            select: Arc::clone(&self.assembler.select),
            redact: self.assembler.redact.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            status: self.status.clone(),
        })
    }

    /// What the worker tells of itself, kept up to date.
    pub fn status(&self) -> watch::Receiver<SinkStatus> {
        self.status.subscribe()
    }

    /// Delivers until it is `done`, and finishes the batch in hand; that only `stop` cuts short.
    pub async fn run(&mut self, done: &CancellationToken, stop: &CancellationToken) {
        let (status, clock) = (self.status.clone(), self.clock.clone());
        let _epitaph = Epitaph(|| {
            let what = "its worker broke off, which is a mistake in lockstep";
            tracing::error!("{what}: {REMEDY}");
            status.send_modify(|status| {
                status.become_condition(SinkCondition::Broken, clock.now());
                status.last_error = Some(format!("{what}: {REMEDY}"));
            });
        });
        let mut failures = 0;
        while !done.is_cancelled() {
            let Some(round) = self.round_until(done, stop).await else { break };
            let pause = match round {
                Ok(Round::Delivered) => {
                    failures = 0;
                    continue;
                }
                Ok(Round::Empty) => {
                    failures = 0;
                    self.settings.tick
                }
                Err(error) => {
                    failures += 1;
                    let pause = self.failed(&error, failures);
                    tokio::select! {
                        () = self.sink.rest() => {}
                        () = stop.cancelled() => {}
                    }
                    pause
                }
            };
            self.pause(pause, failures, done).await;
        }
        let now = self.clock.now();
        self.status.send_modify(|status| status.become_condition(SinkCondition::Stopped, now));
    }

    /// Waits for what comes, or so long after failures, and meanwhile leaves the others their room.
    async fn pause(&mut self, pause: Duration, failures: u32, done: &CancellationToken) {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            let woken = async {
                // A failing sink keeps its pace, however much comes in. A sender that is gone wakes nobody.
                if failures > 0 || self.appended.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = done.cancelled() => return,
                () = woken => return,
                () = self.sink.mended(), if failures > 0 => return,
                () = tokio::time::sleep_until(until.min(Instant::now() + self.settings.tick)) => {}
            }
            if failures > 0
                && let Err(error) = self.make_room(SHORT).await
            {
                tracing::warn!(%error, "what this sink is owed cannot be looked at");
            }
        }
    }

    /// Delivers what is pending and returns once nothing is left, or with the error once the sink is held or
    /// has failed three times in a row. Also returns when stopped.
    pub async fn until_empty(&mut self, stop: &CancellationToken) -> Result<(), DeliverError> {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let Some(round) = self.round_until(stop, stop).await else { break };
            match round {
                Ok(Round::Delivered) => failures = 0,
                Ok(Round::Empty) => break,
                Err(error) => {
                    failures += 1;
                    let pause = self.failed(&error, failures);
                    tokio::select! {
                        () = self.sink.rest() => {}
                        () = stop.cancelled() => {}
                    }
                    if error.remedy() == Remedy::Hold || failures == 3 {
                        return Err(error);
                    }
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Closes what the sink keeps open between batches, at the end of a pass after which nobody writes on.
    pub async fn finish(&mut self) -> Result<(), DeliverError> {
        let long_after = self.clock.now() + chrono::Duration::days(36_500);
        while let Some(state) = self.sink.idle(long_after).await? {
            self.save(state).await?;
        }
        Ok(())
    }

    /// Says what went wrong and how long to wait. The next round begins with the sink's recovery.
    fn failed(&mut self, error: &DeliverError, failures: u32) -> Duration {
        self.recovered = false;
        self.ahead = None;
        self.take_notices();
        let (now, text) = (self.clock.now(), error.to_string());
        let (condition, pause) = match error.remedy() {
            Remedy::Hold => (SinkCondition::Held, self.settings.look_again),
            Remedy::Retry => {
                let (first, longest) = self.settings.pause;
                let pause = first.saturating_mul(1 << (failures - 1).min(16)).min(longest);
                let pause = self.clock.jittered(pause, 0.2);
                (SinkCondition::Retrying, error.wait().map_or(pause, |wait| pause.max(wait)))
            }
        };
        self.status.send_modify(|status| {
            if status.last_error.as_ref() != Some(&text) {
                tracing::warn!(error = text, held = condition == SinkCondition::Held, "delivery failed");
            }
            status.become_condition(condition, now);
            status.last_error = Some(text);
        });
        pause
    }

    /// A round, or none where it did not end soon enough after the worker was stopped: what it left half done is
    /// settled by the next start, as after a crash.
    async fn round_until(
        &mut self,
        done: &CancellationToken,
        stop: &CancellationToken,
    ) -> Option<Result<Round, DeliverError>> {
        let (can_be_dropped, last_batch) = (self.sink.can_be_dropped(), self.settings.last_batch);
        let patience = async {
            stop.cancelled().await;
            match can_be_dropped {
                true => tokio::time::sleep(last_batch).await,
                false => std::future::pending().await,
            }
        };
        let round = tokio::select! {
            biased;
            round = self.round(done) => Some(round),
            () = patience => None,
        };
        if round.is_none() {
            self.recovered = false;
            self.ahead = None;
        }
        round
    }

    /// One batch, start to commit, or what is due while there is none.
    async fn round(&mut self, stop: &CancellationToken) -> Result<Round, DeliverError> {
        // Before looking: what is appended from here on wakes the worker again.
        self.appended.mark_unchanged();
        self.make_room(FULL).await?;
        if !self.recovered {
            // A far side that is away is owed no less for it.
            self.pending().await?;
            self.recover().await?;
        }
        let ready = match self.ahead.take() {
            Some(ready) => ready,
            None => {
                let Some(work) = self.pending().await? else {
                    while let Some(state) = self.sink.idle(self.clock.now()).await? {
                        self.save(state).await?;
                    }
                    self.take_notices();
                    self.well();
                    return Ok(Round::Empty);
                };
                let ready = self.assembler.assemble(work, self.turn, stop).await?;
                let Some(ready) = ready else { return Ok(Round::Empty) };
                ready
            }
        };
        // Once for every batch, whenever it was put together.
        self.turn = self.turn.wrapping_add(1);
        let (assembler, turn) = (self.assembler.clone(), self.turn);
        let written = (self.looks_ahead && ready.leaves_more(self.settings.batch_bytes))
            .then(|| ready.assembled.positions.clone());
        let look_ahead = async {
            match written {
                Some(written) => assembler.look_ahead(written, turn).await,
                None => Ok(None),
            }
        };
        let (delivered, ahead) = tokio::join!(self.deliver(ready), look_ahead);
        delivered?;
        // What goes wrong in looking ahead shows once more in its own round.
        if let Ok(Some(ahead)) = ahead {
            self.status.send_modify(|status| status.set_pending(&ahead.pending));
            self.ahead = ahead.ready;
        }
        Ok(Round::Delivered)
    }

    /// What is to be delivered next; all that is pending is told.
    async fn pending(&mut self) -> Result<Option<Work>, StoreError> {
        let pending = self.assembler.pending().await?;
        self.status.send_modify(|status| status.set_pending(&pending.all));
        Ok(pending.next)
    }

    async fn recover(&mut self) -> Result<(), DeliverError> {
        if !self.missed_said {
            let name = self.name.clone();
            for missed in self.store.read(move |db| outbox::missed(db, &name)).await? {
                self.note(format!(
                    "this sink was not configured for a while: entries {} to {} of the {} lane of {} are gone and \
                     were never delivered to it",
                    missed.position + 1,
                    missed.pruned,
                    missed.lane.as_str(),
                    missed.site
                ));
            }
            self.missed_said = true;
        }
        let (name, today) = (self.name.clone(), self.clock.now().date_naive());
        let known = self
            .store
            .read(move |db| Ok((sinks::positions(db, &name)?, sink_days::of(db, &name, day_number(today))?)));
        let (ours, sum) = known.await?;
        self.tell_today(today, sum);
        let theirs = self.sink.recover(&self.saved, &ours).await?;
        self.take_notices();
        if let Some(theirs) = theirs {
            self.take_over(&ours, theirs).await?;
        }
        let name = self.name.clone();
        self.store.write(move |db| sinks::recovered(db, &name)).await?;
        self.recovered = true;
        Ok(())
    }

    /// What the far side has is delivered, although a crash kept the store from hearing of it.
    async fn take_over(&mut self, ours: &Positions, theirs: Positions) -> Result<(), DeliverError> {
        let behind = ours.iter().find(|(lane, number)| theirs.get(lane).is_none_or(|theirs| theirs < number));
        if let Some((&(_, lane), &number)) = behind {
            return Err(DeliverError::PositionsLost { lane: lane.as_str(), number });
        }
        self.confirm(theirs, self.saved.clone(), Given::default()).await?;
        Ok(())
    }

    /// Nothing is confirmed before the sink has it, and nothing given up before its dead letter is safe.
    async fn deliver(&mut self, ready: Ready) -> Result<(), DeliverError> {
        let Ready { work, assembled, memory: _memory } = ready;
        let Assembled { mut batch, positions, refused, unknown } = assembled;
        batch.again = matches!(work, Work::Again(_));
        // What is refused once more says nothing new.
        let counts = |lane: Lane| lane != Lane::Refill;
        let records = batch.records.iter().filter(|record| counts(record.lane)).count();
        let unencoded = refused.iter().filter(|refused| counts(refused.lane)).count();
        self.bury(refused, &self.refusals.with(records, unencoded)).await?;
        let mut refusals = self.refusals.with(records, unencoded);
        let (mut taken, mut taken_bytes) = (0, batch.buffer.len());
        if !batch.records.is_empty() {
            if let Some(state) = self.sink.prepare(&batch, self.clock.now()).await? {
                self.save(state).await?;
            }
            let refused = self.sink.write(&batch).await?;
            taken = batch.records.len() - refused.len();
            let refused_bytes = refused.iter().map(|one| batch.records[one.record].bytes.len());
            taken_bytes -= refused_bytes.sum::<usize>();
            let counted = refused.iter().filter(|refusal| counts(batch.records[refusal.record].lane)).count();
            refusals = self.refusals.with(records - counted, unencoded + counted);
            self.bury(refused.iter().map(|refusal| by_sink(&batch, refusal)).collect(), &refusals).await?;
        }
        let given = Given { records: count(taken), bytes: count(taken_bytes) };
        match work {
            Work::Pending(_) => {
                let state = self.sink.commit(&positions).await?;
                self.confirm(positions, state, given).await?;
            }
            Work::Again(replay) => {
                let state = self.sink.commit(&Positions::new()).await?;
                self.confirm_again(replay, &positions, state, given).await?;
            }
        }
        self.refusals = refusals;
        self.take_notices();
        self.well();
        let now = self.clock.now();
        self.status.send_modify(|status| {
            status.last_confirmed = Some(now);
            status.delivered_records += u64::try_from(taken).expect("memory is smaller");
            status.unmapped_action_types += unknown;
            status.delivered_bytes += u64::try_from(batch.buffer.len()).expect("memory is smaller");
        });
        Ok(())
    }

    async fn save(&mut self, state: SinkState) -> Result<(), StoreError> {
        let (name, bytes) = (self.name.clone(), state.0.clone());
        self.store.write(move |db| sinks::save_state(db, &name, &bytes)).await?;
        self.saved = state;
        Ok(())
    }

    /// `given`: what of it is new, which counts for the day.
    async fn confirm(
        &mut self,
        positions: Positions,
        state: SinkState,
        given: Given,
    ) -> Result<(), StoreError> {
        let (name, bytes, today) = (self.name.clone(), state.0.clone(), self.clock.now().date_naive());
        let confirm = move |db: &WriterDb| {
            sinks::confirm(db, &name, &positions, &bytes)?;
            sink_days::add(db, &name, day_number(today), given)
        };
        let sum = self.store.write(confirm).await?;
        fail::fail_point!("deliver.confirm.after", |_| Ok(()));
        self.saved = state;
        self.tell_today(today, sum);
        Ok(())
    }

    async fn confirm_again(
        &mut self,
        replay: Replay,
        positions: &Positions,
        state: SinkState,
        given: Given,
    ) -> Result<(), StoreError> {
        let (name, bytes, site) = (self.name.clone(), state.0.clone(), replay.pending.site.clone());
        let lane = (replay.pending.connection, replay.pending.lane);
        let reached = positions.get(&lane).copied().filter(|number| *number > replay.pending.position);
        let today = self.clock.now().date_naive();
        let confirm = move |db: &WriterDb| {
            sinks::save_state(db, &name, &bytes)?;
            Ok((
                replays::delivered(db, &replay, reached, given.records)?,
                sink_days::add(db, &name, day_number(today), given)?,
            ))
        };
        let (done, sum) = self.store.write(confirm).await?;
        if done {
            tracing::info!(site, lane = lane.1.as_str(), "a stretch was delivered again");
        }
        self.saved = state;
        self.tell_today(today, sum);
        Ok(())
    }

    fn well(&self) {
        let now = self.clock.now();
        self.status.send_modify(|status| {
            status.become_condition(SinkCondition::Ok, now);
            status.last_error = None;
        });
    }

    fn take_notices(&mut self) {
        for notice in self.sink.notices() {
            self.note(notice);
        }
    }

    fn note(&self, text: String) {
        tracing::warn!("{text}");
        let now = self.clock.now();
        self.status.send_modify(|status| status.note(text, now));
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).expect("memory is smaller")
}
