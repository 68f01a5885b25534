//! Every source at once, from a portal that goes on, by a program that is killed again and again.

use std::time::Duration;

use lockstep::model::SECOND;
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::private::{ASKED, judge_remediations, judge_threats};
use crate::support::app::{DAY, HOUR, fresh_seed};
use crate::support::binary::Place;
use crate::support::output::Output;
use crate::support::power::cut_power;
use crate::support::steps;
use crate::support::verdict::{Truth, compare, micros};
use crate::{checkins, details, private};

/// How each source beside the audits and the computers is collected.
const OTHERS: [(&str, &str); 7] = [
    ("threats", "every: 1s, settle: 2s, page_size: 50, backfill: 28d"),
    ("organizations", "every: 1s, page_size: 2"),
    ("policies", "every: 1s, page_size: 11"),
    (
        "approval_requests",
        "every: 1s, decided_every: 1s, sweep: 60s, page_size: 40, backfill: 30d, enrich: [matching_application]",
    ),
    ("remediations", "every: 1s, sweep: 60s, page_size: 20, backfill: 24h"),
    (checkins::SOURCE, "enabled: true, every: 1s, sweep: 2h, page_size: 40, backfill: 3d, retention: 20d"),
    (details::SOURCE, "enabled: true, every: 1s, sweep: 2h"),
];

/// How the portal's own tabs are.
const TABS: [(&str, &str); 2] =
    [(private::THREATS, "page_size: 50, changes: [state]"), (private::REMEDIATIONS, "backfill: 30d")];

/// Where the program kills itself, and nowhere for a random time.
const KILLS: [Option<&str>; 9] = [
    Some("store.commit.before"),
    None,
    Some("store.commit.after"),
    None,
    Some("collect.poll.after"),
    None,
    Some("deliver.confirm.after"),
    None,
    Some("sink.write.after"),
];

/// Seconds of the portal's time that pass between two lives at most.
const LONGEST_LEAP: i64 = 2_400;
/// A step that is a dead letter has no place in the order of steps.
const NONE_REFUSED: (&str, &str) = ("LOCKSTEP_REFUSE", "18446744073709551615");

fn world(seed: u64) -> WorldOptions {
    WorldOptions {
        seed,
        computers: 60,
        rows_per_day: 3_000,
        computer_changes_per_day: 2_000,
        threat_share: 0.05,
        policies: 60,
        // Few go at once, or the removal guard does not believe it.
        policy_changes_per_day: 40,
        approvals: 90,
        approvals_per_day: 800,
        ..WorldOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_every_source_loses_doubles_and_invents_nothing() {
    let seed = fresh_seed();
    let mut dice = StdRng::seed_from_u64(seed);
    let options = Options { dialect: Dialect::default(), ..Options::default() };
    let mut portal = Simulator::start(World::new(world(seed)), options).await.unwrap();
    portal.fault(Fault::share(0.02, Effect::CutBody));
    let place = Place::new(&portal, "256KiB");
    let tabs = TABS
        .into_iter()
        .zip(ASKED)
        .map(|((source, how), (_, asked))| (source, format!("enabled: true, every: 1s, {how}, {asked}")));
    for (source, how) in OTHERS.map(|(source, how)| (source, how.to_owned())).into_iter().chain(tabs) {
        place.reconfigure(
            &format!("      {source}: {{ enabled: false }}"),
            &format!("      {source}: {{ {how} }}"),
        );
    }
    let started = portal.now();
    for (life, point) in KILLS.into_iter().enumerate() {
        portal.advance(dice.random_range(300..LONGEST_LEAP) * SECOND);
        let fault = point.map(|point| format!("{point}:{}", dice.random_range(2..60)));
        let fault = fault.as_deref().map(|fault| ("LOCKSTEP_FAULT", fault));
        let variables: Vec<_> = fault.into_iter().chain([NONE_REFUSED]).collect();
        let mut running = place.start_with("run", &variables);
        let long = Duration::from_millis(dice.random_range(800..4_000));
        if running.ended_within(long).await.is_none() {
            running.kill();
        }
        if life % 2 == 1 {
            cut_power(&place.out(), &place.fsync_log(), &mut dice);
        }
    }
    portal.clear_faults(None);
    // What is looked at once a day is looked at once more.
    portal.advance(DAY + HOUR);
    portal.stage().clock.freeze(true);
    for _ in 0..3 {
        let mut once = place.start_with("once", &[NONE_REFUSED]);
        // An organization that has been silent for long is doubted, and rightly so: then not all is proven.
        let ended = once.ended_within(Duration::from_secs(240)).await;
        assert!(ended.is_some_and(|status| status.code().is_some()), "SEED={seed}: {}", place.said());
    }
    portal.stop().await;

    let mut output = Output::read(&place.out());
    output.add_dead_letters(&place.state()).await;
    // A program may be killed before its first look, which decides how far it looks back.
    let polled = started + KILLS.len() as i64 * LONGEST_LEAP * SECOND;
    let (told, owed) = steps::maintenances(&output, &portal, polled - DAY);
    let (steps, silent) = steps::requests(&output, &portal, started);
    let tabs = judge_threats(&output, &portal, polled - 30 * DAY, true)
        + judge_remediations(&output, &portal, polled - 30 * DAY);
    let looked_back = (started - 3 * DAY, polled - 3 * DAY);
    let checkins = checkins::judge(&output, &portal, looked_back, portal.now() - 7 * HOUR);
    let set = details::judge(&output, &portal, started);
    let others = [
        "approval_requests",
        "remediations",
        checkins::SOURCE,
        details::SOURCE,
        private::THREATS,
        private::REMEDIATIONS,
    ];
    output.records.retain(|record| !others.contains(&&*record.source));
    let truth =
        Truth::of(&portal).and(&portal, Source::Threats).with(&portal, &["organizations", "policies"]);
    let settled = portal.now() - 60 * SECOND;
    let verdict = compare(&truth, &output, |source, row| {
        let at = micros(&row.date_time);
        at < settled && (source != Source::SystemAudit || at >= started)
    });
    assert!(verdict.is_clean(), "SEED={seed}: {verdict}\n{}", verdict.examples());
    let enough = verdict.0.values().all(|tally| tally.owed > 2)
        && owed > 20
        && steps > 100
        && tabs > 100
        && checkins > 200
        && set > 5;
    assert!(
        enough,
        "SEED={seed}: {verdict:?}, {told} of {owed} maintenances, {steps} steps, {silent} silent, {tabs} of tabs, {checkins} check-ins, {set} changed settings"
    );
}
