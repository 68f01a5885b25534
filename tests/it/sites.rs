//! Several sites on one portal, and which organizations a site covers.

use std::process::Command;

use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};

use tokio::task::spawn_blocking;

use crate::support::app::{HOUR, SOON, Setup, Site, TestApp, fresh_seed, streams};
use crate::support::binary::Place;
use crate::support::output::Output;

fn small() -> WorldOptions {
    WorldOptions { seed: fresh_seed(), rows_per_day: 3_000, ..WorldOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sites_that_see_the_same_organizations_deliver_each_row_once() {
    let mut second = Site::new("second", "all");
    second.own_token = true;
    let sites = vec![Site::new("first", "all"), second];
    let app = TestApp::start(Setup { world: small(), sites, ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    app.advance(3 * HOUR);
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    let status = app.status().await;
    assert!(streams(&status).all(|stream| stream.last_error.is_none()), "{status:?}");
    let json = app.status_json().await;
    app.note("claims", format_args!("problems {}", json["problems"]));
    app.finish("two sites, one tree").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_of_its_own_organization_delivers_that_one() {
    let sites = vec![Site::new("acme", "own")];
    let app =
        TestApp::start(Setup { world: small(), sites, covers: Some(vec![0]), ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    app.advance(3 * HOUR);
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish("own").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_of_named_organizations_delivers_those() {
    let world = small();
    // By name in any case, and by id.
    let id = lockstep::simulator::world::World::new(world.clone()).organizations[2].id;
    let sites = vec![Site::new("acme", &format!("[\"bäckerei müßig gmbh\", {id}]"))];
    let app = TestApp::start(Setup { world, sites, covers: Some(vec![1, 2]), ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    app.advance(3 * HOUR);
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish("named organizations").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_the_portal_does_not_know_is_told_and_stops_no_other_organization() {
    let world = small();
    let id = lockstep::simulator::world::World::new(world.clone()).organizations[1].id;
    let sites = vec![Site::new("acme", &format!("[{id}, \"no such organization\"]"))];
    let app = TestApp::start(Setup { world, sites, covers: Some(vec![1]), ..Setup::default() }).await;
    app.wait("told the unknown name and collected the other", SOON, |status| {
        status.problems.iter().any(|problem| problem.contains("no such organization"))
            && streams(status).any(|stream| stream.rows > 0 && stream.last_error.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_is_renamed_goes_on_where_it_was() {
    let mut app = TestApp::start(Setup { world: small(), ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    app.stop().await;
    app.advance(3 * HOUR);
    app.setup.sites[0].name = "acme-de".to_owned();
    app.configure();
    app.run().await;
    app.wait_caught_up(SOON).await;
    let status = app.status().await;
    assert_eq!(status.sites.iter().map(|site| site.site.as_str()).collect::<Vec<_>>(), ["acme-de"]);
    app.settle(1, SOON).await;
    app.finish("renamed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tokens_own_organization_can_be_given_by_its_name() {
    let world = small();
    let name = lockstep::simulator::world::World::new(world.clone()).organizations[0].name.clone();
    let sites = vec![Site::new("acme", &format!("[{name:?}]"))];
    let app = TestApp::start(Setup { world, sites, covers: Some(vec![0]), ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish("own by name").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_the_portal_does_not_know_fails_a_check_and_a_single_pass() {
    let sites = vec![Site::new("acme", "[\"Bäckerei Müßig GmbH\", \"no such organization\"]")];
    let app = TestApp::prepare(Setup { world: small(), sites, ..Setup::default() }).await;
    for arguments in [&["check", "--online"][..], &["once"]] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        program.args(arguments).arg("-c").arg(app.file());
        let program = spawn_blocking(move || program.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&[program.stdout, program.stderr].concat()).into_owned();
        assert_eq!(program.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("the portal knows none called no such organization"), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_asks_of_each_organization_of_a_list() {
    let sites = vec![Site::new("acme", "[\"Bäckerei Müßig GmbH\", \"Example MSP\"]")];
    let app = TestApp::prepare(Setup { world: small(), sites, ..Setup::default() }).await;
    let check = async || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        program.args(["check", "--online"]).arg("-c").arg(app.file());
        let program = spawn_blocking(move || program.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&[program.stdout, program.stderr].concat()).into_owned();
        (program.status.code(), said)
    };
    let (code, said) = check().await;
    assert_eq!(code, Some(0), "{said}");
    let second = app.portal.organization(0);
    // The list of what is below an organization does not name that one.
    for name in ["Bäckerei Müßig GmbH", &second.to_string()] {
        assert!(said.contains(&format!("asking of         {name}")), "{said}");
    }
    let refused = Effect::Status { status: 400, retry_after: None, message: None };
    app.portal.fault(Fault::always(refused).at(Endpoint::Computers).of(second));
    let (code, said) = check().await;
    assert_eq!(code, Some(1), "the second one is not readable: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sites_with_one_token_keep_its_rate_together() {
    let site = |name: &str| {
        let more = vec!["rate: { per_second: 20, concurrent: 2 }".to_owned()];
        Site { more, ..Site::new(name, "all") }
    };
    let sites = vec![site("first"), site("second")];
    let setup = Setup { world: small(), sites, every: 100, page_size: 50, ..Setup::default() };
    let app = TestApp::start(setup).await;
    app.wait_caught_up(2 * SOON).await;
    let stats = app.portal.stats();
    app.note(
        "one token",
        format_args!(
            "{} requests, at most {} in a second and {} at once",
            stats.requests, stats.peak_per_second, stats.max_concurrent
        ),
    );
    assert!(stats.requests > 60, "{}", stats.requests);
    assert!(stats.peak_per_second <= 20, "{} requests in one second", stats.peak_per_second);
    assert!(stats.max_concurrent <= 2, "{} requests at once", stats.max_concurrent);
    app.advance(HOUR);
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    app.finish("one token").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_tenant_in_the_same_file_is_told_and_delivers_nothing() {
    let tenant = async |seed| {
        let world = WorldOptions { live: false, own_noise: false, ..small() };
        let portal = Simulator::start(World::new(WorldOptions { seed, ..world }), Options::default());
        let portal = portal.await.unwrap();
        portal.stage().clock.freeze(true);
        portal
    };
    let (ours, theirs) = (tenant(1).await, tenant(2).await);
    assert_ne!(ours.organization(0), theirs.organization(0));
    let place = Place::new(&ours, "1MiB");
    let once = async || {
        let mut once = place.start("once", None);
        once.ended_within(2 * SOON).await.expect("a pass ends").code()
    };
    let uids = || {
        let records = Output::read(&place.out()).records.into_iter();
        records.map(|record| record.uid).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(once().await, Some(0), "{}", place.said());
    let delivered = uids();
    assert!(!delivered.is_empty());

    std::fs::write(place.path("token"), &theirs.token).unwrap();
    place.reconfigure(&ours.url, &theirs.url);
    let (now, before) = (theirs.organization(0), ours.organization(0));
    let told =
        format!("the token belongs to organization {now}, and this site has collected {before} so far");
    // What a token does not reach is answered with nothing by one portal, and with an error by another.
    let refused = Effect::Status { status: 400, retry_after: None, message: None };
    let times = || place.said().matches(&told).count();
    for fault in [None, Some(refused)] {
        fault.map(|effect| theirs.fault(Fault::always(effect).at(Endpoint::ChildOrganizations)));
        let before = times();
        assert_eq!(once().await, Some(1), "{}", place.said());
        assert!(times() > before, "{}", place.said());
        assert_eq!(uids(), delivered, "a row of the other tenant");
    }

    std::fs::write(place.path("token"), &ours.token).unwrap();
    place.reconfigure(&theirs.url, &ours.url);
    assert_eq!(once().await, Some(0), "{}", place.said());
    assert_eq!(uids(), delivered, "nothing happened meanwhile");
}
