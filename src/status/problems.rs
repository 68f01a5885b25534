//! What an operator must know: while there is any of it, the program is not fresh.

use std::time::Duration;

use super::{SiteStatus, Status, StreamCondition, StreamStatus};
use crate::coverage::State;
use crate::deliver::{SinkCondition, SinkStatus};
use crate::portal::CredentialState;

/// How long a sink may fail, or a site show nothing, before the program is not fresh.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long an organization may list nothing where rows are usual.
const SILENCE: Duration = Duration::from_secs(86_400);

impl Status {
    /// Writes down what is wrong, one line each, and whether the picture is fresh.
    pub(super) fn judge(&mut self) {
        let mut problems = Vec::new();
        if !self.running {
            problems
                .push("no lockstep is running on this state: nothing is collected or delivered".to_owned());
        }
        problems.extend(self.configuration.iter().map(|wrong| format!("configuration: {wrong}")));
        let running = self.started.and_then(|started| (self.taken - started).to_std().ok());
        for site in &self.sites {
            problems.extend(of_site(site, running).map(|problem| format!("site {}: {problem}", site.site)));
        }
        for sink in &self.sinks {
            let since = (self.taken - sink.since).to_std().unwrap_or_default();
            problems.extend(of_sink(sink, since));
        }
        if self.outbox.paused {
            problems.push(format!(
                "the outbox is full ({} bytes): collecting waits until a sink takes records",
                self.outbox.bytes
            ));
        }
        self.fresh = problems.is_empty();
        self.problems = problems;
    }
}

fn of_site(site: &SiteStatus, running: Option<Duration>) -> impl Iterator<Item = String> {
    let mut problems = Vec::new();
    problems.extend(site.last_error.clone());
    if site.credential.as_ref().is_some_and(|health| health.state == CredentialState::Rejected) {
        problems.push("the portal refuses the token; renew it".to_owned());
    }
    if site.streams.is_empty() && site.last_error.is_none() && running.is_some_and(|age| age > PATIENCE) {
        problems.push("nothing is collected: its organization is not discovered yet".to_owned());
    }
    for stream in &site.streams {
        let problem = |text: String| format!("{}: {text}", stream.title());
        problems.extend(of_stream(stream).into_iter().map(problem));
    }
    problems.into_iter()
}

fn of_stream(stream: &StreamStatus) -> Vec<String> {
    let mut problems = Vec::new();
    let why = stream.last_error.as_deref().unwrap_or("no error was seen");
    if stream.condition == StreamCondition::MissingRole {
        problems.push(format!("a role is missing: {why}"));
    } else if stream.stale && stream.condition != StreamCondition::Stopped {
        problems.push(match stream.live_until {
            Some(until) => format!("stale, proven until {}: {why}", until.format("%F %TZ")),
            None => format!("stale, nothing is proven yet: {why}"),
        });
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

fn of_sink(sink: &SinkStatus, since: Duration) -> Option<String> {
    match sink.state {
        SinkCondition::Held => {}
        SinkCondition::Retrying | SinkCondition::Stopped if since > PATIENCE => {}
        _ => return None,
    }
    let why = sink.last_error.as_deref().unwrap_or("no error was seen");
    Some(format!("sink {} delivers nothing since {}: {why}", sink.name, sink.since.format("%F %TZ")))
}
