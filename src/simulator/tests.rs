//! The simulator over real HTTP, asked by a client that shares nothing with ours.

use std::collections::BTreeSet;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use super::dialect::{DAY, Dialect, EmptyAnswer, NoOrganization, Totals};
use super::faults::{Effect, Fault, NoPermission, RetryAfter};
use super::requests::Endpoint;
use super::world::{Source, World, WorldOptions};
use super::*;
use crate::model::{Micros, SECOND};

const UNIFIED: &str = "/portalapi/ActionLog/ActionLogGetByParametersV2";
const AUDIT: &str = "/portalapi/SystemAudit/SystemAuditGetByParameters";
const COMPUTERS: &str = "/portalapi/Computer/ComputerGetByAllParameters";
const CHILDREN: &str = "/portalapi/Organization/OrganizationGetChildOrganizationsByParameters";
const COUNT: &str = "/portalapi/ApprovalRequest/ApprovalRequestGetCount?includeChildOrganizations=true";

/// A small quiet world, its clock frozen.
async fn started(dialect: Dialect) -> Simulator {
    let options = WorldOptions { rows_per_day: 5_000, own_noise: false, ..WorldOptions::default() };
    Simulator::start(World::new(options), Options { port: 0, dialect, frozen: true }).await.unwrap()
}

fn asked(simulator: &Simulator, path: &str) -> RequestBuilder {
    let parent = simulator.stage().world.organizations[0].id;
    let client = Client::builder().no_proxy().build().unwrap();
    client
        .post(format!("{}{path}", simulator.url))
        .header("Authorization", &simulator.token)
        .header("ManagedOrganizationId", parent.to_string())
        .header("usenewsearch", "true")
        .header("Content-Type", "application/json")
}

fn spelt(at: Micros) -> String {
    clock::date(at).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn window(from: Micros, to: Micros, page: u64) -> Value {
    json!({
        "startDate": spelt(from), "endDate": spelt(to), "pageNumber": page, "pageSize": 500,
        "paramsFieldsDto": [], "groupBys": [], "exportMode": false, "showTotalCount": true,
        "showChildOrganizations": true, "viewChildOrganizations": true, "onlyTrueDenies": false,
        "simulateDeny": false, "sourceTableId": 1,
    })
}

async fn send(request: RequestBuilder, body: &Value) -> Response {
    request.body(body.to_string()).send().await.unwrap()
}

async fn rows_of(response: Response) -> Vec<Value> {
    assert_eq!(response.status(), 200);
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

fn total_of(response: &Response) -> u64 {
    let header: Value = serde_json::from_str(response.headers()["pagination"].to_str().unwrap()).unwrap();
    header["totalItems"].as_u64().unwrap()
}

#[tokio::test]
async fn a_full_walk_serves_what_the_truth_lists() {
    let dialect = Dialect { end_inclusive: false, ..Dialect::default() };
    let simulator = started(dialect).await;
    let end = simulator.now();
    for (source, path, id) in
        [(Source::UnifiedAudit, UNIFIED, "eActionLogId"), (Source::SystemAudit, AUDIT, "systemAuditId")]
    {
        let mut served = Vec::new();
        for page in 1.. {
            let body = window(end - 29 * DAY, end + DAY, page);
            let part = rows_of(send(asked(&simulator, path), &body).await).await;
            if part.is_empty() {
                break;
            }
            served.extend(part);
        }
        let since = spelt(end - 29 * DAY);
        let truth = simulator.truth(source, false);
        let wanted = truth.iter().filter(|row| row.date_time.as_str() >= since.as_str());
        let mut wanted: Vec<_> = wanted.map(|row| row.id.clone()).collect();
        let mut served: Vec<_> = served.iter().map(|row| row[id].as_str().map(str::to_owned)).collect();
        wanted.sort();
        served.sort();
        assert!(wanted.len() > 100, "{}", wanted.len());
        assert_eq!(served, wanted);
        let ids: Vec<_> = wanted.iter().flatten().collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes() {
    let mut pages = Vec::new();
    for _ in 0..2 {
        let simulator = started(Dialect::default()).await;
        let body = window(simulator.now() - DAY, simulator.now(), 1);
        pages.push(send(asked(&simulator, UNIFIED), &body).await.bytes().await.unwrap());
    }
    assert!(pages[0].len() > 500_000 && pages[0] == pages[1]);
}

#[tokio::test]
async fn a_row_has_the_members_and_the_size_of_the_contract() {
    let simulator = started(Dialect::default()).await;
    let examples: [(&str, &str, &[&str]); 3] = [
        (
            UNIFIED,
            "eActionLogId",
            &["dateTime", "dateTimeImported", "organizationId", "actionType", "sha256Hash"],
        ),
        (AUDIT, "systemAuditId", &["dateTime", "organizationId", "action", "details", "emailAddress"]),
        (COMPUTERS, "computerId", &["lastCheckin", "username", "mode", "organizationId", "isDeleted"]),
    ];
    for (path, id, members) in examples {
        let mut body = window(simulator.now() - DAY, simulator.now(), 1);
        body["childOrganizations"] = json!(true);
        let rows = rows_of(send(asked(&simulator, path), &body).await).await;
        let whole = rows.iter().filter(|row| members.iter().all(|member| row.get(member).is_some())).count();
        assert!(whole * 10 >= rows.len() * 9, "{path}: {whole} of {}", rows.len());
        assert!(rows.iter().all(|row| row.get(id).is_some()));
    }
}

#[tokio::test]
async fn the_unified_audit_fails_as_the_contract_says() {
    let simulator = started(Dialect { strict_fields: true, ..Dialect::default() }).await;
    let good = window(simulator.now() - DAY, simulator.now(), 1);
    let without = |member: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(member);
        body
    };
    for (member, status) in [
        ("startDate", 417),
        ("endDate", 417),
        ("paramsFieldsDto", 500),
        ("groupBys", 500),
        ("sourceTableId", 500),
    ] {
        assert_eq!(send(asked(&simulator, UNIFIED), &without(member)).await.status(), status, "{member}");
    }
    let mut text = good.clone();
    text["pageSize"] = json!("500");
    assert_eq!(send(asked(&simulator, UNIFIED), &text).await.status(), 400);
    let mut large = good.clone();
    large["pageSize"] = json!(1_001);
    assert_eq!(send(asked(&simulator, UNIFIED), &large).await.status(), 400);
    let plain = Client::builder().no_proxy().build().unwrap();
    let request = plain
        .post(format!("{}{UNIFIED}", simulator.url))
        .header("Authorization", &simulator.token)
        .header("Content-Type", "application/json");
    assert!(rows_of(send(request, &good).await).await.is_empty());
}

#[tokio::test]
async fn a_wrong_token_is_revoked_and_a_forbidden_path_is_a_violation() {
    let simulator = started(Dialect { revoked_status: 440, ..Dialect::default() }).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("{}{COUNT}", simulator.url);
    let with = |token: &str| client.get(&url).header("Authorization", token).send();
    assert_eq!(with(&simulator.token).await.unwrap().text().await.unwrap(), "3");
    let wrong = with("0000").await.unwrap();
    assert_eq!(wrong.status(), 440);
    assert!(wrong.text().await.unwrap().contains("TOKEN_REVOKED"));
    assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    assert_eq!(with(&simulator.add_token()).await.unwrap().status(), 200);
    assert_eq!(simulator.stats().violation_count, 0);
    let write = asked(&simulator, "/portalapi/Computer/ComputerDelete").body("{}").send().await.unwrap();
    assert_eq!((write.status().as_u16(), simulator.stats().violation_count), (404, 1));
}

#[tokio::test]
async fn nothing_is_written_in_three_ways_and_a_missing_organization_may_be_nothing() {
    for (empty, text) in
        [(EmptyAnswer::List, "[]"), (EmptyAnswer::Null, "null"), (EmptyAnswer::ZeroBytes, "")]
    {
        let dialect = Dialect { empty, no_organization: NoOrganization::Empty, ..Dialect::default() };
        let simulator = started(dialect).await;
        let client = Client::builder().no_proxy().build().unwrap();
        let request = client
            .post(format!("{}{COMPUTERS}", simulator.url))
            .header("Authorization", &simulator.token)
            .header("Content-Type", "application/json");
        assert_eq!(send(request, &json!({})).await.text().await.unwrap(), text);
        assert!(!rows_of(send(asked(&simulator, COMPUTERS), &json!({})).await).await.is_empty());
    }
}

#[tokio::test]
async fn the_clock_moves_everything() {
    let simulator = started(Dialect::default()).await;
    let start = simulator.now();
    let client = Client::builder().no_proxy().build().unwrap();
    let clock = format!("{}/_clock", simulator.url);
    let moved = client
        .post(clock)
        .header("Content-Type", "application/json")
        .body(r#"{"advance_seconds":21600}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(moved.status(), 200);
    let answer = send(asked(&simulator, UNIFIED), &window(start, start + DAY, 1)).await;
    let date = chrono::DateTime::parse_from_rfc2822(answer.headers()["date"].to_str().unwrap()).unwrap();
    assert_eq!(date.timestamp(), start / SECOND + 21_600);
    let total = total_of(&answer);
    assert!((900..1_300).contains(&total), "{total} rows happened in six hours");
}

#[tokio::test]
async fn faults_strike_as_scripted_and_end() {
    let simulator = started(Dialect::default()).await;
    let body = window(simulator.now() - DAY, simulator.now(), 1);
    let ask = || send(asked(&simulator, UNIFIED), &body);

    let retry_after = Some(RetryAfter::DateIn(30));
    simulator.fault(Fault::next(1, Effect::Status { status: 429, retry_after, message: None }));
    let limited = ask().await;
    assert_eq!(limited.status(), 429);
    assert!(limited.headers()["retry-after"].to_str().unwrap().ends_with("GMT"));
    assert_eq!(ask().await.status(), 200);

    simulator.fault(Fault::next(1, Effect::CutBody));
    let cut = ask().await;
    assert_eq!(cut.status(), 200);
    assert!(cut.bytes().await.is_err());

    simulator.fault(Fault::next(1, Effect::Reset));
    let reset = asked(&simulator, UNIFIED).body(body.to_string()).send().await;
    assert!(reset.is_err());

    for effect in [Effect::TruncatedJson, Effect::Html, Effect::ErrorObject] {
        simulator.fault(Fault::next(1, effect));
        let spoilt = ask().await;
        assert_eq!(spoilt.status(), 200);
        assert!(serde_json::from_slice::<Vec<Value>>(&spoilt.bytes().await.unwrap()).is_err());
    }

    let lost = Effect::NoPermission { answer: NoPermission::Denied };
    simulator.fault(Fault::always(lost).at(Endpoint::UnifiedAudit));
    let denied = ask().await;
    assert_eq!(denied.status(), 401);
    assert!(denied.text().await.unwrap().contains("View Unified Audit"));
    assert_eq!(send(asked(&simulator, AUDIT), &body).await.status(), 200);
    simulator.clear_faults(None);
    assert_eq!(ask().await.status(), 200);

    simulator.fault(Fault::share(0.5, Effect::Status { status: 503, retry_after: None, message: None }));
    let mut failed = 0;
    for _ in 0..40 {
        failed += u32::from(ask().await.status() == 503);
    }
    assert!((8..32).contains(&failed), "{failed} of 40");
}

#[tokio::test]
async fn a_silent_organization_vanishes_without_an_error_and_comes_back() {
    let simulator = started(Dialect::default()).await;
    let child = simulator.stage().world.organizations[1].id;
    let body = window(simulator.now() - DAY, simulator.now(), 1);
    let before = total_of(&send(asked(&simulator, UNIFIED), &body).await);
    let fault = simulator.fault(Fault::always(Effect::SilentOrganization).of(child));
    let answer = send(asked(&simulator, UNIFIED), &body).await;
    assert!(total_of(&answer) < before);
    let id = Value::from(child.to_string());
    assert!(rows_of(answer).await.iter().all(|row| row["organizationId"] != id));
    simulator.clear_faults(Some(fault));
    assert_eq!(total_of(&send(asked(&simulator, UNIFIED), &body).await), before);
}

#[tokio::test]
async fn an_organization_hidden_in_the_tree_is_listed_alone_and_a_refused_tree_refuses_nobody_alone() {
    let simulator = started(Dialect::default()).await;
    let child = simulator.stage().world.organizations[1].id;
    let body = window(simulator.now() - DAY, simulator.now(), 1);
    let mut alone = body.clone();
    alone["showChildOrganizations"] = Value::from(false);
    let of_child = || {
        let mut request = asked(&simulator, UNIFIED).build().unwrap();
        request.headers_mut().insert("ManagedOrganizationId", child.to_string().parse().unwrap());
        request.body_mut().replace(alone.to_string().into());
        request
    };
    let client = Client::builder().no_proxy().build().unwrap();
    let before = total_of(&send(asked(&simulator, UNIFIED), &body).await);
    let own = total_of(&client.execute(of_child()).await.unwrap());
    simulator.fault(Fault::always(Effect::HiddenInTree).of(child));
    assert_eq!(total_of(&send(asked(&simulator, UNIFIED), &body).await), before - own);
    assert_eq!(total_of(&client.execute(of_child()).await.unwrap()), own);
    simulator.fault(Fault::always(Effect::TreeRefused).at(Endpoint::UnifiedAudit));
    assert_eq!(send(asked(&simulator, UNIFIED), &body).await.status(), 500);
    assert_eq!(total_of(&client.execute(of_child()).await.unwrap()), own);
}

#[tokio::test]
async fn rows_come_and_go_while_a_range_is_read() {
    let simulator = started(Dialect::default()).await;
    let body = window(simulator.now() - DAY, simulator.now(), 1);
    let before = total_of(&send(asked(&simulator, UNIFIED), &body).await);
    simulator.fault(Fault::next(2, Effect::Drift { rows: 5, backdated: false }));
    send(asked(&simulator, UNIFIED), &body).await;
    assert_eq!(total_of(&send(asked(&simulator, UNIFIED), &body).await), before + 10);
    simulator.fault(Fault::next(1, Effect::Deletion { rows: 1 }));
    assert_eq!(total_of(&send(asked(&simulator, UNIFIED), &body).await), before + 9);
    let ever = simulator.truth(Source::UnifiedAudit, true);
    assert_eq!(ever.iter().filter(|row| row.deleted).count(), 1);
}

#[tokio::test]
async fn a_stopped_portal_refuses_and_comes_back_on_its_port() {
    let mut simulator = started(Dialect::default()).await;
    let (url, now) = (simulator.url.clone(), simulator.now());
    let client = Client::builder().no_proxy().build().unwrap();
    let ask = || client.get(format!("{url}{COUNT}")).header("Authorization", &simulator.token).send();
    // The body is read, so that the connection is kept for the next request.
    assert_eq!(ask().await.unwrap().text().await.unwrap(), "3");
    let token = simulator.token.clone();
    simulator.stop().await;
    let ask = || client.get(format!("{url}{COUNT}")).header("Authorization", &token).send();
    assert!(ask().await.is_err());
    simulator.restart().await.unwrap();
    assert_eq!(ask().await.unwrap().status(), 200);
    assert_eq!((simulator.now(), &simulator.url), (now, &url));
}

#[tokio::test]
async fn a_portal_that_stops_breaks_the_requests_in_its_hands() {
    let mut simulator = started(Dialect::default()).await;
    simulator.fault(Fault::always(Effect::Latency { milliseconds: 300 }));
    let running = tokio::spawn(asked(&simulator, COMPUTERS).body("{}").send());
    while simulator.stats().concurrent == 0 {
        tokio::task::yield_now().await;
    }
    simulator.stop().await;
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn raw_bytes_and_equal_rows_are_served_as_they_are_and_named_in_the_truth() {
    let simulator = started(Dialect::default()).await;
    let now = simulator.now();
    {
        let world = &mut simulator.stage().world;
        world.inject_raw(Source::SystemAudit, 1, now - SECOND, &b"{\"a\":\"\xff\"}"[..]);
        world.add_equal_rows(1, now - SECOND, 5);
    }
    let answer = send(asked(&simulator, AUDIT), &window(now - 2 * SECOND, now, 1)).await;
    let bytes = answer.bytes().await.unwrap();
    assert!(bytes.windows(9).any(|part| part == b"{\"a\":\"\xff\"}"));
    let truth = simulator.truth(Source::SystemAudit, false);
    assert_eq!(truth.iter().filter(|row| row.raw).count(), 1);
    let mut equal: Vec<_> =
        truth.iter().filter(|row| row.id.is_none() && !row.raw).map(|row| &row.hash).collect();
    equal.sort();
    assert!(equal.chunk_by(|a, b| a == b).any(|same| same.len() == 5));
}

#[tokio::test]
async fn each_request_reads_itself_in_the_system_audit() {
    let world = World::new(WorldOptions { audit_rows_per_day: 0, ..WorldOptions::default() });
    let simulator = Simulator::start(world, Options { frozen: true, ..Options::default() }).await.unwrap();
    let body = window(simulator.now() - DAY, simulator.now() + SECOND, 1);
    send(asked(&simulator, UNIFIED), &body).await;
    send(asked(&simulator, COMPUTERS), &body).await;
    let rows = rows_of(send(asked(&simulator, AUDIT), &body).await).await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["action"] == "Read"));
}

#[tokio::test]
async fn computers_change_go_and_are_listed_by_organization() {
    let simulator = started(Dialect::default()).await;
    let child = simulator.stage().world.organizations[1].id.to_string();
    let body = json!({ "pageNumber": 1, "pageSize": 500, "childOrganizations": true });
    let list = || async { rows_of(send(asked(&simulator, COMPUTERS), &body).await).await };
    let before = list().await;
    assert_eq!(before.len(), simulator.true_computers(false).len());
    simulator.advance(3 * DAY);
    let after = list().await;
    assert_eq!(after.len(), simulator.true_computers(false).len());
    let modes = |rows: &[Value]| rows.iter().map(|row| row["mode"].clone()).collect::<Vec<_>>();
    assert_ne!(modes(&before), modes(&after));
    assert!(simulator.true_computers(true).len() > after.len());
    assert!(after.iter().any(|row| row["organizationId"] == child.as_str()));
    let own = rows_of(send(asked(&simulator, COMPUTERS), &json!({ "pageSize": 500 })).await).await;
    assert!(own.len() < after.len());
    assert!(own.iter().all(|row| row["organizationId"] != child.as_str()));
    let children = |flag: bool| json!({ "pageSize": 500, "childOrganizations": flag });
    assert_eq!(rows_of(send(asked(&simulator, CHILDREN), &children(true)).await).await.len(), 2);
    assert!(rows_of(send(asked(&simulator, CHILDREN), &children(false)).await).await.is_empty());
}

#[tokio::test]
async fn unmanaged_devices_are_listed_in_pages_by_organization_and_null_where_there_are_none() {
    const PATH: &str = "/portalapi/OnlineDevices/OnlineDevicesGetByParameters";
    let get = async |simulator: &Simulator, organization: usize, query: &str| {
        let client = Client::builder().no_proxy().build().unwrap();
        let request = client
            .get(format!("{}{PATH}?orderBy=HostName&isAscending=true{query}", simulator.url))
            .header("Authorization", &simulator.token)
            .header("ManagedOrganizationId", simulator.organization(organization).to_string());
        serde_json::from_slice::<Value>(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
    };
    let none = started(Dialect::default()).await;
    assert_eq!(get(&none, 0, "&pageNumber=1&pageSize=25").await, Value::Null, "off unless asked for");

    let world = World::new(WorldOptions { online_devices: 150, ..WorldOptions::default() });
    let simulator = Simulator::start(world, Options { frozen: true, ..Options::default() }).await.unwrap();
    let (mut served, mut truth) = (Vec::new(), Vec::new());
    for organization in 0..3 {
        assert!(
            get(&simulator, organization, "").await.as_array().unwrap().len() <= 25,
            "the vendor's default"
        );
        for page in 1.. {
            let rows = get(&simulator, organization, &format!("&pageNumber={page}&pageSize=20")).await;
            let rows = rows.as_array().unwrap();
            served.extend(rows.iter().map(|row| json!([row["computerName"], row["ipAddress"]]).to_string()));
            if rows.len() < 20 {
                break;
            }
        }
    }
    truth.extend(
        simulator
            .true_online_devices(false)
            .iter()
            .map(|one| json!([one.shown["name"], one.shown["address"]]).to_string()),
    );
    served.sort();
    truth.sort();
    assert_eq!((served.len(), served), (150, truth));
    assert!(simulator.stats().violations.is_empty());
}

#[tokio::test]
async fn the_truth_streams_and_bodies_are_compressed_for_those_who_ask() {
    let simulator = started(Dialect { gzip: true, totals: Totals::Absent, ..Dialect::default() }).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let lines = client
        .get(format!("{}/_truth/unified_audit?rows=true", simulator.url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(lines.lines().count(), simulator.truth(Source::UnifiedAudit, false).len());
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(serde_json::from_str::<Value>(first["row"].as_str().unwrap()).unwrap().is_object());
    let packed = Client::builder().no_proxy().no_gzip().build().unwrap();
    let mut request = asked(&simulator, AUDIT).body("{}").build().unwrap();
    request.headers_mut().insert("accept-encoding", "gzip, br".parse().unwrap());
    assert_eq!(packed.execute(request).await.unwrap().headers()["content-encoding"], "gzip");
}

#[tokio::test]
async fn faults_and_dialects_are_scripted_over_http() {
    let simulator = started(Dialect::default()).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let post = |path: &str, body: Value| {
        let request = client.post(format!("{}{path}", simulator.url));
        request.header("Content-Type", "application/json").body(body.to_string()).send()
    };
    let child = simulator.organization(1).to_string();
    for fault in [
        json!({ "times": 1, "effect": { "status": { "status": 503, "retry_after": { "seconds": 7 } } } }),
        json!({ "share": 0.0, "endpoint": "computers", "effect": "cut_body" }),
        json!({ "organization": child, "effect": "silent_organization" }),
    ] {
        assert_eq!(post("/_faults", fault).await.unwrap().status(), 200);
    }
    let body = window(simulator.now() - DAY, simulator.now(), 1);
    let failed = send(asked(&simulator, UNIFIED), &body).await;
    assert_eq!((failed.status().as_u16(), &failed.headers()["retry-after"]), (503, &"7".parse().unwrap()));
    let standing = client.get(format!("{}/_faults", simulator.url)).send().await.unwrap();
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&standing.bytes().await.unwrap()).unwrap().len(), 2);
    client.delete(format!("{}/_faults", simulator.url)).send().await.unwrap();

    assert_eq!(post("/_dialect", json!({ "axis": "imported" })).await.unwrap().status(), 204);
    assert_eq!(post("/_dialect", json!({ "axes": "imported" })).await.unwrap().status(), 422);
    let before = total_of(&send(asked(&simulator, UNIFIED), &body).await);
    let act = json!({ "burst": { "source": "unified_audit", "organization": 1, "rows": 60_000 } });
    assert_eq!(post("/_world", act).await.unwrap().status(), 204);
    assert_eq!(total_of(&send(asked(&simulator, UNIFIED), &body).await), before + 60_000);
    let stats = client.get(format!("{}/_stats", simulator.url)).send().await.unwrap();
    let stats: Value = serde_json::from_slice(&stats.bytes().await.unwrap()).unwrap();
    assert_eq!((&stats["requests"], &stats["statuses"]["503"]), (&json!(3), &json!(1)));
    let since = client.get(format!("{}/_requests?since=1", simulator.url)).send().await.unwrap();
    let since: Vec<Value> = serde_json::from_slice(&since.bytes().await.unwrap()).unwrap();
    assert_eq!((since.len(), &since[1]["total"]), (2, &json!(before + 60_000)));
}

#[tokio::test]
async fn a_portal_that_is_down_stays_down_until_it_is_cleared() {
    let simulator = started(Dialect::default()).await;
    let body = json!({ "pageSize": 1 });
    simulator.fault(Fault::always(Effect::Down { reset: false }));
    assert_eq!(send(asked(&simulator, COMPUTERS), &body).await.status(), 503);
    simulator.clear_faults(None);
    simulator.fault(Fault::always(Effect::Down { reset: true }));
    assert!(asked(&simulator, COMPUTERS).body("{}").send().await.is_err());
    simulator.clear_faults(None);
    simulator.fault(Fault::always(Effect::TokenRevoked));
    assert_eq!(send(asked(&simulator, COMPUTERS), &body).await.status(), 403);
    simulator.clear_faults(None);
    simulator.fault(Fault::next(1, Effect::CutBody));
    let path = "/portalapi/Organization/OrganizationGetForMoveComputers";
    let move_list = Client::builder().no_proxy().build().unwrap().get(format!("{}{path}", simulator.url));
    assert!(move_list.header("Authorization", &simulator.token).send().await.is_err());
    assert_eq!(send(asked(&simulator, COMPUTERS), &body).await.status(), 200);
}

#[tokio::test]
async fn slow_answers_are_counted_as_concurrent() {
    let simulator = started(Dialect::default()).await;
    simulator.fault(Fault::always(Effect::Latency { milliseconds: 100 }));
    let body = json!({ "pageSize": 1 });
    let ask = || send(asked(&simulator, COMPUTERS), &body);
    tokio::join!(ask(), ask(), ask());
    let stats = simulator.stats();
    assert_eq!((stats.max_concurrent, stats.concurrent, stats.peak_per_second), (3, 0, 3));
}

#[tokio::test]
async fn only_the_unified_audit_of_a_parent_alone_fails() {
    let simulator = started(Dialect { parent_alone_fails: true, ..Dialect::default() }).await;
    let mut body = window(simulator.now() - DAY, simulator.now(), 1);
    body["showChildOrganizations"] = json!(false);
    body["viewChildOrganizations"] = json!(false);
    assert_eq!(send(asked(&simulator, UNIFIED), &body).await.status(), 500);
    assert_eq!(send(asked(&simulator, AUDIT), &body).await.status(), 200);
}

#[tokio::test]
async fn an_unticked_role_answers_with_nothing() {
    let simulator = started(Dialect::default()).await;
    let lost = Effect::NoPermission { answer: NoPermission::Empty };
    simulator.fault(Fault::always(lost).at(Endpoint::Computers));
    let answer = send(asked(&simulator, COMPUTERS), &json!({ "childOrganizations": true })).await;
    assert_eq!(total_of(&answer), 0);
    assert!(rows_of(answer).await.is_empty());
}

#[tokio::test]
async fn hostile_rows_do_not_hurt_the_page_around_them() {
    let simulator = started(Dialect::default()).await;
    let now = simulator.now();
    let hostile = rows::hostile_rows();
    for (second, bytes) in (1..).zip(&hostile) {
        simulator.stage().world.inject_raw(Source::UnifiedAudit, 1, now - second * SECOND, *bytes);
    }
    let answer = send(asked(&simulator, UNIFIED), &window(now - 60 * SECOND, now, 1)).await;
    let listed = simulator.requests_since(0).last().unwrap().rows;
    assert!(listed >= hostile.len());
    let bytes = answer.bytes().await.unwrap();
    for row in hostile {
        assert!(bytes.windows(row.len()).any(|part| part == row));
    }
}

#[test]
fn a_dialect_is_read_from_a_name_or_from_json() {
    for name in Dialect::NAMES {
        assert!(name.parse::<Dialect>().is_ok());
    }
    let capped: Dialect = r#"{"totals":{"capped":10000}}"#.parse().unwrap();
    assert_eq!(capped, Dialect { totals: Totals::Capped(10_000), ..Dialect::default() });
    let error = "plane".parse::<Dialect>().unwrap_err().to_string();
    assert!(error.contains("plain, imported"), "{error}");
}

#[test]
fn the_demo_has_a_day_of_backlog() {
    let world = demo_world();
    assert!((99_000..101_000).contains(&world.rows(Source::UnifiedAudit).len()));
    assert_eq!((world.organizations.len(), world.fleet.computers.len() >= 200), (3, true));
}
