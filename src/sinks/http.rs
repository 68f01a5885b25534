//! Far sides that are spoken to over HTTP: Elasticsearch and OpenSearch (`bulk.rs`), Splunk's HTTP Event Collector
//! (`hec.rs`), and whatever else takes records by POST (`post.rs`).
//!
//! They share all but the shape of a request and the reading of its answer ([`Protocol`]). A batch is dealt out to
//! *lines* (`line.rs`), each of which sends one request after another, so that the order in a lane is kept. What a
//! line does with an answer is the same for all: what the far side has is noted, what it has no room for is sent
//! again, and a request that it refuses as a whole is halved until the guilty record stands alone, which is refused
//! while all others are delivered. A refused credential and whatever an operator has to mend holds the sink; nothing
//! is given up for it.
//!
//! What was taken is remembered until the batch is committed: when a write fails half-way, only the rest is sent
//! again. After a crash the whole batch is, and it depends on the protocol whether that doubles anything.

mod bulk;
mod error;
mod exchange;
mod hec;
mod index;
mod line;
mod meet;
mod post;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::credentials::read_secret;
use crate::format::Format;
use crate::model::{ConnectionId, Lane};
use crate::sink::{Batch, Refusal, SinkError};
pub use error::HttpError;
use exchange::Errand;
pub use hec::Ack;
pub use index::{IndexTemplate, TemplateError};
use line::{Line, Report};
pub use post::Body;
pub use settings::{Auth, Bulk, Hec, HttpSettings, Post, Product, Protocol, address};

/// How often a sink whose credential was refused looks whether there is another.
const LOOK_FOR_CREDENTIAL: Duration = Duration::from_secs(1);

/// A sink that posts requests. Dropping a call's future sends nothing more; what was taken by then may be sent again.
#[derive(Debug)]
pub struct HttpSink {
    settings: Arc<HttpSettings>,
    /// None before recovery.
    client: Option<Client>,
    /// What the far side has of records that are not committed yet.
    taken: HashSet<Uuid>,
    /// The records of the batch written last.
    written: Vec<Uuid>,
    /// When a batch was last prepared, on our clock.
    prepared: (DateTime<Utc>, Instant),
    /// By line; empty after every error.
    channels: Vec<hec::Channel>,
    /// The credential that was refused.
    refused: Option<SecretString>,
    /// The far side has taken a record in this life of the process, so it is not everything that it refuses.
    takes: bool,
    /// It was said that an answer means "accepted" and no more.
    accepted_said: bool,
    notices: Vec<String>,
}

impl HttpSink {
    /// Touches nothing before it recovers.
    pub fn new(settings: &HttpSettings, format: Format) -> Self {
        let mut settings = settings.clone();
        if let Protocol::Bulk(bulk) = &mut settings.protocol {
            bulk.timestamp = bulk.data_stream && !matches!(format, Format::Ecs { .. });
        }
        Self {
            settings: Arc::new(settings),
            client: None,
            taken: HashSet::new(),
            written: Vec::new(),
            prepared: (DateTime::UNIX_EPOCH, Instant::now()),
            channels: Vec::new(),
            refused: None,
            takes: false,
            accepted_said: false,
            notices: Vec::new(),
        }
    }

    /// Begins anew, with certificates as they are now.
    pub(crate) fn recover(&mut self) -> Result<(), SinkError> {
        self.channels.clear();
        if self.settings.reach.insecure_skip_verify && self.client.is_none() {
            tracing::warn!(
                "CERTIFICATES ARE NOT VERIFIED (insecure_skip_verify): anybody on the way can read the secret and records"
            );
        }
        self.client = Some(self.settings.reach.client(&self.settings.url).map_err(HttpError::Settings)?);
        Ok(())
    }

    pub(crate) fn prepare(&mut self, now: DateTime<Utc>) {
        self.prepared = (now, Instant::now());
    }

    /// Returns once the far side has all of the batch but the records refused.
    pub(crate) async fn write(&mut self, batch: &Batch) -> Result<Vec<Refusal>, SinkError> {
        self.written = batch.records.iter().map(|record| record.uid).collect();
        let errand = Arc::new(self.errand(batch.clone()).await?);
        if let Protocol::Hec(hec) = &self.settings.protocol
            && hec.ack == Ack::On
            && self.channels.is_empty()
        {
            let asked = hec::must_acknowledge(&errand, hec).await;
            asked.inspect_err(|error| self.note_refusal(error, &errand))?;
        }
        let mut lines = JoinSet::new();
        for (number, records) in self.dealt(batch).into_iter().enumerate() {
            let now = errand.now();
            if self.channels.len() == number {
                self.channels.push(hec::Channel::new(&self.settings, number, now));
            }
            let channel = self.channels[number].clone();
            lines.spawn(Line::new(Arc::clone(&errand), number, channel).run(records));
        }
        let (mut refused, mut error) = (Vec::new(), None);
        while let Some(ended) = lines.join_next().await {
            let report = ended.map_err(|error| SinkError::Stopped(error.to_string()))?;
            let Report { number, channel, taken, refused: guilty, outcome, accepted_only } = report;
            self.channels[number] = channel;
            self.takes |= !taken.is_empty();
            self.taken.extend(taken.into_iter().map(|place| batch.records[place].uid));
            refused.extend(guilty);
            if accepted_only {
                self.say_accepted();
            }
            // What an operator has to mend is told before what may pass by itself.
            if let Err(other) = outcome
                && error.as_ref().is_none_or(|error: &HttpError| !error.holds())
            {
                error = Some(other);
            }
        }
        // What was refused before says nothing new of the far side.
        let newly = refused.iter().rfind(|refusal| batch.records[refusal.record].lane != Lane::Refill);
        if let (None, false, Some(Refusal { reason, .. })) = (&error, self.takes, newly) {
            let (to, refused, reason) = (errand.to(), refused.len(), reason.clone());
            error = Some(HttpError::RefusesAll { to, refused, reason });
        }
        match error {
            Some(error) => {
                self.written.clear();
                self.note_refusal(&error, &errand);
                Err(error.into())
            }
            None => Ok(refused),
        }
    }

    /// Remembers a credential that was refused.
    fn note_refusal(&mut self, error: &HttpError, errand: &Errand) {
        self.refused = errand.secret.clone().filter(|_| matches!(error, HttpError::Denied { .. }));
    }

    /// What was written last counts from now on, and need not be remembered.
    pub(crate) fn commit(&mut self) {
        for uid in self.written.drain(..) {
            self.taken.remove(&uid);
        }
    }

    pub(crate) fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Returns once it is worth trying again before the pause is over: another credential is there than the one
    /// that was refused.
    pub(crate) async fn mended(&self) {
        let (Some(refused), Some(source)) = (&self.refused, self.settings.auth.source()) else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(LOOK_FOR_CREDENTIAL).await;
            let now = read_secret(source).await;
            if now.is_ok_and(|now| now.expose_secret() != refused.expose_secret()) {
                return;
            }
        }
    }

    /// Looks whether the far side is there and takes the credential, without leaving anything there; answers what
    /// an operator should know of it.
    pub(crate) async fn probe(&mut self, now: DateTime<Utc>) -> Result<Vec<String>, SinkError> {
        self.recover()?;
        self.prepare(now);
        let errand = Arc::new(self.errand(Batch::default()).await?);
        Ok(match &self.settings.protocol {
            Protocol::Bulk(bulk) => bulk::probe(&errand, bulk).await?,
            Protocol::Hec(hec) => hec::probe(&errand, hec).await?,
            Protocol::Post(_) => {
                vec!["nothing is asked of it: whatever is sent may count as a record".to_owned()]
            }
        })
    }

    /// What every request of a batch shares. The secret is read for each, so that a new one counts at once.
    async fn errand(&self, batch: Batch) -> Result<Errand, HttpError> {
        let secret = match self.settings.auth.source() {
            Some(source) => Some(read_secret(source).await?),
            None => None,
        };
        let address = match self.settings.address() {
            Some(source) => {
                let address = read_secret(source).await?;
                let plain = self.settings.url.scheme() == "http";
                settings::address(address.expose_secret(), plain)
                    .map_err(|why| HttpError::Settings(format!("the address in {source} {why}")))?
            }
            None => self.settings.url.clone(),
        };
        let client = self.client.clone().expect("a sink is recovered before anything is written");
        let begun = batch.records.iter().any(|record| self.taken.contains(&record.uid));
        let (settings, prepared) = (Arc::clone(&self.settings), self.prepared);
        Ok(Errand { client, settings, address, secret, batch, begun, prepared })
    }

    /// Deals out the records that the far side does not have yet: all of a lane to one line, the next lane to
    /// the line that has least.
    fn dealt(&self, batch: &Batch) -> Vec<Vec<usize>> {
        let mut lanes: BTreeMap<(Lane, ConnectionId), (usize, Vec<usize>)> = BTreeMap::new();
        for (place, record) in batch.records.iter().enumerate() {
            if !self.taken.contains(&record.uid) {
                let (bytes, places) = lanes.entry((record.lane, record.connection)).or_default();
                *bytes += record.bytes.len();
                places.push(place);
            }
        }
        let mut lines: Vec<(usize, Vec<usize>)> = Vec::new();
        for (bytes, places) in lanes.into_values() {
            if lines.len() < self.settings.concurrent {
                lines.push((bytes, places));
            } else if let Some(line) = lines.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                line.0 += bytes;
                line.1.extend(places);
            }
        }
        lines.into_iter().map(|(_, places)| places).collect()
    }

    fn say_accepted(&mut self) {
        if !self.accepted_said {
            self.accepted_said = true;
            self.notices.push(
                "without indexer acknowledgement what the far side answered for is accepted, and nobody can tell whether \
                 it is indexed"
                    .to_owned(),
            );
        }
    }
}
