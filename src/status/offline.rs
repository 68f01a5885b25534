//! The picture without a running program, from the state alone.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{
    DeadLetterStatus, MemoryStatus, OutboxStatus, SiteStatus, Status, StreamCondition, StreamStatus,
    TokenStatus,
};
use crate::collect::snapshot::SnapshotNotes;
use crate::collect::window::Notes;
use crate::config::{Config, Connection, Organizations};
use crate::coverage::{Coverage, Interval};
use crate::deliver::{SinkCondition, SinkStatus};
use crate::model::{Micros, SECOND};
use crate::source::{Shape, by_name};
use crate::store::backfill::{self, AskedBack};
use crate::store::outbox::{OutboxUsage, PendingLane};
use crate::store::streams::StoredStream;
use crate::store::vendor_fields::{self, FieldNotice};
use crate::store::{Store, StoreError, connections, dead_letters, outbox, owed, replays, sinks, streams};

/// What the state holds, read at one moment.
struct Held {
    streams: Vec<(String, StoredStream, Vec<Interval>)>,
    organizations: Vec<connections::ConnectionRow>,
    /// Name, type, format and what is pending.
    sinks: Vec<(String, String, String, Vec<PendingLane>)>,
    outbox: OutboxUsage,
    fields: BTreeMap<String, Vec<FieldNotice>>,
    asked: BTreeMap<String, Vec<AskedBack>>,
    dead_letters: (u64, u64),
}

/// Makes the picture for the connections of a configuration. `taken` is now on our clock; ages run on the
/// portal's time, which is as far from it as it last was.
///
/// # Errors
/// Those of the state.
pub async fn status(store: &Store, config: &Config, taken: DateTime<Utc>) -> Result<Status, StoreError> {
    let (held, (mut owed, replays)) =
        store.read(|db| Ok((read(db)?, (owed::totals(db)?, replays::waiting(db)?)))).await?;
    let sites = config.connections.iter().map(|connection| site(connection, &held, taken)).collect();
    let sinks = held.sinks.iter().map(|(name, kind, format, pending)| {
        let mut sink = SinkStatus::new(name, kind, format, taken);
        sink.state = SinkCondition::Stopped;
        sink.set_pending(pending);
        sink.with(&mut owed, &replays)
    });
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        running: false,
        taken,
        started: None,
        fresh: false,
        problems: Vec::new(),
        configuration: config.broken.iter().map(ToString::to_string).collect(),
        sites,
        sinks: sinks.collect(),
        outbox: OutboxStatus {
            bytes: held.outbox.stored_bytes,
            limit_bytes: Some(config.outbox.limit_bytes),
            paused: held.outbox.stored_bytes >= config.outbox.limit_bytes,
            oldest: held.outbox.oldest.and_then(DateTime::from_timestamp_micros),
        },
        dead_letters: DeadLetterStatus { count: held.dead_letters.0, bytes: held.dead_letters.1 },
        memory: MemoryStatus { used_bytes: 0, limit_bytes: config.memory },
        process: None,
    };
    status.judge();
    Ok(status)
}

fn read(db: &rusqlite::Connection) -> Result<Held, StoreError> {
    let organizations = connections::list(db)?;
    let mut held = Held {
        streams: Vec::new(),
        sinks: Vec::new(),
        outbox: outbox::usage(db)?,
        fields: vendor_fields::notices(db)?,
        asked: backfill::waiting(db)?,
        dead_letters: dead_letters::usage(db)?,
        organizations,
    };
    for connection in &held.organizations {
        for stream in streams::list(db, connection.id)? {
            let intervals = streams::intervals(db, stream.id)?;
            held.streams.push((connection.site.clone(), stream, intervals));
        }
    }
    for (name, kind, format) in sinks::configured(db)? {
        let pending = outbox::pending(db, &name)?;
        held.sinks.push((name, kind, format, pending));
    }
    Ok(held)
}

fn site(connection: &Connection, held: &Held, taken: DateTime<Utc>) -> SiteStatus {
    let known = held.organizations.iter().find(|row| row.site == connection.site);
    let organization = known.and_then(|row| row.organization_id.clone());
    let own = organization.as_ref().map(ToString::to_string).unwrap_or_default();
    let streams = held.streams.iter().filter(|(site, ..)| *site == connection.site);
    let offset = known.and_then(|row| row.clock_offset);
    let ours = taken.timestamp_micros();
    let now = known.map_or(ours, |row| row.portal_time(ours));
    SiteStatus {
        site: connection.site.clone(),
        base_url: Some(connection.base_url.clone()),
        organization_id: organization.or_else(|| connection.organization_id.clone()),
        contact: connection.contact.clone(),
        portal_time: offset.and_then(|_| DateTime::from_timestamp_micros(now)),
        clock_offset_seconds: offset.map(|offset| chrono::Duration::microseconds(offset).as_seconds_f64()),
        credential: None,
        token: TokenStatus::of(connection.token_expiry, None),
        last_error: None,
        failing: None,
        claimed_elsewhere: Vec::new(),
        fields: held.fields.get(&connection.site).cloned().unwrap_or_default(),
        asked_back: held.asked.get(&connection.site).cloned().unwrap_or_default(),
        own_reads: None,
        streams: streams.filter_map(|(_, row, held)| stream(connection, &own, row, held, now)).collect(),
    }
}

/// None for a source that this version does not know, or that is not enabled any more.
fn stream(
    connection: &Connection,
    own: &str,
    row: &StoredStream,
    intervals: &[Interval],
    now: Micros,
) -> Option<StreamStatus> {
    let source = by_name(&row.source)?;
    let config = connection.sources.get(source.name()).filter(|config| config.enabled)?;
    let is_configured = match connection.organizations {
        Organizations::All => row.scope == "tree" || row.fingerprint.ends_with("alone"),
        Organizations::Own | Organizations::Only(_) => row.scope != "tree" || row.source == "organizations",
    };
    if !is_configured {
        return None;
    }
    let mut status = StreamStatus {
        source: row.source.clone(),
        scope: row.scope.clone(),
        organization: if row.scope == "tree" { own } else { &row.scope }.to_owned(),
        query: row.fingerprint.clone(),
        condition: StreamCondition::Stopped,
        every_seconds: connection.every(config).as_secs_f64(),
        ..StreamStatus::default()
    };
    match source.shape() {
        Shape::Window { .. } => {
            let notes: Notes = serde_json::from_str(&row.notes).unwrap_or_default();
            let edge = now.div_euclid(SECOND) - i64::try_from(config.settle.as_secs()).unwrap_or_default();
            if let Some(start) = notes.start {
                status.of_coverage(&Coverage::from_intervals(intervals.to_vec()), start, edge);
            }
            status.add_silent(&notes.silent, edge);
            status.alone = notes.alone.keys().map(ToString::to_string).collect();
            status.rows = notes.rows;
            status.scrubbed =
                DateTime::from_timestamp(notes.scrubbed, 0).filter(|at| *at > DateTime::UNIX_EPOCH);
            status.observed = Some(notes.observed);
        }
        Shape::Snapshot { .. } | Shape::PerComputer { .. } => {
            status.of_snapshot(&serde_json::from_str::<SnapshotNotes>(&row.notes).unwrap_or_default(), now);
        }
    }
    status.age(now, std::time::Duration::ZERO);
    Some(status)
}
