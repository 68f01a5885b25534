//! Which computers a source was asked about that is asked per computer, and which are due.

use rusqlite::{Connection, params};

use super::snapshots::LARGEST_ROW;
use super::{StoreError, compress};
use crate::model::{ConnectionId, Micros};

/// Computers that one look reads at most: it holds the only writer meanwhile.
const LOOKED_AT: usize = 500;

/// What a computer's row says of whether there is something to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signs {
    /// Another print is another answer.
    pub print: [u8; 16],
    /// Nothing of the row tells of anything.
    pub quiet: bool,
}

/// A source that asks per computer: its set, and the organization whose computers alone it asks about.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub connection: ConnectionId,
    pub set: i64,
    pub organization: Option<i64>,
}

/// A computer to ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// `organization.id`, and the vendor's id of it.
    pub organization: i64,
    pub organization_id: String,
    pub computer: String,
    /// Its signs, as they were when it was chosen; see [`done`].
    pub signs: Vec<u8>,
    /// Because of its signs, and not of the sweep.
    pub by_signs: bool,
}

/// How many computers there are to ask about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub computers: u64,
    /// Due because of their signs.
    pub due: u64,
    /// Never asked about yet.
    pub never: u64,
}

impl Asker {
    /// Rows of computers that changed since they were last looked at.
    fn changed(&self) -> String {
        let living = self.living();
        format!(
            "SELECT s.organization, s.vendor_id, s.changed, s.row,
               (SELECT a.signs FROM asked a WHERE a.set_id = ?2 AND a.organization = s.organization AND a.computer = s.vendor_id)
             {living} AND NOT EXISTS (SELECT 1 FROM asked a WHERE a.set_id = ?2 AND a.organization = s.organization
               AND a.computer = s.vendor_id AND a.changed = s.changed) LIMIT ?4"
        )
    }

    /// Those that are due, and others whose turn has come.
    fn next(&self) -> String {
        let (living, of) = (self.living(), self.is_its("a.organization"));
        format!(
            "SELECT a.organization, o.organization_id, a.computer, a.signs, a.due FROM asked a JOIN organization o ON o.id = a.organization
             WHERE a.set_id = ?2 AND {of} AND (a.due = 1 OR a.at < ?4)
               AND EXISTS (SELECT 1 {living} AND s.organization = a.organization AND s.vendor_id = a.computer)
             ORDER BY a.due DESC, a.at LIMIT ?5"
        )
    }

    fn tally(&self) -> String {
        let living = self.living();
        format!(
            "SELECT count(*), ifnull(sum(a.due), 0), count(*) - ifnull(sum(a.at > 0), 0) FROM
               (SELECT s.organization, s.vendor_id {living}) l
             LEFT JOIN asked a ON a.set_id = ?2 AND a.organization = l.organization AND a.computer = l.vendor_id"
        )
    }

    fn forget_removed(&self) -> String {
        let (living, of) = (self.living(), self.is_its("organization"));
        format!(
            "DELETE FROM asked WHERE set_id = ?2 AND {of}
               AND NOT EXISTS (SELECT 1 {living} AND s.organization = asked.organization AND s.vendor_id = asked.computer)"
        )
    }

    /// The computers that are not known to be removed: those that the source `computers` lists.
    fn living(&self) -> String {
        format!(
            "FROM snapshot s JOIN seen_set c ON c.id = s.set_id AND c.connection_id = ?1 AND c.source = 'computers'
             WHERE s.state <> 'removed' AND {}",
            self.is_its("s.organization")
        )
    }

    /// That a column names the only organization, if there is one; in words by which a key is searched, since each of
    /// a list of organizations is looked through at every poll.
    fn is_its(&self, column: &str) -> String {
        match self.organization {
            Some(_) => format!("{column} = ?3"),
            None => "?3 IS NULL".to_owned(),
        }
    }
}

/// Reads the rows of computers that changed since the last look, a bounded number; `signs_of` reads one. Answers
/// whether that were all.
pub fn look(db: &Connection, asker: &Asker, signs_of: impl Fn(&str) -> Signs) -> Result<bool, StoreError> {
    let Asker { connection, set, organization } = *asker;
    let mut changed = db.prepare_cached(&asker.changed())?;
    let mut note = db.prepare_cached(
        "INSERT INTO asked (set_id, organization, computer, at, changed, signs, due) VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6)
         ON CONFLICT (set_id, organization, computer) DO UPDATE SET changed = excluded.changed, signs = excluded.signs,
           due = max(due, excluded.due)",
    )?;
    let mut looked_at = 0;
    let mut rows = changed.query(params![connection, set, organization, LOOKED_AT])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        looked_at += 1;
        let (organization, computer): (i64, String) = (row.get(0)?, row.get(1)?);
        let (changed, packed): (Micros, Vec<u8>) = (row.get(2)?, row.get(3)?);
        let before: Option<Vec<u8>> = row.get(4)?;
        let text = compress::unpack(&packed, LARGEST_ROW).map_err(|reason| StoreError::Damaged {
            what: format!("the last known row of {computer}"),
            reason,
        })?;
        let signs = signs_of(&String::from_utf8_lossy(&text));
        // Of a computer that was never asked about and shows nothing there is time.
        let due = before.map_or(!signs.quiet, |before| before != signs.print);
        found.push((organization, computer, changed, signs.print, due));
    }
    drop(rows);
    for (organization, computer, changed, print, due) in found {
        note.execute(params![set, organization, computer, changed, print.as_slice(), due])?;
    }
    Ok(looked_at < LOOKED_AT)
}

/// The next computers to ask about: those that are due, and of the others, if they were asked about last before
/// `asked_before`, those whose turn is the longest ago.
pub fn next(
    db: &Connection,
    asker: &Asker,
    asked_before: Option<Micros>,
    most: u64,
) -> Result<Vec<Due>, StoreError> {
    let Asker { connection, set, organization } = *asker;
    let mut rows = db.prepare_cached(&asker.next())?;
    let before = asked_before.unwrap_or(Micros::MIN);
    let rows = rows.query_map(params![connection, set, organization, before, most], |row| {
        let (organization, organization_id) = (row.get(0)?, row.get(1)?);
        let (computer, signs, by_signs) = (row.get(2)?, row.get(3)?, row.get(4)?);
        Ok(Due { organization, organization_id, computer, signs, by_signs })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A computer was asked about to the end. It stays due where its signs became others meanwhile.
pub fn done(db: &Connection, set: i64, asked: &Due, now: Micros) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE asked SET at = ?4, due = (signs <> ?5) WHERE set_id = ?1 AND organization = ?2 AND computer = ?3",
    )?
    .execute(params![set, asked.organization, asked.computer, now, asked.signs])?;
    Ok(())
}

/// The portal told nothing of a computer: it is due, and others come first.
pub fn refused(db: &Connection, set: i64, asked: &Due, now: Micros) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE asked SET at = ?4, due = 1 WHERE set_id = ?1 AND organization = ?2 AND computer = ?3",
    )?
    .execute(params![set, asked.organization, asked.computer, now])?;
    Ok(())
}

/// How many computers there are, and how many of them are still to be asked about.
pub fn tally(db: &Connection, asker: &Asker) -> Result<Tally, StoreError> {
    let Asker { connection, set, organization } = *asker;
    let tally =
        db.prepare_cached(&asker.tally())?.query_row(params![connection, set, organization], |row| {
            Ok(Tally { computers: row.get(0)?, due: row.get(1)?, never: row.get(2)? })
        })?;
    Ok(tally)
}

/// Forgets computers that are no longer there.
pub fn forget_removed(db: &Connection, asker: &Asker) -> Result<(), StoreError> {
    let Asker { connection, set, organization } = *asker;
    db.prepare_cached(&asker.forget_removed())?.execute(params![connection, set, organization])?;
    Ok(())
}

#[cfg(test)]
mod tests;
