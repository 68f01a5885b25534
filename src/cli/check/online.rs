//! `lockstep check --online`: asks every portal once per source and reports what the token may read, and asks the far
//! sides of sinks whether they take the credential.

use crate::app::portal_settings;
use crate::budget::Budget;
use crate::cli::out;
use crate::cli::try_it::probe::of_first_computer;
use crate::clock::Clock;
use crate::config::{Config, Connection, Organizations};
use crate::model::{Micros, SECOND};
use crate::portal::{Pacers, Portal, PortalError, Remedy};
use crate::schedule::chosen;
use crate::sink::{Sink, SinkKind};
use crate::sinks::kafka;
use crate::source::{Query, SOURCES, Scope, Shape, Source};

/// Clocks further apart than this are said to be (contract section 12).
const CLOCK_APART: Micros = 120 * SECOND;

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
    let listed = portal.child_organizations(&own).await;
    say_clock(portal);
    line("token", &format!("its own organization is {own}"));
    let mut wrong = 0;
    let children = match listed {
        Ok(children) => {
            line("organizations", &format!("{} below it", children.len()));
            children
        }
        Err(error) => {
            line("organizations", &refusal(&error, "View Organizations"));
            wrong += 1;
            Vec::new()
        }
    };
    let scope = match &connection.organizations {
        Organizations::All => Scope::Tree(own),
        Organizations::Own => Scope::Organization(own),
        Organizations::Only(wanted) => match chosen(portal, wanted, &own, &children).await {
            Ok((scopes, unknown)) => {
                if let Some(unknown) = unknown {
                    line("organizations", &unknown.to_string());
                    wrong += 1;
                }
                scopes.into_iter().next().unwrap_or(Scope::Organization(own))
            }
            Err(error) => {
                line("organizations", &error.to_string());
                return wrong + 1;
            }
        },
    };
    for source in SOURCES {
        if !connection.sources.get(source.name()).is_some_and(|config| config.enabled) {
            continue;
        }
        let mut query = first_row(source, &scope, portal.now());
        if matches!(source.shape(), Shape::PerComputer { .. }) {
            match of_first_computer(portal, query).await {
                Ok(Some(of_one)) => query = of_one,
                Ok(None) => {
                    line(source.name(), "there are no computers to ask about");
                    continue;
                }
                Err(error) => {
                    line(source.name(), &refusal(&error, source.permission()));
                    wrong += 1;
                    continue;
                }
            }
        }
        let request = query.request(source, connection.http.timeout);
        match portal.fetch(&request).await {
            Ok(page) => line(
                source.name(),
                &match (page.total, page.rows.len()) {
                    (Some(0), _) => {
                        "readable, and empty: a role that is not ticked looks the same".to_owned()
                    }
                    (Some(total), _) => format!("readable, {total} rows"),
                    (None, 0) => "readable, and empty: a role that is not ticked looks the same".to_owned(),
                    (None, _) => "readable".to_owned(),
                },
            ),
            Err(error) => {
                line(source.name(), &refusal(&error, source.permission()));
                wrong += 1;
            }
        }
    }
    wrong
}

/// One row: of the last day for sources that are asked by time.
fn first_row(source: &dyn Source, scope: &Scope, now: Micros) -> Query {
    let now = now.div_euclid(SECOND);
    let span = matches!(source.shape(), Shape::Window { .. }).then_some((now - 86_400, now));
    let part = source.parts().map_or(source.part(), |parts| parts.pending);
    Query { part, span, ..Query::whole(scope.clone(), 1, 1) }
}

/// Why a source is not readable, with the permission to tick where that may be it.
pub(in crate::cli) fn refusal(error: &PortalError, permission: &str) -> String {
    match error.remedy() {
        Remedy::MissingRole(_) | Remedy::RenewToken => {
            format!("NOT READABLE: {error}. Tick \"{permission}\" in the role of the API user")
        }
        _ => format!("NOT READABLE: {error}"),
    }
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
    out::say(format_args!("  {what:<14} {text}"));
}
