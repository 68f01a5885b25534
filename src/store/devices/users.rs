//! Who was logged in to a device since when, in memory as the table `last_user` has it.

use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::model::{Micros, SECOND};
use crate::record::enrichment::{LastUser, UserOrigin};
use crate::store::StoreError;

/// A user who is seen that much before the first time that is known of the same user is not noted: older time
/// is often read newest first, and every page would note everybody anew.
const EARLIER: Micros = 300 * SECOND;

/// A user, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) since: Micros,
    /// Empty for nobody.
    pub(super) name: Arc<str>,
    origin: UserOrigin,
}

impl Run {
    pub(super) fn as_last_user(&self) -> LastUser<'_> {
        LastUser { name: &self.name, origin: self.origin, time: Some(self.since) }
    }

    pub(super) fn is_somebody(&self) -> bool {
        !self.name.is_empty()
    }
}

/// All users of one device.
#[derive(Debug)]
pub(super) struct Users {
    device: i64,
    /// By the code of their origin, in order of time.
    runs: [Vec<Run>; 3],
}

impl Users {
    pub(super) fn read(db: &Connection, device: i64) -> Result<Self, StoreError> {
        let mut runs = [UserOrigin::Computer, UserOrigin::UnifiedAudit, UserOrigin::Report]
            .map(|origin| (origin, Vec::new()));
        let mut all = db.prepare_cached(
            "SELECT origin, since, name FROM last_user WHERE device = ?1 ORDER BY origin, since",
        )?;
        let mut rows = all.query([device])?;
        while let Some(row) = rows.next()? {
            let code: i64 = row.get(0)?;
            let name = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
            if let Some((origin, runs)) = runs.iter_mut().find(|(origin, _)| origin.code() == code) {
                runs.push(Run { since: row.get(1)?, name: name.into(), origin: *origin });
            }
        }
        Ok(Self { device, runs: runs.map(|(_, runs)| runs) })
    }

    /// How often another one came.
    pub(super) fn len(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }

    /// Those of one origin in a span of time, the first perhaps from before it.
    pub(super) fn between(&self, origin: UserOrigin, first: Micros, last: Micros) -> Runs {
        let runs = self.of(origin);
        let from = runs.partition_point(|run| run.since <= first).saturating_sub(1);
        let to = runs.partition_point(|run| run.since <= last);
        Runs { first, runs: runs[from.min(to)..to].to_vec() }
    }

    pub(super) fn newest(&self, origin: UserOrigin) -> Option<&Run> {
        self.of(origin).last()
    }

    /// The last user as far as is known now.
    pub(super) fn last(&self) -> Option<&Run> {
        let listed = self.newest(UserOrigin::Computer);
        if listed.is_some_and(Run::is_somebody) {
            return listed;
        }
        let better = newer(self.named(Micros::MAX), self.newest(UserOrigin::UnifiedAudit));
        better.or_else(|| self.reported(Micros::MAX))
    }

    /// Whom the computers named last at a time.
    pub(super) fn named(&self, time: Micros) -> Option<&Run> {
        self.until(UserOrigin::Computer, time).iter().rev().find(|run| run.is_somebody())
    }

    /// Whom a report named last at a time.
    pub(super) fn reported(&self, time: Micros) -> Option<&Run> {
        self.until(UserOrigin::Report, time).last().filter(|run| run.is_somebody())
    }

    /// Writes that another one came.
    pub(super) fn insert(
        &mut self,
        db: &Connection,
        origin: UserOrigin,
        since: Micros,
        name: &str,
    ) -> Result<(), StoreError> {
        db.prepare_cached(
            "INSERT INTO last_user (device, origin, since, name) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (device, origin, since) DO UPDATE SET name = excluded.name",
        )?
        .execute(params![self.device, origin.code(), since, name])?;
        let runs = &mut self.runs[place(origin)];
        let at = runs.partition_point(|run| run.since < since);
        let run = Run { since, name: name.into(), origin };
        match runs.get_mut(at).filter(|run| run.since == since) {
            Some(known) => *known = run,
            None => runs.insert(at, run),
        }
        Ok(())
    }

    fn remove(&mut self, db: &Connection, origin: UserOrigin, since: Micros) -> Result<(), StoreError> {
        db.prepare_cached("DELETE FROM last_user WHERE device = ?1 AND origin = ?2 AND since = ?3")?
            .execute(params![self.device, origin.code(), since])?;
        self.runs[place(origin)].retain(|run| run.since != since);
        Ok(())
    }

    fn of(&self, origin: UserOrigin) -> &[Run] {
        &self.runs[place(origin)]
    }

    fn until(&self, origin: UserOrigin, time: Micros) -> &[Run] {
        let runs = self.of(origin);
        &runs[..runs.partition_point(|run| run.since <= time)]
    }

    fn after(&self, origin: UserOrigin, time: Micros) -> Option<&Run> {
        self.of(origin).get(self.until(origin, time).len())
    }
}

fn place(origin: UserOrigin) -> usize {
    usize::try_from(origin.code()).expect("codes count from 0")
}

/// Who of two came later.
pub(super) fn newer<'r>(one: Option<&'r Run>, other: Option<&'r Run>) -> Option<&'r Run> {
    one.into_iter().chain(other).max_by_key(|run| run.since)
}

/// The users of a device in a span of time, of one origin, in order of time; the first may be from before it.
#[derive(Debug, Default)]
pub(super) struct Runs {
    first: Micros,
    runs: Vec<Run>,
}

impl Runs {
    /// Whether somebody is named at every time of the span.
    pub(super) fn always(&self) -> bool {
        self.runs.first().is_some_and(|run| run.since <= self.first) && self.runs.iter().all(Run::is_somebody)
    }

    /// What was told of a time of the span: somebody, or nobody any more.
    pub(super) fn told(&self, time: Micros) -> Option<&Run> {
        let after = self.runs.partition_point(|run| run.since <= time);
        self.runs.get(after.checked_sub(1)?)
    }

    /// Notes whom the audit shows, in order of time, wherever they differ from what is known of that time.
    pub(super) fn note<'n>(
        &mut self,
        db: &Connection,
        users: &mut Users,
        shown: impl Iterator<Item = (Micros, &'n str)>,
    ) -> Result<(), StoreError> {
        let origin = UserOrigin::UnifiedAudit;
        let mut noted = Vec::new();
        for (since, name) in shown {
            let after = self.runs.partition_point(|run| run.since <= since);
            let run = || Run { since, name: name.into(), origin };
            match after.checked_sub(1).map(|before| &mut self.runs[before]) {
                Some(known) if *known.name == *name => continue,
                Some(known) if known.since == since => *known = run(),
                _ => self.runs.insert(after, run()),
            }
            noted.push(since);
        }
        noted.dedup();
        for since in noted {
            let place = self.runs.partition_point(|run| run.since < since);
            let run = &self.runs[place];
            let next = self.runs.get(place + 1).or_else(|| users.after(origin, since));
            if let Some(next) = next.filter(|next| next.name == run.name).map(|next| next.since) {
                if place == 0 && next - since < EARLIER {
                    continue;
                }
                users.remove(db, origin, next)?;
            }
            users.insert(db, origin, since, &run.name)?;
        }
        Ok(())
    }
}
