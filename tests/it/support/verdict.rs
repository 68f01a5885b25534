//! Compares what a collector delivered with what the portal holds.
//!
//! The judge of every proof: it knows the output and the portal's truth and nothing of the collector. Rows are
//! told apart by their bytes: a row that was changed on its way is both lost and invented. Equal rows count as
//! often as the portal lists them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use lockstep::model::Micros;
use lockstep::simulator::Simulator;
use lockstep::simulator::truth::{TruthComputer, TruthRow, TruthState};
use lockstep::simulator::world::Source;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::output::{Output, Record};

/// What the portal lists and ever listed, of the sources and organizations that matter.
pub(crate) struct Truth {
    audits: Vec<(Source, Vec<TruthRow>)>,
    computers: Option<Vec<TruthComputer>>,
    states: Vec<(&'static str, Vec<TruthState>)>,
}

impl Truth {
    /// All of it.
    pub(crate) fn of(portal: &Simulator) -> Self {
        let audits = [Source::UnifiedAudit, Source::SystemAudit];
        let audits = audits.map(|source| (source, portal.truth(source, true))).into();
        Self { audits, computers: Some(portal.true_computers(true)), states: Vec::new() }
    }

    /// Also of these sources.
    pub(crate) fn with(mut self, portal: &Simulator, sources: &[&'static str]) -> Self {
        for source in sources {
            self.states.extend(match *source {
                "organizations" => Some((*source, portal.true_organizations(true))),
                "policies" => Some((*source, portal.true_policies(true))),
                "online_devices" => Some((*source, portal.true_online_devices(true))),
                _ => None,
            });
        }
        self
    }

    /// And one source more.
    pub(crate) fn and(mut self, portal: &Simulator, source: Source) -> Self {
        self.audits.push((source, portal.truth(source, true)));
        self
    }

    /// Only sources that are collected.
    pub(crate) fn only(mut self, collected: impl Fn(&str) -> bool) -> Self {
        self.audits.retain(|(source, _)| collected(name(*source)));
        self.computers = self.computers.filter(|_| collected("computers"));
        self
    }

    /// Only organizations that are asked for.
    pub(crate) fn within(mut self, asked_for: impl Fn(&str) -> bool) -> Self {
        for (_, rows) in &mut self.audits {
            rows.retain(|row| asked_for(&row.organization_id));
        }
        if let Some(computers) = &mut self.computers {
            computers.retain(|state| asked_for(&state.organization_id));
        }
        for (_, states) in &mut self.states {
            states.retain(|state| asked_for(&state.organization_id));
        }
        self
    }
}

/// A source as the collector names it.
pub(crate) fn name(source: Source) -> &'static str {
    match source {
        Source::UnifiedAudit => "unified_audit",
        Source::SystemAudit => "system_audit",
        Source::Threats => "threats",
    }
}

/// A time as the truth spells it, in microseconds since 1970.
pub(crate) fn micros(text: &str) -> Micros {
    text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros()
}

/// The hash by which a row of the truth is found in the output.
pub(crate) fn hash(row: &TruthRow) -> blake3::Hash {
    blake3::Hash::from_hex(&row.hash).unwrap()
}

/// What the comparison came to, by source.
#[derive(Debug, Default)]
pub(crate) struct Verdict(pub(crate) BTreeMap<String, Tally>);

/// The same for one source; each finding says what it is about.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Rows and computers that the portal lists and that are owed.
    pub(crate) owed: u64,
    /// Records in the output.
    pub(crate) delivered: u64,
    /// Listed, and not in the output.
    pub(crate) lost: Vec<String>,
    /// More often in the output than the portal ever had it.
    pub(crate) doubled: Vec<String>,
    /// In the output, and never at the portal in this shape.
    pub(crate) invented: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        let found = |tally: &Tally| tally.lost.len() + tally.doubled.len() + tally.invented.len();
        self.0.values().all(|tally| found(tally) == 0)
    }

    /// The first findings of each sort, a line each.
    pub(crate) fn examples(&self) -> String {
        let some = |what: &str, found: &[String]| -> String {
            found.iter().take(5).map(|one| format!("  {what}: {one}\n")).collect()
        };
        let of = |tally: &Tally| {
            some("lost", &tally.lost) + &some("doubled", &tally.doubled) + &some("invented", &tally.invented)
        };
        self.0.values().map(of).collect()
    }

    fn sum(&self, of: impl Fn(&Tally) -> usize) -> usize {
        self.0.values().map(of).sum()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.sum(|tally| tally.lost.len());
        let doubled = self.sum(|tally| tally.doubled.len());
        write!(f, "lost {lost} doubled {doubled} invented {}", self.sum(|tally| tally.invented.len()))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owed, delivered, lost, doubled, invented } = self;
        let (lost, doubled, invented) = (lost.len(), doubled.len(), invented.len());
        write!(f, "delivered {delivered} of {owed} owed: lost {lost} doubled {doubled} invented {invented}")
    }
}

/// Compares the output with the truth. Of the listed audit rows those are owed that `owed` says; of the
/// computers all. What stands in the output of any other source is invented.
pub(crate) fn compare(truth: &Truth, output: &Output, owed: impl Fn(Source, &TruthRow) -> bool) -> Verdict {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut uids = HashSet::new();
    let mut by_source: HashMap<&str, Vec<&Record>> = HashMap::new();
    for record in &output.records {
        let tally = tallies.entry(record.source.clone()).or_default();
        tally.delivered += 1;
        if uids.insert(&record.uid) {
            by_source.entry(&record.source).or_default().push(record);
        } else {
            tally.doubled.push(format!("{} {:?}: uid {}", record.source, record.vendor_id, record.uid));
        }
    }
    for (source, rows) in &truth.audits {
        let records = by_source.remove(name(*source)).unwrap_or_default();
        let tally = tallies.entry(name(*source).to_owned()).or_default();
        tally.events(name(*source), &records, rows, |row| owed(*source, row));
    }
    if let Some(computers) = &truth.computers {
        let records = by_source.remove("computers").unwrap_or_default();
        tallies.entry("computers".to_owned()).or_default().computers(records, computers);
    }
    for (source, states) in &truth.states {
        let records = by_source.remove(source).unwrap_or_default();
        tallies.entry((*source).to_owned()).or_default().states(source, records, states);
    }
    for (source, records) in by_source {
        let found = records.iter().map(|record| format!("source {source}: uid {}", record.uid));
        tallies.entry(source.to_owned()).or_default().invented.extend(found);
    }
    if !output.broken.is_empty() {
        tallies.entry("broken lines".to_owned()).or_default().invented.clone_from(&output.broken);
    }
    Verdict(tallies)
}

/// Rows of the portal that are the same byte for byte.
struct Same<'a> {
    row: &'a TruthRow,
    ever: u64,
    owed: u64,
    found: u64,
}

impl Tally {
    fn events(
        &mut self,
        source: &str,
        records: &[&Record],
        truth: &[TruthRow],
        owed: impl Fn(&TruthRow) -> bool,
    ) {
        let mut all: HashMap<blake3::Hash, Same<'_>> = HashMap::new();
        for row in truth {
            let same = all.entry(hash(row)).or_insert(Same { row, ever: 0, owed: 0, found: 0 });
            same.ever += 1;
            same.owed += u64::from(row.listed && owed(row));
            self.owed += u64::from(row.listed && owed(row));
        }
        let former =
            |row: &TruthRow| Some((blake3::Hash::from_hex(row.former.as_ref()?).unwrap(), hash(row)));
        let former: HashMap<_, _> = truth.iter().filter_map(former).collect();
        for record in records {
            let about =
                || format!("{source} {:?} number {} uid {}", record.vendor_id, record.number, record.uid);
            match all.get_mut(former.get(&record.hash).unwrap_or(&record.hash)) {
                None => self.invented.push(about()),
                Some(same) if !tells(record, same.row) => self.invented.push(about() + " (its envelope)"),
                Some(same) => {
                    same.found += 1;
                    if same.found > same.ever {
                        self.doubled.push(about());
                    }
                }
            }
        }
        for same in all.values() {
            let Same { row, .. } = same;
            let about = || {
                format!(
                    "{source} {:?} of {} at {} imported {}{}",
                    row.id,
                    row.organization_id,
                    row.date_time,
                    row.date_time_imported,
                    if row.own { " (own request)" } else { "" }
                )
            };
            self.lost.extend((same.found..same.owed).map(|_| about()));
        }
    }

    /// States may come and go between two walks, so not every one is owed. But the files must tell a story
    /// without a gap, made of states that were, and it must end with how things stand.
    fn computers(&mut self, mut records: Vec<&Record>, truth: &[TruthComputer]) {
        records.sort_by_key(|record| record.number);
        let mut histories: HashMap<String, Vec<Shown>> = HashMap::new();
        for state in truth {
            histories.entry(state.computer_id.to_lowercase()).or_default().push(Shown::of_truth(state));
        }
        let mut told: HashMap<String, Shown> = HashMap::new();
        for record in records {
            let about =
                || format!("computer {:?} number {} {}", record.vendor_id, record.number, record.change);
            let id = record.vendor_id.as_deref().unwrap_or_default().to_lowercase();
            let mut shown = Shown::of_row(record.row.as_deref().expect("rows of computers are kept"));
            let removed = record.change == "removed";
            let states = histories.get(&id).map(Vec::as_slice).unwrap_or_default();
            let was_so = states.iter().any(|one| one.alike(&shown));
            if !was_so || (removed && !states.iter().any(|one| one.removed)) {
                self.invented.push(about());
                continue;
            }
            shown.removed = removed;
            let before = told.get(&id);
            if record.change == "changed" {
                let claimed = record.previous.as_deref().map(Shown::of_row);
                let fits = matches!((before, &claimed), (Some(one), Some(other)) if one.alike(other));
                if !fits {
                    self.lost.push(about() + ": what it changed from was not delivered");
                }
            }
            if record.change != "restated" && before == Some(&shown) {
                self.doubled.push(about() + ": says the same as the one before");
            }
            told.insert(id, shown);
        }
        for (id, states) in &histories {
            let now = states.last().expect("a history begins with a state");
            self.owed += u64::from(!now.removed);
            match told.get(id) {
                None if now.removed => {}
                Some(last) if last.removed && now.removed => {}
                Some(last) if last == now => {}
                last => {
                    self.lost.push(format!("computer {id}: stands at {now:?}, the files end with {last:?}"))
                }
            }
        }
    }
}

impl Tally {
    /// As of the computers: a story without a gap, made of states that were, that ends with how things stand.
    fn states(&mut self, source: &str, mut records: Vec<&Record>, truth: &[TruthState]) {
        records.sort_by_key(|record| record.number);
        let mut histories: HashMap<String, Vec<&TruthState>> = HashMap::new();
        for state in truth {
            histories.entry(state.id.to_lowercase()).or_default().push(state);
        }
        // What the files say of each thing, and whether it is there.
        let mut told: HashMap<String, (Value, bool)> = HashMap::new();
        for record in records {
            let about =
                || format!("{source} {:?} number {} {}", record.vendor_id, record.number, record.change);
            let id = record.vendor_id.as_deref().unwrap_or_default().to_lowercase();
            let now = shown(source, record.row.as_deref().expect("rows of states are kept"));
            let removed = record.change == "removed";
            let states = histories.get(&id).map(Vec::as_slice).unwrap_or_default();
            let owner = record.organization_id.as_deref().map(str::to_lowercase);
            let was_so = states
                .iter()
                .any(|one| one.shown == now && owner.as_deref() == Some(one.organization_id.as_str()));
            if !was_so || (removed && !states.iter().any(|one| one.removed)) {
                self.invented.push(about());
                continue;
            }
            let before = told.get(&id);
            if record.change == "changed" {
                let claimed = record.previous.as_deref().map(|row| shown(source, row));
                if before.map(|(shown, _)| shown) != claimed.as_ref() {
                    self.lost.push(about() + ": what it changed from was not delivered");
                }
            }
            let says = (now, !removed);
            if record.change != "restated" && before == Some(&says) {
                self.doubled.push(about() + ": says the same as the one before");
            }
            told.insert(id, says);
        }
        for (id, states) in &histories {
            let now = states.last().expect("a history begins with a state");
            self.owed += u64::from(!now.removed);
            match told.get(id) {
                None | Some((_, false)) if now.removed => {}
                Some((shown, true)) if !now.removed && *shown == now.shown => {}
                last => {
                    self.lost.push(format!("{source} {id}: stands at {now:?}, the files end with {last:?}"))
                }
            }
        }
    }
}

/// What a reader sees of a policy, an organization or a device without an agent, in whatever form its row has.
fn shown(source: &str, row: &RawValue) -> Value {
    let row: Value = serde_json::from_str(row.get()).unwrap();
    let first = |names: &[&str]| {
        names.iter().map(|name| &row[*name]).find(|value| !value.is_null()).cloned().unwrap_or_default()
    };
    match source {
        "policies" => {
            let enabled = match first(&["isEnabled", "status"]) {
                Value::Number(status) => json!(status.as_i64() == Some(1)),
                flag => flag,
            };
            json!({
                "name": first(&["name", "policyName"]), "enabled": enabled, "action": row["policyActionId"],
                "monitor": row["monitorMode"],
            })
        }
        "online_devices" => {
            json!({ "name": row["computerName"], "group": row["computerGroupName"], "address": row["ipAddress"] })
        }
        _ => json!({ "name": first(&["displayName", "name", "label"]) }),
    }
}

/// Whether the envelope says of the row what is true of it.
fn tells(record: &Record, row: &TruthRow) -> bool {
    let same = |one: Option<&str>, other: Option<&str>| match (one, other) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        (one, other) => one == other,
    };
    record.change == "new"
        && (row.raw
            || (same(record.vendor_id.as_deref(), row.id.as_deref())
                && same(record.organization_id.as_deref(), Some(&row.organization_id))))
}

/// What a reader sees of a computer.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    mode: String,
    username: Option<String>,
    minor: i64,
    /// Isolated, and locked.
    restricted: (bool, bool),
    removed: bool,
}

impl Shown {
    fn of_truth(state: &TruthComputer) -> Self {
        // The truth spells the name as it stands in JSON.
        let spelt = |name| serde_json::from_str(&format!("\"{name}\"")).unwrap();
        Self {
            mode: state.mode.to_owned(),
            username: state.username.map(spelt),
            minor: state.version_minor,
            restricted: (state.isolated, state.locked),
            removed: state.removed,
        }
    }

    fn of_row(row: &RawValue) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Row {
            mode: String,
            username: Option<String>,
            version_minor: i64,
            is_isolated: bool,
            is_locked_out: bool,
            is_deleted: bool,
        }
        let Row { mode, username, version_minor: minor, is_isolated, is_locked_out, is_deleted: removed } =
            serde_json::from_str(row.get()).unwrap();
        Self { mode, username, minor, restricted: (is_isolated, is_locked_out), removed }
    }

    /// The same but for being there.
    fn alike(&self, other: &Self) -> bool {
        (&self.mode, &self.username, self.minor, self.restricted)
            == (&other.mode, &other.username, other.minor, other.restricted)
    }
}
