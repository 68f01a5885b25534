//! The list of all computers as a file, replaced as a whole: what a `file` sink's `inventory` names.
//!
//! It is no delivery: it has no position, and it is made anew from what the state holds, after each complete listing of
//! the computers of a site that the sink wants. So nothing waits for it, and it waits for nothing. A reader finds the
//! whole former list or the whole new one, never a part. A site whose computers were not listed completely yet is left
//! out and said; while that is so of all, nothing is written, so that an empty list means that there is no computer.

mod device;
mod table;
#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::SinkStatus;
use crate::clock::Clock;
use crate::durable;
use crate::format::FormatError;
use crate::redact::{Redact, RedactError, Redaction};
use crate::select::Select;
use crate::source::{self, Source};
use crate::store::inventory::{self, Item, List};
use crate::store::{Store, StoreError, connections, devices};
use device::Device;
pub use table::Shape;

/// The source that lists computers.
const SOURCE: &str = "computers";
/// How often is looked whether there is a new listing.
const LOOK: Duration = Duration::from_secs(5);
/// The least time between two times that it is made.
const LEAST: Duration = Duration::from_secs(60);
/// Bytes of lines that are made before they are written.
const PIECE: usize = 256 << 10;

/// What became of an inventory, for the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryStatus {
    pub paths: Vec<String>,
    /// When it was last replaced, on our clock; none since this process started.
    pub written: Option<DateTime<Utc>>,
    /// How many computers are in it.
    pub devices: u64,
    /// Sites that it lacks, since their computers were not listed completely yet.
    pub lacking: Vec<String>,
    /// Why it could not be replaced, until it is.
    pub last_error: Option<String>,
    /// Since when.
    pub failing: Option<DateTime<Utc>>,
}

/// Why an inventory was not written; the former one stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    #[error("cannot {action} {}: {source}; make room or correct `inventory`, the former list stays meanwhile", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Redact(#[from] RedactError),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(
        "`select.organizations` names {0}, and no organization is known by that id, name or short name: correct it"
    )]
    UnknownOrganization(String),
    #[error("its writer stopped in the middle of its work: {0}")]
    Stopped(String),
}

/// Makes the inventory of one sink.
pub struct Inventory {
    pub(super) paths: Vec<PathBuf>,
    pub(super) select: Arc<Select>,
    pub(super) redact: Option<Redact>,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) status: watch::Sender<SinkStatus>,
}

/// When each stream last listed everything, by its id.
type Walks = Vec<(i64, i64)>;

/// The listings of the sites that are wanted, what they rest on, and the sites that have none yet.
struct Ready {
    lists: Vec<List>,
    walks: Walks,
    lacking: Vec<String>,
}

impl Inventory {
    /// Keeps it up to date until stopped.
    pub async fn run(self, stop: &CancellationToken) {
        let mut made = Walks::new();
        while !stop.is_cancelled() {
            let pause = tokio::select! {
                () = stop.cancelled() => return,
                made = self.renew(&mut made) => made,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Makes it once, if anything can be in it.
    pub async fn make(&self) -> Result<(), InventoryError> {
        self.write(self.ready().await?).await
    }

    /// Makes it if it rests on other listings than `made`; answers when to look again.
    async fn renew(&self, made: &mut Walks) -> Duration {
        let renewed = async {
            let ready = self.ready().await?;
            if ready.walks == *made {
                return Ok(LOOK);
            }
            let walks = ready.walks.clone();
            self.write(ready).await?;
            *made = walks;
            Ok(LEAST)
        };
        renewed.await.unwrap_or_else(|error| {
            self.failed(&error);
            LEAST
        })
    }

    fn failed(&self, error: &InventoryError) {
        let (now, text) = (self.clock.now(), error.to_string());
        self.tell(|status| {
            if status.last_error.as_ref() != Some(&text) {
                tracing::warn!(error = text, "the inventory is not written");
            }
            status.failing.get_or_insert(now);
            status.last_error = Some(text);
        });
    }

    fn tell(&self, change: impl FnOnce(&mut InventoryStatus)) {
        self.status.send_modify(|status| {
            let inventory = status.inventory.get_or_insert_default();
            inventory.paths = self.paths.iter().map(|path| path.display().to_string()).collect();
            change(inventory);
        });
    }

    async fn ready(&self) -> Result<Ready, InventoryError> {
        let lists = self.store.read(|db| inventory::lists(db, SOURCE)).await?;
        let mut ready = Ready { lists: Vec::new(), walks: Walks::new(), lacking: Vec::new() };
        for list in lists.into_iter().filter(|list| self.select.takes_site(&list.site)) {
            let walks: Walks =
                list.streams.iter().filter_map(|(id, notes)| Some((*id, complete(notes)?))).collect();
            match walks.is_empty() {
                true => ready.lacking.push(list.site),
                false => {
                    ready.walks.extend(walks);
                    ready.lists.push(list);
                }
            }
        }
        Ok(ready)
    }

    async fn write(&self, ready: Ready) -> Result<(), InventoryError> {
        let Ready { lists, lacking, .. } = ready;
        self.tell(|status| status.lacking.clone_from(&lacking));
        if lists.is_empty() {
            return Ok(());
        }
        let redaction = match &self.redact {
            Some(redact) => Some(Arc::new(redact.ready().await?)),
            None => None,
        };
        let shapes: Vec<Shape> = self.paths.iter().filter_map(|path| Shape::of(path)).collect();
        let paths = self.paths.clone();
        let mut drafts = blocking(move || Drafts::begin(&paths)).await?;
        let mut devices = 0;
        for list in lists {
            let mut after = Some(None);
            while let Some(from) = after.take() {
                let page = self.page(&list, from, &shapes, redaction.clone()).await?;
                devices += page.devices;
                drafts = blocking(move || drafts.add(&page.pieces)).await?;
                after = page.last.map(Some);
            }
        }
        blocking(move || drafts.finish()).await?;
        let now = self.clock.now();
        self.tell(|status| {
            if status.written.is_none() || status.last_error.is_some() {
                tracing::info!(devices, "the inventory is written");
            }
            (status.written, status.devices) = (Some(now), devices);
            (status.last_error, status.failing) = (None, None);
        });
        Ok(())
    }

    /// A short look at the state, so that no slow disk holds it open.
    async fn page(
        &self,
        list: &List,
        after: Option<(i64, String)>,
        shapes: &[Shape],
        redaction: Option<Arc<Redaction>>,
    ) -> Result<Page, InventoryError> {
        let (list, shapes, select) = (list.clone(), shapes.to_vec(), Arc::clone(&self.select));
        let read = move |db: &rusqlite::Connection| {
            let wanted = match connections::ids_of_organizations(db, &select.organizations)? {
                Ok(wanted) => wanted,
                Err(name) => return Ok(Err(InventoryError::UnknownOrganization(name))),
            };
            let mut page = Page { pieces: vec![Vec::new(); shapes.len()], devices: 0, last: None };
            let mut wrong = None;
            let last = inventory::page(db, list.set, after, |item| {
                if select.organizations.is_empty() || wanted.contains(&item.organization_id) {
                    match page.add(db, &list.site, item, &shapes, redaction.as_deref())? {
                        Ok(()) => {}
                        Err(error) => wrong = Some(error),
                    }
                }
                let full = page.pieces.iter().any(|piece| piece.len() > PIECE);
                Ok(if full || wrong.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            page.last = last;
            Ok(wrong.map_or(Ok(page), |error| Err(error.into())))
        };
        self.store.read(read).await?
    }
}

/// Some of the list, in each shape.
struct Page {
    pieces: Vec<Vec<u8>>,
    devices: u64,
    /// Where to go on; none at the end of a listing.
    last: Option<(i64, String)>,
}

impl Page {
    fn add(
        &mut self,
        db: &rusqlite::Connection,
        site: &str,
        item: &Item,
        shapes: &[Shape],
        redaction: Option<&Redaction>,
    ) -> Result<Result<(), FormatError>, StoreError> {
        let known = devices::look(db, std::iter::once((item.organization, item.vendor_id.as_str())))?;
        let device = match Device::read(computers(), site, item, known.of(0).user, redaction) {
            Ok(device) => device,
            Err(error) => return Ok(Err(error)),
        };
        for (shape, piece) in shapes.iter().zip(&mut self.pieces) {
            shape.line(&device, piece);
        }
        self.devices += 1;
        Ok(Ok(()))
    }
}

fn computers() -> &'static dyn Source {
    source::by_name(SOURCE).expect("it is a source of this version")
}

/// When the listing with these notes was last complete.
fn complete(notes: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Notes {
        complete: Option<i64>,
    }
    serde_json::from_str::<Notes>(notes).ok()?.complete
}

/// The files that will replace the former ones.
struct Drafts(Vec<Draft>);

struct Draft {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Drafts {
    fn begin(paths: &[PathBuf]) -> Result<Self, InventoryError> {
        Ok(Self(paths.iter().map(|path| Draft::begin(path)).collect::<Result<_, _>>()?))
    }

    fn add(mut self, pieces: &[Vec<u8>]) -> Result<Self, InventoryError> {
        for (draft, piece) in self.0.iter_mut().zip(pieces) {
            draft.file.write_all(piece).map_err(at("write", &draft.temporary))?;
        }
        Ok(self)
    }

    fn finish(self) -> Result<(), InventoryError> {
        for Draft { path, temporary, file } in self.0 {
            durable::sync_file(&file, &temporary).map_err(at("sync", &temporary))?;
            durable::replace(&temporary, &path).map_err(at("replace", &path))?;
        }
        Ok(())
    }
}

impl Draft {
    fn begin(path: &Path) -> Result<Self, InventoryError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".part");
        let temporary = PathBuf::from(temporary);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let made = DirBuilder::new().recursive(true).mode(0o750).create(folder);
            made.map_err(at("create the directory", folder))?;
        }
        match std::fs::remove_file(&temporary) {
            // Of a program that ended before it was done.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("remove", &temporary)(error)),
        }
        let mut file = durable::create(&temporary).map_err(at("create", &temporary))?;
        let head = Shape::of(path).map(Shape::head).unwrap_or_default();
        file.write_all(&head).map_err(at("write", &temporary))?;
        Ok(Self { path: path.to_owned(), temporary, file })
    }
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InventoryError {
    let path = path.to_owned();
    move |source| InventoryError::Io { action, path, source }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, InventoryError> + Send + 'static,
) -> Result<T, InventoryError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| InventoryError::Stopped(error.to_string()))?
}
