//! Stopping in the middle, going on, and waiting for room.

use std::path::PathBuf;
use std::time::Duration;

use lockstep::model::SECOND;
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use lockstep::status::{Status, StreamCondition};

use crate::support::app::{HOUR, SOON, Setup, TestApp, fresh_seed, stream, streams};
use crate::support::binary::{Place, Signal};
use crate::support::output::{Output, files};
use crate::support::verdict::{Truth, compare, micros};

fn backlog(rows_per_day: i64) -> WorldOptions {
    WorldOptions { seed: fresh_seed(), rows_per_day, late_share: 0.0, ..WorldOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_of_a_backlog_ends_in_five_seconds_and_is_resumed_without_repeats() {
    let mut app = TestApp::prepare(Setup { world: backlog(40_000), every: 1_000, ..Setup::default() }).await;
    app.run().await;
    for rows in [3_000, 9_000, 15_000] {
        app.wait("was in the middle", SOON, |status| stream_rows(status) >= rows).await;
        let took = app.stop().await;
        app.note("stop", format_args!("after {rows} rows, took {took:?}"));
        assert!(took < Duration::from_secs(5), "{took:?}");
        app.run().await;
    }
    app.wait("collected again", SOON, |status| streams(status).any(|stream| stream.requests > 0)).await;
    // Answers that take far longer than they used to are not waited for.
    app.portal.fault(Fault::always(Effect::Latency { milliseconds: 20_000 }));
    app.advance(HOUR);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let took = app.stop().await;
    app.note("stop", format_args!("with answers that never come, took {took:?}"));
    assert!(took > Duration::from_millis(900), "the page in hand may come in its usual time: {took:?}");
    assert!(took < Duration::from_millis(2_500), "nothing can be saved by waiting longer: {took:?}");
    app.portal.clear_faults(None);
    app.run().await;
    app.wait_caught_up(SOON).await;
    let pages = app.portal.truth(Source::UnifiedAudit, false).len().div_ceil(500);
    let served = app.portal.stats().rows_by_endpoint[&lockstep::simulator::requests::Endpoint::UnifiedAudit];
    app.note("resumed", format_args!("{pages} pages of 500, {served} rows served in all"));
    // Each stop may cost the interval in hand, which is at most half of what a listing shows.
    assert!(served < 500 * pages as u64 * 3, "{served} rows served for {pages} pages");
    app.settle(1, SOON).await;
    app.finish("stopped four times").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_program_at_once_and_nothing_is_lost_or_doubled() {
    let options = Options { dialect: Dialect::default(), ..Options::default() };
    let mut portal = Simulator::start(World::new(backlog(40_000)), options).await.unwrap();
    let place = Place::new(&portal, "1MiB");
    for bytes in [2_000_000, 10_000_000] {
        let mut running = place.start("run", None);
        let end = tokio::time::Instant::now() + SOON;
        let length = |file: &PathBuf| file.metadata().map_or(0, |metadata| metadata.len());
        while files(&place.out()).iter().map(length).sum::<u64>() < bytes {
            assert!(tokio::time::Instant::now() < end, "never in the middle\n{}", place.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        portal.fault(Fault::always(Effect::Latency { milliseconds: 20_000 }));
        tokio::time::sleep(Duration::from_millis(100)).await;
        running.signal(Signal::TERM);
        let waited = running.ended_within(Duration::from_millis(300)).await;
        assert_eq!(waited, None, "the page in hand is waited for");
        running.signal(Signal::TERM);
        let ended = running.ended_within(Duration::from_millis(600)).await;
        assert!(ended.is_some(), "it goes on after the second signal");
        portal.clear_faults(None);
    }
    portal.stage().clock.freeze(true);
    let once = place.start("once", None).ended_within(SOON).await;
    assert!(once.is_some_and(|status| status.success()), "{}", place.said());
    portal.stop().await;
    let settled = portal.now() - 5 * SECOND;
    let mut output = Output::read(&place.out());
    output.add_dead_letters(&place.state()).await;
    let verdict = compare(&Truth::of(&portal), &output, |_, row| micros(&row.date_time) < settled);
    assert!(verdict.is_clean(), "{verdict}\n{}", verdict.examples());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_a_backlog_finishes_the_page_in_hand_and_asks_for_no_other() {
    let setup = Setup { world: backlog(20_000), page_size: 50, every: 1_000, ..Setup::default() };
    let mut app = TestApp::prepare(setup).await;
    app.portal.fault(Fault::always(Effect::Latency { milliseconds: 50 }));
    let mut rows = 0;
    for _ in 0..3 {
        app.run().await;
        let further = |status: &Status| stream_rows(status) >= rows + 500;
        rows = stream_rows(&app.wait("came further", SOON, further).await);
        let before = app.portal.stats().requests;
        let took = app.stop().await;
        let asked = app.portal.stats().requests - before;
        app.note("stop", format_args!("after {rows} rows, took {took:?}, {asked} requests more"));
        // Each of three streams may have had a request on its way.
        assert!(took < Duration::from_secs(2) && asked <= 3, "{took:?} {asked}");
    }
    app.portal.clear_faults(None);
    app.run().await;
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish("stopped between pages").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_pass_that_is_stopped_while_the_portal_hangs_ends_at_once_and_says_so() {
    let app = TestApp::prepare(Setup::default()).await;
    app.portal.fault(Fault::always(Effect::Latency { milliseconds: 20_000 }));
    let (took, outcome) = app.once_stopped_after(Duration::from_millis(700)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(!outcome.is_complete() && outcome.sites[0].1.contains("stopped"), "{outcome:?}");
}

fn stream_rows(status: &Status) -> u64 {
    let unified = status.sites.iter().flat_map(|site| &site.streams);
    unified.filter(|stream| stream.source == "unified_audit").map(|stream| stream.rows).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outbox_pauses_collecting_until_the_sink_writes_again() {
    let more = "outbox: { limit: 2MiB, keep: 1s }".to_owned();
    let setup = Setup { world: backlog(40_000), more, ..Setup::default() };
    let mut app = TestApp::prepare(setup).await;
    // A file where the folder should be.
    std::fs::write(app.out_folder(), "in the way").unwrap();
    app.run().await;
    let status = app
        .wait("paused", SOON, |status| {
            status.outbox.paused && stream(status, "unified_audit").condition == StreamCondition::Paused
        })
        .await;
    app.note("status while full", format_args!("{:?}", status.problems));
    assert!(!status.fresh && status.sinks[0].last_error.is_some(), "{status:?}");
    let bytes = status.outbox.bytes;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let later = app.status().await.outbox.bytes;
    // What was in hand when it filled may still come, no more.
    assert!(later < bytes + (4 << 20) && later < 8 << 20, "{bytes} grew to {later}");
    std::fs::remove_file(app.out_folder()).unwrap();
    app.wait_caught_up(2 * SOON).await;
    app.settle(1, 2 * SOON).await;
    app.finish("outbox full").await;
}
