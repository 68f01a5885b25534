//! The kits for the other side: what they name is what records have, and a real OpenSearch takes the templates.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lockstep::simulator::world::WorldOptions;
use serde_json::{Value, json};

use crate::support::app::{SOON, Setup, TestApp, fresh_seed};
use crate::support::opensearch::opensearch;

fn kit(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("integrations").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every place that docs/fields.md names, and those above them.
fn places() -> BTreeSet<String> {
    let page = include_str!("../../docs/fields.md");
    let mut places = BTreeSet::new();
    for code in page.split('`').skip(1).step_by(2) {
        let mut place = code.replace("[]", "");
        loop {
            places.insert(place.clone());
            match place.rsplit_once('.') {
                Some((above, _)) => place = above.to_owned(),
                None => break,
            }
        }
    }
    // What no row is asked for.
    places.extend(
        ["class_uid", "metadata.uid", "raw_data", "event.original", "event.ingested"].map(str::to_owned),
    );
    places
}

#[test]
fn every_field_that_the_splunk_kit_names_is_one_that_records_have() {
    let places = places();
    let (mut named, mut made) = (BTreeSet::new(), BTreeSet::new());
    for line in kit("splunk/props.conf").lines() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        if key.starts_with("FIELDALIAS-") {
            let (field, alias) = value.split_once(" ASNEW ").unwrap();
            named.insert(field.trim_matches('"').to_owned());
            made.insert(alias.to_owned());
        } else if key.starts_with("EVAL-") {
            named.extend(value.split('\'').skip(1).step_by(2).map(str::to_owned));
        } else if key.starts_with("LOOKUP-") {
            let words: Vec<_> = value.split(' ').collect();
            named.insert(words[1].to_owned());
            assert!(kit("splunk/transforms.conf").contains(&format!("[{}]", words[0])));
        }
    }
    assert!(named.len() > 20 && made.len() > 20, "{named:?}");
    let unknown: Vec<_> = named.difference(&places).collect();
    assert!(unknown.is_empty(), "records have no {unknown:?}");
    let searched = kit("splunk/eventtypes.conf");
    for eventtype in kit("splunk/tags.conf").lines().filter_map(|line| line.strip_prefix("[eventtype=")) {
        assert!(searched.contains(&format!("[{eventtype}")), "{eventtype}");
    }
    let severities = kit("splunk/threatlocker_severity.csv");
    assert!((0..=5).all(|id| severities.contains(&format!("\n{id},"))));
}

/// The paths of mapped fields.
fn mapped(properties: &Value, above: &str, found: &mut Vec<String>) {
    for (name, field) in properties.as_object().unwrap() {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match field.get("properties") {
            Some(inner) => mapped(inner, &path, found),
            None => found.push(path),
        }
    }
}

#[test]
fn the_templates_of_both_products_are_alike_and_name_fields_that_records_have() {
    let places = places();
    for name in ["ecs.json", "ocsf.json"] {
        let text = kit(&format!("elasticsearch/{name}"));
        let mut theirs: Value = serde_json::from_str(&text).unwrap();
        let ours: Value = serde_json::from_str(&kit(&format!("opensearch/{name}"))).unwrap();
        let mut found = Vec::new();
        mapped(&ours["template"]["mappings"]["properties"], "", &mut found);
        assert!(found.len() >= 5, "{found:?}");
        let unknown: Vec<_> = found.iter().filter(|path| !places.contains(*path)).collect();
        assert!(unknown.is_empty(), "{name}: records have no {unknown:?}");
        flat(&mut theirs);
        assert_eq!(theirs, ours, "{name}");
    }
}

/// The one type that has another name.
fn flat(value: &mut Value) {
    match value {
        Value::Object(fields) if fields.get("type") == Some(&json!("flattened")) => {
            *value = json!({ "type": "flat_object" });
        }
        Value::Object(fields) => fields.values_mut().for_each(flat),
        Value::Array(entries) => entries.iter_mut().for_each(flat),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opensearch_takes_every_record_in_either_format_with_its_template() {
    let Some(far_side) = opensearch().await else { return };
    let mut sinks = Vec::new();
    let prefixes = ["ocsf", "ecs"].map(|format| (format, format!("k{:x}-{format}-", fresh_seed())));
    for (format, prefix) in &prefixes {
        let mut template: Value = serde_json::from_str(&kit(&format!("opensearch/{format}.json"))).unwrap();
        template["index_patterns"] = json!([format!("{prefix}*")]);
        template["template"]["settings"]["index"]["number_of_replicas"] = json!(0);
        far_side.ask("PUT", &format!("_index_template/{prefix}"), template).await;
        sinks.push(format!(
            "{{ name: {format}, type: opensearch, format: {format}, url: \"{}\", index: \"{prefix}{{kind}}s-{{date}}\" }}",
            far_side.url
        ));
    }
    let world = WorldOptions { seed: fresh_seed(), rows_per_day: 3_000, ..WorldOptions::default() };
    let app = TestApp::start(Setup { world, sinks, ..Setup::default() }).await;
    app.quiet();
    app.wait_caught_up(SOON).await;
    let letters = app.dead_letters().await;
    let reasons: Vec<_> = letters.iter().map(|(source, reason, _)| format!("{source}: {reason}")).collect();
    assert!(reasons.is_empty(), "{reasons:#?}");
    for ((_, prefix), field) in
        prefixes.iter().zip(["unmapped.dateTimeImported", "threatlocker.dateTimeImported"])
    {
        let count = far_side.documents(prefix).await.len();
        let query = json!({ "query": { "exists": { "field": field } } });
        let found = far_side.ask("POST", &format!("{prefix}*/_count"), query).await;
        let found: Value = serde_json::from_str(&found).unwrap();
        let found = found["count"].as_u64().unwrap();
        assert!(count > 2_000 && found > 2_000, "{prefix}: {found} of {count} have {field}");
    }
    app.stopped().await;
}

#[test]
fn the_kafka_connect_kit_reads_committed_records_of_the_default_topics_and_holds_no_secret() {
    let connector: Value = serde_json::from_str(&kit("kafka-connect/snowflake.json")).unwrap();
    let config = connector["config"].as_object().unwrap();
    let value = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no {key}"));
    assert_eq!(value("consumer.override.isolation.level"), "read_committed");
    assert_eq!((value("value.converter.schemas.enable"), value("errors.tolerance")), ("false", "none"));
    let defaults = include_str!("../../src/config/defaults.yaml");
    let topics: Vec<&str> = value("topics").split(',').collect();
    for (key, topic) in ["events", "devices"].into_iter().zip(&topics) {
        assert!(defaults.contains(&format!("      {key}: {topic}\n")), "{topic}");
    }
    let mapped = value("snowflake.topic2table.map").split(',').map(|pair| pair.split_once(':').unwrap().0);
    assert_eq!(mapped.collect::<Vec<_>>(), topics);
    for (key, value) in config {
        assert!(value.is_string(), "{key}: Kafka Connect takes texts only");
        let secret = ["key", "user", "url", "role"]
            .iter()
            .any(|word| key.starts_with("snowflake.") && key.contains(word));
        assert_eq!(secret, value.as_str().unwrap().starts_with("${file:/run/secrets/"), "{key}");
    }
    assert!(kit("kafka-connect/README.md").lines().count() <= 14);
}
