//! How far each sink has come in each lane, and what it keeps for itself.

use rusqlite::{Connection, OptionalExtension, params};

use super::{StoreError, outbox, owed, refill};
use crate::model::{Lane, Positions};

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

/// Whether these sinks, as (name, type, format), could be taken over.
///
/// # Errors
/// As those of [`configure`].
pub fn check(db: &Connection, sinks: &[(&str, &str, &str)]) -> Result<(), StoreError> {
    sinks.iter().try_for_each(|sink| known(db, sink).map(drop))
}

/// Takes over the configured sinks, as (name, type, format), and answers them in the same order. A new
/// one begins with the oldest entry that is retained. One that is left out pins nothing from then on;
/// when it comes back it goes on from its old position, as far as entries are still there
/// ([`outbox::missed`]).
///
/// # Errors
/// [`StoreError::SinkChanged`] when a known name comes with another type or format.
pub fn configure(db: &Connection, sinks: &[(&str, &str, &str)]) -> Result<Vec<SinkRow>, StoreError> {
    db.execute("UPDATE sink SET configured = 0", [])?;
    let mut rows = Vec::with_capacity(sinks.len());
    for sink @ (name, kind, format) in sinks {
        let known = known(db, sink)?;
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

/// A sink that has nothing yet passes over all that is in the lanes now.
pub fn begin_at_heads(db: &Connection, sink: &str) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO position (sink, connection_id, lane, number)
         SELECT ?1, connection_id, lane, last FROM lane WHERE true ON CONFLICT DO NOTHING",
    )?
    .execute([sink])?;
    Ok(())
}

/// The format that a sink had at its first start.
pub fn pinned_format(db: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    let mut pinned = db.prepare_cached("SELECT format FROM sink WHERE name = ?1")?;
    Ok(pinned.query_row([name], |row| row.get(0)).optional()?)
}

/// The row of a sink that was configured before, with the same type and format.
fn known(db: &Connection, (name, kind, format): &(&str, &str, &str)) -> Result<Option<SinkRow>, StoreError> {
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
    Ok(known)
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

/// The sinks of the configuration that the service last ran with, as (name, type, format).
pub fn configured(db: &Connection) -> Result<Vec<(String, String, String)>, StoreError> {
    let mut rows =
        db.prepare_cached("SELECT name, type, format FROM sink WHERE configured = 1 ORDER BY name")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The last number that a sink has confirmed in each lane; a lane that is missing has 0. What it let go it did not
/// confirm.
pub fn positions(db: &Connection, sink: &str) -> Result<Positions, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT connection_id, lane, ifnull(confirmed, number) FROM position
         WHERE sink = ?1 AND ifnull(confirmed, number) > 0",
    )?;
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

/// Keeps a sink's state and moves its positions forward, together. A position never goes back. What the sink alone was
/// to get leaves the state.
pub fn confirm(db: &Connection, sink: &str, positions: &Positions, state: &[u8]) -> Result<(), StoreError> {
    save_state(db, sink, state)?;
    let mut doubtful = db.prepare_cached(
        "SELECT doubtful FROM position WHERE sink = ?1 AND connection_id = ?2 AND lane = ?3 AND doubtful < ?4",
    )?;
    let mut put = db.prepare_cached(
        "INSERT INTO position (sink, connection_id, lane, number) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (sink, connection_id, lane) DO UPDATE SET
           confirmed = iif(excluded.number > number, NULL, max(confirmed, excluded.number)),
           doubtful = iif(excluded.number > number, NULL, doubtful),
           number = max(number, excluded.number)",
    )?;
    for (&(connection, lane), &number) in positions {
        let key = params![sink, connection, lane.code(), number];
        if let Some(after) = doubtful.query_row(key, |row| row.get(0)).optional()? {
            owed::was_delivered(db, sink, (connection, lane), (after, number))?;
        }
        put.execute(params![sink, connection, lane.code(), number])?;
        if lane == Lane::Refill {
            refill::confirmed(db, sink, connection, number)?;
        }
    }
    Ok(())
}

/// The sink has recovered: what it has is known, so it has nothing of what it let go by now.
pub fn recovered(db: &Connection, sink: &str) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE position SET doubtful = number WHERE sink = ?1 AND doubtful < number")?
        .execute([sink])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::connections::register;
    use crate::store::tests::memory;

    #[test]
    fn another_format_or_type_under_a_known_name_is_refused_with_both_named() {
        let db = memory();
        configure(&db, &[("out", "file", "raw")]).unwrap();
        let error = configure(&db, &[("out", "file", "ocsf")]).unwrap_err().to_string();
        assert!(error.contains("out") && error.contains("`raw`") && error.contains("`ocsf`"), "{error}");
        let error = configure(&db, &[("out", "kafka", "raw")]).unwrap_err().to_string();
        assert!(error.contains("type") && error.contains("`file`") && error.contains("`kafka`"), "{error}");
    }

    #[test]
    fn a_sink_that_comes_back_goes_on_where_it_was() {
        let db = memory();
        let acme = register(&db, "acme").unwrap().id;
        configure(&db, &[("out", "file", "raw"), ("lake", "kafka", "raw")]).unwrap();
        confirm(&db, "out", &Positions::from([((acme, Lane::Live), 5)]), b"five").unwrap();
        assert_eq!(configure(&db, &[("lake", "kafka", "raw")]).unwrap().len(), 1);
        let back = configure(&db, &[("lake", "kafka", "raw"), ("out", "file", "raw")]).unwrap();
        assert_eq!((back[1].name.as_str(), back[1].state.as_slice()), ("out", b"five".as_slice()));
        assert_eq!(positions(&db, "out").unwrap(), Positions::from([((acme, Lane::Live), 5)]));
    }

    #[test]
    fn a_sink_that_begins_now_is_owed_nothing_of_before_and_all_of_after() {
        let db = memory();
        let acme = register(&db, "acme").unwrap().id;
        let append = |row: &str| {
            let entry = crate::store::outbox::tests::entry(1, row);
            outbox::append(&db, acme, 1, Lane::Live, "computers", 0, 0, &[entry]).unwrap()
        };
        append("{}");
        configure(&db, &[("late", "file", "raw")]).unwrap();
        begin_at_heads(&db, "late").unwrap();
        assert_eq!(outbox::pending(&db, "late").unwrap(), []);
        let next = append("[]");
        assert_eq!(outbox::pending(&db, "late").unwrap()[0].position, next - 1);
    }

    #[test]
    fn a_position_never_goes_back() {
        let db = memory();
        let acme = register(&db, "acme").unwrap().id;
        configure(&db, &[("out", "file", "raw")]).unwrap();
        let key = (acme, Lane::Backfill);
        confirm(&db, "out", &Positions::from([(key, 5)]), b"1").unwrap();
        confirm(&db, "out", &Positions::from([(key, 3)]), b"2").unwrap();
        assert_eq!(positions(&db, "out").unwrap(), Positions::from([(key, 5)]));
        assert_eq!(configure(&db, &[("out", "file", "raw")]).unwrap()[0].state, b"2");
    }

    #[test]
    fn a_sink_that_nobody_configured_cannot_confirm() {
        let db = memory();
        let error = confirm(&db, "ghost", &Positions::new(), b"").unwrap_err().to_string();
        assert!(error.contains("ghost"), "{error}");
    }
}
