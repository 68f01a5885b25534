mod connections;
mod documented;
mod effective;
mod folders;
mod redact;
mod sinks;
mod sources;

use std::path::PathBuf;

use insta::assert_snapshot;
use tempfile::TempDir;

use super::*;
use crate::credentials::SecretSource;
use crate::sink::SinkKind;
use crate::source::{Filter, SOURCES};

/// A folder with a configuration, its secret and whatever else a test puts there. `DIR` in a text stands
/// for its path.
struct Folder(TempDir);

impl Folder {
    fn new(yaml: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("token", SECRET);
        if yaml.contains("DIR/ca.pem") {
            let certified = rcgen::generate_simple_self_signed(["portal".to_owned()]).unwrap();
            folder.write("ca.pem", &certified.cert.pem());
            folder.write("ca.key", &certified.signing_key.serialize_pem());
        }
        folder.write("lockstep.yaml", yaml);
        folder
    }

    /// A folder whose configuration is right but for `more`, lines of its only connection.
    fn with_connection(more: &str) -> Self {
        let lines: String = more.lines().map(|line| format!("    {line}\n")).collect();
        Self::new(&format!("connections:\n  - site: acme\n    token: {{ file: DIR/token }}\n{lines}{SINKS}"))
    }

    /// A folder whose configuration is right but for `more`, lines at the top level.
    fn with_top(more: &str) -> Self {
        Self::new(&format!("{CONNECTION}{SINKS}{more}"))
    }

    fn with_sinks(list: &str) -> Self {
        Self::new(&format!("{CONNECTION}sinks:\n{list}"))
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace("DIR", &self.0.path().display().to_string())).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load_with(&self, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(&self.path("lockstep.yaml"), &variables.iter().copied().collect())
    }

    fn load(&self) -> Config {
        self.load_with(&[]).unwrap_or_else(|error| panic!("{error}"))
    }

    /// What is said about this configuration, with the folder's path as `DIR`.
    fn mistakes(&self) -> String {
        self.mistakes_with(&[])
    }

    fn mistakes_with(&self, variables: &[(&str, &str)]) -> String {
        let error = self.load_with(variables).expect_err("a mistake");
        error.to_string().replace(&self.0.path().display().to_string(), "DIR")
    }
}

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n";
const CONNECTION: &str = "connections: [{ site: acme, instance: g, token: { file: DIR/token } }]\n";
const SINKS: &str = "sinks: [{ name: out, type: stdout }]\n";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_site_an_instance_a_token_and_a_sink_are_enough() {
    let config = Folder::new(&format!("{CONNECTION}{SINKS}")).load();
    let connection = &config.connections[0];
    assert_eq!(
        (connection.site.as_str(), connection.base_url.as_str()),
        ("acme", "https://portalapi.g.threatlocker.com")
    );
    assert!(matches!(&connection.token, SecretSource::File(path) if path.ends_with("token")));
    assert_eq!(connection.organizations, Organizations::Own);
    assert_eq!(connection.rate, Rate { per_second: Some(5.0), concurrent: 2, stretch: false });
    let off = connection.sources.iter().filter(|(_, source)| !source.enabled);
    assert_eq!(
        off.map(|(name, _)| *name).collect::<Vec<_>>(),
        [
            "computer_checkins",
            "computer_details",
            "online_devices",
            "private_remediations",
            "private_threats",
            "reports"
        ]
    );
    assert_eq!(connection.sources.len(), SOURCES.len());
    let audit = &connection.sources["unified_audit"];
    assert_eq!(
        (audit.every, audit.settle, audit.page_size, audit.restate),
        (seconds(60), seconds(120), 500, None)
    );
    let computers = &connection.sources["computers"];
    assert_eq!((computers.every, computers.restate), (seconds(900), Some(seconds(86_400))));
    assert_eq!(config.memory, 128 << 20);
    assert_eq!(config.server.ops, Some("0.0.0.0:9650".parse().unwrap()));
}

#[test]
fn settings_of_a_connection_are_laid_on_the_common_ones_field_by_field() {
    let folder = Folder::new(&format!(
        "connections:
  - {{ site: one, instance: g, token: {{ file: DIR/token }}, sources: {{ computers: {{ every: 30m }} }} }}
  - {{ site: two, instance: h, token: {{ file: DIR/token }} }}
sources: {{ computers: {{ page_size: 100, every: 20m, restate: off }}, system_audit: {{ enabled: false }} }}
{SINKS}"
    ));
    let config = folder.load();
    let [one, two] = &config.connections[..] else { panic!("two connections") };
    let computers = |connection: &Connection| {
        let source = &connection.sources["computers"];
        (source.every, source.page_size, source.restate)
    };
    assert_eq!(computers(one), (seconds(1800), 100, None));
    assert_eq!(computers(two), (seconds(1200), 100, None));
    assert!(!one.sources["system_audit"].enabled && one.sources["unified_audit"].enabled);
}

#[test]
fn an_empty_section_changes_nothing() {
    let config = Folder::with_top("sources:\n  computers:\nlog:\noutbox: { keep: }\n").load();
    assert_eq!(config.connections[0].sources["computers"].every, seconds(900));
    assert_eq!(config.outbox.keep, seconds(48 * 3600));
}

#[test]
fn the_environment_wins_over_the_files_and_the_later_file_over_the_earlier() {
    let folder = Folder::with_top("memory: 64MiB\nlog: { level: warn }\noutbox: { keep: 1h }\n");
    folder.write("conf.d/20.yaml", "memory: 96MiB\noutbox: { keep: 2h }\n");
    folder.write("conf.d/10.yaml", "memory: 80MiB\nlog: { json: true }\n");
    folder.write("conf.d/notes.txt", "memory: none of this is read");
    let variables = [
        ("LOCKSTEP__OUTBOX__KEEP", "3h"),
        ("LOCKSTEP__SOURCES__COMPUTERS__PAGE_SIZE", "7"),
        ("LOCKSTEP__SOURCES__UNIFIED_AUDIT__TABLES", "1, 2"),
        ("LOCKSTEP_PORT", "tcp://10.0.0.1:80"),
    ];
    let config = folder.load_with(&variables).unwrap();
    assert_eq!((config.memory, config.outbox.keep), (96 << 20, seconds(3 * 3600)));
    assert_eq!((config.log.level, config.log.json), (tracing::Level::WARN, true));
    assert_eq!(config.connections[0].sources["computers"].page_size, 7);
    assert_eq!(config.connections[0].sources["unified_audit"].tables, [1, 2]);
}

#[test]
fn a_file_in_conf_d_adds_connections_and_drops_none() {
    let folder = Folder::with_top("");
    folder.write(
        "conf.d/beta.yaml",
        "connections: [{ site: beta, instance: h, token: { file: DIR/token } }]\n",
    );
    let sites: Vec<String> =
        folder.load().connections.into_iter().map(|connection| connection.site).collect();
    assert_eq!(sites, ["acme", "beta"]);
}

#[test]
fn a_mistake_names_the_layer_it_came_from() {
    let folder = Folder::with_top("");
    folder.write("conf.d/beta.yaml", "memory: lots\nlog: { levle: info }\n");
    assert_snapshot!(folder.mistakes_with(&[("LOCKSTEP__OUTBOX__KEEP", "long"), ("LOCKSTEP__SINKS__0__NAME", "x")]), @r#"
    DIR/lockstep.yaml has 4 mistakes:
      sinks: a list cannot be set by the environment; write it into a file (from environment variable LOCKSTEP__SINKS__0__NAME)
      outbox.keep: expected a duration with its unit such as 200ms, 60s, 1h30m or 30d, found "long" (from environment variable LOCKSTEP__OUTBOX__KEEP)
      log.levle: unknown key; did you mean "level"? (from DIR/conf.d/beta.yaml)
      memory: expected a size with its unit such as 512KiB, 256MiB or 8GiB, found "lots" (from DIR/conf.d/beta.yaml)
    "#);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let folder = Folder::new(
        "connections:
  - site: acme
    instance: g
    token: { file: DIR/token }
    organisations: all
    sources: { unified_audit: { every: fast, page_size: 5000 }, computers: { settle: 5m } }
sources: { system_audit: { every: 2 } }
sinks:
  - { name: out, type: stdot }
memory: 128
srver: {}
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 8 mistakes:
      sources.system_audit.every: expected a duration with its unit such as 200ms, 60s, 1h30m or 30d, found 2
      connections[0].sources.unified_audit.every: expected a duration with its unit such as 200ms, 60s, 1h30m or 30d, found "fast"
      connections[0].sources.unified_audit.page_size: must be from 1 to 1000, found 5000
      connections[0].sources.computers.settle: unknown key; known here: enabled, every, page_size, restate
      connections[0].organisations: unknown key; did you mean "organizations"?
      sinks[0].type: unknown "stdot"; did you mean "stdout"?
      memory: expected a size with its unit such as 512KiB, 256MiB or 8GiB, found 128
      srver: unknown key; did you mean "server"?
    "#);
}

#[test]
fn an_empty_file_teaches_what_is_needed() {
    assert_snapshot!(Folder::new("").mistakes(), @"
    DIR/lockstep.yaml has 2 mistakes:
      connections: at least one is needed, such as
          - { site: acme, instance: g, token: { file: … } }
      sinks: at least one is needed, such as
          - { name: out, type: stdout }
    ");
}

#[test]
fn a_file_that_is_no_yaml_or_not_there_is_named() {
    assert_snapshot!(Folder::new("connections: [").mistakes(), @"DIR/lockstep.yaml is not valid YAML: while parsing a node, did not find expected node content at byte 14 line 2 column 1");
    let error = Config::load("/nowhere/lockstep.yaml".as_ref(), &Environment::default()).unwrap_err();
    assert_snapshot!(error, @"cannot read the configuration /nowhere/lockstep.yaml: No such file or directory (os error 2)");
}

#[test]
fn a_list_that_is_none_is_explained() {
    assert_snapshot!(Folder::new("connections: { site: acme }\nsinks: [out]\n").mistakes(), @r#"
    DIR/lockstep.yaml has 2 mistakes:
      connections.site: unknown key; connections are a list, each entry with a leading dash, or `{ dir: FOLDER }` with a folder for each site
      sinks[0]: expected a section with keys of its own, such as
          - { name: out, type: stdout }
        found "out"
    "#);
    assert_snapshot!(Folder::new("connections: acme\nsinks: []\n").mistakes(), @r#"
    DIR/lockstep.yaml has 2 mistakes:
      connections: expected a list, each entry with a leading dash, found "acme"
      sinks: at least one is needed, such as
          - { name: out, type: stdout }
    "#);
}

#[test]
fn a_byte_order_mark_before_the_settings_is_passed_over() {
    let folder = Folder::new(&format!(
        "\u{feff}connections: [{{ site: one, instance: g, token: {{ file: DIR/token }} }}]\n{SINKS}"
    ));
    assert_eq!(folder.load().connections.len(), 1);
}

#[test]
fn what_a_later_version_will_know_is_said_to_be_missing() {
    let folder = Folder::with_top("server: { console: 127.0.0.1:9651 }\n");
    assert_snapshot!(folder.mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      server.console: is not built yet in this version; remove it
    ");
}

#[test]
fn the_top_level_is_checked() {
    let folder = Folder::with_top(
        "state: { dir: 5 }
server: { ops: \"9650\" }
outbox: { limit: 5KB, keep: 20y }
dead_letters: 5
log: { level: verbose, json: 5 }
shutdown_grace: 1h
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 8 mistakes:
      state.dir: expected a path, found 5
      server.ops: expected an address and a port such as 127.0.0.1:9650 (port 0 takes any free one), found "9650"
      outbox.limit: must be from 1MiB to 64TiB, found 4.9KiB
      outbox.keep: must be from 0s to 3650d, found 7305d
      dead_letters: expected a section with keys of its own, found 5
      log.level: unknown "verbose"; known here: error, warn, info, debug, trace
      log.json: expected true or false, found 5
      shutdown_grace: must be from 0s to 5m, found 1h
    "#);
}

#[test]
fn the_listener_can_be_off_or_on_any_port() {
    assert_eq!(Folder::with_top("server: { ops: off }\n").load().server.ops, None);
    let config = Folder::with_top("server: { ops: \"127.0.0.1:0\" }\n").load();
    assert_eq!(config.server.ops, Some("127.0.0.1:0".parse().unwrap()));
}
