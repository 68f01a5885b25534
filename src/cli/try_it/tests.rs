use super::probe::probe;
use super::report::Report;
use super::*;
use crate::cli::doctor::{BACKFILL, Counted, PAGE_SIZE, RATE, requests};
use crate::cli::tests::configured;
use crate::simulator::dialect::{Dialect, Totals};
use crate::simulator::faults::{Effect, Fault, NoPermission};
use crate::simulator::requests::Endpoint;
use crate::simulator::world::{World, WorldOptions};
use crate::simulator::{Options, Simulator};
use crate::source::{SOURCES, by_name};

async fn simulated(dialect: Dialect) -> Simulator {
    let world = World::new(WorldOptions { rows_per_day: 2_000, own_noise: false, ..WorldOptions::default() });
    Simulator::start(world, Options { dialect, ..Options::default() }).await.unwrap()
}

/// What is found, and the page for people.
async fn tried(simulator: &Simulator, token: &str) -> (Report, String) {
    tried_of(simulator, token, None).await
}

/// The same where the own organization is given.
async fn tried_of(simulator: &Simulator, token: &str, own: Option<OrganizationId>) -> (Report, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, token).unwrap();
    let settings = PortalSettings {
        attempts: 1,
        rate_per_second: None,
        ..PortalSettings::new("try", &simulator.url, SecretSource::File(file))
    };
    let portal = Portal::new(settings, &Pacers::new([0; 32]), Budget::new(MEMORY), Clock::system()).unwrap();
    let report = probe(&portal, simulator.url.clone(), own).await;
    let page = Page { report: &report, width: 80 }.to_string();
    (report, page)
}

#[tokio::test]
async fn a_portal_shows_its_organizations_its_sources_and_what_a_day_of_them_is() {
    let simulator = simulated(Dialect::default()).await;
    let now = simulator.now();
    let (report, page) = tried(&simulator, &simulator.token).await;
    assert_eq!((report.wrong(), report.reached, report.token_accepted), (0, true, true), "{page}");
    let own = simulator.organization(0).to_string();
    assert_eq!(report.organization.as_ref().unwrap().as_str(), own);
    let ids: Vec<String> = report.children.iter().flatten().map(|one| one.id.to_string()).collect();
    assert_eq!(ids.len(), 2);
    assert!(page.contains(&report.children.as_ref().unwrap()[0].name), "{page}");

    // The simulator's own truth of the last day, but for the seconds that went by.
    let since = chrono::DateTime::from_timestamp_micros(now - 86_400_000_000).unwrap();
    let at = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let truth = simulator.truth(crate::simulator::world::Source::UnifiedAudit, false);
    let day =
        truth.iter().filter(|row| row.listed && row.table == 1 && at(&row.date_time) > since).count() as u64;
    let audit = report.sources.iter().find(|one| one.source == "unified_audit").unwrap();
    assert!(audit.total.unwrap().abs_diff(day) < 20 && day > 1_000, "{day} {audit:?}");
    assert_eq!((audit.rows.len(), audit.counted), (3, Counted::ByPortal));
    let mean = audit.bytes_a_row.unwrap();
    assert!((300.0..5_000.0).contains(&mean), "{mean}");
    assert_eq!(audit.requests, Some(audit.total.unwrap().div_ceil(500) + 1));
    assert!(report.rows_a_day >= audit.total.unwrap() && report.bytes_a_day >= audit.bytes_a_day.unwrap());
    // The world begins far in our past.
    assert!(report.clock_offset_seconds.unwrap() < -86_400.0 && page.contains("mend ours"), "{page}");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("    {")).collect();
    assert!(rows.len() >= 9 && rows.iter().all(|row| row.chars().count() <= 80), "{page}");
    assert!(!page.contains(&simulator.token));
    assert!(!serde_json::to_string(&report).unwrap().contains(&simulator.token));
}

#[tokio::test]
async fn a_source_without_its_role_is_named_with_the_permission_to_tick() {
    let simulator = simulated(Dialect::default()).await;
    simulator.fault(
        Fault::always(Effect::NoPermission { answer: NoPermission::Denied }).at(Endpoint::SystemAudit),
    );
    let (report, page) = tried(&simulator, &simulator.token).await;
    assert_eq!(report.wrong(), 1, "{page}");
    let refused = report.sources.iter().find(|one| !one.readable).unwrap();
    assert_eq!((refused.source, refused.permission), ("system_audit", "View System Audit"));
    assert!(page.contains("Tick \"View System Audit\""), "{page}");
    let published = SOURCES.into_iter().filter(|source| source.endpoint().is_some()).count();
    assert!(report.sources.iter().filter(|one| one.readable).count() == published - 1);
}

#[tokio::test]
async fn a_portal_without_unmanaged_devices_lacks_nothing_that_is_usual() {
    let simulator = simulated(Dialect::default()).await;
    let missing = Effect::Status { status: 404, retry_after: None, message: None };
    simulator.fault(Fault::always(missing).at(Endpoint::OnlineDevices));
    let (report, page) = tried(&simulator, &simulator.token).await;
    let refused = report.sources.iter().find(|one| !one.readable).unwrap();
    assert_eq!((refused.source, report.wrong()), ("online_devices", 0), "{page}");
}

#[tokio::test]
async fn a_source_that_is_listed_by_status_is_counted_over_all_and_one_refused_status_spoils_nothing() {
    let simulator = simulated(Dialect { refused_statuses: vec![17], ..Dialect::default() }).await;
    let listed = simulator.true_requests(false);
    let listed = listed.iter().filter(|one| !one.removed && one.status_id != 17).count() as u64;
    let (report, page) = tried(&simulator, &simulator.token).await;
    let requests = report.sources.iter().find(|one| one.source == "approval_requests").unwrap();
    assert!(
        requests.readable && requests.total.unwrap().abs_diff(listed) <= 1 && listed > 20,
        "{requests:?}"
    );
    assert!(page.contains("skipped statuses: 17"), "{page}");
    simulator
        .stage()
        .set_dialect(Dialect { refused_statuses: vec![1, 4, 6, 10, 12, 13, 16, 17], ..Dialect::default() });
    let (report, page) = tried(&simulator, &simulator.token).await;
    assert_eq!(report.wrong(), 1, "{page}");
}

#[tokio::test]
async fn a_role_that_shows_no_organizations_is_tried_in_the_one_that_is_given() {
    let simulator = simulated(Dialect::default()).await;
    let untick = |endpoint| {
        simulator.fault(Fault::always(Effect::NoPermission { answer: NoPermission::Denied }).at(endpoint));
    };
    let reports = [Endpoint::ReportList, Endpoint::ReportRows];
    Endpoint::ALL.into_iter().filter(|endpoint| !reports.contains(endpoint)).for_each(untick);
    let (report, page) = tried(&simulator, &simulator.token).await;
    assert!(report.token_accepted && page.contains("organization_id") && !page.contains("renew"), "{page}");
    let own = OrganizationId::new(&simulator.organization(0).to_string());
    let (report, page) = tried_of(&simulator, &simulator.token, Some(own.clone())).await;
    assert!(report.token_accepted && !page.contains("renew"), "{page}");
    let readable: Vec<_> = report.sources.iter().filter(|one| one.readable).map(|one| one.source).collect();
    assert_eq!(readable, ["reports"], "{page}");
    assert!(report.children_trouble.unwrap().contains("View Organizations"), "{page}");
    let (report, page) = tried_of(&simulator, &"b".repeat(64), Some(own)).await;
    assert!(!report.token_accepted && page.contains("renew"), "{page}");
}

#[tokio::test]
async fn a_report_that_is_listed_and_may_not_be_run_is_not_readable() {
    let simulator = simulated(Dialect::default()).await;
    let (report, page) = tried(&simulator, &simulator.token).await;
    let run = report.sources.iter().find(|one| one.source == "reports").unwrap();
    assert_eq!(
        (run.total, run.counted),
        (Some(simulator.true_computers(false).len() as u64), Counted::ByListing)
    );
    assert!(run.rows.len() == 3 && run.rows[0].get().contains("Hostname"), "{page}");
    simulator
        .fault(Fault::always(Effect::NoPermission { answer: NoPermission::Denied }).at(Endpoint::ReportRows));
    let (report, page) = tried(&simulator, &simulator.token).await;
    let run = report.sources.iter().find(|one| one.source == "reports").unwrap();
    assert!(!run.readable && report.wrong() == 1, "{page}");
    assert!(run.trouble.as_ref().unwrap().contains("Tick \"View Reports\""), "{page}");
    simulator.clear_faults(None);
    simulator.stage().reports.without_computers = true;
    let (report, page) = tried(&simulator, &simulator.token).await;
    assert_eq!(report.wrong(), 0, "nobody asked for one that is not there: {page}");
    assert!(page.contains("the portal has no report"), "{page}");
}

#[tokio::test]
async fn policies_of_which_the_list_says_too_little_are_counted_one_by_one() {
    let simulator = simulated(Dialect { sparse_policies: true, ..Dialect::default() }).await;
    let (report, page) = tried(&simulator, &simulator.token).await;
    let policies = report.sources.iter().find(|one| one.source == "policies").unwrap();
    let total = policies.total.unwrap();
    assert_eq!(policies.requests, Some(total + requests(total, false)));
    assert!(page.contains("each costs a request of its own"), "{page}");
}

#[tokio::test]
async fn a_wrong_token_and_a_portal_that_is_away_are_told_apart() {
    let mut simulator = simulated(Dialect::default()).await;
    let wrong = "b".repeat(64);
    let (report, page) = tried(&simulator, &wrong).await;
    assert_eq!((report.reached, report.token_accepted, report.wrong()), (true, false, 1), "{page}");
    assert!(report.trouble.is_some() && report.sources.is_empty() && !page.contains(&wrong), "{page}");
    simulator.stop().await;
    let (report, page) = tried(&simulator, &simulator.token).await;
    assert_eq!((report.reached, report.wrong()), (false, 1));
    assert!(page.contains("NOT REACHED") && page.contains("network"), "{page}");
}

#[tokio::test]
async fn without_totals_nothing_is_estimated_that_was_not_counted() {
    let simulator = simulated(Dialect { totals: Totals::Absent, ..Dialect::default() }).await;
    let (report, page) = tried(&simulator, &simulator.token).await;
    let audit = report.sources.iter().find(|one| one.source == "unified_audit").unwrap();
    assert_eq!((audit.counted, audit.total, audit.minutes), (Counted::AtLeast, Some(100), None));
    assert!(page.contains("at least 100"), "{page}");
}

#[test]
fn the_estimate_counts_on_the_defaults_of_the_configuration() {
    let (_dir, config) = configured();
    let connection = &config.connections[0];
    assert_eq!(connection.rate.per_second, Some(RATE));
    for name in ["unified_audit", "system_audit"] {
        let source = &connection.sources[name];
        assert_eq!((u64::from(source.page_size), source.backfill), (PAGE_SIZE, BACKFILL), "{name}");
    }
    assert_eq!(connection.sources["unified_audit"].tables, [by_name("unified_audit").unwrap().part()]);
    assert_eq!((requests(0, true), requests(1, true), requests(1_001, false)), (1, 2, 4));
}
