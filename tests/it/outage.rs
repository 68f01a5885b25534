//! Proof 2: whatever is away or wrong for a while, nothing is lost, nothing doubled, and the status says it
//! while it lasts.

use std::collections::HashSet;
use std::time::Duration;

use lockstep::simulator::faults::{Effect, Fault, NoPermission, RetryAfter};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::{Source, WorldOptions};
use lockstep::status::{Status, StreamCondition};
use serde_json::Value;
use tokio::time::Instant;

use crate::checkins;
use crate::private::{ASKED, REMEDIATIONS, THREATS, judge_remediations, judge_threats};
use crate::support::app::{DAY, HOUR, MINUTE, SOON, Setup, Site, TestApp, date, fresh_seed, stream, streams};
use crate::support::disk::SmallDisk;
use crate::support::gate::{Effect as Cut, Gate};
use crate::support::receiver::{Receiver, Wants};

/// An interval of the status that is not proven: organization, from, to and state.
fn unproven(status: &Value, source: &str) -> Vec<(String, String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let streams = status["sites"][0]["streams"].as_array().cloned().unwrap_or_default();
    streams
        .iter()
        .filter(|stream| stream["source"] == source)
        .flat_map(|stream| stream["unproven"].as_array().cloned().unwrap_or_default())
        .map(|one| (text(&one["organization"]), text(&one["from"]), text(&one["to"]), text(&one["state"])))
        .collect()
}

/// The program, at the end of a backlog.
async fn caught_up(setup: Setup) -> TestApp {
    let app = TestApp::start(setup).await;
    app.wait_caught_up(SOON).await;
    app
}

/// After the fault: everything is collected, looked at again a day later, and as the portal has it.
async fn recovered(app: TestApp, name: &str) {
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish(name).await;
}

fn world(rows_per_day: i64) -> WorldOptions {
    WorldOptions { seed: fresh_seed(), rows_per_day, ..WorldOptions::default() }
}

/// Waits until the status names an interval of this organization, in this state, of at least this length.
async fn wait_for_interval(
    app: &TestApp,
    source: &str,
    organization: usize,
    state: &str,
    hours: i64,
) -> Status {
    let organization = app.portal.organization(organization).to_string();
    let status = app
        .wait(&format!("named the interval of {organization}"), SOON, |status| {
            let unproven = streams(status).filter(|stream| stream.source == source);
            unproven.flat_map(|stream| &stream.unproven).any(|one| {
                one.organization == organization
                    && one.state == state
                    && (one.to - one.from).num_hours() >= hours
            })
        })
        .await;
    let json = app.status_json().await;
    let named = unproven(&json, source);
    assert!(named.iter().any(|one| one.0 == organization && one.3 == state), "{named:?}");
    app.note("status during the fault", format_args!("{source}: {:?}", named.first()));
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_fails_for_six_hours_is_a_longer_walk() {
    let app = caught_up(Setup::default()).await;
    let effect = Effect::Status { status: 500, retry_after: None, message: None };
    let fault = app.portal.fault(Fault::always(effect));
    app.advance(6 * HOUR);
    let status = wait_for_interval(&app, "unified_audit", 0, "pending", 5).await;
    assert_eq!(stream(&status, "unified_audit").condition, StreamCondition::Failing);
    assert!(stream(&status, "unified_audit").stale && !status.fresh, "{status:?}");
    app.portal.clear_faults(Some(fault));
    recovered(app, "down for six hours").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_is_gone_for_six_hours_and_a_restart_meanwhile_lose_nothing() {
    let mut app = caught_up(Setup::default()).await;
    // A gateway's clock is not the portal's, so its answers tell no time.
    let fault = app.portal.fault(Fault::always(Effect::Down { reset: false }));
    app.wait("saw the gateway's error", SOON, |status| {
        stream(status, "unified_audit").condition == StreamCondition::Failing
    })
    .await;
    app.portal.clear_faults(Some(fault));
    app.portal.stop().await;
    app.portal.stage().clock.advance(3 * HOUR);
    let status = app
        .wait("told of the dead portal at once, in one line", SOON, |status| {
            streams(status).all(|stream| stream.condition == StreamCondition::Failing)
                && status.problems.len() == 1
                && status.problems[0].starts_with("site acme: the portal cannot be reached since ")
        })
        .await;
    app.note("status during the fault", format_args!("{:?}", status.problems));
    assert!(status.fresh, "nothing is stale yet: {status:?}");
    app.restart().await;
    let status = app.wait("said why it waits", SOON, |status| status.sites[0].last_error.is_some()).await;
    assert!(!status.fresh, "{status:?}");
    app.portal.stage().clock.advance(3 * HOUR);
    app.portal.restart().await.unwrap();
    recovered(app, "gone for six hours").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_revoked_for_six_hours_works_again_unchanged() {
    let app = caught_up(Setup::default()).await;
    let fault = app.portal.fault(Fault::always(Effect::TokenRevoked));
    app.advance(6 * HOUR);
    let status = wait_for_interval(&app, "unified_audit", 0, "pending", 5).await;
    app.wait("said that the token is refused, in one line", SOON, |status| {
        streams(status).all(|stream| stream.condition == StreamCondition::Rejected)
            && status.problems.len() == 1
            && status.problems[0].starts_with("site acme: the portal refuses the token since ")
    })
    .await;
    let health = status.sites[0].credential.as_ref().unwrap();
    assert!(health.next_probe.is_some(), "{health:?}");
    // Left alone but for the probe, which comes every 300 ms here.
    let before = app.portal.stats().requests;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let probes = app.portal.stats().requests - before;
    assert!(probes <= 8, "{probes} requests with a token that is known to be refused");
    app.portal.clear_faults(Some(fault));
    recovered(app, "token revoked for six hours").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_state_is_a_pause() {
    let Some(disk) = SmallDisk::mount(48) else { return };
    let setup = Setup { world: world(4_000), state: Some(disk.path().join("state")), ..Setup::default() };
    let app = caught_up(setup).await;
    disk.fill();
    app.advance(6 * HOUR);
    let status = wait_for_interval(&app, "unified_audit", 0, "pending", 5).await;
    let error = stream(&status, "unified_audit").last_error.clone().unwrap_or_default();
    assert!(error.contains("no space left"), "{error}");
    disk.free();
    recovered(app, "disk of the state full").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_output_holds_up_nothing_but_the_sink() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let setup = Setup { world: world(4_000), out: Some(disk.path().join("out")), ..Setup::default() };
    let app = caught_up(setup).await;
    disk.fill();
    let until = date(app.advance(6 * HOUR) - MINUTE);
    let status = app
        .wait("went on collecting while the sink is full", SOON, |status| {
            stream(status, "unified_audit").live_until.is_some_and(|live| live >= until)
                && status.sinks[0].last_error.is_some()
                && status.sinks[0].pending_bytes > 0
        })
        .await;
    app.note("status during the fault", format_args!("{:?}", status.sinks[0].last_error));
    disk.free();
    recovered(app, "disk of the output full").await;
    drop(disk);
}

/// A row that the portal lists from now on stands in the program's files after so long.
async fn until_in_the_files(app: &TestApp, name: &str) -> Duration {
    let now = app.portal.now();
    let organization = app.portal.organization(0);
    let at = date(now).to_rfc3339();
    let row = format!(
        r#"{{"eActionLogId":"{name}","organizationId":"{organization}","dateTime":"{at}","dateTimeImported":"{at}","actionType":"execute"}}"#
    );
    app.portal.stage().world.inject_raw(Source::UnifiedAudit, 0, now, row);
    app.advance(MINUTE);
    let began = Instant::now();
    let is_there = || app.output().records.iter().any(|record| record.vendor_id.as_deref() == Some(name));
    while !is_there() {
        assert!(began.elapsed() < SOON, "{name} never comes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_down_for_three_days_holds_up_no_other_and_has_everything_once_in_the_end() {
    let receiver = Receiver::start(Wants::default()).await;
    let gate = Gate::before(&receiver.url).await;
    let sink = format!("{{ name: post, type: http, format: raw, url: \"{}/records\" }}", gate.url);
    let mut app = caught_up(Setup { world: world(4_000), sinks: vec![sink], ..Setup::default() }).await;
    let before = receiver.lines().len();
    gate.always(Cut::CutBefore);
    let mut longest = Duration::ZERO;
    for turn in 0..12 {
        app.advance(6 * HOUR - MINUTE);
        longest = longest.max(until_in_the_files(&app, &format!("mark-{turn}")).await);
        let status = app.status().await;
        let down = status.sinks.iter().find(|sink| sink.name == "post").unwrap();
        assert!(down.last_error.is_some() && down.pending_bytes > 0, "{down:?}");
    }
    assert_eq!(receiver.lines().len(), before, "it was not down");
    app.note("lag of the other sink, at most", format_args!("{longest:?}"));
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    gate.open();
    // It would look again by itself, within a minute.
    app.restart().await;
    app.settle(1, SOON).await;
    let output = app.finish("a sink down for three days").await;
    let lines = receiver.lines();
    let uids: HashSet<&str> = lines
        .iter()
        .map(|line| line.split("\"uid\":\"").nth(1).unwrap().split('"').next().unwrap())
        .collect();
    assert_eq!(uids.len(), lines.len(), "some came twice");
    assert!(output.records.iter().all(|record| uids.contains(record.uid.as_str())));
    assert!(uids.len() == output.records.len() && uids.len() > 12_000, "{}", uids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_answer_in_ten_may_fail_in_every_way() {
    let setup = Setup { world: world(20_000), page_size: 60, ..Setup::default() };
    let app = TestApp::prepare(setup).await;
    let status = |status, retry_after| Effect::Status { status, retry_after, message: None };
    let ways = [
        status(429, Some(RetryAfter::Seconds(1))),
        status(429, Some(RetryAfter::DateIn(1))),
        status(500, None),
        status(503, None),
        Effect::CutBody,
        Effect::TruncatedJson,
        Effect::Html,
        Effect::ErrorObject,
        Effect::Reset,
        Effect::Latency { milliseconds: 400 },
    ];
    for way in &ways {
        app.portal.fault(Fault::share(0.1 / ways.len() as f64, way.clone()));
    }
    let mut app = app;
    app.run().await;
    wait_for_interval(&app, "unified_audit", 0, "pending", 0).await;
    app.wait_caught_up(2 * SOON).await;
    for _ in 0..6 {
        app.advance(HOUR);
        app.wait_caught_up(SOON).await;
    }
    let stats = app.portal.stats();
    app.note("one in ten", format_args!("{} requests, answers {:?}", stats.requests, stats.statuses));
    assert!(stats.requests > 300, "{} requests", stats.requests);
    app.settle(1, SOON).await;
    app.finish("one answer in ten fails").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_falls_silent_inside_a_tree_is_named_and_read_again() {
    let setup = Setup { world: WorldOptions { late_share: 0.02, ..world(20_000) }, ..Setup::default() };
    let app = caught_up(setup).await;
    let child = app.portal.organization(1);
    let fault = Fault::always(Effect::SilentOrganization).at(Endpoint::UnifiedAudit).of(child);
    let fault = app.portal.fault(fault);
    for _ in 0..12 {
        app.advance(15 * MINUTE);
        app.wait_caught_up(SOON).await;
    }
    wait_for_interval(&app, "unified_audit", 1, "empty_unconfirmed", 2).await;
    app.portal.clear_faults(Some(fault));
    app.advance(10 * MINUTE);
    app.wait("heard the organization again", SOON, |status| {
        !stream(status, "unified_audit").unproven.iter().any(|one| one.organization == child.to_string())
    })
    .await;
    recovered(app, "an organization silent for three hours").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_asked_alone_that_answers_nothing_for_hours_is_not_believed() {
    let setup = Setup {
        world: WorldOptions { late_share: 0.02, ..world(20_000) },
        sites: vec![Site::new("acme", "own")],
        covers: Some(vec![0]),
        ..Setup::default()
    };
    let app = caught_up(setup).await;
    let fault = Effect::NoPermission { answer: NoPermission::Empty };
    let fault = app.portal.fault(Fault::always(fault).at(Endpoint::UnifiedAudit));
    for _ in 0..4 {
        app.advance(HOUR);
        app.wait_caught_up(SOON).await;
    }
    wait_for_interval(&app, "unified_audit", 0, "empty_unconfirmed", 2).await;
    app.portal.clear_faults(Some(fault));
    app.advance(10 * MINUTE);
    recovered(app, "empty answers for four hours").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_unticked_for_computers_removes_none_of_them() {
    let app = caught_up(Setup::default()).await;
    let fault = Effect::NoPermission { answer: NoPermission::Empty };
    let fault = app.portal.fault(Fault::always(fault).at(Endpoint::Computers));
    app.advance(HOUR);
    let status = wait_for_interval(&app, "computers", 0, "unknown", 0).await;
    assert!(!status.fresh, "{status:?}");
    let until = date(app.advance(5 * HOUR) - MINUTE);
    app.wait("went on with the others", SOON, |status| {
        ["unified_audit", "system_audit"]
            .iter()
            .all(|source| stream(status, source).live_until.is_some_and(|live| live >= until))
    })
    .await;
    app.portal.clear_faults(Some(fault));
    app.wait("believed the list again", SOON, |status| stream(status, "computers").unproven.is_empty()).await;
    app.settle(1, SOON).await;
    let gone = app.portal.true_computers(true).iter().filter(|state| state.removed).count();
    let output = app.finish("role for computers unticked").await;
    let removed = output.records.iter().filter(|record| record.change == "removed").count();
    assert!(removed <= gone, "{removed} removed of {gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_permission_stops_only_its_own_source() {
    let app = caught_up(Setup::default()).await;
    let fault = Effect::NoPermission { answer: NoPermission::Denied };
    let fault = app.portal.fault(Fault::always(fault).at(Endpoint::SystemAudit));
    let until = date(app.advance(6 * HOUR) - MINUTE);
    wait_for_interval(&app, "system_audit", 0, "pending", 5).await;
    let status = app
        .wait("told the missing role from a refused token", SOON, |status| {
            stream(status, "system_audit").condition == StreamCondition::MissingRole
                && ["unified_audit", "computers"].iter().all(|source| {
                    let stream = stream(status, source);
                    stream.condition == StreamCondition::Ok
                        && stream.live_until.is_some_and(|live| live >= until)
                })
        })
        .await;
    let error = stream(&status, "system_audit").last_error.clone().unwrap_or_default();
    assert!(error.contains("View System Audit"), "{error}");
    app.portal.clear_faults(Some(fault));
    recovered(app, "permission for the system audit missing").await;
}

/// Check-ins and the portal's own tabs, by whoever names them.
fn newer_sources() -> Setup {
    let lines = ASKED.map(|(source, asked)| {
        let changes = if source == THREATS { ", page_size: 13, changes: [state]" } else { "" };
        format!("  {source}: {{ enabled: true, every: 150ms, {asked}{changes} }}")
    });
    let how = "enabled: true, every: 150ms, page_size: 10, sweep: 12h, backfill: 24h, retention: 5d";
    let checkins = format!("  {}: {{ {how} }}", checkins::SOURCE);
    let mut site = Site::new("acme", "all");
    site.more.push(format!("sources:\n    {}", lines.join("\n    ") + "\n    " + &checkins));
    Setup {
        world: WorldOptions {
            threat_share: 0.05,
            computers: 40,
            computer_changes_per_day: 400,
            ..world(3_000)
        },
        sites: vec![site],
        without: vec!["unified_audit", "system_audit"],
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_is_gone_in_the_middle_of_their_lists_costs_no_check_in_and_no_row_of_its_tabs() {
    let mut app = TestApp::start(newer_sources()).await;
    let started = app.started;
    let looked = |status: &Status, since: i64| {
        [THREATS, REMEDIATIONS, checkins::SOURCE].iter().all(|source| {
            let until = streams(status).find(|one| one.source == *source).and_then(|one| one.proven_until);
            until.is_some_and(|until| until.timestamp_micros() >= since)
        })
    };
    app.wait("looked", SOON, |status| looked(status, started)).await;
    // Half of the answers break off, so that it goes in the middle of lists.
    let fault = app.portal.fault(Fault::share(0.5, Effect::CutBody));
    let before = app.advance(13 * HOUR);
    let asked = app.portal.stats().requests;
    app.wait("asked some of it", SOON, |_| app.portal.stats().requests > asked + 100).await;
    app.portal.stop().await;
    app.portal.clear_faults(Some(fault));
    app.wait("saw that it is gone", SOON, |status| {
        streams(status).all(|stream| stream.condition == StreamCondition::Failing)
    })
    .await;
    app.portal.stage().clock.advance(20 * HOUR);
    app.restart().await;
    app.wait("said why it waits", SOON, |status| status.sites[0].last_error.is_some()).await;
    app.portal.stage().clock.advance(20 * HOUR);
    app.portal.restart().await.unwrap();
    app.wait("looked again", SOON, |status| looked(status, before + 40 * HOUR)).await;
    app.quiet();
    // What is late is listed by then, and each computer was asked about since.
    checkins::swept(&app).await;
    let now = app.portal.now();
    app.wait("looked once more", SOON, |status| looked(status, now)).await;
    app.stop().await;
    let output = app.output();
    let since = started - 30 * DAY + HOUR;
    let counts = [
        judge_threats(&output, &app.portal, since, true),
        judge_remediations(&output, &app.portal, since),
        checkins::judge(
            &output,
            &app.portal,
            (started - DAY, started - DAY + HOUR),
            app.portal.now() - 6 * HOUR,
        ),
    ];
    app.note("gone for two days", format_args!("{counts:?} threats, remediations and check-ins, each once"));
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}
