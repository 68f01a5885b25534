//! A sink gets all that it wants and nothing else, and one that begins now nothing of before.

use std::collections::BTreeSet;
use std::fs;

use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use serde_json::Value;

use crate::support::app::{HOUR, SOON, fresh_seed};
use crate::support::binary::Place;
use crate::support::output::files;

/// The records of a sink.
fn records(place: &Place, sink: &str) -> Vec<Value> {
    let read = |path| fs::read_to_string(path).unwrap();
    let texts: Vec<String> = files(&place.path(sink)).into_iter().map(read).collect();
    texts.iter().flat_map(|text| text.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn uid(record: &Value) -> String {
    record.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_else(|| panic!("{record}")).to_owned()
}

fn uids(place: &Place, sink: &str) -> BTreeSet<String> {
    let records = records(place, sink);
    let uids: BTreeSet<String> = records.iter().map(uid).collect();
    assert_eq!(uids.len(), records.len(), "{sink} has a record twice");
    uids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_that_share_everything_out_have_each_record_in_the_one_that_wants_it() {
    let seed = fresh_seed();
    let options = WorldOptions {
        seed,
        backlog_hours: 3,
        rows_per_day: 8_000,
        computers: 40,
        ..WorldOptions::default()
    };
    let portal = Simulator::start(World::new(options), Options::default()).await.unwrap();
    let place = Place::new(&portal, "64KiB");
    let dir = place.path("").display().to_string();
    let mut sinks = String::from("sinks:\n");
    for (name, wish) in [
        ("all", ""),
        ("events", "select: { kinds: [event] }"),
        ("things", "select: { kinds: [device, state] }"),
        ("audit", "select: { sources: [unified_audit], sites: [acme] }"),
        ("others", "select: { sources: [system_audit, computers] }"),
        ("severe", "select: { severity: medium }"),
    ] {
        sinks += &format!(
            "  - {{ name: {name}, type: file, path: \"{dir}/{name}/{{source}}.ndjson\", {wish} }}\n"
        );
    }
    let site = fs::read_to_string(place.path("lockstep.yaml")).unwrap();
    let site = site.split_once("site: ").unwrap().1.split_whitespace().next().unwrap().to_owned();
    place.reconfigure("sinks:\n", &sinks.replace("acme", &site));
    assert!(place.ask(&["check"]).await.contains("takes only: kinds event"));
    place.ask(&["once"]).await;

    let all = records(&place, "all");
    assert!(all.len() > 800, "{} records of seed {seed}", all.len());
    let everything: BTreeSet<String> = all.iter().map(uid).collect();
    for (one, other) in [("events", "things"), ("audit", "others")] {
        let (one, other) = (uids(&place, one), uids(&place, other));
        assert!(!one.is_empty() && !other.is_empty() && one.is_disjoint(&other));
        assert_eq!(&one | &other, everything);
    }
    let class = |record: &Value| record["class_uid"].as_u64().unwrap();
    let severe = |record: &Value| {
        class(record) == 5001 || [0, 3, 4, 5].contains(&record["severity_id"].as_i64().unwrap())
    };
    let wanted: BTreeSet<String> = all.iter().filter(|record| severe(record)).map(uid).collect();
    assert!(wanted.len() < everything.len());
    assert_eq!(uids(&place, "severe"), wanted);

    // Each organization by the name that is in the paths, or by its id.
    let organizations: BTreeSet<String> = all
        .iter()
        .filter_map(|record| {
            record.pointer("/metadata/tenant_uid").and_then(Value::as_str).map(str::to_owned)
        })
        .collect();
    assert!(organizations.len() > 1, "{organizations:?}");
    let mut sinks = String::from("sinks:\n");
    for (place, id) in organizations.iter().enumerate() {
        sinks += &format!(
            "  - {{ name: o{place}, type: file, path: \"{dir}/o{place}/{{org_slug}}.ndjson\", select: {{ organizations: \
             [{}] }} }}\n",
            id.to_uppercase()
        );
    }
    sinks +=
        &format!("  - {{ name: late, type: file, path: \"{dir}/late/{{source}}.ndjson\", from: now }}\n");
    place.reconfigure("sinks:\n", &sinks);
    place.ask(&["once"]).await;
    let mut gathered = BTreeSet::new();
    let now: BTreeSet<String> = uids(&place, "all");
    for (number, id) in organizations.iter().enumerate() {
        let sink = format!("o{number}");
        assert_eq!(files(&place.path(&sink)).len(), 1, "one short name");
        assert!(records(&place, &sink).iter().all(|record| record["metadata"]["tenant_uid"] == id.as_str()));
        gathered.extend(uids(&place, &sink));
    }
    assert_eq!(gathered, now);

    // The one that begins now has what came after, although all of before is still in the outbox.
    portal.stage().clock.advance(2 * HOUR);
    place.ask(&["once"]).await;
    let (after, late) = (uids(&place, "all"), uids(&place, "late"));
    let missing: Vec<_> = after.difference(&now).filter(|uid| !late.contains(*uid)).collect();
    assert!(after.len() > now.len() && missing.is_empty(), "{missing:?}");
    assert!(late.is_disjoint(&everything));

    // A name that nobody has, mistyped perhaps, passes nothing over.
    let wrong = |name: &str| {
        format!(
            "  - {{ name: wrong, type: file, path: \"{dir}/wrong/a.ndjson\", select: {{ organizations: [{name}] }} }}\n"
        )
    };
    place.reconfigure("sinks:\n", &("sinks:\n".to_owned() + &wrong("nobody")));
    let ended = place.start("once", None).ended_within(SOON).await;
    assert_eq!(ended.and_then(|ended| ended.code()), Some(1));
    assert!(place.said().contains("names nobody"), "{}", place.said());
    let id = organizations.first().unwrap();
    place.reconfigure(&wrong("nobody"), &wrong(id));
    place.ask(&["once"]).await;
    let of_it =
        records(&place, "all").into_iter().filter(|record| record["metadata"]["tenant_uid"] == id.as_str());
    assert_eq!(uids(&place, "wrong"), of_it.map(|record| uid(&record)).collect());
}
