//! Every sort of destination there is, and how what it has is read back from it.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::app::fresh_seed;
use super::binary::Place;
use super::gate::{Effect, Gate};
use super::hec::{self, Collector};
use super::kafka::Kafka;
use super::opensearch::{OpenSearch, opensearch};
use super::output::files;
use super::receiver::{Receiver, Wants};

/// Sorts of destinations, each with a promise of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sort {
    File,
    Kafka,
    KafkaPlain,
    Index,
    SplunkAcknowledged,
    Splunk,
    Http,
    Stdout,
}

impl Sort {
    pub(crate) const ALL: [Self; 8] = [
        Self::File,
        Self::Kafka,
        Self::KafkaPlain,
        Self::Index,
        Self::SplunkAcknowledged,
        Self::Splunk,
        Self::Http,
        Self::Stdout,
    ];

    /// As the documentation calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::File => "`file`",
            Self::Kafka => "`kafka` with transactions",
            Self::KafkaPlain => "`kafka` without",
            Self::Index => "`elasticsearch`, `opensearch` into an index",
            Self::SplunkAcknowledged => "`splunk_hec` with indexer acknowledgement",
            Self::Splunk => "`splunk_hec` without",
            Self::Http => "`http`",
            Self::Stdout => "`stdout`",
        }
    }

    pub(crate) fn is_exactly_once(self) -> bool {
        matches!(self, Self::File | Self::Kafka | Self::Index)
    }

    /// Whether a program that delivers there comes by a fault point.
    pub(crate) fn meets(self, point: &str) -> bool {
        match point.split('.').next() {
            Some("file" | "dir") => self == Self::File,
            Some("kafka") => self == Self::Kafka,
            _ => true,
        }
    }
}

/// A destination of its own for one configuration.
pub(crate) struct FarSide {
    pub(crate) sort: Sort,
    there: There,
    /// The way to it, on which requests go wrong.
    gate: Option<Gate>,
}

enum There {
    /// In the folder of whoever runs the program.
    Place,
    Kafka(&'static Kafka, String),
    Index(OpenSearch, String),
    Splunk(Collector, hec::Setup),
    Http(Receiver),
}

impl FarSide {
    /// None, said loudly, where its real part cannot be had.
    pub(crate) async fn new(sort: Sort) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("m{}-{:x}", COUNT.fetch_add(1, Ordering::Relaxed), fresh_seed());
        let splunk = hec::Setup {
            ack: sort == Sort::SplunkAcknowledged,
            indexing: Duration::from_millis(if sort == Sort::Splunk { 0 } else { 100 }),
            ..hec::Setup::default()
        };
        let there = match sort {
            Sort::File | Sort::Stdout => There::Place,
            Sort::Kafka | Sort::KafkaPlain => There::Kafka(Kafka::shared()?, name),
            Sort::Index => {
                let search = opensearch().await?;
                search.template(&name, json!({})).await;
                There::Index(search, name)
            }
            Sort::SplunkAcknowledged | Sort::Splunk => {
                There::Splunk(Collector::start(splunk.clone()).await, splunk)
            }
            Sort::Http => {
                There::Http(Receiver::start(Wants { largest: Some(400_000), ..Wants::default() }).await)
            }
        };
        let url = match &there {
            There::Place | There::Kafka(..) => None,
            There::Index(search, _) => Some(search.url.as_str()),
            There::Splunk(collector, _) => Some(collector.url.as_str()),
            There::Http(receiver) => Some(receiver.url.as_str()),
        };
        let gate = match url {
            Some(url) => Some(Gate::before(url).await),
            None => None,
        };
        Some(Self { sort, there, gate })
    }

    /// Lets the program of this place deliver here, and makes what has to be there before.
    pub(crate) async fn prepare(&self, place: &Place) {
        let url = self.gate.as_ref().map(|gate| gate.url.as_str()).unwrap_or_default();
        let sink = match &self.there {
            There::Place if self.sort == Sort::Stdout => "type: stdout".to_owned(),
            There::Place => format!(
                "type: file, path: \"{}/{{source}}-{{org_id}}-{{date}}.ndjson\", rotate: {{ size: 64KiB, age: 1h }}",
                place.out().display()
            ),
            There::Kafka(kafka, name) => format!(
                "type: kafka, brokers: [\"{}\"], positions_topic: {name}-positions, transactional: {}, \
                 topics: {{ events: {name}-events, devices: {name}-devices }}",
                kafka.plain(),
                if self.sort == Sort::Kafka { "auto" } else { "false" },
            ),
            There::Index(_, prefix) => format!(
                "type: opensearch, url: \"{url}\", index: \"{prefix}-{{kind}}s-{{date}}\", request_size: 256KiB"
            ),
            There::Splunk(_, setup) => {
                fs::write(place.path("hec-token"), &setup.token).unwrap();
                let token = place.path("hec-token");
                let patience = if setup.ack { ", ack_timeout: 3s" } else { "" };
                format!("type: splunk_hec, url: \"{url}\", token: {{ file: {} }}{patience}", token.display())
            }
            There::Http(_) => format!("type: http, url: \"{url}/records\""),
        };
        place.deliver_to(&format!("  - {{ name: far, format: raw, {sink} }}"));
        if let There::Kafka(..) = self.there {
            place.ask(&["check", "--online", "--create"]).await;
        }
    }

    /// From now on a share of what is sent there goes wrong on the way.
    pub(crate) fn be_bad(&self, seed: u64) {
        if let Some(gate) = &self.gate {
            gate.chance(0.1, seed);
        }
    }

    pub(crate) fn be_good(&self) {
        if let Some(gate) = &self.gate {
            gate.open();
        }
    }

    /// How many requests failed on the way; none where nothing makes them.
    pub(crate) fn failed(&self) -> Option<usize> {
        let seen = self.gate.as_ref()?.seen();
        Some(seen.iter().filter(|seen| seen.effect != Effect::Through).count())
    }

    /// It loses what it may lose.
    pub(crate) fn restart(&self) {
        // What is accepted and not indexed is lost with a collector: only an acknowledgement tells.
        if let There::Splunk(collector, hec::Setup { ack: true, .. }) = &self.there {
            collector.restart();
        }
    }

    /// Everything that a reader finds there, in lines of the raw format.
    pub(crate) async fn lines(&self, place: &Place) -> Vec<String> {
        match &self.there {
            There::Place if self.sort == Sort::Stdout => {
                // What a kill cut off is no line.
                let printed =
                    files(&place.printed()).into_iter().map(|file| fs::read_to_string(file).unwrap());
                let whole =
                    printed.filter_map(|text| text.rsplit_once('\n').map(|(whole, _)| whole.to_owned()));
                whole.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
            }
            There::Place => {
                let written = files(&place.out()).into_iter().map(|file| fs::read_to_string(file).unwrap());
                written.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
            }
            There::Kafka(kafka, name) => {
                let topics = [format!("{name}-events"), format!("{name}-devices")];
                let read = || kafka.read(&[topics[0].as_str(), topics[1].as_str()]);
                tokio::task::block_in_place(read).into_iter().map(|record| record.value).collect()
            }
            There::Index(search, prefix) => {
                let documents = search.documents(prefix).await;
                documents.into_iter().map(|document| document.source.get().to_owned()).collect()
            }
            There::Splunk(collector, _) => {
                let events = collector.indexed().into_iter();
                events.map(|event| event.event.unwrap().get().to_owned()).collect()
            }
            There::Http(receiver) => receiver.lines(),
        }
    }

    /// What it has to say against what came, and against what the program said.
    pub(crate) fn complaints(&self, said: &str) -> Vec<String> {
        let mut complaints = match &self.there {
            There::Place | There::Kafka(..) => Vec::new(),
            There::Index(..) => {
                let seen = self.gate.iter().flat_map(Gate::seen).map(|seen| seen.line);
                seen.filter(|line| !line.starts_with("POST /_bulk?filter_path=")).collect()
            }
            There::Splunk(collector, _) => {
                collector.codes().iter().map(|code| format!("answered with code {code}")).collect()
            }
            There::Http(receiver) => receiver.wrong(),
        };
        let weak = match self.sort {
            Sort::Splunk => "is accepted, and nobody can tell",
            Sort::KafkaPlain => "delivers at least once",
            _ => return complaints,
        };
        if !said.contains(weak) {
            complaints.push(format!("the program did not say: {weak}"));
        }
        complaints
    }
}

/// Lines without repeats of a uid, how many repeats there were, and those among them that are not the same line.
pub(crate) fn once_each(lines: Vec<String>) -> (Vec<String>, usize, Vec<String>) {
    #[derive(Deserialize)]
    struct Named {
        uid: String,
    }
    let (mut firsts, mut first, mut repeats, mut others) = (HashMap::new(), Vec::new(), 0, Vec::new());
    for line in lines {
        let uid = serde_json::from_str(&line).map_or_else(|_| line.clone(), |Named { uid }| uid);
        match firsts.get(&uid) {
            None => {
                firsts.insert(uid, first.len());
                first.push(line);
            }
            Some(&place) => {
                repeats += 1;
                if first[place] != line {
                    others.push(line);
                }
            }
        }
    }
    (first, repeats, others)
}
