//! What the program's log says of whom.

use std::time::Duration;

use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::app::{HOUR, SOON, fresh_seed};
use crate::support::binary::Place;

/// Waits until the log has a line for each of these, and answers the lines.
async fn lines(place: &Place, wanted: &[&str]) -> Vec<String> {
    let end = Instant::now() + SOON;
    loop {
        let said = place.said();
        let found = |wanted: &&&str| said.lines().any(|line| line.contains(**wanted));
        let missing: Vec<_> = wanted.iter().filter(|one| !found(one)).collect();
        if missing.is_empty() {
            let one = |wanted: &&str| said.lines().find(|line| line.contains(*wanted)).unwrap().to_owned();
            return wanted.iter().map(one).collect();
        }
        assert!(Instant::now() < end, "{missing:?} is not in the log:\n{said}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_the_vendor_renames_is_told_once_and_stands_in_the_status_ever_since() {
    let world = WorldOptions { seed: fresh_seed(), rows_per_day: 5_000, ..WorldOptions::default() };
    let portal = Simulator::start(World::new(world), Options::default()).await.unwrap();
    let place = Place::new(&portal, "64KiB");
    place.reconfigure("backfill: 28d", "backfill: 1d");
    place.reconfigure("level: warn", "level: info");
    let dropped = "rows lack fields that all of them had";
    let added = "rows have fields that this version does not know";
    let mut said = place.ask(&["once"]).await;
    assert!(!said.contains(added) && !said.contains(dropped), "{said}");
    let (field, name) = ("processPath".to_owned(), "processImagePath".to_owned());
    portal.fault(Fault::always(Effect::RenamedField { field, name }));
    for _ in 0..2 {
        portal.stage().clock.advance(6 * HOUR);
        said += &place.ask(&["once"]).await;
    }
    for (line, field) in [(dropped, "fields=\"processPath\""), (added, "fields=\"processImagePath\"")] {
        let told: Vec<&str> = said.lines().filter(|told| told.contains(line)).collect();
        assert_eq!(told.len(), 1, "{said}");
        for part in ["site=\"acme\"", "source=\"unified_audit\"", field] {
            assert!(told[0].contains(part), "{}", told[0]);
        }
    }
    assert!(!said.contains("rows have these fields again"), "{said}");
    let status: Value = serde_json::from_str(&place.ask(&["status", "--json"]).await).unwrap();
    let fields = status["sites"][0]["fields"].as_array().unwrap();
    let fields: Vec<_> = fields.iter().map(|one| [&one["field"], &one["change"]]).collect();
    assert_eq!(fields, [["processImagePath", "added"], ["processPath", "dropped"]]);
    let page = place.ask(&["status"]).await;
    assert!(page.contains("no more that all of them had: processPath"), "{page}");
}

const CLOCK: &str = "the portal's clock was set back";
const DELIVERY: &str = "delivery failed";
const SITE: &str = "the portal refuses requests";

/// A log in which a stream, a sink and a site that is discovered each have something to say.
async fn log_of(format: &str) -> Vec<String> {
    let world = WorldOptions { seed: fresh_seed(), rows_per_day: 1_000, ..WorldOptions::default() };
    let portal = Simulator::start(World::new(world), Options::default()).await.unwrap();
    let place = Place::new(&portal, "64KiB");
    place.reconfigure("log: { level: warn }", &format!("log: {{ level: warn{format} }}"));
    place.reconfigure("backfill: 28d", "backfill: 1d");
    // Where the folder of the output should be stands a file.
    std::fs::write(place.out(), "").unwrap();
    let denied =
        portal.fault(Fault::always(Effect::Status { status: 400, retry_after: None, message: None }));
    let mut program = place.start("run", None);
    lines(&place, &[SITE]).await;
    portal.clear_faults(Some(denied));
    lines(&place, &[DELIVERY]).await;
    portal.stage().clock.advance(-2 * HOUR);
    let found = lines(&place, &[SITE, DELIVERY, CLOCK]).await;
    program.signal(Signal::TERM);
    program.ended_within(Duration::from_secs(20)).await;
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_the_log_names_its_site_and_stream_or_its_sink() {
    let found = log_of("").await;
    let wanted: [&[&str]; 3] = [
        &["site{site=\"acme\"}"],
        &["sink{sink=\"out\"}"],
        &["stream{site=\"acme\" source=\"", "_audit\" scope=\"tree\"", "}: lockstep::collect"],
    ];
    for (line, wanted) in found.iter().zip(wanted) {
        assert!(wanted.iter().all(|part| line.contains(part)), "{wanted:?}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_json_line_of_the_log_names_its_site_and_stream_or_its_sink() {
    let found: Vec<Value> =
        log_of(", json: true").await.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [site, sink, stream] = &found[..] else { panic!("{found:?}") };
    assert_eq!(site["span"]["site"], "acme", "{site}");
    assert_eq!(sink["span"]["sink"], "out", "{sink}");
    assert_eq!(
        (&stream["span"]["site"], &stream["span"]["scope"]),
        (&"acme".into(), &"tree".into()),
        "{stream}"
    );
    assert!(stream["span"]["source"].as_str().is_some_and(|source| source.ends_with("_audit")), "{stream}");
}
