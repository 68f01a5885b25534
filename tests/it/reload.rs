//! A configuration that changes while the program runs: what changed takes effect, what did not is not
//! disturbed, what is wrong is refused, and no row is lost or doubled by any of it.

use std::process::{Command, Stdio};
use std::time::Duration;

use lockstep::control;
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use lockstep::status::Status;
use tokio::time::{Instant, sleep};

use crate::support::app::{HOUR, MINUTE, SOON, Setup, Site, TestApp, fresh_seed, streams};
use crate::support::binary::{Place, Signal};
use crate::support::output::{Output, files};

/// A program that takes over what is written, with a site for each of the three organizations.
async fn following(rows_per_day: i64, folders: bool) -> TestApp {
    let world = WorldOptions { seed: fresh_seed(), rows_per_day, ..WorldOptions::default() };
    let setup = Setup { world, follows: true, folders, every: 100, page_size: 200, ..Setup::default() };
    let mut app = TestApp::prepare(setup).await;
    let of = |index| format!("[{}]", app.portal.organization(index));
    app.setup.sites = vec![Site::new("home", "own"), Site::new("north", &of(1)), Site::new("south", &of(2))];
    app.configure();
    app.run().await;
    // What is owed is counted from here.
    app.wait("began", SOON, |status| {
        streams(status).count() == 9 && streams(status).all(|stream| stream.last_success.is_some())
    })
    .await;
    app
}

/// Half an hour of rows in a second, of which nobody waits for the end.
async fn flow(app: &TestApp) {
    for _ in 0..6 {
        app.advance(5 * MINUTE);
        sleep(Duration::from_millis(150)).await;
    }
}

fn sites(status: &Status) -> Vec<&str> {
    status.sites.iter().map(|site| site.site.as_str()).collect()
}

fn sinks(status: &Status) -> Vec<&str> {
    status.sinks.iter().map(|sink| sink.name.as_str()).collect()
}

/// Requests of a site's streams since they were begun.
fn requests(status: &Status, site: &str) -> u64 {
    let site = status.sites.iter().find(|one| one.site == site).expect("the site is there");
    site.streams.iter().map(|stream| stream.requests).sum()
}

/// Waits for an answer of the running program.
async fn answered(place: &Place, what: &str, wanted: &dyn Fn(&Status) -> bool) {
    let end = Instant::now() + SOON;
    loop {
        let answer = control::ask(&place.state(), "GET", "/status").await.unwrap();
        let status: Option<Status> = answer.map(|answer| serde_json::from_slice(&answer.body).unwrap());
        if status.as_ref().is_some_and(wanted) {
            return;
        }
        assert!(Instant::now() < end, "it never {what}: {status:?}\n{}", place.said());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_format_is_chosen_a_sink_keeps_the_one_of_its_first_start() {
    let world = WorldOptions { seed: fresh_seed(), rows_per_day: 1_000, ..WorldOptions::default() };
    let portal = Simulator::start(World::new(world), Options::default()).await.unwrap();
    let place = Place::new(&portal, "64KiB");
    place.reconfigure("level: warn", "level: info");
    // Whether all is proven is up to the seed, and another matter.
    let once = async || {
        place.start("once", None).ended_within(SOON).await.unwrap();
        place.said()
    };
    once().await;
    let before = Output::read(&place.out()).records.len();
    place.reconfigure("    format: raw\n", "");
    portal.stage().clock.advance(6 * HOUR);
    let said = once().await;
    assert!(said.contains("keeps the format of its first start, raw; the default is ocsf 1.5 now"), "{said}");
    let output = Output::read(&place.out());
    assert!(output.records.len() > before && before > 0 && output.broken.is_empty(), "{:?}", output.broken);
    let mut program = place.start("run", None);
    answered(&place, "ran", &|status| status.sites.iter().any(|site| !site.streams.is_empty())).await;
    place.reconfigure("organizations: all", "organizations: all\n    contact: x");
    program.signal(Signal::HUP);
    answered(&place, "took a change", &|status| status.sites.iter().any(|site| site.contact.is_some())).await;
    program.signal(Signal::TERM);
    program.ended_within(SOON).await;
    let output = Output::read(&place.out());
    assert!(output.broken.is_empty(), "{:?}", output.broken);
    place.reconfigure("    type: file\n", "    type: file\n    format: ocsf\n");
    let mut program = place.start("once", None);
    assert_eq!(program.ended_within(SOON).await.unwrap().code(), Some(1));
    assert!(place.said().contains("its format was pinned as `raw`"), "{}", place.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_while_rows_flow_lose_and_double_nothing() {
    let mut app = following(40_000, false).await;
    let second = app.out_folder().with_file_name("second");
    let entry = format!(
        "{{ name: second, type: file, path: \"{}/{{source}}.ndjson\", format: raw }}",
        second.display()
    );
    flow(&app).await;

    let asked = app.portal.stats().requests;
    app.setup.page_size = 70;
    app.configure();
    app.wait("asked for smaller pages", SOON, |_| {
        app.portal.requests_since(asked).iter().any(|one| one.size == 70)
    })
    .await;
    flow(&app).await;

    let south = app.setup.sites.pop().unwrap();
    app.setup.sinks.push(entry.clone());
    app.configure();
    app.wait("left out a site and added a sink", SOON, |status| {
        sites(status) == ["home", "north"] && sinks(status) == ["out", "second"]
    })
    .await;
    let asked = app.portal.stats().requests;
    flow(&app).await;
    let left_out = Some(app.portal.organization(2).to_string());
    let asked = app.portal.requests_since(asked);
    assert!(
        asked.len() > 10 && asked.iter().all(|one| one.organization != left_out),
        "it is still asked for"
    );

    app.setup.sink = ", rotate: { size: 64KiB, age: 10m }".to_owned();
    app.configure();
    let closed = |app: &TestApp| {
        let found = files(&app.out_folder());
        found.iter().filter(|file| file.extension().is_some_and(|end| end == "ndjson")).count()
    };
    flow(&app).await;
    app.wait("closed files by their new size", SOON, |_| closed(&app) > 5).await;

    app.setup.sinks.clear();
    app.setup.sites.insert(0, south.clone());
    app.configure();
    app.wait("took the site back and left out the sink", SOON, |status| {
        sites(status) == ["home", "north", "south"] && sinks(status) == ["out"]
    })
    .await;
    flow(&app).await;

    // Over and over, in the middle of whatever is in hand.
    for round in 0..6 {
        app.setup.page_size = 60 + round;
        app.setup.sink = format!(", rotate: {{ size: {}KiB }}", 200 + round);
        app.configure();
        sleep(Duration::from_millis(350)).await;
        app.advance(5 * MINUTE);
    }
    app.setup.sinks.push(entry);
    app.configure();
    app.wait("took the sink back", SOON, |status| sinks(status) == ["out", "second"]).await;
    flow(&app).await;
    app.wait_caught_up(2 * SOON).await;
    app.settle(1, 2 * SOON).await;
    app.stop().await;
    let verdict = app.verdict(&Output::read(&second));
    app.note("the second sink", &verdict);
    assert!(verdict.is_clean(), "the second sink: {verdict}\n{}", verdict.examples());
    let output = app.finish("changed while rows flow").await;
    assert!(output.records.len() > 10_000, "{}", output.records.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_changed_is_begun_anew() {
    let mut app = following(3_000, false).await;
    app.wait_caught_up(SOON).await;
    let before = app.wait("asked a while", SOON, |status| requests(status, "home") > 60).await;
    app.setup.sites[1].more.push("sources: { computers: { enabled: false } }".to_owned());
    app.configure();
    let after = app
        .wait("dropped a source of one site", SOON, |status| {
            let streams = |site: usize| status.sites.get(site).map(|site| site.streams.len());
            (streams(0), streams(1), streams(2)) == (Some(3), Some(2), Some(3))
        })
        .await;
    for site in ["home", "south"] {
        assert!(requests(&after, site) >= requests(&before, site), "{site} was disturbed");
    }
    assert!(requests(&after, "north") < requests(&before, "north"), "north goes on as it was");
    app.setup.sites[1].more.pop();
    app.configure();
    app.wait("took the source back", SOON, |status| status.sites[1].streams.len() == 3).await;
    app.advance(HOUR);
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish("only what changed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_wrong_is_refused_as_a_whole_and_the_old_one_goes_on() {
    let mut app = following(3_000, false).await;
    app.wait_caught_up(SOON).await;
    let right = std::fs::read_to_string(app.file()).unwrap();
    let state = app.state_folder().display().to_string();
    for (wrong, said) in [
        (
            right.replace("organizations: own", "organisations: own\n    contact: new"),
            "organisations: unknown key",
        ),
        (right.replace(&state, "/elsewhere"), "state.dir cannot change while lockstep runs"),
        (right.replace("ops: off", "ops: 127.0.0.1:0"), "server cannot change while lockstep runs"),
        ("connections: [".to_owned(), "is not valid YAML"),
    ] {
        // Something right beside it is refused with it.
        std::fs::write(app.file(), wrong.replace("site: south", "site: other")).unwrap();
        let status = app
            .wait("refused the change", SOON, |status| {
                status.configuration.iter().any(|one| one.contains(said) && one.contains("is refused"))
            })
            .await;
        assert!(!status.fresh && status.problems[0].contains(said), "{:?}", status.problems);
        assert_eq!(sites(&status), ["home", "north", "south"]);
        assert!(status.sites.iter().all(|site| site.contact.is_none()));
        app.advance(10 * MINUTE);
        app.wait_caught_up(SOON).await;
    }
    app.configure();
    app.wait("took the right one", SOON, |status| status.configuration.is_empty()).await;
    app.setup.sites[0].more.push("contact: new".to_owned());
    app.configure();
    app.wait("took a change again", SOON, |status| status.sites[0].contact.is_some()).await;
    app.settle(1, SOON).await;
    app.finish("refused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_wrong_stops_only_its_own_site_until_it_is_mended() {
    let mut app = following(3_000, true).await;
    app.stop().await;
    let settings = app.sites_folder().join("south/site.yaml");
    let right = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, right.replace("base_url", "base_ulr")).unwrap();
    app.run().await;
    let told = |status: &Status, site: &str| {
        status.configuration.len() == 1
            && status.configuration[0].contains(&format!("site {site} is left out"))
    };
    let status = app.wait("left out a site", SOON, |status| told(status, "south")).await;
    assert!(sites(&status) == ["home", "north"] && !status.fresh, "{:?}", status.problems);
    app.wait_caught_up(SOON).await;
    // The first look is over: the mended file must be noticed by itself.
    sleep(Duration::from_secs(1)).await;
    std::fs::write(&settings, right).unwrap();
    app.wait("began the mended site", SOON, |status| {
        status.configuration.is_empty() && sites(status) == ["home", "north", "south"]
    })
    .await;
    app.wait_caught_up(SOON).await;
    let token = app.sites_folder().join("north/token");
    std::fs::remove_file(&token).unwrap();
    app.wait("ended a site without a token", SOON, |status| {
        told(status, "north") && sites(status) == ["home", "south"]
    })
    .await;
    app.advance(HOUR);
    app.wait_caught_up(SOON).await;
    std::fs::write(&token, &app.portal.token).unwrap();
    app.wait("began it again", SOON, |status| status.configuration.is_empty() && status.sites.len() == 3)
        .await;
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish("folders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_loads_the_configuration_at_once_and_status_tells_what_is_wrong_with_it() {
    let world = World::new(WorldOptions { seed: fresh_seed(), ..WorldOptions::default() });
    let portal = Simulator::start(world, Options::default()).await.unwrap();
    let place = Place::new(&portal, "1MiB");
    let mut program = place.start("run", None);
    let wait = async |what, wanted: &dyn Fn(&Status) -> bool| answered(&place, what, wanted).await;
    wait("ran", &|status| status.sites.iter().any(|site| !site.streams.is_empty())).await;
    let file = place.path("lockstep.yaml");
    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, right.replace("organizations: all", "organizations: all\n    contct: x")).unwrap();
    let began = Instant::now();
    program.signal(Signal::HUP);
    wait("refused it", &|status| !status.configuration.is_empty()).await;
    // Two looks five seconds apart would take longer.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(place.said().contains("is refused and the old one goes on"), "{}", place.said());

    let status = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(["status", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&status.stdout), String::from_utf8_lossy(&status.stderr));
    assert!(status.status.success() && out.contains("is refused") && err.contains("contct"), "{out}\n{err}");

    std::fs::write(&file, right.replace("organizations: all", "organizations: all\n    contact: x")).unwrap();
    program.signal(Signal::HUP);
    wait("took it", &|status| status.configuration.is_empty() && status.sites[0].contact.is_some()).await;
    assert!(program.ended_within(Duration::from_millis(10)).await.is_none());
}
