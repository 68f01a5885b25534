//! How far each sink has come in each lane, and what it keeps for itself.

use rusqlite::{Connection, OptionalExtension, params};

use super::{StoreError, outbox};
use crate::model::Positions;

/// A configured sink, as the state knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkRow {
    pub name: String,
    /// `type` in the configuration.
    pub kind: String,
    /// Pinned at first start.
    pub format: String,
    /// Opaque, belongs to the sink; empty at first.
    pub state: Vec<u8>,
}

/// Takes over the configured sinks, as (name, type, format), and answers them in the same order. A new
/// one begins with the oldest entry that is retained. One that is left out pins nothing from then on;
/// when it comes back it goes on from its old position, as far as entries are still there
/// ([`outbox::PendingLane::pruned`]).
///
/// # Errors
/// [`StoreError::SinkChanged`] when a known name comes with another type or format.
pub fn configure(db: &Connection, sinks: &[(&str, &str, &str)]) -> Result<Vec<SinkRow>, StoreError> {
    db.execute("UPDATE sink SET configured = 0", [])?;
    let mut rows = Vec::with_capacity(sinks.len());
    for (name, kind, format) in sinks {
        let known = db
            .prepare_cached("SELECT type, format, state FROM sink WHERE name = ?1")?
            .query_row([name], |row| {
                let (kind, format, state) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(SinkRow { name: (*name).to_owned(), kind, format, state })
            })
            .optional()?;
        if let Some(row) = &known {
            same(name, "type", &row.kind, kind)?;
            same(name, "format", &row.format, format)?;
        }
        db.prepare_cached(
            "INSERT INTO sink (name, type, format, state, configured) VALUES (?1, ?2, ?3, x'', 1)
             ON CONFLICT (name) DO UPDATE SET configured = 1",
        )?
        .execute([name, kind, format])?;
        rows.push(known.unwrap_or_else(|| SinkRow {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            format: (*format).to_owned(),
            state: Vec::new(),
        }));
    }
    Ok(rows)
}

fn same(sink: &str, what: &'static str, pinned: &str, configured: &str) -> Result<(), StoreError> {
    if pinned == configured {
        return Ok(());
    }
    Err(StoreError::SinkChanged {
        sink: sink.to_owned(),
        what,
        pinned: pinned.to_owned(),
        configured: configured.to_owned(),
    })
}

/// The last number that a sink has confirmed in each lane; a lane that is missing has 0.
pub fn positions(db: &Connection, sink: &str) -> Result<Positions, StoreError> {
    let mut rows = db.prepare_cached("SELECT connection_id, lane, number FROM position WHERE sink = ?1")?;
    let rows = rows.query_map([sink], |row| Ok(((row.get(0)?, outbox::lane(row, 1)?), row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Keeps a sink's own state without moving its positions.
pub fn save_state(db: &Connection, sink: &str, state: &[u8]) -> Result<(), StoreError> {
    let changed =
        db.prepare_cached("UPDATE sink SET state = ?2 WHERE name = ?1")?.execute(params![sink, state])?;
    if changed == 0 {
        return Err(StoreError::UnknownSink { sink: sink.to_owned() });
    }
    Ok(())
}

/// Keeps a sink's state and moves its positions forward, together. A position never goes back.
pub fn confirm(db: &Connection, sink: &str, positions: &Positions, state: &[u8]) -> Result<(), StoreError> {
    save_state(db, sink, state)?;
    let mut put = db.prepare_cached(
        "INSERT INTO position (sink, connection_id, lane, number) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (sink, connection_id, lane) DO UPDATE SET number = max(number, excluded.number)",
    )?;
    for (&(connection, lane), number) in positions {
        put.execute(params![sink, connection, lane.code(), number])?;
    }
    Ok(())
}
