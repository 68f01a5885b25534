use serde_json::json;
use serde_json::value::to_raw_value;

use super::*;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::credentials::SecretSource;
use crate::portal::{Pacers, PortalSettings};
use crate::simulator::dialect::Dialect;
use crate::simulator::faults::{Effect, Fault, NoPermission};
use crate::simulator::requests::Endpoint as Played;
use crate::simulator::world::{World, WorldOptions};
use crate::simulator::{Options, Simulator};

const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn whether_a_portal_tells_what_matches_is_asked_of_the_first_request_that_can_be_asked_about() {
    let world = World::new(WorldOptions { rows_per_day: 10, ..WorldOptions::default() });
    let simulator =
        Simulator::start(world, Options { dialect: Dialect::default(), ..Options::default() }).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, &simulator.token).unwrap();
    let settings = PortalSettings {
        attempts: 1,
        rate_per_second: None,
        ..PortalSettings::new("check", &simulator.url, SecretSource::File(file))
    };
    let budget = Budget::new(8 << 20);
    let portal = Portal::new(settings, &Pacers::new([0; 32]), budget, Clock::system()).unwrap();
    portal.discover_organization().await.unwrap();
    let row = |members: serde_json::Value| {
        let organization = simulator.organization(1);
        let mut row = json!({ "approvalRequestId": "r", "organizationId": organization, "statusId": 1 });
        row.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        to_raw_value(&row).unwrap()
    };
    let storage = row(json!({ "requestTypeId": 2, "hash": "c" }));
    assert_eq!(ask_matching(&portal, std::slice::from_ref(&storage), TIMEOUT).await, None);
    // What matches goes by the letters of the hash.
    let rows = [storage, row(json!({ "requestTypeId": 1, "hash": "b" }))];
    let said = ask_matching(&portal, &rows, TIMEOUT).await.unwrap().unwrap();
    assert_eq!(said, "readable; 2 match the first request that was listed");
    let none = [row(json!({ "hash": "c" }))];
    assert!(ask_matching(&portal, &none, TIMEOUT).await.unwrap().unwrap().contains("; 0 match"));
    let struck = |effect| Fault::always(effect).at(Played::MatchingApplications);
    for (effect, wanted) in [
        (Effect::NoPermission { answer: NoPermission::Denied }, "not documented"),
        (Effect::NoPermission { answer: NoPermission::Empty }, "readable; 0"),
        (Effect::Status { status: 404, retry_after: None, message: None }, "404"),
        (Effect::Html, "cannot be read"),
    ] {
        let fault = simulator.fault(struck(effect));
        let said = match ask_matching(&portal, &rows, TIMEOUT).await.unwrap() {
            Ok(said) | Err(said) => said,
        };
        assert!(said.contains(wanted), "{wanted}: {said}");
        simulator.clear_faults(Some(fault));
    }
}
