use chrono::{TimeDelta, TimeZone, Utc};
use proptest::prelude::*;

use super::*;
use crate::cli::table::columns as width_of;
use crate::cli::terminal::Size;
use crate::status::tests::{at, populated};
use crate::status::{Owed, StreamCondition, StreamStatus};

fn shown(status: &Status, columns: usize, rows: usize) -> Vec<String> {
    frame::frame(status, Size { columns, rows }).into_iter().map(|line| line.text).collect()
}

/// A site that is well and one that owes time, as the demo has them.
fn demo() -> Status {
    let mut status = populated();
    status.sites.truncate(1);
    status.sinks.truncate(1);
    (status.problems, status.sites[0].site) = (Vec::new(), "demo".to_owned());
    let stream = |source: &str, query: &str, rows, lag| StreamStatus {
        source: source.to_owned(),
        query: query.to_owned(),
        scope: "tree".to_owned(),
        condition: StreamCondition::Ok,
        rows,
        requests: rows / 400,
        proven_until: Some(at(12, 0) - TimeDelta::seconds(lag)),
        lag_seconds: Some(std::time::Duration::from_secs(lag.unsigned_abs()).as_secs_f64()),
        rows_per_second: Some(0.0),
        ..StreamStatus::default()
    };
    let mut owing = stream("unified_audit", "table=1", 72_851, 66);
    (owing.rows_per_second, owing.proven_until) = (Some(13_254.2), Some(at(12, 0) - TimeDelta::days(1)));
    let owed = Owed { seconds: 52_000.0, of_seconds: 86_000.0, remaining_seconds: Some(721.0) };
    owing.owed = Some(owed);
    status.sites[0].streams =
        vec![stream("computers", "", 203, 2), stream("system_audit", "", 2_150, 6), owing];
    status
}

#[test]
fn eighty_columns_show_everything_that_a_demo_has() {
    insta::assert_snapshot!(shown(&demo(), 80, 24).join("\n"));
}

#[test]
fn a_wide_terminal_is_told_in_whole_words() {
    insta::assert_snapshot!(shown(&demo(), 140, 24).join("\n"));
}

#[test]
fn problems_stand_below_with_what_to_do() {
    insta::assert_snapshot!(shown(&populated(), 80, 30).join("\n"));
}

#[test]
fn of_many_streams_the_worst_are_shown_and_the_others_counted() {
    let mut status = demo();
    let site = status.sites[0].clone();
    status.sites = (0..300)
        .map(|number| {
            let mut site = site.clone();
            site.site = format!("customer-{number:03}");
            site.streams.truncate(1);
            if number == 217 {
                site.streams[0].condition = StreamCondition::Rejected;
            }
            if number == 218 {
                site.streams[0].condition = StreamCondition::Paused;
            }
            site
        })
        .collect();
    let lines = shown(&status, 80, 24);
    assert_eq!(lines.len(), 23, "one line is the cursor's");
    assert!(lines[3].starts_with("customer-217") && lines[4].starts_with("customer-218"), "{lines:#?}");
    assert_eq!(lines[22], "and 281 more, all well");
    assert!(lines[5].starts_with("customer-000") && lines[21].starts_with("customer-016"), "{lines:#?}");
    for site in &mut status.sites {
        site.streams[0].condition = StreamCondition::Rejected;
    }
    assert_eq!(shown(&status, 80, 24)[22], "and 281 more, 281 of them with problems");
}

#[test]
fn what_is_known_to_be_wrong_is_bad_whether_polled_well_or_not() {
    let mut status = demo();
    status.sites[0].streams[1].stale = true;
    let tones: Vec<Tone> =
        frame::frame(&status, Size { columns: 80, rows: 24 }).into_iter().map(|line| line.tone).collect();
    assert_eq!(tones[3..6], [Tone::Plain, Tone::Bad, Tone::Busy]);
    assert!(shown(&status, 80, 24)[4].contains("stale"));
}

#[test]
fn where_it_is_shown_decides_how() {
    let terminal = Place { capable: true, records: false };
    let (asked, pipe) = (Live::default(), Place::default());
    let quiet = Live { quiet: true, ..asked };
    let json = Live { json: true, ..asked };
    for (live, work, place, way) in [
        (asked, Work::Run, terminal, Way::Table),
        (asked, Work::Once, terminal, Way::Table),
        (asked, Work::Run, pipe, Way::Log),
        (asked, Work::Once, pipe, Way::Lines),
        (asked, Work::Demo, pipe, Way::Lines),
        // Records would be written into the table.
        (asked, Work::Run, Place { records: true, ..terminal }, Way::Log),
        (quiet, Work::Run, terminal, Way::Quiet),
        (json, Work::Demo, terminal, Way::Json),
        (json, Work::Run, pipe, Way::Json),
    ] {
        assert_eq!(live.way(work, place), way, "{live:?} {work:?} {place:?}");
    }
}

#[test]
fn plain_lines_tell_what_changed_and_each_problem_once() {
    let (mut told, mut status) = (lines::Told::default(), demo());
    let first = told.of(&status, Which::Changed);
    assert_eq!(first.len(), 3, "{first:?}");
    let owing = "demo unified_audit table=1  ok, proven until 2026-02-28 12:00:00Z, 72851 rows (13254/s), \
                 182 requests, lag 1m6s; 14h26m of 23h53m left, about 12 min";
    assert_eq!(first[2], owing);
    status.sites[0].streams[0].lag_seconds = Some(90.0);
    assert_eq!(told.of(&status, Which::Changed), Vec::<String>::new(), "time alone is no news");
    status.sites[0].streams[0].requests += 1;
    status.problems = vec!["the roof\u{1b}[2J is on fire".to_owned()];
    let changed = told.of(&status, Which::Changed);
    assert!(changed.len() == 2 && changed[0].starts_with("demo computers"), "{changed:?}");
    assert_eq!(changed[1], "problem: the roof [2J is on fire");
    assert!(told.of(&status, Which::Changed).is_empty());
    assert_eq!(told.of(&status, Which::All).len(), 3, "a demo tells of all, every second");
    status.problems.clear();
    assert_eq!(told.of(&status, Which::Changed), ["no problem is left"]);
}

#[test]
fn json_is_told_when_something_changes_or_a_minute_has_passed() {
    let (mut told, mut status, begin) = (json::Told::default(), demo(), Instant::now());
    let first = told.of(&status, begin).unwrap();
    assert_eq!(first["type"], "progress");
    status.taken += TimeDelta::seconds(1);
    status.sites[0].streams[0].lag_seconds = Some(3.0);
    status.sites[0].streams[2].rows_per_second = Some(1.0);
    status.sites[0].streams[2].owed.as_mut().unwrap().remaining_seconds = None;
    assert_eq!(told.of(&status, begin + Duration::from_secs(1)), None);
    assert!(told.of(&status, begin + Duration::from_secs(60)).is_some());
    status.sites[0].streams[0].rows += 1;
    let changed = told.of(&status, begin + Duration::from_secs(61)).unwrap();
    assert_eq!(changed["streams"][0]["rows"], 204);
    let whole = serde_json::to_value(&status).unwrap();
    for (name, value) in changed["streams"][2].as_object().unwrap() {
        let same =
            if name == "site" { &whole["sites"][0]["site"] } else { &whole["sites"][0]["streams"][2][name] };
        assert_eq!(value, same, "{name}: as `status --json` has it");
    }
}

#[test]
fn the_last_object_says_whether_all_was_done() {
    let undone = ["sink out: full".to_owned()];
    let told = |undone| json::summary(Some(&demo()), undone).unwrap();
    assert_eq!(told(Some(&undone[..]))["complete"], false);
    assert_eq!(told(Some(&undone[..]))["undone"][0], "sink out: full");
    assert_eq!(told(Some(&[]))["complete"], true);
    assert!(told(None).get("complete").is_none() && told(None)["type"] == "summary");
    assert_eq!(json::summary(None, None).unwrap()["type"], "summary");
}

/// Names as an attacker, or an emoji lover, would choose them.
fn name() -> impl Strategy<Value = String> {
    let letters = prop_oneof![
        any::<char>(),
        Just('\u{1b}'),
        Just('\n'),
        Just('\u{9b}'),
        Just('\u{202e}'),
        Just('組'),
        Just('\u{301}'),
        Just('👩'),
        prop::char::range('a', 'z'),
    ];
    prop::collection::vec(letters, 0..60).prop_map(|letters| letters.into_iter().collect())
}

fn any_status() -> impl Strategy<Value = Status> {
    let stream = (name(), name(), 0..7_usize, any::<u64>(), prop::option::of(0.0..1e12_f64), any::<bool>());
    let site = (name(), prop::collection::vec(stream, 0..5));
    let problems = prop::collection::vec(name(), 0..12);
    (prop::collection::vec(site, 0..12), problems, name()).prop_map(|(sites, problems, sink)| {
        let mut status = populated();
        let blank = status.sites[1].clone();
        status.sites = sites
            .into_iter()
            .map(|(site, streams)| {
                let streams = streams.into_iter().map(|(source, query, condition, rows, number, stale)| {
                    let owed = number.map(|seconds| Owed {
                        seconds,
                        of_seconds: 2.0 * seconds,
                        remaining_seconds: stale.then_some(seconds),
                    });
                    StreamStatus {
                        scope: query.clone(),
                        source,
                        query,
                        condition: StreamCondition::ALL[condition],
                        rows,
                        requests: rows,
                        stale,
                        owed,
                        lag_seconds: number,
                        rows_per_second: number,
                        proven_until: number.map(|_| Utc.timestamp_opt(1_700_000_000, 0).unwrap()),
                        ..StreamStatus::default()
                    }
                });
                crate::status::SiteStatus { site, streams: streams.collect(), ..blank.clone() }
            })
            .collect();
        (status.problems, status.sinks[0].name) = (problems, sink);
        status
    })
}

proptest! {
    #[test]
    fn no_line_is_wider_than_the_terminal_or_steers_it_and_all_fit_its_height(
        status in any_status(), columns in 1..200_usize, rows in 1..60_usize,
    ) {
        let lines = shown(&status, columns, rows);
        prop_assert!(lines.len() < rows.max(2), "{} lines", lines.len());
        for line in &lines {
            prop_assert!(width_of(line) <= columns, "{}: {line:?}", width_of(line));
            prop_assert!(!line.chars().any(|letter| letter.is_control() || letter == '\u{202e}'), "{line:?}");
        }
        let mut told = lines::Told::default();
        for line in told.of(&status, Which::Changed).into_iter().chain(lines::summary(&status)) {
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}
