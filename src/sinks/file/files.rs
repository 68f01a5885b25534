//! The work itself, on the calling thread: choose the files of a batch, write them, close them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::Settings;
use super::pack::Compression;
use super::state::{Closing, Name, Open, State};
use super::template::{FileName, PathTemplate};
use crate::durable::{self, fault};
use crate::sink::{Batch, SinkError, SinkState};

/// File handles kept open at a time.
const MOST_HANDLES: usize = 128;

/// The files of one sink and what is known of them. After an error only a new one from the saved state is
/// right again.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) settings: Settings,
    pub(super) state: State,
    /// The state as it was last saved, as far as we know.
    saved: State,
    handles: HashMap<FileName, Handle>,
    /// The batch that is prepared, by file.
    prepared: BTreeMap<FileName, Group>,
    /// Counts uses of handles.
    uses: u64,
    /// Directories above those of files whose names this process has made safe.
    synced: HashSet<PathBuf>,
    pub(super) notices: Vec<String>,
}

#[derive(Debug)]
struct Handle {
    file: File,
    used: u64,
}

impl Files {
    pub(super) fn load(settings: Settings, saved: &SinkState) -> Result<Self, SinkError> {
        let state = State::load(saved, settings.batch)?;
        Ok(Self {
            settings,
            saved: state.clone(),
            state,
            handles: HashMap::new(),
            prepared: BTreeMap::new(),
            uses: 0,
            synced: HashSet::new(),
            notices: Vec::new(),
        })
    }

    /// Decides where the batch goes: which files are closed before, which are new.
    pub(super) fn prepare(
        &mut self,
        batch: &Batch,
        now: DateTime<Utc>,
    ) -> Result<Option<SinkState>, SinkError> {
        let groups = self.group(batch);
        // What does not let itself be packed becomes a little larger.
        let largest = groups.values().map(|group| group.size).max().unwrap_or(0);
        let size = u64::try_from(batch.buffer.len()).expect("memory is smaller");
        self.state.batch = self.state.batch.max(size).max(largest);
        self.state.close_due(now, self.settings.rotate_size, self.settings.rotate_age);
        for (name, group) in &groups {
            let open = self.state.names.get(name).and_then(|known| known.open.as_ref());
            if open
                .is_some_and(|open| open.length > 0 && open.length + group.size > self.settings.rotate_size)
            {
                self.state.close(name);
            }
            self.enter(name, group, now)?;
        }
        self.state.close_beyond(self.settings.most_open, |name| groups.contains_key(name));
        self.state.forget_beyond(self.settings.most_names, self.settings.path.has_date());
        self.prepared = groups;
        Ok(self.changed())
    }

    /// Writes the batch that was prepared and makes it safe, after the renames that are intended.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.settle()?;
        for (name, group) in std::mem::take(&mut self.prepared) {
            self.append(&name, &group, batch)?;
        }
        self.state.batch = self.settings.batch;
        self.saved = self.state.clone();
        Ok(())
    }

    /// What is on disk, as it is to be saved with the positions.
    pub(super) fn state(&self) -> SinkState {
        self.saved.save()
    }

    /// Closes what is due: first the intent, at the next call the rename.
    pub(super) fn idle(&mut self, now: DateTime<Utc>) -> Result<Option<SinkState>, SinkError> {
        if self.state.closing.is_empty() {
            self.state.close_due(now, self.settings.rotate_size, self.settings.rotate_age);
        } else {
            self.settle()?;
        }
        Ok(self.changed())
    }

    /// The state, if it differs from the one saved last; it is taken to be saved from here on.
    fn changed(&mut self) -> Option<SinkState> {
        (self.state != self.saved).then(|| {
            self.saved = self.state.clone();
            self.saved.save()
        })
    }

    fn group(&self, batch: &Batch) -> BTreeMap<FileName, Group> {
        let mut groups: BTreeMap<FileName, Group> = BTreeMap::new();
        // Few records differ from all before in what their file is named by: a name is made once.
        let mut names: HashMap<_, FileName> = HashMap::new();
        for record in batch.records.iter() {
            let name =
                names.entry(PathTemplate::key(record)).or_insert_with(|| self.settings.path.render(record));
            let group = match groups.get_mut(name) {
                Some(group) => group,
                None => groups.entry(name.clone()).or_insert_with(|| Group::new(record.day)),
            };
            group.add(record.bytes.clone(), record.day);
        }
        let compression = self.settings.path.compression();
        groups.values_mut().for_each(|group| group.pack(compression, batch));
        groups
    }

    /// Makes sure that the name has an open file in the state. What stands in its place is not ours.
    fn enter(&mut self, name: &FileName, group: &Group, now: DateTime<Utc>) -> Result<(), SinkError> {
        let remembered = self.state.remembers(group.day);
        let known = self.state.names.get(name);
        if known.is_some_and(|known| known.open.is_some()) {
            let known = self.state.names.get_mut(name).expect("looked up above");
            known.day = known.day.max(group.day);
            return Ok(());
        }
        let mut sequence = known.map_or(0, |known| known.sequence);
        if known.is_none() && !remembered {
            // Closed files of a name forgotten are ours, not foreign: go on behind them.
            while exists(&name.closed(sequence))? {
                sequence += 1;
            }
        }
        let day = known.map_or(group.day, |known| known.day.max(group.day));
        self.move_foreign(name, sequence)?;
        self.state.names.insert(name.clone(), Name { sequence, day, open: Some(Open::new(now)) });
        Ok(())
    }

    fn append(&mut self, name: &FileName, group: &Group, batch: &Batch) -> Result<(), SinkError> {
        let known = self.state.names.get(name).expect("prepare enters every name of the batch");
        let open = known.open.as_ref().expect("prepare opens every name of the batch");
        let (sequence, path, length) = (known.sequence, name.part(known.sequence), open.length);
        let handle = match self.handles.remove(name) {
            Some(handle) => handle,
            None => Handle { file: self.open(&path, length)?, used: 0 },
        };
        // Whoever deletes, replaces or cuts the file while we hold it would swallow what we write.
        if !is_unchanged(&handle.file, &path, length).map_err(io_at("look at", &path))? {
            let found = path.metadata().ok().map(|metadata| metadata.len());
            if found.is_some_and(|found| found >= length) {
                return Err(SinkError::Changed { path });
            }
            return Err(SinkError::Lost { path, found, confirmed: length, marker: name.marker(sequence) });
        }
        fault("file.write.before").map_err(io_at("write", &path))?;
        let mut at = length;
        for bytes in group.written(batch) {
            handle.file.write_all_at(bytes, at).map_err(io_at("write", &path))?;
            at += u64::try_from(bytes.len()).expect("memory is smaller");
        }
        durable::sync_file(&handle.file, &path).map_err(io_at("sync", &path))?;
        if let Some(open) = self.state.names.get_mut(name).and_then(|known| known.open.as_mut()) {
            open.length = at;
        }
        self.keep(name.clone(), handle);
        Ok(())
    }

    fn keep(&mut self, name: FileName, mut handle: Handle) {
        self.uses += 1;
        handle.used = self.uses;
        self.handles.insert(name, handle);
        if self.handles.len() > MOST_HANDLES {
            let oldest =
                self.handles.iter().min_by_key(|(_, handle)| handle.used).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.handles.remove(&name));
        }
    }

    fn open(&mut self, path: &Path, length: u64) -> Result<File, SinkError> {
        let directory = parent(path);
        if length == 0 {
            self.make_directory(directory)?;
        }
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && length == 0 => {
                durable::create(path).map_err(io_at("create", path))?
            }
            result => result.map_err(io_at("open", path))?,
        };
        if length == 0 {
            // Also if it was there: whoever created it may have died before its name was safe.
            durable::sync_dir(directory).map_err(io_at("sync", directory))?;
        }
        Ok(file)
    }

    /// Creates a directory with those above it, and makes their names safe.
    fn make_directory(&mut self, directory: &Path) -> Result<(), SinkError> {
        let created = DirBuilder::new().recursive(true).mode(0o750).create(directory);
        created.map_err(io_at("create the directory", directory))?;
        // Also where they exist: a process before this one may have died between making and syncing them.
        for above in directory.ancestors().skip(1) {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            if self.synced.contains(above) {
                continue;
            }
            match durable::sync_dir(above) {
                // Directories that we may not read were made by somebody else.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                result => result.map_err(io_at("sync", above))?,
            }
            self.synced.insert(above.to_owned());
        }
        Ok(())
    }

    /// Makes the renames that are intended, and forgets them.
    fn settle(&mut self) -> Result<(), SinkError> {
        for closing in std::mem::take(&mut self.state.closing) {
            self.handles.remove(&closing.name);
            self.rename_closed(&closing)?;
        }
        Ok(())
    }

    /// Gives a file its closed name; what has that name already is not ours.
    pub(super) fn rename_closed(&mut self, closing: &Closing) -> Result<(), SinkError> {
        let (part, closed) = (closing.name.part(closing.sequence), closing.name.closed(closing.sequence));
        if exists(&closed)? {
            self.move_aside(&closing.name, closing.sequence, &closed)?;
        }
        durable::rename(&part, &closed).map_err(io_at("close", &part))
    }

    /// Moves away what stands where a new file of this name and number would.
    pub(super) fn move_foreign(&mut self, name: &FileName, sequence: u32) -> Result<bool, SinkError> {
        let mut found = false;
        for path in [name.part(sequence), name.closed(sequence)] {
            if exists(&path)? {
                self.move_aside(name, sequence, &path)?;
                found = true;
            }
        }
        Ok(found)
    }

    /// Moves away a file that the state does not know.
    pub(super) fn move_aside(
        &mut self,
        name: &FileName,
        sequence: u32,
        path: &Path,
    ) -> Result<(), SinkError> {
        let aside = free_surplus(name, sequence)?;
        durable::rename(path, &aside).map_err(io_at("move aside", path))?;
        self.notices.push(format!(
            "{} was not written in this life of the state (was an older state restored?); moved to {}",
            path.display(),
            aside.display()
        ));
        Ok(())
    }
}

/// The records of a batch that go to one file.
#[derive(Debug)]
struct Group {
    ranges: Vec<Range<usize>>,
    /// What is written instead of the records where files are packed.
    packed: Option<Vec<u8>>,
    /// Bytes that are written.
    size: u64,
    day: chrono::NaiveDate,
}

impl Group {
    fn new(day: chrono::NaiveDate) -> Self {
        Self { ranges: Vec::new(), packed: None, size: 0, day }
    }

    fn add(&mut self, bytes: Range<usize>, day: chrono::NaiveDate) {
        self.size += u64::try_from(bytes.len()).expect("memory is smaller");
        self.day = self.day.max(day);
        match self.ranges.last_mut() {
            Some(last) if last.end == bytes.start => last.end = bytes.end,
            _ => self.ranges.push(bytes),
        }
    }

    fn pack(&mut self, compression: Compression, batch: &Batch) {
        self.packed = compression.pack(self.ranges.iter().map(|range| &batch.buffer[range.clone()]));
        if let Some(packed) = &self.packed {
            self.size = u64::try_from(packed.len()).expect("memory is smaller");
        }
    }

    /// What is written, piece by piece.
    fn written<'a>(&'a self, batch: &'a Batch) -> impl Iterator<Item = &'a [u8]> {
        let plain = self.ranges.iter().filter(|_| self.packed.is_none());
        self.packed.as_deref().into_iter().chain(plain.map(|range| &batch.buffer[range.clone()]))
    }
}

/// The first surplus name of this file that is free.
pub(super) fn free_surplus(name: &FileName, sequence: u32) -> Result<PathBuf, SinkError> {
    let mut number = 1;
    loop {
        let path = name.surplus(sequence, number);
        if !exists(&path)? {
            return Ok(path);
        }
        number += 1;
    }
}

fn is_unchanged(file: &File, path: &Path, length: u64) -> io::Result<bool> {
    let ours = file.metadata()?;
    match path.metadata() {
        Ok(named) => Ok(named.len() == length && (ours.dev(), ours.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn exists(path: &Path) -> Result<bool, SinkError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(io_at("look at", path)(source)),
    }
}

pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

pub(super) fn io_at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SinkError {
    let path = path.to_owned();
    move |source| SinkError::Io { action, path, source }
}
