//! A disk that loses power: takes back what the log of the one fsync wrapper does not call safe.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;

use super::output::files;

/// What a power cut took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) bytes: u64,
    pub(crate) names: u64,
    pub(crate) renames: u64,
}

impl std::ops::AddAssign for Taken {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.names += other.names;
        self.renames += other.renames;
    }
}

/// A change of a directory that is not safe.
enum Loose {
    Created(PathBuf),
    Renamed { from: PathBuf, to: PathBuf },
}

/// What the log tells of files and directories.
#[derive(Default)]
struct Known {
    /// The safe length of each file, by its present name.
    lengths: HashMap<PathBuf, u64>,
    loose: HashMap<PathBuf, Vec<Loose>>,
}

impl Known {
    fn read(log: &str) -> Self {
        let mut known = Self::default();
        for line in log.lines() {
            let (word, rest) = line.split_once(' ').expect("a line of the log has two parts");
            match word {
                "created" => {
                    known.lengths.insert(rest.into(), 0);
                    known.loosen(Path::new(rest), Loose::Created(rest.into()));
                }
                "synced" => drop(known.loose.remove(Path::new(rest))),
                "renaming" => {
                    let (from, to) = rest.split_once('\t').expect("two names");
                    let (from, to) = (PathBuf::from(from), PathBuf::from(to));
                    // The last one may not have been made.
                    if !from.exists() || to.exists() {
                        if let Some(length) = known.lengths.remove(&from) {
                            known.lengths.insert(to.clone(), length);
                        }
                        known.loosen(&to.clone(), Loose::Renamed { from, to });
                    }
                }
                length => drop(known.lengths.insert(rest.into(), length.parse().expect("a length"))),
            }
        }
        known
    }

    fn loosen(&mut self, path: &Path, change: Loose) {
        self.loose.entry(path.parent().unwrap().to_owned()).or_default().push(change);
    }
}

/// Cuts the power: of what is not safe any part may be gone, as the dice say. The log then tells of a disk on
/// which everything is safe, since what has survived does.
pub(crate) fn cut_power(directory: &Path, log: &Path, dice: &mut StdRng) -> Taken {
    let mut taken = Taken::default();
    let known = Known::read(&fs::read_to_string(log).unwrap_or_default());
    for (path, safe) in &known.lengths {
        let Ok(about) = path.metadata() else { continue };
        if about.len() > *safe {
            let kept = if dice.random_bool(0.5) { *safe } else { dice.random_range(*safe..=about.len()) };
            OpenOptions::new().write(true).open(path).unwrap().set_len(kept).unwrap();
            taken.bytes += about.len() - kept;
        }
    }
    for path in files(directory) {
        // Created, and stopped before the log heard of it.
        if !known.lengths.contains_key(&path) && dice.random_bool(0.5) {
            fs::remove_file(path).unwrap();
            taken.names += 1;
        }
    }
    for changes in known.loose.into_values() {
        // A directory keeps its changes in order, so it is the last ones that are gone.
        let kept = if dice.random_bool(0.5) { 0 } else { dice.random_range(0..=changes.len()) };
        for change in changes.into_iter().skip(kept).rev() {
            match change {
                Loose::Created(path) => taken.names += u64::from(fs::remove_file(path).is_ok()),
                Loose::Renamed { from, to } => {
                    taken.renames += u64::from(!from.exists() && fs::rename(to, from).is_ok());
                }
            }
        }
    }
    let mut safe = String::new();
    for path in files(directory) {
        writeln!(safe, "{} {}", path.metadata().unwrap().len(), path.display()).unwrap();
    }
    fs::write(log, safe).unwrap();
    taken
}
