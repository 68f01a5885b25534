//! Many organizations behind one token, and many tokens in one process: what it costs in requests and memory, and
//! that no organization waits for the others.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::process::{Command, Output as Ended};
use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep::control;
use lockstep::model::{Micros, SECOND};
use lockstep::simulator::dialect::{Axis, Dialect};
use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::truth::TruthRow;
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use lockstep::status::{SiteStatus, Status, StreamStatus};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::support::app::{
    DAY, HOUR, MINUTE, SOON, Setup, Site, TestApp, date, delivered, fresh_seed, in_short, is_window, setting,
    streams, windows,
};
use crate::support::binary::{Place, Running, Signal};
use crate::support::output::Output;
use crate::support::say;
use crate::support::verdict::{Truth, compare, hash, micros};

const MIB: u64 = 1 << 20;
/// What one process may have in memory.
const MOST_MEMORY: u64 = 120 * MIB;

/// No event is refused for the sake of a test.
const ALL_OF_IT: (&str, &str) = ("LOCKSTEP_REFUSE", "18446744073709551615");

/// A tenant with so many children, of which one in fifty is busy.
fn tenant(children: u16, rows_per_day: i64, backlog_hours: i64) -> WorldOptions {
    WorldOptions {
        seed: fresh_seed(),
        organizations: children + 1,
        one_busy_in: 50,
        computers: 2 * u32::from(children),
        rows_per_day,
        audit_rows_per_day: rows_per_day / 20,
        backlog_hours,
        late_share: 0.0,
        ..WorldOptions::default()
    }
}

async fn portal(world: WorldOptions) -> Simulator {
    Simulator::start(World::new(world), Options::default()).await.unwrap()
}

/// Writes a configuration with these lines and defaults for the rest.
fn configure(place: &Place, lines: &str) {
    let (state, out) = (place.state(), place.out());
    let (state, out) = (state.display(), out.display());
    let text = format!(
        "{lines}state: {{ dir: {state} }}
server: {{ ops: off }}
log: {{ level: warn }}
sinks:
  - {{ name: out, type: file, path: \"{out}/{{site}}/{{source}}-{{date}}.ndjson\", format: raw }}
"
    );
    fs::write(place.path("lockstep.yaml"), text).unwrap();
}

/// One site with all organizations. `faster`: by how much its sources are polled more often than by default.
fn one_token(place: &Place, portal: &Simulator, faster: u64) {
    let token = place.path("token");
    let mut lines = format!(
        "connections:\n  - {{ site: acme, base_url: \"{}\", token: {{ file: {} }}, organizations: all, organization_id: {}",
        portal.url,
        token.display(),
        // An organization among many need not have a computer that would tell it.
        portal.organization(0)
    );
    if faster == 1 {
        return configure(place, &(lines + " }\n"));
    }
    lines += ", rate: unlimited }\nsources:\n";
    let defaults = [
        ("unified_audit", 60),
        ("system_audit", 120),
        ("threats", 60),
        ("computers", 900),
        ("organizations", 3_600),
        ("policies", 21_600),
        ("approval_requests", 60),
        ("remediations", 60),
    ];
    for (source, every) in defaults {
        lines += &format!("  {source}: {{ every: {}ms }}\n", every * 1_000 / faster);
    }
    configure(place, &lines);
}

/// The status of the running program, once it answers.
async fn status(place: &Place) -> Option<Status> {
    let answer = control::ask(&place.state(), "GET", "/status").await.ok()??;
    serde_json::from_slice(&answer.body).ok()
}

async fn wait(place: &Place, what: &str, long: Duration, wanted: impl Fn(&Status) -> bool) -> Status {
    let end = Instant::now() + long;
    loop {
        let status = status(place).await;
        if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
            return status.clone();
        }
        assert!(
            Instant::now() < end,
            "it never {what}: {}\n{}",
            status.as_ref().map_or_else(String::new, in_short),
            place.said()
        );
        sleep(Duration::from_millis(200)).await;
    }
}

async fn wait_caught_up(place: &Place, portal: &Simulator, long: Duration) {
    // `settle` of the slowest source, and what a poll by default and a commit take.
    let until = date(portal.now() - 8 * MINUTE);
    wait(place, "caught up", long, |status| {
        let is_there = |one: &StreamStatus| one.live_until >= Some(until) && one.owed.is_none();
        windows(status).count() > 2
            && windows(status).all(is_there)
            && streams(status).all(|one| one.last_error.is_none())
            && delivered(status)
    })
    .await;
}

async fn stopped(mut program: Running) {
    program.signal(Signal::TERM);
    assert!(program.ended_within(SOON).await.is_some_and(|ended| ended.success()));
}

/// Ends a program that was told which arguments.
async fn run(place: &Place, arguments: &[&str]) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    program.args(arguments).arg("-c").arg(place.path("lockstep.yaml"));
    let Ended { status, stdout, stderr } = spawn_blocking(move || program.output()).await.unwrap().unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// The longest that a row of each organization waited from when the portal listed it until it was collected.
fn lags(portal: &Simulator, output: &Output, (since, until): (Micros, Micros)) -> BTreeMap<String, Micros> {
    let rows = portal.truth(Source::UnifiedAudit, true);
    let known: HashMap<_, _> = rows.iter().map(|row| (hash(row), row)).collect();
    let mut lags = BTreeMap::new();
    for record in output.records.iter().filter(|record| record.source == "unified_audit") {
        let Some(row) = known.get(&record.hash) else { continue };
        let imported = micros(&row.date_time_imported);
        if (since..until).contains(&imported) {
            let longest = lags.entry(row.organization_id.clone()).or_insert(0);
            *longest = (micros(&record.collected) - imported).max(*longest);
        }
    }
    lags
}

/// Lets a tenant of 500 organizations be collected at the defaults, so many times as fast, for so long on the portal's
/// time, and compares what came with what is promised.
async fn five_hundred_organizations(world: WorldOptions, faster: u64, long: Micros) {
    let portal = portal(world).await;
    let place = Place::with_sink(&portal, "");
    one_token(&place, &portal, faster);
    let (code, said) = run(&place, &["check"]).await;
    assert_eq!(code, Some(0), "{said}");
    let program = place.start_with("run", &[ALL_OF_IT]);
    wait_caught_up(&place, &portal, 4 * SOON).await;
    let (before, since) = (portal.stats(), portal.now());
    while portal.now() < since + long {
        sleep(Duration::from_millis(100)).await;
        portal.advance(i64::try_from(faster - 1).unwrap() * SECOND / 10);
    }
    let (after, passed) = (portal.stats(), portal.now() - since);
    #[expect(clippy::cast_precision_loss, reason = "requests and minutes of a test")]
    let rate = (after.requests - before.requests) as f64 / (passed as f64 / SECOND as f64);
    // Nothing new comes: what is there is to be delivered.
    portal.stage().world.options.live = false;
    if faster > 1 {
        portal.advance(HOUR);
    }
    wait_caught_up(&place, &portal, 4 * SOON).await;
    let (peak, now) = (program.memory("VmHWM"), program.memory("VmRSS"));
    stopped(program).await;
    let mut output = Output::read(&place.out());
    // What came last is collected after the clock was moved.
    let lags = lags(&portal, &output, (since, since + passed - 6 * MINUTE));
    let mut sorted: Vec<_> = lags.values().copied().collect();
    sorted.sort_unstable();
    let (median, slowest) = (sorted[sorted.len() / 2], *sorted.last().unwrap());
    let by_endpoint: BTreeMap<_, _> = after
        .requests_by_endpoint
        .iter()
        .map(|(endpoint, all)| {
            (format!("{endpoint:?}"), all - before.requests_by_endpoint.get(endpoint).unwrap_or(&0))
        })
        .collect();
    say(format_args!(
        "500 organizations: {rate:.3} requests/s over {} min ({by_endpoint:?}); lag of {} organizations: median {} s, \
         slowest {} s; {} MiB now, {} MiB at most",
        passed / MINUTE,
        lags.len(),
        median / SECOND,
        slowest / SECOND,
        now / MIB,
        peak / MIB
    ));
    assert!(rate < 1.0, "{rate} requests a second");
    assert!(lags.len() > 20, "{} organizations had rows", lags.len());
    assert!(slowest < 3 * median, "the slowest waited {slowest}, the one in the middle {median}");
    assert!(peak < MOST_MEMORY, "{} MiB", peak / MIB);
    let ours = ["unified_audit", "system_audit"];
    output.records.retain(|record| ours.contains(&record.source.as_str()));
    let end = portal.now() - 30 * MINUTE;
    let began = since - DAY;
    let owed =
        |_: Source, row: &TruthRow| row.listed && (began + HOUR..end).contains(&micros(&row.date_time));
    let verdict = compare(&Truth::of(&portal).only(|source| ours.contains(&source)), &output, owed);
    assert!(verdict.is_clean(), "{verdict}\n{}", verdict.examples());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_organizations_behind_one_token_cost_less_than_a_request_a_second_and_none_waits_longer()
{
    five_hundred_organizations(tenant(500, 60_000, 6), 60, 20 * MINUTE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes MINUTES (20) at the defaults: make scale"]
async fn long() {
    let minutes = setting("MINUTES").unwrap_or(20);
    five_hundred_organizations(tenant(500, 200_000, 24), 1, minutes * MINUTE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_organizations_that_needs_more_than_its_token_may_ask_fails_a_check_with_both_figures() {
    let portal = portal(WorldOptions { rows_per_day: 0, ..tenant(1, 0, 1) }).await;
    let place = Place::with_sink(&portal, "");
    let names: Vec<String> = (0..500).map(|number| format!("Organization {number}")).collect();
    let site = |rate: &str| {
        let (token, names) = (place.path("token"), names.join(", "));
        let token = token.display();
        let url = &portal.url;
        format!(
            "connections:\n  - {{ site: acme, base_url: \"{url}\", token: {{ file: {token} }}, organizations: [{names}]{rate} }}\n"
        )
    };
    configure(&place, &site(""));
    let (code, said) = run(&place, &["check"]).await;
    assert_eq!(code, Some(2), "{said}");
    let needed: f64 = {
        let (_, after) = said.split_once("needs ").expect("it says what it needs");
        after.split_once(" requests/s").unwrap().0.parse().unwrap()
    };
    assert!(needed > 50.0, "{said}");
    for told in [
        &format!("needs {needed:.2} requests/s"),
        "of the 5/s that rate.per_second allows",
        "organizations: all",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    configure(&place, &site(", rate: { stretch: true }"));
    let (code, said) = run(&place, &["check"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("needs {needed:.2} requests/s of 5/s allowed")), "{said}");
    assert!(said.contains("polling needs 4.00 requests/s (80 %)"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_hundred_tokens_in_folders_a_wrong_one_stops_only_its_own_site() {
    const SITES: usize = 300;
    let world = WorldOptions { one_busy_in: 0, ..tenant(u16::try_from(SITES).unwrap(), 60_000, 2) };
    let portal = portal(world).await;
    let place = Place::with_sink(&portal, "");
    let sites = place.path("sites");
    let site = |name: &str, token: &str, settings: &str| {
        let folder = sites.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("token"), token).unwrap();
        fs::write(folder.join("site.yaml"), settings).unwrap();
        folder
    };
    let settings = |index: usize| {
        let (url, own) = (&portal.url, portal.organization(index));
        format!("base_url: {url}\norganization_id: {own}\n")
    };
    for number in 1..=SITES {
        site(&format!("site-{number}"), &portal.add_token(), &settings(number));
    }
    // Read in vain: no YAML, a setting that there is not, a token that cannot be read, and one that opens nothing.
    let torn = site("torn", &portal.add_token(), "base_url: [");
    site("odd", &portal.add_token(), &(settings(1) + "organisations: all\n"));
    let locked = site("locked", "", &settings(2));
    fs::remove_file(locked.join("token")).unwrap();
    fs::create_dir(locked.join("token")).unwrap();
    site("revoked", &"0".repeat(64), &settings(3));
    configure(&place, &format!("connections: {{ dir: {} }}\n", sites.display()));

    let (code, said) = run(&place, &["check"]).await;
    assert_eq!(code, Some(2), "{said}");
    for told in ["site torn is left out", "site odd is left out", "site locked is left out", "organisations"]
    {
        assert!(said.contains(told), "{told}: {said}");
    }
    let program = place.start_with("run", &[ALL_OF_IT]);
    let until = date(portal.now() - 8 * MINUTE);
    let is_well = |site: &&SiteStatus| {
        let there = |one: &&StreamStatus| {
            is_window(&one.source)
                && one.live_until >= Some(until)
                && one.last_error.is_none()
                && one.owed.is_none()
        };
        site.streams.iter().filter(there).count() == 3
    };
    let status = wait(&place, "collected from all that are right", 4 * SOON, |status| {
        status.sites.iter().filter(is_well).count() == SITES && delivered(status)
    })
    .await;
    for told in ["site torn is left out", "site odd is left out", "site locked is left out", "site revoked: "]
    {
        assert!(
            status.problems.iter().any(|problem| problem.contains(told)),
            "{told}: {:#?}",
            status.problems
        );
    }
    assert_eq!(status.problems.len(), 4, "{:#?}", status.problems);
    // What was wrong is mended, and nobody else is disturbed.
    fs::write(torn.join("site.yaml"), settings(4)).unwrap();
    let (peak, now) = (program.memory("VmHWM"), program.memory("VmRSS"));
    stopped(program).await;
    say(format_args!(
        "{SITES} tokens: {} requests, {} MiB now, {} MiB at most",
        portal.stats().requests,
        now / MIB,
        peak / MIB
    ));
    let mut output = Output::read(&place.out());
    let ours = ["unified_audit"];
    output.records.retain(|record| ours.contains(&record.source.as_str()));
    let began = portal.stage().world.options.start - DAY;
    let owed = |_: Source, row: &TruthRow| {
        row.listed && (began + HOUR..until.timestamp_micros()).contains(&micros(&row.date_time))
    };
    let parent = portal.organization(0).to_string();
    let truth = Truth::of(&portal)
        .only(|source| ours.contains(&source))
        .within(|organization| organization != parent);
    let verdict = compare(&truth, &output, owed);
    assert!(verdict.is_clean(), "{verdict}\n{}", verdict.examples());
}

/// How a site is asked that has changed from the tree to its organizations.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    Reload,
    Restart,
}

/// Changes a site from the tree to each of its organizations and back, each time after a time that is longer than a
/// new stream would begin with, of which nothing was collected.
async fn switches(change: Change, dialect: Dialect) {
    let world = WorldOptions {
        seed: fresh_seed(),
        organizations: 6,
        rows_per_day: 12_000,
        ..WorldOptions::default()
    };
    let with = vec!["threats", "policies"];
    let follows = change == Change::Reload;
    let names_organization = true;
    let setup = Setup {
        world,
        dialect,
        with,
        follows,
        names_organization,
        backfill: 7_200,
        page_size: 200,
        ..Setup::default()
    };
    let mut app = TestApp::start(setup).await;
    app.wait_caught_up(SOON).await;
    let each: Vec<String> = (0..6).map(|index| app.portal.organization(index).to_string()).collect();
    let each = format!("[{}]", each.join(", "));
    for (organizations, streams_then) in [(each.as_str(), 6), ("all", 1), (each.as_str(), 6)] {
        if change == Change::Restart {
            app.stop().await;
        }
        let away = app.portal.fault(Fault::always(Effect::Down { reset: false }));
        app.advance(5 * HOUR);
        app.setup.sites = vec![Site::new("acme", organizations)];
        app.configure();
        if change == Change::Restart {
            app.portal.clear_faults(Some(away));
            app.run().await;
        } else {
            // Before anything of the outage is made up for.
            app.wait("took the change over", SOON, |status| {
                // Without the list of organizations nothing is asked of single ones.
                let fails = status.sites.iter().any(|site| site.last_error.is_some());
                if streams_then == 1 { streams(status).all(|one| one.scope == "tree") } else { fails }
            })
            .await;
            app.portal.clear_faults(Some(away));
        }
        app.wait("asked in the other way", SOON, |status| {
            streams(status).filter(|one| one.source == "unified_audit").count() == streams_then
        })
        .await;
        app.wait_caught_up(2 * SOON).await;
        app.advance(20 * MINUTE);
        app.wait_caught_up(SOON).await;
    }
    // Twice, since the first day may end a scrub that began long before.
    app.settle(2, 2 * SOON).await;
    app.finish("from the tree to its organizations and back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_changes_between_tree_and_organizations_while_it_runs_loses_and_doubles_nothing() {
    switches(Change::Reload, Dialect::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_changes_between_tree_and_organizations_at_a_restart_loses_and_doubles_nothing() {
    switches(Change::Restart, Dialect::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn organizations_of_a_portal_that_files_by_the_time_of_import_change_to_the_tree_and_back_as_well() {
    switches(Change::Restart, Dialect { axis: Axis::Imported, ..Dialect::default() }).await;
}

/// Lets hours pass until the status is as wanted, or two days.
async fn a_while(app: &TestApp, wanted: impl Fn(&Status) -> bool) {
    for _ in 0..12 {
        app.advance(4 * HOUR);
        app.wait_caught_up(SOON).await;
        if wanted(&app.status().await) {
            return;
        }
    }
}

/// Nothing new comes, whatever else is wrong stays so, and everything is looked over again.
async fn a_day_later(app: &TestApp, is_done: impl Fn(&Status) -> bool) {
    {
        let mut stage = app.portal.stage();
        stage.tick();
        stage.world.options.live = false;
        stage.world.options.own_noise = false;
    }
    let scrubbed = date(app.advance(26 * HOUR) - HOUR);
    app.wait("looked everything over again", 2 * SOON, |status| {
        let over = |one: &StreamStatus| one.one_by_one || one.scrubbed.is_some_and(|at| at >= scrubbed);
        let seen = |one: &StreamStatus| one.live_until.is_some_and(|at| at >= scrubbed);
        windows(status).all(over)
            && streams(status).filter(|one| one.source == "computers").all(seen)
            && is_done(status)
            && delivered(status)
    })
    .await;
}

/// Whether a stream of the unified audit of this organization alone has nothing left to do.
fn is_read(status: &Status, organization: &str, until: Micros) -> bool {
    streams(status).any(|one| {
        one.source == "unified_audit"
            && one.scope == organization
            && covers(one, date(until))
            && one.owed.is_none()
            && one.last_error.is_none()
    })
}

/// Proven until then, or silent since, which is doubted where rows are usual.
fn covers(stream: &StreamStatus, until: DateTime<Utc>) -> bool {
    stream.live_until >= Some(until)
        || stream.unproven.iter().any(|one| one.state != "pending" && one.to >= until)
}

async fn compared(app: &mut TestApp, what: &str) {
    app.stop().await;
    let verdict = app.verdict(&app.output());
    assert!(verdict.is_clean(), "{what} (SEED={}): {verdict}\n{}", app.setup.world.seed, verdict.examples());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_the_tree_does_not_show_is_asked_alone_said_and_delivered_once() {
    let world =
        WorldOptions { seed: fresh_seed(), organizations: 4, rows_per_day: 6_000, ..WorldOptions::default() };
    let setup = Setup { world, names_organization: true, page_size: 200, ..Setup::default() };
    let mut app = TestApp::prepare(setup).await;
    let hidden = app.portal.organization(2);
    let fault = Fault::always(Effect::HiddenInTree).at(Endpoint::UnifiedAudit).of(hidden);
    let fault = app.portal.fault(fault);
    let hidden = hidden.to_string();
    app.run().await;
    app.wait_caught_up(SOON).await;
    // Once a day each of the four is asked whether the tree shows what it has.
    a_while(&app, |status| windows(status).any(|one| one.scope == hidden)).await;
    let status = app
        .wait("asked it alone", SOON, |status| {
            windows(status).any(|one| one.scope == hidden && one.owed.is_none())
        })
        .await;
    let said = format!("does not list the rows of organization {hidden} in the tree");
    assert!(status.problems.iter().any(|problem| problem.contains(&said)), "{:#?}", status.problems);
    assert!(status.fresh, "what is asked alone is not missing");
    let until = app.portal.now();
    a_day_later(&app, |status| is_read(status, &hidden, until)).await;
    compared(&mut app, "hidden in the tree").await;

    app.run().await;
    app.wait("asked it alone again", SOON, |status| is_read(status, &hidden, until)).await;
    app.portal.clear_faults(Some(fault));
    app.portal.stage().world.options.live = true;
    a_while(&app, |status| windows(status).all(|one| one.scope == "tree")).await;
    app.wait("left it to the tree", SOON, |status| windows(status).all(|one| one.scope == "tree")).await;
    app.settle(1, SOON).await;
    app.finish("hidden in the tree, and shown again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn organizations_of_a_tree_that_the_portal_refuses_are_asked_one_by_one_until_it_is_back() {
    let world =
        WorldOptions { seed: fresh_seed(), organizations: 4, rows_per_day: 6_000, ..WorldOptions::default() };
    let setup = Setup { world, names_organization: true, page_size: 200, ..Setup::default() };
    let mut app = TestApp::start(setup).await;
    app.wait_caught_up(SOON).await;
    let fault = app.portal.fault(Fault::always(Effect::TreeRefused).at(Endpoint::UnifiedAudit));
    app.advance(2 * HOUR);
    let until = app.portal.now() - 10 * MINUTE;
    let each: Vec<String> = (0..4).map(|index| app.portal.organization(index).to_string()).collect();
    let all = |status: &Status| each.iter().all(|one| is_read(status, one, until));
    let status = app.wait("asked each alone", 2 * SOON, all).await;
    let said = "the portal refuses the tree: each of its organizations is asked alone";
    assert!(status.problems.iter().any(|problem| problem.contains(said)), "{:#?}", status.problems);
    assert!(status.fresh, "{:#?}", status.problems);
    a_day_later(&app, all).await;
    compared(&mut app, "a refused tree").await;

    app.run().await;
    app.wait("asked each alone again", 2 * SOON, all).await;
    app.portal.clear_faults(Some(fault));
    app.wait("went back to the tree", 2 * SOON, |status| windows(status).all(|one| one.scope == "tree"))
        .await;
    app.portal.stage().world.options.live = true;
    app.advance(HOUR);
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish("a tree that was refused").await;
}
