//! `config/lockstep.yaml` explains every option, and what it says is true.

use std::collections::BTreeSet;

use super::*;
use crate::config::layers::{defaults, parse};

const EXAMPLE: &str = include_str!("../../../config/lockstep.yaml");

/// Blocks that show an example, since there is no default, or another choice than the default.
const EXAMPLES: [&str; 11] = [
    "base_url",
    "token",
    "token_expiry",
    "organizations: [",
    "organization_id",
    "contact",
    "- name",
    "inventory",
    "max_per_day",
    "redact",
    "select",
];

/// A setting that is commented out: its first line, and the file with it taken in.
struct Variant {
    first: String,
    text: String,
}

/// The file with each commented setting taken in, one at a time.
fn variants() -> Vec<Variant> {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let mut variants = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some((indent, setting)) = commented(line).filter(|(_, setting)| is_setting(setting)) else {
            continue;
        };
        let key = setting.split(':').next().unwrap();
        let end = (start + 1..lines.len()).find(|&next| {
            !commented(lines[next]).is_some_and(|(column, text)| column == indent && text.starts_with("  "))
        });
        let block = start..end.unwrap_or(lines.len());
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            let replaced = match key {
                "base_url" => "instance:",
                key => &format!("{key}:"),
            };
            let line = match commented(line) {
                // A key of pseudonyms alone is a mistake.
                Some((indent, text))
                    if block.contains(&number) || key == "redact_key" && text.starts_with("redact: ") =>
                {
                    format!("{:indent$}{text}", "")
                }
                _ if line
                    .strip_prefix(&" ".repeat(indent))
                    .is_some_and(|rest| rest.starts_with(replaced)) =>
                {
                    continue;
                }
                _ => (*line).to_owned(),
            };
            text.push_str(&line);
            text.push('\n');
        }
        variants.push(Variant { first: setting.to_owned(), text });
    }
    variants
}

/// Column and text of a line that is a comment.
fn commented(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start();
    Some((line.len() - text.len(), text.strip_prefix("# ")?))
}

/// True for `key: …` and `- key: …`, not for a sentence.
fn is_setting(text: &str) -> bool {
    let key = text.trim_start_matches("- ").split(':').next().unwrap_or_default();
    text.contains(':')
        && !key.is_empty()
        && key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
}

fn load(text: &str) -> Config {
    let folder = Folder::new(
        &text
            .replace("/run/secrets/acme", "DIR/token")
            .replace("/run/secrets/redact", "DIR/token")
            .replace("/run/secrets/search", "DIR/token")
            .replace("/run/secrets/hec", "DIR/token")
            .replace("/run/secrets/receiver", "DIR/token")
            .replace("/run/secrets/kafka", "DIR/token")
            .replace("/run/secrets/lockstep.keytab", "DIR/token")
            .replace("DIR/token.pem", "DIR/ca.pem")
            .replace("DIR/token.key", "DIR/ca.pem")
            .replace("/etc/ssl/corporate.pem", "DIR/ca.pem")
            .replace("/etc/ssl/lockstep.pem", "DIR/ca.pem")
            .replace("/etc/ssl/lockstep.key", "DIR/ca.key"),
    );
    folder.load_with(&[("ACME_TOKEN", "x")]).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The configuration without the paths of its folder.
fn shown(mut config: Config) -> String {
    for connection in &mut config.connections {
        connection.token = SecretSource::File("token".into());
        connection.http = Http { ca_file: None, proxy: None, no_proxy: None, ..connection.http.clone() };
    }
    // Written out, a default is chosen.
    config.sinks.iter_mut().for_each(|sink| sink.format_by_default = false);
    format!("{config:#?}")
}

#[test]
fn the_example_loads_with_any_of_its_settings_taken_in() {
    assert!(variants().len() >= 20, "{}", variants().len());
    for variant in variants() {
        let is_kerberos = |line: &str| line.trim_start().starts_with("mechanism: GSSAPI");
        if cfg!(feature = "kerberos") || !variant.text.lines().any(is_kerberos) {
            load(&variant.text);
        }
    }
}

#[test]
fn what_the_example_calls_a_default_is_the_default() {
    let plain = shown(load(EXAMPLE));
    for variant in variants() {
        let example = EXAMPLES.iter().any(|example| variant.first.starts_with(example));
        let own = variant.first == "sources:"
            && variant.text.contains("    sources:\n      unified_audit: { every: 2m }");
        if !example && !own {
            assert_eq!(shown(load(&variant.text)), plain, "{}", variant.first);
        }
    }
}

#[test]
fn every_option_is_in_the_example() {
    let mut documented = BTreeSet::new();
    for variant in variants() {
        paths(&parse(&variant.text).unwrap(), "", &mut documented);
    }
    let mut options = BTreeSet::new();
    paths(&defaults(), "", &mut options);
    let missing: Vec<_> = options.difference(&documented).collect();
    assert!(missing.is_empty(), "config/lockstep.yaml does not explain {missing:?}");
    assert!(options.contains("connections.http.body_limit") && options.len() > 50, "{options:?}");
}

/// Every path of keys in a table; entries of lists count as one.
fn paths(table: &Table, above: &str, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        match &value.kind {
            ValueKind::Table(inner) => paths(inner, &path, found),
            ValueKind::Array(entries) => {
                for inner in entries.iter().filter_map(|entry| entry.clone().into_table().ok()) {
                    paths(&inner, &path, found);
                }
            }
            _ => {}
        }
        found.insert(path);
    }
}

#[test]
fn the_reference_is_current_and_leaves_nothing_out() {
    let made = reference();
    let page = include_str!("../../../docs/configuration.md");
    assert!(made == page, "make it anew: cargo run -- config --reference > docs/configuration.md\n{made}");
    let rows: Vec<Vec<&str>> = made
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split(" |").map(|cell| cell.trim_start_matches('|').trim()).collect())
        .collect();
    for row in &rows {
        assert!(row.len() == 5 && !row[1].is_empty() && !row[3].is_empty(), "{row:?}");
    }
    assert!(rows.len() > 50, "{}", rows.len());
}
