//! Which applications match a request for approval: asked once, when the request is told, where the operator wants it,
//! and stored with its entry, so that every delivery of it says the same.
//!
//! An extra never holds up an event. So much is asked in a poll, and for so long; whatever ends the asking, the rows
//! are committed without an answer.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::page::{Made, Page};
use super::{ListedRow, SnapshotStream};
use crate::collect::{CollectError, Listing};
use crate::model::{Micros, OrganizationId, SECOND, folded};
use crate::portal::Remedy;
use crate::record::enrichment::{Matched, Matching};
use crate::sources::approval_requests::matching::{PERMISSION, question};
use crate::store::snapshots::{self, Presence};
use crate::store::{StoreError, connections};

/// Questions of one poll at most, and how long all of them may take.
const MOST_ASKED: usize = 50;
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of rows that wait for answers; they are held beside the budget.
const MOST_BYTES: usize = 1 << 20;
/// How long the portal is left alone that refused to answer, on its own time.
const LEFT_ALONE: Micros = 3_600 * SECOND;

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
    /// How long the questions of a poll may take.
    pub(super) patience: Duration,
    /// Questions of this poll, and until when there may be more.
    asked: usize,
    until: Option<Instant>,
    /// Nothing more is asked in this poll.
    is_over: bool,
    /// It refused to answer: until when it is left alone.
    left_alone: Option<Micros>,
    /// Why requests go out without an answer, and what to do.
    trouble: Option<String>,
}

impl Default for Asking {
    fn default() -> Self {
        Self { patience: PATIENCE, asked: 0, until: None, is_over: false, left_alone: None, trouble: None }
    }
}

impl Asking {
    pub(super) fn begin_poll(&mut self) {
        (self.asked, self.until, self.is_over) = (0, None, false);
    }

    /// For status: why requests go out without their applications, where they do.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn may_ask(&self, now: Micros) -> bool {
        !self.is_over && self.asked < MOST_ASKED && self.left_alone.is_none_or(|until| now >= until)
    }

    fn worked(&mut self) {
        self.left_alone = None;
        if self.trouble.take().is_some() {
            tracing::info!("the portal tells again which applications match");
        }
    }

    fn failed(&mut self, error: &CollectError, now: Micros) {
        self.is_over = true;
        let advice = match error {
            CollectError::Portal(error) if matches!(error.remedy(), Remedy::MissingRole(_)) => PERMISSION,
            CollectError::Refused(_) | CollectError::Undecodable(_) | CollectError::PageTooLarge(_) => {
                "if that lasts, set `enrich: []`"
            }
            // The stream itself meets the same, and says so.
            _ => return self.without(format!("{error}; the next poll asks again")),
        };
        self.left_alone = Some(now.saturating_add(LEFT_ALONE));
        self.without(format!("{error}; it is asked again in an hour; {advice}"));
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
        let (mut others, mut aside, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (row, is_news) in self.store.read(judged).await? {
            let has_room =
                self.memory.asking.asked + aside.len() < MOST_ASKED && bytes + row.body.len() <= MOST_BYTES;
            let text = std::str::from_utf8(&row.body).ok().filter(|_| is_news && has_room);
            match text.and_then(|text| question(text, now)) {
                Some(question) => {
                    bytes += row.body.len();
                    // Its own bytes, so that those of the page can go.
                    let row = ListedRow { body: Bytes::copy_from_slice(&row.body), ..row };
                    aside.push(Aside { row, question });
                }
                None => others.push(row),
            }
        }
        Ok((others, aside))
    }

    /// Asks about rows, one after the other. Answers all of them, and what is known of some.
    pub(super) async fn ask_about(&mut self, aside: Vec<Aside>) -> (Vec<ListedRow>, Vec<Answered>) {
        let patience = self.memory.asking.patience;
        let until = *self.memory.asking.until.get_or_insert_with(|| Instant::now() + patience);
        let (mut rows, mut answers) = (Vec::with_capacity(aside.len()), Vec::new());
        for Aside { row, question } in aside {
            let organization = match row.organization.is_none() {
                true => self.settings.scope.organization().clone(),
                false => row.organization.clone(),
            };
            if self.memory.asking.may_ask(self.listing.now()) {
                self.requests += 1;
                self.memory.asking.asked += 1;
                match timeout_at(until, self.listing.matching(&organization, &question)).await {
                    Ok(Ok(matched)) => {
                        self.memory.asking.worked();
                        let vendor_id = row.vendor_id.clone().unwrap_or_default();
                        let organization = row.organization.clone();
                        answers.extend(matched.map(|matched| Answered { organization, vendor_id, matched }));
                    }
                    Ok(Err(error)) => self.memory.asking.failed(&error, self.listing.now()),
                    Err(_) => self.memory.asking.took_too_long(),
                }
            }
            rows.push(row);
        }
        (rows, answers)
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
