//! What a collector delivered: every line of its files, and its dead letters.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use lockstep::store::{Store, dead_letters};
use serde::Deserialize;
use serde_json::value::RawValue;

/// One line of an output file.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) uid: String,
    pub(crate) source: String,
    pub(crate) change: String,
    pub(crate) organization_id: Option<String>,
    pub(crate) vendor_id: Option<String>,
    pub(crate) number: i64,
    /// On the portal's time; empty of a dead letter.
    pub(crate) collected: String,
    /// Of the row's bytes, by which rows are told apart.
    pub(crate) hash: blake3::Hash,
    /// Kept of what is listed as a whole.
    pub(crate) row: Option<Box<RawValue>>,
    pub(crate) previous: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    uid: String,
    source: String,
    change: String,
    organization_id: Option<String>,
    vendor_id: Option<String>,
    number: i64,
    #[serde(default)]
    collected: String,
    #[serde(borrow)]
    row: &'a RawValue,
    #[serde(borrow)]
    previous: Option<&'a RawValue>,
}

impl From<Line<'_>> for Record {
    fn from(line: Line<'_>) -> Self {
        let kept = !super::app::is_window(&line.source);
        Self {
            hash: blake3::hash(line.row.get().as_bytes()),
            row: kept.then(|| line.row.to_owned()),
            previous: line.previous.filter(|_| kept).map(ToOwned::to_owned),
            uid: line.uid,
            source: line.source,
            change: line.change,
            organization_id: line.organization_id,
            vendor_id: line.vendor_id,
            number: line.number,
            collected: line.collected,
        }
    }
}

/// Everything found in the files.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) records: Vec<Record>,
    /// Lines that are no record, with where they stand.
    pub(crate) broken: Vec<String>,
    /// How many of the records are dead letters.
    pub(crate) dead: u64,
    /// Files that the sink moved aside.
    pub(crate) surplus: Vec<PathBuf>,
}

impl Output {
    /// Reads every `*.ndjson` and `*.ndjson.part` below a directory, packed ones too; none when there is no directory.
    pub(crate) fn read(directory: &Path) -> Self {
        let mut output = Self::default();
        for path in files(directory) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let closed = name.trim_end_matches(".part");
            if [".ndjson", ".ndjson.gz", ".ndjson.zst"].iter().any(|ending| closed.ends_with(ending)) {
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
            let letters = dead_letters::list(db, None, None, u32::MAX)?;
            letters.iter().map(|letter| dead_letters::show(db, letter.id)).collect::<Result<Vec<_>, _>>()
        });
        for (letter, body) in letters.await.unwrap().into_iter().flatten() {
            self.dead += 1;
            let row: &RawValue = serde_json::from_slice(&body).unwrap();
            let line = Line {
                uid: letter.uid.map_or_else(|| format!("dead letter {}", letter.id), |uid| uid.to_string()),
                source: letter.source,
                change: "new".to_owned(),
                organization_id: letter.organization_id,
                vendor_id: letter.vendor_id,
                number: letter.number.unwrap_or(0),
                collected: String::new(),
                row,
                previous: None,
            };
            self.records.push(line.into());
        }
    }

    fn read_file(&mut self, path: &Path) {
        let mut reader = unpacked(path);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            match reader.read_until(b'\n', &mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                // A torn member, and nothing after it can be read.
                Err(error) => return self.broken.push(format!("{}:{number}: {error}", path.display())),
            }
            let whole = bytes.last() == Some(&b'\n');
            match serde_json::from_slice::<Line<'_>>(&bytes) {
                Ok(line) if whole => self.records.push(line.into()),
                _ => {
                    let start: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
                    self.broken.push(format!("{}:{number}: no whole record: {start}", path.display()));
                }
            }
        }
    }

    /// How many rows of each bytes a source has.
    pub(crate) fn counted(&self, source: &str) -> HashMap<blake3::Hash, usize> {
        let mut counts = HashMap::new();
        for record in self.records.iter().filter(|record| record.source == source) {
            *counts.entry(record.hash).or_default() += 1;
        }
        counts
    }
}

/// The lines of a file, unpacked by what its name ends in.
fn unpacked(path: &Path) -> Box<dyn BufRead> {
    let name = path.to_str().unwrap().trim_end_matches(".part");
    let file = BufReader::new(File::open(path).unwrap());
    match () {
        () if name.ends_with(".gz") => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        () if name.ends_with(".zst") => Box::new(BufReader::new(zstd::Decoder::with_buffer(file).unwrap())),
        () => Box::new(file),
    }
}

/// Every file below a directory, sorted.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
