//! What an operator must know, and whether the program is fresh all the same.
//!
//! Polls that fail are told as soon as their tries are used up; they spoil freshness once a stream is stale.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Failing, SiteStatus, Status, StreamCondition, StreamStatus, TokenStatus};
use crate::coverage::{SHARED_ID, State};
use crate::deliver::{SinkCondition, SinkStatus};
use crate::portal::{CredentialHealth, CredentialState, TOKEN_REFUSED};

/// How long a sink may fail, or a site show nothing, before the program is not fresh.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long an organization may list nothing where rows are usual.
const SILENCE: Duration = Duration::from_secs(86_400);
/// Streams that are named with one cause.
const NAMED: usize = 5;

/// Something that an operator must know.
struct Problem {
    text: String,
    /// What should be here is not: the program is not fresh. Else it merely will not be, if nothing changes.
    missing: bool,
}

impl Problem {
    fn missing(text: String) -> Self {
        Self { text, missing: true }
    }
}

impl Status {
    /// Writes down what is wrong, one line for each cause, and whether the picture is fresh.
    pub(super) fn judge(&mut self) {
        let mut problems = Vec::new();
        if !self.running {
            let text = "no lockstep is running on this state: nothing is collected or delivered";
            problems.push(Problem::missing(text.to_owned()));
        }
        // What the operator wants collected is not.
        let wrong = |wrong: &String| Problem::missing(format!("configuration: {wrong}"));
        problems.extend(self.configuration.iter().map(wrong));
        let running = self.started.and_then(|started| (self.taken - started).to_std().ok());
        for site in &self.sites {
            let named = |problem: Problem| Problem {
                text: format!("site {}: {}", site.site, problem.text),
                ..problem
            };
            problems.extend(of_site(site, self.taken, running).into_iter().map(named));
        }
        for sink in &self.sinks {
            let since = (self.taken - sink.since).to_std().unwrap_or_default();
            problems.extend(of_sink(sink, since));
            problems.extend(owed_to(sink));
            problems.extend(of_inventory(sink, self.taken));
            problems.extend(of_day(sink, self.taken));
        }
        if self.outbox.paused {
            problems.push(Problem::missing(format!(
                "the outbox is full ({} bytes): collecting waits until a sink takes records",
                self.outbox.bytes
            )));
        }
        self.fresh = !problems.iter().any(|problem| problem.missing);
        self.problems = problems.into_iter().map(|problem| problem.text).collect();
    }
}

fn of_site(site: &SiteStatus, taken: DateTime<Utc>, running: Option<Duration>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = causes(site).iter().map(|cause| cause.told(site)).collect();
    if site.streams.is_empty() && problems.is_empty() && running.is_some_and(|age| age > PATIENCE) {
        let text = "nothing is collected: its organization is not discovered yet";
        problems.push(Problem::missing(text.to_owned()));
    }
    if let Some(reads) = &site.own_reads {
        problems.extend(reads.elsewhere.iter().map(|(address, rows)| {
            let user = &reads.reader.user;
            let text = format!(
                "the token is used elsewhere: {rows} reads by {user} from {address} within an hour that were not sent from here; find out who else has the token, or renew it"
            );
            Problem { text, missing: false }
        }));
    }
    problems.extend(of_token(&site.token, taken));
    for stream in &site.streams {
        let title = stream.title();
        problems
            .extend(of_stream(stream).into_iter().map(|text| Problem::missing(format!("{title}: {text}"))));
        let told = |text: String| Problem { text: format!("{title}: {text}"), missing: false };
        problems.extend(asked_alone(stream).map(told));
    }
    problems
}

fn of_token(token: &TokenStatus, taken: DateTime<Utc>) -> Option<Problem> {
    let expires = token.expires.filter(|_| token.renew_from.is_some_and(|from| taken >= from))?;
    let lapses = if taken < expires { "lapses" } else { "should have lapsed" };
    let text = format!(
        "the token {lapses} {}: renew it in the portal, put the new one in its place and correct token_expiry",
        expires.format("%F %TZ")
    );
    Some(Problem { text, missing: false })
}

/// What stands in the way of some of a site, once for all that it stands in the way of.
struct Cause<'a> {
    failing: Failing,
    streams: Vec<&'a StreamStatus>,
    error: &'a str,
    missing: bool,
}

fn causes(site: &SiteStatus) -> Vec<Cause<'_>> {
    let of_streams = site.streams.iter().filter_map(|stream| {
        // What only the user can mend is not waited for.
        use StreamCondition::{Broken, MissingRole, Rejected};
        let stuck = matches!(stream.condition, Broken | Rejected | MissingRole);
        Some(Cause {
            failing: stream.failing.clone()?,
            streams: vec![stream],
            error: stream.last_error.as_deref().unwrap_or_default(),
            missing: stuck || stream.stale,
        })
    });
    let of_discovery = site.failing.iter().map(|failing| Cause {
        failing: failing.clone(),
        streams: Vec::new(),
        error: site.last_error.as_deref().unwrap_or_default(),
        missing: site.streams.is_empty(),
    });
    let rejected = |health: &&CredentialHealth| health.state == CredentialState::Rejected;
    let of_credential = site.credential.iter().filter(rejected).map(|health| {
        let (what, remedy) = TOKEN_REFUSED;
        let failing = Failing { what: what.to_owned(), remedy: remedy.to_owned(), since: health.since };
        Cause { failing, streams: Vec::new(), error: "", missing: true }
    });
    let mut causes: Vec<Cause<'_>> = Vec::new();
    for one in of_streams.chain(of_discovery).chain(of_credential) {
        match causes.iter_mut().find(|cause| cause.failing.is_for(&one.failing.what, &one.failing.remedy)) {
            Some(cause) => {
                cause.failing.since = cause.failing.since.min(one.failing.since);
                cause.streams.extend(one.streams);
                cause.missing |= one.missing;
            }
            None => causes.push(one),
        }
    }
    causes
}

impl Cause<'_> {
    fn told(&self, site: &SiteStatus) -> Problem {
        let Failing { what, remedy, since } = &self.failing;
        let mut text = format!("{what} since {}: {remedy}", since.format("%F %TZ"));
        if !self.streams.is_empty() && self.streams.len() < site.streams.len() {
            let titles: Vec<String> = self.streams.iter().take(NAMED).map(|stream| stream.title()).collect();
            text += &format!("; this concerns {}", titles.join(", "));
            if self.streams.len() > NAMED {
                text += &format!(" and {} more", self.streams.len() - NAMED);
            }
        }
        let mut stale = self.streams.iter().filter(|stream| stream.stale).peekable();
        if stale.peek().is_some() {
            text += &match stale.map(|stream| stream.live_until).min().flatten() {
                Some(until) => format!("; nothing after {} is proven", until.format("%F %TZ")),
                None => "; nothing is proven yet".to_owned(),
            };
        }
        // The line begins with the site and has the remedy already.
        let error = self.error.strip_prefix(&format!("site {}: ", site.site)).unwrap_or(self.error);
        let error = error.strip_suffix(&format!("; {remedy}")).unwrap_or(error);
        if !error.is_empty() {
            text += &format!("; last error: {error}");
        }
        Problem { text, missing: self.missing }
    }
}

/// What is wrong with one stream beside what is told of its cause.
fn of_stream(stream: &StreamStatus) -> Vec<String> {
    let mut problems = Vec::new();
    if stream.stale && stream.failing.is_none() && stream.condition != StreamCondition::Stopped {
        let why = stream.last_error.as_deref().unwrap_or("no error was seen");
        problems.push(match stream.live_until {
            Some(until) => format!("stale, proven until {}: {why}", until.format("%F %TZ")),
            None => format!("stale, nothing is proven yet: {why}"),
        });
    }
    if let Some(one) = stream.unproven.iter().find(|one| one.reason.ends_with(SHARED_ID)) {
        problems.push(format!(
            "rows are not delivered, since the portal gives them the id of another: of {} to {} {}; ask ThreatLocker's support",
            one.from.format("%F %TZ"),
            one.to.format("%F %TZ"),
            one.reason
        ));
    }
    for unproven in &stream.unproven {
        let age = (unproven.to - unproven.from).to_std().unwrap_or_default();
        let silent = unproven.state == State::EmptyUnconfirmed.as_str() && age > SILENCE;
        if silent || unproven.state == "unknown" {
            problems.push(format!(
                "organization {} is {} since {}: {}",
                unproven.organization,
                unproven.state,
                unproven.from.format("%F %TZ"),
                unproven.reason
            ));
        }
    }
    problems
}

/// What the tree lacks comes in another way, which says itself how it fares.
fn asked_alone(stream: &StreamStatus) -> Option<String> {
    if stream.one_by_one {
        return Some("the portal refuses the tree: each of its organizations is asked alone".to_owned());
    }
    let more = stream.alone.len().checked_sub(1)?;
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "the portal does not list the rows of organization {}{others} in the tree: asked alone; look in the portal whether \
         the API user may see them, else ask ThreatLocker's support",
        stream.alone[0]
    ))
}

/// What a sink let go is missing there until it is collected for it.
fn owed_to(sink: &SinkStatus) -> Option<Problem> {
    let entries: u64 = sink.owed.iter().map(|owed| owed.entries).sum();
    let from = sink.owed.iter().filter_map(|owed| owed.from).min()?;
    let to = sink.owed.iter().filter_map(|owed| owed.to).max()?;
    let name = &sink.name;
    let what = match sink.owed.iter().all(|owed| owed.asked) {
        true => "they are being collected for it".to_owned(),
        false => format!("collect them for it with `lockstep backfill --sink {name}`"),
    };
    let text = format!(
        "sink {name} was so far behind that it let {entries} entries of {} to {} go: {what}",
        from.format("%F %TZ"),
        to.format("%F %TZ")
    );
    Some(Problem::missing(text))
}

/// An old list looks like a new one.
fn of_inventory(sink: &SinkStatus, taken: DateTime<Utc>) -> Option<Problem> {
    let inventory = sink.inventory.as_ref()?;
    let (since, why) = (inventory.failing?, inventory.last_error.as_deref()?);
    let text = format!("sink {}: its inventory is as old as {}: {why}", sink.name, since.format("%F %TZ"));
    Some(Problem { text, missing: (taken - since).to_std().unwrap_or_default() > PATIENCE })
}

/// What costs more than it should is delivered all the same.
fn of_day(sink: &SinkStatus, taken: DateTime<Utc>) -> Option<Problem> {
    let today = sink.today?;
    let max = today.passed(taken)?;
    let text = format!(
        "sink {}: {} bytes were delivered today (UTC), more than max_per_day allows ({max}); nothing is held back: \
         narrow `select` or the source, or raise it",
        sink.name, today.bytes
    );
    Some(Problem { text, missing: false })
}

fn of_sink(sink: &SinkStatus, since: Duration) -> Option<Problem> {
    let missing = match sink.state {
        SinkCondition::Held | SinkCondition::Broken => true,
        SinkCondition::Retrying => since > PATIENCE,
        SinkCondition::Stopped if since > PATIENCE => true,
        _ => return None,
    };
    let why = sink.last_error.as_deref().unwrap_or("no error was seen");
    let text = format!("sink {} delivers nothing since {}: {why}", sink.name, sink.since.format("%F %TZ"));
    Some(Problem { text, missing })
}
