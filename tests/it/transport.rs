//! What the environment and the configuration say of the way to the portal.

use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};

use crate::support::app::{SOON, fresh_seed};
use crate::support::binary::Place;

async fn portal() -> Simulator {
    let options =
        WorldOptions { seed: fresh_seed(), rows_per_day: 100, backlog_hours: 2, ..WorldOptions::default() };
    Simulator::start(World::new(options), Options::default()).await.unwrap()
}

/// How a pass of the program ends, with these environment variables.
async fn once(place: &Place, variables: &[(&str, &str)]) -> Option<i32> {
    let mut once = place.start_with("once", variables);
    once.ended_within(2 * SOON).await.expect("a pass ends").code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_proxy_of_the_environment_goes_around_the_proxy_of_the_configuration() {
    let portal = portal().await;
    let place = Place::new(&portal, "1MiB");
    // Nobody listens there.
    place.reconfigure("rate: unlimited", "rate: unlimited\n    http: { proxy: \"http://127.0.0.1:9\" }");
    let before = portal.stats().requests;
    assert_eq!(once(&place, &[("NO_PROXY", "portal.example"), ("no_proxy", "")]).await, Some(1));
    assert_eq!(portal.stats().requests, before, "{}", place.said());
    assert_eq!(
        once(&place, &[("NO_PROXY", "127.0.0.1"), ("no_proxy", "")]).await,
        Some(0),
        "{}",
        place.said()
    );
    assert!(portal.stats().requests > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_switches_the_check_of_certificates_off_is_warned_of_it_at_every_start() {
    const WARNING: &str = "CERTIFICATES ARE NOT VERIFIED";
    let portal = portal().await;
    let place = Place::new(&portal, "1MiB");
    assert_eq!(once(&place, &[]).await, Some(0), "{}", place.said());
    assert!(!place.said().contains(WARNING), "{}", place.said());
    place.reconfigure("rate: unlimited", "rate: unlimited\n    http: { insecure_skip_verify: true }");
    for starts in 1..=2 {
        assert_eq!(once(&place, &[]).await, Some(0), "{}", place.said());
        assert_eq!(place.said().matches(WARNING).count(), starts, "{}", place.said());
    }
    assert!(place.said().contains("acme"), "the site is named: {}", place.said());
}
