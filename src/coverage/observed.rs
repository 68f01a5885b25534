//! What the portal has shown of its own ways: by which time it filters, whether the ends of a request
//! count, how deep a listing goes. All of it is unknown beforehand (contract section 14, rows 5 to 7).

use serde::{Deserialize, Serialize};

use crate::model::{Micros, SECOND, Seconds};

/// The time by which the portal filters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Every row so far fits both.
    #[default]
    Unknown,
    /// When it happened.
    DateTime,
    /// When the portal received it.
    Imported,
    /// Rows contradict each other: counts of a range prove nothing.
    Mixed,
}

/// Traits of a listing, learned from its answers and stored with the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    pub axis: Axis,
    /// Whether a row exactly at the start of a request is listed.
    pub start_included: Option<bool>,
    /// Whether a row exactly at the end of a request is listed.
    pub end_included: Option<bool>,
    /// Whether answers carry totals: absent until the first answer.
    pub totals: Option<bool>,
    /// Rows beyond which a listing cannot be walked; 10,000 until learned (contract section 1.6).
    pub depth_limit: Option<u64>,
    /// Where a listing broke off for the first time.
    pub suspected_depth: Option<u64>,
    /// Rows of the largest page that was ever listed in answer to one request.
    pub fullest_page: u64,
}

impl Observed {
    /// Rows beyond which a listing is taken apart.
    pub fn depth(&self) -> u64 {
        self.depth_limit.unwrap_or(10_000)
    }

    /// The request that surely lists all of `[from, to)`: from a second earlier unless a start is known to
    /// be listed. Whether an end is listed does not matter, since `to` itself is not asked for.
    pub fn padded(&self, from: Seconds, to: Seconds) -> (Seconds, Seconds) {
        let start = if self.start_included == Some(true) { from } else { from - 1 };
        (start, to)
    }

    /// The times that a request for `(from, to)` lists, as a range in microseconds `[from, to)`. Where it
    /// is not known whether an end counts, the range leaves it out and the end is returned as doubtful.
    pub fn listed_range(&self, (from, to): (Seconds, Seconds)) -> ((Micros, Micros), Vec<Micros>) {
        let (from, to) = (from * SECOND, to * SECOND);
        let first = if self.start_included == Some(true) { from } else { from + 1 };
        let last = if self.end_included == Some(true) { to + 1 } else { to };
        let doubtful = [(self.start_included, from), (self.end_included, to)];
        let doubtful =
            doubtful.into_iter().filter(|(known, _)| known.is_none()).map(|(_, time)| time).collect();
        ((first, last), doubtful)
    }

    /// Learns from one listed row of a request.
    pub fn listed_row(
        &mut self,
        (from, to): (Seconds, Seconds),
        at: Option<Micros>,
        imported: Option<Micros>,
    ) {
        let inside = |time: Micros| (from * SECOND..=to * SECOND).contains(&time);
        // The portal may cut off fractions of a second before it compares.
        let near = |time: Micros| (from * SECOND..(to + 1) * SECOND).contains(&time);
        self.axis = match (self.axis, at, imported) {
            (_, None, None) => self.axis,
            _ if ![at, imported].into_iter().flatten().any(near) => Axis::Mixed,
            (Axis::Unknown, Some(at), Some(imported)) => match (inside(at), inside(imported)) {
                (true, false) => Axis::DateTime,
                (false, true) => Axis::Imported,
                _ => Axis::Unknown,
            },
            (Axis::DateTime, Some(at), _) if !near(at) => Axis::Mixed,
            (Axis::Imported, _, Some(imported)) if !near(imported) => Axis::Mixed,
            (axis, ..) => axis,
        };
        let time = match self.axis {
            Axis::DateTime => at,
            Axis::Imported => imported,
            // The other time may be why it is listed.
            Axis::Unknown => at.filter(|_| imported.is_none_or(|imported| Some(imported) == at)),
            Axis::Mixed => {
                (self.start_included, self.end_included) = (None, None);
                None
            }
        };
        if time == Some(from * SECOND) {
            self.start_included = Some(true);
        }
        if time == Some(to * SECOND) {
            self.end_included = Some(true);
        }
    }

    /// Learns from a listing that broke off, or went on past its total, after so many rows. Twice the same
    /// is a depth; once may be chance.
    pub fn broke_off(&mut self, rows: u64) {
        if self.suspected_depth == Some(rows) {
            self.depth_limit = Some(self.depth().min(rows));
        }
        self.suspected_depth = Some(rows);
    }

    /// Learns from a complete listing: it goes deeper than was thought.
    pub fn goes_as_deep_as(&mut self, rows: u64) {
        if rows >= self.depth() {
            self.depth_limit = Some(rows + 1);
        }
    }

    /// Learns from held rows that stand exactly on an end and are not listed by a complete walk.
    pub fn left_out(&mut self, (from, to): (Seconds, Seconds), time: Micros) {
        if time == from * SECOND && self.start_included.is_none() {
            self.start_included = Some(false);
        }
        if time == to * SECOND && self.end_included.is_none() {
            self.end_included = Some(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Seconds = 100;
    const TO: Seconds = 200;

    /// What is known after rows of a request for `[FROM, TO]`, given as (happened, received) in seconds.
    fn after(rows: &[(i64, Option<i64>)]) -> Observed {
        let mut observed = Observed::default();
        for (at, imported) in rows {
            observed.listed_row((FROM, TO), Some(at * SECOND), imported.map(|imported| imported * SECOND));
        }
        observed
    }

    #[test]
    fn a_row_of_which_one_time_lies_outside_shows_the_axis() {
        assert_eq!(after(&[(150, Some(160))]).axis, Axis::Unknown);
        assert_eq!(after(&[(150, Some(260))]).axis, Axis::DateTime);
        assert_eq!(after(&[(50, Some(160))]).axis, Axis::Imported);
        assert_eq!(after(&[(150, Some(260)), (50, Some(160))]).axis, Axis::Mixed);
    }

    #[test]
    fn rows_that_fit_no_time_they_show_prove_nothing() {
        assert_eq!(after(&[(50, None)]).axis, Axis::Mixed);
        assert_eq!(after(&[(50, Some(60))]).axis, Axis::Mixed);
        assert_eq!(after(&[(100, Some(100)), (50, Some(60))]).start_included, None, "no end is believed");
    }

    #[test]
    fn a_listed_row_on_an_end_shows_that_it_counts() {
        let both = after(&[(100, None), (200, None)]);
        assert_eq!((both.start_included, both.end_included), (Some(true), Some(true)));
    }

    #[test]
    fn a_row_that_may_be_listed_for_its_other_time_shows_nothing_of_the_ends() {
        assert_eq!(after(&[(100, Some(160))]).start_included, None);
        assert_eq!(after(&[(50, Some(160)), (60, Some(100))]).start_included, Some(true));
        assert_eq!(after(&[(50, Some(160)), (100, Some(160))]).start_included, None);
    }

    #[test]
    fn a_held_row_on_an_end_that_is_left_out_shows_that_it_does_not_count() {
        let mut observed = Observed::default();
        observed.left_out((FROM, TO), FROM * SECOND);
        observed.left_out((FROM, TO), TO * SECOND);
        assert_eq!((observed.start_included, observed.end_included), (Some(false), Some(false)));
        let range = observed.listed_range((FROM, TO));
        assert_eq!(range, ((FROM * SECOND + 1, TO * SECOND), Vec::new()));
    }

    #[test]
    fn requests_begin_a_second_early_until_a_start_is_known_to_count() {
        let mut observed = Observed::default();
        assert_eq!(observed.padded(FROM, TO), (FROM - 1, TO));
        observed.start_included = Some(false);
        assert_eq!(observed.padded(FROM, TO), (FROM - 1, TO));
        observed.start_included = Some(true);
        assert_eq!(observed.padded(FROM, TO), (FROM, TO));
    }

    #[test]
    fn an_end_of_which_nothing_is_known_is_doubtful() {
        let (range, doubtful) = Observed::default().listed_range((FROM, TO));
        assert_eq!(range, (FROM * SECOND + 1, TO * SECOND));
        assert_eq!(doubtful, [FROM * SECOND, TO * SECOND]);
    }

    #[test]
    fn a_depth_is_believed_when_it_was_seen_twice_and_until_a_listing_goes_deeper() {
        let mut observed = Observed::default();
        observed.broke_off(4_000);
        assert_eq!(observed.depth(), 10_000);
        observed.broke_off(4_000);
        assert_eq!(observed.depth(), 4_000);
        observed.goes_as_deep_as(6_000);
        assert_eq!(observed.depth(), 6_001);
    }
}
