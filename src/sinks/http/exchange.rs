//! One request and its answer.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use hmac::{Hmac, Mac};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::time::Instant;

use super::error::HttpError;
use super::settings::{Auth, HttpSettings, Protocol};
use crate::portal::{clean, date, retry_after};
use crate::reach::chain;
use crate::sink::Batch;

/// Bytes of an answer that are read; no protocol here needs more for one request.
const LONGEST_ANSWER: usize = 8 << 20;

/// Bytes that are collected before they are packed.
const PACKED_AT_ONCE: usize = 64 << 10;

/// Parts of an address that are shorter are words.
const SHORTEST_SECRET: usize = 6;

/// What the requests of one batch share.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) client: Client,
    pub(super) settings: Arc<HttpSettings>,
    /// Where a plain POST goes, as it was read for this batch.
    pub(super) address: Url,
    pub(super) secret: Option<SecretString>,
    pub(super) batch: Batch,
    /// The far side has some of the batch from before.
    pub(super) begun: bool,
    /// When the batch was prepared, on our clock.
    pub(super) prepared: (DateTime<Utc>, Instant),
}

/// A request that is ready to be sent, and could be sent again.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) url: Url,
    pub(super) content_type: &'static str,
    pub(super) headers: HeaderMap,
    /// As it travels: packed, if it is to be.
    pub(super) body: Bytes,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    /// What `Retry-After` asks for.
    pub(super) wait: Option<Duration>,
}

impl Errand {
    /// Our clock, carried on from when the batch was prepared.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.prepared.0 + self.prepared.1.elapsed()
    }

    /// An address below the one of the settings.
    pub(super) fn below(&self, path: &str) -> Url {
        self.settings.url.join(path).expect("paths of the protocols are plain")
    }

    /// Whom we talk to, for messages, without what may be a secret.
    pub(super) fn to(&self) -> String {
        self.settings.shown_url()
    }

    /// Makes the body of a request on a thread for work, since packing takes time.
    pub(super) async fn body(
        self: &Arc<Self>,
        write: impl FnOnce(&Self, &mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> Result<Bytes, HttpError> {
        let errand = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || {
            if errand.settings.gzip {
                // Every call packs what it is given, and a record comes in many small pieces.
                let packed = GzEncoder::new(Vec::new(), Compression::fast());
                let mut packed = BufWriter::with_capacity(PACKED_AT_ONCE, packed);
                write(&errand, &mut packed)?;
                packed.into_inner()?.finish()
            } else {
                let mut plain = Vec::new();
                write(&errand, &mut plain).map(|()| plain)
            }
        });
        let made = made.await.map_err(io::Error::other).and_then(|made| made);
        made.map(Bytes::from)
            .map_err(|error| HttpError::Settings(format!("a request cannot be made: {error}")))
    }

    /// Posts a request.
    pub(super) async fn post(&self, request: Request) -> Result<Answer, HttpError> {
        let Request { url, content_type, headers, body } = request;
        let mut post = self.client.post(url).header(CONTENT_TYPE, content_type).headers(headers);
        if self.settings.gzip {
            post = post.header(CONTENT_ENCODING, "gzip");
        }
        self.send(self.signed(post, &body)?.body(body)).await
    }

    /// Asks for a page.
    pub(super) async fn get(&self, url: Url) -> Result<Answer, HttpError> {
        self.send(self.signed(self.client.request(Method::GET, url), b"")?).await
    }

    /// Adds what proves who we are.
    fn signed(&self, request: RequestBuilder, body: &[u8]) -> Result<RequestBuilder, HttpError> {
        let Some(secret) = self.secret.as_ref().map(ExposeSecret::expose_secret) else { return Ok(request) };
        let hidden = |value: String| {
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                HttpError::Settings("the user name and secret do not fit into a header".to_owned())
            })?;
            value.set_sensitive(true);
            Ok::<_, HttpError>(value)
        };
        Ok(match &self.settings.auth {
            Auth::None => request,
            Auth::Basic { username, .. } => {
                request.header(AUTHORIZATION, hidden(format!("Basic {}", pair(username, secret)))?)
            }
            Auth::Scheme { scheme, .. } => {
                request.header(AUTHORIZATION, hidden(format!("{scheme} {secret}"))?)
            }
            Auth::Header { name, .. } => request.header(name.as_str(), hidden(secret.to_owned())?),
            Auth::Hmac { .. } => {
                let seconds = self.now().timestamp().to_string();
                let signature = signature(secret.as_bytes(), &seconds, body);
                request.header("X-Timestamp", seconds).header("X-Signature", signature)
            }
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, HttpError> {
        let timeout = self.settings.timeout;
        let whole = async {
            let mut response = request.send().await?;
            let (status, wait) = (response.status(), self.wait(&response));
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                let room = LONGEST_ANSWER - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if body.len() == LONGEST_ANSWER {
                    break;
                }
            }
            Ok(Answer { status, body, wait })
        };
        match tokio::time::timeout(timeout, whole).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.unreachable(error)),
            Err(_) => Err(HttpError::TimedOut { to: self.to(), after: timeout }),
        }
    }

    fn wait(&self, response: &Response) -> Option<Duration> {
        let now = date(response.headers()).unwrap_or_else(|| self.now().timestamp_micros());
        retry_after(response.headers(), now)
    }

    fn unreachable(&self, error: reqwest::Error) -> HttpError {
        HttpError::Unreachable { to: self.to(), why: self.clean(&chain(&error.without_url())) }
    }

    /// What an answer says, in one bounded line without our secret.
    pub(super) fn clean(&self, text: &str) -> String {
        let secret = self.secret.as_ref().map_or("", ExposeSecret::expose_secret);
        let text = match &self.settings.protocol {
            // The far side may well quote what it was asked for.
            Protocol::Post(_) => without_address(text, &self.address),
            _ => text.to_owned(),
        };
        match &self.settings.auth {
            Auth::Basic { username, .. } => clean(&clean(&text, &pair(username, secret)), secret),
            _ => clean(&text, secret),
        }
    }

    /// Status and beginning of an answer.
    pub(super) fn excerpt(&self, answer: &Answer) -> String {
        let beginning = answer.body.get(..2048).unwrap_or(&answer.body);
        let said = self.clean(&String::from_utf8_lossy(beginning));
        let status = answer.status.as_u16();
        if said.is_empty() { status.to_string() } else { format!("{status}: {said}") }
    }

    /// The error that a success means whose body says something else than expected. What the parser quotes is the far
    /// side's text.
    pub(super) fn unreadable(&self, error: &serde_json::Error, answer: &Answer) -> HttpError {
        let why = self.clean(&error.to_string());
        self.strange(format!("{why}, in {}", self.excerpt(answer)))
    }

    /// The error that any answer means which is neither a success nor about the records.
    pub(super) fn failure(&self, answer: &Answer) -> HttpError {
        let (to, said) = (self.to(), self.excerpt(answer));
        match answer.status.as_u16() {
            401 | 403 | 407 => self.denied(said),
            408 | 425 | 429 | 500..=599 => HttpError::Busy { to, answer: said, wait: answer.wait },
            _ => HttpError::Refused { to, answer: said },
        }
    }

    pub(super) fn denied(&self, answer: String) -> HttpError {
        let from = match self.settings.auth.source() {
            Some(source) => source.to_string(),
            None => "the configuration, which names none".to_owned(),
        };
        HttpError::Denied { to: self.to(), from, answer }
    }

    pub(super) fn strange(&self, why: impl Into<String>) -> HttpError {
        HttpError::Strange { to: self.to(), why: why.into() }
    }

    pub(super) fn broken(&self, why: impl Into<String>) -> HttpError {
        HttpError::Broken { to: self.to(), why: why.into() }
    }
}

/// A text without the path and the query of an address, which may be a secret as a whole or in part.
fn without_address(text: &str, address: &Url) -> String {
    let query = address.query().unwrap_or_default();
    let mut parts: Vec<&str> = [address.path(), query].into_iter().filter(|part| part.len() > 1).collect();
    let pieces = address.path().split('/').chain(query.split(['&', '=']));
    parts.extend(pieces.filter(|piece| piece.len() >= SHORTEST_SECRET));
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.into_iter().fold(text.to_owned(), |text, part| text.replace(part, "[address]"))
}

/// User and password as HTTP Basic sends them.
fn pair(username: &str, password: &str) -> String {
    BASE64_STANDARD.encode(format!("{username}:{password}"))
}

/// `sha256=` and the HMAC of the time, a dot and the body, in hexadecimal digits.
fn signature(key: &[u8], seconds: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(seconds.as_bytes());
    mac.update(b".");
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value is openssl's: `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key`.
    #[test]
    fn a_signature_is_what_another_program_makes_of_the_same() {
        assert_eq!(
            signature(b"key", "1700000000", b"{\"a\":1}"),
            "sha256=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03"
        );
    }
}
