//! How files are packed: each commit appends one complete gzip member or zstd frame, and both formats say that
//! members one after another unpack to their contents one after another. So a file can be read whole after every
//! commit, and cutting it back to a confirmed length cuts between two members.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

/// How the files of a sink are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// Its word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What the names of its files end in.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// How a file is packed whose name ends so.
    pub(super) fn of(name: &str) -> Self {
        let packed = [Self::Gzip, Self::Zstd];
        packed.into_iter().find(|kind| name.ends_with(kind.suffix())).unwrap_or(Self::None)
    }

    /// The pieces as one member; none where nothing is packed.
    pub(super) fn pack<'a>(self, pieces: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
        let packed = match self {
            Self::None => return None,
            Self::Gzip => gzip(pieces),
            Self::Zstd => zstd(pieces),
        };
        Some(packed.expect("memory takes every write"))
    }

    /// How much of the first `length` bytes of a file is whole: lines, or members.
    pub(super) fn whole(self, file: &File, length: u64) -> io::Result<u64> {
        match self {
            Self::None => whole_lines(file, length),
            Self::Gzip => whole_members(file, length, |from| {
                let mut member = GzDecoder::new(from);
                io::copy(&mut member, &mut io::sink())
            }),
            Self::Zstd => whole_members(file, length, |from| {
                let mut frame = zstd::Decoder::with_buffer(from)?.single_frame();
                io::copy(&mut frame, &mut io::sink())
            }),
        }
    }
}

fn gzip<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<Vec<u8>> {
    let mut member = GzEncoder::new(Vec::new(), flate2::Compression::default());
    for piece in pieces {
        member.write_all(piece)?;
    }
    member.finish()
}

fn zstd<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> io::Result<Vec<u8>> {
    let mut frame = zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
    // So that whoever unpacks it notices a flipped bit, as with gzip.
    frame.include_checksum(true)?;
    for piece in pieces {
        frame.write_all(piece)?;
    }
    frame.finish()
}

/// The length up to and with the last member that unpacks; `unpack` reads one from where it is.
fn whole_members(
    mut file: &File,
    length: u64,
    unpack: impl Fn(&mut BufReader<io::Take<&File>>) -> io::Result<u64>,
) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(file.take(length));
    let mut whole = 0;
    while !reader.fill_buf()?.is_empty() {
        match unpack(&mut reader) {
            Ok(_) => {
                let unread = u64::try_from(reader.buffer().len()).expect("memory is smaller");
                whole = length - reader.get_ref().limit() - unread;
            }
            // Of the disk, and not of what is on it.
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(whole)
}

fn whole_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut byte = [0];
    for at in (0..length).rev() {
        file.read_exact_at(&mut byte, at)?;
        if byte == *b"\n" {
            return Ok(at + 1);
        }
    }
    Ok(0)
}
