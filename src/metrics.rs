//! Everything that `/metrics` tells, read from one [`Status`], so that the two never disagree.
//!
//! The families are made anew for every scrape: a stream or sink that is gone leaves no series behind. What
//! only grows while the program runs is a counter; it starts again with the program.

#[cfg(test)]
mod tests;

use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};

use crate::deliver::SinkCondition;
use crate::portal::CredentialState;
use crate::status::{SiteStatus, Status, StreamCondition, StreamStatus};

/// What the text is sent as.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A struct of metric families. A field `stream_rows_total` becomes `lockstep_stream_rows_total`, its doc
/// comment the help text.
macro_rules! families {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $( $(#[doc = $help:literal])+ $prefix:ident / $field:ident: $kind:ident [$($label:literal),*], )+
        }
    ) => {
        $(#[$about])*
        pub struct $name {
            registry: Registry,
            $( $(#[doc = $help])+ pub $field: $kind, )+
        }

        impl $name {
            fn empty() -> Self {
                let registry = Registry::new();
                $(
                    let name = concat!(stringify!($prefix), "_", stringify!($field));
                    let help = concat!($($help),+).trim();
                    let $field = $kind::new(Opts::new(name, help), &[$($label),*])
                        .expect("the name and the labels of a field are well formed");
                    registry
                        .register(Box::new($field.clone()))
                        .expect("no two fields have the same name");
                )+
                Self { registry, $($field),+ }
            }
        }
    };
}

families! {
    /// All metrics.
    pub struct Metrics {
        /// Always 1; tells the version.
        lockstep / build_info: GaugeVec ["version"],
        /// When the program was started.
        lockstep / start_timestamp_seconds: GaugeVec [],
        /// Whether nothing is stale, held or paused.
        lockstep / fresh: GaugeVec [],
        /// How many problems /fresh lists.
        lockstep / problems: GaugeVec [],

        /// How far the newest proven time of a stream lies behind the portal's time.
        lockstep / stream_lag_seconds: GaugeVec ["site", "source", "scope", "query"],
        /// Until when everything from the start on is proven.
        lockstep / stream_proven_until_timestamp_seconds: GaugeVec ["site", "source", "scope", "query"],
        /// Rows that became entries.
        lockstep / stream_rows_total: CounterVec ["site", "source", "scope", "query"],
        /// Requests made for pages.
        lockstep / stream_requests_total: CounterVec ["site", "source", "scope", "query"],
        /// Intervals that are not proven, by what is known of them.
        lockstep / stream_unproven_intervals: GaugeVec ["site", "source", "scope", "query", "state"],
        /// Length of the intervals that are not proven, by what is known of them.
        lockstep / stream_unproven_seconds: GaugeVec ["site", "source", "scope", "query", "state"],
        /// Whether the lag is beyond 5 times the interval of polls, and at least 10 minutes.
        lockstep / stream_stale: GaugeVec ["site", "source", "scope", "query"],
        /// 1 for the condition that a stream is in.
        lockstep / stream_condition: GaugeVec ["site", "source", "scope", "query", "condition"],
        /// Organizations of a tree that list nothing although their rows are usual.
        lockstep / silent_organizations: GaugeVec ["site", "source", "query"],

        /// Fields that the vendor added, which this version does not know, or dropped.
        lockstep / changed_fields: GaugeVec ["site", "source", "query", "change"],

        /// Whether the portal takes the token; absent until it was asked.
        lockstep / credential_ok: GaugeVec ["site"],
        /// Requests sent with the credential, retries and probes included, by all sites that share it.
        lockstep / credential_requests_total: CounterVec ["site"],
        /// How often the portal told the credential to wait.
        lockstep / credential_throttled_total: CounterVec ["site"],
        /// Moving average of the time to the headers of an answer.
        lockstep / portal_latency_seconds: GaugeVec ["site"],
        /// How far the portal's time is ahead of ours.
        lockstep / portal_clock_offset_seconds: GaugeVec ["site"],
        /// When the token lapses, as far as its `token_expiry` is set; absent does not mean never.
        lockstep / token_expires_timestamp_seconds: GaugeVec ["site"],

        /// Records that a sink has confirmed.
        lockstep / sink_delivered_records_total: CounterVec ["sink", "type"],
        /// Bytes of the records that a sink has confirmed.
        lockstep / sink_delivered_bytes_total: CounterVec ["sink", "type"],
        /// Delivered records of kinds of rows that this version does not know.
        lockstep / sink_unmapped_action_types_total: CounterVec ["sink", "type"],
        /// Entries that became dead letters of a sink.
        lockstep / sink_dead_letters_total: CounterVec ["sink", "type"],
        /// Stored bytes that a sink is owed.
        lockstep / sink_pending_bytes: GaugeVec ["sink", "type"],
        /// Age of the oldest entry that a sink is owed.
        lockstep / sink_lag_seconds: GaugeVec ["sink", "type"],
        /// Entries that a sink was too far behind for, and that are to be collected for it again.
        lockstep / sink_owed_entries: GaugeVec ["sink", "type"],
        /// Bytes of the records that a sink was given since midnight, UTC.
        lockstep / sink_day_bytes: GaugeVec ["sink", "type"],
        /// What `max_per_day` says of a sink that has one.
        lockstep / sink_max_per_day_bytes: GaugeVec ["sink", "type"],
        /// 1 for the state that a sink is in.
        lockstep / sink_state: GaugeVec ["sink", "type", "state"],

        /// Stored bytes of what is collected and kept for the sinks.
        lockstep / outbox_bytes: GaugeVec [],
        /// Bytes of the outbox at which collecting pauses.
        lockstep / outbox_limit_bytes: GaugeVec [],
        /// Whether collecting waits until a sink takes records.
        lockstep / collecting_paused: GaugeVec [],
        /// Rows and records that could not be read or delivered.
        lockstep / dead_letters: GaugeVec [],
        /// Stored bytes of the dead letters.
        lockstep / dead_letter_bytes: GaugeVec [],
        /// Memory set aside for pages, queues and batches.
        lockstep / memory_reserved_bytes: GaugeVec [],
        /// Memory that may be set aside.
        lockstep / memory_limit_bytes: GaugeVec [],

        /// Memory of the whole process.
        process / resident_memory_bytes: GaugeVec [],
        /// Processor time used by the process.
        process / cpu_seconds_total: CounterVec [],
        /// Files and sockets that the process holds open.
        process / open_fds: GaugeVec [],
    }
}

/// States of intervals that are told even while there are none, so that alerts have something to compare.
const UNPROVEN_STATES: [&str; 6] =
    ["pending", "empty_unconfirmed", "stable_unproven", "unreachable", "expired", "unknown"];

impl Metrics {
    /// The picture as metrics.
    pub fn of(status: &Status) -> Self {
        let metrics = Self::empty();
        metrics.program(status);
        for site in &status.sites {
            metrics.site(site);
            for stream in &site.streams {
                metrics.stream(&site.site, stream);
            }
        }
        metrics.sinks(status);
        metrics
    }

    /// The metrics as Prometheus reads them.
    pub fn text(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("families with a help text can be encoded")
    }

    fn program(&self, status: &Status) {
        set(&self.build_info, &[&status.version], 1.0);
        if let Some(started) = status.started {
            set(&self.start_timestamp_seconds, &[], seconds(started));
        }
        set(&self.fresh, &[], flag(status.fresh));
        set(&self.problems, &[], count(status.problems.len() as u64));
        set(&self.outbox_bytes, &[], count(status.outbox.bytes));
        if let Some(limit) = status.outbox.limit_bytes {
            set(&self.outbox_limit_bytes, &[], count(limit));
        }
        set(&self.collecting_paused, &[], flag(status.outbox.paused));
        set(&self.dead_letters, &[], count(status.dead_letters.count));
        set(&self.dead_letter_bytes, &[], count(status.dead_letters.bytes));
        set(&self.memory_reserved_bytes, &[], count(status.memory.used_bytes));
        set(&self.memory_limit_bytes, &[], count(status.memory.limit_bytes));
        if let Some(process) = &status.process {
            set(&self.resident_memory_bytes, &[], count(process.resident_bytes));
            add(&self.cpu_seconds_total, &[], process.cpu_seconds);
            set(&self.open_fds, &[], count(process.open_files));
        }
    }

    fn site(&self, site: &SiteStatus) {
        let labels = &[site.site.as_str()];
        if let Some(health) = &site.credential {
            if health.state != CredentialState::Untested {
                set(&self.credential_ok, labels, flag(health.state == CredentialState::Ok));
            }
            add(&self.credential_requests_total, labels, count(health.requests));
            add(&self.credential_throttled_total, labels, count(health.throttled));
            if let Some(latency) = health.latency_seconds {
                set(&self.portal_latency_seconds, labels, latency);
            }
        }
        if let Some(offset) = site.clock_offset_seconds {
            set(&self.portal_clock_offset_seconds, labels, offset);
        }
        for field in &site.fields {
            let labels = &[&site.site, &field.source, &field.query, &field.change];
            self.changed_fields.with_label_values(labels).inc();
        }
        if let Some(expires) = site.token.expires {
            set(&self.token_expires_timestamp_seconds, labels, seconds(expires));
        }
    }

    fn stream(&self, site: &str, stream: &StreamStatus) {
        // The usual scope needs no label: an empty one is none.
        let scope = if stream.scope == "tree" { "" } else { &stream.scope };
        let labels = &[site, &stream.source, scope, &stream.query];
        if let Some(lag) = stream.lag_seconds {
            set(&self.stream_lag_seconds, labels, lag);
        }
        if let Some(until) = stream.proven_until {
            set(&self.stream_proven_until_timestamp_seconds, labels, seconds(until));
        }
        add(&self.stream_rows_total, labels, count(stream.rows));
        add(&self.stream_requests_total, labels, count(stream.requests));
        for state in UNPROVEN_STATES {
            let sum = stream.unproven_sums.get(state).copied().unwrap_or_default();
            let labels = &[site, &stream.source, scope, &stream.query, state];
            set(&self.stream_unproven_intervals, labels, count(sum.intervals));
            set(&self.stream_unproven_seconds, labels, sum.seconds);
        }
        set(&self.stream_stale, labels, flag(stream.stale));
        for condition in StreamCondition::ALL {
            let labels = &[site, &stream.source, scope, &stream.query, condition.as_str()];
            set(&self.stream_condition, labels, flag(stream.condition == condition));
        }
        if stream.scope == "tree" {
            let labels = &[site, &stream.source, &stream.query];
            set(&self.silent_organizations, labels, count(stream.silent_organizations));
        }
    }

    fn sinks(&self, status: &Status) {
        let offset = |site: &str| {
            let site = status.sites.iter().find(|one| one.site == site);
            site.and_then(|site| site.clock_offset_seconds).unwrap_or(0.0)
        };
        for sink in &status.sinks {
            let labels = &[sink.name.as_str(), &sink.kind];
            add(&self.sink_delivered_records_total, labels, count(sink.delivered_records));
            add(&self.sink_delivered_bytes_total, labels, count(sink.delivered_bytes));
            add(&self.sink_unmapped_action_types_total, labels, count(sink.unmapped_action_types));
            add(&self.sink_dead_letters_total, labels, count(sink.dead_letters));
            set(&self.sink_pending_bytes, labels, count(sink.pending_bytes));
            set(&self.sink_owed_entries, labels, count(sink.owed.iter().map(|owed| owed.entries).sum()));
            let today = sink.today.filter(|today| today.day == status.taken.date_naive());
            set(&self.sink_day_bytes, labels, count(today.map_or(0, |today| today.bytes)));
            if let Some(max) = sink.today.and_then(|today| today.max_per_day) {
                set(&self.sink_max_per_day_bytes, labels, count(max));
            }
            let ages = sink.pending.iter().filter_map(|lane| {
                let oldest = lane.oldest?;
                Some((status.taken - oldest).as_seconds_f64() + offset(&lane.site))
            });
            set(&self.sink_lag_seconds, labels, ages.fold(0.0, f64::max));
            for state in SinkCondition::ALL {
                let labels = &[sink.name.as_str(), &sink.kind, state.as_str()];
                set(&self.sink_state, labels, flag(sink.state == state));
            }
        }
    }
}

fn set(family: &GaugeVec, labels: &[&str], value: f64) {
    family.with_label_values(labels).set(value);
}

/// Brings a counter, which is new at every scrape, to its value.
fn add(family: &CounterVec, labels: &[&str], value: f64) {
    family.with_label_values(labels).inc_by(value);
}

fn flag(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

/// Prometheus knows no other numbers.
fn count(number: u64) -> f64 {
    number as f64
}

fn seconds(time: chrono::DateTime<chrono::Utc>) -> f64 {
    chrono::Duration::microseconds(time.timestamp_micros()).as_seconds_f64()
}
