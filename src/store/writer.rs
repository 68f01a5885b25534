//! The one thread that writes: it takes every waiting job into one transaction, commits, and only
//! then answers them. An answer means durable.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::lock::DirectoryLock;
use super::{StoreError, WriterDb, sqlite};

/// Jobs waiting before callers have to wait themselves; also the most that share one commit.
pub(super) const QUEUE: usize = 64;
/// How long a reader may hold up a checkpoint, and with it the jobs behind.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(200);
/// Free pages are given back to the file system only in idle moments, this many at a time.
const VACUUM_PAGES: i64 = 512;
/// Fewer free pages than this (16 MiB) are kept for reuse.
const FREE_PAGES_KEPT: i64 = 4096;

pub(super) enum Message {
    Job(Box<dyn Job>),
    /// Answered by being dropped, once the directory is free.
    Close(oneshot::Sender<Infallible>),
}

/// A unit of work with its way back to the caller.
pub(super) trait Job: Send {
    fn run(self: Box<Self>, db: &WriterDb, path: &Path) -> Ran;
    /// Answers without having run.
    fn refuse(self: Box<Self>, error: StoreError);
}

/// A job that has run: whether its changes stay, and the answer that waits for the commit.
pub(super) struct Ran {
    keep: bool,
    answer: Box<dyn FnOnce(Result<(), StoreError>)>,
}

pub(super) struct Task<T, F> {
    pub(super) job: F,
    pub(super) answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send + 'static,
    F: FnOnce(&WriterDb) -> Result<T, StoreError> + Send,
{
    fn run(self: Box<Self>, db: &WriterDb, path: &Path) -> Ran {
        let Task { job, answer } = *self;
        let result = catch_unwind(AssertUnwindSafe(|| job(db)))
            .unwrap_or_else(|panic| Err(StoreError::Panicked { message: panic_message(&*panic) }))
            .map_err(|error| error.at(path));
        // A caller that went away is no fault: its job is done all the same.
        match result {
            Ok(value) => Ran {
                keep: true,
                answer: Box::new(move |durable| drop(answer.send(durable.map(|()| value)))),
            },
            Err(error) => Ran { keep: false, answer: Box::new(move |_| drop(answer.send(Err(error)))) },
        }
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        drop(self.answer.send(Err(error)));
    }
}

pub(super) struct Writer {
    pub(super) db: WriterDb,
    pub(super) path: PathBuf,
    pub(super) queue: mpsc::Receiver<Message>,
    pub(super) commits: Arc<AtomicU64>,
    /// Size of the log at which the next full checkpoint is tried.
    pub(super) checkpoint_at: u64,
    pub(super) lock: Option<DirectoryLock>,
}

impl Writer {
    /// Works until every handle is gone or one asks to close; then folds the log into the database
    /// and lets go of the directory.
    pub(super) fn run(mut self) {
        let mut closing = Vec::new();
        while let Some(message) = self.queue.blocking_recv() {
            match message {
                Message::Job(job) => closing.extend(self.group(job)),
                Message::Close(done) => closing.push(done),
            }
            if closing.is_empty() {
                self.tidy();
            } else {
                self.queue.close();
            }
        }
        if let Err(error) = self.checkpoint() {
            tracing::warn!(path = %self.path.display(), %error, "the log is left for the next start");
        }
        drop(self.db);
        drop(self.lock);
        // Dropping them is the answer: whoever waits for the end hears it now.
        drop(closing);
    }

    /// Runs `first` and whatever waits behind it in one transaction. Gives back a request to close
    /// that was met on the way.
    fn group(&mut self, first: Box<dyn Job>) -> Option<oneshot::Sender<Infallible>> {
        if let Err(error) = self.db.execute_batch("BEGIN IMMEDIATE") {
            first.refuse(StoreError::from(error).at(&self.path));
            return None;
        }
        let (mut ran, mut closing, mut next) = (Vec::new(), None, Some(first));
        let mut outcome = Ok(());
        while let Some(job) = next.take() {
            match self.run_alone(job, ran.is_empty()) {
                (done, Ok(())) => ran.push(done),
                (done, Err(error)) => {
                    ran.push(done);
                    outcome = Err(error);
                    break;
                }
            }
            if ran.len() < QUEUE {
                match self.queue.try_recv() {
                    Ok(Message::Job(job)) => next = Some(job),
                    Ok(Message::Close(done)) => closing = Some(done),
                    Err(_) => {}
                }
            }
        }
        let outcome = outcome.and_then(|()| self.commit()).map_err(|error| error.at(&self.path));
        if outcome.is_err() && !self.db.is_autocommit() {
            self.roll_back();
        }
        self.db.settle(outcome.is_ok() && ran.iter().all(|done| done.keep));
        for done in ran {
            (done.answer)(outcome.clone());
        }
        closing
    }

    /// Runs a job so that a failing one is undone alone: the first one of a transaction with the transaction, which
    /// spares it the journal of a savepoint, another one in a savepoint of its own. An error means that the whole
    /// transaction is lost: SQLite rolls back by itself on some failures of the disk.
    fn run_alone(&self, job: Box<dyn Job>, is_first: bool) -> (Ran, Result<(), StoreError>) {
        if !is_first && let Err(error) = self.db.execute_batch("SAVEPOINT job") {
            let error = StoreError::from(error).at(&self.path);
            let lost = error.clone();
            let answer = Box::new(move |_| job.refuse(lost));
            return (Ran { keep: false, answer }, Err(error));
        }
        let done = job.run(&self.db, &self.path);
        if !done.keep {
            self.db.undone();
        }
        let end = match (is_first, done.keep) {
            (true, true) => "",
            (true, false) if self.db.is_autocommit() => "BEGIN IMMEDIATE",
            (true, false) => "ROLLBACK; BEGIN IMMEDIATE",
            (false, true) => "RELEASE job",
            (false, false) => "ROLLBACK TO job; RELEASE job",
        };
        let ended = self.db.execute_batch(end).map_err(StoreError::from);
        (done, ended)
    }

    fn commit(&self) -> Result<(), StoreError> {
        fail::fail_point!("store.commit.before");
        self.db.execute_batch("COMMIT")?;
        fail::fail_point!("store.commit.after");
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn roll_back(&self) {
        if let Err(error) = self.db.execute_batch("ROLLBACK") {
            tracing::error!(path = %self.path.display(), %error, "a failed transaction could not be undone");
        }
    }

    /// Keeps the log and the file from growing for ever. Failing here is no harm: it is tried again.
    fn tidy(&mut self) {
        let log = log_bytes(&self.path);
        if log < sqlite::WAL_LIMIT {
            self.checkpoint_at = sqlite::WAL_LIMIT;
        } else if log >= self.checkpoint_at {
            // A reader in the way makes this wait, so it is not tried again at every commit.
            self.checkpoint_at = log + sqlite::WAL_LIMIT / 4;
            if let Err(error) = self.checkpoint() {
                tracing::warn!(path = %self.path.display(), %error, "the log could not be folded in");
            }
        }
        if self.queue.is_empty()
            && let Err(error) = self.give_back()
        {
            tracing::warn!(path = %self.path.display(), %error, "free pages could not be given back");
        }
    }

    /// Folds the log into the database, as far as readers are not in the way for long.
    fn checkpoint(&self) -> Result<(), rusqlite::Error> {
        self.db.busy_timeout(CHECKPOINT_WAIT)?;
        let folded = self.db.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(()));
        self.db.busy_timeout(sqlite::BUSY)?;
        folded
    }

    fn give_back(&self) -> Result<(), rusqlite::Error> {
        let pages = |name: &str| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let free = pages("freelist_count")?;
        if free < FREE_PAGES_KEPT || free < pages("page_count")? / 4 {
            return Ok(());
        }
        // Each page is a step of the statement, so it has to be read to its end.
        let mut vacuum = self.db.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}

fn log_bytes(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(0, |about| about.len())
}

pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
