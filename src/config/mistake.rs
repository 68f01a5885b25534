//! Mistakes in a configuration: collected while reading, reported together.

use std::cell::RefCell;
use std::fmt;

/// One mistake: where it stands and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Path of the setting, such as `connections[0].sources.unified_audit.every`.
    pub path: String,
    /// What is wrong and what to write instead; holds no secret.
    pub text: String,
    /// The layer it came from, where that is neither the main file nor a default.
    pub origin: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)?;
        match &self.origin {
            Some(origin) => write!(f, " (from {origin})"),
            None => Ok(()),
        }
    }
}

/// Every mistake found so far; for the reference also what each option takes.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    found: RefCell<Vec<Mistake>>,
    notes: Option<RefCell<Vec<(String, String)>>>,
}

impl Mistakes {
    /// One that is told what options take, by whoever reads them.
    pub(super) fn taking_notes() -> Self {
        Self { notes: Some(RefCell::default()), ..Self::default() }
    }

    pub(super) fn note(&self, path: impl FnOnce() -> String, takes: impl FnOnce() -> String) {
        if let Some(notes) = &self.notes {
            notes.borrow_mut().push((path(), takes()));
        }
    }

    /// What each option takes, by its path, in the order of reading.
    pub(super) fn into_notes(self) -> Vec<(String, String)> {
        self.notes.map(RefCell::into_inner).unwrap_or_default()
    }

    pub(super) fn add(&self, path: impl Into<String>, text: impl Into<String>, origin: Option<&str>) {
        let origin = origin.filter(|origin| *origin != super::layers::DEFAULT).map(str::to_owned);
        let mistake = Mistake { path: path.into(), text: text.into(), origin };
        let mut found = self.found.borrow_mut();
        if !found.contains(&mistake) {
            found.push(mistake);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.found.borrow().len()
    }

    pub(super) fn into_vec(self) -> Vec<Mistake> {
        self.found.into_inner()
    }
}

/// `; did you mean "…"?` for the known word nearest to `word`, or else the list of known words.
pub(super) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let lower = word.to_lowercase().replace('-', "_");
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match nearest {
        Some((_, candidate)) => format!("did you mean \"{candidate}\"?"),
        None => format!("known here: {}", known.join(", ")),
    }
}
