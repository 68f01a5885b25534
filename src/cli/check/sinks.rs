//! What a sink over HTTP amounts to, in words.

use std::fmt;

use crate::sinks::http::{Ack, HttpSettings, Protocol};

pub(super) fn write_http(f: &mut impl fmt::Write, name: &str, settings: &HttpSettings) -> fmt::Result {
    let (url, auth) = (settings.shown_url(), settings.auth.as_str());
    match &settings.protocol {
        Protocol::Bulk(bulk) => {
            let (what, promise) = match bulk.data_stream {
                true => {
                    ("data stream", "at least once: a data stream knows ids only within its newest index")
                }
                false => ("index", "exactly once, by the id of each document"),
            };
            writeln!(f, "sink {name}: {} {url}, {what} {}, auth {auth}", bulk.product.as_str(), bulk.index)?;
            writeln!(f, "  {promise}")?;
        }
        Protocol::Hec(hec) => {
            let index = hec.index.as_deref().unwrap_or("of the token");
            writeln!(f, "sink {name}: Splunk HEC {url}, index {index}, sourcetype {}", hec.sourcetype)?;
            writeln!(
                f,
                "  {}",
                match hec.ack {
                    Ack::On => "at least once, each request acknowledged by the indexer",
                    Ack::Auto =>
                        "at least once where the token offers indexer acknowledgement, else accepted and no more",
                    Ack::Off => "accepted and no more: what Splunk loses after that is not sent again",
                }
            )?;
        }
        Protocol::Post(post) => {
            writeln!(f, "sink {name}: POST {url} as {}, auth {auth}", post.body.as_str())?;
            writeln!(f, "  at least once, an Idempotency-Key with each request")?;
        }
    }
    if settings.reach.insecure_skip_verify {
        writeln!(
            f,
            "  warning: insecure_skip_verify lets anybody between here and there read secret and records"
        )?;
    }
    if settings.url.scheme() == "http" {
        writeln!(f, "  note: plain http shows secret and records to everybody on the way")?;
    }
    Ok(())
}
