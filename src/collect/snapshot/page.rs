//! What a page or a whole walk of a listing does to the state, each inside one transaction: which rows tell
//! anything new, and what is missing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::AddAssign;
use std::sync::Arc;

use uuid::Uuid;

use super::matching::Answered;
use super::parts::PartsSettings;
use super::{Seen, SnapshotNotes, SnapshotSettings};
use crate::collect::ListedRow;
use crate::model::{Change, Kind, Lane, Micros, OrganizationId, folded, uid};
use crate::normalise::{digest, fingerprint, fingerprint_of};
use crate::record::enrichment::{Computer, Enrichment, Replaced, Sighting, UserOrigin};
use crate::source::{Agreement, Parts, Scope, Source, by_name};
use crate::sources::reports;
use crate::store::devices::{self, Looked, Told};
use crate::store::outbox::NewEntry;
use crate::store::snapshots::{self, Known, Presence};
use crate::store::{StoreError, WriterDb, connections, outbox};

/// What the jobs of one page or walk need to know.
pub(super) struct Page {
    pub(super) settings: SnapshotSettings,
    pub(super) now: Micros,
    pub(super) stored: Micros,
    pub(super) restating: Option<Micros>,
    /// What was settled before this, and is seen for the first time, is remembered and gives no entry.
    pub(super) history: Option<Micros>,
    /// What the portal answered beside the list, about some of the rows.
    pub(super) answers: Vec<Answered>,
}

/// What a page came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Applied {
    pub(super) entries: u64,
    /// Rows that tell anything new, with or without an entry.
    pub(super) news: u64,
}

impl AddAssign for Applied {
    fn add_assign(&mut self, more: Self) {
        self.entries += more.entries;
        self.news += more.news;
    }
}

/// An entry with what it borrows from.
pub(super) struct Made {
    pub(super) uid: Uuid,
    pub(super) change: Change,
    /// `organization.id`.
    pub(super) organization_key: i64,
    pub(super) organization: String,
    pub(super) vendor_id: String,
    pub(super) row: String,
    pub(super) previous: Option<String>,
    /// When it happened.
    pub(super) time: Micros,
    pub(super) sighting: Option<Arc<Sighting>>,
    /// Remembered only.
    pub(super) silent: bool,
    /// What a device of a report went by that goes on as this one, and its last uid.
    pub(super) replaces: Option<(String, Uuid)>,
}

impl Page {
    pub(super) fn apply(&self, db: &WriterDb, rows: &[ListedRow]) -> Result<Applied, StoreError> {
        let connection = self.settings.connection;
        connections::set_clock(db, connection, self.now, self.stored)?;
        let mut organizations: HashMap<&OrganizationId, (i64, bool)> = HashMap::new();
        let mut checkins: HashMap<i64, Option<Micros>> = HashMap::new();
        let (mut made, of_computers, told_once) = (Vec::new(), self.is_of_computers(), self.is_told_once());
        for row in rows {
            let (organization, ours) = match organizations.get(&row.organization) {
                Some(known) => *known,
                None => {
                    let name = row.organization_name.as_deref();
                    let key = connections::organization(db, connection, &row.organization, name, self.now)?;
                    // Rows of no organization are each site's own.
                    let ours = row.organization.is_none()
                        || connections::claim(db, &row.organization, self.settings.source, connection)?
                            == connection;
                    organizations.insert(&row.organization, (key, ours));
                    (key, ours)
                }
            };
            if of_computers {
                let newest = checkins.entry(organization).or_insert(None);
                *newest = (*newest).max(row.at);
            }
            if let Some(sighting) = row.sighting.as_ref().filter(|_| of_computers) {
                let at = row.at.unwrap_or(self.now);
                let told = Told { organization, at, sighting: Arc::clone(sighting) };
                devices::note_listed(db, &told, self.user_origin(), self.now)?;
                if let (Computer::Id(id), Some(checkin)) = (&sighting.computer, row.at) {
                    devices::note_checkin(db, organization, id, checkin)?;
                }
            }
            match ours {
                true if told_once => made.extend(self.tell(db, organization, row)?),
                true => made.extend(self.compare(db, organization, row)?),
                false => {}
            }
        }
        // That computers were listed witnesses whether a silence of their organization is plausible.
        // A report may be old.
        let is_now = self.user_origin() == UserOrigin::Computer;
        for (organization, checkin) in checkins.into_iter().filter(|_| is_now) {
            snapshots::note_checkin(db, connection, organization, checkin, self.now)?;
        }
        let news = made.len() as u64;
        made.retain(|one| !one.silent);
        Ok(Applied { entries: self.append(db, &made)?, news })
    }

    /// Whether rows are computers, of which other rows and people tell, too.
    fn is_of_computers(&self) -> bool {
        let source = by_name(self.settings.source);
        self.settings.kind == Kind::Device && source.is_some_and(Source::is_managed)
    }

    /// Whether rows tell of something that happened, not of something that is there.
    fn are_events(&self) -> bool {
        let of_report = self.settings.filter.report.is_some() && self.settings.kind == Kind::Event;
        of_report || self.is_told_once()
    }

    fn is_told_once(&self) -> bool {
        by_name(self.settings.source).is_some_and(Source::is_told_once)
    }

    /// Where users that rows name are known from.
    fn user_origin(&self) -> UserOrigin {
        match self.settings.source == reports::NAME {
            true => UserOrigin::Report,
            false => UserOrigin::Computer,
        }
    }

    /// The entry that a listed row gives, if it tells anything new.
    fn compare(&self, db: &WriterDb, organization: i64, row: &ListedRow) -> Result<Option<Made>, StoreError> {
        let (set, Some(vendor_id)) = (self.settings.set, row.vendor_id.as_deref()) else { return Ok(None) };
        // As the uid does: a portal that changes the case of a GUID means the same thing.
        let vendor_id = &*folded(vendor_id);
        let print = self.print(&row.body, row.shape);
        let mut known = snapshots::get(db, set, organization, vendor_id)?;
        if let Some(known) =
            known.as_mut().filter(|known| known.fingerprint != print && known.presence != Presence::Removed)
        {
            // An older program may have left out other things: the row that it stored tells.
            let shape = shape_of(&known.fingerprint);
            let anew = self.print(&known.row, shape);
            if known.fingerprint != anew {
                snapshots::set_fingerprint(db, set, organization, vendor_id, &anew)?;
                known.fingerprint = anew;
            }
            if shape != row.shape {
                match self.agree(&row.body, &known.row) {
                    Agreement::Differ => {}
                    // Asked in another way it says no more: what is known stays.
                    Agreement::Less => known.fingerprint.clone_from(&print),
                    Agreement::Same => {
                        (known.fingerprint, known.row) = (print.clone(), row.body.to_vec());
                        snapshots::set(db, set, organization, vendor_id, known, self.now)?;
                    }
                }
            }
        }
        let restated = self.restating.unwrap_or(0);
        let (change, previous) = match &known {
            None => (Change::New, None),
            Some(known) if known.presence == Presence::Removed => {
                (Change::New, Some(&known.row).filter(|_| !self.are_events()))
            }
            Some(known) if known.fingerprint != print => (Change::Changed, Some(&known.row)),
            Some(known) => {
                if known.presence != Presence::Present {
                    snapshots::set_presence(db, set, organization, vendor_id, Presence::Present)?;
                }
                let restated = match known.restated < restated {
                    true => restated,
                    // The row is the same, and its record would tell another last user.
                    false
                        if self.settings.restate.is_some()
                            && known.restated < self.now
                            && self.is_of_computers()
                            && devices::has_another_user(db, organization, vendor_id)? =>
                    {
                        self.now
                    }
                    false => return Ok(None),
                };
                snapshots::set_restated(db, set, organization, vendor_id, known.restated.max(restated))?;
                let occurrence = format!("restated@{restated}");
                return Ok(Some(self.made(row, organization, Change::Restated, &occurrence, None)));
            }
        };
        let restated = known.as_ref().map_or(0, |known| known.restated).max(restated);
        let now_known = Known {
            fingerprint: print.clone(),
            row: row.body.to_vec(),
            presence: Presence::Present,
            restated,
        };
        snapshots::set(db, set, organization, vendor_id, &now_known, self.now)?;
        let silent = match &known {
            Some(known) if known.presence != Presence::Removed => false,
            _ if !self.is_history(row) => false,
            None => true,
            Some(_) => !snapshots::was_told(db, set, organization, vendor_id)?,
        };
        // What is not told is not counted either: so it is known later that nobody was told.
        let before = match silent {
            true => 0,
            false => snapshots::enter(db, set, organization, vendor_id, &print)?,
        };
        let occurrence = format!("{}/{before}", hex(&print));
        let mut made = self.made(row, organization, change, &occurrence, previous);
        made.silent = silent;
        if known.is_none() && self.settings.takes_over {
            made.replaces = self.take_over(db, organization, vendor_id, row)?;
        }
        Ok(Some(made))
    }

    /// Looks for the device of a report that a new computer is: under its id, else under the name of its host, within
    /// its organization. It is not told to be removed, since it goes on.
    fn take_over(
        &self,
        db: &WriterDb,
        organization: i64,
        vendor_id: &str,
        row: &ListedRow,
    ) -> Result<Option<(String, Uuid)>, StoreError> {
        let connection = self.settings.connection;
        let Some(set) = snapshots::set_of(db, connection, reports::NAME, reports::COMPUTERS_QUERY)? else {
            return Ok(None);
        };
        let facts = row.sighting.as_ref().and_then(|sighting| sighting.facts.as_deref());
        let hosts = facts.into_iter().flat_map(|facts| [facts.host.clone(), facts.name.clone()]).flatten();
        let nowhere = connections::organization(db, connection, &OrganizationId::none(), None, self.now)?;
        let mut places = vec![(organization, vendor_id.to_owned()), (nowhere, vendor_id.to_owned())];
        for host in hosts {
            places.push((organization, reports::host_id(&host, None)));
            places.push((nowhere, reports::host_id(&host, row.organization_name.as_deref())));
        }
        for (of, id) in places {
            let Some(known) = snapshots::get(db, set, of, &id)? else { continue };
            if known.presence == Presence::Removed {
                continue;
            }
            let entered = snapshots::entered(db, set, of, &id, &known.fingerprint)?;
            snapshots::set_presence(db, set, of, &id, Presence::Removed)?;
            if (of, id.as_str()) != (organization, vendor_id) {
                devices::note_removed(db, of, &id, self.now)?;
            }
            let occurrence = format!("{}/{}", hex(&known.fingerprint), entered.saturating_sub(1));
            let of = if of == nowhere { "" } else { row.organization.as_str() };
            let last = uid(of, reports::NAME, &id, Kind::Device.as_str(), &occurrence);
            return Ok(Some((id, last)));
        }
        Ok(None)
    }

    /// The fingerprint of a row, and behind it its shape, if it is not the usual one.
    pub(super) fn print(&self, row: &[u8], shape: u8) -> Vec<u8> {
        let print = std::str::from_utf8(row).ok().and_then(|row| match self.settings.parts {
            Some(PartsSettings { parts, .. }) => fingerprint_of(row, parts.counts).ok(),
            None => fingerprint(row, self.settings.volatile).ok(),
        });
        let mut print = print.unwrap_or_else(|| digest(&[row])).to_vec();
        print.extend(Some(shape).filter(|shape| *shape > 0));
        print
    }

    fn agree(&self, row: &[u8], known: &[u8]) -> Agreement {
        let texts = std::str::from_utf8(row).ok().zip(std::str::from_utf8(known).ok());
        let source = by_name(self.settings.source);
        texts.zip(source).map_or(Agreement::Differ, |((row, known), source)| source.agree(row, known))
    }

    fn made(
        &self,
        row: &ListedRow,
        organization_key: i64,
        change: Change,
        occurrence: &str,
        previous: Option<&Vec<u8>>,
    ) -> Made {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let vendor_id = row.vendor_id.clone().unwrap_or_default();
        Made {
            uid: uid(
                row.organization.as_str(),
                self.settings.source,
                &vendor_id,
                self.settings.kind.as_str(),
                occurrence,
            ),
            change,
            organization_key,
            organization: row.organization.as_str().to_owned(),
            vendor_id,
            row: text(&row.body),
            time: self.time(row, previous),
            previous: previous.map(|row| text(row)),
            sighting: row.sighting.clone(),
            silent: false,
            replaces: None,
        }
    }

    /// When what a row tells happened: a device is as it is when it is collected, and a step without a time of its own
    /// was taken by now.
    fn time(&self, row: &ListedRow, previous: Option<&Vec<u8>>) -> Micros {
        let Some(PartsSettings { parts, .. }) = self.settings.parts else { return self.now };
        let acted = parts.acted(&row.body);
        match previous {
            None => acted.or(row.at).unwrap_or(self.now),
            Some(previous) => acted.filter(|_| acted != parts.acted(previous)).unwrap_or(self.now),
        }
    }

    /// Whether a row was settled before anybody asked for it.
    pub(super) fn is_history(&self, row: &ListedRow) -> bool {
        let Some((PartsSettings { parts, .. }, history)) = self.settings.parts.zip(self.history) else {
            return false;
        };
        parts.acted(&row.body).or(row.at).is_some_and(|at| at < history)
    }

    /// What is known of the computers of entries, each in its place.
    fn known(&self, db: &WriterDb, made: &[Made]) -> Result<Looked, StoreError> {
        if !self.is_of_computers() {
            let told: Vec<Option<Told>> = made
                .iter()
                .map(|one| {
                    let sighting = Arc::clone(one.sighting.as_ref()?);
                    Some(Told { organization: one.organization_key, at: one.time.min(self.now), sighting })
                })
                .collect();
            return devices::note_seen(db, &told, self.now);
        }
        let ids: Vec<_> = made.iter().map(|one| (one.organization_key, folded(&one.vendor_id))).collect();
        let known = devices::look(db, ids.iter().map(|(organization, id)| (*organization, &**id)))?;
        for (place, (organization, id)) in ids.iter().enumerate() {
            devices::note_told(db, *organization, id, known.of(place).user.map(|user| user.name))?;
        }
        Ok(known)
    }

    fn append(&self, db: &WriterDb, made: &[Made]) -> Result<u64, StoreError> {
        if made.is_empty() {
            return Ok(0);
        }
        let known = self.known(db, made)?;
        let entries: Vec<NewEntry<'_>> = made
            .iter()
            .enumerate()
            .map(|(place, one)| NewEntry {
                uid: one.uid,
                kind: self.settings.kind,
                change: one.change,
                organization: &one.organization,
                vendor_id: Some(&one.vendor_id),
                time: Some(one.time),
                row: &one.row,
                previous: one.previous.as_deref(),
                known: Enrichment {
                    replaces: one.replaces.as_ref().map(|(id, uid)| Replaced { id, uid: *uid }),
                    matching: self.matching(one),
                    ..known.of(place)
                },
            })
            .collect();
        let settings = &self.settings;
        outbox::append(
            db,
            settings.connection,
            settings.epoch,
            Lane::Live,
            settings.source,
            self.now,
            self.stored,
            &entries,
        )?;
        Ok(entries.len() as u64)
    }

    /// Judges what a complete walk did not list. Answers how many entries that made.
    pub(super) fn conclude(&self, db: &WriterDb, seen: &Seen) -> Result<u64, StoreError> {
        let living = self.living(db)?;
        let is_there = |one: &&snapshots::Listed| {
            seen.listed.contains_key(&self.row_id(one)) || seen.unseen.contains(&one.vendor_id)
        };
        let absent: Vec<&snapshots::Listed> = living.iter().filter(|one| !is_there(one)).collect();
        let unbelievable = Unbelievable::judge(&living, &absent);
        let is_often_empty = by_name(self.settings.source).is_some_and(Source::is_often_empty);
        let mut made = Vec::new();
        for one in absent {
            // Rows of a report come and go as they please; only one that is empty all at once is not believed.
            let held = match self.are_events() {
                true => {
                    seen.listed.is_empty()
                        && seen.unseen.is_empty()
                        && !(self.is_told_once() && living.len() == 1)
                }
                false if is_often_empty => false,
                false => unbelievable.holds(one.organization) || one.presence == Presence::Unknown,
            };
            let presence = if held {
                Presence::Unknown
            } else if one.presence == Presence::Missing {
                Presence::Removed
            } else {
                Presence::Missing
            };
            match presence {
                // What came once is no less true when it is listed no more; if it comes back, it came again.
                Presence::Removed if self.are_events() => {
                    snapshots::set_presence(
                        db,
                        self.settings.set,
                        one.organization,
                        &one.vendor_id,
                        presence,
                    )?;
                }
                Presence::Removed => made.extend(self.remove(db, one)?),
                other if other != one.presence => {
                    snapshots::set_presence(db, self.settings.set, one.organization, &one.vendor_id, other)?;
                }
                _ => {}
            }
        }
        made.extend(self.moved(db, &made)?);
        self.append(db, &made)
    }

    /// Of what was removed, what the portal lists in another organization is told once more: whoever keeps the newest
    /// record of a device must not be left with the one that says that it is gone. Only computers have ids that are theirs
    /// in every organization.
    fn moved(&self, db: &WriterDb, removed: &[Made]) -> Result<Vec<Made>, StoreError> {
        let of_computers = self.is_of_computers() && self.user_origin() == UserOrigin::Computer;
        if removed.is_empty() || !of_computers {
            return Ok(Vec::new());
        }
        let set = self.settings.set;
        let gone: HashSet<&str> = removed.iter().map(|one| &*one.vendor_id).collect();
        let mut moved = Vec::new();
        for one in snapshots::living(db, set, None)? {
            if one.presence != Presence::Present || !gone.contains(&*one.vendor_id) {
                continue;
            }
            let Some(known) = snapshots::get(db, set, one.organization, &one.vendor_id)? else { continue };
            let kind = self.settings.kind.as_str();
            let occurrence = format!("restated@{}", self.now);
            moved.push(Made {
                uid: uid(&one.organization_id, self.settings.source, &one.vendor_id, kind, &occurrence),
                change: Change::Restated,
                organization_key: one.organization,
                organization: one.organization_id,
                vendor_id: one.vendor_id,
                previous: None,
                row: String::from_utf8_lossy(&known.row).into_owned(),
                time: self.now,
                sighting: None,
                silent: false,
                replaces: None,
            });
        }
        Ok(moved)
    }

    /// Whether a walk left out anything that is not known to be removed.
    pub(super) fn leaves_out(&self, db: &WriterDb, listed: &HashMap<u128, bool>) -> Result<bool, StoreError> {
        Ok(self.living(db)?.iter().any(|one| !listed.contains_key(&self.row_id(one))))
    }

    /// What of the stream's scope is not known to be removed.
    fn living(&self, db: &WriterDb) -> Result<Vec<snapshots::Listed>, StoreError> {
        let settings = &self.settings;
        let scope = match &settings.scope {
            Scope::Tree(_) => None,
            Scope::Organization(organization) => {
                Some(connections::organization(db, settings.connection, organization, None, self.now)?)
            }
        };
        snapshots::living(db, settings.set, scope)
    }

    /// The id under which a page lists a row.
    fn row_id(&self, one: &snapshots::Listed) -> u128 {
        let kind = self.settings.kind.as_str();
        uid(&one.organization_id, self.settings.source, &one.vendor_id, kind, "0").as_u128()
    }

    /// Removes what is held as unknown and whose id is confirmed. Answers how many rows that were, and how many entries
    /// that made.
    pub(super) fn remove_unknown(
        &self,
        db: &WriterDb,
        confirmed: impl Fn(u128) -> bool,
    ) -> Result<(u64, u64), StoreError> {
        let (mut rows, mut made) = (0, Vec::new());
        for one in self.living(db)? {
            if one.presence == Presence::Unknown && confirmed(self.row_id(&one)) {
                rows += 1;
                made.extend(self.remove(db, &one)?);
            }
        }
        made.extend(self.moved(db, &made)?);
        Ok((rows, self.append(db, &made)?))
    }

    /// Notes what of the stream's scope is held as unknown.
    pub(super) fn note_unknown(&self, db: &WriterDb, notes: &mut SnapshotNotes) -> Result<(), StoreError> {
        let scope = &self.settings.scope;
        if self.are_events() && !self.is_told_once() {
            return Ok(());
        }
        notes.unknown = snapshots::unknown(db, self.settings.set)?;
        notes.unknown.retain(|(organization, _)| scope.is_tree() || organization == scope.name());
        notes.unknown_since = match notes.unknown.is_empty() {
            true => None,
            false => notes.unknown_since.or(Some(self.now)),
        };
        Ok(())
    }

    /// Holds all as unknown, where nothing is listed and the portal refuses some parts: but for what was in one of
    /// those when it was listed last, or a single thing, which may have moved there.
    pub(super) fn doubt(
        &self,
        db: &WriterDb,
        parts: &Parts,
        refused: &BTreeSet<u8>,
    ) -> Result<(), StoreError> {
        let set = self.settings.set;
        let mut gone = Vec::new();
        for one in self.living(db)? {
            let known = snapshots::get(db, set, one.organization, &one.vendor_id)?;
            let part = known.and_then(|known| parts.part_of(&known.row));
            if !part.is_some_and(|part| refused.contains(&part)) {
                gone.push(one);
            }
        }
        for one in gone.iter().filter(|one| gone.len() > 1 && one.presence != Presence::Unknown) {
            snapshots::set_presence(db, set, one.organization, &one.vendor_id, Presence::Unknown)?;
        }
        Ok(())
    }

    /// The entry that tells that something is gone; none where nobody was told that it was there.
    fn remove(&self, db: &WriterDb, one: &snapshots::Listed) -> Result<Option<Made>, StoreError> {
        let set = self.settings.set;
        // Of what another site tells by now nothing is gone.
        let of = OrganizationId::new(&one.organization_id);
        let elsewhere = connections::claimed_by(db, &of, self.settings.source)?
            .is_some_and(|owner| owner != self.settings.connection);
        if elsewhere
            || self.is_told_once()
            || !snapshots::was_told(db, set, one.organization, &one.vendor_id)?
        {
            snapshots::set_presence(db, set, one.organization, &one.vendor_id, Presence::Removed)?;
            return Ok(None);
        }
        let Some(known) = snapshots::get(db, set, one.organization, &one.vendor_id)? else { return Ok(None) };
        let before = snapshots::enter(db, set, one.organization, &one.vendor_id, b"removed")?;
        let row = String::from_utf8_lossy(&known.row).into_owned();
        let removed = Known { presence: Presence::Removed, fingerprint: Vec::new(), ..known };
        snapshots::set(db, set, one.organization, &one.vendor_id, &removed, self.now)?;
        if self.is_of_computers() {
            devices::note_removed(db, one.organization, &one.vendor_id, self.now)?;
        }
        Ok(Some(Made {
            uid: uid(
                &one.organization_id,
                self.settings.source,
                &one.vendor_id,
                self.settings.kind.as_str(),
                &format!("removed/{before}"),
            ),
            change: Change::Removed,
            organization_key: one.organization,
            organization: one.organization_id.clone(),
            vendor_id: one.vendor_id.clone(),
            previous: Some(row.clone()),
            row,
            time: self.now,
            sighting: None,
            silent: false,
            replaces: None,
        }))
    }
}

/// Where too much is missing at once to believe it.
struct Unbelievable {
    everywhere: bool,
    organizations: HashSet<i64>,
}

impl Unbelievable {
    /// More than 10 % and more than 3 at once, or all of more than one in an organization.
    fn judge(living: &[snapshots::Listed], absent: &[&snapshots::Listed]) -> Self {
        let everywhere = absent.len() > 3 && absent.len() * 10 > living.len();
        let mut known: HashMap<i64, usize> = HashMap::new();
        for one in living {
            *known.entry(one.organization).or_default() += 1;
        }
        let mut missing: HashMap<i64, usize> = HashMap::new();
        for one in absent {
            *missing.entry(one.organization).or_default() += 1;
        }
        let organizations = missing
            .into_iter()
            .filter(|(organization, count)| *count > 1 && known.get(organization) == Some(count))
            .map(|(organization, _)| organization)
            .collect();
        Self { everywhere, organizations }
    }

    fn holds(&self, organization: i64) -> bool {
        self.everywhere || self.organizations.contains(&organization)
    }
}

/// The shape of the row of a fingerprint.
fn shape_of(print: &[u8]) -> u8 {
    print.get(16).copied().unwrap_or(0)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
