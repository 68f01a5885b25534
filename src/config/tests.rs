mod documented;
mod folders;

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
    assert_eq!(
        connection.sources.keys().copied().collect::<Vec<_>>(),
        ["computers", "system_audit", "unified_audit"]
    );
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
fn sources_are_checked() {
    let folder = Folder::with_connection(
        "instance: g
sources:
  unified_audit: { tables: [1, 5], only: [dney, elevate], skip_types: [raed] }
  system_audit: { page_size: 0, backfill: 40d, settle: 2d }
  computers: { enabled: maybe, restate: 1s, every: 0s }
  organizations: { page_size: 5 }
  threats: { enabled: true }
  polices: {}
  wonders: {}
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 13 mistakes:
      connections[0].sources.unified_audit.only: unknown "dney"; did you mean "deny"?
      connections[0].sources.unified_audit.skip_types: unknown "raed"; did you mean "read"?
      connections[0].sources.unified_audit.tables: expected numbers from 1 to 4 (1 action log, 2 denies, 3 baseline, 4 event log), found "5"
      connections[0].sources.system_audit.page_size: must be from 1 to 1000, found 0
      connections[0].sources.system_audit.settle: must be from 0s to 1d, found 2d
      connections[0].sources.system_audit.backfill: reaches further back than the portal keeps rows (retention: 30d); raise retention if your portal keeps them longer
      connections[0].sources.computers.enabled: expected true or false, found "maybe"
      connections[0].sources.computers.every: must be from 100ms to 30d, found 0s
      connections[0].sources.computers.restate: must be from 1m to 365d, found 1s
      connections[0].sources.organizations.page_size: unknown key; known here: every
      connections[0].sources.threats: is not collected by this version yet; remove it
      connections[0].sources.polices: unknown source; did you mean "policies"?
      connections[0].sources.wonders: unknown source; known here: unified_audit, system_audit, computers, reports, threats, policies, remediations, approval_requests
    "#);
}

#[test]
fn a_site_that_would_collect_nothing_or_an_organization_twice_is_a_mistake() {
    let off = "sources: { unified_audit: { enabled: false }, system_audit: { enabled: false }, computers: { enabled: false } }";
    assert_snapshot!(Folder::with_connection(&format!("instance: g\n{off}\n")).mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].sources: none is enabled, so nothing of this site would be collected
    ");
    assert_snapshot!(Folder::with_connection("instance: g\norganizations: [North, south, north]\n").mistakes(), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].organizations: "north" stands there twice
    "#);
    assert_snapshot!(Folder::with_connection("instance: g\norganizations: [North, '']\n").mistakes(), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].organizations: holds something that is no name or id; expected own, all or a list of names or ids such as ["Acme North"]
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
fn a_mistake_in_the_common_sources_is_reported_once() {
    let folder = Folder::new(&format!(
        "connections:
  - {{ site: one, instance: g, token: {{ file: DIR/token }} }}
  - {{ site: two, instance: g, token: {{ file: DIR/token }} }}
sources: {{ computers: {{ evry: 5m, page_size: many }} }}
{SINKS}"
    ));
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 2 mistakes:
      sources.computers.page_size: expected a whole number, found "many"
      sources.computers.evry: unknown key; did you mean "every"?
    "#);
}

#[test]
fn what_a_later_version_will_know_is_said_to_be_missing() {
    let folder = Folder::with_connection("instance: g\naccess: auth_key\n");
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].access: "auth_key" is not built yet in this version; known here: portal
    "#);
    let folder = Folder::with_top("server: { console: 127.0.0.1:9651 }\n");
    assert_snapshot!(folder.mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      server.console: is not built yet in this version; remove it
    ");
    let folder = Folder::with_sinks(
        "  - { name: lake, type: kafka, brokers: [a] }
  - { name: hec, type: splunk_hec }
  - { name: out, type: stdout, format: ocsf, max_per_day: 5 }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 4 mistakes:
      sinks[0].type: "kafka" is not built yet in this version; known here: file, stdout
      sinks[1].type: "splunk_hec" is not built yet in this version; known here: file, stdout
      sinks[2].format: "ocsf" is not built yet in this version; known here: raw
      sinks[2].max_per_day: is not built yet in this version; remove it
    "#);
}

#[test]
fn the_address_of_the_portal_is_checked() {
    let said = |line: &str| Folder::with_connection(line).mistakes();
    assert_snapshot!(said(""), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].instance: is missing; the portal shows it under Help as "ThreatLocker Access (G)": write `instance: g`, or `base_url: https://…`
    "#);
    assert_snapshot!(said("instance: g\nbase_url: https://portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: stands beside instance; keep one of them
    ");
    assert_snapshot!(said("instance: https://portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].instance: is a URL; write it as `base_url` instead
    ");
    assert_snapshot!(said("instance: portalapi.g"), @r#"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].instance: expected the letter or short name in "ThreatLocker Access (G)", found "portalapi.g"
    "#);
    assert_snapshot!(said("base_url: portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: expected https://host[:port], but relative URL without a base
    ");
    assert_snapshot!(said("base_url: http://portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: plain http would show the token to the network; use https (http goes to loopback only)
    ");
    assert_snapshot!(said("base_url: https://portal.example/some/where"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: goes on after the host; leave that out: /portalapi is added by itself
    ");
    assert_snapshot!(said("base_url: https://me:5ecre7@portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: holds a user name or password; remove it: the token goes into `token`
    ");
    assert_snapshot!(said("base_url: ftp://portal.example"), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].base_url: expected https://host[:port], found the scheme ftp
    ");
}

#[test]
fn plain_http_is_for_loopback_only() {
    for (url, kept) in [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost:80", "http://localhost"),
        ("https://portal.example/PortalApi/", "https://portal.example"),
        ("https://Portal.Example:8443", "https://portal.example:8443"),
    ] {
        assert_eq!(
            Folder::with_connection(&format!("base_url: \"{url}\"")).load().connections[0].base_url,
            kept
        );
    }
    for url in ["http://127.0.0.1.example", "http://localhost.example", "http://10.0.0.1"] {
        let said = Folder::with_connection(&format!("base_url: {url}")).mistakes();
        assert!(said.contains("plain http would show the token"), "{said}");
    }
}

#[test]
fn an_unlimited_rate_and_fast_polls_are_for_loopback_only() {
    let settings = "rate: unlimited\nsources: { computers: { every: 200ms } }\n";
    let connection = Folder::with_connection(&format!("base_url: http://127.0.0.1:9\n{settings}"))
        .load()
        .connections
        .remove(0);
    assert_eq!(connection.rate, Rate { per_second: None, concurrent: 2, stretch: false });
    assert_eq!(connection.sources["computers"].every, Duration::from_millis(200));
    assert_snapshot!(Folder::with_connection(&format!("instance: g\n{settings}")).mistakes(), @"
    DIR/lockstep.yaml has 2 mistakes:
      connections[0].rate.per_second: unlimited is for loopback only; write a number such as 5
      connections[0].sources.computers.every: below 10s only towards loopback, found 200ms
    ");
    assert_snapshot!(Folder::with_connection("instance: g\nrate: { per_second: 0, concurrent: 65 }").mistakes(), @"
    DIR/lockstep.yaml has 2 mistakes:
      connections[0].rate.per_second: must be from 0.01 to 100, found 0
      connections[0].rate.concurrent: must be from 1 to 64, found 65
    ");
}

#[test]
fn the_rest_of_a_connection_is_checked() {
    let folder = Folder::with_connection(
        "instance: g
organizations: everything
organization_id: acme
token_expiry: 365d
contact: 5
access: reprots
http: { proxy: \"http://me:5ecre7@proxy:3128\", ca_file: DIR/none.pem, timeout: 60, body_limit: 1KiB, insecure_skip_verify: perhaps }
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 10 mistakes:
      connections[0].token_expiry: expected `{ unused_for: 365d }` as ticked in the portal, or `{ at: 2027-03-01 }`
      connections[0].organizations: expected own, all or a list of names or ids such as ["Acme North"], found "everything"
      connections[0].organization_id: expected an id such as 0fa8e7c2-5d0b-4c1f-9f5e-6a7b8c9d0e1f, found "acme"
      connections[0].contact: expected a text (in quotes if it looks like a number), found 5
      connections[0].access: unknown "reprots"; known here: portal
      connections[0].http.proxy: holds a user name or password; a secret does not stand in the configuration: set HTTPS_PROXY instead
      connections[0].http.ca_file: there is no file DIR/none.pem
      connections[0].http.insecure_skip_verify: expected true or false, found "perhaps"
      connections[0].http.timeout: expected a duration with its unit such as 200ms, 60s, 1h30m or 30d, found 60
      connections[0].http.body_limit: must be from 64KiB to 1GiB, found 1KiB
    "#);
}

#[test]
fn the_rest_of_a_connection_is_read() {
    let folder = Folder::with_connection(
        "instance: G
organizations: [Acme North, 3b6a1c5e-0000-4000-8000-000000000001]
organization_id: 3B6A1C5E-0000-4000-8000-000000000001
token_expiry: { at: 2027-03-01 }
contact: secops@acme.example
http: { proxy: \"http://proxy:3128\", ca_file: DIR/ca.pem, timeout: 1m30s, insecure_skip_verify: true }
",
    );
    let connection = folder.load().connections.remove(0);
    assert_eq!(connection.base_url, "https://portalapi.g.threatlocker.com");
    let names = vec!["Acme North".to_owned(), "3b6a1c5e-0000-4000-8000-000000000001".to_owned()];
    assert_eq!(connection.organizations, Organizations::Only(names));
    assert_eq!(connection.organization_id.unwrap().as_str(), "3b6a1c5e-0000-4000-8000-000000000001");
    assert_eq!(connection.token_expiry, Some(TokenExpiry::At("2027-03-01".parse().unwrap())));
    assert_eq!(connection.http.proxy, Some("http://proxy:3128".to_owned()));
    assert_eq!((connection.http.timeout, connection.http.insecure_skip_verify), (seconds(90), true));
    assert_eq!(connection.http.body_limit, 64 << 20);
}

#[test]
fn a_ca_file_without_a_certificate_is_a_mistake() {
    assert_snapshot!(Folder::with_connection("instance: g\nhttp: { ca_file: DIR/token }\n").mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].http.ca_file: DIR/token holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)
    ");
}

#[test]
fn a_secret_that_cannot_be_had_is_a_mistake_of_its_connection() {
    let folder = Folder::new(&format!(
        "connections:
  - {{ site: a, instance: g, token: {{ file: DIR/none }} }}
  - {{ site: b, instance: g, token: {{ file: DIR/empty }} }}
  - {{ site: c, instance: g, token: {{ env: NOT_SET }} }}
  - {{ site: d, instance: g, token: {{ env: A, file: DIR/token }} }}
  - {{ site: e, instance: g, token: {{ vault: x }} }}
  - {{ site: f, instance: g }}
  - {{ site: g, instance: g, token: {} }}
{SINKS}",
        SECRET.trim()
    ));
    folder.write("empty", " \n");
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 8 mistakes:
      connections[0].token.file: cannot read DIR/none: No such file or directory (os error 2)
      connections[1].token.file: DIR/empty is empty
      connections[2].token.env: environment variable "NOT_SET" is not set or empty
      connections[3].token: write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`
      connections[4].token: write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`
      connections[4].token.vault: unknown key; known here: file, env
      connections[5].token: is missing; write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`
      connections[6].token: a secret does not stand in the configuration; write `{ file: /run/secrets/NAME }` or `{ env: VARIABLE }`
    "#);
}

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
",
    );
    assert_snapshot!(folder.mistakes(), @r#"
    DIR/lockstep.yaml has 7 mistakes:
      sinks[0].path: unknown placeholder {sit}; known: {site} {org_id} {org_slug} {source} {kind} {date}
      sinks[0].rotate.size: expected a size with its unit such as 512KiB, 256MiB or 8GiB, found 256
      sinks[0].rotate.age: expected a duration with its unit such as 200ms, 60s, 1h30m or 30d, found "soon"
      sinks[0].rotate.count: unknown key; known here: size, age
      sinks[1].path: unknown key; known here: name, type, format
      sinks[2].type: unknown "printer"; known here: file, stdout
      sinks[3].format: unknown "rwa"; known here: raw
    "#);
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
fn the_sources_of_the_configuration_are_those_that_are_collected() {
    assert_eq!(SOURCE_NAMES, SOURCES.map(|source| source.name()));
}

#[test]
fn narrowing_becomes_queries_that_each_ask_for_one_thing() {
    let filters = |settings: &str| {
        let folder =
            Folder::with_connection(&format!("instance: g\nsources: {{ unified_audit: {{ {settings} }} }}"));
        folder.load().connections[0].sources["unified_audit"].filters()
    };
    let types = |filter: &Filter| filter.action_types.len();
    assert_eq!(filters(""), [Filter::default()]);
    let elevate = Filter { action_types: vec!["elevate".to_owned()], action_id: None };
    assert_eq!(filters("only: [Elevate]"), std::slice::from_ref(&elevate));
    let denied = filters("only: [deny, elevate]");
    assert_eq!(
        denied.iter().map(|filter| filter.action_id).collect::<Vec<_>>(),
        [None, Some(2), Some(3), Some(6)]
    );
    assert_eq!(denied[0], elevate);
    let [skipping] = &filters("skip_types: [read, dns]")[..] else { panic!("one query") };
    assert_eq!((types(skipping), skipping.action_types.contains(&"dns".to_owned())), (13, false));
    let both = filters("only: [ringfenced], skip_types: [read]");
    assert_eq!((both.len(), both[0].action_id, types(&both[0])), (1, Some(6), 14));
}

#[test]
fn narrowing_that_leaves_nothing_is_a_mistake() {
    let folder = Folder::with_connection(
        "instance: g\nsources: { unified_audit: { only: [read], skip_types: [read] } }",
    );
    assert_snapshot!(folder.mistakes(), @"
    DIR/lockstep.yaml has 1 mistake:
      connections[0].sources.unified_audit.skip_types: leaves nothing to ask for; set `enabled: false` to collect nothing of this source
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
    let strip = |config: &Config| format!("{config:?}");
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
