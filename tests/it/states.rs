//! What is listed as a whole besides the computers: policies and organizations, over time and in every way in which a
//! portal may show them.

use std::time::Duration;

use lockstep::simulator::dialect::{Dialect, Pagination, Totals};
use lockstep::simulator::dice::Dice;
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::WorldOptions;
use lockstep::status::{Status, StreamCondition, StreamStatus};
use serde_json::Value;

use crate::support::app::{HOUR, SOON, Setup, Site, TestApp, fresh_seed, streams};
use crate::support::output::{Output, Record, files};

/// Much happens to policies and organizations, and little else.
fn eventful() -> WorldOptions {
    WorldOptions {
        seed: fresh_seed(),
        rows_per_day: 500,
        // Few go at once, or the removal guard does not believe it.
        policies: 60,
        policy_changes_per_day: 60,
        organizations: 5,
        organization_changes_per_day: 24,
        ..WorldOptions::default()
    }
}

fn setup(dialect: Dialect) -> Setup {
    Setup {
        world: eventful(),
        dialect,
        with: vec!["organizations", "policies"],
        without: vec!["unified_audit", "system_audit"],
        page_size: 7,
        ..Setup::default()
    }
}

fn of<'s>(status: &'s Status, source: &str) -> &'s StreamStatus {
    streams(status).find(|stream| stream.source == source).expect("its stream was waited for")
}

/// Waits until both were listed to the end twice at a time of the portal that is not before now.
async fn listed(app: &TestApp) {
    for _ in 0..2 {
        let now = app.portal.now();
        app.wait("listed all as it is", SOON, |status| {
            let is_there = |source: &&str| streams(status).any(|stream| stream.source == **source);
            app.setup.with.iter().all(is_there)
                && streams(status)
                    .all(|stream| stream.proven_until.is_some_and(|until| until.timestamp_micros() >= now))
        })
        .await;
        app.advance(60_000_000);
    }
}

/// Lets hours pass, now and then more than a poll, and proves that the files tell how things stand.
async fn play(mut app: TestApp, name: &str) -> Output {
    listed(&app).await;
    let mut dice = Dice::new(app.setup.world.seed, 99, 0);
    // One organization comes and goes for sure.
    let now = app.portal.now();
    let passing = usize::from(app.portal.stage().world.add_organization(now));
    for step in 0..6 {
        if step == 4 {
            let now = app.portal.now();
            app.portal.stage().world.organizations[passing].story.change(now, |one| one.removed = true);
        }
        app.advance((1 + dice.below(5)) * HOUR);
        listed(&app).await;
        if step == 2 {
            app.restart().await;
        }
    }
    app.quiet();
    listed(&app).await;
    listed(&app).await;
    let asked_wrongly = app.portal.stats().violations;
    assert!(asked_wrongly.is_empty(), "{asked_wrongly:?}");
    app.finish(name).await
}

fn count(output: &Output, source: &str, change: &str) -> usize {
    output.records.iter().filter(|record| record.source == source && record.change == change).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_random_policies_and_organizations_replayed_give_the_final_state() {
    let output = play(TestApp::start(setup(Dialect::default())).await, "states").await;
    for source in ["policies", "organizations"] {
        for change in ["new", "changed", "removed"] {
            assert!(count(&output, source, change) > 0, "no {source} was {change}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_do_so_too_where_nothing_is_counted_and_rows_have_the_other_form() {
    let dialect = Dialect {
        totals: Totals::Absent,
        pagination: Pagination::None,
        names_policies_otherwise: true,
        lists_own_organization: true,
        ..Dialect::default()
    };
    play(TestApp::start(setup(dialect)).await, "states, uncounted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_say_too_little_are_completed_by_the_policy_itself() {
    let dialect = Dialect { sparse_policies: true, ..Dialect::default() };
    let output = play(TestApp::start(setup(dialect)).await, "sparse policies").await;
    assert!(count(&output, "policies", "changed") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_list_is_refused_policies_are_asked_one_by_one_and_status_says_so() {
    for status in [404, 400] {
        let dialect = Dialect { refuses_policies: Some(status), ..Dialect::default() };
        let app = TestApp::start(setup(dialect)).await;
        listed(&app).await;
        let way = of(&app.status().await, "policies").way.clone();
        assert!(way.as_ref().is_some_and(|way| way.contains("one by one")), "{way:?}");
        let output = play(app, "policies one by one").await;
        assert!(count(&output, "policies", "changed") > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_refused_for_a_while_makes_no_policy_another_one() {
    let mut setup = setup(Dialect::default());
    setup.world.policy_changes_per_day = 0;
    let app = TestApp::start(setup).await;
    listed(&app).await;
    let refused = Effect::Status { status: 500, retry_after: None, message: None };
    app.portal.fault(Fault::always(refused).at(Endpoint::Policies));
    app.wait("asked one by one", SOON, |status| of(status, "policies").way.is_some()).await;
    listed(&app).await;
    listed(&app).await;
    app.portal.clear_faults(None);
    app.wait("asked for the list again", SOON, |status| of(status, "policies").way.is_none()).await;
    app.quiet();
    listed(&app).await;
    let output = app.finish("a list that went and came").await;
    assert_eq!((count(&output, "policies", "new"), output_of(&output, "policies").count()), (60, 60));
}

fn output_of<'o>(output: &'o Output, source: &'static str) -> impl Iterator<Item = &'o Record> {
    output.records.iter().filter(move |record| record.source == source)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_is_named_and_not_shown_is_still_there_and_status_counts_it() {
    let mut setup = setup(Dialect { refuses_policies: Some(404), ..Dialect::default() });
    setup.world.policy_changes_per_day = 0;
    setup.world.organization_changes_per_day = 0;
    setup.world.computer_changes_per_day = 0;
    let app = TestApp::start(setup).await;
    listed(&app).await;
    let child = app.portal.organization(1);
    let refused = Effect::Status { status: 400, retry_after: None, message: None };
    app.portal.fault(Fault::always(refused).at(Endpoint::PolicyById).of(child));
    app.wait("said that some are not shown", SOON, |status| {
        of(status, "policies").way.as_ref().is_some_and(|way| way.contains("not shown"))
    })
    .await;
    listed(&app).await;
    listed(&app).await;
    app.quiet();
    listed(&app).await;
    let output = app.finish("named and not shown").await;
    assert_eq!(count(&output, "policies", "removed"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_not_green_where_the_list_is_refused_and_the_groups_name_none() {
    let dialect = Dialect { refuses_policies: Some(404), ..Dialect::default() };
    let mut app = TestApp::prepare(setup(dialect)).await;
    let unticked = Effect::NoPermission { answer: NoPermission::Empty };
    app.portal.fault(Fault::always(unticked).at(Endpoint::Groups));
    app.run().await;
    let status = app
        .wait("said that the list is refused", SOON, |status| {
            streams(status).any(|stream| stream.source == "policies" && stream.last_error.is_some())
        })
        .await;
    let policies = of(&status, "policies");
    assert_ne!(policies.condition, StreamCondition::Ok);
    assert!(policies.last_error.as_ref().is_some_and(|error| error.contains("404")), "{policies:?}");
    assert_eq!(policies.last_success, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_taken_away_stops_its_source_alone_and_names_itself() {
    for (endpoint, source, permission) in [
        (Endpoint::Policies, "policies", "View Application Control Policies"),
        (Endpoint::ChildOrganizations, "organizations", "View Organizations"),
    ] {
        let mut setup = setup(Dialect::default());
        setup.world.organization_changes_per_day = 0;
        let app = TestApp::start(setup).await;
        listed(&app).await;
        app.portal.fault(Fault::always(Effect::NoPermission { answer: NoPermission::Denied }).at(endpoint));
        app.wait("said which permission is missing", SOON, |status| {
            let stream = of(status, source);
            stream.condition == StreamCondition::MissingRole
                && stream.last_error.as_ref().is_some_and(|error| error.contains(permission))
                && status.problems.iter().any(|problem| problem.contains(permission))
        })
        .await;
        app.advance(3 * HOUR);
        let now = app.portal.now();
        let status = app.wait("went on with the others", SOON, |status| {
            streams(status).filter(|stream| stream.source != source).all(|stream| {
                stream.condition == StreamCondition::Ok
                    && stream.proven_until.is_some_and(|until| until.timestamp_micros() >= now)
            })
        });
        status.await;
        app.portal.clear_faults(None);
        app.quiet();
        app.wait("went on with it", Duration::from_secs(90), |status| {
            of(status, source).condition == StreamCondition::Ok
        })
        .await;
        listed(&app).await;
        app.finish("a permission").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_of_named_organizations_tells_of_those_alone_and_follows_their_names() {
    let mut setup = setup(Dialect::default());
    (setup.world.organization_changes_per_day, setup.world.policy_changes_per_day) = (0, 0);
    setup.sites = vec![Site::new("acme", "[\"Bäckerei Müßig GmbH\", \"Example MSP\"]")];
    setup.covers = Some(vec![0, 1]);
    let app = TestApp::start(setup).await;
    listed(&app).await;
    let now = app.portal.now();
    for index in [1, 2] {
        let rename =
            |standing: &mut lockstep::simulator::world::Standing| standing.name = format!("New {index}");
        app.portal.stage().world.organizations[index].story.change(now, rename);
    }
    app.quiet();
    listed(&app).await;
    listed(&app).await;
    let output = app.finish("named organizations").await;
    let told: Vec<Value> = output_of(&output, "organizations")
        .filter(|record| record.change == "changed")
        .map(|record| serde_json::from_str(record.row.as_ref().unwrap().get()).unwrap())
        .collect();
    assert!(told.len() == 1 && told[0]["name"] == "New 1", "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_short_name_of_an_organization_outlives_its_name() {
    let mut setup = setup(Dialect::default());
    (setup.world.organization_changes_per_day, setup.world.policy_changes_per_day) = (0, 0);
    setup.sinks = vec![String::new()];
    let mut app = TestApp::prepare(setup).await;
    let slugs = app.out_folder().with_file_name("slugs");
    app.setup.sinks = vec![format!(
        "{{ name: slugs, type: file, path: \"{}/{{org_slug}}.ndjson\", format: raw, select: {{ sources: [organizations] }} }}",
        slugs.display()
    )];
    app.configure();
    app.run().await;
    listed(&app).await;
    let now = app.portal.now();
    app.portal.stage().world.organizations[1]
        .story
        .change(now, |standing| standing.name = "Quite Another".to_owned());
    listed(&app).await;
    listed(&app).await;
    app.quiet();
    listed(&app).await;
    app.stop().await;
    let child = app.portal.organization(1).to_string();
    let of_child = |record: &&Record| record.organization_id.as_deref() == Some(child.as_str());
    let mut names = Vec::new();
    for file in files(&slugs) {
        let alone = tempfile::tempdir().unwrap();
        std::fs::copy(&file, alone.path().join("one.ndjson")).unwrap();
        if Output::read(alone.path()).records.iter().filter(of_child).count() == 2 {
            names.push(file.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    assert!(names.len() == 1 && names[0].starts_with("b-ckerei-m-ig-gmbh."), "{names:?}");
    app.finish("renamed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_comes_while_the_program_runs_is_collected_alone_where_its_name_is_wanted() {
    let world = WorldOptions { organizations: 3, organization_changes_per_day: 0, ..eventful() };
    let sites = vec![Site::new("acme", "[\"Bäckerei Müßig GmbH\", \"歯科 東京 🦷\"]")];
    let covers = Some(vec![1, 3]);
    let app = TestApp::start(Setup { world, sites, covers, ..setup(Dialect::default()) }).await;
    app.wait("said that one is not known", SOON, |status| {
        status.problems.iter().any(|problem| problem.contains("歯科 東京 🦷"))
    })
    .await;
    let now = app.portal.now();
    {
        let mut stage = app.portal.stage();
        let come = stage.world.add_organization(now);
        assert_eq!(come, 3);
        stage.world.policies.add(come, now);
        stage.world.fleet.add(come, now);
    }
    app.wait("collected what came", SOON, |status| {
        let of_three = |source: &str| streams(status).filter(|stream| stream.source == source).count();
        of_three("computers") == 2 && of_three("policies") == 2 && of_three("organizations") == 1
    })
    .await;
    app.quiet();
    listed(&app).await;
    listed(&app).await;
    let come = app.portal.organization(3).to_string();
    let output = app.finish("an organization that came").await;
    for source in ["computers", "policies", "organizations"] {
        let is_its = |record: &&Record| record.organization_id.as_deref() == Some(come.as_str());
        assert!(output_of(&output, source).filter(is_its).count() > 0, "nothing of its {source}");
    }
}
