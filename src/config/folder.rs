//! `connections: { dir: DIR }`: a folder for each site, with the files `token` and `site.yaml`.
//!
//! The folder's name is the site. What is wrong with one of them stops that site alone, so each is checked
//! with mistakes of its own; only a folder of folders that cannot be read is a mistake of the whole.

use std::fmt;
use std::path::{Path, PathBuf};

use ::config::{Value, ValueKind};

use super::layers::{self, Table};
use super::mistake::{Mistake, Mistakes};

/// A site whose folder is wrong. It is not collected; all others are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenSite {
    /// The folder's name.
    pub site: String,
    pub folder: PathBuf,
    /// Every mistake in it, in one line.
    pub reason: String,
}

impl BrokenSite {
    pub(super) fn new(site: &str, folder: &Path, mistakes: &[Mistake]) -> Self {
        // That it stands in this folder is said already.
        let inside = |origin: &String| Path::new(origin).starts_with(folder);
        let told = |mistake: &Mistake| {
            let origin = mistake.origin.clone().filter(|origin| !inside(origin));
            Mistake { origin, ..mistake.clone() }.to_string()
        };
        let each: Vec<String> = mistakes.iter().map(told).collect();
        Self { site: site.to_owned(), folder: folder.to_owned(), reason: each.join("; ") }
    }
}

impl fmt::Display for BrokenSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "site {} is left out, its folder {} is wrong: {}",
            self.site,
            self.folder.display(),
            self.reason
        )
    }
}

/// The settings in one folder, not checked yet.
pub(super) struct Folder {
    pub(super) site: String,
    pub(super) path: PathBuf,
    /// Its mistakes so far.
    pub(super) mistakes: Mistakes,
    /// As an entry of the list of connections would have them.
    pub(super) settings: Table,
}

/// The files that settle whether a folder is right, beside what the token says.
pub(super) const SETTINGS: &str = "site.yaml";
pub(super) const TOKEN: &str = "token";

/// The folders in `dir` by name. Hidden ones, as Kubernetes makes for its own ends, are passed over.
pub(super) fn list(dir: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        // Follows links.
        if !name.starts_with('.') && path.is_dir() {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads the folders in `dir`.
pub(super) fn read(dir: &Path) -> std::io::Result<Vec<Folder>> {
    Ok(list(dir)?.into_iter().map(|(site, path)| folder(site, path)).collect())
}

fn folder(site: String, path: PathBuf) -> Folder {
    let mistakes = Mistakes::default();
    let file = path.join(SETTINGS);
    let mut settings = match layers::read_table(&file) {
        Ok(table) => layers::named(table, &file.display().to_string()),
        Err(error) => {
            mistakes.add(SETTINGS, error, None);
            Table::new()
        }
    };
    for (key, why) in [
        ("site", "the folder's name is the site; remove this"),
        ("token", "the token stands in the file `token` beside site.yaml; remove this"),
    ] {
        if let Some(value) = settings.get(key) {
            mistakes.add(key, why, value.origin());
        }
    }
    let origin = path.display().to_string();
    let value = |kind| Value::new(Some(&origin), kind);
    let token = path.join(TOKEN).to_string_lossy().into_owned();
    let token = [("file".to_owned(), value(ValueKind::String(token)))].into_iter().collect();
    settings.insert("site".to_owned(), value(ValueKind::String(site.clone())));
    settings.insert("token".to_owned(), value(ValueKind::Table(token)));
    Folder { site, path, mistakes, settings }
}
