//! Which applications match a request for approval: asked once, when the request is told, where the operator wants it,
//! and stored with its entry, so that every delivery of it says the same.
//!
//! An extra never holds up an event. So much is asked in a poll, and for so long; whatever ends the asking, the rows
//! are committed without an answer.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::page::{Made, Page};
use super::{ListedRow, SnapshotStream};
use crate::collect::{CollectError, Listing};
use crate::model::{Micros, OrganizationId, SECOND, folded};
use crate::portal::{Failure, Remedy};
use crate::record::enrichment::{Matched, Matching};
use crate::sources::approval_requests::matching::{PERMISSION, question};
use crate::store::snapshots::{self, Presence};
use crate::store::{StoreError, connections};

/// Questions of one poll at most, and how long waiting for their answers may take.
const MOST_ASKED: usize = 50;
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of rows that wait for answers, and of the answers of a poll; they are held beside the budget.
const MOST_BYTES: usize = 1 << 20;
/// How long the portal is left alone, on its own time: one that refused to answer or asked to be waited for, and one that
/// was away. What it wants to be waited for holds back every request of the token.
const REFUSED: Micros = 3_600 * SECOND;
const AWAY: Micros = 900 * SECOND;

/// A row that is told, and what is asked about it.
pub(super) struct Aside {
    row: ListedRow,
    question: Value,
}

/// What the portal answered about a row.
pub(super) struct Answered {
    organization: OrganizationId,
    vendor_id: String,
    matched: Matched,
}

/// How the portal fares that is asked beside its list.
#[derive(Debug)]
pub struct Asking {
    /// How long waiting for the answers of a poll may take, and what is left of it.
    pub(super) patience: Duration,
    left: Duration,
    /// Questions of this poll, and bytes of their answers.
    asked: usize,
    bytes: usize,
    /// More of a page is told than may be asked about.
    is_crowded: bool,
    /// Nothing more is asked in this poll.
    is_over: bool,
    /// Until when it is left alone.
    left_alone: Option<Micros>,
    /// Why requests go out without an answer, and what to do.
    trouble: Option<String>,
    /// It refused, and has not answered since.
    is_refused: bool,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            left: PATIENCE,
            asked: 0,
            bytes: 0,
            is_crowded: false,
            is_over: false,
            left_alone: None,
            trouble: None,
            is_refused: false,
        }
    }
}

impl Asking {
    pub(super) fn begin_poll(&mut self, now: Micros) {
        (self.asked, self.bytes, self.left) = (0, 0, self.patience);
        (self.is_crowded, self.is_over) = (false, false);
        // What a refusal says holds until there is an answer; what passed with its poll is told no longer.
        if !self.is_refused && self.left_alone.is_none_or(|until| now >= until) {
            self.trouble = None;
        }
    }

    /// For status: why requests go out without their applications, where they do.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn may_ask(&self, now: Micros) -> bool {
        !self.is_over && self.left_alone.is_none_or(|until| now >= until)
    }

    fn answered(&mut self, matched: Option<&Matched>) {
        (self.left_alone, self.is_refused) = (None, false);
        if self.trouble.take().is_some() {
            tracing::info!("the portal tells again which applications match");
        }
        self.bytes += matched.map_or(0, |matched| matched.applications.len());
        if self.bytes > MOST_BYTES {
            self.overflow();
        }
    }

    /// What is told at once is more than may be asked about.
    fn overflow(&mut self) {
        self.is_over = true;
        self.without(format!("more was told at once than the {MOST_ASKED} requests or 1 MiB of a poll"));
    }

    fn failed(&mut self, error: &CollectError, now: Micros) {
        self.is_over = true;
        let advice = match error {
            CollectError::Portal(error) if matches!(error.remedy(), Remedy::MissingRole(_)) => PERMISSION,
            CollectError::Portal(error) if !matches!(error.failure, Failure::Throttled { .. }) => {
                self.left_alone = Some(now.saturating_add(AWAY));
                return self.without(format!("{error}; it is left alone for a quarter of an hour"));
            }
            _ => "if that lasts, set `enrich: []`",
        };
        (self.left_alone, self.is_refused) = (Some(now.saturating_add(REFUSED)), true);
        self.without(format!("{error}; it is left alone for an hour after each refusal; {advice}"));
    }

    fn took_too_long(&mut self) {
        self.is_over = true;
        let patience = self.patience;
        self.without(format!("more was told at once than the portal answered within {patience:?}"));
    }

    fn without(&mut self, why: String) {
        let trouble = format!("requests go out without the applications that match: {why}");
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("{trouble}");
        }
        self.trouble = Some(trouble);
    }
}

impl<L: Listing> SnapshotStream<L> {
    /// Takes those rows out of a page that are told and that the portal can be asked about.
    pub(super) async fn set_aside(
        &mut self,
        part: u8,
        rows: Vec<ListedRow>,
    ) -> Result<(Vec<ListedRow>, Vec<Aside>), CollectError> {
        let now = self.listing.now();
        let is_wanted = self.settings.parts.is_some_and(|parts| parts.matching);
        if !is_wanted || rows.is_empty() || !self.memory.asking.may_ask(now) {
            return Ok((rows, Vec::new()));
        }
        let page = Page { history: self.history(part), ..self.page_now() };
        let judged = move |db: &Connection| {
            let judged: Result<Vec<bool>, StoreError> =
                rows.iter().map(|row| page.is_news(db, row)).collect();
            Ok(rows.into_iter().zip(judged?).collect::<Vec<_>>())
        };
        let (mut others, mut aside, mut bytes, mut is_crowded) = (Vec::new(), Vec::new(), 0, false);
        for (row, is_news) in self.store.read(judged).await? {
            let has_room =
                self.memory.asking.asked + aside.len() < MOST_ASKED && bytes + row.body.len() <= MOST_BYTES;
            let text = std::str::from_utf8(&row.body).ok().filter(|_| is_news);
            match text.and_then(|text| question(text, now)) {
                Some(_) if !has_room => {
                    is_crowded = true;
                    others.push(row);
                }
                Some(question) => {
                    bytes += row.body.len();
                    // Its own bytes, so that those of the page can go.
                    let row = ListedRow { body: Bytes::copy_from_slice(&row.body), ..row };
                    aside.push(Aside { row, question });
                }
                None => others.push(row),
            }
        }
        match aside.is_empty() {
            true if is_crowded => self.memory.asking.overflow(),
            // Told behind the answers, which would take it back.
            _ => self.memory.asking.is_crowded = is_crowded,
        }
        Ok((others, aside))
    }

    /// Asks about rows, one after the other. Answers all of them, and what is known of some.
    ///
    /// # Errors
    /// The program is told to stop: none of the rows is told before the next start asks about them.
    pub(super) async fn ask_about(
        &mut self,
        aside: Vec<Aside>,
    ) -> Result<(Vec<ListedRow>, Vec<Answered>), CollectError> {
        let (mut rows, mut answers) = (Vec::with_capacity(aside.len()), Vec::new());
        for Aside { row, question } in aside {
            let organization = match row.organization.is_none() {
                true => self.settings.scope.organization().clone(),
                false => row.organization.clone(),
            };
            if self.memory.asking.may_ask(self.listing.now()) {
                self.requests += 1;
                self.memory.asking.asked += 1;
                let (began, left) = (Instant::now(), self.memory.asking.left);
                let answer = timeout(left, self.listing.matching(&organization, &question)).await;
                self.memory.asking.left = left.saturating_sub(began.elapsed());
                match answer {
                    Ok(Ok(matched)) => {
                        self.memory.asking.answered(matched.as_ref());
                        let vendor_id = row.vendor_id.clone().unwrap_or_default();
                        let organization = row.organization.clone();
                        answers.extend(matched.map(|matched| Answered { organization, vendor_id, matched }));
                    }
                    Ok(Err(CollectError::Stopped)) => return Err(CollectError::Stopped),
                    Ok(Err(error)) => self.memory.asking.failed(&error, self.listing.now()),
                    Err(_) => self.memory.asking.took_too_long(),
                }
            }
            rows.push(row);
        }
        if self.memory.asking.is_crowded && self.memory.asking.trouble.is_none() {
            self.memory.asking.overflow();
        }
        Ok((rows, answers))
    }
}

impl Page {
    /// Whether a row will be told, as far as can be said without doing it: what another site tells, or was decided before
    /// anybody asked, will not.
    fn is_news(&self, db: &Connection, row: &ListedRow) -> Result<bool, StoreError> {
        let (settings, Some(id)) = (&self.settings, row.vendor_id.as_deref()) else { return Ok(false) };
        let owner = connections::claimed_by(db, &row.organization, settings.source)?;
        if !row.organization.is_none() && owner.is_some_and(|owner| owner != settings.connection) {
            return Ok(false);
        }
        let known = match connections::known_organization(db, settings.connection, &row.organization)? {
            Some(organization) => snapshots::get(db, settings.set, organization.key, &folded(id))?,
            None => None,
        };
        Ok(match known.filter(|known| known.presence != Presence::Removed) {
            Some(known) => known.fingerprint != self.print(&row.body, row.shape),
            None => !self.is_history(row),
        })
    }

    /// What the portal answered about an entry's row.
    pub(super) fn matching(&self, made: &Made) -> Option<Matching<'_>> {
        let is_it = |one: &&Answered| {
            one.vendor_id == made.vendor_id && one.organization.as_str() == made.organization
        };
        self.answers.iter().find(is_it).map(|one| one.matched.known())
    }
}
