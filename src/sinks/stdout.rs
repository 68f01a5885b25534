//! Standard output: at least once. A crash between the write and the confirmation repeats the batch, with the
//! same uid in every record; nothing can be taken back from a pipe.

use std::io::{self, Write};

use rustix::fs::OFlags;

use crate::sink::{Batch, SinkError};

/// Writes records to standard output, which should carry nothing else.
#[derive(Debug, Default)]
pub struct StdoutSink {
    /// Why a write failed: what the reader missed nobody can tell, so it does not come back by itself.
    broken: Option<Broken>,
}

/// An error that can be told again and again.
#[derive(Clone, Copy, Debug)]
enum Broken {
    Os(i32),
    Other(io::ErrorKind),
}

impl StdoutSink {
    pub(crate) fn recover(&mut self) -> Result<(), SinkError> {
        let error = match self.broken {
            Some(Broken::Os(code)) => io::Error::from_raw_os_error(code),
            Some(Broken::Other(kind)) => kind.into(),
            None if is_closed() => io::Error::other("it is closed"),
            None => return Ok(()),
        };
        Err(SinkError::Stdout(error))
    }

    /// Returns once the system has taken every byte.
    pub(crate) async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let buffer = batch.buffer.clone();
        // A reader that is slow blocks the thread: it must not be one of the runtime's own.
        let written = tokio::task::spawn_blocking(move || write_all(io::stdout().lock(), &buffer)).await;
        self.note(written.map_err(|error| SinkError::Stopped(error.to_string()))?)
    }

    fn note(&mut self, written: io::Result<()>) -> Result<(), SinkError> {
        written.map_err(|error| {
            let broken = error.raw_os_error().map_or(Broken::Other(error.kind()), Broken::Os);
            self.broken.get_or_insert(broken);
            SinkError::Stdout(error)
        })
    }
}

/// Whether the program was started without a standard output. The runtime puts the null device in its place, open
/// for reading, too, which nobody does who wants to throw the records away.
pub(crate) fn is_closed() -> bool {
    let out = io::stdout();
    let null = rustix::fs::stat("/dev/null").map(|null| null.st_rdev);
    let is_null = rustix::fs::fstat(&out).is_ok_and(|out| Ok(out.st_rdev) == null && out.st_rdev != 0);
    let reads = |flags: OFlags| flags & OFlags::RWMODE == OFlags::RDWR;
    is_null && rustix::fs::fcntl_getfl(&out).is_ok_and(reads)
}

fn write_all(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Remedy;

    #[test]
    fn a_reader_that_went_away_holds_the_sink_for_good() {
        let (reader, writer) = io::pipe().unwrap();
        let mut sink = StdoutSink::default();
        sink.note(write_all(&writer, b"read\n")).unwrap();
        drop(reader);
        let error = sink.note(write_all(&writer, b"lost\n")).unwrap_err();
        assert_eq!(error.remedy(), Remedy::Hold);
        assert_eq!(sink.recover().unwrap_err().remedy(), Remedy::Hold);
    }
}
