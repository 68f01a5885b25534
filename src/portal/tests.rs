//! The client against a scripted portal on a real socket.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::credentials::SecretSource;

mod tls;

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OWN: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

/// A request as the portal saw it.
#[derive(Clone, Debug)]
struct Seen {
    path: String,
    query: String,
    headers: HeaderMap,
    body: serde_json::Value,
    at: Instant,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn is(&self, endpoint: Endpoint) -> bool {
        self.path.ends_with(endpoint.path())
    }
}

/// An answer: status, headers and body, after a delay.
#[derive(Clone, Default)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    delay: Duration,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn revoked() -> Reply {
    Reply::new(403, format!(r#"{{"LoggerId":"53ba","StatusCode":403,"Message":"TOKEN_REVOKED {TOKEN}"}}"#))
}

fn missing(permission: &str) -> Reply {
    Reply::new(401, format!(r#"{{"StatusCode":401,"Message":"Missing the '{permission}' permission"}}"#))
}

/// A portal whose answers a function gives from the request and its number.
struct Desk {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    dir: tempfile::TempDir,
}

impl Desk {
    async fn open(answer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        let app = axum::Router::new().fallback(move |request: Request<Body>| {
            let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let seen = Seen {
                    path: parts.uri.path().to_owned(),
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    headers: parts.headers,
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                    at: Instant::now(),
                };
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(seen.clone());
                    log.len() - 1
                };
                let reply = answer(&seen, number);
                tokio::time::sleep(reply.delay).await;
                let mut response = Response::builder().status(reply.status);
                for (name, value) in reply.headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(reply.body)).unwrap()
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), format!("{TOKEN}\n")).unwrap();
        Self { url, seen, dir }
    }

    fn token(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    /// Settings for a quick test: no rate, short pauses, probes far away.
    fn settings(&self) -> PortalSettings {
        PortalSettings {
            rate_per_second: None,
            backoff_first: Duration::from_millis(1),
            backoff_longest: Duration::from_millis(5),
            probe_delays: vec![Duration::from_secs(60)],
            ..PortalSettings::new("acme", &self.url, SecretSource::File(self.token()))
        }
    }

    fn portal(&self) -> Portal {
        portal(self.settings())
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn portal(settings: PortalSettings) -> Portal {
    Portal::new(
        settings,
        &Pacers::new([1; 32]),
        Budget::new(1 << 20),
        Clock::shifted(chrono::Duration::zero(), 1),
    )
    .unwrap()
}

fn request(endpoint: Endpoint) -> PageRequest {
    PageRequest {
        endpoint,
        organization: Some(OrganizationId::new(OWN)),
        body: r#"{"pageNumber":3,"pageSize":500,"orderBy":"x"}"#.into(),
        query: String::new(),
        timeout: Duration::from_secs(5),
    }
}

const COMPUTERS: Endpoint = Endpoint::ComputersByParameters;
const AUDIT: Endpoint = Endpoint::SystemAuditByParameters;

#[tokio::test]
async fn a_request_carries_the_headers_of_the_contract_and_nothing_that_belongs_elsewhere() {
    let desk = Desk::open(|_, _| {
        Reply::new(200, r#"[{"a":1},{"a":2}]"#).with("pagination", r#"{"totalItems":2,"itemsPerPage":500}"#)
    })
    .await;
    let portal = desk.portal();
    for endpoint in Endpoint::ALL {
        let page =
            portal.fetch(&PageRequest { query: "searchText=a b".into(), ..request(endpoint) }).await.unwrap();
        assert_eq!(page.rows().collect::<Vec<_>>(), [r#"{"a":1}"#, r#"{"a":2}"#]);
        assert_eq!((page.total, page.page_size), (Some(2), Some(500)));
        let seen = desk.seen().pop().unwrap();
        assert_eq!(seen.path, format!("/portalapi/{}", endpoint.path()));
        assert_eq!(seen.header("authorization"), Some(TOKEN));
        assert_eq!(seen.header("managedorganizationid"), Some(OWN));
        assert_eq!(seen.header("overridemanagedorganizationid"), Some(OWN));
        assert_eq!(seen.header("accept"), Some("application/json"));
        assert!(seen.header("user-agent").unwrap().starts_with("lockstep/"));
        assert_eq!(
            seen.header("usenewsearch"),
            (endpoint == Endpoint::ActionLogByParameters).then_some("true")
        );
        if endpoint.is_get() {
            assert_eq!((seen.query.as_str(), seen.header("content-type")), ("searchText=a%20b", None));
        } else {
            assert_eq!((seen.query.as_str(), seen.header("content-type")), ("", Some("application/json")));
            assert_eq!(seen.body["pageNumber"], 3);
        }
    }
}

#[tokio::test]
async fn a_request_without_an_organization_is_never_sent() {
    let desk = Desk::open(|_, _| Reply::new(200, "[]")).await;
    for organization in [None, Some(OrganizationId::none())] {
        let error =
            desk.portal().fetch(&PageRequest { organization, ..request(COMPUTERS) }).await.unwrap_err();
        assert!(matches!(error.failure, Failure::NoOrganization));
    }
    assert_eq!(desk.count(), 0);
}

#[tokio::test]
async fn what_may_pass_is_asked_again_within_bounds() {
    for (status, tries) in
        [(429, 4), (502, 4), (503, 4), (504, 4), (500, 2), (400, 1), (404, 1), (417, 1), (302, 1)]
    {
        let desk = Desk::open(move |_, _| Reply::new(status, "")).await;
        let error = desk.portal().fetch(&request(COMPUTERS)).await.unwrap_err();
        assert_eq!(desk.count(), tries, "{status}: {error}");
    }
    let desk =
        Desk::open(|_, number| if number < 3 { Reply::new(503, "") } else { Reply::new(200, "[1]") }).await;
    assert_eq!(desk.portal().fetch(&request(COMPUTERS)).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn a_cut_line_and_a_time_out_are_asked_again() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for number in 0.. {
            let (mut line, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _read = line.read(&mut head).await;
                match number {
                    0 => {}
                    1 => drop(line.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1,").await),
                    2 => tokio::time::sleep(Duration::from_secs(9)).await,
                    _ => drop(line.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]").await),
                }
            });
        }
    });
    let desk = Desk::open(|_, _| Reply::default()).await;
    let portal = portal(PortalSettings { base_url: url, ..desk.settings() });
    let request = PageRequest { timeout: Duration::from_millis(200), ..request(COMPUTERS) };
    assert_eq!(portal.fetch(&request).await.unwrap().rows.len(), 2);
    assert_eq!(portal.health().requests, 4);
}

#[tokio::test]
async fn a_retry_after_holds_back_every_request_of_the_credential() {
    for status in [429, 503, 500] {
        let desk = Desk::open(move |_, number| match number {
            0 => Reply::new(status, "").with("Retry-After", "1"),
            _ => Reply::new(200, "[1]"),
        })
        .await;
        let (pacers, budget) = (Pacers::new([1; 32]), Budget::new(1 << 20));
        let open = || Portal::new(desk.settings(), &pacers, budget.clone(), Clock::system()).unwrap();
        let (one, two) = (open(), open());
        let (computers, audit) = (request(COMPUTERS), request(AUDIT));
        let started = Instant::now();
        let later = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            two.fetch(&audit).await
        };
        let (first, second) = tokio::join!(one.fetch(&computers), later);
        assert!(first.is_ok() && second.is_ok());
        let seen = desk.seen();
        assert_eq!(seen.len(), 3);
        for seen in &seen[1..] {
            assert!(seen.at - started >= Duration::from_millis(990), "{status}: {:?}", seen.at - started);
        }
        assert_eq!(two.health().throttled, 1, "both connections show the one credential");
    }
}

#[tokio::test]
async fn a_client_that_goes_on_from_another_leaves_the_portal_alone_as_long_as_that_one_would() {
    let desk = Desk::open(|_, _| Reply::new(503, "").with("Retry-After", "300")).await;
    let (pacers, budget) = (Pacers::new([1; 32]), Budget::new(1 << 20));
    let open = || Portal::new(desk.settings(), &pacers, budget.clone(), Clock::system()).unwrap();
    let first = open();
    first.time().hear(1_772_362_800_000_000);
    assert!(first.fetch(&request(COMPUTERS)).await.is_err());
    let second = open();
    second.go_on_from(&first);
    drop(first);
    assert!(second.heard() && second.health().retry_after_until.is_some());
    let error = second.fetch(&request(COMPUTERS)).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Throttled { .. }), "{error}");
    assert_eq!(desk.count(), 1, "the portal was asked again");
}

#[tokio::test]
async fn a_long_retry_after_fails_with_its_time_instead_of_blocking_and_is_shown() {
    let desk = Desk::open(|_, _| {
        Reply::new(503, "")
            .with("Date", "Sun, 01 Mar 2026 12:00:00 GMT")
            .with("Retry-After", "Sun, 01 Mar 2026 12:05:00 GMT")
    })
    .await;
    let portal = desk.portal();
    // The portal's time is an hour before the gateway's that sends the 503.
    let eleven = 1_772_362_800;
    portal.time().hear(eleven * 1_000_000);
    for _ in 0..3 {
        let request = request(COMPUTERS);
        let fetch = tokio::time::timeout(Duration::from_secs(5), portal.fetch(&request));
        let error = fetch.await.expect("a fetch does not block for minutes").unwrap_err();
        let Failure::Throttled { until, .. } = error.failure else { panic!("{error}") };
        assert!((until.timestamp() - eleven - 300).abs() <= 1, "{until}");
        assert!(
            matches!(error.remedy(), Remedy::Retry { after: Some(wait) } if wait > Duration::from_secs(290))
        );
    }
    assert_eq!(desk.count(), 1);
    let shown = portal.health().retry_after_until.unwrap();
    assert!((shown.timestamp() - eleven - 300).abs() <= 1, "{shown}");
}

#[tokio::test]
async fn a_revoked_token_is_probed_once_and_then_left_alone() {
    let desk = Desk::open(|_, number| if number == 0 { Reply::new(200, "[1]") } else { revoked() }).await;
    let portal = desk.portal();
    portal.fetch(&request(COMPUTERS)).await.unwrap();
    let error = portal.fetch(&request(AUDIT)).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::RenewToken);
    assert!(!format!("{error} {error:?}").contains(TOKEN), "{error}");
    let seen = desk.seen();
    assert!(seen[1].is(AUDIT) && seen[2].is(COMPUTERS) && seen.len() == 3);
    assert_eq!((&seen[2].body["pageSize"], &seen[2].body["pageNumber"]), (&1.into(), &1.into()));
    for endpoint in Endpoint::ALL {
        assert!(matches!(
            portal.fetch(&request(endpoint)).await.unwrap_err().failure,
            Failure::Rejected { .. }
        ));
    }
    assert_eq!(desk.count(), 3);
    let health = portal.health();
    assert_eq!(health.state, CredentialState::Rejected);
    assert!(health.next_probe.is_some() && health.last_success.is_some());
}

#[tokio::test]
async fn a_rejected_token_that_works_again_is_found_by_the_probe() {
    let desk =
        Desk::open(|_, number| if (1..4).contains(&number) { revoked() } else { Reply::new(200, "[1]") })
            .await;
    let delays = [40, 80].map(Duration::from_millis).to_vec();
    let portal = portal(PortalSettings { probe_delays: delays, ..desk.settings() });
    portal.fetch(&request(COMPUTERS)).await.unwrap();
    let mut refused = 0;
    while portal.fetch(&request(AUDIT)).await.is_err() {
        refused += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let seen = desk.seen();
    // Refused, judged, probed at 40 ms in vain, probed at 120 ms with success, and then the request itself.
    // The portal refused three times: what is more cost it nothing.
    assert!(refused > 3 && seen.len() <= 6, "{refused} refusals, {} requests", seen.len());
    assert!(
        seen[3].at - seen[2].at >= Duration::from_millis(38)
            && seen[4].at - seen[3].at >= Duration::from_millis(78)
    );
    assert_eq!(portal.health().state, CredentialState::Ok);
}

#[tokio::test]
async fn a_changed_token_is_tried_at_once() {
    let desk = Desk::open(|seen, _| {
        if seen.header("authorization") == Some(TOKEN) { revoked() } else { Reply::new(200, "[1]") }
    })
    .await;
    let portal = desk.portal();
    assert!(portal.fetch(&request(COMPUTERS)).await.is_err());
    assert!(portal.fetch(&request(COMPUTERS)).await.is_err());
    assert_eq!(desk.count(), 1);
    std::fs::write(desk.token(), "another").unwrap();
    portal.fetch(&request(COMPUTERS)).await.unwrap();
    assert_eq!((desk.count(), portal.health().state), (2, CredentialState::Ok));
}

#[tokio::test]
async fn a_missing_role_stops_only_its_own_source() {
    let desk = Desk::open(
        |seen, _| if seen.is(AUDIT) { missing("View System Audit") } else { Reply::new(200, "[1]") },
    )
    .await;
    let portal = desk.portal();
    // Nothing has worked yet, so the refusal could mean anything; every other endpoint still gets its own try.
    assert_eq!(portal.fetch(&request(AUDIT)).await.unwrap_err().remedy(), Remedy::RenewToken);
    portal.fetch(&request(COMPUTERS)).await.unwrap();
    let error = portal.fetch(&request(AUDIT)).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::MissingRole("Missing the 'View System Audit' permission".into()));
    portal.fetch(&request(COMPUTERS)).await.unwrap();
    assert_eq!(portal.health().state, CredentialState::Ok);
}

#[tokio::test]
async fn while_nothing_ever_worked_every_endpoint_gets_one_try_and_a_revoked_token_only_one_at_all() {
    for (reply, tries) in [(missing("View"), Endpoint::ALL.len()), (revoked(), 1), (Reply::new(440, ""), 1)] {
        let desk = Desk::open(move |_, _| reply.clone()).await;
        let portal = desk.portal();
        for endpoint in Endpoint::ALL.into_iter().chain(Endpoint::ALL) {
            assert_eq!(portal.fetch(&request(endpoint)).await.unwrap_err().remedy(), Remedy::RenewToken);
        }
        assert_eq!(desk.count(), tries);
    }
}

#[tokio::test]
async fn a_token_whose_roles_were_swapped_is_found_to_work() {
    // Computers worked; then that role went and another came.
    let desk = Desk::open(|seen, number| {
        if (number == 0) == seen.is(COMPUTERS) { Reply::new(200, "[1]") } else { missing("View") }
    })
    .await;
    let portal = portal(PortalSettings { probe_delays: vec![Duration::from_millis(10)], ..desk.settings() });
    portal.fetch(&request(COMPUTERS)).await.unwrap();
    portal.fetch(&request(COMPUTERS)).await.unwrap_err();
    let audit = async {
        while portal.fetch(&request(AUDIT)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), audit).await.unwrap();
    assert!(matches!(portal.fetch(&request(COMPUTERS)).await.unwrap_err().remedy(), Remedy::MissingRole(_)));
}

#[tokio::test]
async fn many_streams_refused_at_once_cost_one_probe() {
    let desk = Desk::open(|_, number| {
        if number == 0 {
            Reply::new(200, "[1]")
        } else {
            Reply { delay: Duration::from_millis(30), ..revoked() }
        }
    })
    .await;
    let portal = portal(PortalSettings { concurrent: 4, ..desk.settings() });
    portal.fetch(&request(COMPUTERS)).await.unwrap();
    let (action, audit) = (request(Endpoint::ActionLogByParameters), request(AUDIT));
    let outcomes = tokio::join!(portal.fetch(&action), portal.fetch(&audit), portal.fetch(&audit));
    assert!(outcomes.0.is_err() && outcomes.1.is_err() && outcomes.2.is_err());
    assert_eq!(desk.count(), 1 + 3 + 1);
}

#[tokio::test]
async fn streams_that_wait_for_their_turn_are_not_sent_once_the_token_is_rejected() {
    let desk = Desk::open(|_, number| {
        if number == 0 {
            Reply::new(200, "[1]")
        } else {
            Reply { delay: Duration::from_millis(30), ..revoked() }
        }
    })
    .await;
    let portal = portal(PortalSettings { concurrent: 1, ..desk.settings() });
    portal.fetch(&request(COMPUTERS)).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..6 {
        let portal = portal.clone();
        streams.push(tokio::spawn(async move { portal.fetch(&request(AUDIT)).await.unwrap_err().remedy() }));
    }
    for stream in streams {
        assert_eq!(stream.await.unwrap(), Remedy::RenewToken);
    }
    assert_eq!(desk.count(), 1 + 1 + 1, "one that worked, one that was refused, one probe");
}

#[tokio::test]
async fn an_error_object_under_200_is_an_error() {
    let desk =
        Desk::open(|_, _| Reply::new(200, r#"{"StatusCode": 417, "Message": "Invalid Date Range"}"#)).await;
    let error = desk.portal().fetch(&request(COMPUTERS)).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::SkipPoll);
    assert!(error.to_string().contains("417 (Invalid Date Range)"), "{error}");
}

#[tokio::test]
async fn a_bomb_is_cut_off_at_the_body_limit_and_gives_its_memory_back() {
    use std::io::Write;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(b"[\"").unwrap();
    packer.write_all(&vec![b'a'; 8 << 20]).unwrap();
    packer.write_all(b"\"]").unwrap();
    let bomb = packer.finish().unwrap();
    let desk = Desk::open(move |_, _| Reply::new(200, bomb.clone()).with("Content-Encoding", "gzip")).await;
    let budget = Budget::new(16 << 20);
    let settings = PortalSettings { body_limit: 2 << 20, ..desk.settings() };
    let small = Portal::new(settings, &Pacers::new([1; 32]), budget.clone(), Clock::system()).unwrap();
    let error = small.fetch(&request(COMPUTERS)).await.unwrap_err();
    assert!(matches!(error.failure, Failure::TooLarge { .. }), "{error}");
    assert_eq!((error.remedy(), budget.used(), desk.count()), (Remedy::SmallerPage, 0, 1));

    let large = Portal::new(desk.settings(), &Pacers::new([1; 32]), budget.clone(), Clock::system()).unwrap();
    let page = large.fetch(&request(COMPUTERS)).await.unwrap();
    assert_eq!(page.rows.len(), 1);
    assert!(budget.used() >= 8 << 20, "a page holds its memory");
    drop(page);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_page_that_outgrows_the_free_memory_waits_with_empty_hands() {
    let body = format!("[\"{}\"]", "a".repeat(3 << 20));
    let desk = Desk::open(move |_, _| Reply::new(200, body.clone())).await;
    let budget = Budget::new(4 << 20);
    let portal =
        Portal::new(desk.settings(), &Pacers::new([1; 32]), budget.clone(), Clock::system()).unwrap();
    let held = budget.reserve(2 << 20).await;
    let reader = tokio::spawn(async move { portal.fetch(&request(COMPUTERS)).await.unwrap() });
    while desk.count() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!reader.is_finished());
    drop(held);
    let page = reader.await.unwrap();
    assert!(page.reservation.unwrap().bytes() >= 3 << 20);
    assert_eq!(desk.count(), 2);
}

#[tokio::test]
async fn readers_that_outgrow_the_budget_take_turns_and_all_end() {
    let body = format!("[\"{}\"]", "a".repeat(3 << 20));
    let desk =
        Desk::open(move |_, _| Reply { delay: Duration::from_millis(10), ..Reply::new(200, body.clone()) })
            .await;
    let budget = Budget::new(4 << 20);
    let settings = PortalSettings { concurrent: 4, ..desk.settings() };
    let portal = Portal::new(settings, &Pacers::new([1; 32]), budget.clone(), Clock::system()).unwrap();
    let mut readers = Vec::new();
    for _ in 0..6 {
        let (portal, budget) = (portal.clone(), budget.clone());
        readers.push(tokio::spawn(async move {
            let page = portal.fetch(&request(COMPUTERS)).await.unwrap();
            assert!(budget.used() <= budget.total());
            tokio::time::sleep(Duration::from_millis(5)).await;
            page.rows.len()
        }));
    }
    for reader in readers {
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), reader).await.unwrap().unwrap(), 1);
    }
    assert_eq!(budget.used(), 0);
    assert!(desk.count() <= 6 * 3, "{} requests", desk.count());
}

#[tokio::test]
async fn connections_that_share_a_credential_share_its_rate_and_its_slots() {
    let desk = Desk::open(|_, _| Reply { delay: Duration::from_millis(5), ..Reply::new(200, "[]") }).await;
    let (pacers, budget) = (Pacers::new([1; 32]), Budget::new(1 << 22));
    let open = || {
        let settings = PortalSettings { rate_per_second: Some(50.0), ..desk.settings() };
        Portal::new(settings, &pacers, budget.clone(), Clock::system()).unwrap()
    };
    let (one, two) = (open(), open());
    let started = Instant::now();
    let walk = |portal: Portal| async move {
        for _ in 0..10 {
            portal.fetch(&request(COMPUTERS)).await.unwrap();
        }
    };
    tokio::join!(walk(one), walk(two));
    assert!(started.elapsed() >= Duration::from_millis(19 * 20), "{:?}", started.elapsed());
    assert_eq!(desk.count(), 20);
}

#[tokio::test]
async fn the_portals_time_is_taken_from_its_answers() {
    let desk = Desk::open(|_, number| match number {
        0 => Reply::new(200, "[]").with("Date", "Sun, 01 Mar 2026 12:00:00 GMT"),
        _ => Reply::new(400, "").with("Date", "Sun, 01 Mar 2026 12:02:00 GMT"),
    })
    .await;
    let portal = desk.portal();
    assert!(!portal.heard());
    portal.fetch(&request(COMPUTERS)).await.unwrap();
    assert!(portal.heard() && (portal.now() - 1_772_366_400_000_000).abs() < 1_000_000);
    portal.fetch(&request(COMPUTERS)).await.unwrap_err();
    assert!((portal.now() - 1_772_366_520_000_000).abs() < 1_000_000, "an error tells the time as well");
}

#[tokio::test]
async fn the_own_organization_is_that_of_the_first_computer() {
    let desk = Desk::open(|_, _| {
        Reply::new(200, format!(r#"[{{"organizationId":"{}","hostname":"x"}}]"#, OWN.to_uppercase()))
    })
    .await;
    assert_eq!(desk.portal().discover_organization().await.unwrap().as_str(), OWN);
    let seen = desk.seen().pop().unwrap();
    assert!(seen.header("managedorganizationid").is_none() && seen.body["pageSize"] == 1);
    assert_eq!(seen.body["childOrganizations"], false);
}

#[tokio::test]
async fn without_computers_the_only_reachable_organization_is_taken_and_of_several_none() {
    for (list, expected) in [
        (format!(r#"[{{"label":"A","value":"{OWN}"}}]"#), Some(OWN)),
        (format!(r#"[{{"label":"A","value":"{OWN}"}},{{"label":"B","value":"{TOKEN:.32}"}}]"#), None),
        ("[]".to_owned(), None),
    ] {
        for computers in [Reply::new(200, "[]"), missing("View Computers"), Reply::new(404, "")] {
            let list = list.clone();
            let desk = Desk::open(move |seen, _| {
                if seen.is(COMPUTERS) { computers.clone() } else { Reply::new(200, list.clone()) }
            })
            .await;
            match (desk.portal().discover_organization().await, expected) {
                (Ok(found), Some(expected)) => assert_eq!(found.as_str(), expected),
                (Err(error), None) => assert!(error.to_string().contains("organization_id"), "{error}"),
                (outcome, _) => panic!("{outcome:?}"),
            }
        }
    }
}

#[tokio::test]
async fn without_computers_the_one_organization_that_is_below_none_is_the_own() {
    let (child, other) = ("0c3d1e3a-53a1-5c52-9d2d-6a0f1bb0c8a4", "1d3d1e3a-53a1-5c52-9d2d-6a0f1bb0c8a4");
    for (reachable, below, expected) in [
        (vec![OWN, child, other], vec![child, other], Some(OWN)),
        (vec![OWN, child, other], vec![child], None),
        (vec![OWN, child], vec![OWN, child], None),
        (vec![OWN, child], vec![], None),
        // The own one is left out, and what is below its child is listed nowhere.
        (vec![child, other], vec![child], None),
    ] {
        let list = |ids: &[&str], name: &str| {
            let rows: Vec<_> = ids.iter().map(|id| serde_json::json!({ "label": "A", name: id })).collect();
            serde_json::json!(rows).to_string()
        };
        let (reachable, below) = (list(&reachable, "value"), list(&below, "organizationId"));
        let desk = Desk::open(move |seen, _| match () {
            () if seen.is(COMPUTERS) => Reply::new(200, "[]"),
            () if seen.is(Endpoint::ChildOrganizations) => {
                let of_own = seen.header("managedorganizationid").is_none_or(|asked| asked == OWN);
                Reply::new(200, if of_own { below.clone() } else { "[]".to_owned() })
            }
            () => Reply::new(200, reachable.clone()),
        })
        .await;
        match (desk.portal().discover_organization().await, expected) {
            (Ok(found), Some(expected)) => assert_eq!(found.as_str(), expected),
            (Err(error), None) => assert!(error.to_string().contains("organization_id"), "{error}"),
            (outcome, _) => panic!("{outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_role_for_reports_alone_is_told_to_name_its_organization_and_not_to_renew_its_token() {
    let desk = Desk::open(|seen, _| match seen.is(Endpoint::ReportList) {
        true => Reply::new(200, "[]"),
        false => missing("View Something"),
    })
    .await;
    let portal = desk.portal();
    for _ in 0..2 {
        let error = portal.discover_organization().await.unwrap_err();
        let said = format!("{error} {:?}", error.advice());
        assert!(said.contains("neither computers nor organizations") && !said.contains("renew"), "{said}");
        assert!(said.contains("organization_id") && said.contains("View Computers"), "{said}");
        assert_eq!(portal.health().state, CredentialState::Ok);
    }

    // Reports are not shown either, and still it is the role: the portal says so.
    let desk = Desk::open(|_, _| missing("View Something")).await;
    let error = desk.portal().discover_organization().await.unwrap_err();
    assert!(error.to_string().contains("neither computers nor organizations"), "{error}");
    assert_eq!(desk.count(), 3);

    for (refusal, requests) in [(Reply::new(401, ""), 3), (revoked(), 1)] {
        let desk = Desk::open(move |_, _| refusal.clone()).await;
        let error = desk.portal().discover_organization().await.unwrap_err();
        assert_eq!(error.remedy(), Remedy::RenewToken, "{error}");
        assert_eq!(desk.count(), requests, "a token that is known to be revoked is left alone");
    }
}

#[tokio::test]
async fn every_page_of_children_is_walked_and_sparse_rows_do_no_harm() {
    let id = |number: u64| uuid::Uuid::from_u128(u128::from(number) + 1).to_string();
    let desk = Desk::open(move |seen, _| {
        assert_eq!(
            (&seen.body["includeAllChildren"], &seen.body["childOrganizations"]),
            (&true.into(), &true.into())
        );
        let page = seen.body["pageNumber"].as_u64().unwrap();
        let rows: Vec<_> = ((page - 1) * 500..(page * 500).min(1200))
            .map(|n| serde_json::json!({ "organizationId": id(n), "displayName": format!("org {n}") }))
            .collect();
        let mut rows = serde_json::json!(rows);
        if page == 3 {
            rows.as_array_mut().unwrap().extend([
                serde_json::json!({"name": 7}),
                serde_json::json!(null),
                serde_json::json!({"organizationId": null}),
            ]);
        }
        Reply::new(200, rows.to_string())
    })
    .await;
    let found = desk.portal().child_organizations(&OrganizationId::new(OWN)).await.unwrap();
    assert_eq!((found.len(), found[1199].name.as_str(), desk.count()), (1200, "org 1199", 3));
}

#[tokio::test]
async fn a_portal_without_the_list_of_children_is_asked_for_its_drop_down() {
    let desk = Desk::open(|seen, _| match seen.is(Endpoint::ChildOrganizations) {
        true => Reply::new(404, ""),
        false => Reply::new(200, format!(r#"[{{"label":"A","value":"{OWN}"}},{{"label":"","value":null}}]"#)),
    })
    .await;
    let found = desk.portal().child_organizations(&OrganizationId::new(OWN)).await.unwrap();
    assert_eq!(found, [ListedOrganization { id: OrganizationId::new(OWN), name: "A".into() }]);
}

#[tokio::test]
async fn a_portal_that_ignores_the_page_number_ends_the_walk() {
    let rows: Vec<_> = (1..=500u128)
        .map(|n| serde_json::json!({ "organizationId": uuid::Uuid::from_u128(n).to_string() }))
        .collect();
    let rows = serde_json::json!(rows).to_string();
    let desk = Desk::open(move |_, _| Reply::new(200, rows.clone())).await;
    assert_eq!(desk.portal().child_organizations(&OrganizationId::new(OWN)).await.unwrap().len(), 500);
    assert_eq!(desk.count(), 2);
}

#[tokio::test]
async fn every_answer_of_the_shared_error_records_is_an_error_or_nothing() {
    for (status, body) in [
        (403, r#"{"LoggerId": "53bafb6a", "StatusCode": 403, "Message": "TOKEN_REVOKED"}"#),
        (440, r#"{"LoggerId": "0dc0938e", "StatusCode": 440, "Message": "TOKEN_REVOKED"}"#),
        (401, r#"{"StatusCode": 401, "Message": "Missing the 'View Computers' permission"}"#),
        (417, r#"{"StatusCode": 417, "Message": "Missing Parameters. Unable to load details."}"#),
        (400, r#"{"title": "One or more validation errors occurred.", "status": 400, "errors": {}}"#),
    ] {
        let desk = Desk::open(move |_, _| Reply::new(status, body)).await;
        let error = desk.portal().fetch(&request(COMPUTERS)).await.unwrap_err().to_string();
        assert!(error.starts_with("site acme: Computer/") && error.contains(&status.to_string()), "{error}");
    }
    for nothing in ["", "null", "[]"] {
        let desk = Desk::open(move |_, _| Reply::new(200, nothing)).await;
        assert_eq!(desk.portal().fetch(&request(COMPUTERS)).await.unwrap().rows.len(), 0);
    }
}

#[tokio::test]
async fn the_wait_before_another_try_is_thrown_with_the_dice() {
    // Dice that fall near the middle, so that neither no dice nor a wrong span passes for them.
    let middle = |seed: &u64| {
        let clock = Clock::shifted(chrono::Duration::zero(), *seed);
        [clock.fraction(), clock.fraction()].iter().all(|fraction| (0.4..0.6).contains(fraction))
    };
    let seed = (0..).find(middle).expect("one in 25 seeds");
    let dice = || Clock::shifted(chrono::Duration::zero(), seed);
    let desk = Desk::open(|_, _| Reply::new(503, "")).await;
    let (first, longest) = (Duration::from_millis(500), Duration::from_secs(60));
    let settings =
        PortalSettings { attempts: 3, backoff_first: first, backoff_longest: longest, ..desk.settings() };
    let portal = Portal::new(settings, &Pacers::new([1; 32]), Budget::new(1 << 20), dice()).unwrap();
    portal.fetch(&request(COMPUTERS)).await.unwrap_err();
    let (seen, clock) = (desk.seen(), dice());
    assert_eq!(seen.len(), 3);
    for (attempt, two) in (0..).zip(seen.windows(2)) {
        let (wait, wanted) =
            (two[1].at - two[0].at, retry::backoff(first, longest, attempt, clock.fraction()));
        let late = Duration::from_millis(300);
        assert!(wait >= wanted && wait < wanted + late, "{wait:?} instead of {wanted:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_configured_is_used_and_no_proxy_goes_around_it() {
    let desk = Desk::open(|_, _| Reply::new(200, "[]")).await;
    let proxy = Desk::open(|_, _| Reply::new(200, "[1]")).await;
    let through =
        PortalSettings { proxy: Some(proxy.url.clone()), no_proxy: Some(String::new()), ..desk.settings() };
    let around = PortalSettings { no_proxy: Some("127.0.0.1".into()), ..through.clone() };
    assert_eq!(portal(through).fetch(&request(COMPUTERS)).await.unwrap().rows.len(), 1);
    assert_eq!(portal(around).fetch(&request(COMPUTERS)).await.unwrap().rows.len(), 0);
    assert_eq!((desk.count(), proxy.count()), (1, 1));
}

#[tokio::test]
async fn health_is_shown_without_the_token() {
    let desk = Desk::open(|_, _| Reply::new(200, "[1]")).await;
    let env = SecretSource::Env { name: "TOKEN".into(), value: SecretString::from(TOKEN) };
    let portal = portal(PortalSettings { token: env, ..desk.settings() });
    assert_eq!(portal.health().state, CredentialState::Untested);
    portal.fetch(&request(COMPUTERS)).await.unwrap();
    let shown = serde_json::to_string(&portal.health()).unwrap();
    assert!(
        shown.contains(r#""state":"ok""#) && shown.contains(r#""requests":1"#) && !shown.contains(TOKEN),
        "{shown}"
    );
}

/// A list, packed as one gzip member a part.
fn packed(parts: &[&[u8]]) -> Vec<u8> {
    use std::io::Write;
    let mut members = Vec::new();
    for part in parts {
        let mut packer = flate2::write::GzEncoder::new(&mut members, flate2::Compression::best());
        packer.write_all(part).unwrap();
        packer.finish().unwrap();
    }
    members
}

#[tokio::test]
async fn a_packed_body_is_read_whatever_its_coding_is_called_and_however_many_members_it_has() {
    for coding in ["gzip", "GZIP", "x-gzip", "identity, Gzip"] {
        let body = packed(&[b"[\"one\",", b"\"two\"", b"]"]);
        let desk =
            Desk::open(move |_, _| Reply::new(200, body.clone()).with("Content-Encoding", coding)).await;
        let page = desk.portal().fetch(&request(COMPUTERS)).await.unwrap();
        assert_eq!(page.rows().collect::<Vec<_>>(), ["\"one\"", "\"two\""], "{coding}");
        let asked = desk.seen.lock().unwrap()[0].header("Accept-Encoding").map(str::to_owned);
        assert_eq!(asked.as_deref(), Some("gzip"));
    }
}

#[tokio::test]
async fn a_bomb_of_many_members_is_cut_off_at_the_body_limit() {
    let mut parts: Vec<&[u8]> = vec![b"[\""];
    let long = vec![b'a'; 1 << 20];
    parts.extend(std::iter::repeat_n(long.as_slice(), 8));
    parts.push(b"\"]");
    let bomb = packed(&parts);
    let desk = Desk::open(move |_, _| Reply::new(200, bomb.clone()).with("Content-Encoding", "gzip")).await;
    let budget = Budget::new(16 << 20);
    let settings = PortalSettings { body_limit: 2 << 20, ..desk.settings() };
    let portal = Portal::new(settings, &Pacers::new([1; 32]), budget.clone(), Clock::system()).unwrap();
    let error = portal.fetch(&request(COMPUTERS)).await.unwrap_err();
    assert!(matches!(error.failure, Failure::TooLarge { .. }), "{error}");
    assert_eq!((budget.used(), desk.count()), (0, 1));
}

#[tokio::test]
async fn a_packed_body_that_is_cut_off_is_asked_for_again() {
    let whole = packed(&[b"[\"one\",", b"\"two\"]"]);
    let second = packed(&[b"[\"one\","]).len();
    for cut in [10, second - 1, second + 10, whole.len() - 9, whole.len() - 1] {
        let whole = whole.clone();
        let answer = move |_: &Seen, number| if number == 0 { whole[..cut].to_vec() } else { whole.clone() };
        let desk = Desk::open(move |seen, number| {
            Reply::new(200, answer(seen, number)).with("Content-Encoding", "gzip")
        });
        let desk = desk.await;
        let page = desk.portal().fetch(&request(COMPUTERS)).await.unwrap();
        assert_eq!((page.rows.len(), desk.count()), (2, 2), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_packed_error_is_read_as_a_plain_one() {
    let body =
        packed(&[br#"{"StatusCode":403,"Message":"Missing the "#, br#"'View Computers' permission"}"#]);
    let desk = Desk::open(move |_, _| Reply::new(403, body.clone()).with("Content-Encoding", "X-GZIP")).await;
    let error = desk.portal().fetch(&request(COMPUTERS)).await.unwrap_err();
    assert!(error.to_string().contains("View Computers"), "{error}");
}

#[tokio::test]
async fn a_coding_that_was_not_asked_for_is_named() {
    let desk = Desk::open(|_, _| Reply::new(200, "[]").with("Content-Encoding", "br")).await;
    let error = desk.portal().fetch(&request(COMPUTERS)).await.unwrap_err();
    assert!(error.to_string().contains("br"), "{error}");
}
