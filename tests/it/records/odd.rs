//! Rows as no portal should write them, the same at every run.

use lockstep::source::Source;
use serde_json::{Map, Value, json};

/// A small generator of numbers; good enough to mix values, the same at every run.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 20).unwrap() % bound
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// Values of every shape; a field gets any of them, whatever it is for.
fn value(dice: &mut Dice) -> Value {
    match dice.below(26) {
        0 => Value::Null,
        1 => json!(""),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(1.5),
        5 => json!(true),
        6 => json!(false),
        7 => json!([]),
        8 => json!({}),
        9 => json!({"a": [null, {"b": "c"}]}),
        10 => json!(["192.0.2.1", "fe80::1"]),
        11 => json!(["not an address"]),
        12 => json!(9_007_199_254_740_993_i64),
        13 => json!(70_000),
        14 => json!(dice.pick(&["443", "0443", "70000", "-5", "4e2", " 1", "99999999999999999999"])),
        15 => json!(dice.pick(&[
            "192.0.2.9",
            "999.1.1.1",
            "fe80::1%eth0",
            "2001:db8::1",
            "::ffff:192.0.2.1",
            "1"
        ])),
        16 => json!(dice.pick(&[
            "2026-03-01T11:50:01.4358150Z",
            "0001-01-01T00:00:00",
            "yesterday",
            "9999-99-99"
        ])),
        17 => json!(
            dice.pick(&["00000000-0000-0000-0000-000000000000", "96984898-302D-5316-8d10-2c1ac39af9e4"])
        ),
        18 => json!(dice.pick(&["a".repeat(64).as_str(), "g".repeat(64).as_str(), "ABCDEF0123456789"])),
        19 => json!(dice.pick(&["zoë@example.com", "a@b", "a.b@example.com", "collector (API)"])),
        20 => json!(dice.pick(&[
            r"EXAMPLE\a.muster",
            r"\",
            r"a\",
            r"\\server\share\x",
            r"AzureAD\Zoë Ž",
            "root"
        ])),
        21 => json!(dice.pick(&[
            r#""c:\program files\x.exe" --a "b c""#,
            r"c:\x.exe /s",
            "/bin/x\t-a\n",
            r"c:\a b\c.exe",
            "\\",
            "/",
            "\"",
            "\"\"",
            "\"a"
        ])),
        22 => json!(dice.pick(&[
            "https://example.com:8443/x?y",
            "http://",
            "https://zoë.example",
            "www.example.com"
        ])),
        23 => json!("control \u{0} \u{1b} \u{7f} \u{2028} 👩‍👩‍👧"),
        24 if dice.below(40) == 0 => json!("long ä".repeat(15_000)),
        _ => json!(format!("text {}", dice.below(1_000_000))),
    }
}

/// An odd row of a source: most of its fields, some in another casing, some twice, some that nobody knows.
pub(super) fn row(source: &dyn Source, number: u64, actions: &[&str]) -> String {
    let mut dice = Dice::new(number + 1);
    let mut members = Vec::new();
    let mut nested = Map::new();
    for name in source.names().all() {
        if dice.below(6) == 0 {
            continue;
        }
        let value = value(&mut dice);
        if let Some((_, member)) = name.split_once('.') {
            nested.insert(member.to_owned(), value);
            continue;
        }
        let key = match dice.below(12) {
            0 => name.to_uppercase(),
            1 => name.to_lowercase(),
            _ => (*name).to_owned(),
        };
        members.push((key, value));
        if dice.below(40) == 0 {
            members.push(((*name).to_owned(), json!("again")));
        }
    }
    members.push((format!("field{}", dice.below(9)), json!({"of": "a later portal"})));
    if dice.below(2) == 0 && !nested.is_empty() {
        let object =
            source.names().nested().map_or("details", |slot| source.names().all()[usize::from(slot)]);
        members.retain(|(key, _)| !key.eq_ignore_ascii_case(object));
        members.push((object.to_owned(), Value::Object(nested)));
    }
    // Every kind of action equally often, however odd the rest of its row; and now and then any value.
    if let Some(action) = actions.get(usize::try_from(number).unwrap() % (actions.len() + 1)) {
        let name = match source.name() {
            "unified_audit" | "threats" | "private_threats" => "actionType",
            "approval_requests" => "statusId",
            _ => "action",
        };
        members.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        members.push((name.to_owned(), json!(action)));
    }
    let written = members.iter().map(|(key, value)| format!("{}:{value}", json!(key)));
    format!("{{{}}}", written.collect::<Vec<_>>().join(","))
}
