use std::collections::BTreeMap;

use chrono::TimeZone;

use super::*;
use crate::collect::snapshot::SnapshotNotes;
use crate::coverage::{Coverage, Interval, State};
use crate::deliver::inventory::InventoryStatus;
use crate::deliver::{SinkCondition, Today};
use crate::model::{Lane, Micros, SECOND, Seconds};
use crate::portal::{Answer, CredentialState, Endpoint, Failure, PortalError};

const HOUR: Seconds = 3_600;

pub(crate) fn at(hour: u32, minute: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, hour, minute, 0).unwrap()
}

fn second(hour: u32, minute: u32) -> Seconds {
    at(hour, minute).timestamp()
}

fn interval(from: Seconds, to: Seconds, state: State) -> Interval {
    let reason = (state != State::Proven).then(|| format!("{} for a reason", state.as_str()));
    Interval { from, to, state, listed: Some(12), held: 10, checked: 0, reason }
}

/// A program with something of everything: what is well, what is not, and what nobody knows.
pub(crate) fn populated() -> Status {
    let mut audit = StreamStatus {
        source: "unified_audit".to_owned(),
        scope: "tree".to_owned(),
        organization: "own".to_owned(),
        query: "table=1".to_owned(),
        condition: StreamCondition::Ok,
        rows: 1234,
        requests: 56,
        last_success: Some(at(11, 59)),
        next_poll: Some(at(12, 0) + Duration::from_secs(42)),
        every_seconds: 60.0,
        ..StreamStatus::default()
    };
    let coverage = Coverage::from_intervals([
        interval(second(0, 0), second(2, 0), State::Proven),
        interval(second(2, 0), second(2, 1), State::StableUnproven),
        interval(second(4, 0), second(11, 58), State::Proven),
    ]);
    audit.of_coverage(&coverage, second(0, 0), second(11, 58));
    let silent = BTreeMap::from([(OrganizationId::new("quiet"), at(8, 0).timestamp_micros())]);
    audit.add_silent(&silent, second(11, 58));
    let mut computers = StreamStatus {
        source: "computers".to_owned(),
        scope: "north".to_owned(),
        organization: "north".to_owned(),
        condition: StreamCondition::MissingRole,
        last_error: Some("403: the role \"View Computers\" is missing".to_owned()),
        failing: Some(failing("a role is missing", "tick it", at(10, 15))),
        every_seconds: 900.0,
        ..StreamStatus::default()
    };
    computers.of_snapshot(
        &SnapshotNotes {
            complete: Some(at(10, 0).timestamp_micros()),
            unknown: vec![("north".to_owned(), 17)],
            unknown_since: Some(at(9, 0).timestamp_micros()),
            rows: 200,
            ..SnapshotNotes::default()
        },
        at(12, 0).timestamp_micros(),
    );
    for stream in [&mut audit, &mut computers] {
        stream.age(at(12, 0).timestamp_micros(), Duration::from_secs(7_200));
    }
    let site = SiteStatus {
        site: "acme".to_owned(),
        base_url: Some("https://portalapi.g.threatlocker.com".to_owned()),
        organization_id: Some(OrganizationId::new("own")),
        contact: None,
        portal_time: Some(at(12, 0)),
        clock_offset_seconds: Some(-190.0),
        credential: Some(CredentialHealth {
            state: CredentialState::Ok,
            since: at(10, 0),
            last_success: Some(at(11, 59)),
            next_probe: None,
            retry_after_until: None,
            requests: 60,
            throttled: 1,
            latency_seconds: Some(0.25),
        }),
        token: TokenStatus { expires: Some(at(23, 0)), expiry_known: true, renew_from: Some(at(13, 0)) },
        last_error: None,
        failing: None,
        claimed_elsewhere: Vec::new(),
        fields: vec![FieldNotice {
            source: "computers".to_owned(),
            query: String::new(),
            field: "assetTag".to_owned(),
            change: "added".to_owned(),
            since: Some(at(11, 0)),
        }],
        asked_back: vec![AskedBack {
            source: "unified_audit".to_owned(),
            scope: "tree".to_owned(),
            query: "table=1".to_owned(),
            from: Some(at(0, 0)),
            to: Some(at(1, 30)),
        }],
        own_reads: None,
        streams: vec![audit, computers],
    };
    let undiscovered = SiteStatus {
        site: "lab".to_owned(),
        base_url: None,
        organization_id: None,
        contact: None,
        portal_time: None,
        clock_offset_seconds: None,
        credential: None,
        token: TokenStatus::default(),
        last_error: Some("connection refused".to_owned()),
        failing: Some(failing("the portal cannot be reached", "check the network", at(11, 0))),
        claimed_elsewhere: Vec::new(),
        fields: Vec::new(),
        asked_back: Vec::new(),
        own_reads: None,
        streams: Vec::new(),
    };
    let mut out = SinkStatus::new("out", "file", "raw", at(10, 0));
    (out.delivered_records, out.delivered_bytes, out.last_confirmed) = (1200, 99_000, Some(at(11, 59)));
    out.pending = vec![crate::deliver::PendingStatus {
        site: "acme".to_owned(),
        lane: Lane::Live,
        bytes: 2048,
        oldest: Some(at(11, 50)),
    }];
    (out.pending_bytes, out.oldest_pending) = (2048, Some(at(11, 50)));
    (out.state, out.last_error) = (SinkCondition::Held, Some("no permission for out/".to_owned()));
    let mut status = Status {
        version: "1.2.3".to_owned(),
        running: true,
        taken: at(12, 0),
        started: Some(at(10, 0)),
        fresh: false,
        problems: Vec::new(),
        configuration: vec!["site west is left out, its folder sites/west is wrong: no token".to_owned()],
        sites: vec![site, undiscovered],
        sinks: vec![out],
        outbox: OutboxStatus {
            bytes: 4096,
            limit_bytes: Some(1 << 30),
            paused: false,
            oldest: Some(at(11, 50)),
        },
        dead_letters: DeadLetterStatus { count: 3, bytes: 700 },
        memory: MemoryStatus { used_bytes: 1 << 20, limit_bytes: 128 << 20 },
        process: Some(ProcessStatus { resident_bytes: 50 << 20, cpu_seconds: 1.5, open_files: 20 }),
    };
    status.judge();
    status
}

#[test]
fn a_token_near_its_end_is_a_problem_while_all_still_works() {
    let day = |text: &str| TokenExpiry::At(text.parse().unwrap());
    let unused = TokenExpiry::UnusedFor(Duration::from_secs(14 * 86_400));
    let cases = [
        (day("2026-04-01"), at(11, 59), None),
        (day("2026-03-31"), at(11, 59), Some("lapses 2026-03-31 00:00:00Z")),
        (day("2026-03-01"), at(11, 59), Some("should have lapsed 2026-03-01 00:00:00Z")),
        (unused, at(11, 59), None),
        (unused, at(11, 59) - chrono::Days::new(8), Some("lapses 2026-03-07 11:59:00Z")),
    ];
    for (expiry, last_success, told) in cases {
        let mut status = populated();
        status.sites.truncate(1);
        status.sites[0].token = TokenStatus::of(Some(expiry), Some(last_success));
        status.judge();
        let said: Vec<_> = status.problems.iter().filter(|line| line.contains("the token ")).collect();
        let told = told.map(|told| format!("site acme: the token {told}: renew it"));
        assert!(said.len() == told.iter().len(), "{expiry:?}: {said:?}");
        assert!(said.iter().zip(&told).all(|(said, told)| said.starts_with(told)), "{said:?} {told:?}");
    }
}

#[test]
fn what_is_wrong_is_said_once_for_each_thing() {
    insta::assert_snapshot!(populated().problems.join("\n"));
}

fn failing(what: &str, remedy: &str, since: DateTime<Utc>) -> Failing {
    Failing { what: what.to_owned(), remedy: remedy.to_owned(), since }
}

/// A site with so many streams, all of which met the same.
fn hit(streams: usize, health: CredentialState, error: &PortalError, since: DateTime<Utc>) -> Status {
    let mut status = populated();
    (status.sinks, status.sites) = (Vec::new(), status.sites.into_iter().take(1).collect());
    let site = &mut status.sites[0];
    site.credential.as_mut().unwrap().state = health;
    let (what, remedy) = error.advice();
    site.streams = (0..streams)
        .map(|number| StreamStatus {
            source: "unified_audit".to_owned(),
            scope: format!("org{number}"),
            condition: StreamCondition::Failing,
            every_seconds: 60.0,
            live_until: Some(at(11, 50)),
            last_error: Some(error.to_string()),
            failing: Some(failing(what, remedy, since)),
            ..StreamStatus::default()
        })
        .collect();
    status.configuration.clear();
    status.judge();
    status
}

#[test]
fn a_dead_portal_is_one_problem_at_once_and_stale_only_later() {
    let failure = Failure::Unreachable("connection refused".to_owned());
    let endpoint = Some(Endpoint::ActionLogByParameters);
    let dead = PortalError { site: "acme".to_owned(), endpoint, failure };
    let mut status = hit(7, CredentialState::Ok, &dead, at(11, 58));
    let line = "site acme: the portal cannot be reached since 2026-03-01 11:58:00Z: check network, proxy, \
                certificates and the portal's status page";
    let error = "; last error: ActionLog/ActionLogGetByParametersV2: no whole answer: connection refused";
    assert_eq!((status.fresh, &status.problems), (true, &vec![format!("{line}{error}")]));
    status.sites[0].streams[3].stale = true;
    status.judge();
    let stale = "; nothing after 2026-03-01 11:50:00Z is proven";
    assert_eq!((status.fresh, &status.problems), (false, &vec![format!("{line}{stale}{error}")]));
    // Where others are well, those that are not are named.
    for well in &mut status.sites[0].streams[..1] {
        (well.failing, well.condition) = (None, StreamCondition::Ok);
    }
    status.judge();
    let named = "; this concerns unified_audit of org1, unified_audit of org2, unified_audit of org3, \
                 unified_audit of org4, unified_audit of org5 and 1 more";
    assert_eq!(status.problems, [format!("{line}{named}{stale}{error}")]);
}

#[test]
fn a_refused_token_is_one_problem_and_spoils_freshness_at_once() {
    let failure = Failure::Rejected { answer: Answer::default(), next_probe: at(13, 0) };
    let refused = PortalError { site: "acme".to_owned(), endpoint: None, failure };
    for streams in [0, 3] {
        let mut status = hit(streams, CredentialState::Rejected, &refused, at(11, 58));
        for stream in &mut status.sites[0].streams {
            stream.condition = StreamCondition::Rejected;
        }
        status.judge();
        assert!(!status.fresh && status.problems.len() == 1, "{:?}", status.problems);
        assert!(
            status.problems[0].starts_with("site acme: the portal refuses the token since 2026-03-01 10:00")
        );
        assert!(status.problems[0].contains("renew it"));
    }
}

#[test]
fn a_status_survives_its_json() {
    let status = populated();
    let json = serde_json::to_string(&status).unwrap();
    let back: Status = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
}

#[test]
fn every_interval_between_start_and_edge_is_proven_or_told() {
    let mut stream = StreamStatus { organization: "own".to_owned(), ..StreamStatus::default() };
    let coverage = Coverage::from_intervals([
        interval(0, HOUR, State::Proven),
        interval(2 * HOUR, 3 * HOUR, State::EmptyUnconfirmed),
        interval(3 * HOUR, 4 * HOUR, State::Unreachable),
        interval(5 * HOUR, 6 * HOUR, State::Proven),
    ]);
    stream.of_coverage(&coverage, 0, 7 * HOUR);
    let told: Vec<(i64, i64, &str)> = stream
        .unproven
        .iter()
        .map(|one| (one.from.timestamp() / HOUR, one.to.timestamp() / HOUR, one.state.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (6, 7, "pending"),
            (4, 5, "pending"),
            (3, 4, "unreachable"),
            (2, 3, "empty_unconfirmed"),
            (1, 2, "pending")
        ]
    );
    assert_eq!(stream.unproven_sums["pending"], UnprovenSum { intervals: 3, seconds: 10_800.0 });
    assert_eq!(stream.proven_until.unwrap().timestamp(), HOUR);
    assert_eq!(stream.live_until.unwrap().timestamp(), 6 * HOUR);
}

#[test]
fn more_intervals_than_are_shown_are_all_counted() {
    let mut stream = StreamStatus::default();
    let holes = (0..500).map(|n| interval(2 * n, 2 * n + 1, State::Proven));
    stream.of_coverage(&Coverage::from_intervals(holes), 0, 1000);
    let silent = BTreeMap::from([(OrganizationId::new("quiet"), 0)]);
    stream.add_silent(&silent, 1000);
    assert_eq!((stream.unproven.len(), stream.unproven_more), (200, 301));
    assert_eq!(stream.unproven[0].organization, "quiet", "an organization is not left out for length");
    assert_eq!(stream.unproven_sums["pending"].intervals, 500);
    assert_eq!((stream.silent_organizations, stream.unproven_sums["empty_unconfirmed"].intervals), (1, 1));
    stream.of_coverage(&Coverage::default(), 0, 1000);
    assert_eq!((stream.unproven.len(), stream.silent_organizations), (1, 0), "told anew, not added up");
}

#[test]
fn a_stream_that_never_proved_anything_becomes_stale() {
    let mut stream = StreamStatus { every_seconds: 60.0, ..StreamStatus::default() };
    let now: Micros = 1_000_000 * SECOND;
    stream.age(now, Duration::from_secs(599));
    assert!(!stream.stale);
    stream.age(now, Duration::from_secs(601));
    assert!(stream.stale && stream.lag_seconds.is_none());
    stream.live_until = DateTime::from_timestamp(1_000_000 - 30, 0);
    stream.age(now, Duration::from_secs(601));
    assert!(!stream.stale);
    assert_eq!(stream.lag_seconds, Some(30.0));
}

#[test]
fn a_site_that_shows_nothing_for_ten_minutes_is_a_problem() {
    let mut status = populated();
    let mut site = status.sites.remove(1);
    (site.last_error, site.failing) = (None, None);
    status.configuration.clear();
    (status.sites, status.sinks) = (vec![site], Vec::new());
    for (minute, fresh) in [(9, true), (11, false)] {
        status.taken = at(10, minute);
        status.judge();
        assert_eq!(status.fresh, fresh, "{:?}", status.problems);
    }
}

#[test]
fn more_than_a_day_should_bring_is_a_problem_of_that_day_and_spoils_no_freshness() {
    let mut status = healthy();
    let day = status.taken.date_naive();
    status.sinks[0].today = Some(Today { day, records: 9, bytes: 9_001, max_per_day: Some(9_000) });
    status.judge();
    assert!(status.fresh && status.problems.len() == 1, "{:?}", status.problems);
    assert!(status.problems[0].contains("9001 bytes were delivered today (UTC)"), "{:?}", status.problems);
    status.taken += chrono::Duration::days(1);
    status.judge();
    assert!(!status.problems.iter().any(|problem| problem.contains("max_per_day")), "{:?}", status.problems);
}

#[test]
fn a_list_of_computers_that_is_old_is_a_problem_at_once_and_spoils_freshness_after_ten_minutes() {
    for (minute, fresh) in [(1, true), (11, false)] {
        let mut status = healthy();
        let failing = Some(status.taken - chrono::Duration::minutes(minute));
        let last_error = Some("the disk is away".to_owned());
        status.sinks[0].inventory =
            Some(InventoryStatus { failing, last_error, ..InventoryStatus::default() });
        status.judge();
        assert_eq!((status.problems.len(), status.fresh), (1, fresh), "{:?}", status.problems);
        assert!(status.problems[0].ends_with(": the disk is away"), "{:?}", status.problems);
    }
}

/// A picture without problems.
fn healthy() -> Status {
    let mut status = populated();
    status.sites.clear();
    status.configuration.clear();
    status.sinks[0].state = SinkCondition::Ok;
    status
}

#[test]
fn a_sink_that_cannot_write_is_a_problem_at_once_and_spoils_freshness_after_ten_minutes() {
    let mut status = populated();
    (status.sites, status.configuration) = (Vec::new(), Vec::new());
    status.sinks.truncate(1);
    (status.sinks[0].state, status.sinks[0].since) = (SinkCondition::Retrying, at(11, 0));
    for (minute, fresh) in [(1, true), (11, false)] {
        status.taken = at(11, minute);
        status.judge();
        assert_eq!((status.problems.len(), status.fresh), (1, fresh), "{:?}", status.problems);
    }
}

/// A board without sites, whose state is in memory.
pub(crate) fn board() -> (Board, Store) {
    let clock = Clock::shifted(chrono::Duration::zero(), 1);
    let store = Store::open_in_memory(clock.clone()).unwrap();
    (Board::new(clock, store.clone(), Budget::new(1 << 20), 1 << 30), store)
}

/// A sink's word for the board.
pub(crate) fn sink(state: SinkCondition) -> watch::Receiver<SinkStatus> {
    let mut sink = SinkStatus::new("out", "file", "raw", at(10, 0));
    (sink.state, sink.last_error) = (state, Some("the disk is away".to_owned()));
    watch::channel(sink).1
}
