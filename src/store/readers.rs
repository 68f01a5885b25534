//! A few connections that only read, used off the async threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::writer::panic_message;
use super::{StoreError, sqlite};

/// How many jobs may read at once; each connection holds a cache of 2 MiB at most.
const READERS: usize = 4;

pub(super) struct Readers {
    path: PathBuf,
    room: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, room: Arc::new(Semaphore::new(READERS)), idle: Mutex::new(Vec::new()) })
    }

    /// Runs a job on a consistent picture of the state.
    pub(super) async fn run<T, F>(self: &Arc<Self>, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let readers = Arc::clone(self);
        let work = move || {
            // Held by the work and not by its caller, who may go away before it ends.
            let _room = room;
            readers.run_blocking(job)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Closed))
    }

    fn run_blocking<T>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self.idle.lock().expect("nothing panics while holding it").pop();
        let db = match idle {
            Some(db) => db,
            None => sqlite::open_reader(&self.path).map_err(|error| error.at(&self.path))?,
        };
        let result = catch_unwind(AssertUnwindSafe(|| {
            db.execute_batch("BEGIN")?;
            job(&db)
        }))
        .unwrap_or_else(|panic| Err(StoreError::Panicked { message: panic_message(&*panic) }));
        // A connection that cannot end its transaction is thrown away rather than reused.
        if !self.room.is_closed() && (db.is_autocommit() || db.execute_batch("ROLLBACK").is_ok()) {
            self.idle.lock().expect("nothing panics while holding it").push(db);
        }
        result.map_err(|error| error.at(&self.path))
    }

    /// Refuses further jobs and closes what is idle, so that the log can be folded in.
    pub(super) fn close(&self) {
        self.room.close();
        self.idle.lock().expect("nothing panics while holding it").clear();
    }
}
