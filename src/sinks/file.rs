//! Files without loss or duplicate: JSON lines under names made from a path template.
//!
//! A file is written as `NAME.part` and renamed to `NAME` when it is closed, by size or age; the next one is
//! `NAME.1`, and so on (before the extension). No file is ever written over.
//!
//! Packed, what a batch adds to a file is one complete gzip member or zstd frame (`pack.rs`); all else is the same.
//!
//! What makes a crash at any point harmless: the saved state knows every unfinished file and its safe length.
//! A file is entered in the state before it is created, and a closing rename before it is made. A batch is on
//! disk, its names too, before its state is saved, and that state is saved together with the positions. So
//! after a crash a file is as long as its state says, or longer by what was written of one batch, which is cut
//! off and written again. Anything else happened outside of us (a state restored from a backup, a file
//! deleted) and is moved aside or holds the sink; see `recover.rs`.

mod files;
mod pack;
mod recover;
mod state;
mod template;
#[cfg(test)]
#[cfg(feature = "failpoints")]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::sink::{Batch, SinkError, SinkState};
use files::Files;
pub use pack::Compression;
pub use template::{PathTemplate, TemplateError};

/// The file sink. Its work is done on a thread for blocking calls; dropping a call's future leaves the sink
/// unusable until it has recovered.
#[derive(Debug)]
pub struct FileSink {
    settings: Settings,
    /// None before recovery and after an error.
    files: Option<Files>,
    notices: Vec<String>,
}

/// Files being written at a time; beyond that the oldest is closed.
const MOST_OPEN: usize = 4096;
/// Names whose next number is remembered.
const MOST_NAMES: usize = 2 * MOST_OPEN;

/// What the configuration says, and what bounds the state.
#[derive(Clone, Debug)]
struct Settings {
    path: PathTemplate,
    rotate_size: u64,
    rotate_age: Duration,
    /// Usual bound of a batch, in bytes.
    batch: u64,
    most_open: usize,
    most_names: usize,
}

impl FileSink {
    /// `rotate_size` and `batch` in bytes.
    pub fn new(path: PathTemplate, rotate_size: u64, rotate_age: Duration, batch: u64) -> Self {
        let settings =
            Settings { path, rotate_size, rotate_age, batch, most_open: MOST_OPEN, most_names: MOST_NAMES };
        Self { settings, files: None, notices: Vec::new() }
    }

    pub(crate) async fn recover(&mut self, saved: &SinkState) -> Result<(), SinkError> {
        self.files = None;
        let settings = self.settings.clone();
        self.files = Some(Files::load(settings, saved)?);
        self.work(Files::recover).await
    }

    pub(crate) async fn prepare(
        &mut self,
        batch: &Batch,
        now: DateTime<Utc>,
    ) -> Result<Option<SinkState>, SinkError> {
        let batch = batch.clone();
        self.work(move |files| files.prepare(&batch, now)).await
    }

    pub(crate) async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let batch = batch.clone();
        self.work(move |files| files.write(&batch)).await
    }

    /// What was written so far, all of it being on disk.
    pub(crate) fn state(&self) -> Result<SinkState, SinkError> {
        Ok(self.files.as_ref().ok_or_else(unrecovered)?.state())
    }

    pub(crate) async fn idle(&mut self, now: DateTime<Utc>) -> Result<Option<SinkState>, SinkError> {
        self.work(move |files| files.idle(now)).await
    }

    pub(crate) fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Files) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let mut files = self.files.take().ok_or_else(unrecovered)?;
        let (mut files, result) = tokio::task::spawn_blocking(move || {
            let result = work(&mut files);
            (files, result)
        })
        .await
        .map_err(|error| SinkError::Stopped(error.to_string()))?;
        self.notices.append(&mut files.notices);
        if result.is_ok() {
            self.files = Some(files);
        }
        result
    }
}

fn unrecovered() -> SinkError {
    SinkError::Stopped("it has to recover first".to_owned())
}
