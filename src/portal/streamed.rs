//! An answer that is read a batch at a time, since it may be larger than anything that fits in memory.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::body::Coding;
use super::error::{Answer, Failure, clean};
use super::page::Unreadable;
use super::rows::{BATCH, Splitter};
use super::{Endpoint, Page, PortalError};
use crate::budget::Reservation;
use crate::reach::chain;

/// Memory for a batch in hand, the next one, and what a piece of a packed answer unpacks to.
pub(super) const ROOM: u64 = 8 * BATCH as u64;
/// Packed bytes that are unpacked at once: at most a thousand times as many come of them.
const PACKED_PIECE: usize = 256;
/// Plain bytes that are looked at before it is asked again whether a batch is full.
const PLAIN_PIECE: usize = 16 << 10;

/// What of an answer has not been read yet. It holds its place among the requests of the credential, and the
/// memory for the batch in hand; it never waits for more.
pub struct Rest {
    response: reqwest::Response,
    unpacking: Unpacking,
    /// Came, and is not looked at yet.
    pending: Bytes,
    reservation: Reservation,
    slot: Option<OwnedSemaphorePermit>,
    /// For each piece of the answer.
    timeout: Duration,
    secret: SecretString,
    site: String,
    endpoint: Endpoint,
    status: u16,
    has_ended: bool,
}

enum Unpacking {
    Plain(Box<Splitter>),
    /// An empty body has not even one member: whether it has begun.
    Gzip(Box<MultiGzDecoder<Splitter>>, bool),
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// What an answer is read with.
pub(super) struct Reading<'a> {
    pub(super) coding: Coding,
    pub(super) reservation: Reservation,
    pub(super) timeout: Duration,
    pub(super) secret: &'a str,
    pub(super) site: &'a str,
    pub(super) endpoint: Endpoint,
    pub(super) status: u16,
}

impl Rest {
    pub(super) fn new(response: reqwest::Response, reading: Reading<'_>) -> Self {
        let splitter = Splitter::new();
        Self {
            response,
            unpacking: match reading.coding {
                Coding::Plain => Unpacking::Plain(Box::new(splitter)),
                Coding::Gzip => Unpacking::Gzip(Box::new(MultiGzDecoder::new(splitter)), false),
            },
            pending: Bytes::new(),
            reservation: reading.reservation,
            slot: None,
            timeout: reading.timeout,
            secret: SecretString::from(reading.secret),
            site: reading.site.to_owned(),
            endpoint: reading.endpoint,
            status: reading.status,
            has_ended: false,
        }
    }

    /// Keeps the place among the requests until the end.
    pub(super) fn hold(&mut self, slot: OwnedSemaphorePermit) {
        self.slot = Some(slot);
    }

    /// Whether the answer was read to its end.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The next rows; none and no columns behind the end.
    ///
    /// # Errors
    /// Where the answer breaks off, cannot be read, or is an error after all.
    pub async fn next(&mut self) -> Result<Page, PortalError> {
        self.read().await.map_err(|failure| PortalError {
            site: self.site.clone(),
            endpoint: Some(self.endpoint),
            failure,
        })
    }

    pub(super) async fn read(&mut self) -> Result<Page, Failure> {
        while !self.has_ended && !self.splitter().is_full() {
            if self.pending.is_empty() {
                let chunk = match timeout(self.timeout, self.response.chunk()).await {
                    Ok(Ok(chunk)) => chunk,
                    Ok(Err(error)) => return Err(self.unreachable(&chain(&error.without_url()))),
                    Err(_) => return Err(self.unreachable(&format!("time-out after {:?}", self.timeout))),
                };
                match chunk {
                    Some(chunk) => self.pending = chunk,
                    None => {
                        self.end()?;
                        break;
                    }
                }
            }
            self.look()?;
        }
        let splitter = self.splitter();
        let (batch, columns) = (splitter.take(), splitter.take_columns());
        let body = Bytes::from(batch.bytes);
        let undecodable = batch.undecodable.into_iter();
        Ok(Page {
            rows: batch.rows,
            undecodable: undecodable.map(|((from, to), why)| (body.slice(from..to), why)).collect(),
            body,
            columns,
            ..Page::default()
        })
    }

    /// Looks at a piece of what came.
    fn look(&mut self) -> Result<(), Failure> {
        let outcome = match &mut self.unpacking {
            Unpacking::Plain(splitter) => {
                let piece = self.pending.split_to(self.pending.len().min(PLAIN_PIECE));
                splitter.feed(&piece)
            }
            Unpacking::Gzip(packed, begun) => {
                let piece = self.pending.split_to(self.pending.len().min(PACKED_PIECE));
                *begun = true;
                match packed.write_all(&piece) {
                    Ok(()) => Ok(()),
                    Err(error) => match packed.get_mut().refused() {
                        Some(unreadable) => Err(unreadable),
                        None => {
                            let why = format!("its body cannot be unpacked: {error}");
                            return Err(self.unreachable(&why));
                        }
                    },
                }
            }
        };
        outcome.map_err(|unreadable| self.unreadable(unreadable))?;
        // A batch that was given away may not be stored yet.
        let wanted = (self.splitter().held() + 2 * BATCH) as u64;
        if wanted > self.reservation.bytes() && !self.reservation.try_grow(wanted) {
            return Err(self.unreachable("a row is so long that there is no memory for it now"));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.has_ended = true;
        self.slot = None;
        if let Unpacking::Gzip(packed, true) = &mut self.unpacking
            && let Err(error) = packed.try_finish()
        {
            let why = format!("its body cannot be unpacked: {error}");
            return Err(self.unreachable(&why));
        }
        let end = self.splitter().finish();
        end.map_err(|unreadable| self.unreadable(unreadable))
    }

    fn splitter(&mut self) -> &mut Splitter {
        match &mut self.unpacking {
            Unpacking::Plain(splitter) => splitter,
            Unpacking::Gzip(packed, _) => packed.get_mut(),
        }
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::Unreachable(clean(why, self.secret.expose_secret()))
    }

    fn unreadable(&mut self, unreadable: Unreadable) -> Failure {
        let status = self.status;
        let secret = self.secret.clone();
        match unreadable {
            Unreadable::ErrorObject => {
                let beginning = self.splitter().beginning();
                Failure::Answer(Answer::read(status, beginning, None, secret.expose_secret()))
            }
            Unreadable::Broken(reason) => Failure::Undecodable { reason },
        }
    }
}
