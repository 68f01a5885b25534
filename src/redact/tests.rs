use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use super::text::{LEAST, folded};
use super::*;
use crate::format::{Format, Origin};
use crate::formats::ocsf::Version;
use crate::model::{Change, Kind, Lane};
use crate::record::enrichment::UserOrigin;
use crate::source::by_name;

const SECRET: &[u8] = b"sixteen bytes or more";

fn redaction(classes: &[(Class, How)]) -> Redaction {
    let mut all = Classes::default();
    classes.iter().for_each(|(class, how)| all.set(*class, *how));
    Redaction { classes: all, key: Key::new(SECRET) }
}

fn pseudonyms(classes: &[Class]) -> Redaction {
    redaction(&classes.iter().map(|class| (*class, How::Pseudonym)).collect::<Vec<_>>())
}

fn entry<'a>(row: &'a str, previous: Option<&'a str>) -> Entry<'a> {
    Entry {
        number: 7,
        uid: Uuid::from_u128(7),
        kind: Kind::Device,
        change: Change::Changed,
        organization: "0a",
        vendor_id: None,
        time: Some(1_772_366_401_500_000),
        row,
        previous,
    }
}

/// A redacted row, read.
fn row(redaction: &Redaction, row: &Value) -> Value {
    let text = row.to_string();
    let redacted = redaction.apply("computers", &entry(&text, None), &Enrichment::default()).unwrap();
    serde_json::from_str(&redacted.row).unwrap()
}

fn user(text: &str) -> String {
    Key::new(SECRET).unwrap().pseudonym(Class::User, text)
}

/// Every text and name in a value, also those inside of JSON and base64.
fn texts(value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            all.push(key.clone());
            texts(value, all);
        }),
        Value::Array(values) => values.iter().for_each(|value| texts(value, all)),
        Value::String(text) => {
            all.push(text.clone());
            let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some(text) = decoded.filter(|decoded| decoded != text) {
                texts(&Value::String(text), all);
            }
            if let Ok(inner) = serde_json::from_str(text) {
                texts(&inner, all);
            }
        }
        other => all.push(other.to_string()),
    }
}

/// A value of a class, such as nothing else in a record looks like.
fn value(class: Class, field: &'static str) -> BoxedStrategy<Value> {
    let word = "zq[A-Za-z0-9äßÉ]{3,9}";
    let text = |strategy: BoxedStrategy<String>| strategy.prop_map(Value::String).boxed();
    match (class, field) {
        (Class::Ip, name) if name.ends_with("Addresses") => {
            proptest::collection::vec(address().prop_map(Value::String), 1..3).prop_map(Value::Array).boxed()
        }
        (Class::Ip, "fullCheckinIPAddress") => {
            text((address(), address()).prop_map(|(one, other)| format!("{one}, {other}")).boxed())
        }
        (Class::Ip, "destinationIP") => text(
            address()
                .prop_map(|address| match address.contains(':') {
                    true => format!("[{address}]:443"),
                    false => format!("{address}:443"),
                })
                .boxed(),
        ),
        (Class::Ip, _) => text(address()),
        (_, "macAddress") => text("[0-9A-F]{2}(:[0-9A-F]{2}){5}".boxed()),
        (_, "computerId") => text(any::<u128>().prop_map(|id| Uuid::from_u128(id).to_string()).boxed()),
        (_, "userId") => prop_oneof![
            any::<u128>().prop_map(|id| json!(Uuid::from_u128(id).to_string())),
            (900_000_000_u64..999_999_999).prop_map(|id| json!(id)),
        ]
        .boxed(),
        (_, "requestorReason") => text(word.prop_map(|word| STANDARD.encode(word)).boxed()),
        (Class::User, _) => text(
            prop_oneof![
                word.boxed(),
                word.prop_map(|word| format!("ACME\\{word}")),
                word.prop_map(|word| format!("AzureAD\\{word} \"{word}")),
                word.prop_map(|word| format!("{word}@acme.example")),
            ]
            .boxed(),
        ),
        (Class::Device, _) => text(
            prop_oneof![
                word.boxed(),
                word.prop_map(|word| format!("{word}.corp.example")),
                word.prop_map(|word| format!("WS-{word}-01")),
            ]
            .boxed(),
        ),
        (Class::CommandLine, _) => {
            text(format!("C:\\\\{word}\\\\{word}\\.exe --password \"{word}\\\\n\"").prop_map_regex())
        }
        _ => text(word.boxed()),
    }
}

/// A strategy of texts of a pattern.
trait Pattern {
    fn prop_map_regex(self) -> BoxedStrategy<String>;
}

impl Pattern for String {
    fn prop_map_regex(self) -> BoxedStrategy<String> {
        proptest::string::string_regex(&self).unwrap().boxed()
    }
}

fn address() -> BoxedStrategy<String> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| format!(
            "1{}.1{}.1{}.1{}",
            octets[0] % 90,
            octets[1] % 90,
            octets[2] % 90,
            octets[3] % 90
        )),
        (1_u128..).prop_map(|bits| std::net::Ipv6Addr::from(bits | 0x2001_0db8_u128 << 96).to_string()),
    ]
    .boxed()
}

/// Texts in which a value may stand elsewhere.
const PLACES: usize = 14;

fn elsewhere(value: &str, place: usize) -> Value {
    match place {
        0 => json!(value),
        1 => json!(format!("start {}, end", value.to_uppercase())),
        2 => json!(format!("C:\\Program Files\\x{}y\\a.txt", value.to_lowercase())),
        3 => json!(json!({ "unknown": value, value: [1] }).to_string()),
        4 => json!({ "deep": [{ "deeper": value }] }),
        5 => json!({ value: true }),
        6 => json!(STANDARD.encode(format!("because of {value}"))),
        7 => json!(format!("broken {{{}", json!(value))),
        8 => json!(format!("twice {}", json!(json!(value).to_string()))),
        9 => json!(format!("C:\\Users\\{value}\\AppData\\Local\\a.exe /u:{value}")),
        10 => json!(format!("https://{value}:8443/a/{value}?by={value}")),
        11 => json!(format!("\\\\{value}.corp.example\\share, user={value}@x.example")),
        12 => json!(json!({ "page": json!({ "who": value }).to_string() }).to_string()),
        _ => value.parse::<u64>().map_or(json!([value]), |number| json!(number)),
    }
}

/// A value and the parts of it that name the same: of `DOMAIN\user` and `user@host` the user, of a machine's full
/// name the short one, of what tells several addresses each.
fn told(value: &str) -> Vec<String> {
    let part =
        match (value.strip_prefix("ACME\\"), value.split_once('@'), value.strip_suffix(".corp.example")) {
            (Some(user), ..) => Some(user),
            (_, Some((user, _)), _) => Some(user),
            (.., name) => name,
        };
    let address =
        |text: &str| text.trim_start_matches('[').trim_end_matches(":443").trim_end_matches(']').to_owned();
    let addresses = value.split(", ").map(address).filter(|text| text.parse::<IpAddr>().is_ok());
    [value.to_owned()].into_iter().chain(part.map(str::to_owned)).chain(addresses).collect()
}

/// Every format, with the row carried and without.
fn formats() -> Vec<Format> {
    let both = [true, false].into_iter();
    let some = both.flat_map(|row| {
        let ocsf = Version::ALL.into_iter().map(move |version| Format::Ocsf { version, row });
        ocsf.chain([Format::Ecs { row }])
    });
    some.chain([Format::Raw]).collect()
}

#[derive(Debug)]
struct Case {
    source: &'static str,
    row: Map<String, Value>,
    previous: Map<String, Value>,
    classes: Vec<(Class, How)>,
    values: Vec<String>,
}

fn case() -> impl Strategy<Value = Case> {
    let fields: Vec<(Class, &'static str)> =
        Class::ALL.iter().flat_map(|class| class.fields().iter().map(|field| (*class, *field))).collect();
    let values: Vec<_> = fields.iter().map(|(class, field)| value(*class, field)).collect();
    let hows = proptest::collection::vec(proptest::option::of(any::<bool>()), Class::ALL.len());
    let plants = proptest::collection::vec((any::<Index>(), any::<Index>(), 0..PLACES, any::<bool>()), 0..40);
    let chosen = proptest::collection::vec(0..4_u8, fields.len());
    (any::<Index>(), values, chosen, hows, plants).prop_map(move |(source, values, chosen, hows, plants)| {
        let source = source.get(&["unified_audit", "system_audit", "computers"]);
        let names = by_name(source).unwrap().names().all();
        let classes: Vec<_> = Class::ALL
            .into_iter()
            .zip(hows)
            .filter_map(|(class, how)| Some((class, if how? { How::Pseudonym } else { How::Remove })))
            .collect();
        let (mut row, mut previous) = (Map::new(), Map::new());
        let mut secret = Vec::new();
        for ((place, (class, field)), value) in fields.iter().enumerate().zip(values) {
            let name = if place % 3 == 0 { field.to_uppercase() } else { (*field).to_owned() };
            if classes.iter().any(|(chosen, _)| chosen == class) && chosen[place] < 3 {
                let items = match &value {
                    Value::Array(items) => items.clone(),
                    other => vec![other.clone()],
                };
                let texts = items.iter().map(|item| item.as_str().map_or(item.to_string(), str::to_owned));
                secret.extend(texts.flat_map(|text| told(&text)));
            }
            match chosen[place] {
                0 => _ = previous.insert(name, value),
                1 => {
                    let nested = row.entry("nested").or_insert_with(|| json!({}));
                    nested[name] = value;
                }
                2 => _ = row.insert(name, value),
                _ => {}
            }
        }
        for (value, name, place, now) in plants {
            if secret.is_empty() {
                break;
            }
            let value = value.get(&secret);
            let name = name.get(names);
            let is_class = fields.iter().any(|(_, field)| field.eq_ignore_ascii_case(name));
            let name =
                if is_class || name.contains('.') { format!("new{place}") } else { (*name).to_owned() };
            let row = if now { &mut row } else { &mut previous };
            row.insert(name, elsewhere(value, place));
        }
        Case { source, row, previous, classes, values: secret }
    })
}

#[test]
fn the_computer_that_was_asked_about_is_spared_although_its_row_does_not_name_it() {
    let redaction = pseudonyms(&[Class::Device]);
    let row = r#"{"maintenanceModeId":"m1","maintenanceTypeId":14}"#;
    let entry = Entry { vendor_id: Some("zqcomputer/m1"), kind: Kind::Event, ..entry(row, None) };
    let known = Enrichment::default();
    let origin =
        Origin { site: "acme", source: "remediations", lane: Lane::Live, collected: 1_772_366_400_000_001 };
    let redacted = redaction.apply("remediations", &entry, &known).unwrap();
    for format in formats() {
        let (mut out, mut records) = (Vec::new(), Vec::new());
        format.encode(origin, &redacted.entry(&entry), known, &mut out, &mut records).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains("zqcomputer") && text.contains("m1"), "{format}: {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_redacted_value_survives_anywhere_in_any_format(case in case()) {
        let redaction = redaction(&case.classes);
        let (row, previous) = (Value::Object(case.row).to_string(), Value::Object(case.previous).to_string());
        let id = case.values.first().map(String::as_str);
        let entry = Entry { vendor_id: id, ..entry(&row, Some(&previous)) };
        let user = "ACME\\zqLastUser";
        let applications = json!([{ "name": id, "organizationName": "zqOwner", "of": user }]).to_string();
        let known = Enrichment {
            device: Some(KnownDevice { name: Some("zqKnown"), os: id, group: id, organization: Some("zqOwner"), mode: id }),
            user: Some(LastUser { name: user, origin: UserOrigin::Computer, time: None }),
            replaces: None,
            matching: Some(Matching { applications: &applications, more: 0 }),
        };
        let origin = Origin { site: "acme", source: case.source, lane: Lane::Live, collected: 1_772_366_400_000_001 };
        let redacted = redaction.apply(case.source, &entry, &known).unwrap();
        let mut values = case.values.clone();
        let all = [(Class::User, user), (Class::User, "zqLastUser"), (Class::Device, "zqKnown"), (Class::Organization, "zqOwner")];
        values.extend(all.iter().filter(|(class, _)| redaction.how(*class).is_some()).map(|(_, value)| (*value).to_owned()));
        for format in formats() {
            let (mut out, mut records) = (Vec::new(), Vec::new());
            format.encode(origin, &entry, known, &mut out, &mut records).unwrap();
            let uids: BTreeSet<Uuid> = records.drain(..).map(|record| record.uid).collect();
            out.clear();
            format.encode(origin, &redacted.entry(&entry), redacted.known(&known), &mut out, &mut records).unwrap();
            prop_assert_eq!(records[0].uid, entry.uid);
            prop_assert!(records.iter().all(|record| uids.contains(&record.uid)), "{} has a uid of its own", format);
            let mut found = Vec::new();
            for line in std::str::from_utf8(&out).unwrap().lines() {
                found.push(line.to_owned());
                texts(&serde_json::from_str(line).unwrap(), &mut found);
            }
            let found: Vec<String> = found.iter().map(|text| folded(text)).collect();
            for value in &values {
                for value in [folded(value), folded(json!(value).to_string().trim_matches('"'))] {
                    let survivor = found.iter().find(|text| text.contains(&value));
                    prop_assert!(survivor.is_none(), "{format}: {value} in {survivor:?}");
                }
            }
        }
    }

    #[test]
    fn a_row_without_anything_to_redact_stays_as_it_is(text in "[ -9;-~äß]*", number in any::<f64>(), key in "[a-z]{1,8}") {
        let whole = json!({ "actionType": "execute", format!("x{key}"): [text, number, null], "policyId": "" });
        let redaction = redaction(&[(Class::Ip, How::Remove), (Class::Device, How::Remove)]);
        let redaction = Redaction { key: None, ..redaction };
        let read: Value = serde_json::from_str(&whole.to_string()).unwrap();
        prop_assert_eq!(row(&redaction, &whole), read);
    }
}

#[test]
fn equal_values_become_equal_pseudonyms_in_any_casing_and_another_key_gives_others() {
    let (one, other) = (Key::new(SECRET).unwrap(), Key::new(b"another key of 16 bytes").unwrap());
    let id = "3B6A1C5E-0000-4000-8000-00000000000A";
    for value in ["ACME\\Müller", "a.b@acme.example", id, "0A:1B:2C:3D:4E:5F", "2001:DB8::A"] {
        let pseudonym = one.pseudonym(Class::User, value);
        assert_eq!(pseudonym, one.pseudonym(Class::User, &value.to_lowercase()));
        assert_eq!(pseudonym, one.pseudonym(Class::User, &value.to_uppercase()));
        assert_ne!(pseudonym, one.pseudonym(Class::User, &format!("{value}1")));
        assert_ne!(pseudonym, other.pseudonym(Class::User, value));
    }
    assert_ne!(one.id(), other.id());
    assert_eq!(Key::new(SECRET).unwrap().id(), one.id());
    assert!(Key::new(b"fifteen bytes..").is_none());
}

/// A stranger's implementation of HMAC-SHA-256 gave this value: `printf 'user\0acme\\alice' | openssl dgst -sha256
/// -hmac 'sixteen bytes or more'`.
#[test]
fn a_pseudonym_never_changes() {
    assert_eq!(user("ACME\\Alice"), "user-6086b8d6bdd1a762");
}

#[test]
fn a_pseudonym_has_the_shape_that_readers_need() {
    let key = Key::new(SECRET).unwrap();
    let address: std::net::Ipv6Addr = key.pseudonym(Class::Ip, "192.0.2.7").parse().unwrap();
    assert_eq!(address.octets()[0], 0xfd);
    assert_eq!(key.pseudonym(Class::Ip, "::ffff:192.0.2.7"), address.to_string());
    let mac = key.pseudonym(Class::Device, "0A-1B-2C-3D-4E-5F");
    assert_eq!(
        u8::from_str_radix(mac.split('-').next().unwrap(), 16).unwrap() & 3,
        2,
        "local, of one machine"
    );
    assert_eq!(mac.split('-').count(), 6);
    let id = key.pseudonym(Class::User, "3b6a1c5e-0000-4000-8000-000000000001");
    assert_eq!(Uuid::try_parse(&id).unwrap().get_version_num(), 4);
    let mail = key.pseudonym(Class::User, "alice@acme.example");
    assert!(mail.starts_with("user-") && mail.ends_with("@redacted.invalid") && mail.len() == 38, "{mail}");
    let name = key.pseudonym(Class::Device, "WS-0001");
    assert!(name.strip_prefix("host-").is_some_and(|digits| digits.len() == 16), "{name}");
}

#[test]
fn a_value_is_found_in_paths_escapes_json_and_base64() {
    let redaction = pseudonyms(&[Class::User]);
    let (whole, part) = (user("ACME\\alice"), user("alice"));
    let redacted = row(
        &redaction,
        &json!({
            "Username": "ACME\\alice",
            "fullPath": "D:\\work\\ALICE\\x.txt",
            "new": "as acme\\\\Alice or acme\\alice",
            "json": "{\"who\": \"\\u0061lice\", \"n\": 1.50}",
            "broken": "{\"who\": \"\\u0061lice",
            "packed": STANDARD.encode("for Alice"),
            "reason": "malice",
        }),
    );
    let wanted = json!({
        "Username": whole,
        "fullPath": format!("D:\\work\\{part}\\x.txt"),
        "new": format!("as {whole} or {whole}"),
        "json": format!("{{\"who\":\"{part}\",\"n\":1.50}}"),
        "broken": format!("{{\"who\": \"{part}"),
        "packed": STANDARD.encode(format!("for {part}")),
        "reason": format!("m{part}"),
        KEY_ID: redaction.key.as_ref().unwrap().id(),
    });
    assert_eq!(redacted, wanted);
}

#[test]
fn another_writing_of_a_value_gets_the_same_pseudonym() {
    let redaction = pseudonyms(&[Class::Device, Class::Ip]);
    let redacted = row(
        &redaction,
        &json!({
            "hostname": "WS-0001.corp.example",
            "macAddress": "0A-1B-2C-3D-4E-5F",
            "computerId": "3b6a1c5e-0000-4000-8000-00000000000a",
            "ipAddress": "2001:db8::a",
            "destinationIP": "192.0.2.7:443",
            "a": "on ws-0001!",
            "b": "http://[2001:0DB8:0000:0000:0000:0000:0000:000a]/",
            "c": "http://192.0.2.7/x",
            "d": "0a1b2c3d4e5f, 0a:1b:2c:3d:4e:5f",
            "e": "{3B6A1C5E0000400080000000000000" .to_owned() + "0A}",
        }),
    );
    let text = |name: &str| redacted[name].as_str().unwrap().to_owned();
    let of = |class, value| Key::new(SECRET).unwrap().pseudonym(class, value);
    assert_eq!(text("a"), format!("on {}!", of(Class::Device, "WS-0001")));
    assert_eq!(text("b"), format!("http://[{}]/", text("ipAddress")));
    assert_eq!(text("c"), format!("http://{}/x", of(Class::Ip, "192.0.2.7")));
    assert_eq!(text("d"), format!("{0}, {0}", text("macAddress")));
    assert_eq!(text("e"), format!("{{{}}}", text("computerId")));
}

#[test]
fn what_is_known_besides_is_redacted_and_has_the_pseudonyms_of_the_row() {
    let known = Enrichment {
        device: Some(KnownDevice {
            name: Some("ws-0001"),
            os: Some("Windows 11"),
            group: Some("Machines of Alice"),
            organization: Some("Acme"),
            mode: Some("Secure"),
        }),
        user: Some(LastUser { name: "acme\\Alice", origin: UserOrigin::UnifiedAudit, time: Some(5) }),
        ..Enrichment::default()
    };
    let named = json!({ "username": "ACME\\alice", "hostname": "WS-0001", "organizationName": "ACME" });
    let classes = [Class::User, Class::Device, Class::Organization];
    for row in [named, json!({})] {
        let text = row.to_string();
        let apply =
            |redaction: &Redaction| redaction.apply("unified_audit", &entry(&text, None), &known).unwrap();

        let redacted = apply(&pseudonyms(&classes));
        let (device, last) = (redacted.known(&known).device.unwrap(), redacted.known(&known).user.unwrap());
        let fields: Value = serde_json::from_str(&redacted.row).unwrap();
        if row.get("username").is_some() {
            assert_eq!(
                json!([last.name, device.name, device.organization]),
                json!([fields["username"], fields["hostname"], fields["organizationName"]])
            );
        }
        assert_eq!(last.name, user("ACME\\alice"));
        assert_eq!((last.origin, last.time), (UserOrigin::UnifiedAudit, Some(5)));
        assert_eq!(device.group, Some(&*format!("Machines of {}", user("alice"))));
        assert_eq!((device.os, device.mode), (Some("Windows 11"), Some("Secure")));

        let left_out = apply(&redaction(&classes.map(|class| (class, How::Remove))));
        let (device, last) = (left_out.known(&known).device.unwrap(), left_out.known(&known).user);
        assert!(last.is_none() && device.name.is_none() && device.organization.is_none());
        assert_eq!(device.group, Some("Machines of [removed]"));

        let other = apply(&pseudonyms(&[Class::Ip]));
        let (device, last) = (other.known(&known).device.unwrap(), other.known(&known).user.unwrap());
        assert_eq!((device.name, last.name), (Some("ws-0001"), "acme\\Alice"));
    }
    let nothing = Enrichment::default();
    let redacted = pseudonyms(&classes).apply("unified_audit", &entry("{}", None), &nothing).unwrap();
    assert!(redacted.known(&nothing).device.is_none() && redacted.known(&nothing).user.is_none());
}

/// A short name stands in too much to be looked for; where it is said that it is a name, it goes.
#[test]
fn a_value_too_short_to_be_looked_for_is_redacted_in_its_field_and_in_paths() {
    let short = json!({ "username": "Bo", "fullPath": "C:\\Users\\Bo\\Books", "new": "Bob" });
    let redacted = row(&pseudonyms(&[Class::User]), &short);
    assert_eq!(redacted["username"], json!(user("Bo")));
    assert_eq!(redacted["fullPath"], json!(format!("C:\\Users\\{}\\Books", user("Bo"))));
    assert_eq!(redacted["new"], json!("Bob"));
}

#[test]
fn the_name_of_a_profile_is_redacted_wherever_it_stands() {
    let redaction = pseudonyms(&[Class::User]);
    for (path, name) in [
        ("C:\\Users\\Bo\\a.txt", "Bo"),
        ("c:\\\\users\\\\Bob Smith\\\\a.txt", "Bob Smith"),
        ("/home/bob/.ssh/id", "bob"),
        ("/Users/bob", "bob"),
        ("type C:\\Users\\bob and go on", "bob"),
        ("\"C:\\Documents and Settings\\Bob Smith\" -x", "Bob Smith"),
    ] {
        let redacted = row(&redaction, &json!({ "processPath": path, "new": format!("by {name}!") }));
        let path = path.replacen(name, &user(name), 1);
        assert_eq!(redacted["processPath"], json!(path));
        if name.len() >= LEAST {
            assert_eq!(redacted["new"], json!(format!("by {}!", user(name))));
        }
    }
    for path in ["C:\\Users\\Public\\a", "%SystemDrive%\\Users\\%USERNAME%\\a", "C:\\Users\\"] {
        assert_eq!(row(&redaction, &json!({ "processPath": path }))["processPath"], json!(path));
    }
    let other = row(&pseudonyms(&[Class::Ip]), &json!({ "processPath": "/home/bob/x" }));
    assert_eq!(other["processPath"], json!("/home/bob/x"));
}

#[test]
fn what_names_nobody_and_the_words_of_the_portal_stay_readable() {
    let redaction = pseudonyms(&[Class::User, Class::Device]);
    let unchanged = json!({
        "username": "NT AUTHORITY\\SYSTEM",
        "processPath": "C:\\Windows\\System32\\svchost.exe",
        "emailAddress": "",
        "computerId": "00000000-0000-0000-0000-000000000000",
        "userId": null,
    });
    let mut redacted = row(&redaction, &unchanged);
    redacted.as_object_mut().unwrap().remove(KEY_ID);
    assert_eq!(redacted, unchanged);
    let named = json!({
        "username": "read",
        "hostname": "abc",
        "actionType": "Read",
        "policyId": "abcabcab-abca-4abc-abca-abcabcabcabc",
        "dateTime": "2026-01-01T00:00:00Z",
    });
    let redacted = row(&redaction, &named);
    for kept in ["actionType", "policyId", "dateTime"] {
        assert_eq!(redacted[kept], named[kept]);
    }
    assert_eq!(redacted["username"], json!(user("read")));
}

#[test]
fn what_is_removed_is_left_out_and_marked_inside_of_other_text() {
    let redaction = redaction(&[(Class::User, How::Remove), (Class::Ip, How::Remove)]);
    let redacted = row(
        &redaction,
        &json!({
            "username": "alice",
            "approvedBy": null,
            "lastCheckinLocalIPAddresses": ["192.0.2.1", "192.0.2.2"],
            "new": "alice from 192.0.2.2",
            "assignees": { "first": "carol", "second": 17 },
        }),
    );
    let redacted = Value::Object(
        redacted.as_object().unwrap().clone().into_iter().filter(|(key, _)| key != KEY_ID).collect(),
    );
    let wanted = json!({
        "approvedBy": null,
        "lastCheckinLocalIPAddresses": [],
        "new": "[removed] from [removed]",
        "assignees": {},
    });
    assert_eq!(redacted, wanted);
}

#[test]
fn free_text_is_redacted_as_a_whole_whatever_it_is_in() {
    let redaction = redaction(&[(Class::CommandLine, How::Remove)]);
    let redacted = row(
        &redaction,
        &json!({
            "details": { "page": "Users", "function": "Edit", "details": "a password" },
            "notes": ["one", { "two": "three" }],
            "json": { "inner": "four" },
            "data": "{\"inner\":\"five\"}",
        }),
    );
    assert_eq!(redacted["details"], json!({ "page": "Users", "function": "Edit" }));
    assert_eq!((&redacted["notes"], &redacted["json"]), (&json!([{}]), &json!({})));
    assert_eq!(redacted.get("data"), None);
}

#[test]
fn every_column_of_a_report_counts_where_reports_are_redacted() {
    let text = json!({ "Any Column": "something", "Count": 12 }).to_string();
    let redaction = redaction(&[(Class::Report, How::Pseudonym)]);
    let redacted = redaction.apply("reports", &entry(&text, None), &Enrichment::default()).unwrap();
    assert!(!redacted.row.contains("something") && !redacted.row.contains("12,"), "{}", redacted.row);
    let redacted = redaction.apply("computers", &entry(&text, None), &Enrichment::default()).unwrap();
    assert!(redacted.row.contains("something"));
}

#[test]
fn an_address_is_redacted_wherever_it_stands_even_if_no_field_has_it() {
    let redaction = pseudonyms(&[Class::Ip]);
    let of = |address: &str| Key::new(SECRET).unwrap().pseudonym(Class::Ip, address);
    for (text, addresses) in [
        ("198.51.100.98:51544 -> 203.0.113.89:443", &["198.51.100.98", "203.0.113.89"][..]),
        ("C:\\a.exe --server=203.0.113.66", &["203.0.113.66"]),
        ("https://203.0.113.66/a?b=203.0.113.67&c=1", &["203.0.113.66", "203.0.113.67"]),
        ("\\\\203.0.113.66\\share", &["203.0.113.66"]),
        ("203.0.113.66", &["203.0.113.66"]),
        (
            "It is 203.0.113.66. And (10.0.0.1), 10.0.0.2/24-10.0.0.3...",
            &["203.0.113.66", "10.0.0.1", "10.0.0.2", "10.0.0.3"],
        ),
        ("{\"broken\": \"\\n203.0.113.66\\t2001:db8::9", &["203.0.113.66", "2001:db8::9"]),
        ("at 2001:DB8:0:0:0:0:0:9999 and 2001:db8::9.", &["2001:DB8:0:0:0:0:0:9999", "2001:db8::9"]),
        ("http://[2001:db8::9]:8443/ eth0:fe80::1%eth0", &["2001:db8::9", "fe80::1"]),
        ("host=2001:0db8:0000:0000:0000:0000:0000:9999:443", &["2001:0db8:0000:0000:0000:0000:0000:9999"]),
        ("face:2001:db8:1:2:3:4:5:6: x", &["2001:db8:1:2:3:4:5:6"]),
        ("::1 to ::ffff:203.0.113.66:443", &["::1", "::ffff:203.0.113.66"]),
        ("destination:2001:db8::9", &["2001:db8::9"]),
    ] {
        let wanted =
            addresses.iter().fold(text.to_owned(), |text, address| text.replacen(address, &of(address), 1));
        assert_eq!(row(&redaction, &json!({ "new": text }))["new"], json!(wanted));
        let inside =
            json!({ "deep": [json!({ "packed": STANDARD.encode(format!("for {text}")) }).to_string()] });
        let mut found = Vec::new();
        texts(&row(&redaction, &inside), &mut found);
        assert!(
            !found.iter().any(|found| addresses.iter().any(|address| found.contains(address))),
            "{found:?}"
        );
        let other = row(&pseudonyms(&[Class::Device]), &json!({ "new": text }));
        assert_eq!(other["new"], json!(text));
    }
    let known = Enrichment {
        device: Some(KnownDevice { group: Some("203.0.113.66"), ..KnownDevice::default() }),
        ..Enrichment::default()
    };
    let redacted = redaction.apply("computers", &entry("{}", None), &known).unwrap();
    assert_eq!(redacted.known(&known).device.unwrap().group, Some(&*of("203.0.113.66")));
}

#[test]
fn what_applications_match_tells_no_more_than_the_row_and_not_whose_they_are_but_for_threatlockers_own() {
    let applications = r#"[{"name":"Tool for WS-0001","organizationName":"Acme"},{"name":"Built-In","organizationName":"master"}]"#;
    let known = Enrichment { matching: Some(Matching { applications, more: 2 }), ..Enrichment::default() };
    let row = json!({ "hostname": "WS-0001", "path": "c:\\acme\\master.exe" }).to_string();
    let classes = [Class::Device, Class::Organization];
    let of = |redaction: &Redaction| {
        let redacted = redaction.apply("approval_requests", &entry(&row, None), &known).unwrap();
        let matching = redacted.known(&known).matching.unwrap();
        assert_eq!(matching.more, 2);
        let row: Value = serde_json::from_str(&redacted.row).unwrap();
        (
            serde_json::from_str::<Value>(matching.applications).unwrap(),
            row["path"].as_str().unwrap().to_owned(),
        )
    };
    let (applications, path) = of(&pseudonyms(&classes));
    let key = Key::new(SECRET).unwrap();
    let host = key.pseudonym(Class::Device, "WS-0001");
    assert_eq!(applications[0]["name"], format!("Tool for {host}"));
    let organization = key.pseudonym(Class::Organization, "Acme");
    assert_eq!(applications[0]["organizationName"], organization);
    assert_eq!(applications[1], json!({ "name": "Built-In", "organizationName": "master" }));
    assert_eq!(path, format!("c:\\{organization}\\master.exe"));
    let (applications, _) = of(&redaction(&classes.map(|class| (class, How::Remove))));
    assert_eq!(applications[0], json!({ "name": "Tool for [removed]" }));
    // Whoever else is called so is nobody's own.
    let row = json!({ "organizationName": "Master" }).to_string();
    let redacted = pseudonyms(&classes).apply("unified_audit", &entry(&row, None), &Enrichment::default());
    assert!(!redacted.unwrap().row.to_lowercase().contains("master"));
}

#[test]
fn what_an_unmanaged_device_goes_by_tells_no_more_than_its_row() {
    let text = json!({ "computerName": "DRUCKER-EG", "ipAddress": "198.51.100.7" }).to_string();
    let of = |class: Class, id: &str| {
        let entry = Entry { vendor_id: Some(id), ..entry(&text, None) };
        let redacted = pseudonyms(&[class]).apply("online_devices", &entry, &Enrichment::default()).unwrap();
        redacted.entry(&entry).vendor_id.unwrap().to_owned()
    };
    for id in ["drucker-eg", "drucker-eg/198.51.100.7"] {
        let told = of(Class::Device, id);
        assert!(told.starts_with("host-") && !told.contains("drucker"), "{told}");
    }
    for id in ["198.51.100.7", "drucker-eg/198.51.100.7", "drucker-eg/198.51.100.7#2"] {
        let told = of(Class::Ip, id);
        assert!(!told.contains("198.51") && told.contains("fd"), "{told}");
    }
}

#[test]
fn what_only_looks_a_little_like_an_address_stays() {
    let redaction = pseudonyms(&[Class::Ip]);
    for text in [
        "Windows 10.0.19041.1",
        "1.2.3.4.5 and 1.2.3 and v1.2.3.4 and 256.1.1.1",
        "2026-03-01T10:11:12Z at 10:11:12.5",
        "0a:1b:2c:3d:4e:5f",
        "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD",
        "[Convert]::FromBase64, std::fmt::Add, [x]::Add, a :: b",
        "1:2:3:4:5:6:7",
    ] {
        assert_eq!(row(&redaction, &json!({ "new": text }))["new"], json!(text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_address_in_any_text_survives(
        address in address(),
        before in "(|.*[^.0-9A-Za-z:])",
        after in "(|[^.0-9A-Za-z:].*|\\. .*)",
    ) {
        let text = format!("{before}{address}{after}");
        let redacted = row(&pseudonyms(&[Class::Ip]), &json!({ "new": text }));
        let redacted = redacted["new"].as_str().unwrap().to_owned();
        prop_assert!(!redacted.contains(&address), "{redacted}");
        prop_assert!(redacted.contains(&Key::new(SECRET).unwrap().pseudonym(Class::Ip, &address)), "{redacted}");
    }
}

#[test]
fn a_pair_of_a_key_and_a_value_is_a_member_of_that_name() {
    let redaction = pseudonyms(&[Class::User, Class::Ip, Class::Device]);
    let pairs = json!({
        "threatLockerItem": {
            "d": null, "u": "ACME\\carol", "pid": null, "pn": "x",
            "a": [{ "key": "username", "value": "dave" }, { "Name": "Host Name", "Value": "WS-7" }, { "key": "port", "value": "eve" }],
        },
        "new": "dave on ws-7, Carol",
        "value": "eve",
    });
    let of = |class, value| Key::new(SECRET).unwrap().pseudonym(class, value);
    let redacted = row(&redaction, &pairs);
    let item = &redacted["threatLockerItem"];
    assert_eq!(item["u"], json!(user("ACME\\carol")));
    assert_eq!(item["a"][0], json!({ "key": "username", "value": user("dave") }));
    assert_eq!(item["a"][1], json!({ "Name": "Host Name", "Value": of(Class::Device, "WS-7") }));
    assert_eq!((&item["a"][2], &redacted["value"]), (&pairs["threatLockerItem"]["a"][2], &json!("eve")));
    assert_eq!(
        redacted["new"],
        json!(format!("{} on {}, {}", user("dave"), of(Class::Device, "WS-7"), user("carol")))
    );
}

#[test]
fn an_address_of_a_person_in_place_of_a_host_is_redacted() {
    let cloud = json!({ "hostname": "alice@acme.example", "new": "of alice" });
    let redacted = row(&pseudonyms(&[Class::User]), &cloud);
    assert_eq!(redacted["hostname"], json!(user("alice@acme.example")));
    assert_eq!(redacted["new"], json!(format!("of {}", user("alice"))));
    let machine = row(&pseudonyms(&[Class::User]), &json!({ "hostname": "WS-7" }));
    assert_eq!(machine["hostname"], json!("WS-7"));
}

#[test]
fn a_hardware_address_of_fours_and_a_shortened_profile_are_redacted() {
    let redaction = pseudonyms(&[Class::Device, Class::User]);
    let redacted = row(
        &redaction,
        &json!({ "macAddress": "DE-AD-BE-EF-00-11", "new": "dead.beef.0011", "path": "c:\\DOCUME~1\\CAROLX~1\\a" }),
    );
    assert_eq!(redacted["new"], redacted["macAddress"]);
    assert_eq!(redacted["path"], json!(format!("c:\\DOCUME~1\\{}\\a", user("CAROLX~1"))));
    let fours = row(&redaction, &json!({ "macAddress": "dead.beef.0011", "new": "DE:AD:BE:EF:00:11" }));
    assert_eq!(fours["new"], fours["macAddress"]);
    assert_eq!(fours["macAddress"].as_str().unwrap().split('.').map(str::len).collect::<Vec<_>>(), [4, 4, 4]);
}

#[test]
fn what_an_organization_is_called_is_redacted_and_what_a_policy_is_called_is_not() {
    let redaction = pseudonyms(&[Class::Organization]);
    let text = json!({ "name": "Acme Ltd", "label": "Acme Ltd", "parentName": "Holding" }).to_string();
    for (source, is_kept) in [("organizations", false), ("policies", true)] {
        let redacted = redaction.apply(source, &entry(&text, None), &Enrichment::default()).unwrap();
        assert_eq!(redacted.row.contains("\"name\":\"Acme"), is_kept, "{source}: {}", redacted.row);
        assert!(!redacted.row.contains("Holding"), "{source}: {}", redacted.row);
    }
}

#[test]
fn what_a_computer_is_called_in_its_details_is_redacted_and_so_is_the_password_of_its_proxy() {
    let redaction = pseudonyms(&[Class::Device, Class::Secret]);
    let row = json!({ "name": "WS-Zoe-1", "proxyURL": "http://a:not-a-password@proxy.example.com:3128" });
    let text = row.to_string();
    let redacted =
        redaction.apply("computer_details", &entry(&text, Some(&text)), &Enrichment::default()).unwrap();
    for text in [&redacted.row, redacted.previous.as_ref().unwrap()] {
        assert!(!text.contains("Zoe") && !text.contains("not-a-password"), "{text}");
    }
}
