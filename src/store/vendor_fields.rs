//! What was noticed of the fields of rows, by the set of streams that list the same rows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::model::Micros;
use crate::record::vendor_fields::{FieldChange, FieldState};

/// A field that the vendor added or dropped, as far as this version knows its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldNotice {
    pub source: String,
    /// The part of the source, and what narrows the query.
    pub query: String,
    pub field: String,
    /// `added` or `dropped`.
    pub change: String,
    /// On the portal's time.
    pub since: Option<DateTime<Utc>>,
}

/// Everything that was noticed of a set's rows.
pub fn load(db: &Connection, set: i64) -> Result<Vec<FieldChange>, StoreError> {
    let mut rows =
        db.prepare_cached("SELECT field, state FROM vendor_field WHERE set_id = ?1 ORDER BY field")?;
    let rows = rows.query_map([set], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut known = Vec::new();
    for row in rows {
        let (field, state) = row?;
        // A newer version may have noticed what this one has no word for.
        known.extend(
            FieldState::ALL.into_iter().find(|one| one.as_str() == state).map(|state| (field, state)),
        );
    }
    Ok(known)
}

/// Stores what was noticed at `now`; answers those changes that were not known before, with what they were.
pub fn note(
    db: &Connection,
    set: i64,
    changes: &[FieldChange],
    now: Micros,
) -> Result<Vec<(FieldChange, Option<FieldState>)>, StoreError> {
    let before: BTreeMap<String, FieldState> = load(db, set)?.into_iter().collect();
    let mut put = db.prepare_cached(
        "INSERT INTO vendor_field (set_id, field, state, since) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET state = excluded.state, since = excluded.since",
    )?;
    let mut news = Vec::new();
    for (field, state) in changes {
        let was = before.get(field).copied();
        if was != Some(*state) {
            put.execute(params![set, field, state.as_str(), now])?;
            news.push(((field.clone(), *state), was));
        }
    }
    Ok(news)
}

/// What vendors added or dropped, by site.
pub fn notices(db: &Connection) -> Result<BTreeMap<String, Vec<FieldNotice>>, StoreError> {
    let mut rows = db.prepare_cached(
        "SELECT c.site, s.source, s.part, n.field, n.state, n.since FROM vendor_field n
         JOIN seen_set s ON s.id = n.set_id JOIN connection c ON c.id = s.connection_id
         WHERE n.state <> 'usual' ORDER BY 1, 2, 3, 4",
    )?;
    let rows = rows.query_map([], |row| {
        let notice = FieldNotice {
            source: row.get(1)?,
            query: row.get(2)?,
            field: row.get(3)?,
            change: row.get(4)?,
            since: DateTime::from_timestamp_micros(row.get(5)?),
        };
        Ok((row.get::<_, String>(0)?, notice))
    })?;
    let mut found: BTreeMap<String, Vec<FieldNotice>> = BTreeMap::new();
    for row in rows {
        let (site, notice) = row?;
        found.entry(site).or_default().push(notice);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::connections::register;
    use crate::store::streams::{StreamKey, open};
    use crate::store::tests::memory;

    #[test]
    fn a_change_is_news_once_whichever_stream_of_the_set_tells_it() {
        let db = memory();
        let site = register(&db, "acme").unwrap().id;
        let set = |scope| {
            let key = StreamKey { connection: site, source: "computers", scope, fingerprint: "" };
            open(&db, &key).unwrap().set
        };
        let change = |field: &str, state| (field.to_owned(), state);
        let usual = change("id", FieldState::Usual);
        assert_eq!(note(&db, set("tree"), std::slice::from_ref(&usual), 1).unwrap(), [(usual.clone(), None)]);
        assert_eq!(notices(&db).unwrap(), BTreeMap::new());
        let both = [change("id", FieldState::Dropped), change("colour", FieldState::Added)];
        let news = [(both[0].clone(), Some(FieldState::Usual)), (both[1].clone(), None)];
        assert_eq!(note(&db, set("tree"), &both, 2_000_000).unwrap(), news);
        assert_eq!(note(&db, set("5d1"), &both, 3_000_000).unwrap(), []);
        assert_eq!(load(&db, set("5d1")).unwrap(), [both[1].clone(), both[0].clone()]);
        let key = StreamKey { connection: site, source: "unified_audit", scope: "tree", fingerprint: "" };
        let other = open(&db, &key).unwrap().set;
        assert_eq!(load(&db, other).unwrap(), []);
        let told = &notices(&db).unwrap()["acme"];
        let told: Vec<_> = told.iter().map(|one| (&*one.field, &*one.change)).collect();
        assert_eq!(told, [("colour", "added"), ("id", "dropped")]);
        assert_eq!(
            note(&db, set("tree"), std::slice::from_ref(&usual), 4).unwrap(),
            [(usual, Some(FieldState::Dropped))]
        );
        assert_eq!(notices(&db).unwrap()["acme"].len(), 1);
    }
}
