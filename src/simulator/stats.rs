//! What was asked of the simulator: for proofs about pace, cost and forbidden paths.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::requests::Endpoint;
use crate::model::Micros;

/// How many requests are kept one by one.
const LOGGED: usize = 10_000;
/// How many violations are kept with their words.
const VIOLATIONS: usize = 1_000;

/// One request as it was answered. Times are the portal's, in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Logged {
    pub number: u64,
    pub at: Micros,
    pub endpoint: Option<Endpoint>,
    pub organization: Option<String>,
    pub from: Option<Micros>,
    pub to: Option<Micros>,
    /// Of the requests for approval, the status asked for.
    pub part: Option<u8>,
    pub page: u64,
    pub size: u64,
    pub status: u16,
    pub rows: usize,
    /// What the answer said of the total.
    pub total: Option<u64>,
}

/// Sums over all requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    pub requests: u64,
    pub requests_by_endpoint: BTreeMap<Endpoint, u64>,
    pub rows_by_endpoint: BTreeMap<Endpoint, u64>,
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that a collector must never send.
    pub violation_count: u64,
    pub violations: Vec<String>,
    /// The most requests that began within any second of real time.
    pub peak_per_second: usize,
    pub max_concurrent: usize,
    pub concurrent: usize,
    #[serde(skip)]
    recent: VecDeque<Instant>,
    #[serde(skip)]
    log: VecDeque<Logged>,
}

impl Stats {
    /// Counts the beginning of a request and answers its number.
    pub fn begin(&mut self) -> u64 {
        let now = Instant::now();
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|first| now - *first >= Duration::from_secs(1)) {
            self.recent.pop_front();
        }
        self.peak_per_second = self.peak_per_second.max(self.recent.len());
        self.concurrent += 1;
        self.max_concurrent = self.max_concurrent.max(self.concurrent);
        self.requests += 1;
        self.requests
    }

    /// Counts the end of a request.
    pub fn end(&mut self) {
        self.concurrent -= 1;
    }

    /// Keeps how a request was answered.
    pub fn answered(&mut self, logged: Logged) {
        *self.statuses.entry(logged.status).or_default() += 1;
        if let Some(endpoint) = logged.endpoint {
            *self.requests_by_endpoint.entry(endpoint).or_default() += 1;
            *self.rows_by_endpoint.entry(endpoint).or_default() += logged.rows as u64;
        }
        if self.log.len() == LOGGED {
            self.log.pop_front();
        }
        self.log.push_back(logged);
    }

    pub fn violation(&mut self, what: String) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS {
            self.violations.push(what);
        }
    }

    /// The kept requests with a number above this.
    pub fn since(&self, number: u64) -> Vec<Logged> {
        self.log.iter().filter(|logged| logged.number > number).cloned().collect()
    }
}
