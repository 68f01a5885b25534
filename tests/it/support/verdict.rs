//! Reads what a collector delivered to files and compares it with what the portal holds.
//!
//! The judge of every proof: it reads the output files and the portal's truth and nothing of the collector.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use lockstep::model::Micros;
use lockstep::simulator::Simulator;
use lockstep::simulator::truth::{TruthComputer, TruthRow};
use lockstep::simulator::world::Source;
use lockstep::store::{Store, dead_letters};
use serde::Deserialize;
use serde_json::value::RawValue;

/// One delivered record, as its line says.
#[derive(Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) uid: String,
    pub(crate) source: String,
    pub(crate) change: String,
    pub(crate) organization_id: Option<String>,
    pub(crate) vendor_id: Option<String>,
    pub(crate) number: i64,
    pub(crate) row: Box<RawValue>,
    pub(crate) previous: Option<Box<RawValue>>,
}

/// Everything found in the files.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) lines: Vec<Line>,
    /// Lines that are no record, with where they stand.
    pub(crate) broken: Vec<String>,
    /// How many of the lines are dead letters.
    pub(crate) dead: u64,
    /// Files that the sink moved aside.
    pub(crate) surplus: Vec<PathBuf>,
}

impl Output {
    /// Reads every `*.ndjson` and `*.ndjson.part` below a directory; none when there is no directory.
    pub(crate) fn read(directory: &Path) -> Self {
        let mut output = Self::default();
        for path in files_below(directory) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.ends_with(".ndjson") || name.ends_with(".ndjson.part") {
                output.read_file(&path);
            } else if name.contains(".surplus-") {
                output.surplus.push(path);
            }
        }
        output
    }

    /// Adds the dead letters of a state: they are accounted for like what is in the files.
    pub(crate) async fn add_dead_letters(&mut self, state: &Path) {
        let store = Store::open_read_only(state).unwrap();
        let letters = store.read(|db| {
            let letters = dead_letters::list(db, None, u32::MAX)?;
            letters.iter().map(|letter| dead_letters::show(db, letter.id)).collect::<Result<Vec<_>, _>>()
        });
        for (letter, body) in letters.await.unwrap().into_iter().flatten() {
            self.dead += 1;
            self.lines.push(Line {
                uid: letter.uid.map_or_else(|| format!("dead letter {}", letter.id), |uid| uid.to_string()),
                source: letter.source,
                change: "new".to_owned(),
                organization_id: letter.organization_id,
                vendor_id: letter.vendor_id,
                number: letter.number.unwrap_or(0),
                row: RawValue::from_string(String::from_utf8(body).unwrap()).unwrap(),
                previous: None,
            });
        }
    }

    fn read_file(&mut self, path: &Path) {
        let mut reader = BufReader::new(File::open(path).unwrap());
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            if reader.read_until(b'\n', &mut bytes).unwrap() == 0 {
                break;
            }
            let whole = bytes.last() == Some(&b'\n');
            match serde_json::from_slice(&bytes) {
                Ok(line) if whole => self.lines.push(line),
                _ => self.broken.push(format!("{}:{number}: no whole record", path.display())),
            }
        }
    }
}

/// Every file below a directory, sorted.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return files };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// What the comparison of the files with the portal came to; each finding says what it is about.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Rows and computers that the portal lists and that are owed.
    pub(crate) owed: u64,
    /// Records in the files.
    pub(crate) delivered: u64,
    pub(crate) delivered_by_source: BTreeMap<String, u64>,
    /// Listed, and not in the files.
    pub(crate) lost: Vec<String>,
    /// More often in the files than the portal ever had it.
    pub(crate) doubled: Vec<String>,
    /// In the files, and never at the portal in this shape.
    pub(crate) invented: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.invented.is_empty()
    }

    /// The first findings of each sort, a line each.
    pub(crate) fn examples(&self) -> String {
        let some = |what: &str, found: &[String]| -> String {
            found.iter().take(5).map(|one| format!("  {what}: {one}\n")).collect()
        };
        some("lost", &self.lost) + &some("doubled", &self.doubled) + &some("invented", &self.invented)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lost {} doubled {} invented {}", self.lost.len(), self.doubled.len(), self.invented.len())
    }
}

/// Compares the files with everything that the portal lists now and ever listed. Of the listed audit rows
/// those are owed that `owed` says; of the computers all.
pub(crate) fn compare(
    portal: &Simulator,
    output: &Output,
    owed: impl Fn(Source, &TruthRow) -> bool,
) -> Verdict {
    let mut verdict = Verdict { invented: output.broken.clone(), ..Verdict::default() };
    let mut uids = HashSet::new();
    let mut by_source: HashMap<&str, Vec<&Line>> = HashMap::new();
    for line in &output.lines {
        verdict.delivered += 1;
        *verdict.delivered_by_source.entry(line.source.clone()).or_default() += 1;
        if uids.insert(&line.uid) {
            by_source.entry(&line.source).or_default().push(line);
        } else {
            verdict.doubled.push(format!("{} {:?}: uid {}", line.source, line.vendor_id, line.uid));
        }
    }
    for (name, source) in [("unified_audit", Source::UnifiedAudit), ("system_audit", Source::SystemAudit)] {
        let lines = by_source.remove(name).unwrap_or_default();
        verdict.events(name, &lines, &portal.truth(source, true), |row| owed(source, row));
    }
    let lines = by_source.remove("computers").unwrap_or_default();
    verdict.computers(lines, &portal.true_computers(true));
    for (source, lines) in by_source {
        verdict.invented.extend(lines.iter().map(|line| format!("source {source}: uid {}", line.uid)));
    }
    verdict
}

/// A time as the truth spells it, in microseconds since 1970.
pub(crate) fn time(text: &str) -> Micros {
    text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros()
}

/// Rows of the portal that are the same byte for byte.
struct Same<'a> {
    row: &'a TruthRow,
    ever: u64,
    owed: u64,
    found: u64,
}

impl Verdict {
    fn events(
        &mut self,
        source: &str,
        lines: &[&Line],
        truth: &[TruthRow],
        owed: impl Fn(&TruthRow) -> bool,
    ) {
        let mut all: HashMap<&str, Same<'_>> = HashMap::new();
        for row in truth {
            let same = all.entry(&row.hash).or_insert(Same { row, ever: 0, owed: 0, found: 0 });
            same.ever += 1;
            same.owed += u64::from(row.listed && owed(row));
            self.owed += u64::from(row.listed && owed(row));
        }
        for line in lines {
            let about = || format!("{source} {:?} number {} uid {}", line.vendor_id, line.number, line.uid);
            let hash = blake3::hash(line.row.get().as_bytes()).to_string();
            match all.get_mut(hash.as_str()) {
                None => self.invented.push(about()),
                Some(same) if !line.tells(same.row) => self.invented.push(about() + " (its envelope)"),
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
    fn computers(&mut self, mut lines: Vec<&Line>, truth: &[TruthComputer]) {
        lines.sort_by_key(|line| line.number);
        let mut histories: HashMap<String, Vec<Shown>> = HashMap::new();
        for state in truth {
            histories.entry(state.computer_id.to_lowercase()).or_default().push(Shown::of_truth(state));
        }
        let mut told: HashMap<String, Shown> = HashMap::new();
        for line in lines {
            let about = || format!("computer {:?} number {} {}", line.vendor_id, line.number, line.change);
            let id = line.vendor_id.as_deref().unwrap_or_default().to_lowercase();
            let mut shown = Shown::of_row(&line.row);
            let known = histories.get(&id).is_some_and(|states| states.iter().any(|one| one.alike(&shown)));
            if !known {
                self.invented.push(about());
                continue;
            }
            shown.removed = line.change == "removed";
            let before = told.get(&id);
            if line.change == "changed" {
                let claimed = line.previous.as_deref().map(Shown::of_row);
                let fits = matches!((before, &claimed), (Some(one), Some(other)) if one.alike(other));
                if !fits {
                    self.lost.push(about() + ": what it changed from was not delivered");
                }
            }
            if line.change != "restated" && before == Some(&shown) {
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

impl Line {
    /// Whether the envelope says of the row what is true of it.
    fn tells(&self, row: &TruthRow) -> bool {
        let same = |one: Option<&str>, other: Option<&str>| match (one, other) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            (one, other) => one == other,
        };
        self.change == "new"
            && (row.raw
                || (same(self.vendor_id.as_deref(), row.id.as_deref())
                    && same(self.organization_id.as_deref(), Some(&row.organization_id))))
    }
}

/// What a reader sees of a computer.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    mode: String,
    username: Option<String>,
    minor: i64,
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
            is_deleted: bool,
        }
        let Row { mode, username, version_minor: minor, is_deleted: removed } =
            serde_json::from_str(row.get()).unwrap();
        Self { mode, username, minor, removed }
    }

    /// The same but for being there.
    fn alike(&self, other: &Self) -> bool {
        (&self.mode, &self.username, self.minor) == (&other.mode, &other.username, other.minor)
    }
}
