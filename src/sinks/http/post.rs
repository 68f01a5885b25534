//! Whatever takes records by POST: JSON lines or a JSON array. A status from 200 to 299 means that it has them all.

use std::io::{self, Write};
use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderValue};

use super::error::HttpError;
use super::exchange::{Answer, Errand, Request};
use super::line::Verdict;
use super::settings::Post;

/// What the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// One JSON object a line, the last one ended, too.
    Ndjson,
    /// One JSON array.
    Array,
}

impl Body {
    pub fn as_str(self) -> &'static str {
        match self {
            Body::Ndjson => "ndjson",
            Body::Array => "array",
        }
    }
}

pub(super) async fn request(
    errand: &Arc<Errand>,
    post: &Post,
    piece: &[usize],
) -> Result<Request, HttpError> {
    let mut headers = HeaderMap::new();
    let key = HeaderValue::from_str(&idempotency_key(errand, piece)).expect("hexadecimal digits fit");
    headers.insert("Idempotency-Key", key);
    let (form, piece) = (post.body, piece.to_vec());
    let body = errand.body(move |errand, out| write(errand, form, &piece, out)).await?;
    let content_type = match form {
        Body::Ndjson => "application/x-ndjson",
        Body::Array => "application/json",
    };
    Ok(Request { url: errand.address.clone(), content_type, headers, body })
}

/// The same for the same records in the same order: 32 hexadecimal digits of the BLAKE3 hash of their bytes.
fn idempotency_key(errand: &Errand, piece: &[usize]) -> String {
    let mut hash = blake3::Hasher::new();
    for place in piece {
        hash.update(errand.batch.bytes(&errand.batch.records[*place]));
    }
    hash.finalize().to_hex().get(..32).expect("a hash is longer").to_owned()
}

fn write(errand: &Errand, form: Body, piece: &[usize], out: &mut dyn Write) -> io::Result<()> {
    for (number, place) in piece.iter().enumerate() {
        let bytes = errand.batch.bytes(&errand.batch.records[*place]);
        match form {
            Body::Ndjson => out.write_all(bytes)?,
            Body::Array => {
                out.write_all(if number == 0 { b"[" } else { b"," })?;
                out.write_all(bytes.trim_ascii_end())?;
            }
        }
    }
    if form == Body::Array { out.write_all(b"]") } else { Ok(()) }
}

pub(super) fn judge(errand: &Errand, answer: &Answer) -> Result<Verdict, HttpError> {
    match answer.status.as_u16() {
        200..=299 => Ok(Verdict::all()),
        400 | 413 | 422 => Ok(Verdict::Guilty { place: None, reason: errand.excerpt(answer) }),
        _ => Err(errand.failure(answer)),
    }
}
