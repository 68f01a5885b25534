//! The configuration as it is shown.

use super::*;

#[test]
fn no_secret_is_shown_anywhere() {
    let folder = Folder::new(&format!(
        "connections:
  - {{ site: a, instance: g, token: {{ file: DIR/token }} }}
  - {{ site: b, instance: h, token: {{ env: TOKEN }} }}
{SINKS}"
    ));
    let config = folder.load_with(&[("TOKEN", SECRET.trim())]).unwrap();
    let shown = format!("{config:?}\n{config:#?}\n{}", config.effective());
    assert!(!shown.contains(SECRET.trim()), "{shown}");
    assert!(config.effective().contains("env: TOKEN"));

    let text = SECRET.trim();
    for place in
        ["site", "instance", "base_url", "organization_id", "organizations", "access", "token_expiry", "rate"]
    {
        let said = Folder::with_connection(&format!("{place}: {text}\ntokn: {text}")).mistakes();
        assert!(!said.contains(text), "{said}");
    }
}

#[test]
fn the_effective_configuration_loads_to_the_same() {
    let folder = Folder::new(&format!(
        "connections:
  - {{ site: \"007\", instance: g, token: {{ file: DIR/token }}, organizations: [\"Acme, Inc.: \\\"North\\\"\"], rate: {{ per_second: 0.5 }} }}
sources: {{ computers: {{ every: 20m }}, unified_audit: {{ only: [deny] }} }}
server: {{ ops: off }}
{SINKS}"
    ));
    let config = folder.load();
    let again = Folder::new(&config.effective());
    // Written out, a default is chosen.
    let strip = |config: &Config| {
        format!("{config:?}").replace("format_by_default: true", "format_by_default: false")
    };
    assert_eq!(strip(&again.load()), strip(&config), "{}", config.effective());
    assert_eq!(values(&again.load()), values(&config));
}

/// The effective configuration without the layers.
fn values(config: &Config) -> Vec<String> {
    let line = |line: &str| line.rsplit_once("  # ").unwrap_or((line, "")).0.trim_end().to_owned();
    config.effective().lines().map(line).collect()
}

#[test]
fn every_effective_value_names_the_layer_that_set_it() {
    let folder = Folder::new(&format!(
        "connections:
  - {{ site: acme, base_url: \"http://127.0.0.1:1\", token: {{ file: DIR/token }}, rate: unlimited }}
sources: {{ computers: {{ every: 20m }} }}
server: {{ ops: off }}
{SINKS}"
    ));
    folder.write(
        "conf.d/10.yaml",
        "connections: [{ site: beta, instance: h, token: { file: DIR/token }, organizations: [North, South] }]\n\
         outbox: { keep: 1h, limit: 1GiB }\n",
    );
    let config = folder.load_with(&[("LOCKSTEP__OUTBOX__KEEP", "3h")]).unwrap();
    let shown = config.effective().replace(&folder.0.path().display().to_string(), "DIR");
    assert!(shown.lines().all(|line| line.ends_with(':') || line.contains("  # ")), "{shown}");
    let told = |wanted: &[&str]| {
        let line = shown.lines().find(|line| line.contains(wanted[0]));
        let (value, layer) =
            line.unwrap_or_else(|| panic!("{wanted:?} in {shown}")).split_once("  # ").unwrap();
        assert_eq!((value.trim(), layer), (wanted[0].trim(), wanted[1]), "{shown}");
    };
    told(&["  - site: acme", "DIR/lockstep.yaml"]);
    told(&["per_second: unlimited", "DIR/lockstep.yaml"]);
    told(&["concurrent: 2", "default"]);
    told(&["every: 20m", "DIR/lockstep.yaml"]);
    told(&["  - site: beta", "DIR/conf.d/10.yaml"]);
    told(&["organizations: [North, South]", "DIR/conf.d/10.yaml"]);
    told(&["limit: 1GiB", "DIR/conf.d/10.yaml"]);
    told(&["keep: 3h", "environment variable LOCKSTEP__OUTBOX__KEEP"]);
    told(&["memory: 128MiB", "default"]);
}

#[test]
fn durations_are_shown_as_they_are_written() {
    for text in ["0s", "200ms", "60s", "1h30m", "30d", "1d12h"] {
        let length = humantime::parse_duration(text).unwrap();
        let shown = human(length);
        assert_eq!(humantime::parse_duration(&shown).unwrap(), length);
        if text != "60s" {
            assert_eq!(shown, text);
        }
    }
}
