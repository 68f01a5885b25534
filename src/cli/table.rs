//! Text in columns for people.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use unicode_width::UnicodeWidthStr;

use crate::config::human_size;

/// Rows of cells, aligned; the last column is as long as it is.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    indent: &'static str,
}

impl Table {
    pub(super) fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(ToString::to_string).collect()], indent: "" }
    }

    /// Every line begins two columns further right.
    pub(super) fn indented(self) -> Self {
        Self { indent: "  ", ..self }
    }

    /// Adds a row; control characters in it, which a portal may send, are shown harmless.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| harmless(cell)).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..most)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| columns(cell)).max().unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = self.indent.to_owned();
            for (cell, width) in row.iter().zip(&widths) {
                line += cell;
                line += &" ".repeat(width - columns(cell) + 2);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// One line without characters that steer a terminal or turn the direction of what follows.
pub(super) fn harmless(text: &str) -> String {
    let steers = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|letter| if steers(letter) { ' ' } else { letter }).collect()
}

/// How many columns of a terminal a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// As much of a text as so many columns hold; where something is left out, a sign for it comes last.
pub(super) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut told = String::new();
    // Some letters take another width beside others, and some none: those are not followed for ever.
    for letter in text.chars().take(4 * width) {
        let longer = format!("{told}{letter}");
        if columns(&longer) >= width {
            break;
        }
        told = longer;
    }
    if width > 0 {
        told.push('…');
    }
    told
}

/// `2026-03-01 12:00:00Z`, or a dash.
pub(super) fn time(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.format("%F %TZ").to_string())
}

/// Seconds in the two largest units that tell: `42s`, `3m10s`, `2d4h`.
pub(super) fn span(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.abs().min(1e12)).as_secs();
    let parts = [(whole / 86_400, "d"), (whole / 3600 % 24, "h"), (whole / 60 % 60, "m"), (whole % 60, "s")];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let told =
        parts.iter().skip(first).take(2).filter(|(count, unit)| *count > 0 || *unit == "s" && first == 3);
    told.map(|(count, unit)| format!("{count}{unit}")).collect()
}

/// An estimate in the words in which one is given: `about 12 min`.
pub(super) fn about(seconds: f64) -> String {
    match seconds {
        short if short < 60.0 => "under 1 min".to_owned(),
        minutes if minutes < 90.0 * 60.0 => format!("about {:.0} min", minutes / 60.0),
        hours if hours < 36.0 * 3_600.0 => format!("about {:.0} h", hours / 3_600.0),
        days => format!("about {:.0} days", days / 86_400.0),
    }
}

/// Bytes with a unit.
pub(super) fn bytes(count: u64) -> String {
    human_size(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_two_largest_units() {
        for (seconds, told) in [
            (0.0, "0s"),
            (0.2, "0s"),
            (42.0, "42s"),
            (60.0, "1m"),
            (190.0, "3m10s"),
            (3_600.0, "1h"),
            (187_200.0, "2d4h"),
            (90_061.0, "1d1h"),
            (-90.0, "1m30s"),
        ] {
            assert_eq!(span(seconds), told);
        }
    }

    #[test]
    fn what_a_portal_sends_cannot_steer_the_terminal() {
        let mut table = Table::new(&["A", "B"]);
        table.row(["x\u{1b}[2J".to_owned(), "two\nlines".to_owned()]);
        assert_eq!(table.to_string(), "A      B\nx [2J  two lines\n");
    }
}
