//! Time that an operator asks for beyond what a stream owes. It waits here until the stream takes it up, so
//! it survives whatever happens in between.

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use crate::model::Seconds;

/// Asks a stream of a site for `[from, to)`. Answers false where the site has no such stream.
pub fn ask(
    db: &Connection,
    site: &str,
    stream: i64,
    (from, to): (Seconds, Seconds),
) -> Result<bool, StoreError> {
    let known = db
        .prepare_cached(
            "SELECT 1 FROM stream s JOIN connection c ON c.id = s.connection_id
             WHERE s.id = ?1 AND c.site = ?2",
        )?
        .exists(params![stream, site])?;
    if known {
        db.prepare_cached("INSERT OR IGNORE INTO backfill (stream_id, from_s, to_s) VALUES (?1, ?2, ?3)")?
            .execute(params![stream, from, to])?;
    }
    Ok(known)
}

/// What a stream is asked for and has not taken up, the newest time first: what must wait until the time behind
/// it was counted holds up nothing else.
pub fn asked(db: &Connection, stream: i64) -> Result<Option<(Seconds, Seconds)>, StoreError> {
    Ok(db
        .prepare_cached(
            "SELECT from_s, to_s FROM backfill WHERE stream_id = ?1 ORDER BY to_s DESC, from_s LIMIT 1",
        )?
        .query_row([stream], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// The stream has taken it up: from now on its coverage says what is owed.
pub fn taken_up(db: &Connection, stream: i64, (from, to): (Seconds, Seconds)) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM backfill WHERE stream_id = ?1 AND from_s = ?2 AND to_s = ?3")?
        .execute(params![stream, from, to])?;
    Ok(())
}
