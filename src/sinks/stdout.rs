//! Standard output: at least once. A crash between the write and the confirmation repeats the batch, with the
//! same uid in every record; nothing can be taken back from a pipe.

use std::io::{self, Write};

use crate::sink::{Batch, SinkError, SinkState};

/// Writes records to standard output, which should carry nothing else.
#[derive(Debug, Default)]
pub struct StdoutSink {
    /// Why a write failed: the reader went away; what it missed nobody can tell, so it does not come back by itself.
    broken: Option<io::ErrorKind>,
}

impl StdoutSink {
    pub(crate) fn recover(&mut self) -> Result<(), SinkError> {
        self.broken.map_or(Ok(()), |kind| Err(SinkError::Stdout(kind.into())))
    }

    /// Returns once the system has taken every byte.
    pub(crate) async fn write(&mut self, batch: &Batch) -> Result<SinkState, SinkError> {
        let buffer = batch.buffer.clone();
        // A reader that is slow blocks the thread: it must not be one of the runtime's own.
        let written = tokio::task::spawn_blocking(move || write_all(io::stdout().lock(), &buffer)).await;
        self.note(written.map_err(|error| SinkError::Stopped(error.to_string()))?)
    }

    fn note(&mut self, written: io::Result<()>) -> Result<SinkState, SinkError> {
        self.broken = self.broken.or(written.as_ref().err().map(io::Error::kind));
        written.map(|()| SinkState::default()).map_err(SinkError::Stdout)
    }
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
