//! Splunk's HTTP Event Collector: `/services/collector/event`, an envelope around each record.
//!
//! Without indexer acknowledgement an answer means that the records look valid, and no more. With it each request is
//! answered by a number, by which the acknowledgement is asked for on the channel that it was sent on. Such a number
//! is kept in the collector's memory: one that begins anew belongs to another life of the collector, or to another
//! one behind the same address, and says nothing of what was sent before. Whatever is not acknowledged is sent
//! again, under the same uid.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::error::HttpError;
use super::exchange::{Answer, Errand, Request};
use super::line::Verdict;
use super::settings::{Hec, HttpSettings};
use crate::sink::Record;

const EVENT: &str = "services/collector/event";
const ACK: &str = "services/collector/ack";
/// First and longest pause between two questions for an acknowledgement.
const ASK_EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Whether acknowledgements by the indexer are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Where the token offers them.
    Auto,
    /// Always; a token that offers none holds the sink.
    On,
    Off,
}

impl Ack {
    pub fn as_str(self) -> &'static str {
        match self {
            Ack::Auto => "auto",
            Ack::On => "on",
            Ack::Off => "off",
        }
    }
}

/// What acknowledgements are numbered on.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    id: Uuid,
    /// The last number given on it.
    last: Option<u64>,
}

impl Channel {
    /// One that nobody else uses.
    pub(super) fn new(settings: &HttpSettings, line: usize, now: DateTime<Utc>) -> Self {
        let name = format!("{} {line} {} {}", settings.url, std::process::id(), now.timestamp_micros());
        Self { id: Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()), last: None }
    }
}

/// What the collector answers with.
#[derive(Debug, Default, Deserialize)]
struct Reply {
    code: Option<u32>,
    #[serde(rename = "ackId")]
    ack: Option<u64>,
    /// The first event that is wrong, counted from 0.
    #[serde(rename = "invalid-event-number")]
    invalid: Option<usize>,
}

pub(super) async fn request(
    errand: &Arc<Errand>,
    hec: &Hec,
    channel: &Channel,
    piece: &[usize],
) -> Result<Request, HttpError> {
    let headers = on_channel(hec, channel);
    let (hec, piece) = (hec.clone(), piece.to_vec());
    let body = errand.body(move |errand, out| {
        let mut records = piece.iter().map(|place| &errand.batch.records[*place]);
        records.try_for_each(|record| write(errand, &hec, record, out))
    });
    Ok(Request { url: errand.below(EVENT), content_type: "application/json", headers, body: body.await? })
}

fn on_channel(hec: &Hec, channel: &Channel) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if hec.ack != Ack::Off {
        let id = HeaderValue::from_str(&channel.id.to_string()).expect("an id fits into a header");
        headers.insert("X-Splunk-Request-Channel", id);
    }
    headers
}

/// The envelope; the record stands in it as it is.
fn write(errand: &Errand, hec: &Hec, record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let (seconds, rest) = (record.time.div_euclid(1_000_000), record.time.rem_euclid(1_000_000) / 1_000);
    write!(out, "{{\"time\":{seconds}.{rest:03},\"source\":")?;
    serde_json::to_writer(&mut *out, &format_args!("lockstep:{}", record.site))?;
    out.write_all(b",\"sourcetype\":")?;
    let sourcetype =
        hec.sourcetype.replace("{source}", &record.source).replace("{kind}", record.kind.as_str());
    serde_json::to_writer(&mut *out, &sourcetype)?;
    for (key, value) in [("host", record.host.as_deref()), ("index", hec.index.as_deref())] {
        if let Some(value) = value {
            write!(out, ",\"{key}\":")?;
            serde_json::to_writer(&mut *out, value)?;
        }
    }
    out.write_all(b",\"event\":")?;
    out.write_all(errand.batch.bytes(record).trim_ascii_end())?;
    writeln!(out, ",\"fields\":{{\"uid\":\"{}\"}}}}", record.uid)
}

/// What the answer means, and the number by which an acknowledgement is to be asked for.
pub(super) fn judge(
    errand: &Errand,
    hec: &Hec,
    channel: &mut Channel,
    answer: &Answer,
) -> Result<(Verdict, Option<u64>), HttpError> {
    let reply: Reply = serde_json::from_slice(&answer.body).unwrap_or_default();
    let (status, said) = (answer.status.as_u16(), errand.excerpt(answer));
    match (status, reply.code) {
        (200..=299, Some(0)) => {}
        (200..=299, _) => return Err(errand.strange(said)),
        // Invalid data format, no event in it, a blank one, and indexed fields that cannot be handled.
        (400, Some(6 | 12 | 13 | 15)) => {
            return Ok((Verdict::Guilty { place: reply.invalid, reason: said }, None));
        }
        (413, _) | (400, None) => return Ok((Verdict::Guilty { place: None, reason: said }, None)),
        _ => return Err(failure(errand, hec, answer, &reply)),
    }
    let Some(ack) = reply.ack.filter(|_| hec.ack != Ack::Off) else {
        if hec.ack == Ack::On {
            return Err(errand.broken(
                "it took records and gave no number by which to ask for their acknowledgement: enable indexer \
                 acknowledgement in the token's settings, or set `ack: auto` and have records accepted only",
            ));
        }
        return Ok((Verdict::all(), None));
    };
    if channel.last.is_some_and(|last| ack <= last) {
        return Err(HttpError::NumberedAnew { to: errand.to() });
    }
    channel.last = Some(ack);
    Ok((Verdict::all(), Some(ack)))
}

/// What an answer means that is about no record (Splunk's table of status codes).
fn failure(errand: &Errand, hec: &Hec, answer: &Answer, reply: &Reply) -> HttpError {
    let said = errand.excerpt(answer);
    match reply.code {
        Some(1..=4 | 16 | 21 | 22) => errand.denied(said),
        Some(5) => errand.strange(format!("it saw an empty request ({said}): does something on the way remove the body?")),
        Some(7) => errand.broken(format!(
            "the token may not write to the index {} ({said}): allow it in the token's settings, or change `index`",
            hec.index.as_deref().unwrap_or("that it names itself")
        )),
        Some(10) => errand.broken(format!("the token wants acknowledgements ({said}): set `ack: auto`")),
        // A new channel comes with the next try.
        Some(11 | 14) => errand.strange(said),
        Some(8 | 9 | 17..=20 | 23..) => {
            HttpError::Busy { to: errand.to(), answer: said, wait: answer.wait }
        }
        _ => errand.failure(answer),
    }
}

/// Waits until what was sent is indexed, and notes it as taken.
pub(super) async fn await_acknowledgements(
    errand: &Arc<Errand>,
    hec: &Hec,
    channel: &Channel,
    mut sent: Vec<(u64, Vec<usize>)>,
    taken: &mut Vec<usize>,
) -> Result<(), HttpError> {
    let (end, mut pause) = (Instant::now() + hec.ack_timeout, ASK_EVERY.0);
    while !sent.is_empty() {
        let numbers: Vec<u64> = sent.iter().map(|(number, _)| *number).collect();
        match acknowledged(errand, hec, channel, &numbers).await {
            Ok(known) => sent.retain_mut(|(number, records)| {
                let indexed = known.get(number).copied().unwrap_or(false);
                if indexed {
                    taken.append(records);
                }
                !indexed
            }),
            // It may be back before the time is over.
            Err(HttpError::Busy { .. } | HttpError::Unreachable { .. } | HttpError::TimedOut { .. }) => {}
            Err(error) => return Err(error),
        }
        if !sent.is_empty() {
            if Instant::now() + pause > end {
                return Err(HttpError::NotAcknowledged { to: errand.to(), after: hec.ack_timeout });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(ASK_EVERY.1);
        }
    }
    Ok(())
}

async fn acknowledged(
    errand: &Arc<Errand>,
    hec: &Hec,
    channel: &Channel,
    numbers: &[u64],
) -> Result<BTreeMap<u64, bool>, HttpError> {
    #[derive(Deserialize)]
    struct Acks {
        acks: BTreeMap<u64, bool>,
    }
    let answer = ask(errand, hec, channel, numbers).await?;
    if !answer.status.is_success() {
        let reply: Reply = serde_json::from_slice(&answer.body).unwrap_or_default();
        return Err(failure(errand, hec, &answer, &reply));
    }
    let Acks { acks } =
        serde_json::from_slice(&answer.body).map_err(|error| errand.unreadable(&error, &answer))?;
    Ok(acks)
}

async fn ask(
    errand: &Arc<Errand>,
    hec: &Hec,
    channel: &Channel,
    numbers: &[u64],
) -> Result<Answer, HttpError> {
    let asked = json!({ "acks": numbers }).to_string();
    let body = errand.body(move |_, out| out.write_all(asked.as_bytes())).await?;
    let mut url = errand.below(ACK);
    url.set_query(Some(&format!("channel={}", channel.id)));
    let headers = on_channel(hec, channel);
    errand.post(Request { url, content_type: "application/json", headers, body }).await
}

/// Whether the token offers acknowledgements; sends no event.
pub(super) async fn offers_acknowledgements(errand: &Arc<Errand>, hec: &Hec) -> Result<bool, HttpError> {
    let channel = Channel::new(&errand.settings, 0, errand.now());
    let answer = ask(errand, hec, &channel, &[0]).await?;
    let reply: Reply = serde_json::from_slice(&answer.body).unwrap_or_default();
    match reply.code {
        _ if answer.status.is_success() => Ok(true),
        Some(14) => Ok(false),
        _ => Err(failure(errand, hec, &answer, &reply)),
    }
}

/// Where every batch is to be acknowledged, a token that offers none is found out before anything is sent.
pub(super) async fn must_acknowledge(errand: &Arc<Errand>, hec: &Hec) -> Result<(), HttpError> {
    if offers_acknowledgements(errand, hec).await? {
        return Ok(());
    }
    Err(errand.broken(
        "the token offers no indexer acknowledgement: enable it in the token's settings, or set `ack: auto` and have \
         records accepted only",
    ))
}

/// Sends an empty request, which a valid token is told, and asks for acknowledgements.
pub(super) async fn probe(errand: &Arc<Errand>, hec: &Hec) -> Result<Vec<String>, HttpError> {
    let channel = Channel::new(&errand.settings, 0, errand.now());
    let body = errand.body(|_, _| Ok(())).await?;
    let request = Request {
        url: errand.below(EVENT),
        content_type: "application/json",
        headers: on_channel(hec, &channel),
        body,
    };
    let answer = errand.post(request).await?;
    let reply: Reply = serde_json::from_slice(&answer.body).unwrap_or_default();
    if reply.code != Some(5) {
        return Err(match answer.status.is_success() {
            true => errand.strange(errand.excerpt(&answer)),
            false => failure(errand, hec, &answer, &reply),
        });
    }
    let said = match hec.ack {
        Ack::Off => "accepted only: `ack: off`",
        Ack::On => {
            must_acknowledge(errand, hec).await?;
            "indexer acknowledgement"
        }
        Ack::Auto if offers_acknowledgements(errand, hec).await? => "indexer acknowledgement",
        Ack::Auto => "accepted only: the token offers no indexer acknowledgement",
    };
    Ok(vec!["takes the token".to_owned(), said.to_owned()])
}
