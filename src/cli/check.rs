//! `lockstep check`: every mistake at once, and what the configuration amounts to.

pub(super) mod online;
mod revealing;
mod sinks;

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use rustix::fs::{Access as Right, access};
use secrecy::ExposeSecret;

use self::revealing::revealing;
use super::{ConfigFile, Usage, logging, out};
use crate::config::{
    Access, AuthKey, Config, Connection, Environment, Load, Organizations, human, human_size, loads,
};
use crate::credentials::{looks_like_a_token, read_secret};
use crate::sink::SinkKind;
use crate::sinks::file::Compression;
use crate::sources::reports::{self, Report};

/// Find every mistake in a configuration at once, without starting anything.
///
/// Each mistake is named by its path with what to write instead. A configuration without mistakes is
/// summed up: sites, sources with the interval that can really be reached, sinks, and the requests a second
/// that idle polling needs against those that are allowed (a warning above 80 %, a mistake above 100 %).
/// What is set and comes to nothing is warned of. Exits with 2 on a mistake. With --online every portal is asked for a
/// few rows of each source, of each organization where they are named (the first ten), and runs the reports: reach,
/// clock, token, organizations and the permission to tick where one is missing; the far sides of sinks over
/// HTTP whether they take the credential; and of Kafka the brokers, the topics and a transaction. Exits with 1 where
/// something is wrong.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  lockstep check -c lockstep.yaml
  lockstep check -c lockstep.yaml --online       also asks the portals and far sides
  lockstep check -c lockstep.yaml --online --create   and creates the topics that are missing at Kafka")]
pub struct Check {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Ask every portal for a few rows of each source, and far sides for nothing; stores and delivers nothing.
    #[arg(long)]
    pub online: bool,
    /// Create the topics that are missing at Kafka; with --online.
    #[arg(long, requires = "online")]
    pub create: bool,
}

impl Check {
    pub(super) async fn run(self, environment: &Environment) -> anyhow::Result<()> {
        let config = self.config.load(environment)?;
        out::say(Summary(&config));
        let warnings = narrow(&config).into_iter().chain(unheeded(&config)).chain(revealing(&config));
        for warning in warnings {
            out::say(format_args!("warning: {warning}"));
        }
        let mut troubles = troubles(&config);
        for connection in &config.connections {
            match read_secret(&connection.token).await {
                Err(error) => troubles.push(format!("site {}: {error}", connection.site)),
                Ok(secret) if !looks_like_a_token(secret.expose_secret()) => out::say(format_args!(
                    "note: site {}: what is in {} does not look like a portal token (64 characters of 0-9 and a-f, \
                     without `Bearer`); it is used as it is",
                    connection.site, connection.token
                )),
                Ok(_) => {}
            }
        }
        if !troubles.is_empty() {
            return Err(Usage(troubles.join("\n")).into());
        }
        out::say(format_args!("\n{} has no mistake", self.config.path.display()));
        if self.online {
            logging(&config.log, false, std::io::IsTerminal::is_terminal(&std::io::stderr()));
            let mut wrong = online::ask_all(&config).await + online::ask_sinks(&config).await;
            wrong += online::look_at_kafka(&config, self.create).await;
            if wrong > 0 {
                bail!("{wrong} of the answers are not what collecting and delivering need");
            }
        }
        Ok(())
    }
}

/// What only shows when the parts are put together or the disk is looked at.
fn troubles(config: &Config) -> Vec<String> {
    let mut troubles: Vec<String> = config.broken.iter().map(ToString::to_string).collect();
    for load in loads(&config.connections) {
        if let (Some(allowed), Some(share), true) = (load.allowed, load.share(), load.is_too_much()) {
            let fewer = match load.one_by_one {
                0 | 1 => String::new(),
                many => format!("ask for all {many} organizations at once with `organizations: all`, "),
            };
            let remedy = match load.stretches {
                false => {
                    "raise `every` of its sources, allow more, or set `rate: { stretch: true }` to have them polled less often"
                }
                true => {
                    "allow more, or raise `organizations.every`: looking for organizations is not polled less often by \
                         `stretch: true`, and leaves no room for the sources"
                }
            };
            troubles.push(format!(
                "polling with {} needs {:.2} requests/s, {:.0} % of the {allowed}/s that rate.per_second allows: \
                 {fewer}{remedy}",
                load.token,
                load.needed,
                (share * 100.0).max(101.0)
            ));
        }
    }
    for (what, path) in written(config) {
        let shown = path.display();
        if path.is_file() {
            troubles.push(format!("{what}: {shown} is a file; name a folder"));
        } else if !can_write(&path) {
            troubles.push(format!("{what}: this user cannot write to {shown}; change its owner or its mode"));
        }
    }
    troubles
}

/// What works, with little to spare.
fn narrow(config: &Config) -> Vec<String> {
    let narrow = loads(&config.connections).into_iter().filter_map(|load| {
        let share = load.share().filter(|_| load.is_narrow())?;
        Some(format!(
            "polling with {} needs {:.0} % of the requests that rate.per_second allows, which leaves little for \
             backlogs and re-checks: raise `every` of its sources, allow more, or set `rate: {{ stretch: true }}`",
            load.token,
            share * 100.0
        ))
    });
    narrow.collect()
}

/// What is set and comes to nothing.
fn unheeded(config: &Config) -> Vec<String> {
    let runs = |report: &Report| {
        let all = config.connections.iter().filter_map(|connection| connection.sources.get(reports::NAME));
        let mut enabled = all.filter(|source| source.enabled).flat_map(|source| &source.reports);
        enabled.any(|one| one.key() == report.key())
    };
    let mut warnings = Vec::new();
    for connection in &config.connections {
        let site = &connection.site;
        for (name, source) in &connection.sources {
            if let Some(other) = source.lacks {
                warnings.push(format!(
                    "site {site}: {name} are not collected, since {other} are off, by which they are asked for: set \
                     `{other}: {{ enabled: true }}`, or `{name}: {{ enabled: false }}`"
                ));
            }
            // Names that stand at the top level may be meant for another site.
            let named = source.reports.iter().filter(|report| !source.enabled && !report.is_computers);
            for report in named.filter(|report| !runs(report)) {
                warnings.push(format!(
                    "site {site}: the report \"{}\" is named and not run, since reports are off: set \
                     `reports: {{ enabled: true }}`",
                    report.names.join("\" or \"")
                ));
            }
        }
    }
    warnings
}

/// The folders that the program will write to, and what for.
fn written(config: &Config) -> Vec<(String, PathBuf)> {
    let mut folders = vec![("state.dir".to_owned(), config.state.dir.clone())];
    for sink in &config.sinks {
        if let SinkKind::File { path, inventory, .. } = &sink.kind {
            // What stands before the first placeholder is the same for every file.
            let text = path.to_string();
            let fixed = text.split('{').next().unwrap_or_default().to_owned();
            let lists = inventory.iter().map(|list| list.display().to_string());
            for file in std::iter::once(fixed).chain(lists) {
                let folder = match file.rsplit_once('/') {
                    None => ".",
                    Some(("", _)) => "/",
                    Some((folder, _)) => folder,
                };
                let folder = (format!("sink {}", sink.name), PathBuf::from(folder));
                if !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
    }
    folders
}

/// True when this user can make files in a folder, or the folder itself where it is not there yet.
fn can_write(folder: &Path) -> bool {
    let there = folder.ancestors().find(|part| part.exists() && !part.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    there.is_dir() && access(there, Right::WRITE_OK | Right::EXEC_OK).is_ok()
}

/// The configuration as a page for people.
struct Summary<'a>(&'a Config);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loads = loads(&self.0.connections);
        for connection in &self.0.connections {
            let load = loads.iter().find(|load| load.sites.contains(&connection.site));
            write_connection(f, connection, load.map_or(1.0, Load::delay))?;
        }
        for load in &loads {
            write_load(f, load)?;
        }
        f.write_char('\n')?;
        for sink in &self.0.sinks {
            match &sink.kind {
                SinkKind::File { path, rotate_size, rotate_age, inventory } => {
                    let size = human_size(*rotate_size);
                    let age = human(*rotate_age);
                    let packed = match path.compression() {
                        Compression::None => String::new(),
                        packed => format!(" packed with {}", packed.as_str()),
                    };
                    writeln!(f, "sink {}: files {path}{packed}, a new one after {size} or {age}", sink.name)?;
                    for list in inventory {
                        writeln!(f, "  the list of all computers in {}", list.display())?;
                    }
                }
                SinkKind::Http(settings) => sinks::write_http(f, &sink.name, settings)?,
                SinkKind::Kafka(kafka) => {
                    writeln!(f, "sink {}: {kafka}\n  {}", sink.name, kafka.promise())?;
                }
                SinkKind::Stdout => writeln!(f, "sink {}: standard output", sink.name)?,
            }
            if !sink.select.is_all() {
                writeln!(f, "  takes only: {}", sink.select)?;
            }
            if let Some(redact) = &sink.redact {
                writeln!(f, "  spared: {redact}")?;
            }
        }
        let dir = &self.0.state.dir;
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        writeln!(f, "state: {}", dir.display())?;
        match self.0.server.ops {
            Some(address) => write!(f, "health and metrics: {address}"),
            None => write!(f, "health and metrics: off"),
        }
    }
}

fn write_load(f: &mut fmt::Formatter<'_>, load: &Load) -> fmt::Result {
    write!(f, "{}: idle polling needs {:.2} requests/s", load.token, load.configured)?;
    let (Some(allowed), Some(share)) = (load.allowed, load.share()) else {
        return writeln!(f, ", any number is allowed");
    };
    writeln!(f, " of {allowed}/s allowed ({:.0} %)", load.configured / allowed * 100.0)?;
    if load.needed < load.configured {
        writeln!(
            f,
            "  rate.stretch: intervals are lengthened until polling needs {:.2} requests/s ({:.0} %)",
            load.needed,
            share * 100.0
        )?;
    }
    Ok(())
}

/// `delay`: by how much polls come later than their intervals, since the requests do not suffice.
fn write_connection(f: &mut fmt::Formatter<'_>, connection: &Connection, delay: f64) -> fmt::Result {
    let organizations = match &connection.organizations {
        Organizations::Own => "own organization".to_owned(),
        Organizations::All => "all organizations".to_owned(),
        Organizations::Only(names) => format!("organizations {}", names.join(", ")),
    };
    writeln!(f, "site {}: {}, {organizations}", connection.site, connection.base_url)?;
    let width = connection.sources.keys().map(|name| name.len()).max().unwrap_or(0);
    for (name, source) in &connection.sources {
        if !source.enabled {
            writeln!(f, "  {name:<width$}  off")?;
            continue;
        }
        let reachable = connection.every(source).mul_f64(delay);
        write!(
            f,
            "  {name:<width$}  every {:<4} reachable {:<6}",
            human(source.every),
            human(rounded(reachable))
        )?;
        match source.restate {
            _ if !source.settle.is_zero() || !source.backfill.is_zero() => {
                writeln!(f, "  settle {:<4}  backfill {}", human(source.settle), human(source.backfill))?;
            }
            Some(restate) => writeln!(f, "  sent again every {}", human(restate))?,
            None => writeln!(f)?,
        }
    }
    match connection.access {
        Access::Portal => {}
        Access::Reports => {
            writeln!(f, "  access: reports, so the devices of a report are all that is collected")?
        }
        Access::AuthKey => {
            let AuthKey { header, path } = &connection.auth_key;
            writeln!(
                f,
                "  access: auth_key, UNVERIFIED: the key in {header} at {}/{path}; nobody has seen ThreatLocker answer \
                 it, so compare what comes with the portal",
                connection.base_url
            )?;
        }
    }
    if connection.sources.values().any(|source| source.enabled && source.matching) {
        writeln!(
            f,
            "  approval_requests: asks which applications match, UNVERIFIED: nobody has seen ThreatLocker answer it; a \
             request more for each step that is told, 50 a poll at most"
        )?;
    }
    if connection.token_expiry.is_none() {
        writeln!(f, "  note: token_expiry is not set, so nobody can be warned before the token lapses")?;
    }
    if connection.http.insecure_skip_verify {
        writeln!(
            f,
            "  warning: insecure_skip_verify lets anybody between here and the portal read the token"
        )?;
    }
    f.write_char('\n')
}

/// To whole seconds, where there are any.
fn rounded(length: Duration) -> Duration {
    let half = Duration::from_millis(500);
    if length < 2 * half { length } else { Duration::from_secs((length + half).as_secs()) }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use tempfile::TempDir;

    use super::*;
    use crate::config::SOURCE_NAMES;

    /// The sources beside the three of which these tests tell figures.
    fn others() -> impl Iterator<Item = &'static str> {
        let usual = ["unified_audit", "system_audit", "computers"];
        SOURCE_NAMES.into_iter().filter(move |name| !usual.contains(name))
    }

    /// A configuration in a folder of its own, with `DIR` in the text as its path, that collects none of [`others`].
    fn load(yaml: &str) -> (TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        std::fs::write(folder.path().join("token"), "0123").unwrap();
        std::fs::write(folder.path().join("same"), "0123\n").unwrap();
        std::fs::write(folder.path().join("lockstep.yaml"), yaml.replace("DIR", &path)).unwrap();
        let off =
            |name: &str| (format!("LOCKSTEP__SOURCES__{}__ENABLED", name.to_uppercase()), "false".to_owned());
        let environment = Environment::from_iter(others().map(off));
        let config = Config::load(&folder.path().join("lockstep.yaml"), &environment);
        (folder, config.unwrap_or_else(|error| panic!("{error}")))
    }

    #[test]
    fn a_configuration_is_summed_up() {
        let (folder, config) = load(
            "connections:
  - { site: acme, instance: g, token: { file: DIR/token }, organizations: all, token_expiry: { unused_for: 365d } }
  - site: lab
    base_url: http://127.0.0.1:8080
    token: { file: DIR/token }
    organizations: [North, South]
    http: { insecure_skip_verify: true }
    sources: { unified_audit: { tables: [1, 2], every: 10s }, system_audit: { enabled: false } }
state: { dir: DIR/state }
sinks: [{ name: out, type: file, path: \"DIR/out/{site}.ndjson\" }, { name: screen, type: stdout }]
server: { ops: off }
",
        );
        let summary = Summary(&config).to_string().replace(&folder.path().display().to_string(), "DIR");
        let told = |line: &&str| !others().any(|name| line.trim_start().starts_with(name));
        let summary = summary.lines().filter(told).collect::<Vec<_>>().join("\n");
        assert_snapshot!(summary, @"
    site acme: https://portalapi.g.threatlocker.com, all organizations
      computers             every 15m  reachable 15m     sent again every 1d
      system_audit          every 2m   reachable 2m      settle 5m    backfill 1d
      unified_audit         every 1m   reachable 1m      settle 2m    backfill 1d

    site lab: http://127.0.0.1:8080, organizations North, South
      computers             every 15m  reachable 15m     sent again every 1d
      system_audit          off
      unified_audit         every 10s  reachable 10s     settle 2m    backfill 1d
      note: token_expiry is not set, so nobody can be warned before the token lapses
      warning: insecure_skip_verify lets anybody between here and the portal read the token

    token file DIR/token of acme: idle polling needs 0.05 requests/s of 5/s allowed (1 %)
    token file DIR/token of lab: idle polling needs 0.81 requests/s of 5/s allowed (16 %)

    sink out: files DIR/out/{site}.ndjson, a new one after 256MiB or 1h
    sink screen: standard output
    state: DIR/state
    health and metrics: off
    ");
        assert_eq!(troubles(&config), [""; 0]);
    }

    #[test]
    fn what_a_sink_is_spared_is_said_without_the_key() {
        let secret = "one key of some length";
        let (folder, _) = load(
            "connections: [{ site: a, instance: g, token: { file: DIR/token } }]\nsinks: [{ name: out, type: stdout }]\n",
        );
        std::fs::write(folder.path().join("key"), secret).unwrap();
        let path = folder.path().join("lockstep.yaml");
        let sinks = "sinks:
  - { name: a, type: stdout, redact: [ip, user], redact_key: { file: DIR/key } }
  - { name: b, type: file, path: DIR/b, redact: { user: remove, command_line: remove } }
  - { name: c, type: file, path: DIR/c, redact: { user: pseudonym, device: remove }, redact_key: { env: KEY } }
  - { name: d, type: file, path: DIR/d }
";
        let shown = folder.path().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("sinks: [{ name: out, type: stdout }]\n", &sinks.replace("DIR", &shown));
        std::fs::write(&path, text).unwrap();
        let environment = Environment::from_iter([("KEY", secret)]);
        let config = Config::load(&path, &environment).unwrap_or_else(|error| panic!("{error}"));
        let summary = Summary(&config).to_string().replace(&shown, "DIR");
        let (_, sinks) = summary.split_once("\n\ntoken").unwrap();
        let sinks: Vec<&str> =
            sinks.lines().filter(|line| line.starts_with("sink ") || line.contains("spared")).collect();
        assert_snapshot!(sinks.join("\n"), @"
    sink a: standard output
      spared: user, ip as pseudonyms with the key in file DIR/key
    sink b: files DIR/b, a new one after 256MiB or 1h
      spared: user, command_line left out
    sink c: files DIR/c, a new one after 256MiB or 1h
      spared: user as pseudonyms with the key in environment variable KEY; device left out
    sink d: files DIR/d, a new one after 256MiB or 1h
    ");
        assert!(!summary.contains(secret) && !format!("{config:?}").contains(secret));
    }

    #[test]
    fn what_is_set_and_comes_to_nothing_is_warned_of() {
        let said = |sites: &str, sources: &str| {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().display().to_string();
            std::fs::write(folder.path().join("token"), "0123").unwrap();
            let text = format!(
                "connections:\n{sites}\nsources: {{ {sources} }}\nsinks: [{{ name: out, type: stdout }}]\n"
            );
            let file = folder.path().join("lockstep.yaml");
            std::fs::write(&file, text.replace("DIR", &dir)).unwrap();
            let config = Config::load(&file, &Environment::default());
            unheeded(&config.unwrap_or_else(|error| panic!("{error}"))).join("\n")
        };
        let one = "  - { site: a, instance: g, token: { file: DIR/token } }";
        assert_eq!(said(one, ""), "");
        assert_snapshot!(said(one, "computers: { enabled: false }, reports: { names: [Denies by Day] }"), @r#"
        site a: remediations are not collected, since computers are off, by which they are asked for: set `computers: { enabled: true }`, or `remediations: { enabled: false }`
        site a: the report "Denies by Day" is named and not run, since reports are off: set `reports: { enabled: true }`
        "#);
        let other = "  - { site: b, instance: h, token: { file: DIR/token }, sources: { reports: { enabled: true } } }";
        assert_eq!(said(&format!("{one}\n{other}"), "reports: { names: [Denies by Day] }"), "");
    }

    #[test]
    fn polling_faster_than_the_rate_allows_and_writing_where_nobody_can_are_mistakes() {
        let (folder, config) = load(
            "connections:
  - { site: a, instance: g, token: { file: DIR/token }, rate: { per_second: 0.05 } }
  - { site: b, instance: g, token: { file: DIR/token } }
state: { dir: DIR/token }
sinks: [{ name: out, type: file, path: \"DIR/{site}\", inventory: DIR/token/latest.csv }]
",
        );
        let said = troubles(&config).join("\n").replace(&folder.path().display().to_string(), "DIR");
        assert_snapshot!(said, @"
    polling with token file DIR/token of a, b needs 0.11 requests/s, 211 % of the 0.05/s that rate.per_second allows: raise `every` of its sources, allow more, or set `rate: { stretch: true }` to have them polled less often
    state.dir: DIR/token is a file; name a folder
    sink out: DIR/token is a file; name a folder
    ");
    }

    #[test]
    fn little_room_is_a_warning_and_stretched_intervals_leave_room() {
        let polled = |stretch: &str| {
            let (folder, config) = load(&format!(
                "connections:
  - {{ site: a, instance: g, token: {{ file: DIR/token }}, rate: {{ per_second: 0.05{stretch} }} }}
sinks: [{{ name: out, type: stdout }}]
server: {{ ops: off }}
"
            ));
            let path = folder.path().display().to_string();
            (Summary(&config).to_string().replace(&path, "DIR"), troubles(&config), config)
        };
        let (summary, troubles, _) = polled("");
        assert!(summary.contains("unified_audit         every 1m   reachable 1m3s "), "{summary}");
        assert!(summary.contains("of 0.05/s allowed (106 %)"), "{summary}");
        assert!(troubles[0].contains("106 %") && troubles[0].contains("stretch: true"), "{troubles:?}");

        let (summary, troubles, config) = polled(", stretch: true");
        assert!(summary.contains("unified_audit         every 1m   reachable 1m19s"), "{summary}");
        assert!(summary.contains("lengthened until polling needs 0.04 requests/s (80 %)"), "{summary}");
        assert_eq!(troubles, [""; 0]);
        let left = loads(&config.connections);
        assert!((left[0].share().unwrap() - 0.8).abs() < 1e-6, "{left:?}");
    }

    #[test]
    fn connections_share_the_requests_of_a_token_wherever_each_has_it_from() {
        let (_folder, config) = load(
            "connections:
  - { site: a, instance: g, token: { file: DIR/token }, rate: { per_second: 0.1, stretch: true } }
  - { site: b, instance: g, token: { file: DIR/same }, sources: { computers: { enabled: false } } }
  - { site: c, instance: h, token: { file: DIR/token } }
sinks: [{ name: out, type: stdout }]
",
        );
        let loads = loads(&config.connections);
        assert_eq!(loads.iter().map(|load| load.sites.join(" ")).collect::<Vec<_>>(), ["a b", "c"]);
        // Only the first may be stretched, and makes room for the second as well.
        assert!((loads[0].share().unwrap() - 0.8).abs() < 1e-6, "{loads:?}");
        let stretch: Vec<f64> = config.connections.iter().map(|one| one.stretch).collect();
        assert!(stretch[0] > 1.0 && stretch[1..] == [1.0, 1.0], "{stretch:?}");
    }

    #[test]
    fn polling_may_need_all_that_is_allowed_and_is_warned_of_from_four_fifths_on() {
        // 2 requests every 10 s for each of three sources, every 20 s for the discovery: 0.7 a second, and a
        // little more when it is summed up.
        let at = |per_second: f64| {
            let yaml = format!(
                "connections:
  - {{ site: a, instance: g, token: {{ file: DIR/token }}, rate: {{ per_second: {per_second} }} }}
sources:
  organizations: {{ every: 20s }}
  unified_audit: {{ every: 10s }}
  system_audit: {{ every: 10s }}
  computers: {{ every: 10s }}
state: {{ dir: DIR/state }}
sinks: [{{ name: out, type: stdout }}]
"
            );
            let (_folder, config) = load(&yaml);
            (troubles(&config).len(), narrow(&config).len())
        };
        assert_eq!(at(0.69), (1, 0), "refused");
        assert_eq!(at(0.7), (0, 1), "exactly all of it");
        assert_eq!(at(0.87), (0, 1));
        assert_eq!(at(0.88), (0, 0));
    }

    #[test]
    fn a_folder_that_is_not_there_is_writable_when_its_parent_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(can_write(&dir.path().join("a/b")));
        assert!(can_write(Path::new("out/x")));
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(!can_write(&dir.path().join("file/a")));
    }
}
