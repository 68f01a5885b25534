//! The sink against a server of few words, over TLS and without.

use std::sync::Arc;
use std::sync::Mutex;

use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;
use crate::credentials::SecretSource;
use crate::model::{Kind, OrganizationId};
use crate::reach::Reach;
use crate::sink::{Record, Remedy};

/// Requests that came, head and body.
type Seen = Arc<Mutex<Vec<String>>>;

/// Reads a request and gives an answer.
async fn answer(mut line: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen, answer: &str) {
    let mut text = Vec::new();
    loop {
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                seen.lock().unwrap().push(whole);
                break;
            }
        }
        if line.read_buf(&mut text).await.unwrap_or(0) == 0 {
            return;
        }
    }
    drop(line.write_all(answer.as_bytes()).await);
    drop(line.shutdown().await);
}

/// A server that always gives this answer.
async fn serve(status: &'static str, body: &'static str) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        let text =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        loop {
            let (line, _) = listener.accept().await.unwrap();
            answer(line, &shared, &text).await;
        }
    });
    (url, seen)
}

fn settings(url: &str, protocol: Protocol) -> HttpSettings {
    HttpSettings {
        url: url.parse().unwrap(),
        auth: Auth::None,
        reach: Reach {
            proxy: None,
            no_proxy: None,
            ca_file: None,
            identity: None,
            insecure_skip_verify: false,
            connect_timeout: Duration::from_secs(5),
        },
        timeout: Duration::from_secs(5),
        gzip: false,
        concurrent: 2,
        request_size: 1 << 20,
        protocol,
    }
}

fn post() -> Protocol {
    Protocol::Post(Post { body: Body::Ndjson, address: None })
}

/// Records with these numbers, of a lane for each connection.
fn batch(records: &[(ConnectionId, i64)]) -> Batch {
    let mut buffer = Vec::new();
    let record = |(connection, number): &(ConnectionId, i64)| {
        let start = buffer.len();
        buffer.extend(format!("{{\"number\":{number},\"of\":{connection}}}\n").into_bytes());
        Record {
            bytes: start..buffer.len(),
            connection: *connection,
            lane: Lane::Live,
            number: *number,
            uid: Uuid::from_u64_pair(u64::try_from(*connection).unwrap(), u64::try_from(*number).unwrap()),
            kind: Kind::Event,
            time: 1_700_000_000_123_456,
            host: None,
            day: chrono::NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(),
            site: "acme".into(),
            source: "unified_audit".into(),
            organization: OrganizationId::none(),
            slug: "".into(),
            device: None,
        }
    };
    Batch { records: records.iter().map(record).collect(), buffer: buffer.into(), again: false }
}

async fn write(sink: &mut HttpSink, batch: &Batch) -> Result<Vec<Refusal>, SinkError> {
    sink.recover().unwrap();
    sink.prepare(DateTime::UNIX_EPOCH);
    sink.write(batch).await
}

#[tokio::test]
async fn what_a_far_side_answers_tells_whether_it_may_pass_and_never_our_secret() {
    let secret = "s3cret-of-ours";
    let source = SecretSource::Env { name: "KEY".to_owned(), value: SecretString::from(secret) };
    for (status, remedy, words) in [
        ("401 Unauthorized", Remedy::Hold, "refuses the credential (401: who is [token], known as [token]?)"),
        ("403 Forbidden", Remedy::Hold, "environment variable KEY"),
        ("404 Not Found", Remedy::Hold, "look at `url`"),
        ("302 Found", Remedy::Hold, "look at `url`"),
        ("408 Request Timeout", Remedy::Retry, "cannot take records now"),
        ("429 Too Many Requests", Remedy::Retry, "cannot take records now"),
        ("500 Oops", Remedy::Retry, "cannot take records now"),
        ("503 Later", Remedy::Retry, "cannot take records now"),
    ] {
        let (url, seen) = serve(status, "who is s3cret-of-ours, known as bWU6czNjcmV0LW9mLW91cnM=?\n").await;
        let auth = Auth::Basic { username: "me".to_owned(), password: source.clone() };
        let settings = HttpSettings { auth, ..settings(&url, post()) };
        let mut sink = HttpSink::new(&settings, Format::Raw);
        let error = write(&mut sink, &batch(&[(1, 1)])).await.unwrap_err();
        let said = error.to_string();
        assert_eq!(error.remedy(), remedy, "{said}");
        assert!(said.contains(words) && said.contains(&url), "{status}: {said}");
        assert!(!said.contains(secret) && !said.contains("bWU6"), "{said}");
        assert!(seen.lock().unwrap()[0].contains("Basic bWU6czNjcmV0LW9mLW91cnM="), "it was sent");
        assert!(!format!("{sink:?}").contains(secret));
    }
}

#[tokio::test]
async fn what_was_taken_before_a_failure_is_not_sent_again() {
    let (url, seen) = serve("204 No Content", "").await;
    let mut sink = HttpSink::new(&settings(&url, post()), Format::Raw);
    let all = batch(&[(1, 1), (2, 2)]);
    write(&mut sink, &all).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2, "a request for each lane");
    // As after a failure of something else: the same records come again, and more.
    write(&mut sink, &batch(&[(1, 1), (2, 2), (2, 3)])).await.unwrap();
    {
        let seen = seen.lock().unwrap();
        assert!(seen.len() == 3 && seen[2].ends_with("{\"number\":3,\"of\":2}\n"), "{seen:?}");
    }
    sink.commit();
    write(&mut sink, &all).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 5, "what is committed is remembered no more");
}

#[tokio::test]
async fn the_records_of_a_lane_go_out_in_their_order_whatever_is_sent_at_the_same_time() {
    let (url, seen) = serve("200 OK", "").await;
    let settings = HttpSettings { request_size: 60, concurrent: 3, ..settings(&url, post()) };
    let records: Vec<_> = (0..60).map(|number| (number % 5, number)).collect();
    write(&mut HttpSink::new(&settings, Format::Raw), &batch(&records)).await.unwrap();
    let mut last = BTreeMap::new();
    let mut count = 0;
    for request in seen.lock().unwrap().iter() {
        for line in request.split_once("\r\n\r\n").unwrap().1.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let (of, number) = (line["of"].as_i64().unwrap(), line["number"].as_i64().unwrap());
            assert!(last.insert(of, number).is_none_or(|before| before < number), "{of}: {number}");
            count += 1;
        }
    }
    assert_eq!(count, 60);
}

#[tokio::test]
async fn the_same_records_have_the_same_key_and_others_another() {
    let (url, seen) = serve("200 OK", "").await;
    for records in [&[(1, 1), (1, 2)][..], &[(1, 1), (1, 2)], &[(1, 1), (1, 3)]] {
        write(&mut HttpSink::new(&settings(&url, post()), Format::Raw), &batch(records)).await.unwrap();
    }
    let keys: Vec<String> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|request| {
            request.to_lowercase().split("idempotency-key: ").nth(1).unwrap().get(..32).unwrap().to_owned()
        })
        .collect();
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
}

#[tokio::test]
async fn acknowledgements_that_are_numbered_anew_count_for_nothing() {
    let (url, seen) = serve("200 OK", r#"{"text":"Success","code":0,"ackId":0,"acks":{"0":true}}"#).await;
    let hec = Hec {
        index: None,
        sourcetype: "threatlocker:{source}".to_owned(),
        ack: Ack::Auto,
        ack_timeout: Duration::from_secs(5),
    };
    let settings = HttpSettings { request_size: 30, ..settings(&url, Protocol::Hec(hec)) };
    let mut sink = HttpSink::new(&settings, Format::Raw);
    let error = write(&mut sink, &batch(&[(1, 1), (1, 2)])).await.unwrap_err();
    assert!(error.to_string().contains("acknowledgements anew"), "{error}");
    assert_eq!(error.remedy(), Remedy::Retry);
    // The number that was given before the restart says nothing of the first record: it is sent again.
    seen.lock().unwrap().clear();
    write(&mut sink, &batch(&[(1, 1)])).await.unwrap();
    let seen = seen.lock().unwrap();
    let told = r#"{"time":1700000000.123,"source":"lockstep:acme","sourcetype":"threatlocker:unified_audit","event":{"number":1,"of":1},"fields":{"uid":"00000000-0000-0001-0000-000000000001"}}"#;
    assert!(seen[0].contains(told), "{}", seen[0]);
}

/// Certificates of a server and of a client, each its own authority, in files.
struct Papers {
    folder: tempfile::TempDir,
    server: ServerConfig,
}

fn papers() -> Papers {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(folder.path().join(format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        made
    };
    let (server, client) = (make("server"), make("client"));
    make("stranger");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(client.cert.der().to_vec())).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server.cert.der().clone()], key)
        .unwrap();
    Papers { folder, server: config }
}

#[tokio::test]
async fn a_far_side_that_wants_our_certificate_gets_it_and_takes_no_other() {
    let Papers { folder, server } = papers();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (line, _) = listener.accept().await.unwrap();
            if let Ok(line) = acceptor.accept(line).await {
                answer(line, &shared, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await;
            }
        }
    });
    let file = |name: &str| folder.path().join(name);
    let with = |ca: Option<&str>, identity: Option<&str>| {
        let mut settings = settings(&url, post());
        settings.reach.ca_file = ca.map(file);
        settings.reach.identity =
            identity.map(|name| (file(&format!("{name}.pem")), file(&format!("{name}.key"))));
        HttpSink::new(&settings, Format::Raw)
    };
    let records = batch(&[(1, 1)]);
    write(&mut with(Some("server.pem"), Some("client")), &records).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
    for mut wrong in [
        with(Some("server.pem"), None),
        with(Some("server.pem"), Some("stranger")),
        with(None, Some("client")),
    ] {
        let error = write(&mut wrong, &records).await.unwrap_err();
        assert_eq!(error.remedy(), Remedy::Retry, "{error}");
        assert!(error.to_string().contains("cannot be reached"), "{error}");
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_address_that_is_a_secret_is_read_for_each_batch_and_never_told_whatever_the_far_side_quotes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("address");
    let (url, seen) =
        serve("404 Not Found", "Cannot POST /T1/s3cret-part?key=other-s3cret, or s3cret-part").await;
    let source = Some(SecretSource::File(file.clone()));
    let mut sink = HttpSink::new(
        &settings(&url, Protocol::Post(Post { body: Body::Ndjson, address: source })),
        Format::Raw,
    );
    for path in ["T1/s3cret-part?key=other-s3cret", "T2/s3cret-part?key=other-s3cret"] {
        std::fs::write(&file, format!("{url}{path}\n")).unwrap();
        let error = write(&mut sink, &batch(&[(1, 1)])).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1") && error.contains("404") && !error.contains("s3cret"), "{error}");
        let last = seen.lock().unwrap().last().unwrap().clone();
        assert!(last.starts_with(&format!("POST /{path} ")), "{last}");
    }
    std::fs::write(&file, "http://hooks.example/s3cret").unwrap();
    let allowed = settings("https://hooks.example/", post()).url;
    sink.settings = Arc::new(HttpSettings { url: allowed, ..(*sink.settings).clone() });
    let error = write(&mut sink, &batch(&[(1, 1)])).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Hold);
    assert!(error.to_string().contains("plain http") && !error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn many_refused_records_of_a_batch_that_was_taken_in_part_before_are_refused_and_hold_nothing() {
    let (url, _) = serve("400 Bad Request", "no").await;
    let records: Vec<(ConnectionId, i64)> = (1..=71).map(|number| (1, number)).collect();
    let whole = batch(&records);
    let mut sink = HttpSink::new(&settings(&url, post()), Format::Raw);
    // As after a write that failed half-way: the far side has the first one.
    (sink.takes, sink.taken) = (true, HashSet::from([whole.records[0].uid]));
    let refused = write(&mut sink, &whole).await.unwrap();
    assert_eq!(refused.len(), 70);
    // Of one that it has nothing of, the fault is hardly in the records.
    let mut sink = HttpSink::new(&settings(&url, post()), Format::Raw);
    let error = write(&mut sink, &whole).await.unwrap_err().to_string();
    assert!(error.contains("each of the first 64 records"), "{error}");
}
