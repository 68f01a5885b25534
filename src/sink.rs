//! Where records go: one sink a destination, an enum over the handful that there are.
//!
//! A sink knows neither the store nor the rows. It gets batches of encoded records, and an opaque
//! [`SinkState`] that `deliver` keeps for it in the same commit as the positions. How `deliver` calls it:
//!
//! 1. [`Sink::recover`] with the saved state, at start and again after every error of any call;
//! 2. [`Sink::prepare`]: a state that it returns is saved before the next call;
//! 3. [`Sink::write`] returns once the far side has the whole batch, but for the records that it will never take:
//!    those are dead letters before the next call;
//! 4. [`Sink::commit`] makes it count, where the far side can tell the two apart, together with the positions that
//!    it is given; the state that it returns is saved with those positions;
//! 5. [`Sink::idle`] from time to time in between: a state that it returns is saved, then it is called again.
//!
//! So a sink may take for granted at each call that the last state it gave is safe. A crash at any point
//! leads to 1 with the last state saved.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::durable::fault;
use crate::format::Format;
use crate::model::{ConnectionId, Kind, Lane, Micros, OrganizationId, Positions};
use crate::redact::Redact;
use crate::select::Select;
use crate::sinks::file::{FileSink, PathTemplate};
use crate::sinks::http::{HttpError, HttpSettings, HttpSink};
use crate::sinks::kafka::{KafkaConfig, KafkaSink, Trouble};
use crate::sinks::stdout::StdoutSink;

/// One sink of the configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    pub name: String,
    pub format: Format,
    /// Nobody chose the format: the one of the sink's first start stays, whatever the default is now.
    pub format_by_default: bool,
    /// What this sink is to be spared.
    pub redact: Option<Redact>,
    /// What it wants of everything.
    pub select: Select,
    /// A new one begins with what is collected from then on, and not with all that is still retained.
    pub from_now: bool,
    /// Bytes of a UTC day from which on an operator is told; nothing is ever held back for it.
    pub max_per_day: Option<u64>,
    pub kind: SinkKind,
}

/// The kind of a sink with what only that kind needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    File {
        path: PathTemplate,
        /// Bytes after which a file is closed and the next one begun; one record may be larger.
        rotate_size: u64,
        /// Time after its first record after which a file is closed.
        rotate_age: Duration,
        /// Where the list of all computers stands besides, as `.csv` or `.ndjson`.
        inventory: Vec<PathBuf>,
    },
    /// `elasticsearch`, `opensearch`, `splunk_hec` or `http`.
    Http(Box<HttpSettings>),
    Kafka(Box<KafkaConfig>),
    Stdout,
}

impl SinkKind {
    /// Default of `rotate.size`, in bytes.
    pub const ROTATE_SIZE: u64 = 256 << 20;
    /// Default of `rotate.age`.
    pub const ROTATE_AGE: Duration = Duration::from_secs(3600);

    /// The type's key in the configuration and in the state; never changes once released.
    pub fn as_str(&self) -> &'static str {
        match self {
            SinkKind::File { .. } => "file",
            SinkKind::Http(settings) => settings.as_str(),
            SinkKind::Kafka(_) => "kafka",
            SinkKind::Stdout => "stdout",
        }
    }

    /// Where the list of all computers stands besides, if anywhere.
    pub fn inventory(&self) -> &[PathBuf] {
        match self {
            SinkKind::File { inventory, .. } => inventory,
            SinkKind::Http(_) | SinkKind::Kafka(_) | SinkKind::Stdout => &[],
        }
    }

    /// Whether writing is mostly waiting for another machine's answer.
    pub fn is_far(&self) -> bool {
        match self {
            SinkKind::Http(_) | SinkKind::Kafka(_) => true,
            SinkKind::File { .. } | SinkKind::Stdout => false,
        }
    }

    /// Bytes that a batch should not exceed.
    pub fn largest_batch(&self) -> u64 {
        match self {
            // A file can end only between two batches.
            SinkKind::File { rotate_size, .. } => *rotate_size,
            // What is larger is sent in several requests.
            SinkKind::Http(_) => u64::MAX,
            SinkKind::Kafka(_) | SinkKind::Stdout => u64::MAX,
        }
    }
}

/// What a sink must find again after a crash; only the sink that made it can read it. Empty at first start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkState(pub Vec<u8>);

/// Encoded records in the order of delivery. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub records: Arc<[Record]>,
    /// The records' bytes, one after another.
    pub buffer: Bytes,
    /// The far side had them before, and is to have them whatever became of those.
    pub again: bool,
}

/// One encoded record of an entry and what a sink may route by.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where in the buffer it stands, its line feed included.
    pub bytes: Range<usize>,
    pub connection: ConnectionId,
    pub lane: Lane,
    pub number: i64,
    pub uid: Uuid,
    pub kind: Kind,
    /// When it happened; where nobody says so, when it was collected.
    pub time: Micros,
    /// The name of the device that it is about.
    pub host: Option<Arc<str>>,
    /// UTC day of collection, on the portal's time.
    pub day: NaiveDate,
    pub site: Arc<str>,
    pub source: Arc<str>,
    pub organization: OrganizationId,
    /// Short name of the organization, frozen at first sight; empty when unknown.
    pub slug: Arc<str>,
    /// The vendor's id of the computer, where the format reads it.
    pub device: Option<Arc<str>>,
}

/// A record of a batch that the far side will never take as it is; it becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in [`Batch::records`].
    pub record: usize,
    /// Why, in words for an operator; holds no more of the record than the far side may quote in a line.
    pub reason: String,
}

/// What went wrong at a sink. [`SinkError::remedy`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{} holds {} bytes but {confirmed} were delivered: records were lost outside of lockstep; put the file \
         back, or create the empty file {} to go on without them",
        path.display(), found.map_or("no".to_owned(), |found| found.to_string()), marker.display()
    )]
    Lost { path: PathBuf, found: Option<u64>, confirmed: u64, marker: PathBuf },
    #[error(
        "{} was changed or replaced outside of lockstep while it was written; it is looked over and continued: let \
         nothing else write to it",
        path.display()
    )]
    Changed { path: PathBuf },
    #[error(
        "cannot write to standard output: {0}; start lockstep again where it can be written to, with a reader that stays"
    )]
    Stdout(io::Error),
    #[error(transparent)]
    Kafka(#[from] Trouble),
    #[error("the saved state of this sink cannot be read ({0}); was it written by a newer version?")]
    State(String),
    #[error("the writer of this sink stopped in the middle of its work: {0}")]
    Stopped(String),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("fault injected: {0}")]
    Injected(io::Error),
}

/// What to do about a [`SinkError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Recover and try again, at a growing pace: it may pass by itself.
    Retry,
    /// An operator has to act; look again now and then.
    Hold,
}

impl SinkError {
    pub fn remedy(&self) -> Remedy {
        match self {
            SinkError::Io { source, .. } if source.kind() == io::ErrorKind::InvalidFilename => Remedy::Hold,
            SinkError::Http(error) if error.holds() => Remedy::Hold,
            SinkError::Io { .. }
            | SinkError::Changed { .. }
            | SinkError::Http(_)
            | SinkError::Stopped(_)
            | SinkError::Injected(_) => Remedy::Retry,
            SinkError::Kafka(trouble) => trouble.remedy(),
            SinkError::Lost { .. } | SinkError::Stdout(_) | SinkError::State(_) => Remedy::Hold,
        }
    }

    /// How long the far side asks to be left alone.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            SinkError::Http(error) => error.wait(),
            _ => None,
        }
    }
}

/// A destination of records.
#[derive(Debug)]
pub enum Sink {
    File(Box<FileSink>),
    Http(Box<HttpSink>),
    Kafka(Box<KafkaSink>),
    Stdout(StdoutSink),
}

impl Sink {
    /// Makes the sink; touches nothing before [`Sink::recover`]. `batch_bytes` is the usual bound of a batch.
    pub fn new(config: &SinkConfig, batch_bytes: u64, clock: &Clock) -> Self {
        match &config.kind {
            SinkKind::File { path, rotate_size, rotate_age, .. } => {
                let sink = FileSink::new(path.clone(), *rotate_size, *rotate_age, batch_bytes);
                Sink::File(Box::new(sink))
            }
            SinkKind::Http(settings) => Sink::Http(Box::new(HttpSink::new(settings, config.format))),
            SinkKind::Kafka(kafka) => {
                let (name, kafka) = (&config.name, kafka.as_ref().clone());
                Sink::Kafka(Box::new(KafkaSink::new(name, kafka, config.format, batch_bytes, clock.clone())))
            }
            SinkKind::Stdout => Sink::Stdout(StdoutSink::default()),
        }
    }

    /// Brings the far side back to where the saved state says it is. A far side that keeps positions of its own
    /// answers them: they are what was delivered, whatever the store says, which is `ours`.
    pub async fn recover(
        &mut self,
        saved: &SinkState,
        ours: &Positions,
    ) -> Result<Option<Positions>, SinkError> {
        match self {
            Sink::File(sink) => sink.recover(saved).await?,
            Sink::Http(sink) => sink.recover()?,
            Sink::Kafka(sink) => return Ok(sink.recover(saved, ours).await?),
            Sink::Stdout(sink) => sink.recover()?,
        }
        Ok(None)
    }

    /// Looks what writing this batch will change: a state returned must be safe before [`Sink::write`].
    pub async fn prepare(
        &mut self,
        batch: &Batch,
        now: DateTime<Utc>,
    ) -> Result<Option<SinkState>, SinkError> {
        match self {
            Sink::File(sink) => sink.prepare(batch, now).await,
            Sink::Http(sink) => {
                sink.prepare(now);
                Ok(None)
            }
            Sink::Kafka(sink) => Ok(sink.prepare(batch).await?),
            Sink::Stdout(_) => Ok(None),
        }
    }

    /// Writes the batch prepared last. When this returns the far side has all of it but the records refused.
    pub async fn write(&mut self, batch: &Batch) -> Result<Vec<Refusal>, SinkError> {
        fault("sink.write.before").map_err(SinkError::Injected)?;
        let mut refused = Vec::new();
        match self {
            Sink::File(sink) => sink.write(batch).await?,
            Sink::Http(sink) => refused = sink.write(batch).await?,
            Sink::Kafka(sink) => refused = sink.write(batch).await?,
            Sink::Stdout(sink) => sink.write(batch).await?,
        }
        fault("sink.write.after").map_err(SinkError::Injected)?;
        Ok(refused)
    }

    /// Makes what was written count; to be called after every [`Sink::write`], and without one where nothing of the
    /// entries was left to write. `positions`: the last number in each
    /// lane of the batch, whatever became of it.
    pub async fn commit(&mut self, positions: &Positions) -> Result<SinkState, SinkError> {
        match self {
            Sink::File(sink) => sink.state(),
            Sink::Http(sink) => {
                sink.commit();
                Ok(SinkState::default())
            }
            Sink::Kafka(sink) => Ok(sink.commit(positions).await?),
            Sink::Stdout(_) => Ok(SinkState::default()),
        }
    }

    /// What time alone brings about, such as closing old files. To be called until it returns nothing, each
    /// state being saved before the next call.
    pub async fn idle(&mut self, now: DateTime<Utc>) -> Result<Option<SinkState>, SinkError> {
        match self {
            Sink::File(sink) => sink.idle(now).await,
            Sink::Http(_) | Sink::Kafka(_) | Sink::Stdout(_) => Ok(None),
        }
    }

    /// Lets go of what others wait for. To be called after an error, before the pause.
    pub async fn rest(&mut self) {
        match self {
            Sink::Kafka(sink) => sink.rest().await,
            Sink::File(_) | Sink::Http(_) | Sink::Stdout(_) => {}
        }
    }

    /// Whether a call that nobody waits for any more ends soon and leaves nothing behind that the next
    /// [`Sink::recover`] does not settle.
    pub fn can_be_dropped(&self) -> bool {
        match self {
            Sink::Http(_) | Sink::Kafka(_) => true,
            Sink::File(_) | Sink::Stdout(_) => false,
        }
    }

    /// Looks whether the far side is there and takes the credential, without leaving anything there; answers what an
    /// operator should know of it. Kafka has [`crate::sinks::kafka::look`] for that.
    pub async fn probe(&mut self, now: DateTime<Utc>) -> Result<Vec<String>, SinkError> {
        match self {
            Sink::Http(sink) => sink.probe(now).await,
            Sink::File(_) | Sink::Kafka(_) | Sink::Stdout(_) => Ok(Vec::new()),
        }
    }

    /// Returns once there is a reason to try again before the pause after an error is over; never for most sinks.
    pub async fn mended(&self) {
        match self {
            Sink::Http(sink) => sink.mended().await,
            Sink::File(_) | Sink::Kafka(_) | Sink::Stdout(_) => std::future::pending().await,
        }
    }

    /// What an operator should know of what the sink did, since the last time this was asked.
    pub fn notices(&mut self) -> Vec<String> {
        match self {
            Sink::File(sink) => sink.notices(),
            Sink::Http(sink) => sink.notices(),
            Sink::Kafka(sink) => sink.notices(),
            Sink::Stdout(_) => Vec::new(),
        }
    }
}

impl Batch {
    /// The bytes of one record of this batch.
    pub fn bytes(&self, record: &Record) -> &[u8] {
        &self.buffer[record.bytes.clone()]
    }
}

impl fmt::Display for SinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
