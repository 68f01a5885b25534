//! The durable state: what is known, what is owed to the sinks, and how far each sink has come.
//!
//! One SQLite file in the state directory, held by one process. `collect` writes a page's new rows,
//! seen ids and coverage in one job; `deliver` reads the outbox and confirms positions. Every call of
//! [`Store::write`] is a transaction of its own for the caller, and its answer means durable: the
//! writing thread commits every waiting job at once (`store/writer.rs`) with an fsync before it answers.
//!
//! The functions in the modules below take the connection that a job is given, so that a caller
//! composes what must stand or fall together.

pub mod asked;
pub mod backfill;
mod compress;
pub mod connections;
pub mod dead_letters;
pub mod devices;
mod error;
mod filesystem;
pub mod inventory;
mod lock;
pub mod outbox;
pub mod owed;
mod readers;
pub mod refill;
pub mod replays;
pub mod seen;
pub mod sink_days;
pub mod sinks;
pub mod snapshots;
mod sqlite;
pub mod streams;
pub mod vendor_fields;
pub mod withheld;
mod writer;
mod writer_db;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

pub use self::error::StoreError;
use self::lock::DirectoryLock;
use self::readers::Readers;
use self::sqlite::Identity;
use self::writer::{Message, Task, Writer};
pub use self::writer_db::WriterDb;
use crate::clock::Clock;

/// Every fault point of the state. A commit that a test stops before is not made, one it stops after is.
pub const FAULT_POINTS: &[&str] = &[
    "store.migrate.before",
    "store.migrate.after",
    "store.commit.before",
    "store.commit.after",
    "store.pack.between",
];

/// A handle to the state; clones share it.
#[derive(Clone)]
pub struct Store {
    path: PathBuf,
    identity: Identity,
    /// Absent in a handle that only reads.
    writer: Option<mpsc::Sender<Message>>,
    /// Absent for a state in memory, whose only connection is the writer's.
    readers: Option<Arc<Readers>>,
    commits: Arc<AtomicU64>,
}

impl Store {
    /// Opens the state in `dir`, making it where there is none: takes the directory's lock, brings the
    /// schema up to date and checks that the file is sound. Blocks for about a second per gigabyte.
    ///
    /// # Errors
    /// Each names the path and the way out: in use, on a network file system, no permission, full,
    /// read-only, damaged, or written by a newer version.
    pub fn open(dir: &Path, clock: Clock) -> Result<Store, StoreError> {
        let lock = DirectoryLock::take(dir)?;
        let path = sqlite::database_path(dir);
        let (db, identity) = sqlite::open_writer(&path, &clock).map_err(|error| error.at(&path))?;
        let readers = Readers::new(path.clone());
        Self::start(path, db, identity, Some(lock), Some(readers))
    }

    /// Why a state cannot be opened now, as far as its directory tells; nothing where there is none.
    pub fn busy(dir: &Path) -> Option<StoreError> {
        dir.is_dir().then(|| DirectoryLock::take(dir).err()).flatten()
    }

    /// A state that is gone with its last handle, for tests and programs that remember nothing.
    pub fn open_in_memory(clock: Clock) -> Result<Store, StoreError> {
        let path = PathBuf::from(":memory:");
        let (db, identity) = sqlite::open_memory(&clock).map_err(|error| error.at(&path))?;
        Self::start(path, db, identity, None, None)
    }

    /// Opens the state to look at it, beside a running service or without one. Takes no lock and
    /// changes nothing; [`Store::write`] is refused.
    pub fn open_read_only(dir: &Path) -> Result<Store, StoreError> {
        let path = sqlite::database_path(dir);
        match std::fs::metadata(&path) {
            Ok(about) if about.len() > 0 => {}
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("look at", &path, error));
            }
            _ => return Err(StoreError::Missing { dir: dir.to_path_buf() }),
        }
        let identity = sqlite::open_reader(&path)
            .and_then(|db| {
                sqlite::check_current(&db, &path)?;
                sqlite::identity(&db, &path)
            })
            .map_err(|error| error.at(&path))?;
        let readers = Some(Readers::new(path.clone()));
        Ok(Self { path, identity, writer: None, readers, commits: Arc::default() })
    }

    fn start(
        path: PathBuf,
        db: WriterDb,
        identity: Identity,
        lock: Option<DirectoryLock>,
        readers: Option<Arc<Readers>>,
    ) -> Result<Store, StoreError> {
        let (sender, queue) = mpsc::channel(writer::QUEUE);
        let commits = Arc::<AtomicU64>::default();
        let writer = Writer {
            db,
            path: path.clone(),
            queue,
            commits: Arc::clone(&commits),
            checkpoint_at: sqlite::WAL_LIMIT,
            lock,
        };
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::io("start the thread that writes", &path, error))?;
        Ok(Self { path, identity, writer: Some(sender), readers, commits })
    }

    /// Runs a job that may change the state. `Ok` means that its changes are durable; after an error
    /// none of them are. Jobs share a commit but not their fate: a failing or panicking job is undone
    /// alone. A caller that stops waiting does not stop its job.
    ///
    /// The job must not end the transaction itself.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&WriterDb) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let writer = self.writer.as_ref().ok_or(StoreError::OnlyReads)?;
        let (answer, answered) = oneshot::channel();
        let task = Box::new(Task { job, answer });
        writer.send(Message::Job(task)).await.map_err(|_| StoreError::Closed)?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Runs a job that only reads, on one consistent picture of what is committed.
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.readers {
            Some(readers) => readers.run(job).await,
            None => self.write(|db| job(db)).await,
        }
    }

    /// 32 random bytes made with the state, for keyed hashes.
    pub fn secret(&self) -> [u8; 32] {
        self.identity.secret
    }

    /// Names this life of the state.
    pub fn state_id(&self) -> Uuid {
        self.identity.state_id
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Commits since the start; fewer than jobs, since waiting jobs share one.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Whether nothing can be written any more: the store was closed, or its writing thread has ended.
    /// Also true for a handle that only reads.
    pub fn is_closed(&self) -> bool {
        self.writer.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// Lets every waiting job finish, folds the log into the database and gives the directory free.
    /// Other clones answer [`StoreError::Closed`] from then on.
    pub async fn close(self) {
        if let Some(readers) = &self.readers {
            readers.close();
        }
        if let Some(writer) = self.writer {
            let (done, closed) = oneshot::channel();
            // When another clone has closed the store before, both end at once or when that is done.
            drop(writer.send(Message::Close(done)).await);
            drop(closed.await);
        }
    }
}

/// Rows and bytes of a table whose totals are kept by triggers.
fn running_total(db: &Connection, table: &str) -> Result<(u64, u64), StoreError> {
    let mut total = db.prepare_cached("SELECT rows, bytes FROM usage WHERE what = ?1")?;
    Ok(total.query_row([table], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

#[cfg(test)]
pub(crate) mod tests;
