//! After a crash: bring the files back to what the state says.
//!
//! | found | done |
//! |---|---|
//! | longer than the state by at most one batch | cut back: it will be written again |
//! | longer by more, or closed although the state says open | the state is older than the files: the surplus is moved to `*.surplus-N`, and said |
//! | a file with a number that the state has not reached | the same: moved away whole, and said |
//! | shorter, or missing | delivered records were lost outside of us: held until the operator puts the file back or creates the marker that the error names |
//! | a closing rename intended | made, if it was not |

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::files::{Files, exists, free_surplus, io_at, parent};
use super::state::{Closing, Open};
use super::template::FileName;
use crate::durable;
use crate::sink::SinkError;

impl Files {
    pub(super) fn recover(&mut self) -> Result<(), SinkError> {
        for closing in self.state.closing.clone() {
            self.recover_closing(&closing)?;
        }
        self.state.closing.clear();
        let names: Vec<FileName> = self.state.names.keys().cloned().collect();
        for name in names {
            self.recover_name(&name)?;
        }
        self.state.batch = self.settings.batch;
        Ok(())
    }

    /// The intent stays in the saved state until the next one is saved, so this may run more than once.
    fn recover_closing(&mut self, closing: &Closing) -> Result<(), SinkError> {
        let (part, closed) = (closing.name.part(closing.sequence), closing.name.closed(closing.sequence));
        if exists(&part)? {
            if self.fit(&closing.name, closing.sequence, closing.length)? {
                self.rename_closed(closing)?;
            }
        } else if exists(&closed)? {
            // The rename was made, but perhaps we died before it was safe.
            durable::sync_dir(parent(&closed)).map_err(io_at("sync", &closed))?;
        } else {
            // Closed files are the reader's to take, so this is no reason to stop.
            self.notices.push(format!(
                "{} was about to be closed and is gone: taken by a reader right after, or lost outside of lockstep",
                part.display()
            ));
        }
        Ok(())
    }

    fn recover_name(&mut self, name: &FileName) -> Result<(), SinkError> {
        let known = self.state.names.get(name).expect("the names are the state's own");
        let (sequence, open) = (known.sequence, known.open.clone());
        if let Some(Open { length, .. }) = open {
            let (part, closed) = (name.part(sequence), name.closed(sequence));
            if length > 0
                && !exists(&part)?
                && closed.metadata().is_ok_and(|metadata| metadata.len() >= length)
            {
                self.notices.push(format!(
                    "{} was closed after this state was saved (was an older state restored?); opened again",
                    closed.display()
                ));
                durable::rename(&closed, &part).map_err(io_at("open again", &closed))?;
            }
            if !self.fit(name, sequence, length)? {
                // What is left of it was closed at the operator's word.
                let known = self.state.names.get_mut(name).expect("looked up above");
                (known.sequence, known.open) = (sequence + 1, None);
            }
        }
        let known = self.state.names.get(name).expect("looked up above");
        let mut next = known.sequence;
        if known.open.is_some() {
            let closed = name.closed(next);
            if exists(&closed)? {
                self.move_aside(name, next, &closed)?;
            }
            next += 1;
        }
        while self.move_foreign(name, next)? {
            next += 1;
        }
        Ok(())
    }

    /// Cuts the `.part` file to its length. False when it is shorter and the operator says that this is
    /// known: then what is left of it is closed.
    fn fit(&mut self, name: &FileName, sequence: u32, length: u64) -> Result<bool, SinkError> {
        let path = name.part(sequence);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && length == 0 => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.accept_loss(name, sequence, length, None)?;
                return Ok(false);
            }
            result => result.map_err(io_at("open", &path))?,
        };
        let found = file.metadata().map_err(io_at("look at", &path))?.len();
        if found < length {
            self.accept_loss(name, sequence, length, Some(found))?;
            let whole = name.compression().whole(&file, found).map_err(io_at("read", &path))?;
            cut(&file, &path, whole)?;
            self.rename_closed(&Closing { name: name.clone(), sequence, length: whole })?;
            return Ok(false);
        }
        if found > length + self.state.batch {
            let aside = free_surplus(name, sequence)?;
            copy_tail(&file, length, &aside).map_err(io_at("move the surplus to", &aside))?;
            self.notices.push(format!(
                "{} was {} bytes longer than this state knows (was an older state restored?); they are in {}",
                path.display(),
                found - length,
                aside.display()
            ));
        }
        if found > length {
            cut(&file, &path, length)?;
        }
        Ok(true)
    }

    /// An error unless the operator has put the marker there. The marker stays: should we stop before the next
    /// state is saved, it is asked for again.
    fn accept_loss(
        &mut self,
        name: &FileName,
        sequence: u32,
        confirmed: u64,
        found: Option<u64>,
    ) -> Result<(), SinkError> {
        let (path, marker) = (name.part(sequence), name.marker(sequence));
        if !exists(&marker)? {
            return Err(SinkError::Lost { path, found, confirmed, marker });
        }
        self.notices.push(format!(
            "{} lost {} delivered bytes outside of lockstep; going on without them, as {} says (it may be removed now)",
            path.display(),
            confirmed - found.unwrap_or(0),
            marker.display()
        ));
        Ok(())
    }
}

fn cut(file: &File, path: &Path, length: u64) -> Result<(), SinkError> {
    file.set_len(length).map_err(io_at("cut back", path))?;
    durable::sync_file(file, path).map_err(io_at("sync", path))
}

fn copy_tail(mut file: &File, from: u64, to: &Path) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut aside = durable::create(to)?;
    io::copy(&mut file.take(u64::MAX), &mut aside)?;
    durable::sync_file(&aside, to)?;
    durable::sync_dir(parent(to))
}
