//! Since when polls fail, and why, so that what has one cause is told once.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What stands in the way of a stream, or of the discovery of a site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failing {
    /// What is wrong; the same words for the same cause, whichever request met it.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// When the first try that failed for it was begun, on our clock.
    pub since: DateTime<Utc>,
}

impl Failing {
    /// Notes how a try ended that was begun at `began`: with nothing wrong, or with this and its remedy.
    pub fn note(noted: &mut Option<Self>, wrong: Option<(&str, &str)>, began: DateTime<Utc>) {
        *noted = wrong.map(|(what, remedy)| match noted.take() {
            Some(failing) if failing.is_for(what, remedy) => failing,
            _ => Self { what: what.to_owned(), remedy: remedy.to_owned(), since: began },
        });
    }

    /// Whether this is the same cause.
    pub(super) fn is_for(&self, what: &str, remedy: &str) -> bool {
        self.what == what && self.remedy == remedy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::at;

    #[test]
    fn a_cause_that_lasts_keeps_its_beginning_and_another_one_begins_anew() {
        let mut noted = None;
        let dead = Some(("dead", "wait"));
        Failing::note(&mut noted, dead, at(1, 0));
        Failing::note(&mut noted, dead, at(2, 0));
        assert_eq!(noted.as_ref().map(|failing| failing.since), Some(at(1, 0)));
        Failing::note(&mut noted, Some(("ill", "wait")), at(3, 0));
        assert_eq!(noted.as_ref().map(|failing| failing.since), Some(at(3, 0)));
        Failing::note(&mut noted, None, at(4, 0));
        assert_eq!(noted, None);
    }
}
