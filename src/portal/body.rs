//! Reading a body: as it comes or unpacked, in memory that was reserved, and no longer than it may be.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use crate::budget::Reservation;

/// Reserved for a body of unknown size, and the least step by which a reservation grows.
pub(super) const STEP: u64 = 256 << 10;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    Gzip,
}

impl Coding {
    /// What the headers say: in any case, and by the old name (RFC 9110 section 8.4.1). An error is a coding
    /// that nobody asked for.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, String> {
        let mut coding = Self::Plain;
        for header in headers.get_all(CONTENT_ENCODING) {
            let names = header.to_str().map_err(|_| "its coding has no name".to_owned())?;
            for name in names.split(',').map(|name| name.trim().to_ascii_lowercase()) {
                coding = match (name.as_str(), coding) {
                    ("" | "identity", coding) => coding,
                    ("gzip" | "x-gzip", Self::Plain) => Self::Gzip,
                    _ => return Err(format!("it is packed as {names:?}, which was not asked for")),
                };
            }
        }
        Ok(coding)
    }
}

/// Why a body was not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    TooLarge,
    /// The budget has no more room now; so many bytes are needed by now.
    Outgrown(u64),
    /// What is packed cannot be unpacked.
    Damaged(String),
}

/// A body on its way in.
pub(super) enum Body<'a> {
    Plain(Room<'a>),
    /// Several members are one body (RFC 1952 section 2.2). An empty body has not even one: whether it has begun.
    Gzip(Box<MultiGzDecoder<Room<'a>>>, bool),
}

impl<'a> Body<'a> {
    /// `announced`: bytes to make room for at once. `limit`: the most bytes it may have, unpacked.
    pub(super) fn new(
        coding: Coding,
        reservation: &'a mut Reservation,
        announced: u64,
        limit: u64,
    ) -> Result<Self, Refused> {
        let mut room = Room { bytes: Vec::new(), reservation, limit, refused: None };
        if announced > limit {
            return Err(Refused::TooLarge);
        }
        room.make(announced)?;
        Ok(match coding {
            Coding::Plain => Self::Plain(room),
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(room)), false),
        })
    }

    /// Takes in what came next.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<(), Refused> {
        match self {
            Self::Plain(room) => room.take(chunk),
            Self::Gzip(packed, begun) => {
                *begun |= !chunk.is_empty();
                let taken = packed.write_all(chunk);
                taken.map_err(|error| why(&mut packed.get_mut().refused, &error))
            }
        }
    }

    /// All of it, once no more comes.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, Refused> {
        if let Self::Gzip(packed, begun) = &mut self
            && *begun
        {
            let ended = packed.try_finish();
            ended.map_err(|error| why(&mut packed.get_mut().refused, &error))?;
        }
        Ok(self.bytes())
    }

    /// As much of it as was taken in and can be read.
    pub(super) fn beginning(mut self) -> Vec<u8> {
        if let Self::Gzip(packed, _) = &mut self {
            // What is damaged or too long has a beginning, too.
            drop(packed.try_finish());
        }
        self.bytes()
    }

    fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Plain(room) => &mut room.bytes,
            Self::Gzip(packed, _) => &mut packed.get_mut().bytes,
        })
    }
}

fn why(refused: &mut Option<Refused>, error: &io::Error) -> Refused {
    refused.take().unwrap_or_else(|| Refused::Damaged(error.to_string()))
}

/// Bytes in memory, each of them reserved.
pub(super) struct Room<'a> {
    bytes: Vec<u8>,
    reservation: &'a mut Reservation,
    limit: u64,
    /// Why the last bytes were not taken, for whoever gets but an error of a write.
    refused: Option<Refused>,
}

impl Room<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let free = usize::try_from(self.limit).unwrap_or(usize::MAX).saturating_sub(self.bytes.len());
        let fits = bytes.get(..free).unwrap_or(bytes);
        self.make((self.bytes.len() + fits.len()) as u64)?;
        self.bytes.extend_from_slice(fits);
        if fits.len() < bytes.len() { Err(Refused::TooLarge) } else { Ok(()) }
    }

    /// Makes room for `length` bytes, first in the budget and then in memory.
    fn make(&mut self, length: u64) -> Result<(), Refused> {
        let capacity = self.bytes.capacity() as u64;
        if length <= capacity {
            return Ok(());
        }
        let wanted = length.max(capacity + (capacity / 2).max(STEP)).min(self.limit.max(length));
        if wanted > self.reservation.bytes() && !self.reservation.try_grow(wanted) {
            return Err(Refused::Outgrown(wanted.saturating_mul(2)));
        }
        self.bytes.reserve_exact(usize::try_from(wanted).unwrap_or(usize::MAX) - self.bytes.len());
        Ok(())
    }
}

impl Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.take(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(refused) => {
                self.refused = Some(refused);
                Err(io::Error::other("there is no room"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
