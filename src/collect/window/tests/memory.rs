//! A portal and a store in memory: the simulator's answers with a clock that moves at every request, and
//! a plain model of the store that can crash before or after each commit.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use uuid::Uuid;

use super::super::{Commit, EXPECTED_GAPS, Ledger, Notes, RowCommit, Silent, WindowSettings, WindowStream};
use crate::collect::{CollectError, Listed, ListedRow, Listing, content_uid};
use crate::coverage::Interval;
use crate::coverage::walk::RowId;
use crate::model::{Kind, Micros, OrganizationId, RowIds, SECOND, Seconds};
use crate::normalise::digest;
use crate::portal::{Answer, Failure, PortalError};
use crate::simulator::answer::{self, Content, Moment, Row};
use crate::simulator::dialect::Dialect;
use crate::simulator::dice::Dice;
use crate::source::{Filter, Query, Scope};
use crate::store::StoreError;
use crate::store::backfill::Again;

/// When every test begins.
pub(super) const BEGIN: Seconds = 1_800_000_000;
pub(super) const DAY: Seconds = 86_400;
const HOUR: Micros = 3_600 * SECOND;
/// The action types by which the portal in memory can be asked.
pub(super) const ACTIONS: [&str; 4] = ["create", "delete", "execute", "read"];
const SOURCE: &str = "audit";
/// The source to which rated rows belong, too.
pub(super) const ALSO: &str = "threats";

/// Runs what never waits.
pub(super) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("nothing in memory waits"),
    }
}

/// When, which span, page and size, and how many rows and which total came, if any.
pub(super) type Asked = (Micros, (Seconds, Seconds), u32, u32, Option<(usize, Option<u64>)>);

/// The portal's side.
pub(super) struct World {
    pub(super) rows: Vec<Row>,
    pub(super) dialect: Dialect,
    pub(super) now: Micros,
    /// How far ahead of the truth the portal tells its time.
    pub(super) ahead: Micros,
    /// How far the clock moves at a request.
    pub(super) tick: Micros,
    pub(super) requests: u64,
    /// Requests until the portal answers no more: work without end must not hang a test.
    pub(super) patience: u64,
    /// The last requests, the newest first, for what a failure says.
    pub(super) asked: VecDeque<Asked>,
    pub(super) dice: Dice,
    /// Organizations of which nothing is listed, from and to when.
    pub(super) silences: Vec<(u16, Micros, Micros)>,
    /// Organizations that the tree does not list, and that are listed alone.
    pub(super) hidden: Vec<u16>,
    /// Share of the requests that fail, and of the answers that do not decode.
    pub(super) failing: f64,
    pub(super) garbled: f64,
    /// A row that never decodes, by its id.
    pub(super) poison: Option<u64>,
    /// Longer requests are refused.
    pub(super) longest: Option<Seconds>,
    pub(super) has_imported: bool,
}

impl World {
    pub(super) fn new(mut rows: Vec<Row>, dialect: Dialect) -> Self {
        rows.sort_by_key(|row| dialect.axis.of(row));
        Self {
            rows,
            dialect,
            now: BEGIN * SECOND,
            ahead: 0,
            tick: SECOND / 20,
            requests: 0,
            patience: u64::MAX,
            asked: VecDeque::new(),
            dice: Dice::new(0, 0, 0),
            silences: Vec::new(),
            hidden: Vec::new(),
            failing: 0.0,
            garbled: 0.0,
            poison: None,
            longest: None,
            has_imported: true,
        }
    }

    pub(super) fn silent(&self, now: Micros) -> Vec<u16> {
        let silences = self.silences.iter().filter(|(_, from, to)| (*from..*to).contains(&now));
        silences.map(|(organization, ..)| *organization).collect()
    }

    fn answer(&mut self, query: &Query) -> Result<Listed, CollectError> {
        self.requests += 1;
        self.now += self.tick;
        if self.requests > self.patience {
            return Err(error(Failure::Unreachable("one piece of work asks for ever".into())));
        }
        if self.dice.chance(self.failing) {
            return Err(error(Failure::Unreachable("a schedule says so".into())));
        }
        if self.dice.chance(self.garbled) {
            return Err(error(Failure::Undecodable { reason: "a schedule says so".into() }));
        }
        let (from, to) = query.span.unwrap();
        if self.longest.is_some_and(|longest| to - from > longest) {
            return Err(error(Failure::Answer(Answer { status: 500, ..Answer::default() })));
        }
        let asked = answer::Query {
            page: query.page.into(),
            size: query.size.into(),
            scope: scope(&query.scope),
            actions: query
                .split
                .map_or(u32::MAX, |split| 1 << ACTIONS.iter().position(|action| *action == split).unwrap()),
            ..answer::Query::window(from * SECOND, to * SECOND)
        };
        let mut silent = self.silent(self.now);
        if asked.scope == answer::Scope::Tree {
            silent.extend(&self.hidden);
        }
        let moment = Moment { now: self.now, request: self.requests, silent: &silent };
        let answer = answer::answer(&self.rows, &asked, &self.dialect, &moment).map_err(|refusal| {
            let (status, message) = (refusal.status, refusal.message.to_owned());
            error(Failure::Answer(Answer { status, message, ..Answer::default() }))
        })?;
        let rows: Vec<&Row> = answer.rows.iter().map(|&index| &self.rows[index]).collect();
        if rows.iter().any(|row| row.id.is_some() && row.id == self.poison) {
            return Err(error(Failure::Undecodable { reason: "the poisoned row".into() }));
        }
        let rows = rows.into_iter().map(|row| listed(row, self.has_imported)).collect();
        Ok(Listed { rows, total: answer.total, ..Listed::default() })
    }
}

fn error(failure: Failure) -> CollectError {
    PortalError { site: "memory".into(), endpoint: None, failure }.into()
}

fn scope(scope: &Scope) -> answer::Scope {
    match scope {
        Scope::Tree(_) => answer::Scope::Tree,
        Scope::Organization(organization) => {
            answer::Scope::Organization(organization.as_str().strip_prefix("org-").unwrap().parse().unwrap())
        }
    }
}

pub(super) fn organization(number: u16) -> OrganizationId {
    OrganizationId::new(&format!("org-{number}"))
}

/// What tells rows without an id apart.
pub(super) fn hash(row: &Row, has_imported: bool) -> [u8; 16] {
    let Content::Generated(content) = row.content else { panic!("every row is generated") };
    let imported = if has_imported { row.imported } else { 0 };
    digest(&[
        &row.organization.to_be_bytes(),
        &row.at.to_be_bytes(),
        &content.to_be_bytes(),
        &imported.to_be_bytes(),
        &[row.action],
    ])
}

/// The uid under which a row is held; `ordinal` counts among equal rows without an id.
pub(super) fn row_uid(row: &Row, ordinal: u32, has_imported: bool) -> u128 {
    match row.id {
        Some(id) => u128::from(id) + 1,
        None => {
            let hash = hash(row, has_imported);
            content_uid(&organization(row.organization), SOURCE, Kind::Event, hash, ordinal).as_u128()
        }
    }
}

fn listed(row: &Row, has_imported: bool) -> ListedRow {
    let id = match row.id {
        Some(_) => RowId::Vendor(row_uid(row, 0, has_imported)),
        None => RowId::Content(hash(row, has_imported)),
    };
    ListedRow {
        id,
        organization: organization(row.organization),
        organization_name: None,
        vendor_id: row.id.map(|id| id.to_string()),
        at: Some(row.at),
        imported: has_imported.then_some(row.imported),
        own: false,
        sighting: None,
        shape: 0,
        rated: row.threat.level.is_some(),
        // What rates a row is among what may change.
        body: Bytes::from_static(if row.threat.level.is_some() { b"{\"rated\":1}" } else { b"{}" }),
    }
}

/// The portal, as often as it is needed.
#[derive(Clone)]
pub(super) struct Portal(Arc<Mutex<World>>);

impl Portal {
    pub(super) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(super) fn wait(&self, seconds: Seconds) {
        self.world().now += seconds * SECOND;
    }
}

impl Listing for Portal {
    fn now(&self) -> Micros {
        let world = self.world();
        world.now + world.ahead
    }

    async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        let mut world = self.world();
        let answer = world.answer(query);
        let said = answer.as_ref().ok().map(|listed| (listed.rows.len(), listed.total));
        let now = world.now;
        world.asked.truncate(40);
        world.asked.push_front((now, query.span.unwrap_or_default(), query.page, query.size, said));
        answer
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Micros,
    other: Option<Micros>,
    gone: bool,
    organization: u16,
}

/// What the store would hold.
#[derive(Default)]
pub(super) struct Book {
    seen: HashMap<u128, Seen>,
    /// Rows that are not gone, by their time.
    shelf: BTreeSet<(Micros, u128)>,
    hours: BTreeMap<(u16, i64), (u64, Micros)>,
    /// How often each row became an entry.
    pub(super) entries: HashMap<u128, u32>,
    pub(super) dead: BTreeSet<Uuid>,
    /// Rated rows, by what they are called there.
    pub(super) also: BTreeSet<Uuid>,
    pub(super) newest_organization: Option<Micros>,
    /// The organizations that are known to be there.
    pub(super) members: Vec<u16>,
    /// Rows seen that did not enter.
    withheld: RowIds,
    /// What an operator asks for.
    pub(super) asked_back: Vec<(Seconds, Seconds)>,
    pub(super) intervals: Vec<Interval>,
    pub(super) notes: Notes,
    /// Intervals committed since they were last taken.
    pub(super) told: Vec<Interval>,
    pub(super) crashing: f64,
    dice: Option<Dice>,
}

impl Book {
    pub(super) fn holds(&self, uid: u128) -> bool {
        self.seen.contains_key(&uid)
    }

    /// Whether a row is held and not known to be gone.
    pub(super) fn holds_as_listed(&self, uid: u128) -> bool {
        self.seen.get(&uid).is_some_and(|seen| !seen.gone)
    }

    /// Rows held and not gone of a range of the axis.
    pub(super) fn shelf(&self, from: Micros, to: Micros) -> impl Iterator<Item = u128> {
        self.shelf.range((from, 0)..(to.max(from), 0)).map(|(_, uid)| *uid)
    }

    fn crash(&mut self) -> Result<(), StoreError> {
        let crashing = self.crashing;
        match self.dice.as_mut().is_some_and(|dice| dice.chance(crashing)) {
            true => Err(StoreError::Missing { dir: "crashed".into() }),
            false => Ok(()),
        }
    }

    fn commit(&mut self, commit: Commit) -> Result<u64, StoreError> {
        self.crash()?;
        let mut entered = 0;
        if commit.swap_axis {
            self.swap_axis();
        }
        for row in commit.rows {
            let uid = row.uid.as_u128();
            self.also.extend(row.also);
            let organization = row.organization.as_str().strip_prefix("org-").unwrap().parse().unwrap();
            if let Some(seen) = self.seen.get_mut(&uid) {
                seen.gone = false;
                self.shelf.insert((seen.at, uid));
                if row.owed && self.withheld.remove(&uid) {
                    *self.entries.entry(uid).or_default() += 1;
                    entered += 1;
                }
                continue;
            }
            self.seen.insert(uid, Seen { at: row.at, other: row.other, gone: false, organization });
            self.shelf.insert((row.at, uid));
            let happened = row.time.unwrap_or(row.at);
            let hour =
                self.hours.entry((organization, happened.div_euclid(HOUR))).or_insert((0, Micros::MIN));
            *hour = (hour.0 + 1, hour.1.max(happened));
            if row.enter {
                *self.entries.entry(uid).or_default() += 1;
                entered += 1;
            } else {
                self.withheld.insert(uid);
            }
        }
        self.dead.extend(commit.dead.into_iter().map(|(uid, ..)| uid));
        if let Some(((from, to), intervals)) = commit.intervals {
            self.intervals.retain(|old| old.to <= from || old.from >= to);
            self.told.extend(intervals.iter().cloned());
            self.intervals.extend(intervals);
        }
        self.asked_back.retain(|asked| Some(*asked) != commit.taken_up);
        if let Some(notes) = commit.notes {
            self.notes = Notes { rows: notes.rows + entered, ..notes };
        }
        self.crash()?;
        Ok(entered)
    }

    fn swap_axis(&mut self) {
        self.shelf.clear();
        for (uid, seen) in &mut self.seen {
            if let Some(other) = seen.other {
                (seen.at, seen.other) = (other, Some(seen.at));
            }
            if !seen.gone {
                self.shelf.insert((seen.at, *uid));
            }
        }
    }

    fn unlisted(&self, from: Micros, to: Micros, listed: &RowIds) -> Vec<u128> {
        self.shelf(from, to).filter(|uid| !listed.contains(uid)).collect()
    }

    /// Of the 24 hours before: how many have rows, how many rows, and the newest row up to then.
    fn rhythm(&self, since: Micros) -> Option<(usize, u64, Micros)> {
        let last = since.div_euclid(HOUR);
        let known = self.hours.iter().filter(|((_, hour), _)| (last - 24..=last).contains(hour));
        let (mut hours, mut rows, mut newest) = (BTreeSet::new(), 0, None);
        for ((_, hour), (count, at)) in known {
            newest = newest.max(Some(*at));
            if *hour < last {
                hours.insert(*hour);
                rows += *count;
            }
        }
        newest.map(|newest| (hours.len(), rows, newest))
    }

    fn silent(&self, now: Micros) -> Vec<Silent> {
        let this_hour = now.div_euclid(HOUR);
        let organizations: BTreeSet<u16> = self.hours.keys().map(|(organization, _)| *organization).collect();
        let mut silent = Vec::new();
        for number in organizations {
            let known: Vec<_> = self
                .hours
                .range((number, this_hour - 719)..=(number, this_hour))
                .map(|(k, v)| (k.1, *v))
                .collect();
            let Some((newest, _)) = known.last().copied() else { continue };
            let since = known.iter().map(|(_, (_, last))| *last).max().unwrap_or_default();
            let day = known.iter().filter(|(hour, _)| *hour > newest - 24);
            let (hours, rows) = day.fold((0, 0), |(hours, rows), (_, (count, _))| (hours + 1, rows + count));
            let gap = 24 * HOUR / Micros::try_from(rows.max(1)).unwrap();
            if hours >= 20 && now - since > (EXPECTED_GAPS * gap).max(900 * SECOND) {
                silent.push(Silent { organization: organization(number), since });
            }
        }
        silent
    }
}

/// The store of one stream, as often as it is needed.
#[derive(Clone, Default)]
pub(super) struct Store(Arc<Mutex<Book>>);

impl Store {
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }

    pub(super) fn crashing(seed: u64, share: f64) -> Self {
        let store = Self::default();
        store.book().crashing = share;
        store.book().dice = Some(Dice::new(seed, 1, 0));
        store
    }

    /// The stream as a start of the program would load it.
    pub(super) fn load(&self, settings: &WindowSettings, portal: &Portal) -> WindowStream<Portal, Store> {
        let book = self.book();
        let (intervals, notes) = (book.intervals.clone(), book.notes.clone());
        WindowStream::new(settings.clone(), portal.clone(), self.clone(), intervals, notes)
    }
}

impl Ledger for Store {
    async fn commit(&self, commit: Commit) -> Result<u64, StoreError> {
        self.book().commit(commit)
    }

    async fn asked_back(&self) -> Result<Option<(Seconds, Seconds)>, StoreError> {
        Ok(self.book().asked_back.first().copied())
    }

    async fn asked_again(&self) -> Result<Option<Again>, StoreError> {
        Ok(None)
    }

    async fn held(&self, from: Micros, to: Micros) -> Result<u64, StoreError> {
        Ok(self.book().shelf(from, to).count() as u64)
    }

    async fn gone(&self, from: Micros, to: Micros, listed: RowIds) -> Result<u64, StoreError> {
        let mut book = self.book();
        book.crash()?;
        let gone = book.unlisted(from, to, &listed);
        for uid in &gone {
            let seen = book.seen.get_mut(uid).unwrap();
            seen.gone = true;
            let at = seen.at;
            book.shelf.remove(&(at, *uid));
        }
        book.crash()?;
        Ok(gone.len() as u64)
    }

    async fn left_out(&self, at: Micros, listed: RowIds) -> Result<bool, StoreError> {
        Ok(!self.book().unlisted(at, at + 1, &listed).is_empty())
    }

    async fn unusual_silence(&self, since: Micros, until: Micros) -> Result<Option<Micros>, StoreError> {
        let Some((hours, rows, newest)) = self.book().rhythm(since) else { return Ok(None) };
        let gap = 24 * HOUR / i64::try_from(rows.max(1)).unwrap();
        let unusual = hours >= 20 && until - newest > (EXPECTED_GAPS * gap).max(60 * SECOND);
        Ok(unusual.then_some(newest))
    }

    async fn no_checkins(&self, _from: Micros, _to: Micros) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn silent(&self, now: Micros) -> Result<Vec<Silent>, StoreError> {
        Ok(self.book().silent(now))
    }

    async fn organizations(&self) -> Result<Vec<OrganizationId>, StoreError> {
        Ok(self.book().members.iter().copied().map(organization).collect())
    }

    async fn held_of(&self, whose: &OrganizationId, from: Micros, to: Micros) -> Result<u64, StoreError> {
        let book = self.book();
        let ours = |uid: &u128| organization(book.seen[uid].organization) == *whose;
        Ok(book.shelf(from, to).filter(ours).count() as u64)
    }

    async fn unknown(&self, rows: Vec<RowCommit>) -> Result<Vec<RowCommit>, StoreError> {
        let book = self.book();
        Ok(rows.into_iter().filter(|row| !book.holds(row.uid.as_u128())).collect())
    }

    async fn newest_organization(&self) -> Result<Option<Micros>, StoreError> {
        Ok(self.book().newest_organization)
    }

    async fn prune(&self, before: Micros, gone_only: bool) -> Result<u64, StoreError> {
        let mut book = self.book();
        book.crash()?;
        let old: Vec<(u128, Micros)> = book
            .seen
            .iter()
            .filter(|(_, seen)| seen.at < before && seen.other.is_none_or(|other| other < before))
            .filter(|(_, seen)| seen.gone || !gone_only)
            .map(|(uid, seen)| (*uid, seen.at))
            .collect();
        for (uid, at) in &old {
            book.seen.remove(uid);
            book.shelf.remove(&(*at, *uid));
        }
        book.hours.retain(|(_, hour), _| *hour >= before.div_euclid(HOUR));
        Ok(old.len() as u64)
    }
}

/// Settings of a tree in small: pages of `page_size` rows.
pub(super) fn settings(page_size: u32) -> WindowSettings {
    WindowSettings {
        source: SOURCE,
        kind: Kind::Event,
        scope: Scope::Tree(organization(0)),
        part: 1,
        filter: Filter::default(),
        splits: &ACTIONS,
        page_size,
        settle: 120,
        backfill: DAY,
        retention: 60 * DAY,
        live_span: 3_600,
        has_imported: true,
        also: Some((ALSO, Kind::Event)),
    }
}

/// A row that happened at a moment and was listed at once.
pub(super) fn row(id: u64, at: Micros) -> Row {
    Row {
        id: Some(id),
        content: Content::Generated(id),
        at,
        imported: at,
        listed_from: at,
        deleted_at: None,
        organization: 0,
        action: 0,
        table: 1,
        threat: answer::Threat::default(),
    }
}
