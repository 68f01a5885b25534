//! What can be set for each source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::connection::Access;
use super::days;
use super::layers::{Table, merged};
use super::mistake::{Mistakes, suggestion};
use super::reader::Section;
use crate::reach::is_loopback;
use crate::source::{Filter, Private};
use crate::sources::approval_requests::matching;
use crate::sources::reports::{self, Report};
use crate::sources::unified_audit::ACTION_TYPES;
use ::config::{Value, ValueKind};

/// The sources that this version collects, by the names that they have in the configuration.
pub const SOURCE_NAMES: [&str; 14] = [
    "unified_audit",
    "system_audit",
    "computers",
    "organizations",
    "policies",
    "approval_requests",
    "threats",
    "remediations",
    "reports",
    "online_devices",
    "computer_checkins",
    "computer_details",
    "private_threats",
    "private_remediations",
];

/// The source whose interval is also that of the discovery of organizations, which goes on where the source is off.
const DISCOVERY: &str = "organizations";

/// Sources that are listed for one computer at a time.
const PER_COMPUTER: [&str; 3] = ["remediations", "computer_checkins", "computer_details"];

/// Outcomes that `only` takes beside action types, with the action ids to ask for one by one: some portals
/// answer nothing to their own "any deny" (contract section 5.3).
const OUTCOMES: [(&str, &[i64]); 4] =
    [("permit", &[1]), ("deny", &[2, 3, 6]), ("install_mode", &[4]), ("ringfenced", &[6])];

/// How one source of one connection is collected.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceConfig {
    pub enabled: bool,
    /// Time between two polls, before jitter.
    pub every: Duration,
    /// Rows asked for at once, 1 to 1000.
    pub page_size: u32,
    /// How long the newest time is left alone, since rows arrive late; zero for snapshot sources.
    pub settle: Duration,
    /// How far before the first start collecting begins; zero for snapshot sources that have no past.
    pub backfill: Duration,
    /// How long the portal keeps rows, until it is observed; zero for snapshot sources.
    pub retention: Duration,
    /// Snapshot sources: how often every row is sent again; `None` for `off`.
    pub restate: Option<Duration>,
    /// `approval_requests`: time between two looks at those that are decided or escalated; zero for others.
    pub decided_every: Duration,
    /// `approval_requests`: how often all are read to their ends. Sources that are asked per computer: how often each
    /// is asked about. Zero for others.
    pub sweep: Duration,
    /// `approval_requests`: the portal is asked which applications match what is told.
    pub matching: bool,
    /// `unified_audit`: values of `sourceTableId`, 1 to 4, none twice.
    pub tables: Vec<u8>,
    /// `unified_audit`: actions and action types that are asked for; empty for all.
    pub only: Vec<String>,
    /// `unified_audit`: action types that are not asked for.
    pub skip_types: Vec<String>,
    /// `reports`: those that are run.
    pub reports: Vec<Report>,
    /// Sources that the vendor does not publish: how they are asked, where they are enabled.
    pub private: Option<Arc<Private>>,
    /// It is wanted, and off since this other source is, which it needs.
    pub lacks: Option<&'static str>,
}

impl SourceConfig {
    /// The queries that `only` and `skip_types` amount to; one that asks for all without them.
    pub fn filters(&self) -> Vec<Filter> {
        if !self.reports.is_empty() {
            let run = |report: &Report| Filter { report: Some(report.clone()), ..Filter::default() };
            return self.reports.iter().map(run).collect();
        }
        if let Some(private) = &self.private {
            return vec![Filter { private: Some(Arc::clone(private)), ..Filter::default() }];
        }
        let kept = |types: &mut dyn Iterator<Item = &str>| -> Vec<String> {
            types
                .filter(|name| !self.skip_types.iter().any(|skipped| skipped == name))
                .map(str::to_owned)
                .collect()
        };
        let all = match self.skip_types.is_empty() {
            true => Vec::new(),
            false => kept(&mut ACTION_TYPES.into_iter()),
        };
        if self.only.is_empty() {
            return vec![Filter { action_types: all, ..Filter::default() }];
        }
        let mut filters = Vec::new();
        let types =
            kept(&mut self.only.iter().map(String::as_str).filter(|word| ACTION_TYPES.contains(word)));
        if !types.is_empty() {
            filters.push(Filter { action_types: types, ..Filter::default() });
        }
        let outcomes = OUTCOMES.iter().filter(|(word, _)| self.only.iter().any(|only| only == word));
        let ids: BTreeSet<i64> = outcomes.flat_map(|(_, ids)| ids.iter().copied()).collect();
        filters.extend(ids.into_iter().map(|id| Filter {
            action_types: all.clone(),
            action_id: Some(id),
            ..Filter::default()
        }));
        filters
    }
}

/// The settings under the top-level `sources`, on which each connection's own are laid.
pub(super) struct Common(Table);

impl Common {
    /// As they are for an access: where it gives reports only, these and nothing else.
    fn of(&self, access: Access) -> Table {
        let mut common = self.0.clone();
        if access != Access::Portal {
            for name in SOURCE_NAMES {
                if let Some(Value { kind: ValueKind::Table(source), .. }) = common.get_mut(name) {
                    let enabled = Value::new(None, ValueKind::Boolean(name == reports::NAME));
                    source.insert("enabled".to_owned(), enabled);
                }
            }
        }
        common
    }
}

/// All sources of one connection.
pub(super) struct Sources {
    pub(super) each: BTreeMap<&'static str, SourceConfig>,
    pub(super) discover_every: Duration,
    /// The merged settings, for `config --effective`.
    pub(super) tree: Table,
}

/// Checks the top-level `sources`. With a mistake in it the connections are checked on the defaults, so
/// that it is reported once and not for every connection.
pub(super) fn common(top: &Section<'_>, defaults: &Table, mistakes: &Mistakes) -> Common {
    let built_in = table_of(defaults.get("sources"));
    let before = mistakes.count();
    if let Some(section) = top.section("sources") {
        check(&section, &built_in);
    }
    let values = top.value("sources").filter(|_| mistakes.count() == before);
    Common(values.map_or(built_in, |values| table_of(Some(values))))
}

/// The sources of one connection: its own settings laid on the common ones.
pub(super) fn of_connection(
    connection: &Section<'_>,
    common: &Common,
    base_url: Option<&str>,
    access: Access,
) -> Option<Sources> {
    let own = connection.section("sources")?;
    let common = common.of(access);
    let tree = merged(common.clone(), own.values().clone());
    let section = own.over(&tree);
    let (mut each, discover_every) = check(&section, &common)?;
    if access != Access::Portal {
        for (name, _) in each.iter().filter(|(name, source)| **name != reports::NAME && source.enabled) {
            let text = format!(
                "cannot be collected with `access: {}`, which gives reports only; remove it, or set `access: portal`",
                access.as_str()
            );
            section.mistake(&format!("{name}.enabled"), text);
        }
    }
    // Which computers there are, the computers tell.
    let lists_computers = each.get("computers").is_some_and(|source| source.enabled);
    for name in PER_COMPUTER {
        if let Some(source) = each.get_mut(name).filter(|one| one.enabled && !lists_computers) {
            (source.enabled, source.lacks) = (false, Some("computers"));
        }
    }
    // Rated rows of the unified audit are threats, too: one that is remembered for less long would be told again.
    let kept = each.get("unified_audit").filter(|source| source.enabled).map(|source| source.retention);
    if let Some(threats) = each.get_mut("threats") {
        threats.retention = threats.retention.max(kept.unwrap_or_default());
    }
    let floor = Duration::from_secs(10);
    for (name, source) in each.iter().filter(|(_, source)| source.every < floor) {
        if base_url.is_some_and(|base_url| !is_loopback(base_url)) {
            let text = format!(
                "below {} only towards loopback, found {}",
                super::human(floor),
                super::human(source.every)
            );
            section.mistake(&format!("{name}.every"), text);
        }
    }
    if each.values().all(|source| !source.enabled) {
        section.mistake("", "none is enabled, so nothing of this site would be collected");
    }
    Some(Sources { each, discover_every, tree })
}

fn check(section: &Section<'_>, known: &Table) -> Option<(BTreeMap<&'static str, SourceConfig>, Duration)> {
    let mut each = Some(BTreeMap::new());
    for name in SOURCE_NAMES {
        let keys = table_of(known.get(name));
        match (section.section(name).and_then(|source| one(source, &keys)), &mut each) {
            (Some(source), Some(each)) => drop(each.insert(name, source)),
            _ => each = None,
        }
    }
    let discover_every = each.as_ref().and_then(|each| Some(each.get(DISCOVERY)?.every));
    section.unknown(|name| format!("unknown source; {}", suggestion(name, SOURCE_NAMES)));
    Some((each?, discover_every?))
}

/// Below this a poll would follow the one before without a pause.
const MIN_EVERY: Duration = Duration::from_millis(100);

/// Reads one source; it has the keys that the defaults name for it.
fn one(section: Section<'_>, keys: &Table) -> Option<SourceConfig> {
    let has = |key: &str| keys.contains_key(key);
    let span = |key: &'static str, least, most| {
        if has(key) { section.duration(key, least, most) } else { Some(Duration::ZERO) }
    };
    let enabled = section.required("enabled");
    let every = section.duration("every", MIN_EVERY, days(30));
    let page_size = if has("page_size") { section.number("page_size", 1, 1000) } else { Some(1000) };
    let settle = span("settle", Duration::ZERO, Duration::from_secs(86_400));
    let retention = span("retention", Duration::from_secs(3600), days(400));
    let backfill = span("backfill", Duration::ZERO, days(400));
    if let (Some(backfill), Some(retention)) = (backfill, retention)
        && has("retention")
        && backfill > retention
    {
        let kept = super::human(retention);
        section.mistake("backfill", format!("reaches further back than the portal keeps rows (retention: {kept}); raise retention if your portal keeps them longer"));
    }
    let decided_every = span("decided_every", MIN_EVERY, days(30));
    let restate = match has("restate") {
        false => Some(None),
        true if section.is_word("restate", "off") => Some(None),
        true => section.duration("restate", Duration::from_secs(60), days(365)).map(Some),
    };
    let sweep = span("sweep", Duration::from_secs(60), days(365));
    if let (Some(sweep), Some(retention)) = (sweep, retention)
        && has("sweep")
        && has("retention")
        && retention < 2 * sweep
    {
        let text =
            format!("must be twice `sweep` at least ({}), or rows are missed", super::human(2 * sweep));
        section.mistake("retention", text);
    }
    let words = |key: &'static str, known: &[&'static str]| {
        if !has(key) {
            return Some(Vec::new());
        }
        let words = section.words(key, known)?;
        Some(words.into_iter().map(str::to_owned).collect())
    };
    let outcomes_and_types: Vec<&str> = OUTCOMES.iter().map(|(word, _)| *word).chain(ACTION_TYPES).collect();
    let only = words("only", &outcomes_and_types);
    let skip_types = words("skip_types", &ACTION_TYPES);
    let enrich = words("enrich", &[matching::WORD]);
    let tables = if has("tables") { tables(&section) } else { Some(Vec::new()) };
    let reports = if has("names") { named_reports(&section, enabled) } else { Some(Vec::new()) };
    let private = match has("path") {
        true => super::private::read(&section, enabled, backfill.unwrap_or_default()),
        false => Some(None),
    };
    section.close();
    let source = SourceConfig {
        enabled: enabled?,
        every: every?,
        page_size: page_size?,
        settle: settle?,
        backfill: backfill?,
        retention: retention?,
        restate: restate?,
        decided_every: decided_every?,
        sweep: sweep?,
        matching: !enrich?.is_empty(),
        tables: tables?,
        only: only?,
        skip_types: skip_types?,
        reports: reports?,
        private: private?.map(Arc::new),
        lacks: None,
    };
    if source.filters().iter().any(|filter| filter.action_types.is_empty()) && !source.skip_types.is_empty()
        || source.filters().is_empty()
    {
        return section.refuse(
            "skip_types",
            "leaves nothing to ask for; set `enabled: false` to collect nothing of this source",
        );
    }
    Some(source)
}

/// The reports that are run: one of all computers, and each that is named.
fn named_reports(section: &Section<'_>, enabled: Option<bool>) -> Option<Vec<Report>> {
    let list = |key: &'static str| {
        section.takes(key, || "a list of names of reports".to_owned());
        let names: Vec<String> = section.required(key)?;
        match names.iter().any(|name| reports::normalised(name).is_empty()) {
            true => section.refuse(key, "holds an empty name; write each as the portal shows it"),
            false => Some(names),
        }
    };
    let (computers, names) = (list("computers"), list("names"));
    let span = section.duration("span", Duration::from_secs(3600), days(366));
    let (computers, names, span) = (computers?, names?, span?);
    let is = |one: &str, other: &str| reports::normalised(one) == reports::normalised(other);
    for (place, name) in names.iter().enumerate() {
        if names[..place].iter().any(|earlier| is(earlier, name)) {
            return section.refuse("names", format!("names {name:?} twice"));
        }
        if computers.iter().chain(&reports::ALL_COMPUTERS.map(str::to_owned)).any(|other| is(other, name)) {
            let text = format!("{name:?} is a report of all computers; name it under `computers` instead");
            return section.refuse("names", text);
        }
    }
    if computers.is_empty() && names.is_empty() && enabled == Some(true) {
        return section
            .refuse("names", "is empty, and so is `computers`; name a report, or set `enabled: false`");
    }
    let named = names.into_iter().map(|name| Report { names: vec![name], is_computers: false, span });
    let all = (!computers.is_empty()).then_some(Report { names: computers, is_computers: true, span });
    Some(all.into_iter().chain(named).collect())
}

fn tables(section: &Section<'_>) -> Option<Vec<u8>> {
    section.takes("tables", || "a list of numbers from 1 to 4".to_owned());
    let words: Vec<String> = section.required("tables")?;
    let mut tables: Vec<u8> = Vec::new();
    for word in &words {
        match word.parse() {
            Ok(table @ 1..=4) if !tables.contains(&table) => tables.push(table),
            Ok(1..=4) => return section.refuse("tables", format!("names {word} twice")),
            _ => {
                let text = format!(
                    "expected numbers from 1 to 4 (1 action log, 2 denies, 3 baseline, 4 event log), found {word:?}"
                );
                return section.refuse("tables", text);
            }
        }
    }
    if tables.is_empty() {
        return section.refuse("tables", "is empty; set `enabled: false` to collect nothing of this source");
    }
    Some(tables)
}

fn table_of(value: Option<&Value>) -> Table {
    match value.map(|value| &value.kind) {
        Some(ValueKind::Table(table)) => table.clone(),
        _ => Table::new(),
    }
}
