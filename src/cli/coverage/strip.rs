//! Seven days as a line of signs.

use chrono::{DateTime, Timelike, Utc};

use super::picture::{PENDING, Stretch, UPCOMING};
use crate::coverage::State;
use crate::model::Seconds;

const DAYS: Seconds = 7;
const HOUR: Seconds = 3_600;

/// How each state is shown, the worst first.
const SIGNS: [(&str, char, &str); 7] = [
    (State::Expired.as_str(), 'x', "expired"),
    (State::Unreachable.as_str(), '!', "unreachable"),
    (PENDING, '░', "pending"),
    (State::EmptyUnconfirmed.as_str(), '?', "empty, not confirmed"),
    (State::StableUnproven.as_str(), '~', "counted differently"),
    (State::Baseline.as_str(), '·', "before the start"),
    (State::Proven.as_str(), '█', "proven"),
];

/// The signs as a line for people, the best first.
pub(super) fn legend() -> String {
    let told: Vec<String> = SIGNS.iter().rev().map(|(_, sign, word)| format!("{sign} {word}")).collect();
    told.join("   ")
}

/// The cells of the last seven days: their length in seconds, and the end of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    cell: Seconds,
    end: Seconds,
}

impl Scale {
    /// An hour a sign where a line is wide enough, else two, else four.
    pub(super) fn new(width: usize, now: DateTime<Utc>) -> Self {
        let fits = |hours: &Seconds| usize::try_from(DAYS * 24 / hours).is_ok_and(|cells| cells <= width);
        let cell = [1, 2].into_iter().find(fits).unwrap_or(4) * HOUR;
        // Whole cells of the day, the one that goes on included.
        let end = (now.timestamp().div_euclid(cell) + 1) * cell;
        Self { cell, end }
    }

    pub(super) fn hours(self) -> Seconds {
        self.cell / HOUR
    }

    fn cells(self) -> impl Iterator<Item = (Seconds, Seconds)> {
        let begin = self.end - DAYS * 24 * HOUR;
        (0..DAYS * 24 * HOUR / self.cell)
            .map(move |place| (begin + place * self.cell, begin + (place + 1) * self.cell))
    }

    /// A line that names the days, above the strips.
    pub(super) fn ruler(self) -> String {
        let mut line = String::new();
        for (place, (from, _)) in self.cells().enumerate() {
            let day = DateTime::from_timestamp(from, 0).filter(|at| at.hour() == 0);
            let label = day.map(|day| day.format("|%a %d").to_string());
            // Four signs a day leave room for no more than the number.
            let room = usize::try_from(24 * HOUR / self.cell).unwrap_or(0);
            let label = label.map(|label| match label.len() < room {
                true => label,
                false => day.map(|day| day.format("|%d").to_string()).unwrap_or_default(),
            });
            if let Some(label) = label {
                line += &" ".repeat(place.saturating_sub(line.chars().count()));
                line += &label;
            }
        }
        line
    }

    /// The strip of one stream. What nothing is known of, and what the next poll asks for, is blank.
    pub(super) fn strip(self, intervals: &[Stretch]) -> String {
        let mut next = 0;
        let worst = self.cells().map(|(from, to)| {
            while intervals.get(next).is_some_and(|one| one.to.timestamp() <= from) {
                next += 1;
            }
            let inside = intervals.iter().skip(next).take_while(|one| one.from.timestamp() < to);
            let known = inside.filter(|one| one.state != UPCOMING);
            let place = |one: &Stretch| SIGNS.iter().position(|(state, ..)| *state == one.state);
            known.filter_map(place).min().map_or(' ', |place| SIGNS[place].1)
        });
        worst.collect()
    }
}
