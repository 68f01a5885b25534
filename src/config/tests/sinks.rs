//! Where it goes.

use super::*;
use crate::format::Format;
use crate::formats::ocsf::Version;

#[test]
fn two_sinks_on_one_place_are_a_mistake_however_it_is_spelled() {
    let place = |path: &str| {
        let folder = Folder::with_sinks(&format!(
            "  - {{ name: one, type: file, path: DIR/out/x.ndjson }}\n  - {{ name: two, type: file, path: \"{path}\" }}\n"
        ));
        std::os::unix::fs::symlink(folder.0.path(), folder.0.path().join("link")).unwrap();
        folder
    };
    let other = place("DIR/link/out/y.ndjson");
    assert_eq!(other.load().sinks.len(), 2);
    for same in ["DIR/out//x.ndjson", "DIR/./out/x.ndjson", "DIR/link/out/x.ndjson"] {
        let said = place(same).mistakes();
        assert!(said.contains("sinks[1].path: writes to the same place as sinks[0]"), "{same}: {said}");
    }
}

#[test]
fn sites_and_sinks_have_names_of_their_own() {
    let folder = Folder::new(
        "connections:
  - { site: acme, instance: g, token: { file: DIR/token } }
  - { site: Acme, instance: h, token: { file: DIR/token } }
  - { site: ../up, instance: h, token: { file: DIR/token } }
  - { instance: h, token: { file: DIR/token } }
sinks:
  - { name: out, type: stdout }
  - { name: Out, type: file, path: out/x.ndjson }
  - { name: more, type: stdout }
  - { name: same, type: file, path: out/x.ndjson }
  - { type: file }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 8 mistakes:
      connections[1].site: is the same as in connections[0]; every site needs a name of its own
      connections[2].site: expected up to 64 letters, digits, ".", "_" or "-", found "../up"
      connections[3].site: is missing; write a short label for this account, such as `site: acme`
      sinks[1].name: is the same as in sinks[0]; every sink needs a name of its own
      sinks[2].type: writes to the same place as sinks[0]; each sink needs its own
      sinks[3].path: writes to the same place as sinks[1]; each sink needs its own
      sinks[4].name: is missing; write a short label for this sink, such as `name: out`
      sinks[4].path: is missing; write `path: "out/{site}/{source}-{date}.ndjson"`
    "#);
}

#[test]
fn sinks_are_checked() {
    let folder = Folder::with_sinks(
        "  - { name: a, type: file, path: \"out/{sit}.ndjson\", rotate: { size: 256, age: soon, count: 5 } }
  - { name: b, type: stdout, path: x }
  - { name: c, type: printer }
  - { name: d, type: file, path: a/b, format: rwa }
  - { name: e, type: file, path: a/c, format: ocsf, version: 1.4, raw: perhaps }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 9 mistakes:
      sinks[0].path: unknown placeholder {sit}; known: {site} {org_id} {org_slug} {source} {kind} {date}
      sinks[0].rotate.size: expected a size with its unit such as 512KiB, 256MiB or 8GiB, found 256
      sinks[0].rotate.age: expected a duration with its unit such as 200ms, 60s, 1h30m or 30d, found "soon"
      sinks[0].rotate.count: unknown key; known here: size, age
      sinks[1].path: unknown key; known here: name, type, format, version, raw, redact, redact_key, select, from, max_per_day
      sinks[2].type: unknown "printer"; known here: elasticsearch, file, http, kafka, opensearch, splunk_hec, stdout
      sinks[3].format: unknown "rwa"; known here: raw, ocsf, ecs
      sinks[4].version: unknown "1.4"; did you mean "1.8"?
      sinks[4].raw: expected true or false, found "perhaps"
    "#);
}

#[test]
fn what_a_sink_wants_is_checked_against_what_there_is() {
    let folder = Folder::with_sinks(
        "  - { name: a, type: stdout, select: { kinds: [evnt], sources: [audit], sites: [nowhere], severity: loud } }
  - { name: b, type: file, path: a/b, format: raw, select: { severity: high } }
  - { name: c, type: file, path: a/c, select: { organisations: [x] }, from: yesterday }
  - { name: d, type: file, path: a/d, select: { sites: [nowhere] } }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 7 mistakes:
      sinks[0].select.kinds: unknown "evnt"; did you mean "event"?
      sinks[0].select.sources: unknown "audit"; known here: unified_audit, system_audit, computers, organizations, policies, approval_requests, threats, remediations, reports, online_devices, computer_checkins, computer_details, private_threats, private_remediations
      sinks[0].select.severity: unknown "loud"; known here: informational, low, medium, high, critical
      sinks[1].select.severity: cannot be told with `format: raw`, which reads no row; choose another format, or remove it
      sinks[2].select.organisations: unknown key; did you mean "organizations"?
      sinks[2].from: unknown "yesterday"; known here: retained, now
      sinks[3].select.sites: there is no site nowhere; this sink would get nothing of it
    "#);
}

#[test]
fn what_does_nothing_with_a_format_is_a_mistake() {
    let folder = Folder::with_sinks(
        "  - { name: a, type: stdout, format: ecs, version: 1.5 }
  - { name: b, type: file, path: a/b, format: raw, version: \"1.3\" }
  - { name: c, type: file, path: a/c, format: raw, raw: true }
  - { name: d, type: file, path: a/d, format: raw, raw: false }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 3 mistakes:
      sinks[0].version: does nothing with `format: ecs`: it is a release of ocsf; remove it
      sinks[1].version: does nothing with `format: raw`: it is a release of ocsf; remove it
      sinks[2].raw: does nothing with `format: raw`, which is the vendor's row; remove it
    "#);
}

#[test]
fn a_kafka_sink_is_checked() {
    let folder = Folder::with_sinks(
        "  - { name: a, type: kafka }
  - { name: b, type: kafka, brokers: [\"k1:port\"], key: user, compression: rar, transactional: maybe, topics: { events: \"a b\" } }
  - { name: c, type: kafka, brokers: [k1], key: device, format: raw, positions_topic: \"{site}\" }
  - { name: d, type: kafka, brokers: [k2], sasl: { mechanism: PLAIN, username: u, password: { file: DIR/token } }, tls: { enabled: false } }
  - { name: e, type: kafka, brokers: [k3], sasl: { mechanism: GSSAP1, username: u, password: word }, tls: { cert_file: DIR/token } }
  - { name: f, type: kafka, brokers: [k4], properties: { acks: 1, linger.ms: 5, linger.mz: 5, sasl.password: x } }
  - { name: g, type: kafka, brokers: [k5] }
  - { name: h, type: kafka, brokers: [k5] }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 16 mistakes:
      sinks[0].brokers: is missing; write `brokers: ["k1.example:9092", "k2.example:9092"]`
      sinks[1].brokers: expected HOST:PORT, found "k1:port"
      sinks[1].topics.events: a topic is called by letters, digits, ".", "_" and "-", at most 249 of them
      sinks[1].key: unknown "user"; known here: uid, device, organization
      sinks[1].compression: unknown "rar"; known here: zstd, lz4, snappy, gzip, none
      sinks[1].transactional: expected true or false, found "maybe"
      sinks[2].key: `device` needs a format that reads rows: write `format: ocsf` or `ecs`, or `key: organization`
      sinks[2].positions_topic: is one topic; write a name without placeholders
      sinks[3].sasl.mechanism: `PLAIN` without TLS sends the secret as it is; remove `tls: { enabled: false }`, or use SCRAM
      sinks[4].sasl.mechanism: unknown "GSSAP1"; known here: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, GSSAPI
      sinks[4].sasl.password: a secret does not stand in the configuration; write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`
      sinks[4].tls.key_file: is missing; `cert_file` needs its key
      sinks[5].properties.acks: lockstep sets it so that no record is lost, doubled or reordered; remove it
      sinks[5].properties.linger.mz: librdkafka says: No such configuration property: "linger.mz"
      sinks[5].properties.sasl.password: write it under `sasl`
      sinks[7].topics: writes to the same place as sinks[6]; each sink needs its own
    "#);
}

#[test]
fn a_kafka_sink_is_encrypted_when_it_logs_in_or_has_certificates_unless_it_says_otherwise() {
    let tls = |keys: &str| {
        let folder = Folder::with_sinks(&format!(
            "  - {{ name: a, type: kafka, brokers: [\"127.0.0.1:9\"]{keys} }}\n"
        ));
        let SinkKind::Kafka(kafka) = folder.load().sinks.swap_remove(0).kind else { panic!("kafka") };
        kafka.tls.is_some()
    };
    let sasl = "sasl: { mechanism: PLAIN, username: u, password: { file: DIR/token } }";
    assert!(!tls(""));
    assert!(tls(", tls: { enabled: true }"));
    assert!(tls(", tls: { ca_file: DIR/token }"));
    assert!(tls(&format!(", {sasl}")));
    assert!(!tls(&format!(", {sasl}, tls: {{ enabled: false }}")));
}

#[test]
fn a_token_takes_the_place_of_user_and_password_and_a_password_of_a_key_needs_the_key() {
    let kafka = |keys: &str| {
        Folder::with_sinks(&format!(
            "  - {{ name: a, type: kafka, brokers: [\"k1.example:9092\"], {keys} }}\n"
        ))
    };
    kafka("sasl: { mechanism: OAUTHBEARER, token: { file: DIR/token } }").load();
    let mistakes = [
        "sasl: { mechanism: OAUTHBEARER, token: { file: DIR/token }, password: { file: DIR/token } }",
        "sasl: { mechanism: PLAIN, username: u, password: { file: DIR/token }, token: { file: DIR/token } }",
        "sasl: { mechanism: OAUTHBEARER, token: { file: DIR/token } }, tls: { enabled: false }",
        "tls: { key_password: { file: DIR/token } }",
    ]
    .map(|keys| kafka(keys).mistakes().lines().nth(1).unwrap_or_default().trim().to_owned());
    assert_eq!(
        mistakes,
        [
            "sinks[0].sasl.password: does nothing with `mechanism: OAUTHBEARER`; write `token`",
            "sinks[0].sasl.token: does nothing with `mechanism: PLAIN`; write `password`",
            "sinks[0].sasl.mechanism: `OAUTHBEARER` without TLS sends the secret as it is; remove `tls: { enabled: false \
             }`, or use SCRAM",
            "sinks[0].tls.key_password: does nothing without `key_file`, the key that it opens",
        ]
    );
}

#[test]
fn a_file_sink_rotates_as_told_and_else_by_default() {
    let folder =
        Folder::with_sinks("  - { name: a, type: file, path: \"out/{site}.ndjson\", rotate: { age: 5m } }\n");
    let config = folder.load();
    let SinkKind::File { rotate_size, rotate_age, .. } = &config.sinks[0].kind else { panic!("a file") };
    assert_eq!((*rotate_size, *rotate_age), (256 << 20, seconds(300)));
}

#[test]
fn a_file_sink_is_packed_as_told_and_its_path_does_not_say_otherwise() {
    let folder = Folder::with_sinks(
        "  - { name: a, type: file, path: \"a/{site}.ndjson\", compression: gzip }
  - { name: b, type: file, path: \"b/{site}.ndjson.zst\", compression: zstd }
  - { name: c, type: file, path: \"c/{site}.ndjson\" }
",
    );
    let path = |sink: &SinkConfig| match &sink.kind {
        SinkKind::File { path, .. } => path.to_string(),
        _ => panic!("a file"),
    };
    let paths: Vec<String> = folder.load().sinks.iter().map(path).collect();
    assert_eq!(paths, ["a/{site}.ndjson.gz", "b/{site}.ndjson.zst", "c/{site}.ndjson"]);
    let folder = Folder::with_sinks(
        "  - { name: a, type: file, path: \"a/{site}.ndjson.gz\" }
  - { name: b, type: file, path: b/x, compression: zst }
  - { name: c, type: file, path: c/x, compression: gzip }
  - { name: d, type: file, path: c/x.gz, compression: gzip }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 3 mistakes:
      sinks[0].path: ends in .gz, so its files are to be packed: write `compression: gzip`, or another ending
      sinks[1].compression: unknown "zst"; did you mean "zstd"?
      sinks[3].path: writes to the same place as sinks[2]; each sink needs its own
    "#);
}

#[test]
fn an_inventory_is_one_file_that_says_by_its_name_what_it_is_and_that_nothing_else_writes() {
    let folder =
        Folder::with_sinks("  - { name: a, type: file, path: a/x, inventory: [a/l.csv, a/l.ndjson] }\n");
    let lists = folder.load().sinks[0].kind.inventory().to_vec();
    assert_eq!(lists, ["a/l.csv", "a/l.ndjson"].map(PathBuf::from));
    let folder = Folder::with_sinks(
        "  - { name: a, type: file, path: a/x, inventory: a/list.xls }
  - { name: b, type: file, path: b/x, inventory: \"b/{site}.csv\" }
  - { name: c, type: file, path: c/x.csv, inventory: c/x.csv }
  - { name: d, type: file, path: d/x, inventory: [d/l.csv] }
  - { name: e, type: file, path: e/x, inventory: ./d/l.csv }
  - { name: f, type: stdout, inventory: f/l.csv }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 5 mistakes:
      sinks[0].inventory: a/list.xls does not say how: it is one file for all sites, without placeholders, that ends in .csv or .ndjson
      sinks[1].inventory: b/{site}.csv does not say how: it is one file for all sites, without placeholders, that ends in .csv or .ndjson
      sinks[2].inventory: c/x.csv is where sinks[2] writes already
      sinks[4].inventory: ./d/l.csv is where sinks[3] writes already
      sinks[5].inventory: unknown key; known here: name, type, format, version, raw, redact, redact_key, select, from, max_per_day
    "#);
}

#[test]
fn two_sinks_that_could_write_into_one_index_are_a_mistake_unless_they_want_different_records() {
    let sinks = |one: &str, other: &str| {
        let sink = |name, keys| {
            format!("  - {{ name: {name}, type: opensearch, url: \"https://s:9200\", {keys} }}\n")
        };
        Folder::with_sinks(&(sink("a", one) + &sink("b", other)))
    };
    assert_snapshot!(sinks("index: \"x-{kind}-{date}\"", "index: \"x-event-{date}\"").mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      sinks[1].index: could be an index of sinks[0]; each sink needs its own
    ");
    for (one, other) in [
        ("index: \"x-{kind}-{date}\"", "index: \"x-audit-{date}\""),
        ("index: x, select: { kinds: [event] }", "index: x, select: { kinds: [device, state] }"),
        ("index: x, select: { sources: [computers] }", "index: x, select: { sources: [system_audit] }"),
    ] {
        assert_eq!(sinks(one, other).load().sinks.len(), 2);
    }
}

#[test]
fn two_sinks_at_one_splunk_or_receiver_are_told_apart_by_token_index_and_what_they_want() {
    let sinks = |one: &str, other: &str| {
        Folder::with_sinks(&format!(
            "  - {{ name: a, url: \"https://s:8088\", {one} }}\n  - {{ name: b, url: \"https://s:8088\", {other} }}\n"
        ))
    };
    let hec = "type: splunk_hec, token: { file: DIR/token }";
    for other in
        ["type: splunk_hec, token: { file: DIR/lockstep.yaml }".to_owned(), format!("{hec}, index: other")]
    {
        assert_eq!(sinks(hec, &other).load().sinks.len(), 2, "{other}");
    }
    let half = |kinds| format!("type: http, select: {{ kinds: [{kinds}] }}");
    assert_eq!(sinks(&half("event"), &half("device")).load().sinks.len(), 2);
    for both in [hec, "type: http"] {
        let mistakes = sinks(both, both).mistakes();
        assert!(
            mistakes.contains("sinks[1].url: writes to the same place as sinks[0]; each sink"),
            "{mistakes}"
        );
    }
}

#[test]
fn the_address_of_a_receiver_may_be_a_secret_and_is_never_shown() {
    let folder = Folder::with_sinks(
        "  - { name: a, type: http, url: { file: DIR/hook } }
  - { name: b, type: http, url: \"https://hooks.example/T0/s3cret?k=s3cret\" }
",
    );
    let hook = folder.0.path().join("hook");
    std::fs::write(&hook, "https://hooks.example/T1/s3cret\n").unwrap();
    let sinks = folder.load().sinks;
    for sink in &sinks {
        let SinkKind::Http(settings) = &sink.kind else { panic!("http") };
        assert_eq!(settings.shown_url(), "https://hooks.example/…");
    }
    assert!(!format!("{:?}", sinks[0]).contains("s3cret"));
    std::fs::write(&hook, "http://hooks.example/T1/s3cret").unwrap();
    let mistakes = folder.mistakes();
    assert!(mistakes.contains("hook is plain http") && !mistakes.contains("s3cret"), "{mistakes}");
    let folder = Folder::with_sinks(
        "  - { name: a, type: splunk_hec, url: { file: DIR/token }, token: { file: DIR/token } }\n",
    );
    assert!(folder.mistakes().contains("sinks[0].url: expected a text"), "{}", folder.mistakes());
}

#[test]
fn the_most_that_a_day_may_bring_is_a_size() {
    let max = |keys: &str| {
        Folder::with_sinks(&format!("  - {{ name: a, type: stdout{keys} }}\n")).load().sinks[0].max_per_day
    };
    assert_eq!((max(", max_per_day: 5GiB"), max("")), (Some(5 << 30), None));
    let folder = Folder::with_sinks("  - { name: a, type: stdout, max_per_day: 5000 }\n");
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 1 mistake:
      sinks[0].max_per_day: expected a size with its unit such as 512KiB, 256MiB or 8GiB, found 5000
    "#);
}

#[test]
fn a_format_that_nobody_chose_is_ocsf_1_5_and_known_to_be_the_default() {
    let chosen = |keys: &str| {
        let sink = format!("  - {{ name: a, type: stdout{keys} }}\n");
        let sink = Folder::with_sinks(&sink).load().sinks.swap_remove(0);
        (sink.format.as_str(), sink.format_by_default)
    };
    assert_eq!(chosen(""), ("ocsf 1.5", true));
    assert_eq!(chosen(", raw: true"), ("ocsf 1.5", true));
    assert_eq!(chosen(", version: \"1.5\""), ("ocsf 1.5", false));
    assert_eq!(chosen(", format: raw"), ("raw", false));
}

#[test]
fn a_sink_writes_the_format_it_names_and_ocsf_1_5_without_a_version() {
    let format = |keys: &str| {
        let sink = format!("  - {{ name: a, type: stdout, {keys} }}\n");
        Folder::with_sinks(&sink).load().sinks[0].format
    };
    let ocsf = |version, row| Format::Ocsf { version, row };
    assert_eq!(format("format: ocsf"), ocsf(Version::V1_5, false));
    assert_eq!(format("format: ocsf, version: \"1.8\", raw: true"), ocsf(Version::V1_8, true));
    assert_eq!(format("format: ocsf, version: \"1.3\""), ocsf(Version::V1_3, false));
    for (version, known) in [("1.3", Version::V1_3), ("1.5", Version::V1_5), ("1.8", Version::V1_8)] {
        for quotes in ["", "'"] {
            assert_eq!(format(&format!("version: {quotes}{version}{quotes}")), ocsf(known, false));
        }
    }
    assert_eq!(format("format: ecs"), Format::Ecs { row: false });
    assert_eq!(format("format: ecs, raw: true"), Format::Ecs { row: true });
    assert_eq!(format("format: raw"), Format::Raw);
}

#[test]
fn sinks_over_http_are_checked() {
    let folder = Folder::with_sinks(
        "  - { name: a, type: elasticsearch, url: \"http://search.example:9200\", index: \"X-{day}\", auth: { type: basic, secret: { file: DIR/token } } }
  - { name: b, type: opensearch, url: \"https://me:too@b\", data_stream: true, auth: { type: hmac } }
  - { name: c, type: splunk_hec, url: \"https://c/?x\", token: abc, ack: maybe, sourcetype: \"{day}\", auth: { type: none } }
  - { name: d, type: http, url: d, body: xml, auth: { type: header, header: Content-Type, secret: { file: DIR/token } }, http: { cert_file: DIR/ca.pem } }
  - { name: e, type: http, url: \"https://e/x?key=1\", auth: { secret: { file: DIR/token } }, concurrent: 0, request_size: 1KiB }
  - { name: f, type: splunk_hec, url: \"https://f/services/collector/event\", token: { file: DIR/token } }
  - { name: g, type: splunk_hec, url: \"https://f\", token: { file: DIR/token } }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 19 mistakes:
      sinks[0].auth.username: is missing; `type: basic` needs it
      sinks[0].index: holds 'X', which no index may have in its name: lower-case letters, digits, ".", "_" and "-" will do
      sinks[0].url: plain http would show records and secret to everyone on the way; use https, or set `http: { allow_plain: true }`
      sinks[1].auth.type: unknown "hmac"; known here: none, basic, api_key, bearer
      sinks[1].index: tells days apart, which a data stream does by itself; write one such as `threatlocker-{kind}s`
      sinks[1].url: holds a user name or password; remove it: they go into `auth`
      sinks[2].token: a secret does not stand in the configuration; write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`
      sinks[2].sourcetype: has another placeholder than {source} and {kind}
      sinks[2].ack: unknown "maybe"; known here: auto, on, off
      sinks[2].url: goes on after the path; leave that out
      sinks[2].auth: unknown key; known here: name, type, format, version, raw, redact, redact_key, select, from, max_per_day, token, index, sourcetype, ack, ack_timeout, compression, concurrent, request_size, http, url
      sinks[3].body: unknown "xml"; known here: ndjson, array
      sinks[3].auth.header: Content-Type is set by every request itself; the secret needs another
      sinks[3].http.key_file: is missing; a certificate needs its key
      sinks[3].url: expected https://host[:port], found "d"
      sinks[4].auth.secret: does nothing with `type: none`; write how it is to be shown, or remove it
      sinks[4].concurrent: must be from 1 to 16, found 0
      sinks[4].request_size: must be from 16KiB to 64MiB, found 1KiB
      sinks[6].url: writes to the same place as sinks[5]; each sink needs its own
    "#);
}

#[test]
fn sinks_over_http_get_what_is_written_and_the_formats_that_their_products_use() {
    let folder = Folder::with_sinks(
        "  - { name: a, type: elasticsearch, url: \"https://a/below/_bulk\", auth: { type: api_key, secret: { file: DIR/token } } }
  - { name: b, type: opensearch, url: \"https://a/below/\", index: \"{site}\" , data_stream: true }
  - { name: c, type: splunk_hec, url: \"https://c/services/collector\", token: { file: DIR/token }, ack: off }
  - { name: d, type: http, url: \"http://d/x?y=z\", body: array, http: { allow_plain: true, ca_file: DIR/ca.pem, cert_file: DIR/ca.pem, key_file: DIR/ca.key } }
",
    );
    let sinks = folder.load_with(&[]).map(|config| config.sinks);
    let said = sinks.as_ref().err().map(ToString::to_string);
    assert!(
        said.as_ref().is_none_or(|said| said.contains("must begin with a lower-case letter")),
        "{said:?}"
    );
    let text =
        std::fs::read_to_string(folder.path("lockstep.yaml")).unwrap().replace("\"{site}\"", "\"x-{site}\"");
    folder.write("lockstep.yaml", &text);
    let sinks = folder.load().sinks;
    let formats: Vec<_> = sinks.iter().map(|sink| (sink.kind.as_str(), sink.format.as_str())).collect();
    assert_eq!(
        formats,
        [
            ("elasticsearch", "ecs"),
            ("opensearch", "ocsf 1.5"),
            ("splunk_hec", "ocsf 1.5"),
            ("http", "ocsf 1.5")
        ]
    );
    let urls = sinks.iter().map(|sink| match &sink.kind {
        SinkKind::Http(settings) => settings.url.to_string(),
        _ => String::new(),
    });
    assert_eq!(
        urls.collect::<Vec<_>>(),
        ["https://a/below/", "https://a/below/", "https://c/", "http://d/x?y=z"]
    );
}

#[test]
fn kerberos_is_refused_where_it_is_not_built_in_and_takes_nothing_that_a_shell_reads_otherwise() {
    let kafka = |sasl: &str| {
        let sink = format!("type: kafka, brokers: [k1], sasl: {{ mechanism: GSSAPI, {sasl} }}");
        Folder::with_sinks(&format!("  - {{ name: a, {sink} }}\n"))
    };
    let right = "username: lockstep/host.example@EXAMPLE.COM, keytab: DIR/token";
    if cfg!(not(feature = "kerberos")) {
        let refused = kafka(right).mistakes();
        assert!(refused.contains("--features kerberos"), "{refused}");
        return;
    }
    kafka(right).load();
    for (wrong, says) in [
        ("username: \"a; rm -rf /\", keytab: DIR/token", "expected a principal"),
        ("username: \"-k\", keytab: DIR/token", "expected a principal"),
        ("username: a, keytab: DIR/none", "cannot read"),
        ("username: a, keytab: \"DIR/$(id)\"", "a line of a shell"),
        ("username: a, keytab: DIR/token, password: { file: DIR/token }", "does nothing with"),
        ("username: a, keytab: DIR/token, service: \"a b\"", "expected a name"),
        ("username: a", "keytab"),
    ] {
        let refused = kafka(wrong).mistakes();
        assert!(refused.contains(says), "{wrong}: {refused}");
    }
}
