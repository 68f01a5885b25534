//! Rows and records that cannot be read, or that a sink refuses for ever, with their reason.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::outbox::{self, Pruned};
use super::refill::{self, Shared};
use super::{StoreError, compress, owed};
use crate::model::{Chunk, ConnectionId, Lane, Micros, Retried};
use crate::record::enrichment::Known;

/// The largest body kept; above it the front is kept.
const LARGEST_BODY: usize = 64 * 1024 * 1024;

/// A dead letter to be entered.
#[derive(Clone, Debug)]
pub struct NewDeadLetter<'a> {
    /// Absent when the row could not be read at collection, so that no sink has it.
    pub sink: Option<&'a str>,
    pub connection: ConnectionId,
    pub source: &'a str,
    pub organization_id: Option<&'a str>,
    /// Of the entry, when it became one.
    pub number: Option<i64>,
    pub uid: Option<Uuid>,
    pub vendor_id: Option<&'a str>,
    /// Why, in words; holds no part of the body.
    pub reason: &'a str,
    /// When, on our clock.
    pub stored: Micros,
    /// The row or record as received, of any bytes.
    pub body: &'a [u8],
    /// What it takes to try it again.
    pub entry: Option<LetterEntry>,
}

/// The entry of a dead letter, cut out of its chunk.
#[derive(Clone, Debug)]
pub struct LetterEntry {
    /// As [`Chunk::body`], of this entry alone; of all where they cannot be read.
    pub body: Vec<u8>,
    /// When it was first collected.
    pub collected: Micros,
    pub lane: Lane,
    /// All of its records were refused, and not only the one of the letter's uid.
    pub whole: bool,
}

impl<'a> NewDeadLetter<'a> {
    /// A whole chunk that cannot be read. `stored`: now, on our clock.
    pub fn of_chunk(chunk: &'a Chunk, sink: Option<&'a str>, reason: &'a str, stored: Micros) -> Self {
        let (collected, lane) = (chunk.collected, chunk.lane);
        let entry = LetterEntry { body: chunk.body.clone(), collected, lane, whole: true };
        Self {
            sink,
            connection: chunk.connection,
            source: &chunk.source,
            organization_id: None,
            number: Some(chunk.first),
            uid: None,
            vendor_id: None,
            reason,
            stored,
            body: &chunk.body,
            entry: Some(entry),
        }
    }
}

/// The entry that a sink refused, or the whole chunk where it cannot be read. It is there as long as the sink has not
/// confirmed it.
pub fn entry(
    db: &Connection,
    sink: &str,
    (connection, lane, number): (ConnectionId, Lane, i64),
    whole: bool,
) -> Result<Option<LetterEntry>, StoreError> {
    let chunks = match lane {
        Lane::Refill => refill::read_after(db, sink, connection, number - 1, 0)?,
        Lane::Live | Lane::Backfill => outbox::read_after(db, connection, lane, number - 1, 0)?,
    };
    let holds = |chunk: &Chunk| (chunk.first..=chunk.last).contains(&number);
    let Some(chunk) = chunks.into_iter().next().filter(holds) else { return Ok(None) };
    let collected = chunk.collected;
    let body = outbox::part(&chunk, |entry| entry.number == number).unwrap_or(chunk.body);
    Ok(Some(LetterEntry { body, collected, lane, whole }))
}

/// Why a dead letter cannot be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// There is none of that number.
    Unknown,
    /// The row could not be read when it was collected: it never was an entry.
    NeverRead,
    /// A version before wrote it that did not keep what it takes.
    Bare,
    /// This version cannot read its entry either.
    Unreadable,
    /// Its sink is configured no more.
    NoSink,
}

/// What it takes to try a dead letter again, as stored.
struct Kept {
    sink: Option<String>,
    configured: Option<bool>,
    connection: ConnectionId,
    source: String,
    entry: Option<Vec<u8>>,
    collected: Option<Micros>,
    whole: bool,
    uid: Option<Vec<u8>>,
    lane: Option<i64>,
    number: Option<i64>,
}

/// Tries a dead letter again: from now on it waits for its sink in the refill lane, and is a letter no more. One whose
/// entry is on its way anyhow, since its batch has not come to its end, is only forgotten.
pub fn retry(db: &Connection, id: i64) -> Result<Result<(), Stays>, StoreError> {
    let get = "SELECT d.sink, s.configured, d.connection_id, d.source, d.entry, d.collected, d.whole, d.uid, d.lane, d.number
         FROM dead_letter d LEFT JOIN sink s ON s.name = d.sink WHERE d.id = ?1";
    let found: Option<Kept> = db
        .prepare_cached(get)?
        .query_row([id], |row| {
            Ok(Kept {
                sink: row.get(0)?,
                configured: row.get(1)?,
                connection: row.get(2)?,
                source: row.get(3)?,
                entry: row.get(4)?,
                collected: row.get(5)?,
                whole: row.get(6)?,
                uid: row.get(7)?,
                lane: row.get(8)?,
                number: row.get(9)?,
            })
        })
        .optional()?;
    let Some(Kept { sink, configured, connection, source, entry, collected, whole, uid, lane, number }) =
        found
    else {
        return Ok(Err(Stays::Unknown));
    };
    let Some(sink) = sink else { return Ok(Err(Stays::NeverRead)) };
    if configured != Some(true) {
        return Ok(Err(Stays::NoSink));
    }
    if let (Some(lane), Some(number)) = (lane.and_then(Lane::from_code), number)
        && owed::is_on_its_way(db, &sink, (connection, lane, number))?
    {
        drop_letter(db, id)?;
        return Ok(Ok(()));
    }
    let (Some(entry), Some(collected)) = (entry, collected) else { return Ok(Err(Stays::Bare)) };
    let body = compress::unpack(&entry, outbox::LARGEST_CHUNK)
        .map_err(|reason| StoreError::Damaged { what: format!("dead letter {id}"), reason })?;
    let (first, last, lane) = (0, 0, Lane::Refill);
    let chunk =
        Chunk { connection, lane, source: source.clone(), first, last, collected, retried: None, body };
    let Ok((entries, known)) = chunk.entries_and_known::<Known<'_>>() else {
        return Ok(Err(Stays::Unreadable));
    };
    let record = uid.filter(|_| !whole).and_then(|bytes| Uuid::from_slice(&bytes).ok());
    let retried = Some(Retried { record });
    let shared = Shared { sink: &sink, connection, source: &source, collected, retried };
    let entries: Vec<_> =
        entries.into_iter().enumerate().map(|(place, entry)| (entry, known.of(place))).collect();
    refill::append(db, &shared, &entries)?;
    drop_letter(db, id)?;
    Ok(Ok(()))
}

/// Forgets a dead letter. Answers whether there was one of that number.
pub fn drop_letter(db: &Connection, id: i64) -> Result<bool, StoreError> {
    Ok(db.prepare_cached("DELETE FROM dead_letter WHERE id = ?1")?.execute([id])? > 0)
}

/// The numbers of the dead letters of a sink, or of all, and of a site, or of all; oldest first.
pub fn numbers(db: &Connection, sink: Option<&str>, site: Option<&str>) -> Result<Vec<i64>, StoreError> {
    let mut numbers = db.prepare_cached(
        "SELECT d.id FROM dead_letter d JOIN connection c ON c.id = d.connection_id
         WHERE (?1 IS NULL OR d.sink = ?1) AND (?2 IS NULL OR c.site = ?2) ORDER BY d.id",
    )?;
    let numbers = numbers.query_map([sink, site], |row| row.get(0))?;
    Ok(numbers.collect::<Result<_, _>>()?)
}

/// A dead letter as kept, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub id: i64,
    pub sink: Option<String>,
    pub connection: ConnectionId,
    pub site: String,
    pub source: String,
    pub organization_id: Option<String>,
    pub number: Option<i64>,
    pub uid: Option<Uuid>,
    pub vendor_id: Option<String>,
    pub reason: String,
    /// On our clock.
    pub stored: Micros,
    /// Of the body as received.
    pub bytes: u64,
}

/// Enters a dead letter; false when it is there already, by its uid or else by its bytes.
pub fn insert(db: &Connection, letter: &NewDeadLetter<'_>) -> Result<bool, StoreError> {
    let body = letter.body.get(..LARGEST_BODY).unwrap_or(letter.body);
    let identity = match letter.uid {
        Some(uid) => uid.as_bytes().to_vec(),
        None => blake3::hash(body).as_bytes().to_vec(),
    };
    let entry = letter.entry.as_ref();
    let added = db
        .prepare_cached(
            "INSERT INTO dead_letter (sink, connection_id, source, organization_id, number, uid, vendor_id,
                                      reason, identity, stored, body, entry, collected, whole, lane)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            letter.sink,
            letter.connection,
            letter.source,
            letter.organization_id,
            letter.number,
            letter.uid.map(|uid| uid.as_bytes().to_vec()),
            letter.vendor_id,
            letter.reason,
            identity,
            letter.stored,
            compress::pack(body),
            entry.map(|entry| compress::pack(&entry.body)),
            entry.map(|entry| entry.collected),
            entry.is_none_or(|entry| entry.whole),
            entry.map(|entry| entry.lane.code()),
        ])?;
    Ok(added > 0)
}

const COLUMNS: &str = "d.id, d.sink, d.connection_id, c.site, d.source, d.organization_id, d.number, d.uid,
     d.vendor_id, d.reason, d.stored, substr(d.body, 1, 18)";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<DeadLetter> {
    let uid: Option<Vec<u8>> = row.get(7)?;
    Ok(DeadLetter {
        id: row.get(0)?,
        sink: row.get(1)?,
        connection: row.get(2)?,
        site: row.get(3)?,
        source: row.get(4)?,
        organization_id: row.get(5)?,
        number: row.get(6)?,
        uid: uid.and_then(|bytes| Uuid::from_slice(&bytes).ok()),
        vendor_id: row.get(8)?,
        reason: row.get(9)?,
        stored: row.get(10)?,
        // The size stands in the first 18 bytes at most, so the body need not be read.
        bytes: row.get_ref(11)?.as_blob().map_or(0, |head| compress::unpacked_bytes(head) as u64),
    })
}

/// Up to `limit` dead letters of a site, or of all, and of a sink, or of all; newest first.
pub fn list(
    db: &Connection,
    site: Option<&str>,
    sink: Option<&str>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let get = format!(
        "SELECT {COLUMNS} FROM dead_letter d JOIN connection c ON c.id = d.connection_id
         WHERE (?1 IS NULL OR c.site = ?1) AND (?2 IS NULL OR d.sink = ?2) ORDER BY d.id DESC LIMIT ?3"
    );
    Ok(db.prepare_cached(&get)?.query_map(params![site, sink, limit], read)?.collect::<Result<_, _>>()?)
}

/// One dead letter with its body.
pub fn show(db: &Connection, id: i64) -> Result<Option<(DeadLetter, Vec<u8>)>, StoreError> {
    let get = format!(
        "SELECT {COLUMNS}, d.body FROM dead_letter d JOIN connection c ON c.id = d.connection_id WHERE d.id = ?1"
    );
    let found: Option<(DeadLetter, Vec<u8>)> =
        db.prepare_cached(&get)?.query_row([id], |row| Ok((read(row)?, row.get(12)?))).optional()?;
    found
        .map(|(letter, packed)| {
            let body = compress::unpack(&packed, LARGEST_BODY)
                .map_err(|reason| StoreError::Damaged { what: format!("dead letter {id}"), reason })?;
            Ok((letter, body))
        })
        .transpose()
}

/// How many dead letters there are, and their stored bytes, from running totals.
pub fn usage(db: &Connection) -> Result<(u64, u64), StoreError> {
    super::running_total(db, "dead_letter")
}

/// Deletes up to `batch` dead letters, oldest first: those stored before `older_than` (our clock), and
/// younger ones while all together are above `limit_bytes`. A caller that would rather hold the sink
/// than lose one passes `u64::MAX`.
pub fn prune(
    db: &Connection,
    older_than: Micros,
    limit_bytes: u64,
    batch: usize,
) -> Result<Pruned, StoreError> {
    let (_, mut held) = usage(db)?;
    let mut pruned = Pruned::default();
    for _ in 0..batch {
        let oldest: Option<(i64, Micros, u64)> = db
            .prepare_cached(
                "SELECT id, stored, 128 + length(body) + ifnull(length(entry), 0) FROM dead_letter
                 ORDER BY stored, id LIMIT 1",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((id, stored, bytes)) = oldest else { break };
        if stored >= older_than && held <= limit_bytes {
            break;
        }
        db.prepare_cached("DELETE FROM dead_letter WHERE id = ?1")?.execute([id])?;
        held = held.saturating_sub(bytes);
        pruned.rows += 1;
        pruned.bytes += bytes;
    }
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::connections::register;
    use crate::store::tests::memory;

    fn letter<'a>(connection: ConnectionId, stored: Micros, body: &'a [u8]) -> NewDeadLetter<'a> {
        NewDeadLetter {
            sink: None,
            connection,
            source: "computers",
            organization_id: Some("abc"),
            number: None,
            uid: None,
            vendor_id: None,
            reason: "no utf-8",
            stored,
            body,
            entry: None,
        }
    }

    #[test]
    fn a_letter_gives_back_its_bytes_whatever_they_are() {
        let db = memory();
        let acme = register(&db, "acme").unwrap().id;
        let body = b"{\"a\": \xff\x00\xfe}".repeat(1000);
        let uid = Uuid::from_u128(7);
        let new =
            NewDeadLetter { sink: Some("out"), uid: Some(uid), number: Some(3), ..letter(acme, 5, &body) };
        assert!(insert(&db, &new).unwrap());
        let listed = list(&db, Some("acme"), None, 10).unwrap();
        assert_eq!(listed[0].bytes, body.len() as u64);
        assert_eq!(list(&db, Some("other"), None, 10).unwrap(), []);
        let (shown, bytes) = show(&db, listed[0].id).unwrap().unwrap();
        assert_eq!((&shown, bytes), (&listed[0], body));
        assert_eq!((shown.uid, shown.site.as_str(), shown.number), (Some(uid), "acme", Some(3)));
        assert_eq!(show(&db, 999).unwrap(), None);
    }

    #[test]
    fn the_same_letter_enters_once_for_each_sink() {
        let db = memory();
        let acme = register(&db, "acme").unwrap().id;
        assert!(insert(&db, &letter(acme, 1, b"x")).unwrap());
        assert!(!insert(&db, &letter(acme, 2, b"x")).unwrap(), "known by its bytes");
        assert!(insert(&db, &letter(acme, 2, b"y")).unwrap());
        let with_uid = NewDeadLetter { uid: Some(Uuid::from_u128(1)), ..letter(acme, 3, b"x") };
        assert!(insert(&db, &with_uid).unwrap());
        assert!(
            !insert(&db, &NewDeadLetter { body: b"other", ..with_uid.clone() }).unwrap(),
            "known by its uid"
        );
        assert!(insert(&db, &NewDeadLetter { sink: Some("out"), ..with_uid }).unwrap());
        assert_eq!(usage(&db).unwrap().0, 4);
    }

    #[test]
    fn letters_go_by_age_and_above_the_bound_oldest_first() {
        let db = memory();
        let acme = register(&db, "acme").unwrap().id;
        for at in 0..10_u8 {
            assert!(insert(&db, &letter(acme, at.into(), &[at])).unwrap());
        }
        let ages = |db: &Connection| -> Vec<Micros> {
            list(db, None, None, 100).unwrap().iter().rev().map(|letter| letter.stored).collect()
        };
        assert_eq!(prune(&db, 3, u64::MAX, 2).unwrap().rows, 2, "bounded per call");
        assert_eq!(prune(&db, 3, u64::MAX, 100).unwrap().rows, 1);
        assert_eq!(ages(&db), [3, 4, 5, 6, 7, 8, 9]);
        let (_, held) = usage(&db).unwrap();
        let pruned = prune(&db, 0, held - 1, 100).unwrap();
        assert_eq!((pruned.rows, ages(&db)), (1, vec![4, 5, 6, 7, 8, 9]));
        assert_eq!(usage(&db).unwrap().1, held - pruned.bytes);
        prune(&db, 100, 0, 100).unwrap();
        assert_eq!(usage(&db).unwrap(), (0, 0));
    }
}
