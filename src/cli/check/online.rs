//! `lockstep check --online`: asks every portal once per source and reports what the token may read, and asks the far
//! sides of sinks whether they take the credential.

use std::time::Duration;

use crate::app::portal_settings;
use crate::budget::Budget;
use crate::cli::doctor::Tried;
use crate::cli::table::bytes;
use crate::cli::{doctor, out};
use crate::clock::Clock;
use crate::config::{Access, Config, Connection, Organizations};
use crate::model::{Micros, SECOND};
use crate::portal::{ListedOrganization, Pacers, Portal};
use crate::schedule::{chosen, is_whole_tree};
use crate::sink::{Sink, SinkKind};
use crate::sinks::kafka;
use crate::source::{SOURCES, Scope, Source};
use crate::sources::approval_requests::matching;

/// Clocks further apart than this are said to be (contract section 12).
const CLOCK_APART: Micros = 120 * SECOND;

/// Organizations of a list that are asked, each a dozen requests.
const MOST_ASKED: usize = 10;

/// Asks every connection; says what it finds. Answers how many things are wrong.
pub(super) async fn ask_all(config: &Config) -> usize {
    let clock = Clock::system();
    // Nothing is stored, so the key of the hashes need not last.
    let pacers = Pacers::new(*blake3::hash(b"check").as_bytes());
    let budget = Budget::new(config.memory);
    let mut wrong = 0;
    for connection in &config.connections {
        out::say(format_args!("\nasking site {} at {}", connection.site, connection.base_url));
        match Portal::new(portal_settings(connection), &pacers, budget.clone(), clock.clone()) {
            Ok(portal) => wrong += ask(connection, &portal).await,
            Err(error) => {
                line("settings", &error.to_string());
                wrong += 1;
            }
        }
    }
    wrong
}

/// Asks the far side of every sink that has one; says what it finds. Answers how many do not take records.
pub(super) async fn ask_sinks(config: &Config) -> usize {
    let clock = Clock::system();
    let now = clock.now();
    let mut wrong = 0;
    for sink in config.sinks.iter().filter(|sink| matches!(sink.kind, SinkKind::Http(_))) {
        out::say(format_args!("\nasking the far side of sink {}", sink.name));
        match Sink::new(sink, 0, &clock).probe(now).await {
            Ok(said) => said.iter().for_each(|said| line(sink.kind.as_str(), said)),
            Err(error) => {
                line(sink.kind.as_str(), &format!("NOT READY: {error}"));
                wrong += 1;
            }
        }
    }
    wrong
}

/// Looks at Kafka for every sink there; says what it finds. Answers how many things are wrong.
pub(super) async fn look_at_kafka(config: &Config, create: bool) -> usize {
    let clock = Clock::system();
    let mut wrong = 0;
    for sink in &config.sinks {
        if let SinkKind::Kafka(kafka) = &sink.kind {
            out::say(format_args!("\nlooking at sink {}", sink.name));
            let places = places(config);
            for finding in kafka::look::look(&sink.name, kafka, sink.format, &places, create, &clock).await {
                line(&finding.about, &finding.text);
                wrong += usize::from(finding.wrong);
            }
        }
    }
    wrong
}

/// Every site with each of its sources.
fn places(config: &Config) -> Vec<(String, String)> {
    let of = |connection: &Connection| {
        let enabled = connection.sources.iter().filter(|(_, source)| source.enabled);
        enabled.map(|(name, _)| (connection.site.clone(), name.to_string())).collect::<Vec<_>>()
    };
    config.connections.iter().flat_map(of).collect()
}

async fn ask(connection: &Connection, portal: &Portal) -> usize {
    let own = match &connection.organization_id {
        Some(own) => own.clone(),
        None => match portal.discover_organization().await {
            Ok(own) => own,
            Err(error) => {
                line("token", &error.to_string());
                return 1;
            }
        },
    };
    if connection.access == Access::AuthKey {
        line("access", "auth_key, UNVERIFIED: nobody has seen ThreatLocker answer it");
        return sources(connection, portal, &[Scope::Organization(own)], &[]).await;
    }
    let listed = doctor::children(portal, &own, connection.http.timeout).await;
    say_clock(portal);
    line("token", &format!("its own organization is {own}"));
    let mut wrong = 0;
    let children = match listed {
        Ok(children) => {
            let all = matches!(connection.organizations, Organizations::All);
            line("organizations", &doctor::below(children.len(), all));
            children
        }
        // Where nothing but the own organization is asked, names are a comfort.
        Err(error) if connection.organizations == Organizations::Own && error.status().is_some() => {
            line("organizations", &format!("{}; they are not needed", doctor::no_organizations(&error)));
            Vec::new()
        }
        Err(error) => {
            line("organizations", &doctor::no_organizations(&error));
            wrong += 1;
            Vec::new()
        }
    };
    let scopes = match &connection.organizations {
        Organizations::All => vec![Scope::Tree(own)],
        Organizations::Own => vec![Scope::Organization(own)],
        Organizations::Only(wanted) => match chosen(portal, wanted, &own, &children).await {
            Ok((scopes, unknown)) => {
                if let Some(unknown) = unknown {
                    line("organizations", &unknown.to_string());
                    wrong += 1;
                }
                scopes
            }
            Err(error) => {
                line("organizations", &error.to_string());
                return wrong + 1;
            }
        },
    };
    wrong + sources(connection, portal, &scopes, &children).await
}

/// Asks for a little of each source, of each organization where they are listed one by one; answers how many that are
/// wanted cannot be read.
async fn sources(
    connection: &Connection,
    portal: &Portal,
    scopes: &[Scope],
    children: &[ListedOrganization],
) -> usize {
    let mut wrong = 0;
    let (mut rows, mut sent) = (0, 0);
    let name = |scope: &Scope| {
        let listed = children.iter().find(|one| one.id == *scope.organization());
        listed.map_or_else(|| scope.organization().to_string(), |one| one.name.clone())
    };
    let is_enabled =
        |source: &dyn Source| connection.sources.get(source.name()).is_some_and(|config| config.enabled);
    let enabled = SOURCES.into_iter().filter(|source| is_enabled(*source));
    let mut needed: Vec<&str> = enabled.map(|source| source.permission()).collect();
    // The discovery asks for these, whatever is collected.
    if !matches!(connection.organizations, Organizations::Own) {
        needed.push("View Organizations");
    }
    if connection.organization_id.is_none() {
        needed.push("View Computers");
    }
    let filter_of = |source: &dyn Source| {
        let filters = connection.sources.get(source.name()).map(|config| config.filters());
        filters
            .and_then(|filters| filters.into_iter().find(|filter| filter.private.is_some()))
            .unwrap_or_default()
    };
    let may_ask = |source: &dyn Source| match filter_of(source).private {
        Some(private) => is_enabled(source) && portal.may_ask(private.endpoint()),
        None => source.endpoint().is_some_and(|endpoint| portal.may_ask(endpoint)),
    };
    for (place, scope) in scopes.iter().take(MOST_ASKED).enumerate() {
        if scopes.len() > 1 {
            line("asking of", &name(scope));
        }
        for source in SOURCES.into_iter().filter(|source| may_ask(*source)) {
            if place > 0 && (!is_enabled(source) || is_whole_tree(source.name())) {
                continue;
            }
            let timeout = connection.http.timeout;
            let tried = match connection.sources.get(source.name()) {
                Some(config) if config.enabled && !config.reports.is_empty() => {
                    doctor::run_reports(portal, source, scope, timeout, (&config.reports, true)).await
                }
                _ => doctor::ask(portal, source, scope, &filter_of(source), timeout).await,
            };
            if !is_enabled(source) {
                if let Some(said) = doctor::needless(&tried, &needed) {
                    line(source.name(), &said);
                }
                continue;
            }
            wrong += usize::from(!tried.readable);
            if tried.by_time {
                rows += tried.total.unwrap_or(0);
                sent += tried.bytes_a_day.unwrap_or(0);
            }
            line(source.name(), &tried.said());
            if connection.sources.get(source.name()).is_some_and(|config| config.matching) {
                wrong += usize::from(!say_matching(portal, &tried, timeout).await);
            }
        }
    }
    if let Some(others) = scopes.get(MOST_ASKED..).filter(|others| !others.is_empty()) {
        let names: Vec<String> = others.iter().map(name).collect();
        line("NOT ASKED", &format!("{}; what was said holds for the first {MOST_ASKED}", names.join(", ")));
    }
    line("in a day", &format!("{rows} rows, {} as the portal sends them", bytes(sent)));
    wrong
}

/// Says whether the portal tells which applications match a request for approval; answers false where it does not.
async fn say_matching(portal: &Portal, tried: &Tried, timeout: Duration) -> bool {
    let asked = doctor::ask_matching(portal, &tried.rows, timeout).await;
    let (is_well, said) = match asked {
        None => (true, "no request is listed first that could be asked about".to_owned()),
        Some(Ok(said)) => (true, said),
        Some(Err(wrong)) => (false, wrong),
    };
    line(matching::WORD, &format!("UNVERIFIED, nobody has seen ThreatLocker answer it: {said}"));
    is_well
}

fn say_clock(portal: &Portal) {
    let offset = portal.clock_offset();
    let seconds = std::time::Duration::from_micros(offset.unsigned_abs()).as_secs();
    let side = if offset < 0 { "behind" } else { "ahead of" };
    if offset.abs() > CLOCK_APART {
        line(
            "clock",
            &format!("the portal's is {seconds} s {side} ours: mend ours; ages run on the portal's"),
        );
    } else {
        line("clock", &format!("the portal's is {seconds} s {side} ours"));
    }
}

fn line(what: &str, text: &str) {
    out::say(format_args!("  {what:<17} {text}"));
}
