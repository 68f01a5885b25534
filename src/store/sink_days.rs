//! What each sink was given on each UTC day.

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;

/// Days that are kept.
const KEPT: i64 = 31;

/// What a sink was given on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    pub records: u64,
    /// As encoded, before packing.
    pub bytes: u64,
}

/// Counts what a sink confirmed on a day, in days since 1970, and answers that day's sum.
pub fn add(db: &Connection, sink: &str, day: i64, given: Given) -> Result<Given, StoreError> {
    let changed = db
        .prepare_cached(
            "UPDATE sink_day SET records = records + ?3, bytes = bytes + ?4 WHERE sink = ?1 AND day = ?2",
        )?
        .execute(params![sink, day, given.records, given.bytes])?;
    if changed == 0 {
        db.prepare_cached("DELETE FROM sink_day WHERE sink = ?1 AND day < ?2")?
            .execute(params![sink, day - KEPT])?;
        db.prepare_cached("INSERT INTO sink_day (sink, day, records, bytes) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![sink, day, given.records, given.bytes])?;
    }
    of(db, sink, day)
}

/// What a sink was given on a day.
pub fn of(db: &Connection, sink: &str, day: i64) -> Result<Given, StoreError> {
    let given = db
        .prepare_cached("SELECT records, bytes FROM sink_day WHERE sink = ?1 AND day = ?2")?
        .query_row(params![sink, day], |row| Ok(Given { records: row.get(0)?, bytes: row.get(1)? }))
        .optional()?;
    Ok(given.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sinks::configure;
    use crate::store::tests::memory;

    #[test]
    fn each_day_of_each_sink_has_a_sum_of_its_own_and_old_ones_are_forgotten() {
        let db = memory();
        configure(&db, &[("one", "file", "raw"), ("two", "file", "raw")]).unwrap();
        let given = |bytes| Given { records: 2, bytes };
        assert_eq!(add(&db, "one", 100, given(5)).unwrap(), given(5));
        assert_eq!(add(&db, "one", 100, given(7)).unwrap(), Given { records: 4, bytes: 12 });
        assert_eq!(add(&db, "two", 100, given(1)).unwrap(), given(1));
        assert_eq!(add(&db, "one", 101, given(3)).unwrap(), given(3));
        assert_eq!(of(&db, "one", 100).unwrap().bytes, 12);
        add(&db, "one", 132, given(1)).unwrap();
        assert_eq!((of(&db, "one", 100).unwrap().bytes, of(&db, "one", 101).unwrap().bytes), (0, 3));
        assert_eq!(of(&db, "two", 100).unwrap(), given(1));
    }
}
