//! Elasticsearch and OpenSearch: `_bulk` with `create`, the uid as `_id`.
//!
//! The index is named from the record alone, so a record that is sent again meets itself, and the far side answers
//! 409: it is delivered, exactly once. A data stream knows ids only within its newest backing index: there a record
//! that is sent again after a rollover is there twice, under the same uid.

use std::io::{self, Write};
use std::sync::Arc;

use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::error::HttpError;
use super::exchange::{Answer, Errand, Request};
use super::line::Verdict;
use super::settings::Bulk;
use crate::formats::rfc3339;

/// Only what is read of the answer.
const PATH: &str = "_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason";

#[derive(Debug, Deserialize)]
struct Answered {
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(alias = "index")]
    create: Outcome,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    status: u16,
    error: Option<Reason>,
}

#[derive(Debug, Deserialize)]
struct Reason {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
}

/// What one item's answer means.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    /// There is no room for it now.
    Again,
    /// It is refused as it is.
    Refused,
    /// Something besides the record stands in the way.
    Broken,
}

pub(super) async fn request(
    errand: &Arc<Errand>,
    bulk: &Bulk,
    piece: &[usize],
) -> Result<Request, HttpError> {
    let (bulk, piece) = (bulk.clone(), piece.to_vec());
    let body = errand.body(move |errand, out| write(errand, &bulk, &piece, out)).await?;
    let headers = HeaderMap::new();
    Ok(Request { url: errand.below(PATH), content_type: "application/x-ndjson", headers, body })
}

fn write(errand: &Errand, bulk: &Bulk, piece: &[usize], out: &mut dyn Write) -> io::Result<()> {
    let mut index = String::new();
    // Into a data stream nothing can be written over.
    let action = if errand.batch.again && !bulk.data_stream { "index" } else { "create" };
    for place in piece {
        let record = &errand.batch.records[*place];
        index.clear();
        bulk.index.render(record, &mut index);
        writeln!(out, "{{\"{action}\":{{\"_index\":\"{index}\",\"_id\":\"{}\"}}}}", record.uid)?;
        let bytes = errand.batch.bytes(record);
        let time = bulk.timestamp.then(|| rfc3339(record.time)).flatten();
        match (time, bytes.strip_prefix(b"{\"")) {
            (Some(time), Some(rest)) => {
                write!(out, "{{\"@timestamp\":\"{time}\",\"")?;
                out.write_all(rest)?;
            }
            _ => out.write_all(bytes)?,
        }
    }
    Ok(())
}

pub(super) fn judge(errand: &Errand, answer: &Answer, sent: usize) -> Result<Verdict, HttpError> {
    match answer.status.as_u16() {
        200..=299 => {}
        400 | 413 | 422 => return Ok(Verdict::Guilty { place: None, reason: errand.excerpt(answer) }),
        _ => return Err(errand.failure(answer)),
    }
    let answered: Answered =
        serde_json::from_slice(&answer.body).map_err(|error| errand.unreadable(&error, answer))?;
    if answered.items.len() != sent {
        let count = answered.items.len();
        return Err(errand.strange(format!("it answered for {count} of {sent} records")));
    }
    let (mut refused, mut again, mut full) = (Vec::new(), Vec::new(), String::new());
    for (place, Item { create: outcome }) in answered.items.iter().enumerate() {
        match outcome.fate() {
            Fate::Delivered => {}
            Fate::Again => {
                full = errand.clean(&outcome.said());
                again.push(place);
            }
            Fate::Refused => refused.push((place, errand.clean(&outcome.said()))),
            Fate::Broken => return Err(errand.broken(errand.clean(&outcome.said()))),
        }
    }
    Ok(Verdict::Taken { refused, again, full })
}

impl Outcome {
    fn fate(&self) -> Fate {
        /// Errors with status 400 that tell of the index, not of the record.
        const NOT_THE_RECORD: [&str; 5] = [
            "index_closed_exception",
            "invalid_index_name_exception",
            "validation_exception",
            "routing_missing_exception",
            "security_exception",
        ];
        let error = self.error.as_ref();
        let kind = error.map_or("", |error| error.kind.as_str());
        let no_pipeline = || {
            let reason = error.and_then(|error| error.reason.as_deref()).unwrap_or_default();
            reason.starts_with("pipeline with id [") && reason.ends_with("does not exist")
        };
        match self.status {
            200..=299 | 409 => Fate::Delivered,
            429 | 500..=599 => Fate::Again,
            400 if NOT_THE_RECORD.contains(&kind) || no_pipeline() => Fate::Broken,
            400 | 413 | 422 => Fate::Refused,
            _ => Fate::Broken,
        }
    }

    /// Status, type and reason, without what the far side quotes of the record.
    fn said(&self) -> String {
        let Some(Reason { kind, reason }) = &self.error else { return self.status.to_string() };
        let reason = reason.as_deref().unwrap_or_default();
        let quotes = ["Preview of field's value", "The prefix of the first immense term"];
        let end = quotes.iter().filter_map(|quote| reason.find(quote)).min().unwrap_or(reason.len());
        let reason = reason.get(..end).unwrap_or_default().trim_end_matches([' ', '.']);
        format!("{} {kind}: {reason}", self.status)
    }
}

/// Asks who it is, and whether the credential is taken.
pub(super) async fn probe(errand: &Errand, bulk: &Bulk) -> Result<Vec<String>, HttpError> {
    #[derive(Deserialize)]
    struct Root {
        cluster_name: String,
        version: Version,
    }
    #[derive(Deserialize)]
    struct Version {
        number: String,
        #[serde(default)]
        distribution: Option<String>,
    }
    let answer = errand.get(errand.settings.url.clone()).await?;
    if !answer.status.is_success() {
        return Err(errand.failure(&answer));
    }
    let Root { cluster_name, version } =
        serde_json::from_slice(&answer.body).map_err(|error| errand.unreadable(&error, &answer))?;
    let product = version.distribution.as_deref().unwrap_or("elasticsearch");
    let mut said = vec![format!("{product} {}, cluster {}", version.number, errand.clean(&cluster_name))];
    if product != bulk.product.as_str() {
        said.push(format!("note: `type` says {}; both take the same requests", bulk.product.as_str()));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(status: u16, kind: &str, reason: &str) -> Fate {
        let error = Some(Reason { kind: kind.to_owned(), reason: Some(reason.to_owned()) });
        Outcome { status, error }.fate()
    }

    #[test]
    fn only_what_is_the_records_own_fault_is_refused() {
        assert_eq!(Outcome { status: 201, error: None }.fate(), Fate::Delivered);
        assert_eq!(
            fate(409, "version_conflict_engine_exception", "document already exists"),
            Fate::Delivered
        );
        assert_eq!(fate(400, "mapper_parsing_exception", "failed to parse field [a]"), Fate::Refused);
        assert_eq!(fate(400, "illegal_argument_exception", "Limit of total fields [1000]"), Fate::Refused);
        assert_eq!(fate(429, "es_rejected_execution_exception", "queue"), Fate::Again);
        assert_eq!(fate(429, "cluster_block_exception", "flood-stage watermark"), Fate::Again);
        assert_eq!(fate(503, "unavailable_shards_exception", "primary"), Fate::Again);
        assert_eq!(fate(403, "cluster_block_exception", "index read-only"), Fate::Broken);
        assert_eq!(fate(404, "index_not_found_exception", "no such index"), Fate::Broken);
        assert_eq!(fate(400, "validation_exception", "maximum normal shards open"), Fate::Broken);
        let pipeline = "pipeline with id [geo] does not exist";
        assert_eq!(fate(400, "illegal_argument_exception", pipeline), Fate::Broken);
    }

    /// Both sentences are OpenSearch 2.19's.
    #[test]
    fn what_is_told_of_a_refusal_holds_nothing_of_the_record() {
        let told = |reason: &str| {
            let error =
                Reason { kind: "illegal_argument_exception".to_owned(), reason: Some(reason.to_owned()) };
            Outcome { status: 400, error: Some(error) }.said()
        };
        let immense = told(
            "Document contains at least one immense term in field=\"unmapped._value\", all of which were skipped.  Please \
             correct the analyzer to not produce such terms.  The prefix of the first immense term is: '[120, 120",
        );
        assert!(immense.contains("unmapped._value") && !immense.contains("120"), "{immense}");

        let reason = "failed to parse field [a] of type [long] in document with id 'b'. Preview of field's value: 'Jane'";
        let error = Reason { kind: "mapper_parsing_exception".to_owned(), reason: Some(reason.to_owned()) };
        let said = Outcome { status: 400, error: Some(error) }.said();
        assert_eq!(
            said,
            "400 mapper_parsing_exception: failed to parse field [a] of type [long] in document with id 'b'"
        );
    }
}
